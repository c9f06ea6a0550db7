"""KIP-848: how a member of such a group joins, subscribes, says what it owns, and leaves; it is told what to own."""

from collections.abc import Sequence
from uuid import UUID

from logstore.wire.schema import Message, field, message, struct


@struct
class TopicPartitions:
    topic_id: UUID = field("uuid")
    partitions: Sequence[int] = field(["int32"])


@message(api_key=68, versions=(0, 1), flexible_since=0)
class ConsumerGroupHeartbeatRequest(Message):
    group_id: str = field("string")
    member_id: str = field("string")
    member_epoch: int = field("int32")
    instance_id: str | None = field("string", nullable_since=0, default=None)
    rack_id: str | None = field("string", nullable_since=0, default=None)
    rebalance_timeout_ms: int = field("int32", default=-1)
    subscribed_topic_names: Sequence[str] | None = field(["string"], nullable_since=0, default=None)
    subscribed_topic_regex: str | None = field("string", since=1, nullable_since=1, default=None)
    server_assignor: str | None = field("string", nullable_since=0, default=None)
    topic_partitions: Sequence[TopicPartitions] | None = field([TopicPartitions], nullable_since=0, default=None)


@struct
class Assignment:
    topic_partitions: Sequence[TopicPartitions] = field([TopicPartitions])


@message(api_key=68, versions=(0, 1), flexible_since=0)
class ConsumerGroupHeartbeatResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0, default=None)
    member_id: str | None = field("string", nullable_since=0, default=None)
    member_epoch: int = field("int32")
    heartbeat_interval_ms: int = field("int32")
    assignment: Assignment | None = field(Assignment, nullable_since=0, default=None)
