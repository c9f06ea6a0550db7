"""Which ACLs match a filter."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@message(api_key=29, versions=(1, 3), flexible_since=2)
class DescribeAclsRequest(Message):
    resource_type_filter: int = field("int8")
    resource_name_filter: str | None = field("string", nullable_since=0)
    pattern_type_filter: int = field("int8", default=3)
    principal_filter: str | None = field("string", nullable_since=0)
    host_filter: str | None = field("string", nullable_since=0)
    operation: int = field("int8")
    permission_type: int = field("int8")


@struct
class AclDescription:
    principal: str = field("string")
    host: str = field("string")
    operation: int = field("int8")
    permission_type: int = field("int8")


@struct
class DescribeAclsResource:
    resource_type: int = field("int8")
    resource_name: str = field("string")
    pattern_type: int = field("int8", default=3)
    acls: Sequence[AclDescription] = field([AclDescription])


@message(api_key=29, versions=(1, 3), flexible_since=2)
class DescribeAclsResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    resources: Sequence[DescribeAclsResource] = field([DescribeAclsResource])
