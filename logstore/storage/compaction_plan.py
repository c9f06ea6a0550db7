"""What of a log is dirty, which is to say not compacted yet and free to be, and whether compacting it is due.

``plan`` is a pure function of facts and the time; ``plan_log`` collects the facts. The rules are Kafka's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from logstore.config import TopicConfig
from logstore.format.batch import NO_TIMESTAMP
from logstore.settings import LONG_MAX
from logstore.storage.retention import SegmentInfo

if TYPE_CHECKING:
    from logstore.storage.partition import PartitionLog


class Plan(NamedTuple):
    """Offsets from ``first_dirty_offset`` to ``end_offset``, exclusively, are to be compacted against all before.

    ``is_overdue``: the oldest of them has waited for max.compaction.lag.ms.
    """

    first_dirty_offset: int
    end_offset: int
    clean_bytes: int
    dirty_bytes: int
    is_overdue: bool

    @property
    def dirty_ratio(self) -> float:
        return self.dirty_bytes / (self.clean_bytes + self.dirty_bytes) if self.dirty_bytes else 0.0

    def is_due(self, config: TopicConfig) -> bool:
        """Whether compacting is worth its while by now; of several logs the one with the highest ratio goes first."""
        is_dirty = self.dirty_ratio > config.min_cleanable_dirty_ratio
        return config.compacts and self.dirty_bytes > 0 and (self.is_overdue or is_dirty)


def plan(
    segments: Sequence[SegmentInfo],
    config: TopicConfig,
    now_ms: int,
    *,
    cleaned_offset: int,
    log_start_offset: int = 0,
    high_watermark: int = LONG_MAX,
    first_unstable_offset: int | None = None,
    first_timestamps_ms: Mapping[int, int] | None = None,
) -> Plan:
    """What of a log is dirty: from ``cleaned_offset`` on, as far as the segments are whole below the active one, the
    high watermark and the first open transaction, and all their records older than min.compaction.lag.ms.

    ``first_timestamps_ms``: when the first records of segments were made, by base offset, for max.compaction.lag.ms.
    """
    if cleaned_offset > segments[-1].next_offset:
        cleaned_offset = 0  # of a log that has been cut since
    first_dirty_offset = max(cleaned_offset, log_start_offset, segments[0].base_offset)
    limit = min(high_watermark, LONG_MAX if first_unstable_offset is None else first_unstable_offset)
    clean_bytes = dirty_bytes = 0
    oldest_ms = LONG_MAX
    end_offset = segments[0].base_offset
    for segment in segments:
        is_dirty = segment.next_offset > first_dirty_offset
        is_too_young = (
            is_dirty
            and 0 < config.min_compaction_lag_ms
            and (segment.max_timestamp_ms > now_ms - config.min_compaction_lag_ms)
        )
        if segment.is_active or segment.next_offset > limit or is_too_young:
            break
        end_offset = segment.next_offset
        if is_dirty:
            dirty_bytes += segment.size_bytes
            first_ms = (first_timestamps_ms or {}).get(segment.base_offset, -1)
            oldest_ms = min(oldest_ms, first_ms if first_ms >= 0 else LONG_MAX)
        else:
            clean_bytes += segment.size_bytes
    is_overdue = dirty_bytes > 0 and oldest_ms < now_ms - config.max_compaction_lag_ms
    return Plan(first_dirty_offset, max(first_dirty_offset, end_offset), clean_bytes, dirty_bytes, is_overdue)


def plan_log(log: "PartitionLog", cleaned_offset: int) -> Plan:
    """``plan`` with the facts of a log as it is now. Raises StorageFailure, and DamagedLog for a first batch."""
    cleaned_offset = min(cleaned_offset, log.cut_offset)
    infos = log.segment_infos()
    first_timestamps_ms: dict[int, int] = {}
    if log.config.max_compaction_lag_ms < LONG_MAX:
        for segment in log.view.segments:
            if segment.base_offset >= cleaned_offset:
                first = next(segment.headers(), None)
                first_timestamps_ms[segment.base_offset] = first.header.max_timestamp if first else NO_TIMESTAMP
    return plan(
        infos,
        log.config,
        log.now_ms(),
        cleaned_offset=cleaned_offset,
        log_start_offset=log.log_start_offset,
        high_watermark=log.log_end_offset,
        first_unstable_offset=log.producer_offsets()[1],
        first_timestamps_ms=first_timestamps_ms,
    )
