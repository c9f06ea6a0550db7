"""KIP-848: state, members and assignments of groups of that protocol."""

from collections.abc import Sequence
from uuid import UUID

from logstore.wire.schema import Message, field, message, struct


@message(api_key=69, versions=(0, 1), flexible_since=0)
class ConsumerGroupDescribeRequest(Message):
    group_ids: Sequence[str] = field(["string"])
    include_authorized_operations: bool = field("bool")


@struct
class TopicPartitions:
    topic_id: UUID = field("uuid")
    topic_name: str = field("string")
    partitions: Sequence[int] = field(["int32"])


@struct
class Assignment:
    topic_partitions: Sequence[TopicPartitions] = field([TopicPartitions])


@struct
class Member:
    member_id: str = field("string")
    instance_id: str | None = field("string", nullable_since=0, default=None)
    rack_id: str | None = field("string", nullable_since=0, default=None)
    member_epoch: int = field("int32")
    client_id: str = field("string")
    client_host: str = field("string")
    subscribed_topic_names: Sequence[str] = field(["string"])
    subscribed_topic_regex: str | None = field("string", nullable_since=0, default=None)
    assignment: Assignment = field(Assignment)
    target_assignment: Assignment = field(Assignment)
    member_type: int = field("int8", since=1, default=-1)


@struct
class DescribedGroup:
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0, default=None)
    group_id: str = field("string")
    group_state: str = field("string")
    group_epoch: int = field("int32")
    assignment_epoch: int = field("int32")
    assignor_name: str = field("string")
    members: Sequence[Member] = field([Member])
    authorized_operations: int = field("int32", default=-2147483648)


@message(api_key=69, versions=(0, 1), flexible_since=0)
class ConsumerGroupDescribeResponse(Message):
    throttle_time_ms: int = field("int32")
    groups: Sequence[DescribedGroup] = field([DescribedGroup])
