"""Partitions are cut at the front: records before an offset go. Offset -1: all that there are."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class DeleteRecordsPartition:
    partition_index: int = field("int32")
    offset: int = field("int64")


@struct
class DeleteRecordsTopic:
    name: str = field("string")
    partitions: Sequence[DeleteRecordsPartition] = field([DeleteRecordsPartition])


@message(api_key=21, versions=(0, 2), flexible_since=2)
class DeleteRecordsRequest(Message):
    topics: Sequence[DeleteRecordsTopic] = field([DeleteRecordsTopic])
    timeout_ms: int = field("int32")


@struct
class DeleteRecordsPartitionResult:
    partition_index: int = field("int32")
    low_watermark: int = field("int64")
    error_code: int = field("int16")


@struct
class DeleteRecordsTopicResult:
    name: str = field("string")
    partitions: Sequence[DeleteRecordsPartitionResult] = field([DeleteRecordsPartitionResult])


@message(api_key=21, versions=(0, 2), flexible_since=2)
class DeleteRecordsResponse(Message):
    throttle_time_ms: int = field("int32")
    topics: Sequence[DeleteRecordsTopicResult] = field([DeleteRecordsTopicResult])
