"""The entries of a segment's two indexes, made anew from its batches in order: the same as those written when the
batches were appended. Pure: no files."""

from logstore.format.batch import NO_TIMESTAMP, BatchHeader
from logstore.storage.cache import Columns


class IndexBuilder:
    """Goes on behind the entries of ``offsets`` (relative last offset, position) and ``times`` (timestamp, relative
    offset), which it adds to. ``index_interval``: bytes from one indexed batch to the next."""

    def __init__(self, base_offset: int, index_interval: int, offsets: Columns, times: Columns) -> None:
        self.base_offset = base_offset
        self.index_interval = index_interval
        self.offsets, self.times = offsets, times
        self.entry_position = offsets[1][-1] if offsets[1] else 0
        self.max_timestamp, self.max_timestamp_offset = NO_TIMESTAMP, base_offset
        if times[0]:
            self.max_timestamp, self.max_timestamp_offset = times[0][-1], base_offset + times[1][-1]

    def see(self, header: BatchHeader) -> None:
        """A batch that gets no entry: only its timestamp counts."""
        if header.max_timestamp > self.max_timestamp:
            self.max_timestamp, self.max_timestamp_offset = header.max_timestamp, header.last_offset

    def add(self, position: int, header: BatchHeader) -> None:
        """The next batch, and where it begins."""
        self.see(header)
        if position > self.entry_position + self.index_interval:
            self.offsets[0].append(header.last_offset - self.base_offset)
            self.offsets[1].append(position)
            self.add_time()
            self.entry_position = position

    def add_time(self) -> None:
        """An entry for the largest timestamp so far, unless it has one; a segment that takes no more batches needs it
        at its end."""
        if self.max_timestamp > (self.times[0][-1] if self.times[0] else NO_TIMESTAMP):
            self.times[0].append(self.max_timestamp)
            self.times[1].append(self.max_timestamp_offset - self.base_offset)
