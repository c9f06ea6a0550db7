"""A transaction is committed or aborted."""

from logstore.wire.schema import Message, field, message


@message(api_key=26, versions=(0, 5), flexible_since=3)
class EndTxnRequest(Message):
    transactional_id: str = field("string")
    producer_id: int = field("int64")
    producer_epoch: int = field("int16")
    committed: bool = field("bool")


@message(api_key=26, versions=(0, 5), flexible_since=3)
class EndTxnResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    producer_id: int = field("int64", since=5, default=-1)
    producer_epoch: int = field("int16", since=5, default=-1)
