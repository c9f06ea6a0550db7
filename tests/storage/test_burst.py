"""Bursts of lone appends: the same bytes as the general way writes, and nothing that changes meanwhile is missed."""

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from log_tools import NOW, Clock, contents, log_files, open_log, values
from logstore.errors import Closed, RecordTooLarge, StorageFailure
from logstore.storage import files
from logstore.storage.burst import Burst
from logstore.storage.durability import Durability
from logstore.storage.log_writer import LogWriter
from logstore.storage.partition import PartitionLog


@pytest.fixture
def in_burst(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The values that were appended in a burst."""
    taken: list[bytes] = []
    real = LogWriter._append_in_burst

    def noted(self: LogWriter, value: bytes, now_ms: int) -> Any:
        receipt = real(self, value, now_ms)
        if receipt is not None:
            taken.append(value)
        return receipt

    monkeypatch.setattr(LogWriter, "_append_in_burst", noted)
    return taken


def begin(directory: Path, **settings: Any) -> PartitionLog:
    """A log in the middle of a burst."""
    log = open_log(directory, **settings)
    log.append([b"a"])
    log.append([b"b"])
    return log


@pytest.mark.parametrize("interval", [0, 150, 4096])
@pytest.mark.parametrize("segment_bytes", [700, 5000, 1 << 30])
def test_a_burst_writes_what_the_general_way_writes(
    tmp_path: Path, in_burst: list[bytes], interval: int, segment_bytes: int
) -> None:
    random, clock = Random(interval + segment_bytes), Clock()
    settings: dict[str, Any] = {"index_interval_bytes": interval, "segment_bytes": segment_bytes}
    short = open_log(tmp_path / "short", clock, **settings)
    general = open_log(tmp_path / "general", clock, **settings)
    others: list[Callable[[PartitionLog], object]] = [
        lambda log: log.roll(),
        lambda log: log.truncate_to(log.log_end_offset * 3 // 4),
        lambda log: log.append([b"x"] * 5, timestamps_ms=clock()),
        lambda log: log.append([b"late"], timestamps_ms=clock() + 50),
        lambda log: log.flush(),
    ]
    for _ in range(1500):
        value = random.randbytes(random.choice((0, 1, 50, 51, 63, 64, 200)))
        clock.now_ms += random.random() < 0.1
        other = random.choice(others) if random.random() < 0.02 else None
        if other is not None:
            other(short), other(general)
        receipts = short.append([value]), general.append([value], timestamps_ms=clock())
        assert receipts[0][:3] == receipts[1][:3]
    assert bool(in_burst) == bool(interval) and values(short) == values(general)
    for log in (short, general):
        log.close()
    assert contents(short.directory) == contents(general.directory)


@pytest.mark.parametrize(
    ("name", "value"), [("max.message.bytes", 100), ("message.timestamp.type", "LogAppendTime"), ("segment.bytes", 200)]
)
def test_a_setting_that_is_changed_holds_for_the_next_append_of_a_burst(tmp_path: Path, name: str, value: Any) -> None:
    log = begin(tmp_path / "t_0")
    log.config = log.config.replace({name: value})
    if name == "max.message.bytes":
        with pytest.raises(RecordTooLarge):
            log.append([b"v" * 100])
        return
    log.append([b"c"])
    header = next(log.batches(2)).header
    assert header.has_append_time == (name == "message.timestamp.type")
    assert len(log_files(log.directory)) == (2 if name == "segment.bytes" else 1)


def test_a_new_leader_epoch_holds_for_the_next_append_of_a_burst(tmp_path: Path) -> None:
    log = begin(tmp_path / "t_0")
    log.leader_epoch = 7
    log.append([b"c"])
    assert next(log.batches(2)).header.partition_leader_epoch == 7 and log.leader_epochs.epoch_for(2) == 7


@pytest.mark.parametrize("end", [0, 1])
def test_a_burst_ends_where_the_log_is_truncated(tmp_path: Path, end: int, in_burst: list[bytes]) -> None:
    log = begin(tmp_path / "t_0")
    log.truncate_to(end)
    assert log.append([b"c"]).base_offset == end and in_burst == [b"b"]
    assert values(log) == [*[b"a"][:end], b"c"] and log.leader_epochs.epoch_for(end) == 0


def test_a_burst_syncs_as_often_as_flush_messages_asks(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", flush_messages=5)
    reached = [log.append([b"v"]).durability for _ in range(12)]
    assert [index for index, level in enumerate(reached) if level is Durability.FSYNC] == [4, 9]


def test_a_burst_wakes_who_waits(tmp_path: Path) -> None:
    log = begin(tmp_path / "t_0")
    called: list[int] = []
    log.call_when_beyond(2, lambda: called.append(log.log_end_offset))
    log.append([b"c"])
    assert called == [3]


def test_a_log_that_is_closed_ends_a_burst(tmp_path: Path) -> None:
    log = begin(tmp_path / "t_0")
    log.close()
    with pytest.raises(Closed):
        log.append([b"c"])


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), StorageFailure("x", "write", errno.EIO, "failed")])
def test_an_append_of_a_burst_that_fails_has_not_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    log = begin(tmp_path / "t_0")
    real = files.File.write_at

    def torn(self: files.File, position: int, data: bytes) -> None:
        real(self, position, data[:30])
        raise failure

    monkeypatch.setattr(files.File, "write_at", torn)
    with pytest.raises(type(failure)):
        log.append([b"c"])
    monkeypatch.undo()
    assert log_files(log.directory)[0].stat().st_size == log.view.segments[-1].size
    assert log.append([b"d"]).base_offset == 2 and values(log) == [b"a", b"b", b"d"]


def test_an_offset_too_far_from_the_segments_base_ends_a_burst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("log_writer", "burst"):
        monkeypatch.setattr(f"logstore.storage.{module}.RELATIVE_OFFSET_MAX", 9)
    log = open_log(tmp_path / "t_0")
    for _ in range(25):
        log.append([b"v"])
    assert [segment.base_offset for segment in log.view.segments] == [0, 10, 20]


def test_a_burst_holds_for_one_millisecond(tmp_path: Path, in_burst: list[bytes]) -> None:
    clock = Clock()
    log = open_log(tmp_path / "t_0", clock)
    for number in range(6):
        clock.now_ms = NOW + number // 3
        log.append([b"%d" % number])
    assert in_burst == [b"1", b"2", b"4", b"5"] and isinstance(log._burst, Burst)
    assert [record.timestamp_ms - NOW for record in log.records(0)] == [0, 0, 0, 1, 1, 1]
