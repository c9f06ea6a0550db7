"""Compaction: of each key only the latest record stays, at the offset that it has.

What is *dirty*, not compacted yet and free to be, is decided in compaction_plan. ``compact`` goes on from there, in one
thread, while others append and read:

1. Make the log durable up to here: what is compacted must not come back shorter after a power cut.
2. Put the keys of the dirty range into an ``OffsetMap``, the oldest first, until its memory is used up: the range ends
   there, and the next run goes on from there. It ends too before a transaction that is not decided.
3. From the log's first segment to the range's end, write groups of neighbouring segments anew as one, without the
   records that the map has a later one for (see batch_cleaning), as ``.log.cleaned``, synced.
4. Under the partition's lock, see that the log still has these segments, and swap (PartitionLog.replace_segments).

A crash at any step leaves either the old segments or the new one, group by group, the oldest first. So whatever a
tombstone deletes is gone for good before the tombstone is.

A group with damage in it is left as it is, logged and reported. Behind it tombstones stay, and the offset up to which
the log counts as compacted does not pass it: an old value may come back to light when the damage is salvaged.
"""

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from logstore.config import StoreConfig
from logstore.errors import CorruptBatch, StorageFailure
from logstore.format.batch import HEADER_SIZE, NO_PRODUCER_ID, BatchHeader, RecordBatch
from logstore.format.control_record import control_type
from logstore.format.index_entry import RELATIVE_OFFSET_MAX, TIME_ENTRY_SIZE
from logstore.format.record import Buffer
from logstore.settings import LONG_MAX
from logstore.storage import files
from logstore.storage.batch_cleaning import Chunk, Rules, chunks, clean, emptied, note_keys
from logstore.storage.compaction_plan import plan_log
from logstore.storage.offset_map import OffsetMap
from logstore.storage.segment import Segment

if TYPE_CHECKING:
    from logstore.storage.partition import PartitionLog

logger = logging.getLogger("logstore.storage")

_WRITE_SIZE = 1 << 20


class CompactionResult(NamedTuple):
    """``cleaned_offset``: all before it is compacted. ``damages``: why groups of segments were left as they are.

    Segments, bytes and records are counted over what was looked at: the log up to the end of the dirty range.
    """

    cleaned_offset: int
    segment_count_before: int
    segment_count_after: int
    bytes_before: int
    bytes_after: int
    records_kept: int
    records_dropped: int
    seconds: float
    damages: tuple[CorruptBatch, ...] = ()


def never() -> bool:
    return False


def compact_if_due(
    log: "PartitionLog", cleaned_offset: int, config: StoreConfig, should_stop: Callable[[], bool] = never
) -> CompactionResult | None:
    """``compact`` if it is worth its while by now, else None: so too once damage was met, since a next run would only
    meet it again, until the log is salvaged and opened anew."""
    if log.compaction_met_damage or not plan_log(log, cleaned_offset).is_due(log.config):
        return None
    result = compact(log, cleaned_offset, config.log_cleaner_dedupe_buffer_size, should_stop)
    if result.records_dropped or result.segment_count_after < result.segment_count_before:
        logger.info(
            "%s: compacted up to offset %d: %d of %d records, %d of %d bytes are left, in %.1f s",
            *(log.name, result.cleaned_offset, result.records_kept, result.records_kept + result.records_dropped),
            *(result.bytes_after, result.bytes_before, result.seconds),
        )
    return result


def compact(
    log: "PartitionLog", cleaned_offset: int, map_size_bytes: int, should_stop: Callable[[], bool] = never
) -> CompactionResult:
    """Compact what is dirty from ``cleaned_offset`` on, due or not. One run at a time for a log.

    ``should_stop`` is asked now and then; once it says so, what is not finished is dropped. Raises StorageFailure
    (DiskFull): groups that were finished stay compacted, the others are as they were; PartitionOffline, Closed.
    """
    started = time.perf_counter()
    log.flush()
    run = _Run(log, cleaned_offset, map_size_bytes, should_stop)
    groups = run.groups()
    for group in groups:
        run.clean_group(group)
    log.set_compacted(run.active, bool(run.damages))
    return CompactionResult(
        run.cleaned_offset,
        sum(map(len, groups)),
        run.segment_count_after,
        sum(segment.size for group in groups for segment in group),
        run.bytes_after,
        run.records_kept,
        run.records_dropped,
        time.perf_counter() - started,
        tuple(run.damages),
    )


class _Run:
    """One compaction of one log. ``active`` is the segment that grew when it began: while the log has that one, nothing
    that the map knows of has been cut off."""

    def __init__(
        self, log: "PartitionLog", cleaned_offset: int, map_size_bytes: int, should_stop: Callable[[], bool]
    ) -> None:
        self.log = log
        self.should_stop = should_stop
        self.segments = log.view.segments
        self.active = self.segments[-1]
        last_offsets, _ = log.producer_offsets()
        planned = plan_log(log, cleaned_offset)
        self.first_dirty_offset = planned.first_dirty_offset
        self.end_offset = min(planned.end_offset, self.active.base_offset)
        self.damages: list[CorruptBatch] = []
        self.damaged: dict[Segment, CorruptBatch] = {}
        self.transactions = _Transactions()
        self.offset_map = OffsetMap(map_size_bytes, max(1, self.end_offset - self.first_dirty_offset))
        self._fill_map()
        self.cleaned_offset = max(self.first_dirty_offset, self.end_offset)
        self.records_kept = self.records_dropped = self.bytes_after = self.segment_count_after = 0
        self.rules = Rules(
            end_offset=self.end_offset,
            now_ms=log.now_ms(),
            delete_retention_ms=log.config.delete_retention_ms,
            drops_tombstones=True,
            last_offsets=last_offsets,
            is_aborted=self.transactions.is_aborted,
        )

    # ------------------------------------------------------------------------------------------------- what is dirty

    def _fill_map(self) -> None:
        """Note the dirty range's keys; lowers ``end_offset`` to where the map is full or a transaction undecided."""
        first = max(0, bisect_right(self.segments, self.first_dirty_offset, key=attrgetter("base_offset")) - 1)
        for index in range(first, len(self.segments)):
            if self.segments[index].base_offset >= self.end_offset:
                break
            try:
                for chunk in chunks(self._dirty_batches(index), self._has_no_keys):
                    if self.should_stop():
                        self.end_offset = self.first_dirty_offset
                        return
                    full_at = note_keys(chunk, self.offset_map, self.first_dirty_offset, self.end_offset)
                    if full_at is not None:
                        self.end_offset = full_at
                        return
            except CorruptBatch as error:
                self.damaged[self.segments[index]] = error

    def _has_no_keys(self, header: BatchHeader) -> bool:
        return header.is_control or self.transactions.is_aborted(header)

    def _dirty_batches(self, index: int) -> Iterator[RecordBatch]:
        segment = self.segments[index]
        located = segment.find(self.first_dirty_offset)
        for batch in segment.batches(located.position) if located else ():
            header = batch.header
            if header.is_transactional and not self.transactions.are_known:
                self.transactions.read(self.segments[index:])
                self.end_offset = min(self.end_offset, self.transactions.undecided_offset)
            if header.base_offset >= self.end_offset:
                return
            yield batch

    # -------------------------------------------------------------------------------------------------- what is kept

    def groups(self) -> list[tuple[Segment, ...]]:
        """The segments up to the range's end, in groups that make one each: within segment.bytes, segment.index.bytes
        and the offsets that an index can hold."""
        groups: list[tuple[Segment, ...]] = []
        if self.end_offset <= self.first_dirty_offset:
            return groups
        config = self.log.config
        size = 0
        for segment, following in zip(self.segments, self.segments[1:]):
            if segment.base_offset >= self.end_offset:
                break
            size += segment.size
            entry_count_max = size // max(HEADER_SIZE, config.index_interval_bytes) + 2
            if (
                groups
                and size <= config.segment_bytes
                and entry_count_max * TIME_ENTRY_SIZE <= config.segment_index_bytes
                and following.base_offset - 1 - groups[-1][0].base_offset <= RELATIVE_OFFSET_MAX
            ):
                groups[-1] += (segment,)
            else:
                groups.append((segment,))
                size = segment.size
        return groups

    def clean_group(self, group: tuple[Segment, ...]) -> None:
        """Put one segment in the place of these; leaves them where they are damaged, or not all there any more."""
        if not self.should_stop():
            cleaned = Segment.unfinished(group[0], group[-1].modified_ms)
            try:
                if self._replace(group, cleaned):
                    return
            except CorruptBatch as error:
                self.damages.append(error)
                logger.warning("%s: not compacted where it is damaged: %s", self.log.name, error)
            except StorageFailure:
                cleaned.remove_unfinished()
                raise
            cleaned.remove_unfinished()
        self._count(len(group), sum(segment.size for segment in group))
        self.cleaned_offset = min(self.cleaned_offset, group[0].base_offset)
        self.rules = replace(self.rules, drops_tombstones=False)

    def _count(self, segment_count: int, size: int, records_kept: int = 0, records_dropped: int = 0) -> None:
        self.segment_count_after += segment_count
        self.bytes_after += size
        self.records_kept += records_kept
        self.records_dropped += records_dropped

    def _replace(self, group: tuple[Segment, ...], cleaned: Segment) -> bool:
        """Write what stays of the group, and swap it in: False where that is no longer to be done."""
        writer = _Writer(cleaned)
        kept_count = dropped_count = 0
        is_changed = len(group) > 1
        last: BatchHeader | None = None
        last_is_kept = True
        for segment in group:
            for header, data, count in self._cleaned_batches(segment):
                is_changed |= not last_is_kept or isinstance(data, bytes)  # a memoryview is the batch as it was
                last, last_is_kept = header, data is not None
                kept_count += count
                dropped_count += header.record_count - count
                if data is not None:
                    writer.write(data)
            if self.should_stop():
                return False
        if last is not None and not last_is_kept:
            # It says up to which offset the new segment stands for the old ones.
            writer.write(emptied(last))
            is_changed |= last.record_count > 0
        if last is None or not is_changed:
            cleaned.remove_unfinished()
            self._count(len(group), sum(segment.size for segment in group), kept_count)
            return True
        writer.finish()
        if not self.log.replace_segments(group, cleaned, self.active):
            return False
        self._count(1, cleaned.size, kept_count, dropped_count)
        return True

    def _cleaned_batches(self, segment: Segment) -> Iterator[tuple[BatchHeader, Buffer | None, int]]:
        if segment in self.damaged:
            raise _placed(self.damaged[segment], segment)
        try:
            for chunk in chunks(segment.batches(), self.rules.skips):
                if self.should_stop():
                    return
                yield from clean(chunk, self.offset_map, self.rules)
        except CorruptBatch as error:
            raise _placed(error, segment) from None


def _placed(error: CorruptBatch, segment: Segment) -> CorruptBatch:
    """The error at its batch in the file. One without a path is of records, and was found in many batches' at once."""
    if error.path:
        return error
    position = 0
    for batch in segment.batches():
        header = batch.header
        try:
            Chunk([batch], [None if header.is_control else batch.body()])
        except CorruptBatch as found:
            reason = f"the records of offsets {header.base_offset} to {header.last_offset}: {found.reason}"
            return CorruptBatch(reason, position, str(segment.path))
        position += header.size
    return CorruptBatch(error.reason, error.position, str(segment.path))


class _Writer:
    """Fills the file of an unfinished segment."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._file = files.open_file(segment.path, writable=True, create=True)
        self._file.truncate(0)
        self._pieces: list[Buffer] = []
        self._size = 0

    def write(self, data: Buffer) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _WRITE_SIZE:
            self._write_pieces()

    def _write_pieces(self) -> None:
        self._file.write_pieces_at(self.segment.size, self._pieces)
        self.segment.size += self._size
        self._pieces, self._size = [], 0

    def finish(self) -> None:
        """Log and indexes on the disk. Raises DamagedLog where what was written cannot be read."""
        self._write_pieces()
        self._file.sync()
        self._file.close()
        for damage in self.segment.rebuild_indexes():
            raise self.segment.damaged(damage)


class _Transactions:
    """Which transactions were aborted, found by their markers. Read when the first transactional batch is met."""

    def __init__(self) -> None:
        self.are_known = False
        self.undecided_offset = LONG_MAX  # from here on there may be records of a transaction without a marker yet
        self._aborted: dict[int, list[tuple[int, int]]] = {}

    def is_aborted(self, header: BatchHeader) -> bool:
        """Whether it is a batch of records that no reader is to see."""
        if not header.is_transactional or header.is_control:
            return False
        spans = self._aborted.get(header.producer_id, ())
        return any(first <= header.base_offset <= last for first, last in spans)

    def read(self, segments: Sequence[Segment]) -> None:
        """Walk the headers of these segments, the rest of the log, up to damage or its end."""
        self.are_known = True
        open_since: dict[int, int] = {}
        for segment in segments:
            try:
                for position, header in segment.headers():
                    if header.is_control:
                        self._end(header, open_since.pop(header.producer_id, None), segment, position)
                    elif header.is_transactional:
                        open_since.setdefault(header.producer_id, header.base_offset)
            except (CorruptBatch, IndexError):
                open_since[NO_PRODUCER_ID] = segment.base_offset
                break
        self.undecided_offset = min(open_since.values(), default=LONG_MAX)

    def _end(self, marker: BatchHeader, first_offset: int | None, segment: Segment, position: int) -> None:
        if first_offset is None:
            return
        if control_type(next(segment.batches(position)).records()[0]) == "ABORT":
            self._aborted.setdefault(marker.producer_id, []).append((first_offset, marker.base_offset))
