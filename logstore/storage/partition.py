"""A partition's log, whole: what comes in (see log_writer), and here what leaves it.

Retention lets the oldest segments go, compaction puts one in the place of several, truncation cuts the end off. Each
happens under the lock that appends take, in an order that a crash in the middle cannot turn into a hole or bring back
what was gone; only retention, which may let hundreds of segments go, waits for the disk without that lock.
"""

from collections.abc import Mapping, Sequence

from logstore.errors import ForkedProcess, OffsetOutOfRange
from logstore.format.producer_snapshot import ProducerSnapshotEntry
from logstore.settings import LONG_MAX
from logstore.storage import retention
from logstore.storage.arguments import as_integer
from logstore.storage.gaps import without, write_gaps
from logstore.storage.log_writer import LogWriter
from logstore.storage.replay import replay
from logstore.storage.scan import LogBatch
from logstore.storage.segment import Segment


class PartitionLog(LogWriter):
    """One writer, many readers. See the module and LogWriter."""

    def segment_infos(self) -> list[retention.SegmentInfo]:
        """What retention decides by, one for each segment."""
        return self.view.segment_infos()

    def delete_expired(
        self, now_ms: int | None = None, committed_offsets: Mapping[str, int] | None = None
    ) -> list[retention.Expiry]:
        """Retire the segments that retention lets go; returns them. Their files stay for ``file.delete.delay.ms``.

        ``committed_offsets``: what the groups named in ``consumed.groups`` have committed, by group.
        """
        self._check_writable()
        with self._dropping, self._offline_on_failed_sync():
            expired, segments = self._expired(now_ms, committed_offsets or {})
            if expired:
                self._segments.sync_names()  # or what follows them could be gone too after a crash
            for count, segment in enumerate(segments):
                if not self._drop_oldest(segment):
                    return expired[:count]
            return expired

    def _expired(
        self, now_ms: int | None, committed: Mapping[str, int]
    ) -> tuple[list[retention.Expiry], Sequence[Segment]]:
        """None of the segments is the active one by now."""
        with self._lock:
            self._check_writable()
            expired = retention.expired(
                self.segment_infos(),
                self.config,
                self.now_ms() if now_ms is None else now_ms,
                log_start_offset=self._log_start_offset,
                high_watermark=self._log_end_offset,
                committed=committed,
            )
            if expired and expired[-1].segment.is_active:
                self.roll()
            return expired, self._segments.all[: len(expired)]

    def _drop_oldest(self, segment: Segment) -> bool:
        """Let go of the oldest segment; False where it is not this one, or there is no other, any more. Who appends
        does not wait until it is gone for good."""
        with self._lock:
            self._check_writable()
            segments = self._segments.all
            if segments[0] is not segment or len(segments) == 1:
                return False
            first_offset = segments[1].base_offset
            self._log_start_offset = max(self._log_start_offset, first_offset)
            self._segments.drop_oldest(self.now_ms())
            self.leader_epochs.truncate_from_start(self._log_start_offset)
            self._state_files.drop_snapshots(lambda offset: offset < first_offset)
        self._segments.sync_dir()
        return True

    def replace_segments(self, old: Sequence[Segment], cleaned: Segment, later: Segment) -> bool:
        """Put a finished segment in the place of those that compaction made it from. False, with nothing changed, where
        the log does not have all of these any more, or not ``later``: something behind them has been cut off, which
        compaction took for the latest record of some key.

        Raises StorageFailure: before the new segment stands as ``.swap``, nothing has changed; after that, the
        partition is offline until opening it completes the swap.
        """
        with self._lock:
            self._check_writable()
            first = self._segments.find_group(old, later)
            if first is None:
                return False
            self.was_compacted = True
            self._segments.make_swap(cleaned)
            with self._offline_on_failure():
                self._segments.replace(first, len(old), cleaned, self.now_ms())
            return True

    def set_compacted(self, later: Segment, met_damage: bool) -> None:
        """Take note of a compaction that has run; ``later`` as in ``replace_segments``."""
        with self._lock:
            self.compaction_met_damage = met_damage
            if later in self._segments.all:
                self.cut_offset = LONG_MAX

    def producer_offsets(self) -> tuple[dict[int, int], int | None]:
        """The last offset of each producer's last batch, by producer id, and the first of an open transaction."""
        with self._lock:
            last_offsets = {entry.producer_id: entry.last_offset for entry in self.producers.snapshot_entries()}
            return last_offsets, self.producers.first_unstable_offset()

    def producer_entries(self) -> list[ProducerSnapshotEntry]:
        """What is known of each producer."""
        with self._lock:
            return self.producers.snapshot_entries()

    def unlink_retired(self, *, at_once: bool = False) -> None:
        """Unlink the files of retired segments that have waited for ``file.delete.delay.ms``."""
        if isinstance(self._offline, ForkedProcess):
            self._check_writable()
        if self._segments.has_retired:
            now_ms, delay_ms = self.now_ms(), self.config.file_delete_delay_ms
            with self._lock:  # either way: the clock may have been set back
                self._segments.unlink_retired(lambda retired_ms: at_once or abs(now_ms - retired_ms) >= delay_ms)

    def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        """Forget the producers that have been idle for so long."""
        with self._lock:
            self.producers.expire(now_ms, expiration_ms)

    def advance_log_start(self, offset: int) -> int:
        """Let go of the records before ``offset``: they can no longer be read, and whole segments of them go with the
        next retention. Returns the log start offset, which never moves back. Raises OffsetOutOfRange and
        StorageFailure."""
        offset = as_integer("offset", offset)
        while True:
            self.flush()  # the log must not come back shorter than this
            with self._lock:
                self._check_writable()
                if offset > self._log_end_offset or offset < 0:
                    raise OffsetOutOfRange(self.name, offset, self._log_start_offset, self._log_end_offset)
                if offset <= self.synced_offset:  # else it was appended, or cut and appended anew, since
                    self._log_start_offset = max(self._log_start_offset, offset)
                    return self._log_start_offset

    def truncate_to(self, offset: int) -> None:
        """Cut the log so that it ends at ``offset``, or before the batch that holds it; where compaction has removed
        what was before ``offset``, behind the last batch that is left. Views from before must not be used any more.

        Raises OffsetOutOfRange, StorageFailure.
        """
        offset = as_integer("offset", offset)
        with self._lock:
            self._check_writable()
            if not self._log_start_offset <= offset <= self._log_end_offset:
                raise OffsetOutOfRange(self.name, offset, self._log_start_offset, self._log_end_offset)
            segments = self._segments.all
            offset = max(offset, segments[0].base_offset)  # those that were lost before it are not given again
            if offset == self._log_end_offset:
                return
            self.flush()
            kept_count = max(1, sum(segment.base_offset <= offset for segment in segments))
            located = segments[kept_count - 1].find(offset)
            end_offset = offset if located is None else min(offset, located.header.base_offset)
            if located is not None:
                end_offset = self._end_before(segments[kept_count - 1], located.position, end_offset)
            self.recovery_point = min(self.recovery_point, end_offset)
            self.cut_offset = min(self.cut_offset, end_offset)
            self._cut_count += 1
            self.aborted.note_cut(end_offset)
            self._save_recovery_point()
            self._log_end_offset = end_offset
            with self._offline_on_failure():
                self._segments.drop_newest(len(segments) - kept_count, self.now_ms())
                if located is not None:
                    self._segments.active.truncate(located.position)
                self._forget_after(end_offset)

    def _end_before(self, segment: Segment, position: int, end_offset: int) -> int:
        """The offset behind the last batch before ``position``, or behind a gap that reaches up to ``end_offset``: an
        end inside a hole would be taken for lost records, or be lower, when the log is opened again."""
        found_end = max(
            [segment.base_offset, *(min(last + 1, end_offset) for first, last in self._gaps if first < end_offset)]
        )
        for found in segment.scan(segment.offset_index.position_before(position - 1), segment.base_offset):
            if found.position >= position:
                break
            next_offset = found.batch.header.next_offset if isinstance(found, LogBatch) else found.next_offset
            found_end = max(found_end, next_offset or 0)
        return min(found_end, end_offset)

    def _forget_after(self, end_offset: int) -> None:
        self._state_files.drop_snapshots(lambda offset: offset > end_offset)
        self.leader_epochs.truncate_from_end(end_offset)
        self._log_start_offset = min(self._log_start_offset, end_offset)
        kept_gaps = tuple(without(self._gaps, end_offset, LONG_MAX))
        if kept_gaps != self._gaps:
            write_gaps(self.directory, kept_gaps)
            self._gaps = kept_gaps
        self._group_commit.synced_offset = min(self._group_commit.synced_offset, end_offset)
        snapshots = self._state_files.snapshot_offsets
        replay(self.directory, self._segments.all, snapshots, self.producers, self.leader_epochs)
        self._segments.active.sync()
        self._save_state()
