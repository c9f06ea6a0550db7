"""All settings of a resource are replaced: what is not named goes back to its default."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class AlterableConfig:
    name: str = field("string")
    value: str | None = field("string", nullable_since=0)


@struct
class AlterConfigsResource:
    resource_type: int = field("int8")
    resource_name: str = field("string")
    configs: Sequence[AlterableConfig] = field([AlterableConfig])


@message(api_key=33, versions=(0, 2), flexible_since=2)
class AlterConfigsRequest(Message):
    resources: Sequence[AlterConfigsResource] = field([AlterConfigsResource])
    validate_only: bool = field("bool")


@struct
class AlterConfigsResourceResponse:
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    resource_type: int = field("int8")
    resource_name: str = field("string")


@message(api_key=33, versions=(0, 2), flexible_since=2)
class AlterConfigsResponse(Message):
    throttle_time_ms: int = field("int32")
    responses: Sequence[AlterConfigsResourceResponse] = field([AlterConfigsResourceResponse])
