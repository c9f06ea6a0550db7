"""What state groups are in, who their members are, and what each of them reads."""

from collections.abc import Sequence

from logstore.format.record import Buffer
from logstore.wire.schema import Message, field, message, struct


@message(api_key=15, versions=(0, 6), flexible_since=5)
class DescribeGroupsRequest(Message):
    groups: Sequence[str] = field(["string"])
    include_authorized_operations: bool = field("bool", since=3)


@struct
class DescribedGroupMember:
    member_id: str = field("string")
    group_instance_id: str | None = field("string", since=4, nullable_since=4, default=None)
    client_id: str = field("string")
    client_host: str = field("string")
    member_metadata: Buffer = field("bytes")
    member_assignment: Buffer = field("bytes")


@struct
class DescribedGroup:
    error_code: int = field("int16")
    error_message: str | None = field("string", since=6, nullable_since=6, default=None)
    group_id: str = field("string")
    group_state: str = field("string")
    protocol_type: str = field("string")
    protocol_data: str = field("string")
    members: Sequence[DescribedGroupMember] = field([DescribedGroupMember])
    authorized_operations: int = field("int32", since=3, default=-2147483648)


@message(api_key=15, versions=(0, 6), flexible_since=5)
class DescribeGroupsResponse(Message):
    throttle_time_ms: int = field("int32", since=1)
    groups: Sequence[DescribedGroup] = field([DescribedGroup])
