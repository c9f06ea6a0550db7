"""What an acknowledgement is worth: group commit, a sync that fails, and a disk that is full."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from log_tools import contents, crash_copy, numbered, open_log, values
from logstore.errors import DiskFull, PartitionOffline, StorageFailure
from logstore.storage import files
from logstore.storage.durability import Durability, GroupCommit
from logstore.storage.partition import PartitionLog

SETTINGS: dict[str, Any] = {"index_interval_bytes": 60, "segment_bytes": 700}


# ------------------------------------------------------------------------------------------------------- group commit


def test_many_threads_are_durable_by_few_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path / "t_0")
    syncs: list[int] = []
    real = files.File.sync

    def slow(self: files.File) -> None:
        end = log.log_end_offset
        time.sleep(0.005)  # a disk
        real(self)
        syncs.append(end)

    monkeypatch.setattr(files.File, "sync", slow)
    failures: list[str] = []

    def produce(worker: int) -> None:
        for number in range(20):
            receipt = log.append([b"%d:%d" % (worker, number)], durability=Durability.FSYNC)
            if not any(end > receipt.last_offset for end in syncs):
                failures.append(f"offset {receipt.last_offset} was acknowledged before a sync that began after it")

    threads = [threading.Thread(target=produce, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert log.log_end_offset == log.synced_offset == 320
    assert 20 <= len(syncs) < 160


def test_one_thread_alone_syncs_each_time_it_asks() -> None:
    syncs: list[int] = []

    def sync() -> int:
        syncs.append(1)
        return 10 * len(syncs)

    commit = GroupCommit(sync, 0)
    for end in (10, 5, 10, 20, 11):
        commit.wait(end)
    assert len(syncs) == 2 and commit.synced_offset == 20


def test_a_sync_that_fails_fails_all_who_wait_for_it_and_the_next_may_lead() -> None:
    began, go = threading.Event(), threading.Event()
    outcome: list[BaseException | int] = [OSError(errno.EIO, "gone")]

    def sync() -> int:
        began.set()
        go.wait(10)
        found = outcome[0]
        if isinstance(found, BaseException):
            raise found
        return found

    commit = GroupCommit(sync, 0)
    errors: list[BaseException] = []

    def wait(end: int) -> None:
        try:
            commit.wait(end)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait, args=(end,)) for end in (1, 2, 3)]
    threads[0].start()
    began.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(commit._followers) < 2:
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 3 and commit.synced_offset == 0
    outcome[0] = 7
    commit.wait(7)
    assert commit.synced_offset == 7


@pytest.mark.parametrize("function", ["_lead", "wait"])
def test_a_lead_that_a_ctrl_c_let_fall_is_taken_by_who_waits(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It strikes as the leader begins to lead, or as it has just become the leader."""
    monkeypatch.setattr("logstore.storage.durability._PATIENCE_S", 0.01)
    commit = GroupCommit(lambda: 10, 0)
    code = getattr(GroupCommit, function).__code__

    def strike(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code is code and commit._has_leader and not commit._mutex.locked():
            sys.settrace(None)
            raise KeyboardInterrupt
        return strike

    sys.settrace(strike)
    try:
        with pytest.raises(KeyboardInterrupt):
            commit.wait(5)
    finally:
        sys.settrace(None)
    waiting = [threading.Thread(target=commit.wait, args=(number,), daemon=True) for number in (3, 6, 9)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(10)
    assert not any(thread.is_alive() for thread in waiting) and commit.synced_offset == 10


def test_who_waits_for_a_slow_disk_takes_no_lead_from_who_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logstore.storage.durability._PATIENCE_S", 0.01)
    syncs: list[int] = []

    def sync() -> int:
        syncs.append(len(syncs))
        time.sleep(0.2)
        return 10

    commit = GroupCommit(sync, 0)
    waiting = [threading.Thread(target=commit.wait, args=(number,), daemon=True) for number in (3, 6, 9)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(10)
    assert not any(thread.is_alive() for thread in waiting) and len(syncs) == 1


def test_who_came_too_late_for_a_sync_leads_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    began, go = threading.Event(), threading.Event()
    ends = iter([1, 3])
    leaders: list[str] = []

    def sync() -> int:
        end = next(ends)
        leaders.append(threading.current_thread().name)
        began.set()
        go.wait(10)
        return end

    commit = GroupCommit(sync, 0)
    done: list[int] = []

    def wait(end: int) -> None:
        commit.wait(end)
        assert commit.synced_offset >= end
        done.append(end)

    threads = [threading.Thread(target=wait, args=(end,), name=str(end)) for end in (1, 2, 3)]
    threads[0].start()
    began.wait(10)
    for number, thread in enumerate(threads[1:], 1):
        thread.start()
        while len(commit._followers) < number:
            time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(10)
    assert sorted(done) == [1, 2, 3] and leaders == ["1", "2"]


# --------------------------------------------------------------------------------------------------- a sync that fails


def fail_once(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let the next sync of a file fail with ``number``; counts how many there are from now on."""
    calls: list[int] = []
    real = files._sync

    def sync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(number, os.strerror(number))
        real(fd)

    monkeypatch.setattr(files, "_sync", sync)
    return calls


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("use", ["append", "flush", "checkpoint", "close", "truncate"])
def test_a_sync_that_fails_once_is_no_ack_and_is_never_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, use: str
) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"synced"], durability=Durability.FSYNC)
    log.append([b"not"])
    calls = fail_once(monkeypatch, number)
    uses: dict[str, Callable[[], object]] = {
        "append": lambda: log.append([b"a"], durability=Durability.FSYNC),
        "flush": log.flush,
        "checkpoint": log.checkpoint,
        "close": log.close,
        "truncate": lambda: log.truncate_to(1),
    }
    with pytest.raises(StorageFailure, match="cannot sync") as caught:
        uses[use]()
    assert caught.value.errno == number and log.synced_offset == 1
    for refused in (
        lambda: log.append([b"b"]),
        lambda: log.append([b"b"], durability=Durability.FSYNC),
        log.flush,
        log.roll,
        lambda: log.truncate_to(0),
        log.delete_expired,
    ):
        with pytest.raises(PartitionOffline, match=r"t_0 takes no writes since: .*cannot sync"):
            refused()
    assert len(calls) == 1, "the sync was tried again"
    assert values(log)[:2] == [b"synced", b"not"], "reads go on"
    assert "cannot sync" in (log.offline_reason or "")
    assert log.close() is False and len(calls) == 1
    again = open_log(log.directory, recovery_point=1)
    assert values(again)[0] == b"synced"
    again.append([b"goes on"], durability=Durability.FSYNC)


def test_a_sync_that_fails_acknowledges_none_of_the_threads_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0")

    def fail(fd: int) -> None:
        time.sleep(0.05)
        raise OSError(errno.EIO, "gone")

    monkeypatch.setattr(files, "_sync", fail)
    outcomes: list[str] = []

    def produce() -> None:
        try:
            log.append([b"a"], durability=Durability.FSYNC)
            outcomes.append("acknowledged")
        except (StorageFailure, PartitionOffline):
            outcomes.append("refused")

    threads = [threading.Thread(target=produce) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert outcomes == ["refused"] * 8


def test_a_sync_beside_retention_does_not_take_the_partition_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0", retention_bytes=1, file_delete_delay_ms=0)
    for number in range(5):
        log.append(numbered(number, 1))
        log.roll()
    real = files.File.sync
    left = [3]

    def sync(self: files.File) -> None:
        left[0] -= 1
        if left[0] == 0:  # between two files of the same sync
            log.delete_expired()
            log.unlink_retired(at_once=True)
            log._caches.files.discard(log)
        real(self)

    monkeypatch.setattr(files.File, "sync", sync)
    log.append([b"last"], durability=Durability.FSYNC)
    assert log.offline_reason is None and log.synced_offset == 6
    assert values(log) == [b"last"]


# ------------------------------------------------------------------------------------------------------- a full disk

TAKES_SPACE = ("write_at", "write_pieces_at", "allocate")


class FullDisk:
    """Lets the ``at``-th step that takes space fail, and those after it until ``is_full`` is False again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, tear: int) -> None:
        self.left, self.is_full, self.failures, self.tear = at, True, 0, tear
        for name in TAKES_SPACE:
            self._replace(monkeypatch, files.File, name)
        self._replace(monkeypatch, files, "open_file")

    def _replace(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def step(*arguments: Any, **named: Any) -> Any:
            takes_space = name != "open_file" or (named.get("create") and not arguments[0].exists())
            if not (self.is_full and takes_space):
                return real(*arguments, **named)
            self.left -= 1
            if self.left >= 0:
                return real(*arguments, **named)
            self.failures += 1
            if name.startswith("write"):
                file, position, data = arguments
                whole = data if name == "write_at" else b"".join(data)
                os.pwrite(file.fd, bytes(whole)[: self.tear], position)
            path = arguments[0] if name == "open_file" else arguments[0].path
            raise DiskFull(str(path), name, errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(owner, name, step)


@pytest.mark.parametrize("preallocate", [False, True])
@pytest.mark.parametrize("tear", [0, 13, 70])
def test_a_full_disk_at_any_step_loses_nothing_and_writes_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preallocate: bool, tear: int
) -> None:
    steps = 0
    for at in range(200):
        directory = tmp_path / f"t_{at}"
        log = open_log(directory, **SETTINGS, preallocate=preallocate)
        with monkeypatch.context() as patch:
            disk = FullDisk(patch, at, tear)
            expected = fill(log, 30)
            if not disk.failures:
                break
            steps += 1
            assert len(expected) < 30
            assert values(log) == expected, "reads go on"
            expected += fill(log, 30)  # what needs no room was taken: index entries are due only now and then
            with pytest.raises(DiskFull, match="free some space"):
                log.append(numbered(len(expected), 1, 30))
            assert values(log) == expected and log.offline_reason is None
            disk.is_full = False
            receipt = log.append([b"room again"], durability=Durability.FSYNC)
            assert receipt.base_offset == len(expected)
            expected.append(b"room again")
        for number in range(10):
            log.append(numbered(number, 1, 30))
        expected += numbered(0, 10, 30)
        assert values(log) == expected
        crashed = tmp_path / f"crashed_{at}"
        crashed.mkdir()
        for name, data in contents(directory).items():
            (crashed / name).write_bytes(data)
        log.close()
        for again in (open_log(crashed, **SETTINGS), open_log(directory, is_clean=True, recovery_point=len(expected))):
            assert values(again) == expected and not again.damages
    assert steps > 20


def fill(log: PartitionLog, count: int) -> list[bytes]:
    """Append until it fails or ``count`` are in: those that were acknowledged."""
    done: list[bytes] = []
    for value in numbered(0, count, 30):
        try:
            log.append([value])
        except DiskFull:
            break
        done.append(value)
    return done


def test_a_cut_back_that_fails_takes_the_partition_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"good"])

    def fail(self: files.File, *arguments: Any) -> None:
        os.pwrite(self.fd, b"half", self.size())
        raise StorageFailure(str(self.path), "write or truncate", errno.EIO, "gone")

    for name in ("write_at", "write_pieces_at", "truncate"):
        monkeypatch.setattr(files.File, name, fail)
    with pytest.raises(StorageFailure):
        log.append([b"bad"])
    monkeypatch.undo()
    with pytest.raises(PartitionOffline):
        log.append([b"worse"])
    assert values(log) == [b"good"]


def test_a_snapshot_that_finds_no_space_is_a_warning_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"], producer_id=1, producer_epoch=0, base_sequence=0)

    def fail(path: Path, data: bytes, *, sync: bool = True) -> None:
        raise DiskFull(str(path), "write", errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_file", fail)
        log.roll()
        assert log.checkpoint() == 1
    assert "no producer snapshot" in caplog.text
    log.append([b"b"], producer_id=1, producer_epoch=0, base_sequence=1)
    again = open_log(log.directory)
    assert again.append([b"b"], producer_id=1, producer_epoch=0, base_sequence=1).is_duplicate


# ------------------------------------------------------------------------------------------------- names on the disk


class SlowNames:
    """Every sync of a directory waits until it is to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_begun, self.is_to_go_on = threading.Event(), threading.Event()
        self.count = 0
        self._sync_dir = files.sync_dir
        monkeypatch.setattr(files, "sync_dir", self._wait)

    def _wait(self, path: Path) -> None:
        self.count += 1
        self.has_begun.set()
        assert self.is_to_go_on.wait(30)
        self._sync_dir(path)


def test_a_roll_waits_for_no_directory_and_the_next_sync_does_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"], durability=Durability.FSYNC)
    slow = SlowNames(monkeypatch)
    for value in (b"b", b"c"):
        log.roll()
        log.append([value])
    assert not slow.has_begun.is_set()
    with ThreadPoolExecutor() as threads:
        flushing = threads.submit(log.flush)
        assert slow.has_begun.wait(30)
        log.append([b"d"])
        assert log.synced_offset == 1 and not flushing.done()
        slow.is_to_go_on.set()
        flushing.result(30)
    assert log.synced_offset >= 3
    log.flush()
    assert slow.count == 1


def test_a_segment_that_a_killed_process_began_has_its_name_on_the_disk_before_anything_in_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"])
    log.roll()
    log.append([b"b"])
    again = open_log(crash_copy(log, tmp_path / "copy"))
    slow = SlowNames(monkeypatch)
    slow.is_to_go_on.set()
    again.flush()
    assert slow.count == 1


def test_while_old_segments_go_for_good_one_after_the_other_nobody_else_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0", retention_bytes=0)
    for value in numbered(0, 4):
        log.append([value], durability=Durability.FSYNC)
        log.roll()
    log.flush()
    slow = SlowNames(monkeypatch)
    with ThreadPoolExecutor() as threads:
        dropping = threads.submit(log.delete_expired)
        try:
            assert slow.has_begun.wait(30)
            assert threads.submit(log.append, [b"new"]).result(10).base_offset == 4
            assert threads.submit(lambda: log.last_stable_offset).result(10) == 5
        finally:
            slow.is_to_go_on.set()
        assert [expiry.segment.base_offset for expiry in dropping.result(30)] == [0, 1, 2, 3]
    assert values(log) == [b"new"]


def test_a_log_that_is_cut_while_its_old_segments_go_keeps_those_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0", retention_bytes=0)
    for value in numbered(0, 4):
        log.append([value], durability=Durability.FSYNC)
        log.roll()
    sync_dir, cuts = files.sync_dir, iter([False, True])

    def cut(path: Path) -> None:
        sync_dir(path)
        if next(cuts, False):  # the first segment has just gone
            log.truncate_to(1)

    monkeypatch.setattr(files, "sync_dir", cut)
    gone = log.delete_expired()
    assert [expiry.segment.base_offset for expiry in gone] == [0]
    assert log.log_start_offset == log.log_end_offset == 1
    assert log.append([b"new"]).base_offset == 1


def test_the_log_start_moves_only_to_what_is_on_the_disk_and_appends_go_on_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a", b"b"])
    sync, is_syncing, is_to_go_on = files.File.sync, threading.Event(), threading.Event()

    def slow(file: files.File) -> None:
        is_syncing.set()
        assert is_to_go_on.wait(30)
        sync(file)

    monkeypatch.setattr(files.File, "sync", slow)
    with ThreadPoolExecutor() as threads:
        moving = threads.submit(log.advance_log_start, 3)
        try:
            assert is_syncing.wait(30)
            assert threads.submit(log.append, [b"c"]).result(10).base_offset == 2
            assert log.log_start_offset == 0
        finally:
            is_to_go_on.set()
        assert moving.result(30) == 3
    assert log.synced_offset == 3


def test_a_directory_whose_sync_has_failed_in_retention_is_not_synced_again_for_an_acknowledgement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0", retention_bytes=0)
    for number in range(3):
        log.append(numbered(number, 1))
        log.roll()

    def fail(path: Path) -> None:
        raise StorageFailure(path=str(path), operation="sync", errno=errno.EIO, reason="no")

    with monkeypatch.context() as patched:
        patched.setattr(files, "sync_dir", fail)
        with pytest.raises(StorageFailure):
            log.delete_expired()
    with pytest.raises(PartitionOffline):
        log.append([b"a"], durability=Durability.FSYNC)
