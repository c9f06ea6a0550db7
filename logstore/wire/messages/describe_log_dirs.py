"""How much each partition takes up in a broker's directories, and how much room is left there."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class DescribableLogDirTopic:
    topic: str = field("string")
    partitions: Sequence[int] = field(["int32"])


@message(api_key=35, versions=(1, 4), flexible_since=2)
class DescribeLogDirsRequest(Message):
    topics: Sequence[DescribableLogDirTopic] | None = field([DescribableLogDirTopic], nullable_since=0)


@struct
class DescribeLogDirsPartition:
    partition_index: int = field("int32")
    partition_size: int = field("int64")
    offset_lag: int = field("int64")
    is_future_key: bool = field("bool")


@struct
class DescribeLogDirsTopic:
    name: str = field("string")
    partitions: Sequence[DescribeLogDirsPartition] = field([DescribeLogDirsPartition])


@struct
class DescribeLogDirsResult:
    error_code: int = field("int16")
    log_dir: str = field("string")
    topics: Sequence[DescribeLogDirsTopic] = field([DescribeLogDirsTopic])
    total_bytes: int = field("int64", since=4, default=-1)
    usable_bytes: int = field("int64", since=4, default=-1)


@message(api_key=35, versions=(1, 4), flexible_since=2)
class DescribeLogDirsResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16", since=3)
    results: Sequence[DescribeLogDirsResult] = field([DescribeLogDirsResult])
