"""All transactions that a broker coordinates, or those that filters let through."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@message(api_key=66, versions=(0, 2), flexible_since=0)
class ListTransactionsRequest(Message):
    state_filters: Sequence[str] = field(["string"])
    producer_id_filters: Sequence[int] = field(["int64"])
    duration_filter: int = field("int64", since=1, default=-1)
    transactional_id_pattern: str | None = field("string", since=2, nullable_since=2, default=None)


@struct
class TransactionState:
    transactional_id: str = field("string")
    producer_id: int = field("int64")
    transaction_state: str = field("string")


@message(api_key=66, versions=(0, 2), flexible_since=0)
class ListTransactionsResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    unknown_state_filters: Sequence[str] = field(["string"])
    transaction_states: Sequence[TransactionState] = field([TransactionState])
