"""Which APIs a broker speaks, and in which versions. Its response's header is never flexible."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@message(api_key=18, versions=(0, 4), flexible_since=3)
class ApiVersionsRequest(Message):
    client_software_name: str = field("string", since=3)
    client_software_version: str = field("string", since=3)


@struct
class ApiVersion:
    api_key: int = field("int16")
    min_version: int = field("int16")
    max_version: int = field("int16")


@struct
class SupportedFeatureKey:
    name: str = field("string")
    min_version: int = field("int16")
    max_version: int = field("int16")


@struct
class FinalizedFeatureKey:
    name: str = field("string")
    max_version_level: int = field("int16")
    min_version_level: int = field("int16")


@message(api_key=18, versions=(0, 4), flexible_since=3)
class ApiVersionsResponse(Message):
    error_code: int = field("int16")
    api_keys: Sequence[ApiVersion] = field([ApiVersion])
    throttle_time_ms: int = field("int32", since=1)
    supported_features: Sequence[SupportedFeatureKey] = field([SupportedFeatureKey], since=3, tag=0, tagged_since=3)
    finalized_features_epoch: int = field("int64", since=3, tag=1, tagged_since=3, default=-1)
    finalized_features: Sequence[FinalizedFeatureKey] = field([FinalizedFeatureKey], since=3, tag=2, tagged_since=3)
    zk_migration_ready: bool = field("bool", since=3, tag=3, tagged_since=3)
