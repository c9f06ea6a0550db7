"""DescribeTopicPartitions: topics by name with their partitions, a limited number at a time; a cursor says where the
next request goes on."""

from collections.abc import Sequence

from logstore.broker.authorized_operations import TOPIC_OPERATIONS
from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.errors import LogstoreError, UnknownTopic
from logstore.format.filename import check_topic_name
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.storage.topics import TopicDescription
from logstore.wire.error_codes import ErrorCode, error_code
from logstore.wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)

_PARTITIONS_MAX = 2_000  # of one response: Kafka's max.request.partition.size.limit


def handle(
    broker: Broker, request: DescribeTopicPartitionsRequest, context: RequestContext
) -> DescribeTopicPartitionsResponse:
    named = sorted({topic.name for topic in request.topics})
    start = request.cursor or Cursor(topic_name="", partition_index=0)
    names = [name for name in named or _all(broker) if name >= start.topic_name]
    is_cursor_named = not named or request.cursor is None or names[:1] == [start.topic_name]
    if start.partition_index < 0 or not is_cursor_named:
        # The response has no other place for it.
        return _response([_failed(name, ErrorCode.INVALID_REQUEST) for name in named], None)
    topics: list[DescribeTopicPartitionsResponseTopic] = []
    room = max(1, min(request.response_partition_limit, _PARTITIONS_MAX))
    for name in names:
        first = start.partition_index if name == start.topic_name else 0
        if room <= 0:
            return _response(topics, Cursor(topic_name=name, partition_index=first))
        try:
            check_topic_name(name)
            topic = broker.store.topic(name)
        except LogstoreError as error:
            if named or not isinstance(error, UnknownTopic):  # else it was deleted this moment
                topics.append(_failed(name, error_code(error)))
            continue
        end = min(topic.partitions, first + room)
        topics.append(_described(broker, topic, range(first, end)))
        if end < topic.partitions:
            return _response(topics, Cursor(topic_name=name, partition_index=end))
        room -= end - first
    return _response(topics, None)


def _all(broker: Broker) -> list[str]:
    return [topic.name for topic in broker.store.topics()]


def _response(
    topics: list[DescribeTopicPartitionsResponseTopic], cursor: Cursor | None
) -> DescribeTopicPartitionsResponse:
    return DescribeTopicPartitionsResponse(topics=topics, next_cursor=cursor)


def _failed(name: str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(error_code=code, name=name)


def _described(broker: Broker, topic: TopicDescription, numbers: Sequence[int]) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.name == OFFSETS_TOPIC,
        partitions=[_partition(broker, topic.name, number) for number in numbers],
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _partition(broker: Broker, topic: str, number: int) -> DescribeTopicPartitionsResponsePartition:
    own = (broker.node_id,)
    partition = DescribeTopicPartitionsResponsePartition(
        partition_index=number,
        leader_id=broker.node_id,
        replica_nodes=own,
        isr_nodes=own,
        eligible_leader_replicas=(),
        last_known_elr=(),
    )
    try:
        partition.leader_epoch = broker.store.opened_log(topic, number).leader_epoch
    except LogstoreError:  # it could not be opened
        partition.error_code, partition.leader_id = ErrorCode.LEADER_NOT_AVAILABLE, -1
        partition.isr_nodes, partition.offline_replicas = (), own
    return partition
