"""Quotas of users, clients and addresses are set or removed."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class EntityData:
    entity_type: str = field("string")
    entity_name: str | None = field("string", nullable_since=0)


@struct
class OpData:
    key: str = field("string")
    value: float = field("float64")
    remove: bool = field("bool")


@struct
class AlterClientQuotasRequestEntry:
    entity: Sequence[EntityData] = field([EntityData])
    ops: Sequence[OpData] = field([OpData])


@message(api_key=49, versions=(0, 1), flexible_since=1)
class AlterClientQuotasRequest(Message):
    entries: Sequence[AlterClientQuotasRequestEntry] = field([AlterClientQuotasRequestEntry])
    validate_only: bool = field("bool")


@struct
class AlterClientQuotasResponseEntry:
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    entity: Sequence[EntityData] = field([EntityData])


@message(api_key=49, versions=(0, 1), flexible_since=1)
class AlterClientQuotasResponse(Message):
    throttle_time_ms: int = field("int32")
    entries: Sequence[AlterClientQuotasResponseEntry] = field([AlterClientQuotasResponseEntry])
