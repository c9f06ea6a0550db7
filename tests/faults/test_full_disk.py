"""Disks that are really full, of data or of inodes: a tmpfs with ballast.

Each life is a process of its own, since a store into a map of space that the disk never promised would be its end.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from children import run_script
from log_tools import log_files, open_log, values
from logstore.errors import DiskFull

Mount = Callable[..., Path]


def check_lives(output: str, refused_at_least: int) -> None:
    print(output)
    summary = re.search(r", which refused (\d+) times, (\d+) broken promises", output)
    assert summary is not None, output
    assert int(summary[1]) >= refused_at_least
    assert int(summary[2]) == 0, "\n".join(line for line in output.splitlines() if line.startswith("BROKEN"))


@pytest.mark.parametrize("kind", ["pages", "inodes"])
def test_a_disk_that_becomes_full_refuses_and_loses_nothing_and_takes_more_when_there_is_space(
    mount: Mount, kind: str
) -> None:
    disk = mount("-t", "tmpfs", "-o", "size=4m,nr_inodes=200", "tmpfs")
    workloads = ["rolls", "compactions"] if kind == "pages" else ["checkpoints", "topics"]
    check_lives(run_script("full_disk.py", disk, kind, 3, *workloads, timeout_s=100), refused_at_least=15)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["pages", "inodes"])
def test_a_disk_that_becomes_full_at_any_step_refuses_and_loses_nothing_and_takes_more_when_there_is_space(
    mount: Mount, kind: str
) -> None:
    disk = mount("-t", "tmpfs", "-o", "size=4m,nr_inodes=200", "tmpfs")
    check_lives(run_script("full_disk.py", disk, kind, 1, timeout_s=290), refused_at_least=200)


def test_a_disk_that_becomes_full_in_the_middle_of_a_batch_leaves_none_of_its_bytes(mount: Mount) -> None:
    disk = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    log = open_log(disk / "t_0")
    log.append([b"first"])
    [log_file], ballast = log_files(disk / "t_0"), disk / "ballast"
    size = log_file.stat().st_size
    for page_count in range(6):
        with ballast.open("wb") as file:
            free = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, (free.f_bavail - page_count) * free.f_frsize)
        with pytest.raises(DiskFull, match=r"\.log: cannot write: No space left on device"):
            log.append([bytes(6 * free.f_frsize)])
        assert log_file.stat().st_size == size and values(log) == [b"first"]
        ballast.unlink()
    assert log.append([bytes(30_000)], durability="fsync").base_offset == 1


@pytest.mark.parametrize("preallocate", [False, True])
def test_a_disk_that_is_full_of_records_takes_more_when_some_have_left(mount: Mount, preallocate: bool) -> None:
    disk = mount("-t", "tmpfs", "-o", "size=256k", "tmpfs")
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(60_000))
    log = open_log(disk / "t_0", segment_bytes=40_000, index_interval_bytes=500, preallocate=preallocate)
    expected: list[bytes] = []

    def fill() -> None:
        while len(expected) < 5000:
            value = b"%d" % len(expected) + bytes(700)
            try:
                log.append([value])
            except DiskFull:
                return
            expected.append(value)
        raise AssertionError("the disk has not become full")

    fill()
    assert len(expected) > 50 and values(log) == expected
    for _ in range(3):
        with pytest.raises(DiskFull):
            log.append([bytes(100_000)])
    assert values(log) == expected and log.offline_reason is None
    ballast.unlink()
    before = len(expected)
    fill()
    assert len(expected) > before + 20 and values(log) == expected
    log.config = log.config.replace({"retention.bytes": 1, "file.delete.delay.ms": 0})
    deleted = len(log.delete_expired())
    assert deleted > 2
    log.unlink_retired(at_once=True)
    log.append([b"again"])
    assert values(log)[-1] == b"again"
    again = open_log(disk / "t_0")
    assert values(again) == values(log) and not again.damages
