"""Records on their way in."""

from collections.abc import Sequence
from uuid import UUID

from logstore.format.record import Buffer
from logstore.wire.schema import Message, field, message, struct


@struct
class PartitionProduceData:
    index: int = field("int32")
    records: Buffer | None = field("records", nullable_since=0)


@struct
class TopicProduceData:
    name: str = field("string", until=12)
    topic_id: UUID = field("uuid", since=13)
    partition_data: Sequence[PartitionProduceData] = field([PartitionProduceData])


@message(api_key=0, versions=(3, 13), flexible_since=9)
class ProduceRequest(Message):
    transactional_id: str | None = field("string", nullable_since=3, default=None)
    acks: int = field("int16")
    timeout_ms: int = field("int32")
    topic_data: Sequence[TopicProduceData] = field([TopicProduceData])


@struct
class BatchIndexAndErrorMessage:
    batch_index: int = field("int32", since=8)
    batch_index_error_message: str | None = field("string", since=8, nullable_since=8, default=None)


@struct
class LeaderIdAndEpoch:
    leader_id: int = field("int32", since=10, default=-1)
    leader_epoch: int = field("int32", since=10, default=-1)


@struct
class PartitionProduceResponse:
    index: int = field("int32")
    error_code: int = field("int16")
    base_offset: int = field("int64")
    log_append_time_ms: int = field("int64", since=2, default=-1)
    log_start_offset: int = field("int64", since=5, default=-1)
    record_errors: Sequence[BatchIndexAndErrorMessage] = field([BatchIndexAndErrorMessage], since=8)
    error_message: str | None = field("string", since=8, nullable_since=8, default=None)
    current_leader: LeaderIdAndEpoch = field(LeaderIdAndEpoch, since=10, tag=0)


@struct
class TopicProduceResponse:
    name: str = field("string", until=12)
    topic_id: UUID = field("uuid", since=13)
    partition_responses: Sequence[PartitionProduceResponse] = field([PartitionProduceResponse])


@struct
class NodeEndpoint:
    node_id: int = field("int32", since=10)
    host: str = field("string", since=10)
    port: int = field("int32", since=10)
    rack: str | None = field("string", since=10, nullable_since=10, default=None)


@message(api_key=0, versions=(3, 13), flexible_since=9)
class ProduceResponse(Message):
    responses: Sequence[TopicProduceResponse] = field([TopicProduceResponse])
    throttle_time_ms: int = field("int32", since=1)
    node_endpoints: Sequence[NodeEndpoint] = field([NodeEndpoint], since=10, tag=0)
