"""Topics come, change and go, whatever is interrupted in the middle."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import logstore
from logstore import Store
from logstore.errors import UnknownPartition, UnknownTopic
from logstore.storage import files, upkeep
from logstore.storage.data_dir import DataDir
from logstore.storage.partition import PartitionLog

# No upkeep by itself: only what a test does reaches the disk.
QUIET = {
    "log_flush_scheduler_interval_ms": 3_600_000,
    "log_flush_offset_checkpoint_interval_ms": 3_600_000,
    "log_cleaner_backoff_ms": 3_600_000,
}
EFFECTS = ("make_dir", "rename", "unlink", "remove_dir", "sync_dir", "open_file")
FILE_EFFECTS = ("write_at", "write_pieces_at", "truncate", "sync", "allocate")


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of stores are opened here; what is under test is the order of effects."""
    monkeypatch.setattr(files, "_sync", lambda fd: None)
    monkeypatch.setattr(os, "fsync", lambda fd: None)


class Crash(BaseException):
    """The process ends here: no handler of errors sees it."""


def disk_error() -> logstore.StorageFailure:
    return logstore.StorageFailure("disk", "write", 5, "Input/output error")


class FailingEffect:
    """The k-th effect on the disk fails; after a crash, so does every later one."""

    def __init__(self, number: int, error: Callable[[], BaseException]) -> None:
        self.number, self.error, self.seen = number, error, 0

    @property
    def was_met(self) -> bool:
        return self.seen >= self.number

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def effect(*args: Any, **options: Any) -> Any:
            self.seen += 1
            if self.seen == self.number or (self.was_met and self.error is Crash):
                raise self.error()
            return function(*args, **options)

        return effect


@contextmanager
def fault(number: int, error: Callable[[], BaseException]) -> Iterator[FailingEffect]:
    fault = FailingEffect(number, error)
    with pytest.MonkeyPatch.context() as patch:
        for name in EFFECTS:
            patch.setattr(files, name, fault.wrap(getattr(files, name)))
        for name in FILE_EFFECTS:
            patch.setattr(files.File, name, fault.wrap(getattr(files.File, name)))
        yield fault


def values(store: Store, topic: str, partition: int = 0) -> list[bytes | None]:
    log = store.log(topic, partition)
    return [record.value for record in log.records(log.log_start_offset)]


def prepare(store: Store) -> None:
    """Two topics with records in every partition; one starts late."""
    for name in ("changing", "bystander"):
        store.create_topic(name, 2, retention_ms=5_000)
        for partition in range(2):
            store.log(name, partition).append([b"1", b"2", b"3"])
    store.advance_log_start("changing", 1, 2)


def check_whole(store: Store) -> None:
    assert values(store, "bystander", 0) == values(store, "bystander", 1) == [b"1", b"2", b"3"]
    if "changing" in [topic.name for topic in store.topics()]:
        assert values(store, "changing", 0) == [b"1", b"2", b"3"]
        assert values(store, "changing", 1) == [b"3"]


def check_can_begin_anew(store: Store, topic: str) -> None:
    """A topic of that name has what it is given, from offset 0, and keeps it."""
    store.create_topic(topic, 2)
    for partition in range(2):
        assert store.log(topic, partition).append([b"new"]).base_offset == 0
    upkeep.remove_deleted(store._data_dir)
    assert values(store, topic, 0) == values(store, topic, 1) == [b"new"]


def create(store: Store) -> None:
    store.create_topic("created", 3, segment_bytes=1_000)


def check_created(store: Store, is_done: bool) -> None:
    check_whole(store)
    assert "changing" in [topic.name for topic in store.topics()]
    if "created" in [topic.name for topic in store.topics()]:
        assert (store.topic("created").partitions, store.topic("created").config.segment_bytes) == (3, 1_000)
        assert [values(store, "created", partition) for partition in range(3)] == [[], [], []]
        store.log("created", 2).append([b"x"])
    else:
        assert not is_done
        check_can_begin_anew(store, "created")


def alter(store: Store) -> None:
    store.alter_topic("changing", {"retention.ms": "7000"}, partitions=4)


def check_altered(store: Store, is_done: bool) -> None:
    check_whole(store)
    topic = store.topic("changing")
    assert (topic.partitions, topic.config.retention_ms) in ([(4, 7_000)] if is_done else [(2, 5_000), (4, 7_000)])
    store.alter_topic("changing", partitions=5)
    assert [store.log("changing", partition).append([b"x"]).base_offset for partition in range(5)] == [3, 3, 0, 0, 0]


def delete(store: Store) -> None:
    store.delete_topic("changing")


def check_deleted(store: Store, is_done: bool) -> None:
    check_whole(store)
    if "changing" not in [topic.name for topic in store.topics()]:
        check_can_begin_anew(store, "changing")
    else:
        assert not is_done


CHANGES = [(create, check_created), (alter, check_altered), (delete, check_deleted)]
each_change = pytest.mark.parametrize(("change", "check"), CHANGES, ids=["create", "alter", "delete"])


@each_change
def test_a_crash_at_any_step_leaves_the_topic_whole_or_not_at_all(
    change: Callable[[Store], None], check: Callable[[Store, bool], None], tmp_path: Path
) -> None:
    for number in count(1):
        original, copy = tmp_path / f"{number}", tmp_path / f"{number}-after"
        store = logstore.open(original, **QUIET)
        prepare(store)
        with fault(number, Crash) as met:
            with suppress(Crash):
                change(store)
        shutil.copytree(original, copy)
        with suppress(Exception):
            store.close()
        with logstore.open(copy, **QUIET) as again:
            check(again, not met.was_met)
            before = [(topic, values(again, topic.name)) for topic in again.topics()]
        with logstore.open(copy, **QUIET) as again:
            assert [(topic, values(again, topic.name)) for topic in again.topics()] == before
        if not met.was_met:
            break
    assert number > 8, "that many effects a change has"


@each_change
def test_a_disk_error_at_any_step_leaves_the_topic_whole_or_not_at_all_and_the_store_usable(
    change: Callable[[Store], None], check: Callable[[Store, bool], None], tmp_path: Path
) -> None:
    for number in count(1):
        store = logstore.open(tmp_path / f"{number}", **QUIET)
        prepare(store)
        with fault(number, disk_error) as met:
            with suppress(logstore.StorageFailure):
                change(store)
        check(store, not met.was_met)
        before = [(topic, values(store, topic.name)) for topic in store.topics()]
        store.close()
        with logstore.open(tmp_path / f"{number}", **QUIET) as again:
            assert [(topic, values(again, topic.name)) for topic in again.topics()] == before
        if not met.was_met:
            break
    assert number > 8, "that many effects a change has"


def test_a_topic_created_after_a_crash_in_its_creation_keeps_its_records(tmp_path: Path) -> None:
    """The empty directories that the crash left must not be removed under the new topic."""
    with logstore.open(tmp_path, **QUIET) as store:
        store.create_topic("orders", 2)
    shutil.rmtree(tmp_path / "topics")
    with logstore.open(tmp_path, **QUIET) as store:
        store.create_topic("orders", 2)
        store.log("orders").append([b"kept"])
        upkeep.remove_deleted(store._data_dir)
        assert values(store, "orders") == [b"kept"]
        assert len(list(tmp_path.glob("orders_*"))) == 2


def test_a_deletion_that_failed_half_way_does_not_take_the_next_topic_of_that_name(tmp_path: Path) -> None:
    store = logstore.open(tmp_path, **QUIET)
    store.create_topic("orders")
    store.log("orders").append([b"old"])
    with fault(3, disk_error), pytest.raises(logstore.StorageFailure):
        store.delete_topic("orders")
    assert (tmp_path / "orders_0").exists()
    assert store.topics() == []
    store.create_topic("orders")
    assert values(store, "orders") == []
    store.log("orders").append([b"new"])
    store.close()
    with logstore.open(tmp_path, **QUIET) as again:
        upkeep.remove_deleted(again._data_dir)
        assert values(again, "orders") == [b"new"]


def test_an_orphan_directory_with_records_stays_and_is_had_again_by_creating_the_topic(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with logstore.open(tmp_path, **QUIET) as store:
        store.create_topic("orders", 2)
        store.log("orders", 1).append([b"precious"])
    shutil.rmtree(tmp_path / "topics")
    with logstore.open(tmp_path, **QUIET) as store:
        upkeep.remove_deleted(store._data_dir)
        assert store.topics() == []
        assert not (tmp_path / "orders_0").exists()
        assert (tmp_path / "orders_1").exists()
        assert "orders_1 holds records of no topic" in caplog.text
        store.create_topic("orders", 2)
        assert values(store, "orders", 1) == [b"precious"]


def test_a_deleted_topics_files_go_after_their_delay(tmp_path: Path) -> None:
    with logstore.open(tmp_path, **QUIET) as store:
        now_ms = store._data_dir.now_ms()
        store._data_dir.now_ms = lambda: now_ms
        store.create_topic("gone", 2, file_delete_delay_ms=1_000)
        store.log("gone").append([b"x"])
        store.delete_topic("gone")
        assert len(list(tmp_path.glob("gone_*-delete"))) == 2
        upkeep.remove_deleted(store._data_dir)
        assert len(list(tmp_path.glob("gone_*-delete"))) == 2
        now_ms += 1_000
        upkeep.remove_deleted(store._data_dir)
        assert not list(tmp_path.glob("gone_*"))
        assert not (tmp_path / "topics" / "gone").exists()


NAMES = ["a", "a_1", "a-1", "a_1_1", "a.1", "_", "-", "_0", "0", "a_", "a-", "...", "x.properties", "x.tmp", "n" * 249]


def test_names_that_end_like_a_partition_do_not_meet(tmp_path: Path) -> None:
    with logstore.open(tmp_path, **QUIET) as store:
        for name in NAMES:
            store.create_topic(name, 2)
            for partition in range(2):
                store.log(name, partition).append([f"{name} {partition}".encode()])
    with logstore.open(tmp_path, **QUIET) as store:
        assert [topic.name for topic in store.topics()] == sorted(NAMES)
        for left, name in reversed(list(enumerate(NAMES))):
            assert [values(store, name, n) for n in range(2)] == [[f"{name} {n}".encode()] for n in range(2)]
            store.delete_topic(name)
            upkeep.remove_deleted(store._data_dir)
            assert len(store.topics()) == left
    assert not list(tmp_path.glob("*_[01]"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\0", "ä", "a b", "n" * 250])
def test_names_that_kafka_does_not_take_are_refused_and_leave_nothing(name: str, tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data", **QUIET) as store:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(logstore.InvalidTopicName):
            store.create_topic(name)
        assert sorted(tmp_path.rglob("*")) == before
        with pytest.raises(logstore.UnknownTopic):
            store.log(name)


@pytest.mark.parametrize("text", [b"", b"\0\xff garbage", b"partitions=2\n", b"partitions=-1\ntopic.id=x\n"])
def test_a_topic_file_that_cannot_be_read_is_named_and_nothing_is_guessed(text: bytes, tmp_path: Path) -> None:
    with logstore.open(tmp_path, **QUIET) as store:
        store.create_topic("orders")
        store.log("orders").append([b"x"])
    path = tmp_path / "topics" / "orders" / "topic.properties"
    good = path.read_bytes()
    path.write_bytes(text)
    for read_only in (False, True):
        with (
            logstore.open(tmp_path, read_only=read_only) as store,
            pytest.raises(logstore.DamagedTopic, match=r"orders/topic\.properties.*mend the file"),
        ):
            store.topic("orders")
    path.write_bytes(good)
    with logstore.open(tmp_path, **QUIET) as store:
        assert values(store, "orders") == [b"x"]


def tree(path: Path) -> dict[str, bytes | None]:
    return {str(found.relative_to(path)): found.read_bytes() if found.is_file() else None for found in path.rglob("*")}


def test_what_an_operator_put_into_the_directory_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with logstore.open(tmp_path, **QUIET) as store:
        store.create_topic("orders")
        store.log("orders").append([b"x"])
    metadata = tmp_path / "orders_0" / "partition.metadata"
    shutil.copytree(tmp_path / "orders_0", tmp_path / "backup_2024" / "orders_0")
    for name, file in [
        ("notes-1", "notes.txt"),
        ("notes_1", "notes.txt"),
        ("kafka-0", "partition.metadata"),
        ("solved_0", "salvaged/00000000000000000000.log"),
        ("linked_0", "partition.metadata"),
        ("late_0", "00000000000000000015.log"),
        ("odd_0", "00000000000000000000.index"),
    ]:
        (tmp_path / name / file).parent.mkdir(parents=True)
        shutil.copy(metadata, tmp_path / name / file)
    (tmp_path / "late_0" / "00000000000000000015.log").write_bytes(b"")  # its end says which offsets were given
    (tmp_path / "linked_0" / "records").symlink_to("/")
    names = ["backup_2024", "notes-1", "notes_1", "kafka-0", "solved_0", "linked_0", "late_0", "odd_0"]
    before = {name: tree(tmp_path / name) for name in names}
    with logstore.open(tmp_path, **QUIET) as store:
        upkeep.remove_deleted(store._data_dir)
    assert {name: tree(tmp_path / name) for name in names} == before
    assert [name for name in names if f"{name} is no topic's" not in caplog.text] == []


def test_deleting_a_topic_takes_its_own_partitions_and_none_that_only_sound_like_it(tmp_path: Path) -> None:
    with logstore.open(tmp_path, **QUIET) as store:
        store.create_topic("backup", 2)
        for name in ("backup_2024", "backup-2024", "backup-0"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "precious").write_bytes(b"x")
        store.delete_topic("backup")
        store._data_dir.remove_deleted(at_once=True)
        assert sorted(path.name for path in tmp_path.glob("backup*")) == ["backup-0", "backup-2024", "backup_2024"]


def test_what_a_crash_in_a_creation_leaves_is_removed(tmp_path: Path) -> None:
    logstore.open(tmp_path, **QUIET).close()
    for name, file in [("a_0", "partition.metadata"), ("a_1", "partition.metadata.tmp"), ("a_2", None)]:
        (tmp_path / name).mkdir()
        if file:
            (tmp_path / name / file).write_bytes(b"version: 0")
    with logstore.open(tmp_path, **QUIET) as store:
        upkeep.remove_deleted(store._data_dir)
        assert not list(tmp_path.glob("a_*"))


def test_a_topic_file_that_a_crash_left_half_written_does_not_keep_the_topic_from_being_deleted(tmp_path: Path) -> None:
    half_written = tmp_path / "topics" / "orders" / "topic.properties.tmp"
    with logstore.open(tmp_path, **QUIET) as store:
        store.create_topic("orders")
        half_written.write_bytes(b"topic.")
        store.delete_topic("orders")
        assert not half_written.parent.exists()
        store.create_topic("orders")
        half_written.write_bytes(b"topic.")
    (half_written.parent / "topic.properties").rename(half_written.parent / "topic.properties.deleted")
    with logstore.open(tmp_path, **QUIET) as store:
        assert store.topics() == []
        assert not half_written.parent.exists() and not (tmp_path / "orders_0").exists()


def test_a_directory_beside_a_deleted_topics_file_stays(tmp_path: Path) -> None:
    with logstore.open(tmp_path, **QUIET) as store:
        store.create_topic("orders")
        (tmp_path / "topics" / "orders" / "mine").mkdir()
        store.delete_topic("orders")
    with logstore.open(tmp_path, **QUIET) as store:
        assert store.topics() == [] and (tmp_path / "topics" / "orders" / "mine").is_dir()


@pytest.mark.parametrize("partitions", [100_001, 99_999_999_999, 10**30])
def test_more_partitions_than_a_topic_can_have_are_refused_at_once(partitions: int, tmp_path: Path) -> None:
    with logstore.open(tmp_path, **QUIET) as store:
        store.create_topic("t")
        for call in (
            lambda: store.create_topic("u", partitions),
            lambda: store.alter_topic("t", partitions=partitions),
        ):
            with pytest.raises(logstore.InvalidArgument, match="a topic has 1 to 100000"):
                call()
        assert [topic.partitions for topic in store.topics()] == [1]
    with pytest.raises(logstore.InvalidSetting, match=r"num\.partitions"):
        logstore.open(tmp_path, num_partitions=partitions)
    path = tmp_path / "topics" / "t" / "topic.properties"
    path.write_text(path.read_text().replace("partitions=1", f"partitions={partitions}"))
    with logstore.open(tmp_path) as store, pytest.raises(logstore.DamagedTopic, match="a topic has 1 to 100000"):
        store.log("t")


def test_while_a_topic_is_made_nobody_waits_who_asks_for_others(
    data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = data_dir.create_topic("there", 1)
    is_making, is_to_go_on = threading.Event(), threading.Event()
    open_log = data_dir._open_log

    def slow(*arguments: Any, **named: Any) -> PartitionLog:
        is_making.set()
        assert is_to_go_on.wait(30)
        return open_log(*arguments, **named)

    monkeypatch.setattr(data_dir, "_open_log", slow)
    with ThreadPoolExecutor() as threads:
        made = threads.submit(data_dir.create_topic, "new", 2)
        assert is_making.wait(30)
        seen = threads.submit(data_dir.topics)
        unknown = [threads.submit(data_dir.log, name) for name in ("new", "unknown")]
        beyond = threads.submit(data_dir.log, "there", 1)
        try:
            assert seen.result(10) == [there]
            assert all(isinstance(each.exception(10), UnknownTopic) for each in unknown)
            assert isinstance(beyond.exception(10), UnknownPartition)
        finally:
            is_to_go_on.set()
        assert data_dir.topic_of_id(made.result(30).topic_id).name == "new"


def test_a_topic_is_found_by_its_id_until_it_is_deleted(data_dir: DataDir) -> None:
    first = data_dir.create_topic("t", 1)
    assert data_dir.topic_of_id(first.topic_id) == first
    altered = data_dir.alter_topic("t", {"retention.ms": "1000"}, 2)
    assert data_dir.topic_of_id(first.topic_id) == altered
    data_dir.delete_topic("t")
    second = data_dir.create_topic("t", 1)
    assert data_dir.topic_of_id(second.topic_id) == second
    with pytest.raises(UnknownTopic):
        data_dir.topic_of_id(first.topic_id)
