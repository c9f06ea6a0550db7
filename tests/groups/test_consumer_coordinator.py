"""Consumer groups of a real directory whose partitions the coordinator hands out: what is stored, loaded and shared
with everything else that groups are for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import logstore
from group_members import ClockedStore, Member
from kafka_oracle import KafkaOracle
from logstore.errors import (
    FencedInstance,
    GroupNotEmpty,
    InconsistentProtocol,
    StaleMemberEpoch,
    StorageFailure,
    SubscribedToTopic,
    UnknownGroup,
    UnknownMember,
)
from logstore.format.consumer_protocol import decode_assignment, decode_subscription
from logstore.format.filename import TopicPartition
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.groups.requests import (
    CONSUMER,
    ConsumerHeartbeat,
    ConsumerReply,
    GroupSummary,
    LeavingMember,
    OffsetAndMetadata,
)

P0 = TopicPartition("orders", 0)
DAY_MS = 24 * 3_600_000


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[ClockedStore]:
    opened = ClockedStore(tmp_path / "data", keeps_members=True)
    opened.store.create_topic("orders", partitions=3)
    yield opened
    opened.close()


def join(clocked: ClockedStore, member_id: str = "m", group: str = "g", *topics: str) -> ConsumerReply:
    return clocked.groups.consumer_heartbeat(
        ConsumerHeartbeat(
            group,
            member_id,
            0,
            rebalance_timeout_ms=60_000,
            topics=topics or ("orders",),
            owned=frozenset(),
            client_id="client",
        )
    )


def beat(clocked: ClockedStore, reply: ConsumerReply, group: str = "g") -> ConsumerReply:
    owned = reply.assigned or frozenset()
    return clocked.groups.consumer_heartbeat(ConsumerHeartbeat(group, reply.member_id, reply.epoch, owned=owned))


def leave(clocked: ClockedStore, member_id: str = "m", group: str = "g") -> None:
    clocked.groups.consumer_heartbeat(ConsumerHeartbeat(group, member_id, -1))


def test_a_member_joins_is_described_commits_and_leaves(clocked: ClockedStore) -> None:
    groups = clocked.groups
    reply = join(clocked)
    assert reply.assigned is not None and sorted(number for _, number in reply.assigned) == [0, 1, 2]
    groups.commit("g", {P0: 5}, member_id="m", generation=reply.epoch)
    described = groups.describe("g")
    assert described[:5] == ("g", "Stable", "consumer", "uniform", 1) and described.kind == CONSUMER
    [member] = described.members
    assert decode_subscription(member.subscription).topics == ("orders",)
    assert decode_assignment(member.assignment).partitions == tuple(TopicPartition("orders", n) for n in range(3))
    assert groups.groups() == [described]
    assert groups.summaries() == [GroupSummary("g", "Stable", "consumer", CONSUMER, 1)]
    assert groups.describe_consumer_group("g").members[0].member_id == "m"
    leave(clocked)
    assert groups.describe("g").state == "Empty"
    assert groups.committed("g") == {P0: OffsetAndMetadata(5)}


def test_members_go_on_after_a_restart_where_they_may_be_there(clocked: ClockedStore) -> None:
    reply = join(clocked)
    before = clocked.groups.describe("g")
    clocked.reopen()
    assert clocked.groups.describe("g") == before
    assert beat(clocked, reply).epoch == 1
    clocked.passes(45_000)
    assert clocked.groups.describe("g").state == "Empty"


def test_members_of_a_process_that_is_gone_are_taken_out(tmp_path: Path) -> None:
    clocked = ClockedStore(tmp_path / "data")
    clocked.store.create_topic("orders", partitions=3)
    join(clocked)
    for _ in range(2):
        clocked.reopen()
        described = clocked.groups.describe("g")
        assert (described.state, described.generation, described.members) == ("Empty", 2, ())
    clocked.close()
    with logstore.open(tmp_path / "data") as store:
        with store.consumer("orders", group="g", auto_offset_reset="earliest") as consumer:
            consumer.poll(timeout=0)
            assert store.groups.describe("g").kind == "classic"


def test_a_group_is_of_one_kind_while_it_has_members_and_of_either_when_it_has_none(clocked: ClockedStore) -> None:
    groups = clocked.groups
    classic = Member(groups).enter()
    groups.commit("g", {P0: 1}, **classic.identity)
    with pytest.raises(UnknownGroup):
        join(clocked)
    classic.leave()
    assert join(clocked).epoch == 1
    with pytest.raises(InconsistentProtocol):
        Member(groups).join()
    with pytest.raises(UnknownMember):
        classic.heartbeat()
    with pytest.raises(UnknownMember):
        classic.sync()
    clocked.reopen()
    assert clocked.groups.describe("g").kind == CONSUMER
    leave(clocked)
    Member(clocked.groups).enter()
    clocked.reopen()
    assert clocked.groups.describe("g").kind == "classic" and clocked.groups.describe("g").state == "Stable"
    assert clocked.groups.committed("g") == {P0: OffsetAndMetadata(1)}


def test_an_administrator_takes_members_out(clocked: ClockedStore) -> None:
    groups = clocked.groups
    for number in range(3):
        instance_id = f"i{number}" if number else None
        groups.consumer_heartbeat(
            ConsumerHeartbeat("g", f"m{number}", 0, instance_id, None, 60_000, ("orders",), owned=frozenset())
        )
    leaving = [LeavingMember("m0"), LeavingMember("", "i1"), LeavingMember("m0", "i2"), LeavingMember("stranger")]
    errors = groups.leave("g", leaving)
    assert [type(error) for error in errors] == [type(None), type(None), FencedInstance, UnknownMember]
    assert [member.member_id for member in groups.describe("g").members] == ["m2"]
    with pytest.raises(UnknownMember):
        groups.consumer_heartbeat(ConsumerHeartbeat("g", "m0", 1))
    clocked.reopen()
    assert [member.member_id for member in clocked.groups.describe("g").members] == ["m2"]


def test_a_refused_member_leaves_nothing_behind(clocked: ClockedStore) -> None:
    with pytest.raises(UnknownGroup):
        beat(clocked, ConsumerReply("m", 1))
    assert clocked.groups.groups() == []
    with pytest.raises(UnknownGroup):
        clocked.groups.describe_consumer_group("g")
    Member(clocked.groups, "classic").enter()
    with pytest.raises(UnknownGroup):
        clocked.groups.describe_consumer_group("classic")


def test_offsets_are_for_members_in_their_epoch(clocked: ClockedStore) -> None:
    groups = clocked.groups
    reply = join(clocked)
    with pytest.raises(StaleMemberEpoch):
        groups.commit("g", {P0: 1}, member_id="m", generation=reply.epoch + 1)
    with pytest.raises(UnknownMember):
        groups.commit("g", {P0: 1})
    groups.commit("g", {P0: 1}, member_id="m", generation=1)
    assert groups.committed("g", member_id="m", epoch=1) == groups.committed("g")
    with pytest.raises(StaleMemberEpoch):
        groups.committed("g", member_id="m", epoch=0)
    with pytest.raises(UnknownMember):
        groups.committed("g", member_id="a stranger", epoch=1)
    with pytest.raises(SubscribedToTopic):
        groups.delete_offsets("g", [P0])
    with pytest.raises(GroupNotEmpty):
        groups.delete("g")
    leave(clocked)
    groups.delete("g")
    clocked.reopen()
    assert clocked.groups.groups() == []


def test_offsets_of_what_is_read_do_not_expire_and_an_empty_group_goes(clocked: ClockedStore) -> None:
    clocked.store.create_topic("other")
    groups = clocked.groups
    reply = join(clocked)
    groups.commit("g", {P0: 1, ("other", 0): 2}, member_id="m", generation=1)
    for _ in range(8 * 24 * 90):
        clocked.passes(40_000)
        reply = beat(clocked, reply)._replace(assigned=reply.assigned)
    assert set(groups.committed("g")) == {P0}
    leave(clocked)
    clocked.passes(8 * DAY_MS)
    assert groups.groups() == []


def test_a_change_that_cannot_be_stored_has_not_happened(
    clocked: ClockedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = join(clocked)
    before = clocked.groups.describe("g")
    with monkeypatch.context() as patched:

        def fail(*arguments: object, **options: object) -> None:
            raise StorageFailure("there", "write", 28, "no space")

        patched.setattr(clocked.groups.log_of("g"), "append_batch", fail)
        with pytest.raises(StorageFailure):
            join(clocked, "another")
        with pytest.raises(StorageFailure):
            join(clocked, "m", "a new group")
        with pytest.raises(StorageFailure):
            leave(clocked)
        clocked.passes(45_000)  # nor are late members taken out, but once they can be
        assert clocked.groups.describe("g") == before
        assert [group.group for group in clocked.groups.groups()] == ["g"]
    clocked.passes(1_000)
    assert clocked.groups.describe("g").state == "Empty"
    with pytest.raises(UnknownMember):
        beat(clocked, reply)


def test_who_only_looks_sees_members(clocked: ClockedStore, tmp_path: Path) -> None:
    join(clocked)
    with logstore.open(tmp_path / "data", read_only=True) as looked_at:
        assert looked_at.groups.describe("g") == clocked.groups.describe("g")


@pytest.mark.kafka
def test_kafkas_tool_reads_the_records_of_a_group_of_ours(
    kafka: KafkaOracle, clocked: ClockedStore, tmp_path: Path
) -> None:
    reply = join(clocked)
    join(clocked, "another")
    beat(clocked, reply)
    leave(clocked, "another")
    clocked.close()
    dump = kafka.dump_log_segments(tmp_path / "data" / f"{OFFSETS_TOPIC}_0" / f"{0:020}.log", decoder="offsets")
    kinds = {kind for kind in ("GROUP_METADATA", "consumer", "memberEpoch") if kind.lower() in str(dump).lower()}
    assert "memberEpoch" in kinds
    clocked.open()
