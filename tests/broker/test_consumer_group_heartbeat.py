"""Consumer groups whose partitions the broker hands out, over the wire: requests, errors, and APIs that see them."""

from collections.abc import Mapping
from typing import Any

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from logstore.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from logstore.wire.messages.delete_groups import DeleteGroupsRequest
from logstore.wire.messages.describe_groups import DescribeGroupsRequest
from logstore.wire.messages.list_groups import ListGroupsRequest
from logstore.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from wire_client import WireClient
from wire_members import GroupBroker, commit, fetch

JOINING: Mapping[str, Any] = {
    "group_id": "g",
    "member_id": "m",
    "member_epoch": 0,
    "rebalance_timeout_ms": 10_000,
    "subscribed_topic_names": ["orders"],
    "topic_partitions": [],
}


def ask(client: WireClient, version: int = 1, **fields: Any) -> Any:
    return client.ask(ConsumerGroupHeartbeatRequest(**{**JOINING, **fields}), version)


def partitions(response: Any) -> list[int]:
    return [number for topic in response.assignment.topic_partitions for number in topic.partitions]


def test_a_member_joins_lives_and_leaves(group_broker: GroupBroker) -> None:
    topic_id = group_broker.broker.store.topic("orders").topic_id
    with WireClient(group_broker.address) as client:
        joined = ask(client)
        assert (joined.error_code, joined.error_message, joined.member_id) == (0, None, "m")
        assert (joined.member_epoch, joined.heartbeat_interval_ms) == (1, 5_000)
        assert [topic.topic_id for topic in joined.assignment.topic_partitions] == [topic_id]
        assert partitions(joined) == [0, 1, 2]
        owned = [TopicPartitions(topic_id=topic_id, partitions=[0, 1, 2])]
        alive = ask(client, member_epoch=1, topic_partitions=owned, subscribed_topic_names=None)
        assert (alive.error_code, alive.member_epoch, alive.assignment) == (0, 1, None)
        left = ask(client, member_epoch=-1)
        assert (left.error_code, left.member_id, left.member_epoch) == (0, "m", -1)
        assert ask(client, member_epoch=1).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_before_version_1_the_broker_makes_the_members_id(group_broker: GroupBroker) -> None:
    with WireClient(group_broker.address) as client:
        joined = ask(client, 0, member_id="")
        assert joined.error_code == 0 and len(joined.member_id) == 36
        assert ask(client, 1, member_id="").error_code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("group_settings", [{"group_consumer_max_size": 2}])
def test_every_error_has_its_code_and_says_why(group_broker: GroupBroker) -> None:
    with WireClient(group_broker.address) as client:
        commit(client, "offsets only", {("orders", 0): 1})
        assert ask(client, instance_id="i").error_code == 0

        def refused(**fields: Any) -> int:
            response = ask(client, **fields)
            code: int = response.error_code
            assert code and response.error_message and response.assignment is None
            return code

        assert refused(group_id="") == ErrorCode.INVALID_GROUP_ID
        assert refused(member_epoch=-3) == ErrorCode.INVALID_REQUEST
        assert refused(subscribed_topic_names=None) == ErrorCode.INVALID_REQUEST
        assert refused(server_assignor="sticky") == ErrorCode.UNSUPPORTED_ASSIGNOR
        assert refused(subscribed_topic_regex="(") == ErrorCode.INVALID_REGULAR_EXPRESSION
        assert refused(member_epoch=9, instance_id="i") == ErrorCode.FENCED_MEMBER_EPOCH
        assert refused(member_id="n", member_epoch=1, instance_id="i") == ErrorCode.FENCED_INSTANCE_ID
        assert refused(member_id="n", instance_id="i") == ErrorCode.UNRELEASED_INSTANCE_ID
        assert refused(member_id="n", member_epoch=1) == ErrorCode.UNKNOWN_MEMBER_ID
        assert refused(group_id="never heard of", member_epoch=1) == ErrorCode.GROUP_ID_NOT_FOUND
        assert ask(client, member_id="n").error_code == 0
        assert refused(member_id="o") == ErrorCode.GROUP_MAX_SIZE_REACHED
        assert ask(client, group_id="offsets only").error_code == 0
    group_broker.member("classic").enter()
    with WireClient(group_broker.address) as client:
        assert ask(client, group_id="classic").error_code == ErrorCode.GROUP_ID_NOT_FOUND
    late = group_broker.member("g")
    told = late.client.ask(late.join_request(), 3)
    assert told.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_the_group_is_described_listed_and_deleted(group_broker: GroupBroker) -> None:
    group_broker.member("classic").enter()
    with WireClient(group_broker.address) as client:
        ask(client, instance_id="i", rack_id="r", subscribed_topic_regex="ord.*", server_assignor="range")
        asked = ConsumerGroupDescribeRequest(["g", "classic", "never heard of", ""], True)
        group, *others = client.ask(asked, 1).groups
        assert (group.error_code, group.group_id, group.group_state) == (0, "g", "Stable")
        assert (group.group_epoch, group.assignment_epoch, group.assignor_name) == (1, 1, "range")
        assert group.authorized_operations == 0b1101_0100_1000
        [member] = group.members
        assert (member.member_id, member.instance_id, member.rack_id, member.member_epoch) == ("m", "i", "r", 1)
        assert (member.client_id, member.client_host, member.member_type) == ("a client", "/127.0.0.1", 1)
        assert (member.subscribed_topic_names, member.subscribed_topic_regex) == (("orders",), "ord.*")
        [topic] = member.assignment.topic_partitions
        assert (topic.topic_name, topic.partitions) == ("orders", (0, 1, 2))
        assert member.target_assignment == member.assignment
        not_found, invalid = ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.INVALID_GROUP_ID
        assert [one.error_code for one in others] == [not_found, not_found, invalid]
        assert client.ask(ConsumerGroupDescribeRequest(["g"]), 0).groups[0].authorized_operations == -2147483648
        listed = client.ask(ListGroupsRequest((), ("Consumer",)), 5).groups
        assert [(one.group_id, one.protocol_type, one.group_state, one.group_type) for one in listed] == [
            ("g", "consumer", "Stable", "consumer")
        ]
        assert client.ask(DescribeGroupsRequest(["g"]), 5).groups[0].group_state == "Dead"
        assert client.ask(DeleteGroupsRequest(["g"]), 2).results[0].error_code == ErrorCode.NON_EMPTY_GROUP
        ask(client, member_epoch=-1, instance_id="i")
        assert client.ask(DeleteGroupsRequest(["g"]), 2).results[0].error_code == ErrorCode.NONE


def test_offsets_are_committed_and_fetched_in_the_members_epoch(group_broker: GroupBroker) -> None:
    with WireClient(group_broker.address) as client:
        ask(client)
        key = ("orders", 0)
        assert commit(client, "g", {key: 5}, 9, ("m", 1, None)) == {key: ErrorCode.NONE}
        assert commit(client, "g", {key: 6}, 9, ("m", 2, None)) == {key: ErrorCode.STALE_MEMBER_EPOCH}
        assert commit(client, "g", {key: 6}, 9, ("n", 1, None)) == {key: ErrorCode.UNKNOWN_MEMBER_ID}
        assert fetch(client, "g") == {key: 5}

        def code(member_id: str, epoch: int) -> int:
            asked = OffsetFetchRequestGroup("g", member_id=member_id, member_epoch=epoch, topics=None)
            found: int = client.ask(OffsetFetchRequest(groups=[asked]), 9).groups[0].error_code
            return found

        assert code("m", 1) == ErrorCode.NONE
        assert code("m", 0) == ErrorCode.STALE_MEMBER_EPOCH
        assert code("n", 1) == ErrorCode.UNKNOWN_MEMBER_ID


def test_members_go_on_when_the_broker_is_back(group_broker: GroupBroker) -> None:
    with WireClient(group_broker.address) as client:
        ask(client, instance_id="i")
    group_broker.stop()
    group_broker.start()
    with WireClient(group_broker.address) as client:
        alive = ask(client, member_epoch=1, instance_id="i", topic_partitions=None)
        assert (alive.error_code, alive.member_epoch) == (0, 1)
        ask(client, member_epoch=-2, instance_id="i")
        back = ask(client, member_id="n", instance_id="i")
        assert (back.error_code, back.member_epoch, partitions(back)) == (0, 1, [0, 1, 2])
