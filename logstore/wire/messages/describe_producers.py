"""Which idempotent and transactional producers partitions know, and how far each has come."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class TopicRequest:
    name: str = field("string")
    partition_indexes: Sequence[int] = field(["int32"])


@message(api_key=61, versions=(0, 0), flexible_since=0)
class DescribeProducersRequest(Message):
    topics: Sequence[TopicRequest] = field([TopicRequest])


@struct
class ProducerState:
    producer_id: int = field("int64")
    producer_epoch: int = field("int32")
    last_sequence: int = field("int32", default=-1)
    last_timestamp: int = field("int64", default=-1)
    coordinator_epoch: int = field("int32")
    current_txn_start_offset: int = field("int64", default=-1)


@struct
class PartitionResponse:
    partition_index: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0, default=None)
    active_producers: Sequence[ProducerState] = field([ProducerState])


@struct
class TopicResponse:
    name: str = field("string")
    partitions: Sequence[PartitionResponse] = field([PartitionResponse])


@message(api_key=61, versions=(0, 0), flexible_since=0)
class DescribeProducersResponse(Message):
    throttle_time_ms: int = field("int32")
    topics: Sequence[TopicResponse] = field([TopicResponse])
