"""Reading a partition that somebody else may be writing: another process, or Apache Kafka.

Nothing is locked, changed or cut. Each ``view`` looks at the directory anew; what is at the end of the last segment and
is no whole batch with a good CRC is taken for an append that is under way, and is not shown.
"""

import time
from pathlib import Path

from logstore.format import filename
from logstore.format.filename import FileKind
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.log_view import LogView, ReadableLog
from logstore.storage.recovery import read_gaps
from logstore.storage.scan import LogBatch, scan
from logstore.storage.segment import Segment

_LOOK_AGAIN_S = 0.02


class ReadOnlyLog(ReadableLog):
    """See the module. Kafka's partition directories are read as well as ours."""

    def __init__(self, directory: Path, caches: Caches | None = None, log_start_offset: int = 0) -> None:
        self.directory = directory
        self.name = directory.name
        self._caches = caches or Caches()
        self._checkpointed_start = log_start_offset
        self._segments: dict[int, tuple[int, Segment]] = {}  # inode and segment, by base offset
        self._end_offset = 0
        self._end_position = 0  # in the last segment, behind its last good batch

    @property
    def log_start_offset(self) -> int:
        return self.view.log_start_offset

    @property
    def log_end_offset(self) -> int:
        return self.view.log_end_offset

    @property
    def view(self) -> LogView:
        """What can be read now. Raises StorageFailure where the directory cannot be."""
        segments = self._look()
        if not segments:
            empty = Segment(self.directory, 0, self._caches, read_only=True)
            return LogView(self.name, (empty,), 0, 0)
        self._look_at_end(segments[-1])
        end_offset = self._end_offset
        start_offset = min(max(segments[0].base_offset, self._checkpointed_start), end_offset)
        return LogView(self.name, tuple(segments), start_offset, end_offset, tuple(read_gaps(self.directory)))

    def wait(self, offset: int, timeout_s: float | None = None) -> bool:
        """Wait until the log's end is beyond ``offset``: whether it is. The writer is another process, which cannot wake
        this one, so this looks again every 20 ms."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.log_end_offset <= offset:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_AGAIN_S)
        return True

    def _look(self) -> list[Segment]:
        found: dict[int, tuple[int, Segment]] = {}
        for entry in files.list_dir(self.directory):
            file = filename.parse_segment_file(entry.name)
            if file is None or file.suffix or file.kind is not FileKind.LOG or entry.is_dir:
                continue
            inode, segment = self._segments.get(file.base_offset, (0, None))
            if segment is None or inode != entry.inode or segment.size > entry.size:
                # New, compacted or cut shorter: what is known of it is void.
                segment = Segment(self.directory, file.base_offset, self._caches, read_only=True)
            elif segment.size != entry.size:
                segment.forget()
            segment.modified_ms = entry.modified_ms
            segment.size = entry.size
            found[file.base_offset] = entry.inode, segment
        self._segments = found
        return [found[base_offset][1] for base_offset in sorted(found)]

    def _look_at_end(self, segment: Segment) -> None:
        position, end_offset, max_timestamp = 0, segment.base_offset, segment.largest_timestamp
        if self._end_offset > segment.base_offset and self._end_position <= segment.size:
            position, end_offset = self._end_position, self._end_offset
        else:
            located = segment.last_indexed()
            if located is not None:
                position, end_offset = located.position, located.header.base_offset
        for found in scan(segment.file, position=position, expected_offset=end_offset):
            if isinstance(found, LogBatch):
                position = found.position + found.batch.header.size
                end_offset = found.batch.header.next_offset
                max_timestamp = max(max_timestamp, found.batch.header.max_timestamp)
        self._end_position, self._end_offset = position, end_offset
        segment.size, segment.max_timestamp = position, max_timestamp
