"""Where a leader's epoch ended in each partition: a client finds out whether its log was cut behind its back."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class OffsetForLeaderPartition:
    partition: int = field("int32")
    current_leader_epoch: int = field("int32", default=-1)
    leader_epoch: int = field("int32")


@struct
class OffsetForLeaderTopic:
    topic: str = field("string")
    partitions: Sequence[OffsetForLeaderPartition] = field([OffsetForLeaderPartition])


@message(api_key=23, versions=(2, 4), flexible_since=4)
class OffsetForLeaderEpochRequest(Message):
    replica_id: int = field("int32", since=3, default=-2)
    topics: Sequence[OffsetForLeaderTopic] = field([OffsetForLeaderTopic])


@struct
class EpochEndOffset:
    error_code: int = field("int16")
    partition: int = field("int32")
    leader_epoch: int = field("int32", default=-1)
    end_offset: int = field("int64", default=-1)


@struct
class OffsetForLeaderTopicResult:
    topic: str = field("string")
    partitions: Sequence[EpochEndOffset] = field([EpochEndOffset])


@message(api_key=23, versions=(2, 4), flexible_since=4)
class OffsetForLeaderEpochResponse(Message):
    throttle_time_ms: int = field("int32")
    topics: Sequence[OffsetForLeaderTopicResult] = field([OffsetForLeaderTopicResult])
