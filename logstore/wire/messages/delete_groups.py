"""Groups without members go, with their committed offsets."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@message(api_key=42, versions=(0, 2), flexible_since=2)
class DeleteGroupsRequest(Message):
    groups_names: Sequence[str] = field(["string"])


@struct
class DeletableGroupResult:
    group_id: str = field("string")
    error_code: int = field("int16")


@message(api_key=42, versions=(0, 2), flexible_since=2)
class DeleteGroupsResponse(Message):
    throttle_time_ms: int = field("int32")
    results: Sequence[DeletableGroupResult] = field([DeletableGroupResult])
