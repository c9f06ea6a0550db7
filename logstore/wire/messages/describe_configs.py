"""The settings of topics and brokers: their values, where these come from, and what they mean."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class DescribeConfigsResource:
    resource_type: int = field("int8")
    resource_name: str = field("string")
    configuration_keys: Sequence[str] | None = field(["string"], nullable_since=0)


@message(api_key=32, versions=(1, 4), flexible_since=4)
class DescribeConfigsRequest(Message):
    resources: Sequence[DescribeConfigsResource] = field([DescribeConfigsResource])
    include_synonyms: bool = field("bool")
    include_documentation: bool = field("bool", since=3)


@struct
class DescribeConfigsSynonym:
    name: str = field("string")
    value: str | None = field("string", nullable_since=0)
    source: int = field("int8")


@struct
class DescribeConfigsResourceResult:
    name: str = field("string")
    value: str | None = field("string", nullable_since=0)
    read_only: bool = field("bool")
    config_source: int = field("int8", default=-1)
    is_sensitive: bool = field("bool")
    synonyms: Sequence[DescribeConfigsSynonym] = field([DescribeConfigsSynonym])
    config_type: int = field("int8", since=3)
    documentation: str | None = field("string", since=3, nullable_since=0)


@struct
class DescribeConfigsResult:
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    resource_type: int = field("int8")
    resource_name: str = field("string")
    configs: Sequence[DescribeConfigsResourceResult] = field([DescribeConfigsResourceResult])


@message(api_key=32, versions=(1, 4), flexible_since=4)
class DescribeConfigsResponse(Message):
    throttle_time_ms: int = field("int32")
    results: Sequence[DescribeConfigsResult] = field([DescribeConfigsResult])
