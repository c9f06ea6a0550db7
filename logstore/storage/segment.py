"""Writing a segment: what the log's one writer does to the files of one.

After a crash the bytes past the recovery point may be anything: recovery, not this module, decides what is kept.
"""

import errno
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from logstore.errors import CorruptIndex, DiskFull, StorageFailure
from logstore.format import filename
from logstore.format.batch import NO_TIMESTAMP
from logstore.settings import LONG_MAX
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.segment_reader import SegmentReader

_JOIN_SIZE_MAX = 16 << 10  # below this, a copy is cheaper than the kernel's look at several pieces


class Segment(SegmentReader):
    """A segment of a log that is written here. ``created_ms`` is when its first batch came, 0 where it is empty.

    ``quiet_until`` is the last position where a batch may begin by ``append_quietly``. It is set by who looks ahead,
    after an append, and taken back here by all that could make it wrong.
    """

    quiet_until = -1

    @classmethod
    def create(
        cls, directory: Path, base_offset: int, caches: Caches, *, index_interval: int = 4096, allocate_size: int = 0
    ) -> "Segment":
        """A new, empty segment's files. The directory is the caller's to sync. On an error none of them is left."""
        segment = cls(directory, base_offset, caches, index_interval=index_interval)
        segment.is_growing = True
        file = files.open_file(segment.path, writable=True, create=True, exclusive=True)
        try:
            if allocate_size:
                file.allocate(allocate_size)
            segment.offset_index.start_growing(0)
            segment.time_index.start_growing(0)
        except StorageFailure:
            for path in segment.paths:
                files.unlink(path)
            raise
        return segment

    def start_growing(self) -> None:
        """Make a segment that was found on the disk ready for appends."""
        with self._index_lock:
            if self.is_growing:
                return
            try:
                self.offset_index.columns, self.time_index.columns  # noqa: B018
            except CorruptIndex:
                self.rebuild_indexes()
            self.largest_timestamp  # noqa: B018  # loaded while the indexes are as they were closed
            self.offset_index.start_growing()
            self.time_index.start_growing()
            positions = self.offset_index.columns[1]
            self._entry_position = positions[-1] if positions else 0
            self.is_growing = True
            self._caches.discard(self)

    def append(
        self,
        pieces: Sequence[files.Buffer],
        size: int,
        base_offset: int,
        last_offset: int,
        max_timestamp: int,
        now_ms: int,
    ) -> None:
        """Write one batch, given in pieces, behind the last. On an error bytes may lie behind ``size``, and index
        entries for them: the caller cuts back."""
        position = self.size
        index_is_due = position > self._entry_position + self.index_interval
        is_largest = max_timestamp > self.max_timestamp
        largest = (max_timestamp, last_offset) if is_largest else (self.max_timestamp, self.max_timestamp_offset)
        if index_is_due:  # before the batch: when that is written nothing more can fail
            self.offset_index.make_room()
            self.time_index.make_room()
        if size <= _JOIN_SIZE_MAX:
            self.file.write_at(position, b"".join(pieces))
        else:
            self.file.write_pieces_at(position, pieces)
        self.max_timestamp, self.max_timestamp_offset = largest
        if index_is_due:
            self.index_batch(last_offset, position)
        self.modified_ms = now_ms
        if not position:
            self.created_ms = now_ms
        self._newest = base_offset, position
        self.size = position + size

    def append_quietly(self, batch: bytes, base_offset: int) -> None:
        """``append`` of one batch that begins no later than at ``quiet_until``, and at the time of the one before it:
        nothing but the bytes is new."""
        position = self.size
        key, file = self._caches.files.newest
        (file if key is self and file is not None else self.file).write_at(position, batch)
        self._newest = base_offset, position
        self.size = position + len(batch)

    def index_batch(self, last_offset: int, position: int) -> None:
        self.offset_index.append(last_offset, position)
        self.time_index.append(self.max_timestamp, self.max_timestamp_offset)
        self._entry_position = position

    @property
    def unindexed_until(self) -> int:
        """A batch that begins behind this position gets an index entry."""
        return self._entry_position + self.index_interval

    def index_is_full(self, index_size_max: int) -> bool:
        """Whether one more entry could pass ``segment.index.bytes``."""
        time_size = self.time_index.size + 2 * self.time_index.ENTRY.size  # the seal may add one more
        return max(time_size, self.offset_index.size + self.offset_index.ENTRY.size) > index_size_max

    def cut_back(self, position: int, allocated_size: int = 0) -> None:
        """Remove what a failed append left behind ``position``, where the last whole batch ends."""
        self.quiet_until = -1
        try:
            file = self.file
        except StorageFailure:  # as for the append that failed, for want of a descriptor
            if self.size == position == files.entry(self.path).size:
                return
            raise
        self.size = position
        self._newest = LONG_MAX, 0
        file.truncate(position)
        self.offset_index.drop_from(position)
        self._forget_times()
        if allocated_size > position:
            with suppress(DiskFull):  # the space was there to save time, not to be promised
                self.file.allocate(allocated_size)

    def seal(self) -> None:
        """No more appends: the largest timestamp is indexed, and space kept ready is given back. Nothing is synced."""
        self.quiet_until = -1
        if not self.is_growing:
            return
        self.index_largest_timestamp()
        self.file.truncate(self.size)
        self.offset_index.seal()
        self.time_index.seal()
        self.is_growing = False
        self._caches.discard(self)

    def index_largest_timestamp(self) -> None:
        """The last entry that the time index of a sealed segment needs."""
        if self.max_timestamp != NO_TIMESTAMP:
            self.time_index.append(self.max_timestamp, self.max_timestamp_offset)

    def sync(self) -> None:
        try:
            self.file.sync()
        except StorageFailure as error:
            if not (self.is_retired and error.errno == errno.ENOENT):  # by another thread, and unlinked since
                raise

    def store_indexes(self) -> None:
        """Write the entries that are in memory only. Raises StorageFailure."""
        self.offset_index.store()
        self.time_index.store()

    def sync_indexes(self) -> None:
        try:
            self.offset_index.sync()
            self.time_index.sync()
        except StorageFailure:
            if not self.is_retired:  # by another thread: then it needs no index
                raise

    def truncate(self, position: int) -> None:
        """Cut the segment, and its indexes, to the batches before ``position``."""
        self.start_growing()
        self.quiet_until = -1
        self.size = position
        self.forget_damage_from(position)
        self._newest = LONG_MAX, 0
        self.file.truncate(position)
        self.offset_index.start_growing(self.offset_index.count_before(position))
        self._forget_times()

    def _forget_times(self) -> None:
        """Drop from the time index what is behind the last entry of the offset index, and start from there."""
        offsets = self.offset_index.columns[0]
        self.time_index.start_growing(self.time_index.count_up_to(self.base_offset + offsets[-1]) if offsets else 0)
        self._restore_timestamp()

    def retire(self) -> None:
        """Take the segment out of the log: its file gets another name, under which readers that came before may
        finish, until ``unlink``. Another segment may then have the old name. Where this failed, it may be called
        again."""
        self.is_retired = True
        self.seal()
        with self._index_lock:
            self.offset_index.hold()
            self.time_index.hold()
        if self.path.suffix != filename.DELETED:
            retired = self.path.with_name(self.path.name + filename.DELETED)
            files.rename(self.path, retired)
            self.path = retired
        files.unlink(self.offset_index.path)
        files.unlink(self.time_index.path)

    def pin(self) -> None:
        """Hold on to a retired segment's file, whose name another is about to get."""
        self._pinned = self.file

    def unlink(self) -> None:
        """Remove a retired segment's file. Open slices can still be read."""
        self._caches.discard(self, self.offset_index, self.time_index)
        if self._pinned is None:
            files.unlink(self.path)

    @classmethod
    def unfinished(cls, first: "Segment", modified_ms: int) -> "Segment":
        """One that compaction is about to write in the place of ``first`` and others: until ``put_in_place``, its files
        have names that an opening of the log would remove."""
        segment = cls(
            first.directory,
            first.base_offset,
            first._caches,
            modified_ms=modified_ms,
            index_interval=first.index_interval,
        )
        for part in (segment, segment.offset_index, segment.time_index):
            part.path = part.path.with_name(part.path.name + filename.CLEANED)
        return segment

    def remove_unfinished(self) -> None:
        """Remove what has not been given another name since."""
        self.forget()
        for path in self.paths:
            if path.suffix == filename.CLEANED:
                files.unlink(path)

    def put_in_place(self) -> None:
        """Give the files of a segment that is finished their own names. The directory is the caller's to sync."""
        for part in (self, self.offset_index, self.time_index):
            final = part.path.with_suffix("")
            files.rename(part.path, final)
            part.path = final
