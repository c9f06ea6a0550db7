"""Deleting committed offsets over the wire."""

from collections.abc import Mapping, Sequence

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from wire_client import WireClient
from wire_members import GroupBroker, commit, fetch


def delete(
    client: WireClient, group: str, partitions: Mapping[str, Sequence[int]]
) -> tuple[int, dict[tuple[str, int], int]]:
    topics = [
        OffsetDeleteRequestTopic(name, [OffsetDeleteRequestPartition(number) for number in numbers])
        for name, numbers in partitions.items()
    ]
    answer = client.ask(OffsetDeleteRequest(group, topics), 0)
    return answer.error_code, {
        (topic.name, one.partition_index): one.error_code for topic in answer.topics for one in topic.partitions
    }


def test_offsets_are_deleted_but_of_topics_that_are_read(group_broker: GroupBroker) -> None:
    group_broker.broker.store.create_topic("other")
    with WireClient(group_broker.address) as client:
        commit(client, "g", {("orders", 0): 1, ("other", 0): 2})
        group_broker.member().enter()
        assert delete(client, "g", {"orders": [0, 7], "other": [0], "never heard of": [0]}) == (
            ErrorCode.NONE,
            {
                ("orders", 0): ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC,
                ("orders", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                ("other", 0): ErrorCode.NONE,
                ("never heard of", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            },
        )
        assert fetch(client, "g") == {("orders", 0): 1}


def test_what_concerns_the_group_is_told_once(group_broker: GroupBroker) -> None:
    connect = group_broker.member("connect", protocol_type="connect")
    assert connect.join().error_code == ErrorCode.NONE
    with WireClient(group_broker.address) as client:
        assert delete(client, "never heard of", {"orders": [0]}) == (ErrorCode.GROUP_ID_NOT_FOUND, {})
        assert delete(client, "", {"orders": [0]}) == (ErrorCode.INVALID_GROUP_ID, {})
        assert delete(client, "connect", {"orders": [0]}) == (ErrorCode.NON_EMPTY_GROUP, {})
