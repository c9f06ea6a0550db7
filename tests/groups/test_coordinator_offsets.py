"""Committed offsets of a real directory: committing, their durability and expiry, and what follows from them."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import logstore
from clocks import DAY_MS
from group_members import NOW, PATIENCE_S, ClockedStore, Member
from logstore.errors import (
    InvalidArgument,
    LogstoreError,
    OffsetMetadataTooLarge,
    UnknownGroup,
    UnknownPartition,
    UnknownTopic,
)
from logstore.format.filename import TopicPartition
from logstore.format.offsets_topic import OffsetCommitValue
from logstore.groups.offsets_log import OFFSETS_TOPIC, commit_record
from logstore.groups.requests import OffsetAndMetadata
from logstore.storage import files
from logstore.storage.upkeep import flush_due, retain

P0, P1, P2 = (TopicPartition("orders", number) for number in range(3))
WEEK_MS = 7 * DAY_MS


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[ClockedStore]:
    opened = ClockedStore(tmp_path / "data")
    opened.store.create_topic("orders", partitions=3)
    opened.store.create_topic("other")
    yield opened
    opened.close()


def at(offset: int, metadata: str = "") -> OffsetAndMetadata:
    return OffsetAndMetadata(offset, metadata)


def end_offset(clocked: ClockedStore) -> int:
    return clocked.store.log(OFFSETS_TOPIC).log_end_offset


# ---------------------------------------------------------------------------------------------------------- committing


def test_what_was_committed_is_there_and_on_the_disk_also_when_opened_again(clocked: ClockedStore) -> None:
    clocked.groups.commit("g", {P0: at(5, "text"), P2: OffsetAndMetadata(7, "", 3)})
    log = clocked.store.log(OFFSETS_TOPIC)
    assert log.synced_offset == log.log_end_offset == 2
    for _ in range(2):
        assert clocked.groups.committed("g") == {P0: at(5, "text"), P2: OffsetAndMetadata(7, "", 3)}
        assert clocked.groups.committed("g", [P1, ("orders", 2)]) == {P2: OffsetAndMetadata(7, "", 3)}
        assert clocked.groups.committed_of("orders", 0) == {"g": 5}
        assert clocked.groups.committed("nobody's") == clocked.groups.committed_of("orders", 1) == {}
        clocked.reopen()


def test_a_commit_is_one_batch_and_may_go_back_where_its_group_says_so(clocked: ClockedStore) -> None:
    clocked.groups.commit("g", {P0: at(5), P1: at(6), P2: at(7)})
    clocked.groups.commit("g", {P0: at(2)}, durability="os")
    log = clocked.store.log(OFFSETS_TOPIC)
    assert [batch.header.record_count for batch in log.batches(0)] == [3, 1]
    assert clocked.groups.committed("g") == {P0: at(2), P1: at(6), P2: at(7)}


REFUSED: list[tuple[tuple[str, int], OffsetAndMetadata, type[LogstoreError]]] = [
    (("nowhere", 0), at(1), UnknownTopic),
    (("orders", 3), at(1), UnknownPartition),
    (("orders", -1), at(1), UnknownPartition),
    (("orders", 1), at(-1), InvalidArgument),
    (("orders", 1), at(1, "x" * 4097), OffsetMetadataTooLarge),
]


@pytest.mark.parametrize(("partition", "committed", "error"), REFUSED)
def test_all_offsets_of_a_call_are_committed_or_none(
    partition: tuple[str, int], committed: OffsetAndMetadata, error: type[LogstoreError], clocked: ClockedStore
) -> None:
    clocked.groups.commit("g", {P0: at(1)})
    with pytest.raises(error):
        clocked.groups.commit("g", {P0: at(2), partition: committed, P2: at(2)})
    with pytest.raises(error):
        clocked.groups.commit("new", {partition: committed})
    assert clocked.groups.committed("g") == {P0: at(1)}
    assert [group.group for group in clocked.groups.groups()] == ["g"]
    assert end_offset(clocked) == 1


def test_a_broker_commits_what_it_can_and_tells_the_rest(clocked: ClockedStore) -> None:
    wrong = {partition: committed for partition, committed, _ in REFUSED[:2]}
    refused = clocked.groups.commit_each("g", {P0: at(2), **wrong, P1: at(1, "x" * 5000)})
    assert {partition: type(error) for partition, error in refused.items()} == {
        ("nowhere", 0): UnknownTopic,
        ("orders", 3): UnknownPartition,
        P1: OffsetMetadataTooLarge,
    }
    assert clocked.groups.committed("g") == {P0: at(2)}
    assert clocked.groups.commit_each("g", {("orders", 3): at(1)}).keys() == {("orders", 3)}
    assert end_offset(clocked) == 1


def test_a_commit_waits_for_the_disk_where_flush_messages_asks_for_it_and_others_leave_that_to_upkeep(
    clocked: ClockedStore,
) -> None:
    clocked.groups.commit("g", {P0: at(1)})
    clocked.store.alter_topic(OFFSETS_TOPIC, {"flush.messages": 2})
    log = clocked.store.log(OFFSETS_TOPIC)
    clocked.groups.commit("g", {P0: at(2)}, durability="os")
    assert log.synced_offset == 1
    clocked.groups.commit("g", {P0: at(3)}, durability="os")
    assert log.synced_offset == 3
    for _ in range(2):
        clocked.groups.commit_each("g", {P0: at(4)}, durability="os")
    assert log.synced_offset == 3
    flush_due(clocked.store._data_dir)
    assert log.synced_offset == 5


@pytest.mark.parametrize("arguments", [(None,), ({P0: "5"},), ({"orders": at(5)},)])
def test_offsets_of_a_wrong_form_are_refused(arguments: tuple[Any], clocked: ClockedStore) -> None:
    with pytest.raises(InvalidArgument):
        clocked.groups.commit("g", *arguments)
    with pytest.raises(InvalidArgument):
        clocked.groups.commit("g", {P0: at(1)}, durability="sometimes")


def test_while_one_waits_for_the_disk_others_of_its_group_commit_and_share_the_next_sync(
    clocked: ClockedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sync lasts until seven more commits are appended; one more sync serves them all."""
    groups = clocked.groups
    groups.commit("g", {P0: at(0)})
    log, sync, sync_count = clocked.store.log(OFFSETS_TOPIC), files.File.sync, [0]
    is_syncing, may_go_on = threading.Event(), threading.Event()

    def slow_sync(file: files.File) -> None:
        sync_count[0] += 1
        is_syncing.set()
        assert may_go_on.wait(PATIENCE_S)
        sync(file)

    monkeypatch.setattr(files.File, "sync", slow_sync)
    threads = [threading.Thread(target=groups.commit, args=("g", {P0: at(1)}))]
    threads[0].start()
    assert is_syncing.wait(PATIENCE_S)
    assert groups.committed("g") == {P0: at(1)}  # it is seen as soon as it is appended
    for number in range(2, 9):
        threads.append(threading.Thread(target=groups.commit, args=("g", {P0: at(number)})))
        threads[-1].start()
        assert log.wait(number, PATIENCE_S)
    may_go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sync_count[0] <= 3
    assert log.synced_offset == log.log_end_offset == 9


# --------------------------------------------------------------------------------------------------------------- expiry


def test_offsets_of_a_group_without_members_expire_each_a_week_after_its_commit(clocked: ClockedStore) -> None:
    clocked.groups.commit("g", {P0: at(1), P1: at(2)})
    clocked.passes(DAY_MS)
    clocked.groups.commit("g", {P1: at(3)})
    clocked.passes(6 * DAY_MS)
    for _ in range(2):
        assert clocked.groups.committed("g") == {P1: at(3)}
        clocked.reopen()
    clocked.passes(DAY_MS)
    for _ in range(2):
        assert clocked.groups.groups() == [] and clocked.groups.committed("g") == {}
        clocked.reopen()


def test_an_offset_that_was_committed_for_a_time_of_its_own_expires_then_also_when_opened_again(
    clocked: ClockedStore,
) -> None:
    clocked.groups.commit_each("g", {P0: at(1)}, retention_ms=DAY_MS)
    clocked.groups.commit_each("g", {P1: at(2)}, retention_ms=30 * DAY_MS)
    clocked.reopen()
    clocked.passes(DAY_MS)
    assert set(clocked.groups.committed("g")) == {P1}
    clocked.passes(29 * DAY_MS)
    assert clocked.groups.committed("g") == {}


def test_offsets_of_a_group_expire_a_week_after_its_last_member_left(clocked: ClockedStore) -> None:
    member = Member(clocked.groups).enter()
    clocked.groups.commit("g", {P0: at(1)}, **member.identity)
    for _ in range(20):
        clocked.passes(DAY_MS)
        member.member_id = ""
        member.enter()
    assert clocked.groups.committed("g") == {P0: at(1)}
    member.leave()
    clocked.passes(WEEK_MS - 1)
    assert clocked.groups.committed("g") == {P0: at(1)}
    clocked.reopen()
    clocked.passes(10 * 60_000)
    assert clocked.groups.describe("g").state == "Dead"


def test_offsets_of_topics_that_the_members_no_longer_read_expire(clocked: ClockedStore) -> None:
    clocked.groups.commit("g", {P0: at(1), ("other", 0): at(2)})
    member = Member(clocked.groups, session_timeout_ms=1_800_000).enter()
    for _ in range(7 * 72):
        clocked.passes(DAY_MS // 72)
        member.heartbeat()
    clocked.groups.expire_offsets()
    assert clocked.groups.committed("g") == {P0: at(1)}
    assert clocked.groups.describe("g").state == "Stable"


def test_a_wall_clock_that_jumps_ahead_makes_nothing_expire(clocked: ClockedStore) -> None:
    clocked.groups.commit("g", {P0: at(1)})
    clocked.now_ms += 3650 * DAY_MS
    clocked.groups.expire_offsets()
    assert clocked.groups.committed("g") == {P0: at(1)}


def test_the_check_comes_by_itself(tmp_path: Path) -> None:
    settings = {"offsets_retention_check_interval_ms": 5, "offsets_retention_minutes": 1}
    clocked = ClockedStore(tmp_path, **settings)
    try:
        clocked.store.create_topic("orders")
        clocked.groups.commit("g", {P0: at(1)})
        log = clocked.store.log(OFFSETS_TOPIC)
        clocked.now_ms += 60_000
        clocked.clock_ms += 60_000
        assert log.wait(1, PATIENCE_S)  # until the tombstone is there
        clocked.groups.describe("g")  # which waits for the group's lock
        assert clocked.groups.committed("g") == {}
    finally:
        clocked.close()


# ------------------------------------------------------------------------------------------------ topics that are gone


def test_the_offsets_of_a_deleted_topic_go_with_it_also_for_a_later_one_of_its_name(clocked: ClockedStore) -> None:
    clocked.groups.commit("g", {P0: at(1), P1: at(2), ("other", 0): at(3)})
    clocked.groups.commit("h", {P0: at(4)})
    clocked.store.delete_topic("orders")
    for _ in range(2):
        assert clocked.groups.committed("g") == {("other", 0): at(3)}
        assert [group.group for group in clocked.groups.groups()] == ["g"]
        clocked.reopen()
    clocked.store.create_topic("orders", partitions=3)
    assert clocked.groups.committed("g", [P0]) == {}


def test_groups_that_nobody_has_asked_for_yet_lose_the_offsets_of_a_deleted_topic_too(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("orders")
        store.groups.commit("g", {P0: at(1)})
    with logstore.open(tmp_path) as store:
        store.delete_topic("orders")
        store.create_topic("orders")
        assert store.groups.committed("g") == {}


def test_offsets_that_a_crash_left_of_a_deleted_topic_do_not_count_for_a_new_one(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("other")
        store.groups.commit("g", {("other", 0): at(1)})
        key, value = commit_record("g", P0, OffsetCommitValue(9, commit_timestamp=NOW))
        store.log(OFFSETS_TOPIC).append([value], keys=[key])
    with logstore.open(tmp_path) as store:
        assert set(store.groups.committed("g")) == {P0, ("other", 0)}  # shown: nobody can be misled by it yet
    with logstore.open(tmp_path) as store:
        store.create_topic("orders")
        assert set(store.groups.committed("g")) == {("other", 0)}
    with logstore.open(tmp_path) as store:
        assert set(store.groups.committed("g")) == {("other", 0)}


def test_topics_of_odd_names_are_refused_as_ever(clocked: ClockedStore) -> None:
    clocked.groups.commit("g", {P0: at(1)})
    for name in ([], None, 7):
        with pytest.raises(LogstoreError):
            clocked.store.create_topic(name)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- cleanup.policy=consumed


def test_segments_go_once_all_named_groups_have_committed_them(clocked: ClockedStore) -> None:
    store, groups = clocked.store, clocked.groups
    store.create_topic("work", cleanup_policy="consumed", consumed_groups="a,b")
    log = store.log("work")
    for _ in range(4):
        log.append([b"value"] * 10)
        log.roll()
    work = TopicPartition("work", 0)

    def start_after_retention() -> int:
        retain(clocked.data_dir)
        return log.log_start_offset

    assert start_after_retention() == 0
    groups.commit("a", {work: at(40)})
    groups.commit("c", {work: at(40)})
    assert start_after_retention() == 0
    groups.commit("b", {work: at(25)})
    assert start_after_retention() == 20
    groups.delete("a")  # which counts no more, so nothing of it is committed
    groups.commit("b", {work: at(40)})
    assert start_after_retention() == 20
    groups.commit("a", {work: at(30)})
    assert start_after_retention() == 30
    clocked.passes(WEEK_MS)
    groups.commit("b", {work: at(40)})
    assert groups.committed_of("work", 0) == {"b": 40}
    assert start_after_retention() == 30


def test_retention_loads_the_groups_where_a_topic_needs_them_and_only_there(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("work", retention_ms=-1)
        store.log("work").append([b"value"] * 10)
        store.log("work").roll()
        store.groups.commit("a", {("work", 0): at(10)})
    with logstore.open(tmp_path) as store:
        retain(store._data_dir)
        assert store._groups is None
        store.alter_topic("work", {"cleanup.policy": "consumed", "consumed.groups": "a", "retention.ms": None})
        retain(store._data_dir)
        assert store.log("work").log_start_offset == 10


def test_segments_go_only_by_commits_that_are_on_the_disk(clocked: ClockedStore) -> None:
    store = clocked.store
    store.create_topic("work", cleanup_policy="consumed", consumed_groups="a")
    store.log("work").append([b"value"] * 10)
    store.log("work").roll()
    clocked.groups.commit("a", {TopicPartition("work", 0): at(10)}, durability=logstore.Durability.OS)
    offsets_log = store.log("__consumer_offsets")
    assert offsets_log.synced_offset < offsets_log.log_end_offset
    retain(clocked.data_dir)
    assert store.log("work").log_start_offset == 10
    assert offsets_log.synced_offset == offsets_log.log_end_offset


# ------------------------------------------------------------------------------------------------- all of it, at random


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(0, 2), st.integers(0, 3), st.integers(0, 9)),
        st.tuples(st.just("forget"), st.integers(0, 2), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.integers(0, 2)),
        st.tuples(st.just("member"), st.integers(0, 2)),
        st.tuples(st.just("topic"), st.integers(0, 1)),
        st.tuples(st.just("passes"), st.integers(1, 5)),
        st.tuples(st.just("reopen")),
    ),
    max_size=25,
)
PARTITIONS = [TopicPartition("t0", 0), TopicPartition("t0", 1), TopicPartition("t1", 0), TopicPartition("t1", 1)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_whatever_is_done_what_is_stored_is_what_is_told(
    operations: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against a dictionary, and against the directory as a crash would leave it at any step."""
    clocked = ClockedStore(tmp_path_factory.mktemp("model") / "data")
    model: dict[str, dict[TopicPartition, tuple[int, int]]] = {"g0": {}, "g1": {}, "g2": {}}  # offset, time
    since = dict.fromkeys(model, -1)  # it has no members
    for topic in ("t0", "t1"):
        clocked.store.create_topic(topic, partitions=2)
    try:
        for what, *arguments in operations:
            group = f"g{arguments[0]}" if what in ("commit", "forget", "delete", "member") else ""
            if what == "commit":
                clocked.groups.commit(group, {PARTITIONS[arguments[1]]: at(arguments[2])}, durability="os")
                model[group][PARTITIONS[arguments[1]]] = arguments[2], clocked.now_ms
            elif what == "forget":
                with contextlib.suppress(UnknownGroup):
                    clocked.groups.delete_offsets(group, [PARTITIONS[arguments[1]]])
                model[group].pop(PARTITIONS[arguments[1]], None)
            elif what == "delete":
                with contextlib.suppress(UnknownGroup):
                    clocked.groups.delete(group)
                model[group], since[group] = {}, -1
            elif what == "member":
                Member(clocked.groups, group, "t0").enter().leave()
                since[group] = clocked.now_ms
            elif what == "topic":
                clocked.store.delete_topic(f"t{arguments[0]}")
                clocked.store.create_topic(f"t{arguments[0]}", partitions=2)
                for commits in model.values():
                    for key in [key for key in commits if key.topic == f"t{arguments[0]}"]:
                        del commits[key]
            elif what == "passes":
                clocked.passes(arguments[0] * DAY_MS)
                for group, commits in model.items():
                    for key, (_, time_ms) in list(commits.items()):
                        if clocked.now_ms - max(time_ms, since[group]) >= WEEK_MS:
                            del commits[key]
                    since[group] = since[group] if commits else -1
            else:
                clocked.reopen()
            with logstore.open(clocked.path, read_only=True) as reader:
                for seen in (clocked.groups, reader.groups):
                    told = {group: seen.committed(group) for group in model}
                    assert told == {g: {key: at(offset) for key, (offset, _) in c.items()} for g, c in model.items()}
                assert clocked.groups.groups() == reader.groups.groups()
    finally:
        clocked.close()


def test_a_group_with_more_offsets_than_a_batch_has_room_for_is_deleted(clocked: ClockedStore) -> None:
    clocked.store.create_topic("wide", partitions=200)
    name = "a group of a long name " * 1_000
    for first in range(0, 200, 20):
        clocked.groups.commit(name, {("wide", number): at(1) for number in range(first, first + 20)}, durability="os")
    clocked.groups.delete(name)
    clocked.reopen()
    assert clocked.groups.groups() == []
