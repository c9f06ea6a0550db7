"""Partitions of topics, a page at a time: a reply that is not the last has a cursor to go on at."""

from collections.abc import Sequence
from uuid import UUID

from logstore.wire.schema import Message, field, message, struct


@struct
class TopicRequest:
    name: str = field("string")


@struct
class Cursor:
    topic_name: str = field("string")
    partition_index: int = field("int32")


@message(api_key=75, versions=(0, 0), flexible_since=0)
class DescribeTopicPartitionsRequest(Message):
    topics: Sequence[TopicRequest] = field([TopicRequest])
    response_partition_limit: int = field("int32", default=2000)
    cursor: Cursor | None = field(Cursor, nullable_since=0, default=None)


@struct
class DescribeTopicPartitionsResponsePartition:
    error_code: int = field("int16")
    partition_index: int = field("int32")
    leader_id: int = field("int32")
    leader_epoch: int = field("int32", default=-1)
    replica_nodes: Sequence[int] = field(["int32"])
    isr_nodes: Sequence[int] = field(["int32"])
    eligible_leader_replicas: Sequence[int] | None = field(["int32"], nullable_since=0, default=None)
    last_known_elr: Sequence[int] | None = field(["int32"], nullable_since=0, default=None)
    offline_replicas: Sequence[int] = field(["int32"])


@struct
class DescribeTopicPartitionsResponseTopic:
    error_code: int = field("int16")
    name: str | None = field("string", nullable_since=0)
    topic_id: UUID = field("uuid")
    is_internal: bool = field("bool")
    partitions: Sequence[DescribeTopicPartitionsResponsePartition] = field([DescribeTopicPartitionsResponsePartition])
    topic_authorized_operations: int = field("int32", default=-2147483648)


@message(api_key=75, versions=(0, 0), flexible_since=0)
class DescribeTopicPartitionsResponse(Message):
    throttle_time_ms: int = field("int32")
    topics: Sequence[DescribeTopicPartitionsResponseTopic] = field([DescribeTopicPartitionsResponseTopic])
    next_cursor: Cursor | None = field(Cursor, nullable_since=0, default=None)
