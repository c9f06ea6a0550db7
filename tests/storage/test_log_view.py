"""Reading where the log ends: the short way of who follows it, and what is known to be in memory."""

import threading
from pathlib import Path
from typing import Any

import pytest

from log_tools import open_log
from logstore.errors import InvalidArgument, OffsetOutOfRange
from logstore.format.batch import batches
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.segment_reader import SegmentReader


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets that were looked for in a file."""
    found: list[int] = []
    real = SegmentReader.find

    def noted(self: SegmentReader, offset: int) -> Any:
        found.append(offset)
        return real(self, offset)

    monkeypatch.setattr(SegmentReader, "find", noted)
    return found


def test_who_follows_the_log_gets_the_newest_batch_without_a_look_at_the_file(tmp_path: Path, walks: list[int]) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=400)
    for number in range(20):
        log.append([b"%d" % number] * 3)
        data = log.read(3 * number).read()
        (batch,) = batches(data)
        assert [record.value for record in batch.records()] == [b"%d" % number] * 3
    assert not walks


def test_the_short_way_gives_what_the_general_one_does(tmp_path: Path, walks: list[int]) -> None:
    log = open_log(tmp_path / "t_0")
    view = log.view
    for number in range(3):
        log.append([b"%d" % number] * 3)
    size = log.read(6).size
    assert not walks
    assert log.read(6, size - 1) == log.read(7) == log.read(8, 1) == log.read(6)  # a batch at least
    assert log.read(6, max_offset=9) == log.read(6) and log.read(6, max_offset=6).size == 0
    assert log.read(3).size == 2 * size and log.read(9).size == 0
    assert view.read(0).size == 0  # of before there were any
    with pytest.raises(OffsetOutOfRange):
        view.read(6)
    with pytest.raises(InvalidArgument):
        log.read(6, 0)
    with pytest.raises(InvalidArgument):
        log.read("6")  # type: ignore[arg-type]
    log.advance_log_start(9)
    with pytest.raises(OffsetOutOfRange):
        log.read(6)


def test_the_newest_batch_is_not_what_was_cut_off(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    for value in (b"a", b"b", b"c"):
        log.append([value])
    log.truncate_to(1)
    assert log.read(1).size == 0
    log.append([b"d"])
    assert [batch.records()[0].value for batch in batches(log.read(1).read())] == [b"d"]


def test_what_is_in_memory_is_told_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=2000, index_interval_bytes=100)
    for _ in range(100):
        log.append([bytes(50)])
    log.close()
    log = open_log(tmp_path / "t_0", recovery_point=100, is_clean=True, caches=Caches())
    log.append([b"newest"])
    view = log.view
    assert view.is_cached(100) and view.is_cached(101)
    assert not view.is_cached(0)  # the index has not been read yet
    view.read(0)
    assert view.is_cached(0)
    monkeypatch.setattr(files.File, "read_cached", lambda self, position, size: None)
    assert not view.is_cached(0)
    with pytest.raises(OffsetOutOfRange):
        view.is_cached(102)


def test_appends_go_on_while_a_checkpoint_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"])
    log.checkpoint()  # the leader's epoch, which is stored at once, is known now
    log.append([b"a"])
    waits, goes_on = threading.Semaphore(0), threading.Semaphore(0)
    real = files.File.sync

    def slow(self: files.File) -> None:
        waits.release()
        assert goes_on.acquire(timeout=20)
        real(self)

    monkeypatch.setattr(files.File, "sync", slow)
    points: list[int] = []
    thread = threading.Thread(target=lambda: points.append(log.checkpoint()))
    thread.start()
    end_offset = 2
    while thread.is_alive():
        if waits.acquire(timeout=0.01):
            log.append([b"b"])  # would wait for ever for a lock that the checkpoint held
            end_offset += 1
            goes_on.release()
    thread.join()
    assert log.log_end_offset == end_offset > 4
    assert 2 <= points[0] < end_offset and log.synced_offset >= points[0]


def test_a_checkpoint_says_nothing_of_a_log_that_is_cut_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0")
    for _ in range(5):
        log.append([b"a"])
    real = type(log._state_files).sync

    def cut(self: Any) -> None:
        monkeypatch.setattr(type(self), "sync", real)
        log.truncate_to(2)
        log.append([b"b"] * 10)
        real(self)

    monkeypatch.setattr(type(log._state_files), "sync", cut)
    assert log.checkpoint() <= 2 and log.recovery_point <= 2
