"""Partitions that a transaction is going to write to. From version 4 on brokers ask for several transactions."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class AddPartitionsToTxnTopic:
    name: str = field("string")
    partitions: Sequence[int] = field(["int32"])


@struct
class AddPartitionsToTxnTransaction:
    transactional_id: str = field("string")
    producer_id: int = field("int64")
    producer_epoch: int = field("int16")
    verify_only: bool = field("bool")
    topics: Sequence[AddPartitionsToTxnTopic] = field([AddPartitionsToTxnTopic])


@message(api_key=24, versions=(0, 5), flexible_since=3)
class AddPartitionsToTxnRequest(Message):
    transactions: Sequence[AddPartitionsToTxnTransaction] = field([AddPartitionsToTxnTransaction], since=4)
    v3_and_below_transactional_id: str = field("string", until=3)
    v3_and_below_producer_id: int = field("int64", until=3)
    v3_and_below_producer_epoch: int = field("int16", until=3)
    v3_and_below_topics: Sequence[AddPartitionsToTxnTopic] = field([AddPartitionsToTxnTopic], until=3)


@struct
class AddPartitionsToTxnPartitionResult:
    partition_index: int = field("int32")
    partition_error_code: int = field("int16")


@struct
class AddPartitionsToTxnTopicResult:
    name: str = field("string")
    results_by_partition: Sequence[AddPartitionsToTxnPartitionResult] = field([AddPartitionsToTxnPartitionResult])


@struct
class AddPartitionsToTxnResult:
    transactional_id: str = field("string")
    topic_results: Sequence[AddPartitionsToTxnTopicResult] = field([AddPartitionsToTxnTopicResult])


@message(api_key=24, versions=(0, 5), flexible_since=3)
class AddPartitionsToTxnResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16", since=4)
    results_by_transaction: Sequence[AddPartitionsToTxnResult] = field([AddPartitionsToTxnResult], since=4)
    results_by_topic_v3_and_below: Sequence[AddPartitionsToTxnTopicResult] = field(
        [AddPartitionsToTxnTopicResult], until=3
    )
