"""Groups of a real directory: members come, sync, are heard of, go; what is stored of them, and who is told what."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

import logstore
from group_members import NOW, PATIENCE_S, ClockedStore, Member
from kafka_oracle import KafkaOracle
from logstore.errors import (
    Closed,
    GroupNotEmpty,
    IllegalGeneration,
    InvalidArgument,
    InvalidGroupId,
    RebalanceInProgress,
    SubscribedToTopic,
    UnknownGroup,
    UnknownMember,
)
from logstore.format.filename import TopicPartition
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.groups.requests import JoinReply, JoinRequest, LeavingMember, OffsetAndMetadata, SyncReply, SyncRequest

P0 = TopicPartition("orders", 0)
WEEK_MS = 7 * 24 * 3_600_000
PLAIN: dict[str, Any] = {
    "protocol_type": "consumer",
    "protocols": (("range", b""),),
    "session_timeout_ms": 10_000,
    "rebalance_timeout_ms": 60_000,
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[logstore.Store]:
    with logstore.open(tmp_path / "data") as opened:
        opened.create_topic("orders", partitions=3)
        opened.create_topic("other")
        yield opened


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[ClockedStore]:
    opened = ClockedStore(tmp_path / "data")
    opened.store.create_topic("orders", partitions=3)
    yield opened
    opened.close()


def wait_for_state(groups: Any, group: str, state: str) -> None:
    end = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if groups.describe(group).state == state:
            return
        end.wait(0.01)
    raise AssertionError(f"group {group} is {groups.describe(group).state}, not {state}")


# ---------------------------------------------------------------------------------------------------------- membership


def test_a_member_joins_syncs_is_heard_of_commits_and_leaves(store: logstore.Store) -> None:
    groups = store.groups
    assert groups.describe("g").state == "Dead"
    member = Member(groups)
    joined = member.join()
    assert joined.leader == member.member_id and [one.member_id for one in joined.members] == [member.member_id]
    assert member.member_id.startswith("client-")
    assert groups.describe("g").state == "CompletingRebalance"
    assert member.sync({member.member_id: b"all of it"}).assignment == b"all of it"
    member.heartbeat()
    groups.commit("g", {P0: OffsetAndMetadata(5, "text", 3)}, **member.identity)
    described = groups.describe("g")
    assert (described.state, described.protocol_type, described.protocol) == ("Stable", "consumer", "range")
    assert [(one.member_id, one.assignment) for one in described.members] == [(member.member_id, b"all of it")]
    assert member.leave() is None
    assert groups.describe("g").state == "Empty"
    assert groups.committed("g") == {P0: OffsetAndMetadata(5, "text", 3)}
    assert type(member.leave()) is UnknownMember


def test_two_members_of_two_threads_share_a_generation(store: logstore.Store) -> None:
    first, second = Member(store.groups).enter(), Member(store.groups)
    second.ask_to_join()
    with pytest.raises(RebalanceInProgress):
        first.heartbeat()
    first.ask_to_join()
    assert first.reply().generation == second.reply().generation == 2
    second.ask_to_sync()
    assert second.replies.empty()
    first.ask_to_sync(**{first.member_id: b"one", second.member_id: b"two"})
    assert (first.reply().assignment, second.reply().assignment) == (b"one", b"two")


def test_stale_generations_and_strangers_are_refused(store: logstore.Store) -> None:
    groups = store.groups
    first = Member(groups).enter()
    commit = {P0: OffsetAndMetadata(1)}
    with pytest.raises(IllegalGeneration):
        groups.commit("g", commit, member_id=first.member_id, generation=0)
    with pytest.raises(UnknownMember):
        groups.commit("g", commit, member_id="a stranger", generation=first.generation)
    with pytest.raises(UnknownMember):
        groups.commit("g", commit)  # a group with members is not for those who only keep offsets there
    with pytest.raises(IllegalGeneration):
        groups.commit("nobody's", commit, member_id=first.member_id, generation=1)
    with pytest.raises(UnknownMember):
        groups.heartbeat("nobody's", first.member_id, 1)
    assert [group.group for group in groups.groups()] == ["g"]
    assert groups.committed("g") == groups.committed("nobody's") == {}


def test_requests_of_groups_that_nobody_knows_leave_no_trace(store: logstore.Store) -> None:
    groups = store.groups
    stranger = Member(groups, "nobody's")
    stranger.member_id = "stranger"
    for ask in (stranger.ask_to_join, stranger.ask_to_sync):
        ask()
        with pytest.raises(UnknownMember):
            stranger.reply()
    assert type(stranger.leave()) is UnknownMember
    groups.commit("nobody's", {})
    assert groups.groups() == []


@pytest.mark.parametrize("group", ["", None, 7, b"g", "\ud800"])
def test_what_is_no_group_id_is_refused_everywhere(group: Any, store: logstore.Store) -> None:
    groups = store.groups
    calls = [
        lambda: groups.heartbeat(group, "m", 1),
        lambda: groups.leave(group, []),
        lambda: groups.commit(group, {}),
        lambda: groups.commit_each(group, {}),
        lambda: groups.committed(group),
        lambda: groups.describe(group),
        lambda: groups.delete(group),
        lambda: groups.delete_offsets(group, []),
        lambda: Member(groups, group).join(),
        lambda: Member(groups, group).sync(),
    ]
    for call in calls:
        with pytest.raises(InvalidGroupId):
            call()


def test_a_callback_may_call_the_coordinator(store: logstore.Store) -> None:
    done: Queue[Any] = Queue()

    def sync_at_once(reply: Any) -> None:
        given = ((reply.member_id, b"mine"),)
        store.groups.sync(SyncRequest("g", reply.member_id, reply.generation, given), done.put)

    store.groups.join(JoinRequest("g", "", **PLAIN), sync_at_once)
    assert isinstance(done.get(timeout=PATIENCE_S), SyncReply)


def test_a_callback_that_raises_costs_no_other_its_reply(
    store: logstore.Store, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(reply: Any) -> None:
        raise RuntimeError("a callback of the test")

    first, last = Member(store.groups).enter(), Member(store.groups)
    store.groups.join(JoinRequest("g", "", **PLAIN), fails)
    last.ask_to_join()
    first.ask_to_join()
    assert first.reply().generation == last.reply().generation == 2
    assert "a callback of the test" in caplog.text


def test_many_groups_go_on_at_the_same_time(store: logstore.Store) -> None:
    groups = store.groups
    errors: list[BaseException] = []

    def live(number: int) -> None:
        try:
            for turn in range(5):
                member = Member(groups, f"g{number % 5}")
                member.ask_to_join()
                reply = member.replies.get(timeout=PATIENCE_S)
                while not isinstance(reply, JoinReply):
                    member.ask_to_join()
                    reply = member.replies.get(timeout=PATIENCE_S)
                member.member_id, member.generation = reply.member_id, reply.generation
                groups.commit(f"own{number}", {P0: OffsetAndMetadata(turn)}, durability="os")
                member.leave()
        except BaseException as error:  # noqa: BLE001  # told below
            errors.append(error)

    threads = [threading.Thread(target=live, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
    assert not errors and not any(thread.is_alive() for thread in threads)
    assert {groups.describe(f"g{number}").state for number in range(5)} == {"Empty"}
    assert [groups.committed(f"own{number}")[P0].offset for number in range(20)] == [4] * 20


# ---------------------------------------------------------------------------------------------------------------- time


def test_a_member_that_is_not_heard_of_is_taken_out_at_the_end_of_its_session(clocked: ClockedStore) -> None:
    member = Member(clocked.groups).enter()
    clocked.passes(9_999)
    member.heartbeat()
    clocked.passes(9_999)
    assert clocked.groups.describe("g").state == "Stable"
    clocked.passes(1)
    assert clocked.groups.describe("g").state == "Empty"
    with pytest.raises(UnknownMember):
        member.heartbeat()


def test_the_coordinators_thread_ends_sessions_by_itself(tmp_path: Path) -> None:
    with logstore.open(tmp_path, group_min_session_timeout_ms=1) as store:
        store.create_topic("orders")
        quiet = Member(store.groups, session_timeout_ms=100).enter()
        waiting = Member(store.groups)
        waiting.ask_to_join()
        assert waiting.reply().generation == quiet.generation + 1
        assert [member.member_id for member in store.groups.describe("g").members] == [waiting.member_id]


def test_a_shorter_session_that_comes_later_ends_in_time(tmp_path: Path) -> None:
    with logstore.open(tmp_path, group_min_session_timeout_ms=1) as store:
        Member(store.groups, "long", session_timeout_ms=1_000_000).enter()
        Member(store.groups, "short", session_timeout_ms=50).enter()
        wait_for_state(store.groups, "short", "Empty")
        assert store.groups.describe("long").state == "Stable"


# --------------------------------------------------------------------------------------------------- after a crash


def test_members_of_a_process_that_is_gone_do_not_keep_new_ones_waiting(clocked: ClockedStore, tmp_path: Path) -> None:
    member = Member(clocked.groups).enter()
    clocked.groups.commit("g", {P0: OffsetAndMetadata(7)}, **member.identity)
    shutil.copytree(clocked.path, tmp_path / "copy")
    again = ClockedStore(tmp_path / "copy")
    try:
        assert again.groups.describe("g").state == "Empty"
        with pytest.raises(UnknownMember):
            again.groups.heartbeat("g", member.member_id, member.generation)
        newcomer = Member(again.groups)
        assert newcomer.join().generation > member.generation
        assert again.groups.committed("g") == {P0: OffsetAndMetadata(7)}
    finally:
        again.close()


def test_members_of_a_broker_go_on_after_its_crash_or_expire_by_their_sessions(
    clocked: ClockedStore, tmp_path: Path
) -> None:
    first, second = Member(clocked.groups).enter(), Member(clocked.groups, "other").enter()
    shutil.copytree(clocked.path, tmp_path / "copy")
    again = ClockedStore(tmp_path / "copy", keeps_members=True)
    try:
        first.coordinator = second.coordinator = again.groups
        again.passes(9_999)
        first.heartbeat()
        assert first.sync().assignment == b"all"
        again.groups.commit("g", {P0: OffsetAndMetadata(7)}, **first.identity)
        again.passes(9_999)
        assert again.groups.describe("g").state == "Stable"
        assert again.groups.describe("other").state == "Empty"
    finally:
        again.close()


def test_a_group_that_lost_its_members_in_a_crash_is_empty_since_it_was_first_opened_again(
    clocked: ClockedStore, tmp_path: Path
) -> None:
    member = Member(clocked.groups).enter()
    clocked.groups.commit("g", {P0: OffsetAndMetadata(7)}, **member.identity)
    shutil.copytree(clocked.path, tmp_path / "copy")
    again = ClockedStore(tmp_path / "copy", now_ms=NOW + 30 * WEEK_MS)
    try:
        again.passes(WEEK_MS - 1)
        assert P0 in again.groups.committed("g")
        again.reopen()
        assert P0 in again.groups.committed("g")
        again.passes(10 * 60_000)
        assert again.groups.committed("g") == {}
    finally:
        again.close()


# ------------------------------------------------------------------------------------------------------------ deleting


def test_a_group_is_deleted_when_it_has_no_members_and_stays_so(clocked: ClockedStore) -> None:
    groups = clocked.groups
    with pytest.raises(UnknownGroup):
        groups.delete("g")
    member = Member(groups).enter()
    groups.commit("g", {P0: OffsetAndMetadata(7)}, **member.identity)
    with pytest.raises(GroupNotEmpty) as raised:
        groups.delete("g")
    assert raised.value.member_count == 1
    member.leave()
    groups.delete("g")
    log = clocked.store.log(OFFSETS_TOPIC)
    assert log.synced_offset == log.log_end_offset
    for _ in range(2):
        assert clocked.groups.describe("g").state == "Dead"
        assert clocked.groups.groups() == [] and clocked.groups.committed("g") == {}
        clocked.reopen()
    assert Member(clocked.groups).join().generation == 1


def test_offsets_of_topics_that_members_read_cannot_be_deleted(clocked: ClockedStore) -> None:
    clocked.store.create_topic("other")
    groups, other = clocked.groups, TopicPartition("other", 0)
    with pytest.raises(UnknownGroup):
        groups.delete_offsets("g", [P0])
    groups.commit("g", {P0: OffsetAndMetadata(1), other: OffsetAndMetadata(2)})
    member = Member(groups).enter()
    with pytest.raises(SubscribedToTopic):
        groups.delete_offsets("g", [other, P0])
    assert set(groups.committed("g")) == {P0, other}
    groups.delete_offsets("g", [other, TopicPartition("orders" + "-not", 9)])
    assert set(groups.committed("g")) == {P0}
    member.leave()
    groups.delete_offsets("g", [("orders", 0)])
    clocked.reopen()
    assert clocked.groups.committed("g") == {}
    connect = (("default", b"no subscription of a consumer"),)
    Member(clocked.groups, "connect", protocol_type="connect", protocols=connect).enter()
    with pytest.raises(GroupNotEmpty):
        clocked.groups.delete_offsets("connect", [P0])


def test_of_the_offsets_to_delete_those_of_topics_that_are_read_stay_and_are_told(clocked: ClockedStore) -> None:
    clocked.store.create_topic("other")
    groups, other = clocked.groups, TopicPartition("other", 0)
    groups.commit("g", {P0: OffsetAndMetadata(1), other: OffsetAndMetadata(2)})
    member = Member(groups).enter()
    refused = groups.delete_offsets_each("g", [other, P0, other])
    assert {key: type(error) for key, error in refused.items()} == {P0: SubscribedToTopic}
    assert set(groups.committed("g")) == {P0}
    member.leave()
    assert groups.delete_offsets_each("g", [P0]) == {}
    with pytest.raises(UnknownGroup):
        groups.delete_offsets_each("never heard of", [P0])


def test_the_topic_of_the_groups_is_made_before_it_is_needed_and_once(tmp_path: Path) -> None:
    clocked = ClockedStore(tmp_path / "data", offsets_topic_num_partitions=4)
    assert not clocked.groups.is_ready
    threads = [threading.Thread(target=clocked.groups.get_ready) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clocked.groups.is_ready and clocked.store.topic(OFFSETS_TOPIC).partitions == 4
    log = clocked.groups.log_of("g")
    Member(clocked.groups).enter()
    assert log.log_end_offset == 1  # the metadata of the group
    clocked.reopen()
    assert clocked.groups.is_ready
    clocked.close()


def test_the_topic_of_the_offsets_is_neither_deleted_nor_given_other_partitions(store: logstore.Store) -> None:
    store.groups.commit("g", {P0: OffsetAndMetadata(1)})
    with pytest.raises(InvalidArgument, match="offsets of all groups"):
        store.delete_topic(OFFSETS_TOPIC)
    with pytest.raises(InvalidArgument, match="wrong ones"):
        store.alter_topic(OFFSETS_TOPIC, partitions=2)
    store.alter_topic(OFFSETS_TOPIC, {"max.message.bytes": 10_000_000})
    assert store.groups.committed("g")


# ------------------------------------------------------------------------------------------------------------- the end


def test_who_waits_when_the_store_is_closed_is_told_so(tmp_path: Path) -> None:
    store = logstore.open(tmp_path)
    store.create_topic("orders")
    groups = store.groups
    first, joins, syncs = Member(groups).enter(), Member(groups), Member(groups, "h")
    joins.ask_to_join()
    leader = Member(groups, "h")
    leader.join()
    syncs.ask_to_join()
    leader.ask_to_join()
    leader.reply(), syncs.reply()
    syncs.ask_to_sync()
    store.close()
    for member in (joins, syncs):
        with pytest.raises(Closed):
            member.reply()
    for ask in (joins.ask_to_join, syncs.ask_to_sync):
        ask()
    for member in (joins, syncs):
        with pytest.raises(Closed):
            member.reply()
    calls = [
        first.heartbeat,
        first.leave,
        groups.groups,
        lambda: groups.commit("g", {P0: OffsetAndMetadata(1)}),
        lambda: groups.committed("g"),
        lambda: groups.committed_of("orders", 0),
        lambda: groups.describe("g"),
        lambda: groups.delete("g"),
        lambda: groups.expire_offsets(),
        lambda: store.create_topic("late"),
    ]
    for call in calls:
        with pytest.raises(Closed):
            call()
    groups.close()
    store.close()
    assert not [thread for thread in threading.enumerate() if "logstore-groups" in thread.name]


def test_a_store_that_was_closed_has_no_groups(tmp_path: Path) -> None:
    store = logstore.open(tmp_path)
    store.close()
    with pytest.raises(Closed):
        _ = store.groups


def test_a_store_without_groups_starts_no_thread_and_makes_no_topic(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("orders")
        store.delete_topic("orders")
        assert not [thread for thread in threading.enumerate() if "logstore-groups" in thread.name]
        assert store.groups.groups() == [] and store.topics() == []


# -------------------------------------------------------------------------------------------------------- from outside


def test_a_reader_beside_the_owner_sees_groups_and_offsets_and_changes_nothing(store: logstore.Store) -> None:
    member = Member(store.groups, "members").enter()
    store.groups.commit("members", {P0: OffsetAndMetadata(5)}, **member.identity)
    store.groups.commit("lone", {("orders", 2): OffsetAndMetadata(7, "by hand")})
    store.flush()
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    with logstore.open(store.path, read_only=True) as reader:
        seen = reader.groups
        assert [(group.group, group.state) for group in seen.groups()] == [("lone", "Empty"), ("members", "Stable")]
        assert seen.describe("members") == store.groups.describe("members")
        assert seen.describe("lone") == store.groups.describe("lone")
        assert seen.describe("nobody's") == store.groups.describe("nobody's")
        for group in ("members", "lone", "nobody's"):
            assert seen.committed(group) == store.groups.committed(group)
        assert seen.committed("lone", [("orders", 2), ("orders", 0)]) == {
            ("orders", 2): OffsetAndMetadata(7, "by hand")
        }
        assert seen.committed_of("orders", 0) == {"members": 5}
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*")} == before


def test_a_reader_of_a_directory_without_groups_sees_none(tmp_path: Path) -> None:
    logstore.open(tmp_path).close()
    with logstore.open(tmp_path, read_only=True) as reader:
        assert reader.groups.groups() == []


@pytest.mark.kafka
def test_kafkas_tool_reads_what_a_groups_life_leaves(kafka: KafkaOracle, store: logstore.Store) -> None:
    groups = store.groups
    member = Member(groups, instance_id="instance-1").enter()
    groups.commit(
        "g", {P0: OffsetAndMetadata(5, "half way", 2), ("orders", 1): OffsetAndMetadata(6)}, **member.identity
    )
    assert groups.leave("g", [LeavingMember("", "instance-1")]) == [None]
    groups.delete_offsets("g", [("orders", 1)])
    groups.delete("g")
    store.flush()
    dump = kafka.dump_log_segments(*(store.path / f"{OFFSETS_TOPIC}_0").glob("*.log"), decoder="offsets")
    assert dump.problems == []
    records = dump.records()
    kinds = [(str(record.key)[:11], record.value_size < 0) for record in records]
    commit_key, group_key = '{"type":"1"', '{"type":"2"'
    assert kinds == [
        (group_key, False),  # Stable
        (commit_key, False),
        (commit_key, False),
        (group_key, False),  # Empty
        (commit_key, True),
        (commit_key, True),
        (group_key, True),
    ]
    assert f'"memberId":"{member.member_id}"' in str(records[0].value)
    assert '"groupInstanceId":"instance-1"' in str(records[0].value)
    assert '"leaderEpoch":2' in str(records[1].value)
    assert '"members":[]' in str(records[3].value)
