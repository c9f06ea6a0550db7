"""A group's offsets are stored as part of a transaction: they count once it is committed."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class TxnOffsetCommitRequestPartition:
    partition_index: int = field("int32")
    committed_offset: int = field("int64")
    committed_leader_epoch: int = field("int32", since=2, default=-1)
    committed_metadata: str | None = field("string", nullable_since=0)


@struct
class TxnOffsetCommitRequestTopic:
    name: str = field("string")
    partitions: Sequence[TxnOffsetCommitRequestPartition] = field([TxnOffsetCommitRequestPartition])


@message(api_key=28, versions=(0, 5), flexible_since=3)
class TxnOffsetCommitRequest(Message):
    transactional_id: str = field("string")
    group_id: str = field("string")
    producer_id: int = field("int64")
    producer_epoch: int = field("int16")
    generation_id: int = field("int32", since=3, default=-1)
    member_id: str = field("string", since=3)
    group_instance_id: str | None = field("string", since=3, nullable_since=3, default=None)
    topics: Sequence[TxnOffsetCommitRequestTopic] = field([TxnOffsetCommitRequestTopic])


@struct
class TxnOffsetCommitResponsePartition:
    partition_index: int = field("int32")
    error_code: int = field("int16")


@struct
class TxnOffsetCommitResponseTopic:
    name: str = field("string")
    partitions: Sequence[TxnOffsetCommitResponsePartition] = field([TxnOffsetCommitResponsePartition])


@message(api_key=28, versions=(0, 5), flexible_since=3)
class TxnOffsetCommitResponse(Message):
    throttle_time_ms: int = field("int32")
    topics: Sequence[TxnOffsetCommitResponseTopic] = field([TxnOffsetCommitResponseTopic])
