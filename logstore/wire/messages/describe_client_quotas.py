"""Which quotas are set for users, clients and addresses."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class ComponentData:
    entity_type: str = field("string")
    match_type: int = field("int8")
    match: str | None = field("string", nullable_since=0)


@message(api_key=48, versions=(0, 1), flexible_since=1)
class DescribeClientQuotasRequest(Message):
    components: Sequence[ComponentData] = field([ComponentData])
    strict: bool = field("bool")


@struct
class EntityData:
    entity_type: str = field("string")
    entity_name: str | None = field("string", nullable_since=0)


@struct
class ValueData:
    key: str = field("string")
    value: float = field("float64")


@struct
class EntryData:
    entity: Sequence[EntityData] = field([EntityData])
    values: Sequence[ValueData] = field([ValueData])


@message(api_key=48, versions=(0, 1), flexible_since=1)
class DescribeClientQuotasResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    entries: Sequence[EntryData] | None = field([EntryData], nullable_since=0)
