"""What a data directory does by itself, by injected clocks."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from clocks import DAY_MS, HOUR_MS, TEN_YEARS_MS, Clocks, offsets
from logstore.config import StoreConfig
from logstore.errors import Closed, StorageFailure, UnknownTopic
from logstore.format import checkpoint, filename
from logstore.storage import files, upkeep
from logstore.storage.data_dir import DataDir
from logstore.storage.partition import PartitionLog


def test_records_go_when_their_time_is_up_and_not_before(data_dir: DataDir, clocks: Clocks) -> None:
    data_dir.create_topic("t", settings={"retention.ms": DAY_MS})
    data_dir.log("t").append([b"first"])
    clocks.passes(HOUR_MS)
    data_dir.log("t").roll()
    data_dir.log("t").append([b"second"])
    clocks.passes(DAY_MS - HOUR_MS)
    upkeep.retain(data_dir)
    assert offsets(data_dir) == [0, 1]
    clocks.passes(1)
    upkeep.retain(data_dir)
    assert offsets(data_dir) == [1]
    clocks.passes(HOUR_MS)
    upkeep.retain(data_dir)
    assert offsets(data_dir) == []
    assert data_dir.log("t").append([b"third"]).base_offset == 2


@pytest.mark.parametrize("jump_ms", [0, TEN_YEARS_MS, -TEN_YEARS_MS])
def test_flush_ms_bounds_the_wait_for_the_disk_whatever_the_clock_does(
    jump_ms: int, data_dir: DataDir, clocks: Clocks
) -> None:
    data_dir.create_topic("t", settings={"flush.ms": 1_000})
    data_dir.create_topic("idle")
    for topic in ("t", "idle"):
        data_dir.log(topic).append([b"x"])
    clocks.passes(999)
    upkeep.flush_due(data_dir)
    assert data_dir.log("t").synced_offset == 0
    clocks.passes(1)
    clocks.jumps(jump_ms)
    upkeep.flush_due(data_dir)
    assert data_dir.log("t").synced_offset == 1
    assert data_dir.log("idle").synced_offset == 0


@pytest.mark.parametrize("jump_ms", [0, -TEN_YEARS_MS])
def test_deleted_topics_files_go_whatever_the_clock_does(jump_ms: int, data_dir: DataDir, clocks: Clocks) -> None:
    data_dir.create_topic("t")
    data_dir.delete_topic("t")
    upkeep.remove_deleted(data_dir)
    assert list(data_dir.path.glob("t_0*-delete"))
    clocks.passes(60_000)
    clocks.jumps(jump_ms)
    upkeep.remove_deleted(data_dir)
    assert not list(data_dir.path.glob("t_0*"))


def test_a_quiet_topic_rolls_by_age(data_dir: DataDir, clocks: Clocks) -> None:
    data_dir.create_topic("t", settings={"segment.ms": DAY_MS, "retention.ms": -1})
    data_dir.log("t").append([b"x"])
    clocks.passes(DAY_MS)
    upkeep.retain(data_dir)
    assert len(data_dir.log("t").view.segments) == 1
    clocks.passes(1)
    upkeep.retain(data_dir)
    assert len(data_dir.log("t").view.segments) == 2
    upkeep.retain(data_dir)
    assert len(data_dir.log("t").view.segments) == 2, "an empty segment does not roll"


def test_a_checkpoint_syncs_everything_and_says_so(data_dir: DataDir) -> None:
    data_dir.create_topic("t", 2)
    data_dir.log("t", 1).append([b"x", b"y"])
    upkeep.checkpoint(data_dir)
    points = checkpoint.decode_offsets((data_dir.path / filename.RECOVERY_POINT_CHECKPOINT).read_bytes())
    assert points == {("t", 0): 0, ("t", 1): 2}


def test_a_partition_that_fails_does_not_keep_the_others_waiting(
    data_dir: DataDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        data_dir.create_topic(name)
        data_dir.log(name).append([b"x"])
    sync = files.File.sync

    def fail(self: files.File) -> None:
        if self.path.parent.name == "b_0":
            raise StorageFailure(str(self.path), "sync", 5, "Input/output error")
        sync(self)

    with monkeypatch.context() as patch:
        patch.setattr(files.File, "sync", fail)
        upkeep.checkpoint(data_dir)
    assert [data_dir.log(name).recovery_point for name in ("a", "b", "c")] == [1, 0, 1]
    assert data_dir.log("b").offline_reason is not None
    assert "b_0" in caplog.text


def test_the_thread_does_its_duties_and_stops_at_once(tmp_path: Path) -> None:
    settings = StoreConfig(log_flush_scheduler_interval_ms=5, log_retention_check_interval_ms=5)
    data_dir = DataDir(tmp_path / "data", settings)
    data_dir.create_topic("t", settings={"flush.ms": 1, "retention.bytes": 0})
    data_dir.log("t").append([b"x"])
    deadline = time.monotonic() + 20
    while data_dir.log("t").log_start_offset < 1 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert data_dir.log("t").log_start_offset == 1
    before = time.monotonic()
    data_dir.close()
    assert time.monotonic() - before < 5
    assert not [thread for thread in threading.enumerate() if str(data_dir.path) in thread.name]


def test_a_resting_thread_does_not_hold_up_the_end(data_dir: DataDir) -> None:
    before = time.monotonic()
    data_dir.close()
    assert time.monotonic() - before < 5


def test_the_dirtiest_log_is_compacted_first_and_one_that_fails_keeps_none_waiting(
    data_dir: DataDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": 0.01}
    for name, clean_count, dirty_count in (("a", 4, 1), ("b", 1, 4), ("c", 2, 2), ("d", 3, 0)):
        data_dir.create_topic(name, settings=settings)
        log = data_dir.log(name)
        for _ in range(clean_count):
            log.append([bytes(100)], keys=[b"k"])
        log.roll()
        data_dir.checkpoints.save_cleaner_offset((name, 0), clean_count)
        for _ in range(dirty_count):
            log.append([bytes(100)], keys=[b"k"])
        log.roll()
    compacted = []

    def compact(log: PartitionLog, *rest: object) -> None:
        compacted.append(log.name)
        if log.name == "b_0":
            raise StorageFailure(log.name, "write", 5, "Input/output error")

    monkeypatch.setattr(upkeep, "compact_if_due", compact)
    upkeep.compact(data_dir)
    assert compacted == ["b_0", "c_0", "a_0", "d_0"]
    assert "b_0: compaction failed" in caplog.text


# ------------------------------------------------------------------------------------------ what could not be opened


@pytest.fixture
def left_out(data_dir: DataDir, clocks: Clocks) -> Iterator[DataDir]:
    """A directory with a partition that could not be opened, and now could be, after a check of its record."""
    data_dir.create_topic("t")
    data_dir.log("t").append([b"x"])
    data_dir.close()
    (data_dir.path / filename.CLEAN_SHUTDOWN).unlink()
    (data_dir.path / filename.RECOVERY_POINT_CHECKPOINT).unlink()
    partition, moved = data_dir.path / "t_0", data_dir.path / "moved"
    partition.rename(moved)
    partition.write_bytes(b"a file in its place")
    opened = clocks.open(data_dir.path)
    partition.unlink()
    moved.rename(partition)
    yield opened
    opened.close()


class SlowOpening:
    """Every opening of a partition waits until it is to go on."""

    def __init__(self, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_begun, self.is_to_go_on = threading.Event(), threading.Event()
        self._open_log = data_dir._open_log
        monkeypatch.setattr(data_dir, "_open_log", self._open)

    def _open(self, key: tuple[str, int], *arguments: Any, **named: Any) -> PartitionLog:
        if key[0] == "t":
            self.has_begun.set()
            assert self.is_to_go_on.wait(30)
        return self._open_log(key, *arguments, **named)


def test_a_partition_that_could_not_be_opened_is_opened_by_upkeep_and_not_by_who_must_not_wait(
    left_out: DataDir, caplog: pytest.LogCaptureFixture
) -> None:
    partition = left_out.path / "t_0"
    moved = partition.rename(left_out.path / "moved")
    partition.write_bytes(b"a file in its place")
    upkeep.open_left_out(left_out)
    assert "t_0 still cannot be opened" in caplog.text
    partition.unlink()
    moved.rename(partition)
    for _ in range(2):
        with pytest.raises(StorageFailure, match=r"t_0: cannot open: that has failed"):
            left_out.opened_log("t")
    upkeep.open_left_out(left_out)
    assert left_out.opened_log("t") is left_out.log("t")
    assert left_out.opened_log("t").log_end_offset == 1


def test_while_a_partition_that_was_left_out_is_opened_topics_are_made_and_altered_and_nobody_deletes_it(
    left_out: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowOpening(left_out, monkeypatch)
    with ThreadPoolExecutor() as threads:
        opening = threads.submit(upkeep.open_left_out, left_out)
        try:
            assert slow.has_begun.wait(30)
            asked = threads.submit(left_out.log, "t")
            threads.submit(left_out.create_topic, "new").result(10)
            altered = threads.submit(left_out.alter_topic, "t", {"retention.ms": DAY_MS}).result(10)
            with pytest.raises(StorageFailure):
                threads.submit(left_out.opened_log, "t").result(10)
            deleting = threads.submit(left_out.delete_topic, "t")
            assert not deleting.done() and not asked.done()
            assert left_out.topic("t") == altered
        finally:
            slow.is_to_go_on.set()
        opening.result(30)
        deleting.result(30)
        try:
            assert asked.result(30).config == altered.config  # one opened it for both
        except UnknownTopic:
            pass  # who deleted it came first
    assert not (left_out.path / "t_0").exists()


def test_a_directory_that_is_to_be_closed_does_not_wait_for_the_check_of_what_was_left_out(
    left_out: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowOpening(left_out, monkeypatch)
    with ThreadPoolExecutor() as threads:
        opening = threads.submit(upkeep.open_left_out, left_out)
        try:
            assert slow.has_begun.wait(30)
            closing = threads.submit(left_out.close)
            assert left_out._upkeep.stopped.wait(30)
        finally:
            slow.is_to_go_on.set()
        opening.result(30)
        closing.result(30)
    assert left_out.left_out() == [("t", 0)]
    with pytest.raises(Closed):
        left_out.log("t")
    assert not (left_out.path / filename.CLEAN_SHUTDOWN).exists()
