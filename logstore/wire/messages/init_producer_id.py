"""A producer gets the id and epoch that make it idempotent, or those of its transactional id."""

from logstore.wire.schema import Message, field, message


@message(api_key=22, versions=(0, 6), flexible_since=2)
class InitProducerIdRequest(Message):
    transactional_id: str | None = field("string", nullable_since=0)
    transaction_timeout_ms: int = field("int32")
    producer_id: int = field("int64", since=3, default=-1)
    producer_epoch: int = field("int16", since=3, default=-1)
    enable_2pc: bool = field("bool", since=6)
    keep_prepared_txn: bool = field("bool", since=6)


@message(api_key=22, versions=(0, 6), flexible_since=2)
class InitProducerIdResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    producer_id: int = field("int64", default=-1)
    producer_epoch: int = field("int16")
    ongoing_txn_producer_id: int = field("int64", since=6, default=-1)
    ongoing_txn_producer_epoch: int = field("int16", since=6, default=-1)
