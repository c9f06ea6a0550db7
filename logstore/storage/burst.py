"""Bursts: one value appended after another, many of them in one millisecond, as a queue's producers do.

What an append has to look at hardly changes from one such append to the next: the settings, the segment's age, its next
index entry, the header. So the first of a millisecond, which takes the general way, looks ahead: a ``Burst`` holds how
far those after it need not look again. Each of its limits may stop an append too early, which costs it the general way,
and never too late.
"""

from logstore.config import TopicConfig
from logstore.format.index_entry import RELATIVE_OFFSET_MAX
from logstore.format.plain_batch import LONE_OVERHEAD_MAX, LoneBatches
from logstore.storage.segment import Segment

_VALUE_SIZE_MAX = 16 << 10  # beyond, copies cost more than what a burst saves


class Burst:
    """What holds for appends of lone plain values at ``now_ms`` to ``segment``, whose ``quiet_until`` it sets, while
    the log has this ``config`` and ``leader_epoch``: the log's newest entry of leader epochs is of this one.

    A value may have up to ``value_size_max`` bytes. An offset must be below ``end_offset``. Times and age are seen to:
    the append that began it was of the same millisecond.
    """

    __slots__ = ("batches", "config", "end_offset", "leader_epoch", "now_ms", "segment", "value_size_max")

    def __init__(
        self,
        segment: Segment,
        config: TopicConfig,
        leader_epoch: int,
        now_ms: int,
        synced_offset: int,
        before: "Burst | None",
    ) -> None:
        """After an append at ``now_ms``, under the log's lock. ``before``: the log's last one."""
        self.segment = segment
        self.config = config
        self.leader_epoch = leader_epoch
        self.now_ms = now_ms
        self.batches: LoneBatches = (
            before.batches if before is not None and before.now_ms == now_ms else LoneBatches(now_ms)
        )
        # Half of the room that is left is for the positions where batches begin, the other for how large one may be.
        middle = (segment.size + config.segment_bytes) // 2
        segment.quiet_until = min(segment.unindexed_until, middle)
        room = config.segment_bytes - middle
        self.value_size_max = min(room, config.max_message_bytes, _VALUE_SIZE_MAX) - LONE_OVERHEAD_MAX
        # flush.messages: the append that makes so many unsynced has to sync.
        self.end_offset = min(segment.base_offset + RELATIVE_OFFSET_MAX + 1, synced_offset + config.flush_messages - 1)
