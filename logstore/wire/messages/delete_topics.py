"""Topics go, by name or, from version 6 on, by id."""

from collections.abc import Sequence
from uuid import UUID

from logstore.wire.schema import Message, field, message, struct


@struct
class DeleteTopicState:
    name: str | None = field("string", nullable_since=0, default=None)
    topic_id: UUID = field("uuid")


@message(api_key=20, versions=(1, 6), flexible_since=4)
class DeleteTopicsRequest(Message):
    topics: Sequence[DeleteTopicState] = field([DeleteTopicState], since=6)
    topic_names: Sequence[str] = field(["string"], until=5)
    timeout_ms: int = field("int32")


@struct
class DeletableTopicResult:
    name: str | None = field("string", nullable_since=6)
    topic_id: UUID = field("uuid", since=6)
    error_code: int = field("int16")
    error_message: str | None = field("string", since=5, nullable_since=5, default=None)


@message(api_key=20, versions=(1, 6), flexible_since=4)
class DeleteTopicsResponse(Message):
    throttle_time_ms: int = field("int32")
    responses: Sequence[DeletableTopicResult] = field([DeletableTopicResult])
