"""What one failed call leaves, step by step: the next try finds nothing in its way, and reads go on."""

import os
from pathlib import Path
from typing import Any

import pytest

from failing_os import (
    CTRL_C,
    EIO_ONCE,
    FULL_DISK,
    NO_DESCRIPTOR,
    READ_ONLY_DISK,
    FailingCalls,
    Fault,
)
from log_tools import NOW, Clock, log_files, names, numbered, open_log, values
from logstore.errors import PartitionOffline, StorageFailure
from logstore.storage.cache import Caches
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from logstore.storage.partition import PartitionLog


def only(fault: Fault, call: str, name: str = "") -> Fault:
    """The fault, of one kind of call only, on paths (or descriptors of files) that hold ``name``."""

    def applies(called: str, arguments: tuple[object, ...]) -> bool:
        if called != call or not fault.applies(called, arguments):
            return False
        subject = arguments[0]
        return name in (os.readlink(f"/proc/self/fd/{subject}") if isinstance(subject, int) else str(subject))

    return fault._replace(applies=applies)


def log_of(directory: Path, count: int, **settings: Any) -> PartitionLog:
    """A log of so many segments, each with a record, and one more record in the last."""
    log = open_log(directory, **settings)
    for value in numbered(0, count - 1):
        log.append([value])
        log.roll()
    log.append(numbered(count - 1, 1))
    return log


def test_a_topic_whose_partition_cannot_be_opened_yet_is_there_all_the_same(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "data")
    with FailingCalls(only(NO_DESCRIPTOR, "open", "t_0/00000000000000000000.log"), 0):
        data_dir.create_topic("t")
        with pytest.raises(StorageFailure, match="cannot open: Too many open files"):
            data_dir.log("t")
    data_dir.log("t").append([b"a"])
    data_dir.close()


def test_a_topic_is_on_the_disk_although_an_earlier_try_failed_at_the_directory_that_it_made(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "data")
    with FailingCalls(only(EIO_ONCE, "fsync")) as counted:
        data_dir.create_topic("counted")
        data_dir.delete_topic("counted")
    (tmp_path / "data" / "topics").rmdir()
    path = str(tmp_path / "data" / "topics")
    parents_synced = 0
    for at in range(counted.count):
        with FailingCalls(only(EIO_ONCE, "fsync"), at) as calls:
            try:
                data_dir.create_topic("t")
            except StorageFailure:
                calls.syncs_of.clear()
                data_dir.create_topic("t")
                assert str(tmp_path / "data") in calls.syncs_of and path in calls.syncs_of
                parents_synced += 1
        data_dir.delete_topic("t")
    assert parents_synced > 3
    data_dir.close()


@pytest.mark.parametrize("call", ["fstat", "ftruncate", "posix_fallocate"])
def test_a_roll_that_could_not_remove_what_it_had_made_can_be_tried_again(tmp_path: Path, call: str) -> None:
    log = open_log(tmp_path / "t_0", preallocate=True, segment_bytes=1000)
    log.append([b"a"])
    first = only(EIO_ONCE, call, f"{1:020}")
    fault = first._replace(
        applies=lambda called, arguments: called == "unlink" or first.applies(called, arguments), stays=True
    )
    with FailingCalls(fault, 0):
        with pytest.raises(StorageFailure):
            log.roll()
        assert values(log) == [b"a"]
    assert f"{1:020}.log" in names(log.directory)
    log.roll()
    log.append([b"b"])
    assert values(log) == [b"a", b"b"] and len(log_files(log.directory)) == 2


def test_a_checkpoint_that_finds_no_descriptor_leaves_the_partition_writable(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"], durability=Durability.FSYNC)
    with FailingCalls(only(NO_DESCRIPTOR, "open", ".index"), 0), pytest.raises(StorageFailure, match="Too many open"):
        log.checkpoint()
    assert log.offline_reason is None and log.recovery_point == 0
    log.append([b"b"])
    assert log.checkpoint() == 2


def test_a_checkpoint_of_a_partition_that_is_offline_syncs_nothing_and_moves_no_recovery_point(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"], durability=Durability.FSYNC)
    with FailingCalls(only(EIO_ONCE, "fdatasync", ".index"), 0) as calls:
        with pytest.raises(StorageFailure, match="cannot sync"):
            log.checkpoint()
        synced = len(calls.syncs_of)
        with pytest.raises(PartitionOffline, match="cannot sync"):
            log.checkpoint()
        assert len(calls.syncs_of) == synced and log.recovery_point == 0


@pytest.mark.parametrize("call", ["lstat", "rename", "unlink", "fsync"])
def test_retention_that_fails_half_way_goes_on_where_it_stopped_and_leaves_no_hole(tmp_path: Path, call: str) -> None:
    log = log_of(tmp_path / "t_0", 6, retention_bytes=1, file_delete_delay_ms=0)
    with FailingCalls(only(EIO_ONCE, call), 1), pytest.raises(StorageFailure):
        log.delete_expired()
    left = [int(path.stem) for path in log_files(log.directory)]
    assert left == list(range(left[0], 6)), "the oldest go first"
    if call == "fsync":  # which is never tried again
        with pytest.raises(PartitionOffline):
            log.delete_expired()
        log.close()
        log = open_log(log.directory, retention_bytes=1, file_delete_delay_ms=0)
    log.delete_expired()
    log.unlink_retired(at_once=True)
    assert [path.name for path in log_files(log.directory)] == [f"{log.log_start_offset:020}.log"]
    assert not [name for name in names(log.directory) if name.endswith(".deleted")]
    assert values(log, log.log_start_offset) == numbered(0, 6)[log.log_start_offset :]


def test_a_retired_segment_that_cannot_be_unlinked_is_tried_again_and_keeps_no_other(tmp_path: Path) -> None:
    log = log_of(tmp_path / "t_0", 4, retention_bytes=1, file_delete_delay_ms=0)
    log.delete_expired()
    with FailingCalls(only(EIO_ONCE, "unlink"), 0), pytest.raises(StorageFailure, match="cannot unlink"):
        log.unlink_retired(at_once=True)
    assert [name for name in names(log.directory) if name.endswith(".deleted")] == [f"{0:020}.log.deleted"]
    log.unlink_retired(at_once=True)
    assert not [name for name in names(log.directory) if name.endswith(".deleted")]


def test_reads_go_on_when_the_disk_takes_no_writes_any_more(tmp_path: Path) -> None:
    caches = Caches(2)  # so that files are opened again and again
    log = log_of(tmp_path / "t_0", 6, caches=caches)
    with FailingCalls(READ_ONLY_DISK, 0):
        with pytest.raises(StorageFailure, match="Read-only file system"):
            log.append([b"b"])
        assert values(log) == numbered(0, 6)


def test_a_directory_on_a_full_disk_can_be_opened_and_read(tmp_path: Path) -> None:
    with_records = DataDir(tmp_path / "data")
    with_records.create_topic("t")
    with_records.log("t").append([b"a"])
    with_records.close()
    with FailingCalls(FULL_DISK, 0) as calls:
        data_dir = DataDir(tmp_path / "data")
        assert values(data_dir.log("t")) == [b"a"]
        calls.lift()
        data_dir.log("t").append([b"b"])
        data_dir.close()


def test_a_look_up_by_time_is_right_after_a_truncation_that_failed(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path / "t_0", clock)
    for value in numbered(0, 4):
        log.append([value])
        clock.now_ms += 1000
    with FailingCalls(EIO_ONCE) as counted:
        log.truncate_to(3)
    seen = 0
    for at in range(counted.count + 10):
        other = open_log(tmp_path / f"t_{at + 1}", clock := Clock())
        for value in numbered(0, 4):
            other.append([value])
            clock.now_ms += 1000
        with FailingCalls(EIO_ONCE, at) as calls:
            try:
                other.truncate_to(3)
            except StorageFailure:
                seen += 1
            calls.lift()
            assert other.log_end_offset in (3, 4)
            for offset in range(3):
                assert other.offset_for_time(NOW + 1000 * offset) == (NOW + 1000 * offset, offset)
    assert seen > 5


def test_a_ctrl_c_in_the_middle_of_a_roll_stops_the_partition_until_it_is_opened_anew(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"])
    with FailingCalls(only(CTRL_C, "ftruncate", ".log"), 0), pytest.raises(KeyboardInterrupt):
        log.roll()
    with pytest.raises(PartitionOffline, match="KeyboardInterrupt in the middle of a step"):
        log.append([b"b"])
    assert values(log) == [b"a"]
    log.close()
    again = open_log(log.directory)
    again.append([b"b"])
    assert values(again) == [b"a", b"b"]
