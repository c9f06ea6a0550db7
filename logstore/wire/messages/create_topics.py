"""Topics are made, each with its partition count and its settings, or only checked."""

from collections.abc import Sequence
from uuid import UUID

from logstore.wire.schema import Message, field, message, struct


@struct
class CreatableReplicaAssignment:
    partition_index: int = field("int32")
    broker_ids: Sequence[int] = field(["int32"])


@struct
class CreatableTopicConfig:
    name: str = field("string")
    value: str | None = field("string", nullable_since=0)


@struct
class CreatableTopic:
    name: str = field("string")
    num_partitions: int = field("int32")
    replication_factor: int = field("int16")
    assignments: Sequence[CreatableReplicaAssignment] = field([CreatableReplicaAssignment])
    configs: Sequence[CreatableTopicConfig] = field([CreatableTopicConfig])


@message(api_key=19, versions=(2, 7), flexible_since=5)
class CreateTopicsRequest(Message):
    topics: Sequence[CreatableTopic] = field([CreatableTopic])
    timeout_ms: int = field("int32", default=60000)
    validate_only: bool = field("bool")


@struct
class CreatableTopicConfigs:
    name: str = field("string")
    value: str | None = field("string", nullable_since=0)
    read_only: bool = field("bool")
    config_source: int = field("int8", default=-1)
    is_sensitive: bool = field("bool")


@struct
class CreatableTopicResult:
    name: str = field("string")
    topic_id: UUID = field("uuid", since=7)
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    topic_config_error_code: int = field("int16", since=5, tag=0, tagged_since=5)
    num_partitions: int = field("int32", since=5, default=-1)
    replication_factor: int = field("int16", since=5, default=-1)
    configs: Sequence[CreatableTopicConfigs] | None = field([CreatableTopicConfigs], since=5, nullable_since=5)


@message(api_key=19, versions=(2, 7), flexible_since=5)
class CreateTopicsResponse(Message):
    throttle_time_ms: int = field("int32")
    topics: Sequence[CreatableTopicResult] = field([CreatableTopicResult])
