"""The settings of topics, stores and clients: Kafka's names, one row each: name, type, default, what it does."""

from dataclasses import dataclass

from logstore.addresses import Address, Listener, parse_address, parse_listener, parse_protocol_map
from logstore.errors import InvalidSetting
from logstore.settings import INT_MAX, LONG_MAX, Settings, as_text, setting


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TopicConfig(Settings):
    """The settings of one topic. Names and, unless a doc says otherwise, defaults are Kafka's."""

    # ---- segments
    segment_bytes: int = setting(1 << 30, "a segment is rolled before it grows past this size", low=14, high=INT_MAX)
    segment_ms: int = setting(
        604_800_000, "a segment is rolled once it is this old, with or without new records", low=1
    )
    segment_index_bytes: int = setting(
        10 << 20, "a segment is rolled when one of its indexes has this size", low=24, high=INT_MAX
    )
    index_interval_bytes: int = setting(4096, "bytes of log between two entries of the offset index", high=INT_MAX)
    preallocate: bool = setting(False, "whether the active segment's file has its full size, segment.bytes, at once")
    # ---- what is kept
    cleanup_policy: tuple[str, ...] = setting(
        ("delete",),
        "what goes. delete: by retention.ms and retention.bytes; compact: all but the newest record of each key; "
        "delete,compact: both; consumed (not in Kafka): what all of consumed.groups have committed",
        choices=("delete", "compact", "consumed"),
    )
    retention_ms: int = setting(604_800_000, "with delete: the age at which segments go; -1 for ever", low=-1)
    retention_bytes: int = setting(
        -1, "with delete: the oldest segments go while this much is left; -1 no limit", low=-1
    )
    consumed_groups: tuple[str, ...] = setting((), "with consumed: the groups that must all have committed a segment")
    unconsumed_retention_ms: int = setting(
        -1, "with consumed: the age at which segments go even if a group has not committed them; -1 never", low=-1
    )
    file_delete_delay_ms: int = setting(60_000, "how long a deleted segment's files stay, renamed, for their readers")
    # ---- compaction
    delete_retention_ms: int = setting(
        86_400_000, "how long compaction keeps tombstones, for readers to see the deletion"
    )
    min_cleanable_dirty_ratio: float = setting(0.5, "compact once this share of the log is not compacted yet", high=1)
    min_compaction_lag_ms: int = setting(0, "a record is not compacted away before this age")
    max_compaction_lag_ms: int = setting(LONG_MAX, "a record is compacted at this age whatever the dirty ratio", low=1)
    # ---- records
    max_message_bytes: int = setting(
        1_048_588, "the largest record batch accepted, as it is sent, header included", high=INT_MAX
    )
    compression_type: str = setting(
        "producer",
        "how batches are stored; producer: as they were sent",
        choices=("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
    )
    message_timestamp_type: str = setting(
        "CreateTime",
        "a record's timestamp is the producer's, or the time of its append",
        choices=("CreateTime", "LogAppendTime"),
    )
    message_timestamp_before_max_ms: int = setting(
        LONG_MAX, "with CreateTime: records with a timestamp longer ago than this are refused"
    )
    message_timestamp_after_max_ms: int = setting(
        3_600_000, "with CreateTime: records with a timestamp further in the future than this are refused"
    )
    # ---- durability
    flush_messages: int = setting(LONG_MAX, "fsync after this many records, asked for or not", low=1)
    flush_ms: int = setting(LONG_MAX, "fsync records that have waited this long, asked for or not")

    @property
    def deletes(self) -> bool:
        return "delete" in self.cleanup_policy

    @property
    def compacts(self) -> bool:
        return "compact" in self.cleanup_policy

    @property
    def drops_consumed(self) -> bool:
        return "consumed" in self.cleanup_policy

    def _check(self) -> None:
        policy = as_text(self.cleanup_policy)
        if not self.cleanup_policy:
            raise InvalidSetting("cleanup.policy", policy, "must name a policy; to keep all, set retention.ms=-1")
        if self.drops_consumed and len(self.cleanup_policy) > 1:
            raise InvalidSetting(
                "cleanup.policy", policy, "consumed stands alone; unconsumed.retention.ms limits the age"
            )
        if self.drops_consumed and not self.consumed_groups:
            raise InvalidSetting("cleanup.policy", policy, "needs the groups to wait for: set consumed.groups with it")
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms:
            raise InvalidSetting(
                "min.compaction.lag.ms",
                self.min_compaction_lag_ms,
                f"must not be above max.compaction.lag.ms={self.max_compaction_lag_ms}",
            )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StoreConfig(Settings):
    """The settings of one data directory, in the process that owns it."""

    log_retention_check_interval_ms: int = setting(300_000, "time between two runs of roll and retention", low=1)
    log_flush_scheduler_interval_ms: int = setting(
        1_000, "time between two looks for records due by flush.ms (Kafka's default, never, makes flush.ms idle)", low=1
    )
    log_flush_offset_checkpoint_interval_ms: int = setting(
        60_000, "time between two writes of the recovery points: what is below needs no check after a crash", low=1
    )
    log_cleaner_backoff_ms: int = setting(15_000, "how long compaction rests when there is nothing to compact", low=1)
    log_cleaner_dedupe_buffer_size: int = setting(
        134_217_728, "bytes for the map from keys to offsets, which bounds what one compaction covers", low=1024
    )
    producer_id_expiration_ms: int = setting(
        86_400_000, "how long an idle idempotent producer is remembered", low=1, high=INT_MAX
    )
    num_recovery_threads_per_data_dir: int = setting(
        2, "threads that recover partitions after a crash", low=1, high=1024
    )
    # ---- consumer groups
    offsets_topic_num_partitions: int = setting(
        1, "partitions of __consumer_offsets when it is created (Kafka: 50)", low=1, high=100_000
    )
    offsets_retention_minutes: int = setting(
        10_080, "how long committed offsets stay once their group has no members", low=1, high=INT_MAX
    )
    offsets_retention_check_interval_ms: int = setting(600_000, "time between two looks for offsets that expire", low=1)
    offset_metadata_max_bytes: int = setting(4096, "the largest text that goes with a committed offset", high=INT_MAX)
    group_initial_rebalance_delay_ms: int = setting(
        0, "how long the first rebalance of a new group waits for more members (Kafka: 3000)", high=INT_MAX
    )
    group_min_session_timeout_ms: int = setting(
        6_000, "the shortest session.timeout.ms that a member may ask for", low=1, high=INT_MAX
    )
    group_max_session_timeout_ms: int = setting(
        1_800_000, "the longest session.timeout.ms that a member may ask for", low=1, high=INT_MAX
    )
    group_max_size: int = setting(INT_MAX, "most members of a group", low=1, high=INT_MAX)
    # ---- the rest
    num_partitions: int = setting(1, "partitions of a topic that is created without a count", low=1, high=100_000)
    max_open_files: int = setting(
        0, "most segment files and maps kept open; 0: half of the process's soft limit (not in Kafka)", high=INT_MAX
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BrokerConfig(Settings):
    """The settings of a broker's server. Names and, unless a doc says otherwise, defaults are Kafka's.

    What the broker's data directory and groups are set by is in StoreConfig.
    """

    # ---- who and where it is
    listeners: tuple[str, ...] = setting(
        ("PLAINTEXT://127.0.0.1:9092",),
        "where clients connect, as NAME://HOST:PORT; no host: all interfaces, port 0: one that is free (Kafka: all "
        "interfaces)",
    )
    advertised_listeners: tuple[str, ...] = setting(
        (), "what clients are told to connect to; none: the listener, or, if that is all interfaces, the machine's name"
    )
    listener_security_protocol_map: tuple[str, ...] = setting(
        ("PLAINTEXT:PLAINTEXT", "SSL:SSL", "SASL_PLAINTEXT:SASL_PLAINTEXT", "SASL_SSL:SASL_SSL"),
        "the protocols of listeners by their names",
    )
    controller_listener_names: tuple[str, ...] = setting(
        (), "listeners of Kafka's controllers: left out, for there are none here"
    )
    node_id: int = setting(-1, "the broker's number; -1: that of the directory's meta.properties", low=-1, high=INT_MAX)
    broker_rack: str = setting("", "the rack that clients are told of")
    # ---- what clients may do
    auto_create_topics_enable: bool = setting(True, "whether a topic that a client asks for is made if missing")
    delete_topic_enable: bool = setting(True, "whether clients may delete topics")
    acks_all_durability: str = setting(
        "fsync",
        "what a produce request with acks=all waits for. fsync: on the disk; os: in the page cache (not in Kafka, "
        "which waits for replicas)",
        choices=("fsync", "os"),
    )
    # ---- limits
    socket_request_max_bytes: int = setting(104_857_600, "the largest request", low=1, high=INT_MAX)
    fetch_max_bytes: int = setting(57_671_680, "most bytes that a fetch is answered with", low=1024, high=INT_MAX)
    queued_max_request_bytes: int = setting(
        268_435_456, "most bytes of requests in memory, of all connections together; -1 no limit (Kafka: none)", low=-1
    )
    max_connections: int = setting(INT_MAX, "most connections", low=1, high=INT_MAX)
    max_connections_per_ip: int = setting(INT_MAX, "most connections from one address", low=1, high=INT_MAX)
    max_incremental_fetch_session_cache_slots: int = setting(1_000, "most fetch sessions", high=1_000_000)
    socket_listen_backlog_size: int = setting(
        1_024, "connections that wait to be accepted (Kafka: 50)", low=1, high=INT_MAX
    )
    num_io_threads: int = setting(8, "threads for what blocks: syncs, cold reads, topics", low=1, high=1_024)
    # ---- deadlines
    connections_max_idle_ms: int = setting(600_000, "a connection without a request for this long is closed", low=1)
    request_read_timeout_ms: int = setting(
        30_000, "a connection whose request is not whole this long after it began is closed (not in Kafka)", low=1
    )
    response_write_timeout_ms: int = setting(
        30_000, "a connection whose client reads nothing of a response for this long is closed (not in Kafka)", low=1
    )
    shutdown_timeout_ms: int = setting(
        5_000, "how long the end waits for requests that are under way (not in Kafka)", low=0
    )
    # ---- what is told
    metrics_listener: str = setting("", "HOST:PORT of GET /metrics for Prometheus; none: no metrics (not in Kafka)")

    @property
    def listener(self) -> Listener:
        """Where clients connect."""
        return self._clients_listener("listeners", self.listeners)

    @property
    def advertised(self) -> Address | None:
        """What clients are told to connect to, where it is given."""
        if not self.advertised_listeners:
            return None
        return self._clients_listener("advertised.listeners", self.advertised_listeners).address

    @property
    def metrics_address(self) -> Address | None:
        if not self.metrics_listener:
            return None
        try:
            return parse_address(self.metrics_listener)
        except ValueError as error:
            raise InvalidSetting("metrics.listener", self.metrics_listener, str(error)) from None

    def _check(self) -> None:
        listener, advertised, _ = self.listener, self.advertised, self.metrics_address
        if advertised is not None and (advertised.is_wildcard or not advertised.port):
            given = as_text(self.advertised_listeners)
            raise InvalidSetting("advertised.listeners", given, "must be a host and a port to connect to")
        protocol = self._protocols().get(listener.name)
        if protocol != "PLAINTEXT":
            reason = (
                f"only PLAINTEXT is spoken, and {listener.name} is {protocol}"
                if protocol
                else f"{listener.name} is not in listener.security.protocol.map"
            )
            raise InvalidSetting("listeners", as_text(self.listeners), reason)

    def _protocols(self) -> dict[str, str]:
        try:
            return parse_protocol_map(self.listener_security_protocol_map)
        except ValueError as error:
            given = as_text(self.listener_security_protocol_map)
            raise InvalidSetting("listener.security.protocol.map", given, str(error)) from None

    def _clients_listener(self, name: str, texts: tuple[str, ...]) -> Listener:
        """The one that is not for controllers."""
        controllers = {controller.upper() for controller in self.controller_listener_names}
        try:
            listeners = [listener for text in texts if (listener := parse_listener(text)).name not in controllers]
        except ValueError as error:
            raise InvalidSetting(name, as_text(texts), str(error)) from None
        if len(listeners) != 1:
            raise InvalidSetting(name, as_text(texts), f"must be one listener for clients, not {len(listeners)}")
        return listeners[0]


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
