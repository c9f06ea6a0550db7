"""Reading a partition that somebody else may be writing: another process, or Apache Kafka.

Nothing is locked on the disk, changed or cut. Each ``view`` looks at the directory anew; what is at the end of the last
segment and is no whole batch with a good CRC is taken for an append that is under way, and is not shown. While the
owner swaps in what compaction has made, or after a crash in the middle of it, the segment that stands as ``.swap`` is
read in the place of those that it was made from, whichever of them are gone.
"""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from logstore.errors import StorageFailure
from logstore.format import filename
from logstore.format.filename import FileKind, SegmentFile
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.gaps import read_gaps, start_of
from logstore.storage.log_view import LogView, ReadableLog, always
from logstore.storage.scan import LogBatch, scan
from logstore.storage.segment import Segment
from logstore.storage.swap import end_of_swap

_LOOK_AGAIN_S = 0.02


class _Seen(NamedTuple):
    """A segment as it was at the last look. ``next_offset``: behind its last good batch, None where that was not looked
    for, since another segment follows. ``swap_end``: of one that stands as ``.swap``, up to which offset it counts."""

    entry: files.Entry
    segment: Segment
    next_offset: int | None
    swap_end: int | None = None


class ReadOnlyLog(ReadableLog):
    """See the module. Kafka's partition directories are read as well as ours. Safe to use from many threads."""

    def __init__(
        self,
        directory: Path,
        caches: Caches | None = None,
        start_offset: Callable[[], int] = lambda: 0,
        may_have_holes: Callable[[], bool] = always,
    ) -> None:
        """``start_offset`` gives the log start offset that the owner has recorded, 0 where it has not;
        ``may_have_holes`` whether compaction may have taken offsets away."""
        self.directory = directory
        self.name = directory.name
        self._caches = caches or Caches()
        self._start_offset = start_offset
        self._may_have_holes = may_have_holes
        self._seen: dict[int, _Seen] = {}  # by base offset
        self._lock = Lock()

    @property
    def log_start_offset(self) -> int:
        return self.view.log_start_offset

    @property
    def log_end_offset(self) -> int:
        return self.view.log_end_offset

    @property
    def view(self) -> LogView:
        """What can be read now. Raises StorageFailure where the directory cannot be."""
        with self._lock:
            self._seen = self._look()
            seen = list(self._seen.values())
        if not seen:
            empty = Segment(self.directory, 0, self._caches, read_only=True)
            return LogView(self.name, (empty,), 0, 0)
        end_offset = seen[-1].next_offset
        assert end_offset is not None
        segments = tuple(look.segment for look in seen)
        gaps = tuple(read_gaps(self.directory))
        start_offset = min(start_of(gaps, self._start_offset(), segments[0].base_offset), end_offset)
        return LogView(self.name, segments, start_offset, end_offset, gaps, self._may_have_holes)

    def wait(self, offset: int, timeout_s: float | None = None) -> bool:
        """Wait until the log's end is beyond ``offset``: whether it is. The writer is another process, which cannot
        wake this one, so this looks again every 20 ms."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.log_end_offset <= offset:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_AGAIN_S)
        return True

    def _look(self) -> dict[int, _Seen]:
        while True:
            inode = files.entry(self.directory).inode
            found = self._look_once()
            if found is not None and files.entry(self.directory).inode == inode:
                return found

    def _look_once(self) -> dict[int, _Seen] | None:
        """The segments by base offset; None where one of them, or the whole partition, went meanwhile.

        The newest is looked at first: once a segment has records, those before it do not change any more. Behind one
        whose successor is empty there may still be the space that it was given.
        """
        listed = self._list_logs()
        found: dict[int, _Seen] = {}
        ends_here = True
        try:
            if listed != self._list_logs():  # a file that is renamed during a listing may be in it under neither name
                return None
            swaps = [self._seen_swap(file) for file in listed if file.suffix]
            for file in reversed(listed):
                covering = [
                    seen for seen in swaps if seen.segment.base_offset <= file.base_offset < (seen.swap_end or 0)
                ]
                seen = (
                    covering[0]
                    if covering
                    else self._seen_anew(file.base_offset, files.entry(self.directory / file.name), ends_here)
                )
                ends_here = ends_here and not seen.segment.size
                found[seen.segment.base_offset] = seen
        except StorageFailure as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return dict(sorted(found.items()))

    def _list_logs(self) -> list[SegmentFile]:
        """The log files, and those that stand as ``.swap``, by base offset."""
        parsed = (filename.parse_segment_file(entry.name) for entry in files.list_dir(self.directory))  # without links
        logs = [file for file in parsed if file is not None and file.kind is FileKind.LOG]
        return sorted(file for file in logs if file.suffix in ("", filename.SWAP))

    def _seen_swap(self, file: SegmentFile) -> _Seen:
        """The segment that stands as ``.swap``. Indexes of its name may still be an old one's, and are found astray."""
        entry = files.entry(self.directory / file.name)
        known = self._seen.get(file.base_offset)
        if known is not None and known.entry.inode == entry.inode and known.swap_end is not None:
            return known
        segment = self._segment(file.base_offset, entry)
        segment.path = self.directory / file.name
        end_offset = end_of_swap(segment.file, file.base_offset)
        return _Seen(entry, segment, end_offset, end_offset)

    def _segment(self, base_offset: int, entry: files.Entry) -> Segment:
        segment = Segment(
            self.directory,
            base_offset,
            self._caches,
            size=entry.size,
            modified_ms=entry.modified_ms,
            read_only=True,
        )
        segment.inode = entry.inode
        return segment

    def _seen_anew(self, base_offset: int, entry: files.Entry, ends_here: bool) -> _Seen:
        """The segment as it is now. It is another object where it has changed: views that have the old one keep it."""
        known = self._seen.get(base_offset)
        if known is not None and (known.entry.inode != entry.inode or entry.size < known.segment.size):
            known = None  # it was compacted or cut, or is another: what is known of it is void
        is_same = known and (known.segment.size, known.entry.modified_ms) == (entry.size, entry.modified_ms)
        if known is not None and is_same and not (ends_here and known.next_offset is None):
            return known
        segment = self._segment(base_offset, entry)
        if not ends_here:
            return _Seen(entry, segment, None)
        return _Seen(entry, segment, _find_end(segment, known))


def _find_end(segment: Segment, known: _Seen | None) -> int:
    """Set the segment's size to the end of its good batches; returns the offset behind them."""
    starts = [(0, segment.base_offset)]
    if (located := segment.last_indexed()) is not None:
        starts.append((located.position, located.header.base_offset))
    if known is not None and known.next_offset is not None:
        starts.append((known.segment.size, known.next_offset))
        segment.max_timestamp = known.segment.max_timestamp
    max_timestamp = segment.largest_timestamp
    position, end_offset = 0, segment.base_offset
    for start, start_offset in reversed(starts):
        position, end_offset = start, start_offset
        for found in scan(segment.file, position=position, expected_offset=end_offset):
            if isinstance(found, LogBatch):
                position = found.position + found.batch.header.size
                end_offset = found.batch.header.next_offset
                max_timestamp = max(max_timestamp, found.batch.header.max_timestamp)
            elif start and found.position == start and not found.is_zeros:
                break  # an append under way, or this is the middle of a batch: begin further ahead
        else:
            break
    segment.size, segment.max_timestamp = position, max_timestamp
    return end_offset
