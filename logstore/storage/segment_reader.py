"""Reading a segment: a ``.log`` file of record batches from a base offset on, found by way of its two indexes.

Bytes up to ``size`` are batches that were written whole; ``size`` moves only after they were, so readers need no lock.
An index is held against the log where it is used, and both are made anew when one is missing, short, or leads astray.
"""

import errno
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from threading import RLock
from typing import NamedTuple

from logstore.errors import CorruptBatch, CorruptData, CorruptIndex, DamagedLog, StorageFailure
from logstore.format import filename
from logstore.format.batch import FRAME_SIZE, HEADER_SIZE, NO_TIMESTAMP, BatchHeader, RecordBatch, batches, read_header
from logstore.format.index_entry import RELATIVE_OFFSET_MAX
from logstore.settings import LONG_MAX
from logstore.storage import files
from logstore.storage.cache import Caches, Columns
from logstore.storage.file_slice import FileSlice
from logstore.storage.files import File
from logstore.storage.index import OffsetIndex, TimeIndex
from logstore.storage.index_builder import IndexBuilder
from logstore.storage.scan import Damage, LogBatch, check_follower, scan

# base_offset | batch_length | … | last_offset_delta: what a walk needs of each batch that it passes.
_STEP = Struct(">qi11xi")
_FRAME = Struct(">qi")
_SEARCH_SIZE = 8192
_FIRST_READ_SIZE = 16 << 10  # enough to look something up; whoever reads on gets more and more at a time
_READ_SIZE = 1 << 20
_TOLD_SIZE = 16 << 20  # how often who checks a segment is told how far that is


class Located(NamedTuple):
    """A batch's position in its segment."""

    position: int
    header: BatchHeader


class SegmentReader:
    """See the module. ``created_ms`` is when its first batch came, 0 where it is empty."""

    def __init__(
        self,
        directory: Path,
        base_offset: int,
        caches: Caches,
        *,
        size: int = 0,
        modified_ms: int = 0,
        index_interval: int = 4096,
        read_only: bool = False,
    ) -> None:
        self.directory = directory
        self.base_offset = base_offset
        self.path = directory / filename.log_name(base_offset)
        self.offset_index = OffsetIndex(directory / filename.index_name(base_offset), base_offset, caches, read_only)
        self.time_index = TimeIndex(directory / filename.time_index_name(base_offset), base_offset, caches, read_only)
        self.size = size
        self.modified_ms = modified_ms
        self.created_ms = 0
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = base_offset
        self._knows_timestamp = False
        self.is_growing = False
        self.read_only = read_only
        self.inode: int | None = None  # of the file that is meant, where another process may rename it at any time
        self.is_retired = False
        self._pinned: File | None = None
        self.index_interval = index_interval
        self._entry_position = 0  # of the last batch that has an index entry, 0 where none has
        self._newest = LONG_MAX, 0  # base offset and position of the batch that was appended last
        self._damages: dict[int, Damage] = {}
        self._index_lock = RLock()  # who makes the indexes anew, which readers do too, or takes them over
        self._caches = caches

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path}, size={self.size})"

    def renew_lock_in_child(self) -> None:
        """After a fork: a thread that the child does not have may hold the old one."""
        self._index_lock = RLock()

    @property
    def file(self) -> File:
        """The open log file; a new one where the cache has let it go."""
        return self._caches.files.get(self, self._open)

    def _open(self) -> File:
        if self.inode is not None:
            return self._open_same(self.inode)
        while self._pinned is None:
            path = self.path
            try:
                file = files.open_file(path, writable=self.is_growing, or_readable=True)
            except StorageFailure as error:
                if error.errno != errno.ENOENT:
                    raise
                # It is being retired just now: its name is about to change, or has changed.
                file = files.open_file(self.directory / (filename.log_name(self.base_offset) + filename.DELETED))
            if path is self.path and self._pinned is None:  # else another segment may have got the name meanwhile
                return file
        return self._pinned

    def _open_same(self, inode: int) -> File:
        """The file that was seen, under any name that the owner gives it meanwhile: the old name may be another's."""
        final_path = self.directory / filename.log_name(self.base_offset)
        for path in dict.fromkeys((self.path, final_path, Path(f"{final_path}{filename.DELETED}"))):
            try:
                file = files.open_file(path)
            except StorageFailure as error:
                if error.errno != errno.ENOENT:
                    raise
                continue
            if file.inode() == inode:
                return file
        raise StorageFailure(str(self.path), "open", errno.ENOENT, os.strerror(errno.ENOENT))

    def find(self, offset: int) -> Located | None:
        """The first batch that ends at or after ``offset``; None where all end before.

        Raises DamagedLog where the batch should be in a damaged range.
        """
        position = self._indexed_position(offset)
        try:
            return self._walk_to(offset, position)
        except DamagedLog:
            if position == 0:
                raise
        # Either the index pointed astray or the log is damaged: a walk from the start tells.
        found = self._walk_to(offset, 0)
        self.rebuild_indexes()
        return found

    def newest(self, offset: int, max_bytes: int) -> FileSlice | None:
        """What lies from ``offset`` on, which is in the log, where that begins the batch that was appended last, and is
        not more than ``max_bytes``; None where that is not known."""
        newest_offset, position = self._newest
        size = self.size - position
        return FileSlice(self.file, position, size) if offset == newest_offset and 0 < size <= max_bytes else None

    def is_cached(self, offset: int) -> bool:
        """Whether the index, and the batches that a walk to ``offset`` begins with, are in memory. Never waits."""
        newest_offset, position = self._newest
        if offset < newest_offset:
            if not self.offset_index.is_in_memory:
                return False
            position = self.offset_index.position_for(offset)
        size = min(_SEARCH_SIZE, self.size - position)
        return size <= 0 or FileSlice(self.file, position, size).is_cached(size)

    def _indexed_position(self, offset: int) -> int:
        newest_offset, newest_position = self._newest
        if offset >= newest_offset:  # who waits for records mostly wants these
            return newest_position
        try:
            return self.offset_index.position_for(offset)
        except CorruptIndex:
            self.rebuild_indexes()
            return self.offset_index.position_for(offset)

    def _walk_to(self, offset: int, position: int) -> Located | None:
        file, end = self.file, self.size
        data, start, indexed_position = b"", position, position
        expected_offset = self.base_offset
        if position and position >= end and not self.is_growing:
            raise self._astray(position)
        while position < end:
            at = position - start
            if at + HEADER_SIZE > len(data):
                start, at = position, 0
                data = file.read_at(position, min(_SEARCH_SIZE, end - position))
            try:
                self._check_known(position)
                if len(data) < HEADER_SIZE:
                    raise CorruptBatch("the log ends in the middle of a batch header")
                base_offset, batch_length, last_offset_delta = _STEP.unpack_from(data, at)
                if base_offset < expected_offset or batch_length < HEADER_SIZE - FRAME_SIZE or last_offset_delta < 0:
                    raise CorruptBatch("this is no batch header")
                if base_offset + last_offset_delta >= offset:
                    header = read_header(data, at)
                    if position == indexed_position > 0:  # what is before it is not known
                        if base_offset > offset:
                            raise self._astray(position)
                    elif base_offset > expected_offset:
                        self._check_gap(position, header, expected_offset)
                    return Located(position, header)
            except CorruptBatch as error:
                damage = self.damage_at(position, expected_offset, error.reason)
                if damage.next_offset is None or offset < damage.next_offset:
                    raise self.damaged(damage) from None
                expected_offset = damage.next_offset
                position += damage.size
                continue
            expected_offset = base_offset + last_offset_delta + 1
            position += batch_length + FRAME_SIZE
        return None

    def _check_gap(self, position: int, header: BatchHeader, expected_offset: int) -> None:
        """Raises CorruptBatch for a batch behind a gap in the offsets that what follows contradicts, if a scan, which
        reads more of the two, says so as well. ``expected_offset`` may be lower than it is: the batches from which the
        walk came are looked at only then."""
        end = position + header.size
        following = self.file.read_at(end, FRAME_SIZE) if end < self.size else b""
        if len(following) < FRAME_SIZE:
            return
        try:
            check_follower(header.base_offset, header.last_offset, expected_offset, _FRAME.unpack(following)[0])
        except CorruptBatch:
            for located in self._headers_between(0, position):
                expected_offset = located.header.next_offset
            if isinstance(next(self.scan(position, expected_offset), None), Damage):
                raise

    def last_indexed(self) -> Located | None:
        """The last batch that the offset index points at; None where there is none, or the index cannot be right."""
        try:
            positions = self.offset_index.columns[1]
            return next(self.headers(positions[-1]), None) if positions else None
        except CorruptData:
            return None

    def _astray(self, position: int) -> DamagedLog:
        """What makes ``find`` start again where the index led beyond the batch that was sought."""
        return DamagedLog("the index points astray", position, str(self.path), None)

    def damage_at(self, position: int, expected_offset: int, reason: str) -> Damage:
        """The damaged range that begins at ``position``, measured once."""
        damage = self._known_damage(position)
        if damage is None:
            found = next(self.scan(position, expected_offset), None)
            if not isinstance(found, Damage):  # good bytes after all, or none: the file has changed since
                return Damage(position, max(0, self.size - position), reason, expected_offset, None, False)
            damage = self._damages[position] = found
        return damage

    def _check_known(self, position: int) -> None:
        """Raises CorruptBatch where damage is known to begin: it need not show in the batch itself."""
        if self._damages and (known := self._known_damage(position)):
            raise CorruptBatch(known.reason)

    def _known_damage(self, position: int) -> Damage | None:
        damage = self._damages.get(position)
        if damage and damage.next_offset is None and position + damage.size != self.size:
            return None  # nothing followed it when it was measured, but the segment has changed since
        return damage

    def is_damaged_at(self, position: int) -> bool:
        """Whether damage is known to begin there."""
        return self._known_damage(position) is not None

    def know(self, damage: Damage) -> None:
        """Take note of a damaged range, and of where reading may go on behind it."""
        self._damages[damage.position] = damage

    def forget_damage_from(self, position: int) -> None:
        """The segment is cut at ``position``: other bytes will come there."""
        self._damages = {start: damage for start, damage in self._damages.items() if start < position}

    def damaged(self, damage: Damage) -> DamagedLog:
        return DamagedLog(damage.reason, damage.position, str(self.path), damage.next_offset)

    def headers(self, position: int = 0) -> Iterator[Located]:
        """Every batch's header from ``position`` on. Raises DamagedLog."""
        file, end = self.file, self.size
        data, start = b"", position
        expected_offset = self.base_offset
        while position < end:
            if position - start + HEADER_SIZE > len(data):
                start = position
                data = file.read_at(position, min(_SEARCH_SIZE, end - position))
            try:
                header = read_header(data, position - start)
                if not expected_offset <= header.base_offset <= self.base_offset + RELATIVE_OFFSET_MAX:
                    raise CorruptBatch(f"base offset {header.base_offset} does not belong here")
            except CorruptBatch as error:
                raise self.damaged(self.damage_at(position, expected_offset, error.reason)) from None
            yield Located(position, header)
            expected_offset = header.next_offset
            position += header.size

    def scan(
        self, position: int, expected_offset: int, following_offset: int | None = None
    ) -> Iterator[LogBatch | Damage]:
        """Good batches and damage from ``position`` on: see the module ``scan``."""
        return scan(
            self.file,
            position=position,
            end=self.size,
            expected_offset=expected_offset,
            max_offset=self.base_offset + RELATIVE_OFFSET_MAX,
            following_offset=following_offset,
        )

    def slice(self, position: int, size: int) -> FileSlice:
        return FileSlice(self.file, position, min(size, self.size - position))

    def batches(self, position: int = 0) -> Iterator[RecordBatch]:
        """Every batch from ``position`` on, its CRC checked. Raises DamagedLog."""
        expected_offset = self.base_offset
        read_size = _FIRST_READ_SIZE
        while position < self.size:
            taken = 0
            try:
                data = self.slice(position, read_size).read()
                read_size = min(8 * read_size, _READ_SIZE)
                if len(data) >= HEADER_SIZE and (size := read_header(data).size) > len(data):
                    data = self.slice(position, size).read()
                for batch in batches(data):
                    self._check_known(position + batch.position)
                    batch.check_crc()
                    base_offset = batch.header.base_offset
                    if base_offset < expected_offset:
                        raise CorruptBatch(f"base offset {base_offset} is below {expected_offset}")
                    if base_offset > expected_offset:
                        self._check_gap(position + batch.position, batch.header, expected_offset)
                    yield batch
                    expected_offset = batch.header.next_offset
                    taken = batch.position + batch.header.size
                if not taken:
                    raise CorruptBatch("a batch is cut short")
            except CorruptBatch as error:
                raise self.damaged(self.damage_at(position + taken, expected_offset, error.reason)) from None
            position += taken

    def find_timestamp(self, timestamp_ms: int, from_offset: int) -> tuple[int, int] | None:
        """(timestamp, offset) of the first record from ``from_offset`` on that is not older. Raises DamagedLog."""
        if self.largest_timestamp < timestamp_ms:
            return None
        start_offset = max(self._indexed_offset(timestamp_ms), from_offset)
        located = self.find(start_offset)
        if located is None:
            return None
        for position, header in self.headers(located.position):
            if header.max_timestamp >= timestamp_ms and header.record_count:
                for record in next(self.batches(position)).records():
                    if record.timestamp_ms >= timestamp_ms and record.offset >= from_offset:
                        return record.timestamp_ms, record.offset
        return None

    def _indexed_offset(self, timestamp_ms: int) -> int:
        """An offset before which, by the time index, all timestamps are lower."""
        try:
            entry = self.time_index.entry_before(timestamp_ms)
            self._check_time(entry)
        except CorruptIndex:
            self.rebuild_indexes()
            entry = self.time_index.entry_before(timestamp_ms)
        return self.base_offset if entry is None else entry[1]

    def _check_time(self, entry: tuple[int, int] | None) -> None:
        """Raises CorruptIndex where the batch that a time index entry stands for has another largest timestamp."""
        if entry is None or self.is_growing:
            return
        timestamp_ms, offset = entry
        try:
            located = self.find(offset)
        except DamagedLog:
            return  # nothing can be said
        if located is None or located.header.max_timestamp != timestamp_ms or located.header.base_offset > offset:
            raise CorruptIndex("an entry does not fit the log", 0, str(self.time_index.path))

    @property
    def largest_timestamp(self) -> int:
        """The largest timestamp in the segment, -1 where it has none."""
        if self.max_timestamp == NO_TIMESTAMP and not self._knows_timestamp and not self.is_growing:
            try:
                self._restore_timestamp()
            except CorruptIndex:
                self.rebuild_indexes()
            self._knows_timestamp = True
        return self.max_timestamp

    # -------------------------------------------------------------------------------------------- making indexes anew

    def _restore_timestamp(self) -> None:
        """Largest timestamp and size behind the last index entry, by walking the batches behind it."""
        last, positions = self.time_index.last, self.offset_index.columns[1]
        self._check_time(last)
        largest = last or (NO_TIMESTAMP, self.base_offset)
        start = positions[-1] if positions else 0
        with suppress(DamagedLog):  # what is behind it counts for nothing until it is salvaged
            for _, header in self.headers(start):
                if header.max_timestamp > largest[0]:
                    largest = header.max_timestamp, header.last_offset
        # Only now: where a read has failed, the timestamp from before is at least not too low to be found.
        self.max_timestamp, self.max_timestamp_offset = largest
        self._entry_position = start

    def rebuild_indexes(
        self,
        position: int = 0,
        following_offset: int | None = None,
        on_checked: Callable[[int], None] = lambda size: None,
    ) -> list[Damage]:
        """Make both indexes anew, and return the damage met on the way: entries go around it.

        Entries of batches before ``position``, the beginning of one, are kept. Of a segment that grows they are right.
        ``following_offset``: what comes behind the segment, where that is known. ``on_checked`` is told of every few
        MiB how many bytes they are.
        """
        with self._index_lock:
            return [] if self.is_growing else self._rebuild_indexes(position, following_offset, on_checked)

    def _rebuild_indexes(
        self, position: int, following_offset: int | None, on_checked: Callable[[int], None]
    ) -> list[Damage]:
        builder = IndexBuilder(self.base_offset, self.index_interval, *self._entries_before(position))
        for _, header in self._headers_between(builder.entry_position, position):
            builder.see(header)
        damages = []
        offsets = builder.offsets[0]
        told_position = position
        for found in self.scan(position, self.base_offset + (offsets[-1] if offsets else 0), following_offset):
            if found.position >= told_position + _TOLD_SIZE:
                on_checked(found.position - told_position)
                told_position = found.position
            if isinstance(found, Damage):
                damages.append(found)
            else:
                builder.add(found.position, found.batch.header)
        builder.add_time()
        self.offset_index.replace(builder.offsets)
        self.time_index.replace(builder.times)
        self.max_timestamp, self.max_timestamp_offset = builder.max_timestamp, builder.max_timestamp_offset
        self._damages = {damage.position: damage for damage in damages}
        on_checked(max(0, self.size - told_position))
        return damages

    @property
    def has_stored_indexes(self) -> bool:
        """Whether both indexes are files, whole; those that a full disk had no space for are in memory only."""
        return self.offset_index.is_stored and self.time_index.is_stored

    def _headers_between(self, start: int, end: int) -> Iterator[Located]:
        """The batches' headers from one position to another; up to the first that is damaged."""
        with suppress(DamagedLog):
            for located in self.headers(start) if start < end else ():
                if located.position >= end:
                    return
                yield located

    def _entries_before(self, position: int) -> tuple[Columns, Columns]:
        """Copies of the index entries of batches before ``position``; none where an index is corrupt."""
        if position == 0:
            return (array("I"), array("I")), (array("q"), array("I"))
        count = self.offset_index.count_before(position)
        offsets = self.offset_index.columns
        last_offset = offsets[0][count - 1] if count else 0
        time_count = self.time_index.count_up_to(self.base_offset + last_offset) if count else 0
        times = self.time_index.columns
        return (offsets[0][:count], offsets[1][:count]), (times[0][:time_count], times[1][:time_count])

    @property
    def paths(self) -> list[Path]:
        return [self.path, self.offset_index.path, self.time_index.path]

    def forget(self) -> None:
        """Drop what the caches hold of it."""
        self._caches.discard(self, self.offset_index, self.time_index)
