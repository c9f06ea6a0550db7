"""Reading a partition: a snapshot of its segments and bounds, which costs nothing to take and needs no lock.

A view never changes. Segments that retention removes meanwhile can still be read until their files are unlinked, and
open slices even after that.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from logstore.errors import CorruptBatch, DamagedLog, InvalidArgument, OffsetGap, OffsetOutOfRange
from logstore.format.batch import NO_TIMESTAMP, BatchHeader, RecordBatch
from logstore.format.record import Record
from logstore.settings import LONG_MAX
from logstore.storage.arguments import as_integer
from logstore.storage.file_slice import FileSlice
from logstore.storage.retention import SegmentInfo
from logstore.storage.segment import Segment
from logstore.storage.segment_list import base_offset_of
from logstore.storage.segment_reader import Located

READ_SIZE_MAX = 1 << 20


class TimestampAndOffset(NamedTuple):
    timestamp_ms: int
    offset: int


def always() -> bool:
    return True


class LogView(NamedTuple):
    """``name`` is the partition's directory name; ``gaps`` are (first, last) offsets that salvage could not save.
    ``may_have_holes`` says whether compaction may have taken offsets away: else none may be missing."""

    name: str
    segments: tuple[Segment, ...]
    log_start_offset: int
    log_end_offset: int
    gaps: tuple[tuple[int, int], ...] = ()
    may_have_holes: Callable[[], bool] = always

    def read(self, offset: int, max_bytes: int = READ_SIZE_MAX, *, max_offset: int | None = None) -> FileSlice:
        """Stored bytes from the batch that holds ``offset`` on: at least that batch whole, else up to ``max_bytes``, of
        one segment; the last batch may be cut short. Empty at the end of the log.

        ``max_offset`` bounds it from above, exclusively: a high watermark or last stable offset, which lie between
        batches. Raises OffsetOutOfRange, OffsetGap, DamagedLog.
        """
        if type(max_bytes) is not int:
            max_bytes = as_integer("max_bytes", max_bytes)
        if max_bytes < 1:
            raise InvalidArgument("max_bytes", max_bytes, "must be at least 1")
        if type(offset) is not int:
            offset = as_integer("offset", offset)
        if max_offset is None and self.log_start_offset <= offset < self.log_end_offset:
            newest = self.segments[-1].newest(offset, max_bytes)  # who follows the log asks for this
            if newest is not None:
                return newest
        index = self._check(offset)
        # Up to the next gap at most: the read that begins in it says that records are lost.
        next_gaps = [first for first, _ in self.gaps if first > offset] if self.gaps else []
        end_offset = self.log_end_offset if max_offset is None else min(max_offset, self.log_end_offset)
        if next_gaps:
            end_offset = min(end_offset, *next_gaps)
        while offset < end_offset and index < len(self.segments):
            segment = self.segments[index]
            located = self._find(index, offset)
            if located is not None:
                header = located.header
                if header.next_offset > self._following_offset(index):
                    raise self._misplaced(index, header)
                if header.base_offset > offset:
                    self._check_hole(index, offset, min(header.base_offset, end_offset))
                if header.base_offset >= end_offset:
                    break
                limit = self._limit(index, end_offset) if next_gaps or max_offset is not None else segment.size
                size = min(max(max_bytes, header.size), limit - located.position)
                return segment.slice(located.position, size)
            index += 1  # compaction has removed what was left of the segment
        if offset < end_offset:
            self._check_hole(len(self.segments) - 1, offset, end_offset)
        return self.segments[-1].slice(self.segments[-1].size, 0)

    def is_cached(self, offset: int) -> bool:
        """Whether ``read`` would find its batch without waiting for the disk, as far as a look tells that never waits
        itself. Of what the read returns, ``FileSlice.is_cached`` tells. Raises OffsetOutOfRange, OffsetGap."""
        return self.segments[self._check(offset)].is_cached(offset)

    def _limit(self, index: int, end_offset: int) -> int:
        """The position in a segment where ``end_offset`` begins; its end where that is beyond."""
        segment = self.segments[index]
        size = segment.size  # before the look-up: the log may grow meanwhile
        if index + 1 < len(self.segments) and self.segments[index + 1].base_offset <= end_offset:
            return size
        located = segment.find(end_offset)
        return size if located is None else located.position

    def _check(self, offset: int) -> int:
        """The index of the segment to look in. Raises InvalidArgument, OffsetOutOfRange, OffsetGap."""
        if type(offset) is not int:
            offset = as_integer("offset", offset)
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise OffsetOutOfRange(self.name, offset, self.log_start_offset, self.log_end_offset)
        for first, last in self.gaps:
            if first <= offset <= last:
                raise OffsetGap(self.name, first, last)
        if offset >= self.segments[-1].base_offset:
            return len(self.segments) - 1
        return max(0, bisect_right(self.segments, offset, key=base_offset_of) - 1)

    def batches(self, offset: int, *, max_offset: int | None = None) -> Iterator[RecordBatch]:
        """The batches from the one that holds ``offset`` up to the end (``max_offset`` as in ``read``), CRC checked.

        Raises OffsetOutOfRange at the first step, and DamagedLog or OffsetGap where records are lost.
        """
        end_offset = self.log_end_offset if max_offset is None else min(max_offset, self.log_end_offset)
        first_index = self._check(offset)
        for index in range(first_index, len(self.segments)):
            segment = self.segments[index]
            if offset >= end_offset:
                return
            located = self._find(index, offset)
            if located is None:
                continue
            following_offset = self._following_offset(index)
            try:
                for batch in segment.batches(located.position):
                    header = batch.header
                    next_offset = header.next_offset
                    if next_offset > following_offset:
                        raise self._misplaced(index, header)
                    if header.base_offset > offset < end_offset:
                        self._check_hole(index, offset, min(header.base_offset, end_offset))
                    if header.base_offset >= end_offset:
                        return
                    yield batch
                    offset = next_offset
            except DamagedLog as error:
                raise self._with_next(index, error) from None
        if offset < end_offset:
            self._check_hole(len(self.segments) - 1, offset, end_offset)

    def headers(self, offset: int) -> Iterator[tuple[Segment, Located]]:
        """The headers of the batches from the one that holds ``offset`` up to the end, for who looks for some among
        them: their records are not read, and no CRC is checked. Raises as ``batches``, but for offsets that are in no
        batch."""
        for index in range(self._check(offset), len(self.segments)):
            segment = self.segments[index]
            located = self._find(index, offset)
            if located is None:
                continue
            try:
                for found in segment.headers(located.position):
                    if found.header.base_offset >= self.log_end_offset:
                        return
                    yield segment, found
            except DamagedLog as error:
                raise self._with_next(index, error) from None

    def _find(self, index: int, offset: int) -> Located | None:
        try:
            return self.segments[index].find(offset)
        except DamagedLog as error:
            raise self._with_next(index, error) from None

    def _with_next(self, index: int, error: DamagedLog) -> DamagedLog:
        """What a segment said of its damage, with where the log goes on behind it."""
        if error.next_offset is not None or index + 1 >= len(self.segments):
            return error
        return DamagedLog(error.reason, error.position, error.path, self.segments[index + 1].base_offset)

    def _check_hole(self, index: int, offset: int, next_offset: int) -> None:
        """Raises OffsetGap, or DamagedLog, where the offsets up to ``next_offset``, which are in no batch of segment
        ``index``, are not missing by right."""
        for first, last in sorted(self.gaps):
            if first <= offset <= last:
                raise OffsetGap(self.name, first, last)
            if offset < first < next_offset:
                if self.may_have_holes():
                    raise OffsetGap(self.name, first, last)
                next_offset = first
        if not self.may_have_holes():
            segment = self.segments[index]
            located = segment.find(next_offset)
            position = located.position if located else segment.size
            reason = f"offsets {offset} to {next_offset - 1} are in no batch"
            raise DamagedLog(reason, position, str(segment.path), next_offset)

    def _following_offset(self, index: int) -> int:
        """Where the segment behind this one begins."""
        return self.segments[index + 1].base_offset if index + 1 < len(self.segments) else LONG_MAX

    def _misplaced(self, index: int, header: BatchHeader) -> DamagedLog:
        """A batch reaches into the next segment: its base offset, which no CRC covers, is wrong."""
        segment = self.segments[index]
        located = segment.find(header.base_offset)
        reason = f"the batch of offsets {header.base_offset} to {header.last_offset} reaches beyond its segment"
        position = located.position if located else 0
        return DamagedLog(reason, position, str(segment.path), self._following_offset(index))

    def records(self, offset: int, *, max_offset: int | None = None) -> Iterator[Record]:
        """The records from ``offset`` on, without transaction markers. Raises as ``batches`` does."""
        for batch in self.batches(offset, max_offset=max_offset):
            header = batch.header
            if header.is_control:
                continue
            try:
                yield from batch.records_from(offset) if header.base_offset < offset else batch.records()
            except CorruptBatch as error:
                raise self._undecodable(header, error) from None

    def _undecodable(self, header: BatchHeader, error: CorruptBatch) -> DamagedLog:
        """A batch whose CRC is right and whose records are not: who wrote it did not write a Kafka batch."""
        segment = self.segments[max(0, bisect_right(self.segments, header.base_offset, key=base_offset_of) - 1)]
        located = segment.find(header.base_offset)
        position = located.position if located else 0
        reason = f"the records of the batch at offset {header.base_offset} cannot be read: {error.reason}"
        return DamagedLog(reason, position, str(segment.path), header.next_offset)

    def offset_for_time(self, timestamp_ms: int) -> TimestampAndOffset | None:
        """The first record, by offset, that is not older than ``timestamp_ms``; None where all are."""
        timestamp_ms = as_integer("timestamp_ms", timestamp_ms)
        for segment in self.segments:
            if segment.largest_timestamp >= timestamp_ms:
                found = segment.find_timestamp(timestamp_ms, self.log_start_offset)
                if found is not None and found[1] < self.log_end_offset:
                    return TimestampAndOffset(*found)
        return None

    def largest_timestamp(self) -> int:
        """That of the newest record, by time; -1 where there is none. Raises DamagedLog."""
        index = max(0, bisect_right(self.segments, self.log_start_offset, key=base_offset_of) - 1)
        first, *others = self.segments[index:]
        largest = max((segment.largest_timestamp for segment in others), default=NO_TIMESTAMP)
        if first.largest_timestamp <= largest or self.log_start_offset <= first.base_offset:
            return max(largest, first.largest_timestamp)
        # The newest of the first segment may be one that was deleted.
        for segment, (_, header) in self.headers(self.log_start_offset):
            if segment is not first:
                break
            if header.base_offset < self.log_start_offset:
                records = self.records(self.log_start_offset, max_offset=header.next_offset)
                largest = max([largest, *(record.timestamp_ms for record in records)])
            else:
                largest = max(largest, header.max_timestamp)
        return largest

    def segment_infos(self) -> list[SegmentInfo]:
        """What retention decides by, one for each segment."""
        ends = [segment.base_offset for segment in self.segments[1:]] + [self.log_end_offset]
        return [
            SegmentInfo(
                segment.base_offset,
                end,
                segment.size,
                segment.largest_timestamp,
                segment.modified_ms,
                segment is self.segments[-1],
            )
            for segment, end in zip(self.segments, ends, strict=True)
        ]

    @property
    def size(self) -> int:
        """Bytes of all log files."""
        return sum(segment.size for segment in self.segments)


class ReadableLog(ABC):
    """A log that is read through views: each call looks at what is there now."""

    @property
    @abstractmethod
    def view(self) -> LogView:
        """What can be read now."""

    def read(self, offset: int, max_bytes: int = READ_SIZE_MAX, *, max_offset: int | None = None) -> FileSlice:
        """Stored bytes: see ``LogView.read``."""
        return self.view.read(offset, max_bytes, max_offset=max_offset)

    def records(self, offset: int, *, max_offset: int | None = None) -> Iterator[Record]:
        """The records from ``offset`` up to the end that the log has now: see ``LogView.records``."""
        return self.view.records(offset, max_offset=max_offset)

    def batches(self, offset: int, *, max_offset: int | None = None) -> Iterator[RecordBatch]:
        """The batches from the one that holds ``offset`` on: see ``LogView.batches``."""
        return self.view.batches(offset, max_offset=max_offset)

    def offset_for_time(self, timestamp_ms: int) -> TimestampAndOffset | None:
        """The first record that is not older: see ``LogView.offset_for_time``."""
        return self.view.offset_for_time(timestamp_ms)
