"""ACLs are added: who may, or may not, do what with which resources, and from where."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class AclCreation:
    resource_type: int = field("int8")
    resource_name: str = field("string")
    resource_pattern_type: int = field("int8", default=3)
    principal: str = field("string")
    host: str = field("string")
    operation: int = field("int8")
    permission_type: int = field("int8")


@message(api_key=30, versions=(1, 3), flexible_since=2)
class CreateAclsRequest(Message):
    creations: Sequence[AclCreation] = field([AclCreation])


@struct
class AclCreationResult:
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)


@message(api_key=30, versions=(1, 3), flexible_since=2)
class CreateAclsResponse(Message):
    throttle_time_ms: int = field("int32")
    results: Sequence[AclCreationResult] = field([AclCreationResult])
