"""Which resources have settings. Version 0 knows only of client metrics."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@message(api_key=74, versions=(0, 1), flexible_since=0)
class ListConfigResourcesRequest(Message):
    resource_types: Sequence[int] = field(["int8"], since=1)


@struct
class ConfigResource:
    resource_name: str = field("string")
    resource_type: int = field("int8", since=1, default=16)


@message(api_key=74, versions=(0, 1), flexible_since=0)
class ListConfigResourcesResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    config_resources: Sequence[ConfigResource] = field([ConfigResource])
