"""Members leave their group, which need not wait for their sessions to end then. From version 3 on several at once."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class MemberIdentity:
    member_id: str = field("string")
    group_instance_id: str | None = field("string", nullable_since=0, default=None)
    reason: str | None = field("string", since=5, nullable_since=5, default=None)


@message(api_key=13, versions=(0, 5), flexible_since=4)
class LeaveGroupRequest(Message):
    group_id: str = field("string")
    member_id: str = field("string", until=2)
    members: Sequence[MemberIdentity] = field([MemberIdentity], since=3)


@struct
class MemberResponse:
    member_id: str = field("string")
    group_instance_id: str | None = field("string", nullable_since=0)
    error_code: int = field("int16")


@message(api_key=13, versions=(0, 5), flexible_since=4)
class LeaveGroupResponse(Message):
    throttle_time_ms: int = field("int32", since=1)
    error_code: int = field("int16")
    members: Sequence[MemberResponse] = field([MemberResponse], since=3)
