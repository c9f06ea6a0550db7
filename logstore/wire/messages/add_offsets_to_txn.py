"""A transaction is going to commit offsets of this group."""

from logstore.wire.schema import Message, field, message


@message(api_key=25, versions=(0, 4), flexible_since=3)
class AddOffsetsToTxnRequest(Message):
    transactional_id: str = field("string")
    producer_id: int = field("int64")
    producer_epoch: int = field("int16")
    group_id: str = field("string")


@message(api_key=25, versions=(0, 4), flexible_since=3)
class AddOffsetsToTxnResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
