"""The leader hands in what each member of its group is to read; each member is told its share."""

from collections.abc import Sequence

from logstore.format.record import Buffer
from logstore.wire.schema import Message, field, message, struct


@struct
class SyncGroupRequestAssignment:
    member_id: str = field("string")
    assignment: Buffer = field("bytes")


@message(api_key=14, versions=(0, 5), flexible_since=4)
class SyncGroupRequest(Message):
    group_id: str = field("string")
    generation_id: int = field("int32")
    member_id: str = field("string")
    group_instance_id: str | None = field("string", since=3, nullable_since=3, default=None)
    protocol_type: str | None = field("string", since=5, nullable_since=5, default=None)
    protocol_name: str | None = field("string", since=5, nullable_since=5, default=None)
    assignments: Sequence[SyncGroupRequestAssignment] = field([SyncGroupRequestAssignment])


@message(api_key=14, versions=(0, 5), flexible_since=4)
class SyncGroupResponse(Message):
    throttle_time_ms: int = field("int32", since=1)
    error_code: int = field("int16")
    protocol_type: str | None = field("string", since=5, nullable_since=5, default=None)
    protocol_name: str | None = field("string", since=5, nullable_since=5, default=None)
    assignment: Buffer = field("bytes")
