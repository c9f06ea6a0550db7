"""ACLs that match filters go; the reply says which."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class DeleteAclsFilter:
    resource_type_filter: int = field("int8")
    resource_name_filter: str | None = field("string", nullable_since=0)
    pattern_type_filter: int = field("int8", default=3)
    principal_filter: str | None = field("string", nullable_since=0)
    host_filter: str | None = field("string", nullable_since=0)
    operation: int = field("int8")
    permission_type: int = field("int8")


@message(api_key=31, versions=(1, 3), flexible_since=2)
class DeleteAclsRequest(Message):
    filters: Sequence[DeleteAclsFilter] = field([DeleteAclsFilter])


@struct
class DeleteAclsMatchingAcl:
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    resource_type: int = field("int8")
    resource_name: str = field("string")
    pattern_type: int = field("int8", default=3)
    principal: str = field("string")
    host: str = field("string")
    operation: int = field("int8")
    permission_type: int = field("int8")


@struct
class DeleteAclsFilterResult:
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    matching_acls: Sequence[DeleteAclsMatchingAcl] = field([DeleteAclsMatchingAcl])


@message(api_key=31, versions=(1, 3), flexible_since=2)
class DeleteAclsResponse(Message):
    throttle_time_ms: int = field("int32")
    filter_results: Sequence[DeleteAclsFilterResult] = field([DeleteAclsFilterResult])
