"""The settings of a topic."""

from dataclasses import dataclass

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
    segment_jitter_ms: int = setting(
        0, "segments are rolled up to this much before segment.ms, so that not all are rolled at one time"
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
    compression_gzip_level: int = setting(-1, "with compression.type=gzip: 1 to 9, or -1, gzip's own", low=-1, high=9)
    compression_lz4_level: int = setting(9, "with compression.type=lz4", low=1, high=17)
    compression_zstd_level: int = setting(3, "with compression.type=zstd", low=-131_072, high=22)
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
    # ---- replicas
    min_insync_replicas: int = setting(
        1,
        "how many replicas must have what was sent with acks=all; there is one of each partition here",
        low=1,
        high=INT_MAX,
    )
    unclean_leader_election_enable: bool = setting(
        False, "whether a replica that lacks records may lead: kept for Kafka's tools, there is one replica here"
    )
    leader_replication_throttled_replicas: tuple[str, ...] = setting(
        (), "which replicas are sent slowly: kept for Kafka's tools, nothing is sent to replicas here"
    )
    follower_replication_throttled_replicas: tuple[str, ...] = setting(
        (), "which replicas are fetched slowly: kept for Kafka's tools, nothing is sent to replicas here"
    )
    # ---- tiered storage
    remote_storage_enable: bool = setting(
        False, "whether old segments go to a remote storage: there is none here, so true is refused"
    )
    remote_log_copy_disable: bool = setting(False, "kept for Kafka's tools: there is no remote storage here")
    remote_log_delete_on_disable: bool = setting(False, "kept for Kafka's tools: there is no remote storage here")
    local_retention_ms: int = setting(
        -2, "retention.ms of what is in a remote storage too; kept for Kafka's tools: there is none here", low=-2
    )
    local_retention_bytes: int = setting(
        -2, "retention.bytes of what is in a remote storage too; kept for Kafka's tools: there is none here", low=-2
    )

    @property
    def compression_level(self) -> int | None:
        """Of the codec that batches are stored by; None where it has none, or they are stored as they were sent."""
        match self.compression_type:
            case "gzip":
                return self.compression_gzip_level
            case "lz4":
                return self.compression_lz4_level
            case "zstd":
                return self.compression_zstd_level
            case _:
                return None

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
        if self.compression_gzip_level == 0:
            raise InvalidSetting("compression.gzip.level", 0, "must be 1 to 9, or -1 for gzip's own")

    def check_for_one_node(self) -> None:
        """Raises InvalidSetting for what takes more than this machine: it would be promised, and not done."""
        if self.min_insync_replicas > 1:
            raise InvalidSetting(
                "min.insync.replicas", self.min_insync_replicas, "must be 1: there is one replica of each partition"
            )
        if self.remote_storage_enable:
            raise InvalidSetting("remote.storage.enable", True, "must be false: there is no remote storage")


OF_CLUSTERS = frozenset(
    {
        *("min.insync.replicas", "unclean.leader.election.enable"),
        *("leader.replication.throttled.replicas", "follower.replication.throttled.replicas"),
        *("remote.storage.enable", "remote.log.copy.disable", "remote.log.delete.on.disable"),
        *("local.retention.ms", "local.retention.bytes"),
    }
)
"""Settings that say how many machines keep a topic: nothing on one goes by them."""
