"""Disks that are really full, of data or of inodes: a tmpfs with ballast.

Each life is a process of its own, which a full disk must not end.
"""

import os
import re

import pytest

from children import run_python, run_script
from disk_image import Mount
from log_tools import log_files, open_log, values
from logstore.errors import DiskFull


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


FULL = """
import errno, os, sys
from pathlib import Path
from log_tools import open_log, values
from logstore.errors import DiskFull

disk, kind = Path(sys.argv[1]), sys.argv[2]
ballast = []

def fill_disk():
    try:
        while True:
            ballast.append(disk / f"ballast{len(ballast)}")
            with ballast[-1].open("xb") as file:
                free = os.statvfs(disk)
                if kind == "pages":
                    os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
                    return
    except OSError as error:
        assert error.errno == errno.ENOSPC and not ballast.pop().exists(), error

def check_refused(log, value, why):
    fill_disk()
    expected = values(log)
    for _ in range(3):
        try:
            log.append([value])
        except DiskFull as error:
            assert why in str(error), error
        else:
            raise AssertionError("there was space")
        assert values(log) == expected and log.offline_reason is None
    for path in ballast:
        path.unlink()
    assert log.append([value], durability="fsync").base_offset == len(expected)
    assert values(log) == [*expected, value]

def check_reopened(log):
    again = open_log(disk / log.name)
    assert values(again) == values(log) and not again.damages
"""


@pytest.mark.parametrize(("kind", "why"), [("pages", "index: cannot write"), ("inodes", "3.log: cannot open")])
def test_a_disk_that_becomes_full_at_a_roll_refuses_the_batch_and_rolls_when_there_is_space(
    kind: str, why: str, mount: Mount
) -> None:
    program = """
log = open_log(disk / "t_0", segment_bytes=3500)
for number in range(3):
    log.append([b"%d" % number + bytes(1000)])
assert len(log.view.segments) == 1
check_refused(log, bytes(1000), sys.argv[3])
assert len(log.view.segments) == 2
check_reopened(log)
"""
    disk = mount("-t", "tmpfs", "-o", "size=256k,nr_inodes=40", "tmpfs")
    run_python(FULL + program, disk, kind, why)


def test_a_disk_that_becomes_full_at_index_growth_refuses_the_batch_and_is_never_a_signal(mount: Mount) -> None:
    program = """
log = open_log(disk / "t_0", index_interval_bytes=0, segment_bytes=100_000, preallocate=True)
index = disk / "t_0" / "00000000000000000000.index"
while len(log.view.segments[-1].offset_index) < 64:  # entries that are in memory: the next one needs a page
    log.append([b"x"])
assert not index.stat().st_size
check_refused(log, b"last", "index: cannot write")
assert index.stat().st_size >= 8 * 64
check_reopened(log)
"""
    disk = mount("-t", "tmpfs", "-o", "size=256k", "tmpfs")
    run_python(FULL + program, disk, "pages")


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
