"""Offsets that a group has committed go, where no member is subscribed to the topic."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class OffsetDeleteRequestPartition:
    partition_index: int = field("int32")


@struct
class OffsetDeleteRequestTopic:
    name: str = field("string")
    partitions: Sequence[OffsetDeleteRequestPartition] = field([OffsetDeleteRequestPartition])


@message(api_key=47, versions=(0, 0))
class OffsetDeleteRequest(Message):
    group_id: str = field("string")
    topics: Sequence[OffsetDeleteRequestTopic] = field([OffsetDeleteRequestTopic])


@struct
class OffsetDeleteResponsePartition:
    partition_index: int = field("int32")
    error_code: int = field("int16")


@struct
class OffsetDeleteResponseTopic:
    name: str = field("string")
    partitions: Sequence[OffsetDeleteResponsePartition] = field([OffsetDeleteResponsePartition])


@message(api_key=47, versions=(0, 0))
class OffsetDeleteResponse(Message):
    error_code: int = field("int16")
    throttle_time_ms: int = field("int32")
    topics: Sequence[OffsetDeleteResponseTopic] = field([OffsetDeleteResponseTopic])
