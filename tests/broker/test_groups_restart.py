"""Groups and offsets outlive the broker, and are the same for embedded consumers of the directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import logstore
from logstore.format.consumer_protocol import Assignment, encode_assignment
from logstore.format.filename import TopicPartition
from logstore.groups.requests import OffsetAndMetadata
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.describe_groups import DescribeGroupsRequest
from logstore.wire.messages.list_groups import ListGroupsRequest
from waits import wait_until
from wire_client import WireClient
from wire_members import GroupBroker, WireMember, commit, fetch

PARTITIONS = [TopicPartition("orders", number) for number in range(3)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def restarted(data: Path) -> Iterator[GroupBroker]:
    """A test stops it and starts it again as it likes."""
    broker = GroupBroker(data).start()
    yield broker
    broker.stop()


def test_members_and_offsets_are_there_when_the_broker_is_back(restarted: GroupBroker) -> None:
    member, static = restarted.member("dynamic").enter(), restarted.member("static", instance_id="i").enter()
    assert member.commit({("orders", 0): 5}) == {("orders", 0): ErrorCode.NONE}
    identities = [(one.group, one.member_id, one.generation, one.instance_id) for one in (member, static)]
    restarted.stop()
    restarted.start()
    for group, member_id, generation, instance_id in identities:
        back = restarted.member(group, instance_id=instance_id)
        back.member_id, back.generation = member_id, generation
        assert back.heartbeat() == ErrorCode.NONE
        assert bytes(back.sync().assignment) == b"all"
        assert set(back.commit({("orders", 1): 7}).values()) == {ErrorCode.NONE}
    with WireClient(restarted.address) as client:
        assert fetch(client, "dynamic") == {("orders", 0): 5, ("orders", 1): 7}


def test_a_static_member_that_comes_back_after_the_broker_did_causes_no_rebalance(restarted: GroupBroker) -> None:
    former = restarted.member(instance_id="i").enter()
    former_id = former.member_id
    restarted.stop()
    restarted.start()
    back = restarted.member(instance_id="i")
    joined = back.join()
    assert (joined.error_code, joined.generation_id, joined.skip_assignment) == (0, 1, True)
    assert joined.member_id != former_id
    assert bytes(back.sync().assignment) == b"all"


def test_a_member_that_is_gone_when_the_broker_is_back_is_taken_out_after_its_session(restarted: GroupBroker) -> None:
    restarted.member(session_timeout_ms=100).enter()
    restarted.stop()
    restarted.start()
    wait_until(lambda: restarted.broker.groups.describe("g").state == "Empty")


def test_a_member_that_waits_for_others_is_told_when_the_broker_stops(restarted: GroupBroker) -> None:
    restarted.member().enter()
    waiting = restarted.member()
    waiting.ask_to_join()
    wait_until(lambda: restarted.broker.groups.describe("g").state == "PreparingRebalance")
    restarted.stop(keeps=waiting)
    assert waiting.joined().error_code == ErrorCode.NOT_COORDINATOR
    waiting.close()
    restarted.start()
    assert restarted.broker.groups.describe("g").state == "Stable"  # the member of before may go on


def test_what_embedded_consumers_committed_the_broker_serves_and_the_other_way_round(
    restarted: GroupBroker, data: Path
) -> None:
    restarted.stop()
    with logstore.open(data) as store:
        for partition in range(3):
            for number in range(4):
                store.producer().send("orders", b"%d" % number, partition=partition).result()
        with store.consumer("orders", group="g", auto_offset_reset="earliest", enable_auto_commit=False) as consumer:
            read = 0
            while read < 12:
                read += len(consumer.poll(timeout=1.0))
            consumer.commit()
        store.groups.commit("kept only", {PARTITIONS[0]: OffsetAndMetadata(2, "two")})
    restarted.start()
    with WireClient(restarted.address) as client:
        assert fetch(client, "g") == {("orders", number): 4 for number in range(3)}
        assert fetch(client, "kept only") == {("orders", 0): 2}
        [described] = client.ask(DescribeGroupsRequest(["g"]), 5).groups
        assert (described.group_state, described.protocol_type, described.members) == ("Empty", "consumer", ())
        assert {one.group_id for one in client.ask(ListGroupsRequest(), 5).groups} == {"g", "kept only"}
        commit(client, "kept only", {("orders", 0): 3})
    wire_member = restarted.member()
    assert wire_member.join().generation_id > 1
    assignment = encode_assignment(Assignment(tuple(PARTITIONS)))
    assert wire_member.sync({wire_member.member_id: assignment}).error_code == ErrorCode.NONE
    wire_member.commit({("orders", 0): 1, ("orders", 1): 2})
    restarted.stop()
    with logstore.open(data) as store:
        assert store.groups.committed("kept only")[PARTITIONS[0]].offset == 3
        assert store.groups.describe("g").state == "Empty"  # no member of the broker's is left
        with store.consumer("orders", group="g", enable_auto_commit=False) as consumer:
            records: list[logstore.Record] = []
            while len(records) < 5:
                records += consumer.poll(timeout=1.0)
        assert sorted((record.partition, record.offset) for record in records) == [
            (0, 1),
            (0, 2),
            (0, 3),
            (1, 2),
            (1, 3),
        ]
    restarted.start()


def test_a_directory_that_is_only_looked_at_shows_the_brokers_groups(restarted: GroupBroker, data: Path) -> None:
    member: WireMember = restarted.member().enter()
    member.commit({("orders", 2): 9})
    with logstore.open(data, read_only=True) as looked_at:
        described = looked_at.groups.describe("g")
        assert described.state == "Stable" and [one.assignment for one in described.members] == [b"all"]
        assert looked_at.groups.committed("g")[PARTITIONS[2]].offset == 9
