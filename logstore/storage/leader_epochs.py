"""Which leader wrote which offsets of one partition: the epochs of its leaders, and where each began.

Owns: a short list of (epoch, start offset), both rising. It answers OffsetForLeaderEpoch, by which clients and
followers find where their log and the leader's part (KIP-101, KIP-320). The rules are Kafka's.

Promises after a crash: nothing by itself. The list is kept in ``leader-epoch-checkpoint``, and what the file misses is
assigned again from the batches that recovery reads. Pure: no files. The partition's writer changes it, by replacing
the tuple ``entries``; whoever reads it meanwhile sees the old list or the new one.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1


class EpochEntry(NamedTuple):
    """The leader of ``epoch`` wrote the offsets from ``start_offset`` up to the next entry's."""

    epoch: int
    start_offset: int


class LeaderEpochs:
    __slots__ = ("entries",)

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        """From a checkpoint's (epoch, start offset) pairs; where they do not rise, the later ones are right."""
        self.entries: tuple[EpochEntry, ...] = ()
        for epoch, start_offset in entries:
            self.assign(epoch, start_offset)

    @property
    def latest(self) -> int | None:
        """The newest epoch, or None while none is known."""
        return self.entries[-1].epoch if self.entries else None

    def assign(self, epoch: int, start_offset: int) -> bool:
        """Take note of a batch of ``epoch`` at ``start_offset``; whether the list changed.

        Entries that contradict it, with this epoch or a later one or from this offset on, are of a log that was
        overwritten, and go. Batches of no epoch (negative) change nothing.
        """
        entries = self.entries
        if epoch < 0 or (entries and entries[-1].epoch == epoch and entries[-1].start_offset <= start_offset):
            return False
        kept = len(entries)
        while kept and (entries[kept - 1].epoch >= epoch or entries[kept - 1].start_offset >= start_offset):
            kept -= 1
        self.entries = (*entries[:kept], EpochEntry(epoch, start_offset))
        return True

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """The largest known epoch up to ``epoch``, and the offset at which it ends: OffsetForLeaderEpoch's answer.

        (-1, -1) for an epoch that is newer than all known ones, or negative. For one that is older than all, itself
        and the first known offset.
        """
        entries = self.entries
        if epoch < 0 or not entries or epoch > entries[-1].epoch:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == entries[-1].epoch:
            return epoch, log_end_offset
        higher = bisect_right(entries, epoch, key=lambda entry: entry.epoch)
        floor = entries[higher - 1].epoch if higher else epoch
        return floor, entries[higher].start_offset

    def epoch_for(self, offset: int) -> int | None:
        """The epoch of the leader that wrote ``offset``; None before the first entry."""
        following = bisect_right(self.entries, offset, key=lambda entry: entry.start_offset)
        return self.entries[following - 1].epoch if following else None

    def truncate_from_end(self, end_offset: int) -> bool:
        """The log now ends at ``end_offset``: drop the epochs that began there or later; whether the list changed."""
        before = self.entries
        self.entries = tuple(entry for entry in before if entry.start_offset < end_offset)
        return self.entries != before

    def truncate_from_start(self, start_offset: int) -> bool:
        """The log now starts at ``start_offset``: its epoch begins there, earlier ones go; whether changed."""
        before = self.entries
        following = bisect_right(before, start_offset, key=lambda entry: entry.start_offset)
        if following:
            self.entries = (EpochEntry(before[following - 1].epoch, start_offset), *before[following:])
        return self.entries != before
