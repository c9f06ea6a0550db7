"""Which partitions are being moved, and between which replicas."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class ListPartitionReassignmentsTopics:
    name: str = field("string")
    partition_indexes: Sequence[int] = field(["int32"])


@message(api_key=46, versions=(0, 0), flexible_since=0)
class ListPartitionReassignmentsRequest(Message):
    timeout_ms: int = field("int32", default=60000)
    topics: Sequence[ListPartitionReassignmentsTopics] | None = field(
        [ListPartitionReassignmentsTopics], nullable_since=0, default=None
    )


@struct
class OngoingPartitionReassignment:
    partition_index: int = field("int32")
    replicas: Sequence[int] = field(["int32"])
    adding_replicas: Sequence[int] = field(["int32"])
    removing_replicas: Sequence[int] = field(["int32"])


@struct
class OngoingTopicReassignment:
    name: str = field("string")
    partitions: Sequence[OngoingPartitionReassignment] = field([OngoingPartitionReassignment])


@message(api_key=46, versions=(0, 0), flexible_since=0)
class ListPartitionReassignmentsResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    topics: Sequence[OngoingTopicReassignment] = field([OngoingTopicReassignment])
