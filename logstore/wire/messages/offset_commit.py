"""A group's offsets are stored: from which record on each partition is to be read."""

from collections.abc import Sequence
from uuid import UUID

from logstore.wire.schema import Message, field, message, struct


@struct
class OffsetCommitRequestPartition:
    partition_index: int = field("int32")
    committed_offset: int = field("int64")
    committed_leader_epoch: int = field("int32", since=6, default=-1)
    committed_metadata: str | None = field("string", nullable_since=0)


@struct
class OffsetCommitRequestTopic:
    name: str = field("string", until=9)
    topic_id: UUID = field("uuid", since=10)
    partitions: Sequence[OffsetCommitRequestPartition] = field([OffsetCommitRequestPartition])


@message(api_key=8, versions=(2, 10), flexible_since=8)
class OffsetCommitRequest(Message):
    group_id: str = field("string")
    generation_id_or_member_epoch: int = field("int32", default=-1)
    member_id: str = field("string")
    group_instance_id: str | None = field("string", since=7, nullable_since=7, default=None)
    retention_time_ms: int = field("int64", until=4, default=-1)
    topics: Sequence[OffsetCommitRequestTopic] = field([OffsetCommitRequestTopic])


@struct
class OffsetCommitResponsePartition:
    partition_index: int = field("int32")
    error_code: int = field("int16")


@struct
class OffsetCommitResponseTopic:
    name: str = field("string", until=9)
    topic_id: UUID = field("uuid", since=10)
    partitions: Sequence[OffsetCommitResponsePartition] = field([OffsetCommitResponsePartition])


@message(api_key=8, versions=(2, 10), flexible_since=8)
class OffsetCommitResponse(Message):
    throttle_time_ms: int = field("int32", since=3)
    topics: Sequence[OffsetCommitResponseTopic] = field([OffsetCommitResponseTopic])
