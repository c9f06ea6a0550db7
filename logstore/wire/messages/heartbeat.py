"""A member of a group is alive, and hears whether the group is being rebalanced."""

from logstore.wire.schema import Message, field, message


@message(api_key=12, versions=(0, 4), flexible_since=4)
class HeartbeatRequest(Message):
    group_id: str = field("string")
    generation_id: int = field("int32")
    member_id: str = field("string")
    group_instance_id: str | None = field("string", since=3, nullable_since=3, default=None)


@message(api_key=12, versions=(0, 4), flexible_since=4)
class HeartbeatResponse(Message):
    throttle_time_ms: int = field("int32", since=1)
    error_code: int = field("int16")
