"""Topics and their partitions, a limited number at a time. What is said of ``admin`` holds for Kafka too."""

from typing import Any
from uuid import UUID

import pytest

from kafka_brokers import fresh_name
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.describe_topic_partitions import Cursor, DescribeTopicPartitionsRequest, TopicRequest
from wire_admin import OwnBroker, WireAdmin, new_topic

EVERYTHING = 0b1101_1111_1000  # read, write, create, delete, alter, describe, its settings


def describe(admin: WireAdmin, *names: str, limit: int = 2000, cursor: tuple[str, int] | None = None) -> Any:
    request = DescribeTopicPartitionsRequest(
        topics=[TopicRequest(name) for name in names],
        response_partition_limit=limit,
        cursor=None if cursor is None else Cursor(*cursor),
    )
    return admin.ask(request, 0)


def numbers(response: Any) -> list[tuple[str, list[int]]]:
    return [(topic.name, [one.partition_index for one in topic.partitions]) for topic in response.topics]


def next_place(response: Any) -> tuple[str, int] | None:
    cursor = response.next_cursor
    return None if cursor is None else (cursor.topic_name, cursor.partition_index)


def test_topics_are_told_by_name_with_their_partitions(admin: WireAdmin) -> None:
    second, first = sorted((admin.topic(2), admin.topic(1)), reverse=True)
    response = describe(admin, second, first, second)
    assert [topic.name for topic in response.topics] == [first, second]
    node = admin.node_id
    for topic in response.topics:
        assert (topic.error_code, topic.topic_id, topic.is_internal) == (0, admin.topic_id(topic.name), False)
        assert topic.topic_authorized_operations == EVERYTHING
        for partition in topic.partitions:
            assert (partition.error_code, partition.leader_id, partition.offline_replicas) == (0, node, ())
            assert (partition.replica_nodes, partition.isr_nodes) == ((node,), (node,))
            assert (partition.eligible_leader_replicas, partition.last_known_elr) == ((), ())
            assert partition.leader_epoch >= 0
    assert response.next_cursor is None


def test_a_topic_that_is_not_there_is_told_so(admin: WireAdmin) -> None:
    missing = fresh_name("missing")
    (topic,) = describe(admin, missing).topics
    assert (topic.name, topic.error_code, topic.topic_id, topic.partitions) == (
        missing,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        UUID(int=0),
        (),
    )


def test_the_cursor_says_where_the_next_request_goes_on(admin: WireAdmin) -> None:
    a, b, c = sorted((admin.topic(3), admin.topic(3), admin.topic(3)))
    first = describe(admin, a, b, c, limit=4)
    assert (numbers(first), next_place(first)) == ([(a, [0, 1, 2]), (b, [0])], (b, 1))
    second = describe(admin, a, b, c, limit=2, cursor=(b, 1))
    assert (numbers(second), next_place(second)) == ([(b, [1, 2])], (c, 0))
    third = describe(admin, a, b, c, limit=2, cursor=(c, 0))
    assert (numbers(third), next_place(third)) == ([(c, [0, 1])], (c, 2))
    last = describe(admin, a, b, c, limit=1, cursor=(c, 2))
    assert (numbers(last), next_place(last)) == ([(c, [2])], None)


def test_topics_from_the_cursor_on_are_told_where_none_is_named(admin: WireAdmin) -> None:
    a, c = sorted((admin.topic(2), admin.topic(1)))
    found = [topic for topic in numbers(describe(admin, cursor=(a, 1))) if topic[0] <= c]
    assert found[0][0] == a and found[0][1][:1] != [0]
    between = numbers(describe(admin, cursor=(a + "-gone", 1)))
    assert between[0][0] > a and between[0][1][0] == 0, "a topic that went meanwhile is passed over"


@pytest.mark.parametrize("cursor", [("{}-gone", 0), ("zzz", 0), ("{}", -1)])
def test_a_cursor_that_is_not_in_what_is_named_is_refused(admin: WireAdmin, cursor: tuple[str, int]) -> None:
    a, b = sorted((admin.topic(), admin.topic()))
    topics = describe(admin, a, b, cursor=(cursor[0].format(a), cursor[1])).topics
    assert [(topic.name, topic.error_code) for topic in topics] == [
        (a, ErrorCode.INVALID_REQUEST),
        (b, ErrorCode.INVALID_REQUEST),
    ]


def test_all_topics_are_told_where_none_is_named(admin: WireAdmin) -> None:
    names = {admin.topic(1), admin.topic(2)}
    found = [topic.name for topic in describe(admin).topics]
    assert names <= set(found) and found == sorted(found)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nothing_gives_a_partition_at_a_time(admin: WireAdmin, limit: int) -> None:
    name = admin.topic(2)
    response = describe(admin, name, limit=limit)
    assert (numbers(response), next_place(response)) == ([(name, [0])], (name, 1))


def test_one_response_has_at_most_2000_partitions(own: OwnBroker) -> None:
    own.create(new_topic("large", 2_001))
    response = describe(own, limit=100_000)
    assert (len(response.topics[0].partitions), next_place(response)) == (2_000, ("large", 2_000))


def test_the_topic_of_groups_offsets_is_internal(own: OwnBroker) -> None:
    own.create(new_topic(OFFSETS_TOPIC))
    (topic,) = describe(own).topics
    assert (topic.name, topic.is_internal) == (OFFSETS_TOPIC, True)
