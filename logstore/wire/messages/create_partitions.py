"""Topics get more partitions: `count` is how many they have then."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class CreatePartitionsAssignment:
    broker_ids: Sequence[int] = field(["int32"])


@struct
class CreatePartitionsTopic:
    name: str = field("string")
    count: int = field("int32")
    assignments: Sequence[CreatePartitionsAssignment] | None = field([CreatePartitionsAssignment], nullable_since=0)


@message(api_key=37, versions=(0, 3), flexible_since=2)
class CreatePartitionsRequest(Message):
    topics: Sequence[CreatePartitionsTopic] = field([CreatePartitionsTopic])
    timeout_ms: int = field("int32")
    validate_only: bool = field("bool")


@struct
class CreatePartitionsTopicResult:
    name: str = field("string")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0, default=None)


@message(api_key=37, versions=(0, 3), flexible_since=2)
class CreatePartitionsResponse(Message):
    throttle_time_ms: int = field("int32")
    results: Sequence[CreatePartitionsTopicResult] = field([CreatePartitionsTopicResult])
