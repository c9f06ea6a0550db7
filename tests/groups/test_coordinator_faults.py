"""Committed offsets when processes die, disks fail, children are forked and calls are interrupted."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import logstore
from children import run_python
from failing_os import FAILED_SYNC, FULL_DISK, FailingCalls
from group_members import PATIENCE_S, ClockedStore, Member
from logstore.errors import Closed, DiskFull, PartitionOffline, RebalanceInProgress, StorageFailure
from logstore.format.filename import TopicPartition
from logstore.groups.offsets_log import OFFSETS_TOPIC, OffsetsLog, partition_of
from logstore.groups.requests import OffsetAndMetadata
from logstore.storage.partition import PartitionLog

P0 = TopicPartition("orders", 0)

KILLED = """
import os, signal, sys, threading, logstore
from logstore.groups.requests import OffsetAndMetadata
store = logstore.open(sys.argv[1])
first, count = int(sys.argv[2]), int(sys.argv[3])
if not first:
    store.create_topic("orders", partitions=4)
left = [count]
def live(number):
    for offset in range(first, 1_000_000):
        store.groups.commit(f"g{number % 2}", {("orders", number): OffsetAndMetadata(offset)})
        os.write(1, b"%d %d\\n" % (number, offset))
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
threads = [threading.Thread(target=live, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_a_process_that_is_killed_again_and_again_loses_no_commit_that_it_acknowledged(tmp_path: Path) -> None:
    next_offset = 0
    for life in range(4):
        printed = run_python(KILLED, tmp_path, next_offset, 50 + 37 * life, status=-9).stdout
        lines = [line.split() for line in printed.splitlines() if line.count(" ") == 1]
        acknowledged = {int(number): int(offset) for number, offset in lines}
        assert acknowledged
        with logstore.open(tmp_path) as store:
            found = {**store.groups.committed("g0"), **store.groups.committed("g1")}
        for number, offset in acknowledged.items():
            # What was appended and not acknowledged may be there: one commit of each thread at most.
            assert offset <= found[TopicPartition("orders", number)].offset <= offset + 1
        next_offset = max(offset.offset for offset in found.values()) + 1


def test_commits_under_way_when_the_store_is_closed_are_there_or_are_told_that_it_is_closed(tmp_path: Path) -> None:
    store = logstore.open(tmp_path)
    store.create_topic("orders", partitions=6)
    groups = store.groups
    acknowledged, others = {}, []
    is_going = threading.Barrier(7)

    def live(number: int) -> None:
        is_going.wait()
        for offset in range(1_000_000):
            try:
                groups.commit(f"g{number % 2}", {("orders", number): OffsetAndMetadata(offset)})
            except Closed:
                return
            except BaseException as error:
                others.append(error)
                raise
            acknowledged[number] = offset

    threads = [threading.Thread(target=live, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    is_going.wait()
    store.log("orders").wait(0, 0.1)  # some time to commit in
    store.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not others and not any(thread.is_alive() for thread in threads)
    with logstore.open(tmp_path) as store:
        found = {**store.groups.committed("g0"), **store.groups.committed("g1")}
    for number, offset in acknowledged.items():
        assert offset <= found[TopicPartition("orders", number)].offset <= offset + 1


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[ClockedStore]:
    opened = ClockedStore(tmp_path / "data")
    opened.store.create_topic("orders", partitions=3)
    opened.groups.commit("g", {P0: OffsetAndMetadata(1)})
    yield opened
    opened.close()


def test_a_full_disk_refuses_a_commit_and_leaves_what_was_committed(clocked: ClockedStore) -> None:
    with FailingCalls(FULL_DISK, at=0) as calls:
        with pytest.raises(DiskFull):
            clocked.groups.commit("g", {P0: OffsetAndMetadata(2)})
        with pytest.raises(DiskFull):
            clocked.groups.commit("new", {P0: OffsetAndMetadata(2)})
        with pytest.raises(DiskFull):
            clocked.groups.delete("g")
        assert clocked.groups.committed("g") == {P0: OffsetAndMetadata(1)}
        assert [group.group for group in clocked.groups.groups()] == ["g"]
        calls.lift()
        clocked.groups.commit("g", {P0: OffsetAndMetadata(3)})
    clocked.reopen()
    assert clocked.groups.committed("g") == {P0: OffsetAndMetadata(3)}


def test_a_disk_that_fills_up_while_a_topics_offsets_are_taken_away_leaves_none_of_them_in_memory(
    clocked: ClockedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go by several batches, and the second fails."""
    monkeypatch.setattr("logstore.groups.group_table._TOMBSTONES_SIZE_MAX", 700)
    clocked.groups.commit("g", {("orders", number): OffsetAndMetadata(1) for number in range(3)})
    append, is_full = OffsetsLog.append, iter([False, True])

    def fill_up(log: OffsetsLog, *arguments: Any) -> None:
        if next(is_full, False):
            raise DiskFull("file", "write", 28, "No space left on device")
        append(log, *arguments)

    monkeypatch.setattr(OffsetsLog, "append", fill_up)
    clocked.store.delete_topic("orders")
    assert clocked.groups.committed("g") == {}


def test_a_partition_of_the_offsets_that_could_not_be_opened_when_they_were_made_is_had_at_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with logstore.open(tmp_path, offsets_topic_num_partitions=2) as store:
        store.create_topic("orders")
        data_dir = store._data_dir

        def fail(*arguments: Any, **named: Any) -> None:
            raise DiskFull("file", "write", 28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(data_dir, "_open_log", fail)
            with pytest.raises(StorageFailure):
                store.groups.commit("g", {P0: OffsetAndMetadata(1)})
        assert data_dir.left_out() == [(OFFSETS_TOPIC, 0), (OFFSETS_TOPIC, 1)]
        store.groups.commit("g", {P0: OffsetAndMetadata(2)})
        assert not data_dir.left_out()


def test_groups_of_other_partitions_of_the_offsets_go_on_where_one_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with logstore.open(tmp_path, offsets_topic_num_partitions=2) as store:
        store.create_topic("orders")
        data_dir = store._data_dir
        open_log, groups = data_dir._open_log, {partition_of(name, 2): name for name in ("a", "b", "c")}

        def fail(key: tuple[str, int], *arguments: Any, **named: Any) -> PartitionLog:
            if key == (OFFSETS_TOPIC, 0):
                raise DiskFull("file", "write", 28, "No space left on device")
            return open_log(key, *arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(data_dir, "_open_log", fail)
            store.groups.commit(groups[1], {P0: OffsetAndMetadata(1)})
            with pytest.raises(StorageFailure):
                store.groups.commit(groups[0], {P0: OffsetAndMetadata(1)})
        store.groups.commit(groups[0], {P0: OffsetAndMetadata(2)})


def test_expired_offsets_stay_while_the_disk_is_full(clocked: ClockedStore) -> None:
    month_ms = 30 * 24 * 3_600_000
    with FailingCalls(FULL_DISK, at=0) as calls:
        clocked.passes(month_ms)
        assert clocked.groups.committed("g") == {P0: OffsetAndMetadata(1)}
        calls.lift()
    clocked.groups.expire_offsets()
    assert clocked.groups.committed("g") == {}


def test_a_group_whose_assignments_cannot_be_stored_tells_its_members_and_goes_on_later(clocked: ClockedStore) -> None:
    member = Member(clocked.groups)
    member.join()
    with FailingCalls(FULL_DISK, at=0), pytest.raises(DiskFull):
        member.sync({member.member_id: b"all"})
    member.enter()
    assert clocked.groups.describe("g").state == "Stable"


def test_a_failed_sync_is_told_and_no_later_commit_is_taken_until_the_directory_is_opened_again(
    clocked: ClockedStore,
) -> None:
    with FailingCalls(FAILED_SYNC, at=0), pytest.raises(StorageFailure):
        clocked.groups.commit("g", {P0: OffsetAndMetadata(2)})
    assert clocked.groups.committed("g") == {P0: OffsetAndMetadata(2)}  # it is in the log, and not acknowledged
    with pytest.raises(PartitionOffline):
        clocked.groups.commit("g", {P0: OffsetAndMetadata(3)})
    assert clocked.groups.committed("g") == {P0: OffsetAndMetadata(2)}
    clocked.store.close()
    clocked.open()
    clocked.groups.commit("g", {P0: OffsetAndMetadata(4)})


def test_a_ctrl_c_while_a_generation_is_stored_costs_nobody_the_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that is interrupted is the one by which all others would have been answered."""
    with logstore.open(tmp_path) as store:
        store.create_topic("orders")
        first, second = Member(store.groups).enter(), Member(store.groups)
        second.ask_to_join()
        first.ask_to_join()
        first.reply(), second.reply()
        second.ask_to_sync()
        append = OffsetsLog.append

        def interrupted(*arguments: Any) -> None:
            monkeypatch.setattr(OffsetsLog, "append", append)
            raise KeyboardInterrupt

        monkeypatch.setattr(OffsetsLog, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            first.ask_to_sync(**{first.member_id: b"one", second.member_id: b"two"})
        assert second.reply().assignment == b"two"
        assert first.reply().assignment == b"one"
        assert store.groups.describe("g").state == "Stable"


def test_a_damaged_offsets_log_is_told_and_what_can_be_read_of_it_is_used(
    clocked: ClockedStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for group in ("a", "b", "c"):
        clocked.groups.commit(group, {P0: OffsetAndMetadata(5)})
    clocked.store.flush()
    shutil.copytree(clocked.path, tmp_path / "copy")
    path = tmp_path / "copy" / f"{OFFSETS_TOPIC}_0" / ("0" * 20 + ".log")
    data = bytearray(path.read_bytes())
    data[data.index(b"\0\1b\0\6orders") + 2] ^= 1
    path.write_bytes(data)
    with logstore.open(tmp_path / "copy", read_only=True) as reader:
        assert [group.group for group in reader.groups.groups()] == ["a", "c", "g"]
    with logstore.open(tmp_path / "copy") as store:
        assert [group.group for group in store.groups.groups()] == ["a", "c", "g"]
        assert "is passed over" in caplog.text
        store.groups.commit("b", {P0: OffsetAndMetadata(9)})
    with logstore.open(tmp_path / "copy") as store:
        assert store.groups.committed_of("orders", 0) == {"a": 5, "b": 9, "c": 5, "g": 1}


FORKED = """
import os, signal, sys, threading, time, warnings, logstore
from logstore.groups.requests import JoinRequest, LeavingMember, OffsetAndMetadata
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, from Python 3.12 on
store = logstore.open(sys.argv[1])
store.create_topic("orders")
fields = dict(protocol_type="consumer", protocols=(("range", b""),), session_timeout_ms=10_000, rebalance_timeout_ms=1)
request = JoinRequest("g", "", **fields)
commit = {("orders", 0): OffsetAndMetadata(1)}
if sys.argv[2] == "used":
    groups = store.groups
    groups.commit("g", commit)

def in_child(act):
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            act()
            os._exit(0)
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def is_refused(*calls):
    for call in calls:
        try:
            call()
        except logstore.ForkedProcess as error:
            assert "belongs to the parent" in str(error)
        else:
            raise AssertionError("a child may do this")

def uses():
    is_refused(
        lambda: groups.commit("g", commit), lambda: groups.committed("g"), lambda: groups.groups(),
        lambda: groups.describe("g"), lambda: groups.heartbeat("g", "m", 1), lambda: groups.expire_offsets(),
        lambda: groups.leave("g", [LeavingMember("m")]), lambda: groups.delete("g"),
        lambda: groups.committed_of("orders", 0), lambda: groups.delete_offsets("g", []),
    )
    replies = []
    groups.join(request, replies.append)
    assert [type(reply) for reply in replies] == [logstore.ForkedProcess]
    groups.close()
    store.close()

def first_use():
    is_refused(lambda: store.groups)
    store.close()
"""
BESIDE_LOCKS = """
entry = groups._table._entries["g"]
held = threading.Event()
def hold():
    with entry.lock, groups._table._lock, groups._deadlines._changed:
        held.set()
        time.sleep(1)
holder = threading.Thread(target=hold)
holder.start()
held.wait()
in_child(uses)
holder.join()
groups.commit("g", commit)
store.close()
"""
BESIDE_LOADING = """
with store._groups_lock:
    in_child(first_use)
store.close()
"""


@pytest.mark.parametrize(("use", "script"), [("used", BESIDE_LOCKS), ("unused", BESIDE_LOADING)])
def test_a_forked_child_is_refused_and_does_not_hang_on_locks_that_were_held(
    use: str, script: str, tmp_path: Path
) -> None:
    assert run_python(FORKED + script, tmp_path, use).stderr == ""


def test_a_rebalance_goes_on_when_the_member_that_began_it_was_never_heard_of_again(clocked: ClockedStore) -> None:
    first = Member(clocked.groups).enter()
    Member(clocked.groups).ask_to_join()
    with pytest.raises(RebalanceInProgress):
        first.heartbeat()
    clocked.passes(300_000)
    assert clocked.groups.describe("g").state == "Empty"
    assert clocked.groups.committed("g") == {P0: OffsetAndMetadata(1)}
