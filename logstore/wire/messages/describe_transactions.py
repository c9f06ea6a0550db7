"""What state transactions are in, and which partitions they have written to."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@message(api_key=65, versions=(0, 0), flexible_since=0)
class DescribeTransactionsRequest(Message):
    transactional_ids: Sequence[str] = field(["string"])


@struct
class TopicData:
    topic: str = field("string")
    partitions: Sequence[int] = field(["int32"])


@struct
class TransactionState:
    error_code: int = field("int16")
    transactional_id: str = field("string")
    transaction_state: str = field("string")
    transaction_timeout_ms: int = field("int32")
    transaction_start_time_ms: int = field("int64")
    producer_id: int = field("int64")
    producer_epoch: int = field("int16")
    topics: Sequence[TopicData] = field([TopicData])


@message(api_key=65, versions=(0, 0), flexible_since=0)
class DescribeTransactionsResponse(Message):
    throttle_time_ms: int = field("int32")
    transaction_states: Sequence[TransactionState] = field([TransactionState])
