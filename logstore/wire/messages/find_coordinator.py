"""Which broker looks after a group or a transactional id. From version 4 on for several keys."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@message(api_key=10, versions=(0, 6), flexible_since=3)
class FindCoordinatorRequest(Message):
    key: str = field("string", until=3)
    key_type: int = field("int8", since=1)
    coordinator_keys: Sequence[str] = field(["string"], since=4)


@struct
class Coordinator:
    key: str = field("string")
    node_id: int = field("int32")
    host: str = field("string")
    port: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)


@message(api_key=10, versions=(0, 6), flexible_since=3)
class FindCoordinatorResponse(Message):
    throttle_time_ms: int = field("int32", since=1)
    error_code: int = field("int16", until=3)
    error_message: str | None = field("string", since=1, until=3, nullable_since=1)
    node_id: int = field("int32", until=3)
    host: str = field("string", until=3)
    port: int = field("int32", until=3)
    coordinators: Sequence[Coordinator] = field([Coordinator], since=4)
