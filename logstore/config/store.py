"""The settings of a data directory, and what its topics have by default."""

from dataclasses import dataclass
from typing import Any

from logstore.config.topic import TopicConfig
from logstore.settings import INT_MAX, Settings, setting, setting_like


def _topic_default(topic_setting: str, *, unit: int = 1, is_set: bool = True) -> Any:
    """The row of a server's setting that is what topics have by default. ``is_set``: it has a value when none is
    given, the topics' own default; of several for one setting the last has."""
    row = TopicConfig.row(topic_setting)
    default = row.default if is_set else None
    if unit > 1 and isinstance(default, int):
        default //= unit
    units = {1: "", 60_000: ", in minutes", 3_600_000: ", in hours"}[unit]
    return setting_like(
        row._replace(
            default=default,
            doc=f"{topic_setting} of topics that set none{units}: {row.doc}",
            high=row.high if unit == 1 else int(row.high) // unit,
            is_dynamic=unit == 1,
            topic_setting=topic_setting,
            unit=unit,
        )
    )


_MINUTES, _HOURS = 60_000, 3_600_000


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
        134_217_728,
        "bytes for the map from keys to offsets, which bounds what one compaction covers",
        low=1024,
        is_dynamic=True,
    )
    producer_id_expiration_ms: int = setting(
        86_400_000, "how long an idle idempotent producer is remembered", low=1, high=INT_MAX, is_dynamic=True
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
    group_consumer_session_timeout_ms: int = setting(
        45_000, "a member of group.protocol=consumer that is not heard of for this long is out", low=1, high=INT_MAX
    )
    group_consumer_heartbeat_interval_ms: int = setting(
        5_000, "time between two heartbeats that such a member is told to send", low=1, high=INT_MAX
    )
    group_consumer_max_size: int = setting(INT_MAX, "most members of a group of such members", low=1, high=INT_MAX)
    # ---- the rest
    num_partitions: int = setting(1, "partitions of a topic that is created without a count", low=1, high=100_000)
    max_open_files: int = setting(
        0, "most segment files and maps kept open; 0: half of the process's soft limit (not in Kafka)", high=INT_MAX
    )
    # ---- what topics have that do not set it themselves; of several for one thing the first that is set counts
    log_segment_bytes: int = _topic_default("segment.bytes")
    log_roll_ms: int | None = _topic_default("segment.ms", is_set=False)
    log_roll_hours: int = _topic_default("segment.ms", unit=_HOURS)
    log_roll_jitter_ms: int | None = _topic_default("segment.jitter.ms", is_set=False)
    log_roll_jitter_hours: int = _topic_default("segment.jitter.ms", unit=_HOURS)
    log_index_size_max_bytes: int = _topic_default("segment.index.bytes")
    log_index_interval_bytes: int = _topic_default("index.interval.bytes")
    log_preallocate: bool = _topic_default("preallocate")
    log_cleanup_policy: tuple[str, ...] = _topic_default("cleanup.policy")
    log_retention_ms: int | None = _topic_default("retention.ms", is_set=False)
    log_retention_minutes: int | None = _topic_default("retention.ms", unit=_MINUTES, is_set=False)
    log_retention_hours: int = _topic_default("retention.ms", unit=_HOURS)
    log_retention_bytes: int = _topic_default("retention.bytes")
    log_segment_delete_delay_ms: int = _topic_default("file.delete.delay.ms")
    log_cleaner_delete_retention_ms: int = _topic_default("delete.retention.ms")
    log_cleaner_min_cleanable_ratio: float = _topic_default("min.cleanable.dirty.ratio")
    log_cleaner_min_compaction_lag_ms: int = _topic_default("min.compaction.lag.ms")
    log_cleaner_max_compaction_lag_ms: int = _topic_default("max.compaction.lag.ms")
    message_max_bytes: int = _topic_default("max.message.bytes")
    compression_type: str = _topic_default("compression.type")
    compression_gzip_level: int = _topic_default("compression.gzip.level")
    compression_lz4_level: int = _topic_default("compression.lz4.level")
    compression_zstd_level: int = _topic_default("compression.zstd.level")
    log_message_timestamp_type: str = _topic_default("message.timestamp.type")
    log_message_timestamp_before_max_ms: int = _topic_default("message.timestamp.before.max.ms")
    log_message_timestamp_after_max_ms: int = _topic_default("message.timestamp.after.max.ms")
    log_flush_interval_messages: int = _topic_default("flush.messages")
    log_flush_interval_ms: int = _topic_default("flush.ms")
    min_insync_replicas: int = _topic_default("min.insync.replicas")
    unclean_leader_election_enable: bool = _topic_default("unclean.leader.election.enable")
    log_local_retention_ms: int = _topic_default("local.retention.ms")
    log_local_retention_bytes: int = _topic_default("local.retention.bytes")

    def topic_config(self) -> TopicConfig:
        """What topics have that set nothing themselves."""
        given: dict[str, object] = {}
        for row in self.rows():
            value = getattr(self, row.field)
            if row.topic_setting and value is not None and row.topic_setting not in given:
                # Any negative number of hours is the -1 of milliseconds: no limit.
                given[row.topic_setting] = value if row.unit == 1 else max(-1, value * row.unit)
        return TopicConfig.parse(given)

    def _check(self) -> None:
        self.topic_config().check_for_one_node()
