"""Which offset stands at a time, or at a log's start or end (timestamps -2 and -1), for each partition asked about."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class ListOffsetsPartition:
    partition_index: int = field("int32")
    current_leader_epoch: int = field("int32", since=4, default=-1)
    timestamp: int = field("int64")


@struct
class ListOffsetsTopic:
    name: str = field("string")
    partitions: Sequence[ListOffsetsPartition] = field([ListOffsetsPartition])


@message(api_key=2, versions=(1, 10), flexible_since=6)
class ListOffsetsRequest(Message):
    replica_id: int = field("int32")
    isolation_level: int = field("int8", since=2)
    topics: Sequence[ListOffsetsTopic] = field([ListOffsetsTopic])
    timeout_ms: int = field("int32", since=10)


@struct
class ListOffsetsPartitionResponse:
    partition_index: int = field("int32")
    error_code: int = field("int16")
    timestamp: int = field("int64", default=-1)
    offset: int = field("int64", default=-1)
    leader_epoch: int = field("int32", since=4, default=-1)


@struct
class ListOffsetsTopicResponse:
    name: str = field("string")
    partitions: Sequence[ListOffsetsPartitionResponse] = field([ListOffsetsPartitionResponse])


@message(api_key=2, versions=(1, 10), flexible_since=6)
class ListOffsetsResponse(Message):
    throttle_time_ms: int = field("int32", since=2)
    topics: Sequence[ListOffsetsTopicResponse] = field([ListOffsetsTopicResponse])
