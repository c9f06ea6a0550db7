"""What a group has committed, of some partitions or of all (topics null). From version 8 on for several groups."""

from collections.abc import Sequence
from uuid import UUID

from logstore.wire.schema import Message, field, message, struct


@struct
class OffsetFetchRequestTopic:
    name: str = field("string")
    partition_indexes: Sequence[int] = field(["int32"])


@struct
class OffsetFetchRequestTopics:
    name: str = field("string", until=9)
    topic_id: UUID = field("uuid", since=10)
    partition_indexes: Sequence[int] = field(["int32"])


@struct
class OffsetFetchRequestGroup:
    group_id: str = field("string")
    member_id: str | None = field("string", since=9, nullable_since=9, default=None)
    member_epoch: int = field("int32", since=9, default=-1)
    topics: Sequence[OffsetFetchRequestTopics] | None = field([OffsetFetchRequestTopics], nullable_since=0)


@message(api_key=9, versions=(1, 10), flexible_since=6)
class OffsetFetchRequest(Message):
    group_id: str = field("string", until=7)
    topics: Sequence[OffsetFetchRequestTopic] | None = field([OffsetFetchRequestTopic], until=7, nullable_since=2)
    groups: Sequence[OffsetFetchRequestGroup] = field([OffsetFetchRequestGroup], since=8)
    require_stable: bool = field("bool", since=7)


@struct
class OffsetFetchResponsePartition:
    partition_index: int = field("int32")
    committed_offset: int = field("int64")
    committed_leader_epoch: int = field("int32", since=5, default=-1)
    metadata: str | None = field("string", nullable_since=0)
    error_code: int = field("int16")


@struct
class OffsetFetchResponseTopic:
    name: str = field("string")
    partitions: Sequence[OffsetFetchResponsePartition] = field([OffsetFetchResponsePartition])


@struct
class OffsetFetchResponsePartitions:
    partition_index: int = field("int32")
    committed_offset: int = field("int64")
    committed_leader_epoch: int = field("int32", default=-1)
    metadata: str | None = field("string", nullable_since=0)
    error_code: int = field("int16")


@struct
class OffsetFetchResponseTopics:
    name: str = field("string", until=9)
    topic_id: UUID = field("uuid", since=10)
    partitions: Sequence[OffsetFetchResponsePartitions] = field([OffsetFetchResponsePartitions])


@struct
class OffsetFetchResponseGroup:
    group_id: str = field("string")
    topics: Sequence[OffsetFetchResponseTopics] = field([OffsetFetchResponseTopics])
    error_code: int = field("int16")


@message(api_key=9, versions=(1, 10), flexible_since=6)
class OffsetFetchResponse(Message):
    throttle_time_ms: int = field("int32", since=3)
    topics: Sequence[OffsetFetchResponseTopic] = field([OffsetFetchResponseTopic], until=7)
    error_code: int = field("int16", since=2, until=7)
    groups: Sequence[OffsetFetchResponseGroup] = field([OffsetFetchResponseGroup], since=8)
