"""One directory, one owner, and what the next owner finds after any end of the last one."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import logstore
from children import environment, run_python
from kafka_golden import GOLDEN
from logstore.config import StoreConfig
from logstore.format import checkpoint, filename
from logstore.format.properties import encode_properties
from logstore.storage import files
from logstore.storage.data_dir import DataDir
from logstore.storage.ownership import take_lock

MARKER = filename.CLEAN_SHUTDOWN
CHECKPOINTS = [filename.RECOVERY_POINT_CHECKPOINT, filename.LOG_START_OFFSET_CHECKPOINT]


def fill(path: Path, partitions: int = 1, count: int = 20) -> None:
    with logstore.open(path) as store:
        store.create_topic("t", partitions, segment_bytes=300)
        for n in range(count):
            for partition in range(partitions):
                store.log("t", partition).append([b"%d" % n])


def read(path: Path, partition: int = 0) -> list[bytes | None]:
    with logstore.open(path) as store:
        log = store.log("t", partition)
        return [record.value for record in log.records(log.log_start_offset)]


def numbers(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(first, count)]


# -------------------------------------------------------------------------------------------------- other directories


def test_a_directory_with_other_files_is_refused_by_what_is_in_it_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(logstore.NotADataDir, match=r"holds 'holiday\.jpg' and no meta\.properties"):
        logstore.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_apache_kafkas_directory_is_refused_for_writing_and_left_as_it_is(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "data", tmp_path / "kafka")
    before = {path: path.read_bytes() for path in (tmp_path / "kafka").rglob("*") if path.is_file()}
    with pytest.raises(logstore.NotADataDir, match="Apache Kafka's; read it with read_only"):
        logstore.open(tmp_path / "kafka")
    assert {path: path.read_bytes() for path in (tmp_path / "kafka").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        (b"", r"meta\.properties cannot be read.*empty"),
        (b"\xff\xfe\0", r"meta\.properties cannot be read"),
        (encode_properties({"logstore.format": "2"}), "its format is 2, this program's 1"),
    ],
)
def test_a_directory_that_does_not_say_that_it_is_ours_is_refused(meta: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / filename.META_PROPERTIES).write_bytes(meta)
    with pytest.raises(logstore.NotADataDir, match=reason):
        logstore.open(tmp_path)


def test_a_file_a_missing_and_an_empty_directory_are_refused_where_none_is_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for read_only in (False, True):
        with pytest.raises(logstore.NotADataDir, match="it is a file"):
            logstore.open(tmp_path / "file", read_only=read_only)
    with pytest.raises(logstore.NotADataDir, match="there is no such directory"):
        logstore.open(tmp_path / "missing", create=False)
    assert not (tmp_path / "missing").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(logstore.NotADataDir, match="it is empty"):
        logstore.open(tmp_path / "empty", create=False)
    assert not list((tmp_path / "empty").iterdir())
    logstore.open(tmp_path / "a" / "b" / "c").close()
    logstore.open(tmp_path / "a" / "b" / "c", create=False).close()


READ_ONLY_DIR = """
import logstore, os, sys
os.chdir(sys.argv[1])
logstore.open(".", read_only=True).close()  # imports what it needs
if os.geteuid() == 0:
    os.seteuid(65534)  # to whom the directory is read-only, as it is not to root
try:
    logstore.open(".")
except logstore.StorageFailure as error:
    print(error)
store = logstore.open(".", read_only=True)
print([topic.name for topic in store.topics()])
"""


def test_a_directory_without_leave_to_write_is_refused_with_the_reason(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("t")
    for path in [tmp_path / "data", *(tmp_path / "data").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = run_python(READ_ONLY_DIR, tmp_path / "data")
    for path in [tmp_path / "data", *(tmp_path / "data").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.stdout == ".lock: cannot open: Permission denied\n['t']\n", done.stderr


# ---------------------------------------------------------------------------------------------------------- the end


def test_the_marker_of_a_clean_end_is_there_only_after_one(tmp_path: Path) -> None:
    store = logstore.open(tmp_path)
    assert not (tmp_path / MARKER).exists()
    store.create_topic("t")
    assert not (tmp_path / MARKER).exists()
    store.close()
    assert (tmp_path / MARKER).exists()
    store = logstore.open(tmp_path)
    assert store._data_dir.was_clean
    assert not (tmp_path / MARKER).exists()
    copy = tmp_path.with_name("copy")
    shutil.copytree(tmp_path, copy)
    store.close()
    with logstore.open(copy) as crashed:
        assert not crashed._data_dir.was_clean


def test_a_failed_sync_at_the_end_is_told_and_leaves_no_marker_nor_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = logstore.open(tmp_path)
    store.create_topic("t")
    store.log("t").append([b"x"])

    def fail(self: files.File) -> None:
        raise logstore.StorageFailure(str(self.path), "sync", 5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files.File, "sync", fail)
        with pytest.raises(logstore.StorageFailure, match="cannot sync"):
            store.close()
    assert not (tmp_path / MARKER).exists()
    with logstore.open(tmp_path) as again:
        assert not again._data_dir.was_clean
        assert [record.value for record in again.log("t").records(0)] == [b"x"]


def test_a_program_that_ends_without_a_close_is_no_crash(tmp_path: Path) -> None:
    script = """
import logstore, sys
store = logstore.open(sys.argv[1])
store.create_topic("t")
store.log("t").append([b"x"])
"""
    run_python(script, tmp_path)
    assert (tmp_path / MARKER).exists()
    assert read(tmp_path) == [b"x"]


def test_closing_twice_and_from_many_threads_is_no_error(tmp_path: Path) -> None:
    store = logstore.open(tmp_path)
    threads = [threading.Thread(target=store.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    store.close()
    assert (tmp_path / filename.CLEAN_SHUTDOWN).exists()
    logstore.open(tmp_path).close()


WRITER = """
import logstore, os, sys
path, durability = sys.argv[1:]
store = logstore.open(path, log_flush_offset_checkpoint_interval_ms=20, log_retention_check_interval_ms=10)
store.create_topic("t", 2, segment_bytes=2_000, index_interval_bytes=100)
for n in range(1_000_000):
    log = store.log("t", n % 2)
    receipt = log.append([b"%d" % n], durability=durability)
    assert receipt.base_offset == n // 2
    os.write(1, b"%d\\n" % n)
"""


@pytest.mark.parametrize("durability", ["os", "fsync"])
@pytest.mark.parametrize("acknowledged", [1, 83, 700])
def test_what_was_acknowledged_before_a_sigkill_is_there(acknowledged: int, durability: str, tmp_path: Path) -> None:
    last = -1
    command = [sys.executable, "-c", WRITER, str(tmp_path), durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            last = int(line)
            if last == acknowledged:
                writer.send_signal(signal.SIGKILL)
    assert last >= acknowledged
    with logstore.open(tmp_path) as store:
        assert not store._data_dir.was_clean
        assert store.damages() == []
        for partition in range(2):
            found = [record.value for record in store.log("t", partition).records(0)]
            sent = [b"%d" % n for n in range(partition, last + 1, 2)]
            assert found[: len(sent)] == sent
            assert len(found) <= len(sent) + 1, "one more may have been written and not yet acknowledged"
            assert store.log("t", partition).append([b"next"]).base_offset == len(found)


# -------------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("was_clean", [True, False])
@pytest.mark.parametrize("text", [b"", b"\0" * 40, b"garbage", b"0\n9\nt 0 1\n", b"0\n1\nt 0 99999999999999999999\n"])
def test_corrupt_checkpoints_are_made_anew_and_nothing_is_lost(
    text: bytes, was_clean: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, partitions=2)
    for name in CHECKPOINTS:
        (tmp_path / name).write_bytes(text)
    if not was_clean:
        (tmp_path / MARKER).unlink()
    for partition in range(2):
        assert read(tmp_path, partition) == numbers(20)
    assert CHECKPOINTS[0] in caplog.text
    points = checkpoint.decode_offsets((tmp_path / CHECKPOINTS[0]).read_bytes())
    assert points == {("t", 0): 20, ("t", 1): 20}


@pytest.mark.parametrize("was_clean", [True, False])
def test_missing_checkpoints_cost_nothing(was_clean: bool, tmp_path: Path) -> None:
    fill(tmp_path)
    for name in CHECKPOINTS:
        (tmp_path / name).unlink()
    if not was_clean:
        (tmp_path / MARKER).unlink()
    assert read(tmp_path) == numbers(20)


def test_a_log_start_that_was_advanced_stays_after_a_crash(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    store = logstore.open(tmp_path / "data")
    assert store.advance_log_start("t", 0, 7) == 7
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    store.close()
    assert read(tmp_path / "copy") == read(tmp_path / "data") == numbers(20, first=7)


def test_a_new_topic_does_not_inherit_the_offsets_of_a_deleted_one_even_after_crashes(tmp_path: Path) -> None:
    """The checkpoint files still speak of the old topic when the process dies before it has written them."""
    fill(tmp_path / "0")
    with logstore.open(tmp_path / "0") as store:
        store.advance_log_start("t", 0, 15)
    saved = {name: (tmp_path / "0" / name).read_bytes() for name in CHECKPOINTS}
    store = logstore.open(tmp_path / "0")
    store.delete_topic("t")
    shutil.copytree(tmp_path / "0", tmp_path / "1")
    store.close()
    for name, data in saved.items():
        (tmp_path / "1" / name).write_bytes(data)
    store = logstore.open(tmp_path / "1")
    store.create_topic("t")
    for n in range(5):
        store.log("t").append([b"%d" % n])
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    store.close()
    assert read(tmp_path / "2") == numbers(5)


def test_a_crash_at_any_step_of_making_a_directory_leaves_one_that_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    steps = 0
    for number in range(1, 100):
        seen = 0

        def step(*arguments: object, original: object = None, number: int = number) -> object:
            nonlocal seen
            seen += 1
            if seen >= number:
                raise Crash
            return original(*arguments)  # type: ignore[operator]

        path = tmp_path / str(number)
        with monkeypatch.context() as patch:
            for owner, name in [(os, "mkdir"), (os, "rename"), (os, "fsync"), (os, "fdatasync"), (os, "pwrite")]:
                original = getattr(owner, name)
                patch.setattr(owner, name, lambda *a, original=original: step(*a, original=original))
            try:
                data_dir = DataDir(path, StoreConfig())
            except Crash:
                data_dir = None
        if data_dir is not None:
            data_dir.close()
            break
        steps += 1
        with logstore.open(path) as store:
            store.create_topic("t")
    assert steps > 4


# --------------------------------------------------------------------------------------------------------------- many

MANY = """
import logstore, os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
clean = sys.argv[2] == "clean"
with logstore.open(sys.argv[1], log_retention_check_interval_ms=50) as store:
    store.create_topic("t", 300, segment_bytes=400)
    for n in range(4):
        for partition in range(300):
            store.log("t", partition).append([b"%d %d" % (partition, n)] * 3, durability="os")
    for partition in range(300):
        assert [r.value for r in store.log("t", partition).records(0)] == [
            b"%d %d" % (partition, n) for n in range(4) for _ in range(3)]
    store.flush()
    if not clean:
        os._exit(0)
"""


@pytest.mark.parametrize("end", ["clean", "crash"])
def test_three_hundred_partitions_live_within_128_descriptors(end: str, tmp_path: Path) -> None:
    assert run_python(MANY, tmp_path, end).stderr == ""
    check = MANY.split("with logstore", maxsplit=1)[0] + (
        "with logstore.open(sys.argv[1]) as store:\n"
        "    ends = [store.log('t', partition).append([b'x']).base_offset for partition in range(300)]\n"
        "    assert ends == [12] * 300, ends\n"
        "reader = logstore.open(sys.argv[1], read_only=True)\n"
        "assert sum(len(list(reader.log('t', partition).records(0))) for partition in range(300)) == 3_900\n"
    )
    assert run_python(check, tmp_path, end).stderr == ""


def points(path: Path, name: str = CHECKPOINTS[0]) -> dict[tuple[str, int], int]:
    return checkpoint.decode_offsets((path / name).read_bytes())


def test_a_new_topic_of_fewer_partitions_leaves_nothing_of_the_old_ones_to_those_added_later(tmp_path: Path) -> None:
    fill(tmp_path, partitions=3)
    with logstore.open(tmp_path) as store:
        store.advance_log_start("t", 2, 15)
    saved = {name: (tmp_path / name).read_bytes() for name in CHECKPOINTS}
    with logstore.open(tmp_path) as store:
        store.delete_topic("t")
    for name, data in saved.items():
        (tmp_path / name).write_bytes(data)
    with logstore.open(tmp_path) as store:
        store.create_topic("t", 1)
        assert set(points(tmp_path)) <= {("t", 0)}
        store.alter_topic("t", partitions=3)
        assert store.log("t", 2).append([b"x"]).base_offset == 0
    assert read(tmp_path, 2) == [b"x"]


# ------------------------------------------------------------------------------------------ partitions that fail


@pytest.mark.parametrize("was_clean", [True, False])
def test_a_partition_that_cannot_be_opened_does_not_keep_the_others_from_it(
    was_clean: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, partitions=3)
    with logstore.open(tmp_path) as store:
        store.advance_log_start("t", 1, 7)
    if not was_clean:
        (tmp_path / MARKER).unlink()
    list_dir = files.list_dir

    def fail(path: Path) -> list[files.Entry]:
        if path.name == "t_1":
            raise logstore.StorageFailure(str(path), "list", 5, "Input/output error")
        return list_dir(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "list_dir", fail)
        store = logstore.open(tmp_path)
        assert "t_1 is left out" in caplog.text and "Input/output error" in caplog.text
        for partition in (0, 2):
            store.log("t", partition).append([b"20"])
        with pytest.raises(logstore.StorageFailure, match="Input/output error"):
            store.log("t", 1)
        store.alter_topic("t", {"retention.ms": -1})
        store.close()
    assert points(tmp_path) == {("t", 0): 21, ("t", 1): 20, ("t", 2): 21}
    assert points(tmp_path, CHECKPOINTS[1]) == {("t", 1): 7}
    assert not (tmp_path / MARKER).exists()
    assert read(tmp_path, 0) == read(tmp_path, 2) == numbers(21)
    assert read(tmp_path, 1) == numbers(20, first=7)
    assert (tmp_path / MARKER).exists()


def test_a_partition_that_could_not_be_opened_is_had_once_the_cause_is_gone(tmp_path: Path) -> None:
    fill(tmp_path, partitions=2)
    moved = tmp_path.with_name("moved")
    (tmp_path / "t_1").rename(moved)
    (tmp_path / "t_1").write_bytes(b"a file in its place")
    with logstore.open(tmp_path) as store:
        with pytest.raises(logstore.StorageFailure, match="t_1"):
            store.log("t", 1)
        (tmp_path / "t_1").unlink()
        moved.rename(tmp_path / "t_1")
        assert [record.value for record in store.log("t", 1).records(0)] == numbers(20)
    assert (tmp_path / MARKER).exists()


def test_a_damaged_log_has_its_recovery_point_recorded_and_no_clean_end(tmp_path: Path) -> None:
    fill(tmp_path, partitions=2)
    first = min((tmp_path / "t_0").glob("*.log"))
    data = bytearray(first.read_bytes())
    data[100] ^= 1
    first.write_bytes(data)
    for _ in range(2):
        (tmp_path / MARKER).unlink(missing_ok=True)
        (tmp_path / CHECKPOINTS[0]).write_bytes(checkpoint.encode_offsets({("t", 1): 20}))
        with logstore.open(tmp_path) as store:
            assert {damage.path for damage in store.damages()} == {first}
            end_offset = store.log("t").log_end_offset
        assert points(tmp_path) == {("t", 0): end_offset, ("t", 1): 20}
        assert end_offset == 20
        assert not (tmp_path / MARKER).exists()


def test_what_cannot_be_removed_is_tried_again_and_keeps_nothing_else_from_going(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unlink = files.unlink

    def fail(path: Path) -> None:
        if path.parent.name.startswith("a_"):
            raise logstore.StorageFailure(str(path), "unlink", 1, "Operation not permitted")
        unlink(path)

    with logstore.open(tmp_path, log_flush_scheduler_interval_ms=3_600_000) as store:
        for name in ("a", "b"):
            store.create_topic(name, segment_bytes=100, retention_bytes=0, file_delete_delay_ms=0)
            store.create_topic(f"{name}_deleted", file_delete_delay_ms=0)
            for _ in range(3):
                store.log(name).append([bytes(60)])
            store.log(name).delete_expired()
            store.delete_topic(f"{name}_deleted")
        assert len(list(tmp_path.glob("b_0/*.deleted"))) > 0
        with monkeypatch.context() as patch:
            patch.setattr(files, "unlink", fail)
            store._data_dir.remove_deleted(at_once=True)
        assert {path.name for path in tmp_path.glob("?_*")} >= {"a_0", "b_0"}
        assert not list(tmp_path.glob("b_0/*.deleted")) and not list(tmp_path.glob("b_deleted*"))
        assert len(list(tmp_path.glob("a_deleted*-delete"))) == 1
        assert "Operation not permitted" in caplog.text
        store._data_dir.remove_deleted(at_once=True)
        assert not list(tmp_path.glob("a_deleted*"))


@pytest.mark.parametrize(("meta", "owner"), [({"version": "1", "cluster.id": "x"}, b"kafka's"), (None, None)])
def test_the_lock_file_of_another_program_is_taken_and_not_written(
    meta: dict[str, str] | None, owner: bytes | None, tmp_path: Path
) -> None:
    (tmp_path / filename.LOCK).write_bytes(b"kafka's")
    if meta is not None:
        (tmp_path / filename.META_PROPERTIES).write_bytes(encode_properties(meta))
    lock = take_lock(tmp_path)
    with pytest.raises(logstore.DataDirLocked):
        take_lock(tmp_path)
    lock.close()
    assert (tmp_path / filename.LOCK).read_bytes() == (owner or b"process %d\n" % os.getpid())


def test_whoever_listens_is_told_of_topics_that_come_change_and_go(data_dir: DataDir):
    told: list[str] = []
    data_dir.topic_listeners.append(told.append)
    data_dir.create_topic("orders")
    data_dir.alter_topic("orders", partitions=2)
    data_dir.delete_topic("orders")
    assert told == ["orders"] * 3
