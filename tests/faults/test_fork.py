"""A fork in a process that owns a data directory: the child cannot write, and whatever it does, the parent goes on."""

from pathlib import Path

import pytest

import logstore
from children import run_python
from promises import check_verified

START = """
import gc, logstore, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, from Python 3.12 on
path = sys.argv[1]
store = logstore.open(path, log_flush_offset_checkpoint_interval_ms=20, log_retention_check_interval_ms=20)
store.create_topic("t", segment_bytes=4_000, index_interval_bytes=100)
log = store.log("t")

def in_child(act, seconds=20):
    "Whether the child comes to its end, with 0, in time."
    child = os.fork()
    if not child:
        try:
            act()
            os._exit(0)
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("the child hangs", file=sys.stderr)
    return False

def is_refused(*calls):
    for call in calls:
        try:
            call()
        except logstore.ForkedProcess as error:
            assert "belongs to the parent" in str(error)
        else:
            raise AssertionError("a child may do this")
"""


def run(script: str, path: Path) -> str:
    done = run_python(START + script, path, timeout_s=110)
    assert done.stderr == ""
    return done.stdout


def check(path: Path, values: list[bytes]) -> None:
    check_verified(path)
    with logstore.open(path) as store:
        assert store._data_dir.was_clean
        assert [record.value for record in store.log("t").records(0)] == values


def test_a_fork_in_a_process_that_owns_a_store_the_child_cannot_write(tmp_path: Path) -> None:
    script = """
from logstore.storage.compaction import compact
log.append([b"parent"], durability="fsync")  # so that there is nothing left to sync, which alone would be refused
assert in_child(lambda: is_refused(
    lambda: log.append([b"child"]), lambda: log.append([b"child"], durability="fsync"),
    lambda: log.append_batches(log.read(0).read()), lambda: log.truncate_to(0), lambda: log.roll(),
    lambda: log.flush(), lambda: log.checkpoint(), lambda: log.unlink_retired(), lambda: compact(log, 0, 1 << 20),
    lambda: log.advance_log_start(1), lambda: log.delete_expired(), lambda: store.flush(),
    lambda: store.create_topic("u"), lambda: store.alter_topic("t", {"segment.bytes": 5_000}),
    lambda: store.delete_topic("t"), lambda: store.log("t")) or store.close())

def is_locked():
    try:
        logstore.open(path)
    except logstore.DataDirLocked as error:
        assert f"process {os.getppid()}" in str(error)
    else:
        raise AssertionError("the child has opened it")
assert in_child(is_locked), "the lock is the parent's"
assert log.append([b"again"], durability="fsync").base_offset == 1
store.close()
"""
    run(script, tmp_path)
    check(tmp_path, [b"parent", b"again"])


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "store.close(); del store, log; gc.collect()"])
def test_however_a_forked_child_ends_the_parents_lock_and_files_are_as_they_were(end: str, tmp_path: Path) -> None:
    """An end by sys.exit runs what the parent has registered for its own, and lets go of every object it has."""
    script = f"""
for n in range(150):
    log.append([b"%d" % n])
    if n % 15 == 0 and not os.fork():
        sys.stderr = sys.__stderr__
        {end}
        sys.exit()
    if n % 15 == 0:
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        assert not os.path.exists(path + "/.kafka_cleanshutdown")
        with open(path + "/.lock") as lock:
            assert lock.read() == f"process {{os.getpid()}}\\n"
        if n % 60 == 0:
            try:
                logstore.open(path)
            except logstore.DataDirLocked:
                pass
            else:
                sys.exit("the lock is gone")
store.close()
"""
    run(script, tmp_path)
    check(tmp_path, [b"%d" % n for n in range(150)])


def test_a_child_forked_while_other_threads_hold_every_lock_is_refused_or_served_and_does_not_hang(
    tmp_path: Path,
) -> None:
    """Nobody in the child will ever let go of them."""
    script = """
import _thread, types
for n in range(100):
    log.append([b"%d" % n])
assert len(list(log.records(0))) == 100

def locks_of(root):
    "Every lock that the object can reach."
    passed = (type, types.ModuleType, types.FunctionType, types.FrameType, threading.Thread)
    seen, todo, locks = {}, [root], []
    while todo:
        for found in gc.get_referents(todo.pop()):
            if id(found) not in seen and not isinstance(found, passed):
                seen[id(found)] = found
                todo.append(found)
                if isinstance(found, _thread.LockType | _thread.RLock):
                    locks.append(found)
    return locks

store._data_dir._upkeep.stop()  # else it, and not the child, would wait for the locks that are held here
locks = locks_of(store)
assert len(locks) > 8, locks
held, done = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.acquire(timeout=5)
    held.set()
    done.wait()
    for lock in locks:
        lock.release()

threading.Thread(target=hold).start()
held.wait()

def use_all():
    is_refused(lambda: log.append([b"x"]), lambda: log.append([b"x"], durability="fsync"), lambda: log.roll(),
               lambda: log.flush(), lambda: store.create_topic("u"), lambda: store.advance_log_start("t", 0, 1))
    assert [record.value for record in log.records(0)] == [b"%d" % n for n in range(100)]
    assert log.offset_for_time(1).offset == 0
    assert not log.wait(100, 0.01)
    for segment in log.view.segments:
        segment.rebuild_indexes()
    store.topics()
    store.close()

ends = in_child(use_all, 10)
done.set()
assert ends
store.close()
"""
    run(script, tmp_path)
    check(tmp_path, [b"%d" % n for n in range(100)])


def test_forks_during_appends_reads_and_waits_of_other_threads_do_no_harm_and_no_child_hangs(tmp_path: Path) -> None:
    """Whatever lock a thread holds at the moment of a fork, nobody in the child will ever let go of it."""
    script = """
from clients import Crew
from history import History, explain

store.create_topic("keyed", segment_bytes=4_000, index_interval_bytes=100, cleanup_policy="compact")
crew = Crew(History())
log.append([b"first"])
writers = [crew.start(f"writer {n}", crew.write, log, f"writer {n}", fsync_every=3) for n in range(3)]
for n in range(2):
    crew.start(f"tail {n}", crew.tail, log, f"tail {n}")
    crew.start(f"jump {n}", crew.jump, log, f"jump {n}", n)

def use_all():
    end = log.log_end_offset
    is_refused(lambda: log.append([b"child"]), lambda: log.append([b"child"], durability="fsync"),
               lambda: log.roll(), lambda: log.checkpoint(), lambda: store.create_topic("u"),
               lambda: store.advance_log_start("t", 0, 1), lambda: store.flush())
    assert not log.wait(end + 1000, 0.01)
    log.call_when_beyond(end + 1000, lambda: None)()
    for offset in range(0, end, max(1, end // 4)):
        try:
            assert next(log.records(offset)).offset == offset
            log.offset_for_time(1)
        except logstore.LogstoreError:
            pass  # it may not read any more, or may: it is told, and does not hang
    store.topics()
    store.close()

for _ in range(60):
    assert in_child(use_all)
crew.finish(writers)
assert not crew.ended, crew.ended
crew.poll_records(log, "the end", 0)
crew.history.acknowledge(crew.history.begin(log.name, "first", 0, [b"first"]), 0)
found = crew.history.anomalies()
assert not found, explain(found)
print(log.log_end_offset)
store.close()
"""
    end_offset = int(run(script, tmp_path))
    with logstore.open(tmp_path) as store:
        assert store._data_dir.was_clean
        assert store.log("t").log_end_offset == end_offset > 100
