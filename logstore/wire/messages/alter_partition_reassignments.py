"""Partitions are moved to other replicas, or a move is called off (replicas null)."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class ReassignablePartition:
    partition_index: int = field("int32")
    replicas: Sequence[int] | None = field(["int32"], nullable_since=0, default=None)


@struct
class ReassignableTopic:
    name: str = field("string")
    partitions: Sequence[ReassignablePartition] = field([ReassignablePartition])


@message(api_key=45, versions=(0, 1), flexible_since=0)
class AlterPartitionReassignmentsRequest(Message):
    timeout_ms: int = field("int32", default=60000)
    allow_replication_factor_change: bool = field("bool", since=1, default=True)
    topics: Sequence[ReassignableTopic] = field([ReassignableTopic])


@struct
class ReassignablePartitionResponse:
    partition_index: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)


@struct
class ReassignableTopicResponse:
    name: str = field("string")
    partitions: Sequence[ReassignablePartitionResponse] = field([ReassignablePartitionResponse])


@message(api_key=45, versions=(0, 1), flexible_since=0)
class AlterPartitionReassignmentsResponse(Message):
    throttle_time_ms: int = field("int32")
    allow_replication_factor_change: bool = field("bool", since=1, default=True)
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    responses: Sequence[ReassignableTopicResponse] = field([ReassignableTopicResponse])
