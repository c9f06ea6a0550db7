"""The settings of producers, consumers and queues."""

from dataclasses import dataclass

from logstore.errors import InvalidSetting
from logstore.settings import INT_MAX, Settings, setting


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProducerConfig(Settings):
    """The settings of a producer. Names and defaults are Kafka's."""

    acks: str = setting(
        "all",
        "what a record's future waits for. all: on the disk (embedded), on all in-sync replicas (a cluster); 1: in the "
        "page cache, on the leader; 0: nothing",
        choices=("all", "-1", "1", "0"),
    )
    enable_idempotence: bool = setting(True, "no record twice and none out of order, whatever has to be tried again")
    batch_size: int = setting(16_384, "a batch of a partition is sent when it has this size", high=INT_MAX)
    linger_ms: int = setting(5, "a batch of a partition is sent when it is this old", high=INT_MAX)
    buffer_memory: int = setting(33_554_432, "most bytes of records that are not sent yet", low=1)
    max_block_ms: int = setting(60_000, "how long send waits for room in that memory, before it raises BufferFull")
    max_request_size: int = setting(1_048_576, "the largest record, before compression", high=INT_MAX)
    delivery_timeout_ms: int = setting(120_000, "a record that is not stored by then fails", low=1, high=INT_MAX)
    request_timeout_ms: int = setting(30_000, "with a cluster: how long one request may take", low=1, high=INT_MAX)
    max_in_flight_requests_per_connection: int = setting(
        5, "with a cluster: requests under way at a time; above 1, order needs enable.idempotence", low=1, high=INT_MAX
    )
    compression_type: str = setting(
        "none", "how batches are compressed", choices=("none", "gzip", "snappy", "lz4", "zstd")
    )
    client_id: str = setting("", "who this is, for logs and, with a cluster, for quotas")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ConsumerConfig(Settings):
    """The settings of a consumer. Names and, unless a doc says otherwise, defaults are Kafka's."""

    auto_offset_reset: str = setting(
        "latest",
        "where to begin without a committed offset, or with one that is no longer in the log; none: raise "
        "NoCommittedOffset",
        choices=("earliest", "latest", "none"),
    )
    enable_auto_commit: bool = setting(True, "commit what the polls before have returned, at a poll and on closing")
    auto_commit_interval_ms: int = setting(5_000, "time between two automatic commits", high=INT_MAX)
    isolation_level: str = setting(
        "read_uncommitted",
        "read_committed: no record of a transaction that was aborted or is not finished",
        choices=("read_uncommitted", "read_committed"),
    )
    max_poll_records: int = setting(500, "most records that a poll returns", low=1, high=INT_MAX)
    max_poll_interval_ms: int = setting(
        300_000, "a member that does not poll for this long loses its partitions", low=1, high=INT_MAX
    )
    session_timeout_ms: int = setting(
        45_000, "a member that is not heard of for this long loses its partitions", low=1, high=INT_MAX
    )
    heartbeat_interval_ms: int = setting(3_000, "time between two heartbeats of a member", low=1, high=INT_MAX)
    group_instance_id: str = setting(
        "", "makes this a static member: it may come back within session.timeout.ms without a rebalance"
    )
    partition_assignment_strategy: tuple[str, ...] = setting(
        ("range", "cooperative-sticky"),
        "how partitions are handed out, the best first; all members must have one in common",
        choices=("range", "roundrobin", "sticky", "cooperative-sticky"),
    )
    fetch_max_wait_ms: int = setting(500, "with a cluster: how long a fetch may wait for fetch.min.bytes", high=INT_MAX)
    fetch_min_bytes: int = setting(1, "with a cluster: a fetch waits until there is this much", high=INT_MAX)
    fetch_max_bytes: int = setting(52_428_800, "most bytes fetched at a time", low=1, high=INT_MAX)
    max_partition_fetch_bytes: int = setting(
        1_048_576, "most bytes fetched of a partition at a time; a larger batch comes alone", low=1, high=INT_MAX
    )
    metadata_max_age_ms: int = setting(
        300_000, "with a cluster: time between two looks for new topics and partitions (embedded: seen at once)", low=1
    )
    client_id: str = setting("", "who this is, for group descriptions and logs")

    def _check(self) -> None:
        if not self.partition_assignment_strategy:
            raise InvalidSetting("partition.assignment.strategy", "", "must name a strategy, such as range")
        if self.heartbeat_interval_ms >= self.session_timeout_ms:
            raise InvalidSetting(
                "heartbeat.interval.ms",
                self.heartbeat_interval_ms,
                f"must be below session.timeout.ms={self.session_timeout_ms}",
            )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class QueueConfig(Settings):
    """The settings of a queue, kept with it."""

    visibility_timeout_ms: int = setting(
        30_000,
        "how long a message that was got, and is neither acked, nacked nor extended, stays with its worker",
        low=1,
    )
    max_deliveries: int = setting(
        5, "a message that was delivered this often and not acked goes to the dead letters; 0: never", high=INT_MAX
    )
    ordered: bool = setting(False, "messages of one key one after the other: the next when the one before is acked")
    ttl_ms: int = setting(-1, "a message that was not got at this age goes to the dead letters; -1: never", low=-1)
    max_size: int = setting(0, "put waits, or raises Full, while so many messages are unsettled; 0: no limit")
    durability: str = setting("fsync", "what put, ack and nack wait for before they return", choices=("fsync", "os"))
