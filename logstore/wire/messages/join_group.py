"""A member enters its group, and waits for the others. The reply tells the leader who is there."""

from collections.abc import Sequence

from logstore.format.record import Buffer
from logstore.wire.schema import Message, field, message, struct


@struct
class JoinGroupRequestProtocol:
    name: str = field("string")
    metadata: Buffer = field("bytes")


@message(api_key=11, versions=(0, 9), flexible_since=6)
class JoinGroupRequest(Message):
    group_id: str = field("string")
    session_timeout_ms: int = field("int32")
    rebalance_timeout_ms: int = field("int32", since=1, default=-1)
    member_id: str = field("string")
    group_instance_id: str | None = field("string", since=5, nullable_since=5, default=None)
    protocol_type: str = field("string")
    protocols: Sequence[JoinGroupRequestProtocol] = field([JoinGroupRequestProtocol])
    reason: str | None = field("string", since=8, nullable_since=8, default=None)


@struct
class JoinGroupResponseMember:
    member_id: str = field("string")
    group_instance_id: str | None = field("string", since=5, nullable_since=5, default=None)
    metadata: Buffer = field("bytes")


@message(api_key=11, versions=(0, 9), flexible_since=6)
class JoinGroupResponse(Message):
    throttle_time_ms: int = field("int32", since=2)
    error_code: int = field("int16")
    generation_id: int = field("int32", default=-1)
    protocol_type: str | None = field("string", since=7, nullable_since=7, default=None)
    protocol_name: str | None = field("string", nullable_since=7)
    leader: str = field("string")
    skip_assignment: bool = field("bool", since=9)
    member_id: str = field("string")
    members: Sequence[JoinGroupResponseMember] = field([JoinGroupResponseMember])
