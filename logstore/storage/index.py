"""The two indexes of a segment: offset -> position and timestamp -> offset.

An index only says where to start looking: it is sparse, has no checksum, and is rebuilt from the log whenever it is
missing, short or does not make sense. After a crash its entries past the recovery point are thrown away.

A growing index is kept in memory, and written some entries at a time: a call, and a descriptor, for each would cost
more than the batch that it is for, where there are thousands of partitions. Not through a map: a store into one dies
with SIGBUS where the disk is full or the file has been cut. A sealed index is read into native columns when it is first
asked for. Kafka's own may have zeros behind the last entry, which are none.
"""

import logging
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from pathlib import Path
from struct import Struct
from typing import ClassVar

import numpy as np

from logstore.errors import CorruptIndex, DiskFull
from logstore.format import filename
from logstore.format.index_entry import (
    OFFSET_DTYPE,
    OFFSET_ENTRY,
    TIME_DTYPE,
    TIME_ENTRY,
    offset_columns,
    time_columns,
)
from logstore.storage import files
from logstore.storage.cache import Caches, Columns

logger = logging.getLogger("logstore.storage")

# So many entries of an index that grows may be in memory only: another process that reads the log walks from the last
# that is stored, and finds them in some hundred KiB of it.
_UNSTORED_COUNT_MAX = 64


class SparseIndex(ABC):
    """What both indexes share: a file of fixed-size entries, as two columns."""

    ENTRY: ClassVar[Struct]
    DTYPE: ClassVar[np.dtype[np.void]]

    def __init__(self, path: Path, base_offset: int, caches: Caches, read_only: bool = False) -> None:
        self.path = path
        self.base_offset = base_offset
        self._caches = caches
        self._held: Columns | None = None  # the columns while entries are added, or where they cannot be stored
        self._read_only = read_only
        self._stored_count = 0  # of the held entries, how many are in the file

    @abstractmethod
    def _decode(self, buffer: memoryview) -> Columns:
        """The columns of the file's entries."""

    @abstractmethod
    def _check(self, columns: Columns) -> None:
        """Raises CorruptIndex where the columns cannot be an index."""

    # ----------------------------------------------------------------------------------------------------- reading

    @property
    def columns(self) -> Columns:
        """Raises CorruptIndex where there is no file, or its entries cannot be right."""
        held = self._held
        return held if held is not None else self._caches.columns.get(self, self._load)

    @property
    def is_in_memory(self) -> bool:
        """Whether the columns are there without a look at the file."""
        return self._held is not None or self in self._caches.columns

    def _load(self) -> Columns:
        if not files.exists(self.path):
            raise CorruptIndex("the index is missing; it can be rebuilt", 0, str(self.path))
        # Read, not mapped: another process that owns the log may change the file, or cut it, just now.
        data = files.read_file(self.path) or b""
        data = data[: len(data) // self.ENTRY.size * self.ENTRY.size]
        columns = self._decode(memoryview(data)[: self._used_size(data)])
        self._check(columns)
        return columns

    def _used_size(self, data: bytes) -> int:
        """Zeros behind the last entry are space that was kept ready."""
        if any(data[-self.ENTRY.size :]):
            return len(data)
        used = np.flatnonzero(np.frombuffer(data, dtype=np.uint8))
        return -(-(int(used[-1]) + 1) // self.ENTRY.size) * self.ENTRY.size if used.size else 0

    def __len__(self) -> int:
        return len(self.columns[0])

    def corrupt(self, reason: str, entry: int) -> CorruptIndex:
        return CorruptIndex(f"{reason}; the index can be rebuilt", entry * self.ENTRY.size, str(self.path))

    # ----------------------------------------------------------------------------------------------------- growing

    @property
    def size(self) -> int:
        """Bytes of the entries of an index that grows."""
        return len(self._held[0]) * self.ENTRY.size if self._held else 0

    def start_growing(self, entry_count: int | None = None) -> None:
        """Take more entries after the first ``entry_count`` (all, where None); the others are dropped."""
        if entry_count == 0:
            self._held = self._decode(memoryview(b""))
        elif self._held is None:
            first, second = self.columns
            self._held = first[:], second[:]
            self._stored_count = len(first)
        if entry_count is not None:
            del self._held[0][entry_count:], self._held[1][entry_count:]
        self._caches.discard(self)
        self._stored_count = min(self._stored_count, len(self._held[0]))
        self._cut()

    def make_room(self) -> None:
        """All that can fail of the next ``append``. Raises StorageFailure; then there may be entries, or part of one,
        behind the last that counts as stored."""
        if self._held is not None and len(self._held[0]) - self._stored_count >= _UNSTORED_COUNT_MAX:
            self.store()

    def store(self) -> None:
        """Write the entries that are not in the file yet. Raises StorageFailure."""
        if self._held is None or self._stored_count == len(self._held[0]):
            return
        first, second = self._held
        count, stored_count = len(first), self._stored_count
        entries = zip(first[stored_count:count], second[stored_count:count])
        data = b"".join([self.ENTRY.pack(*entry) for entry in entries])
        self._caches.files.get(self, self._open).write_at(stored_count * self.ENTRY.size, data)
        self._stored_count = count

    def _append(self, first: int, second: int) -> None:
        assert self._held is not None
        # Readers bisect the first column: the second must be there before.
        self._held[1].append(second)
        self._held[0].append(first)

    def _open(self) -> files.File:
        return files.open_file(self.path, writable=True, create=True)

    def seal(self) -> None:
        """No more entries: what failed ones may have left is cut. On a full disk the last ones are left out: a look-up
        walks a little further then."""
        try:
            self.store()
        except DiskFull as error:
            logger.warning("%s ends before its log does, and reads there take a little longer: %s", self.path, error)
        self._cut()
        self._held = None
        self._caches.discard(self)

    def _cut(self) -> None:
        """Cut the file to the entries that count as stored."""
        file = self._open()
        file.truncate(self._stored_count * self.ENTRY.size)
        file.close()

    def hold(self) -> None:
        """Keep the columns in memory from now on: the file is about to go, or to be another's."""
        try:
            self._held = self.columns
        except CorruptIndex:
            self._held = self._decode(memoryview(b""))
        self._read_only = True

    @property
    def is_stored(self) -> bool:
        """Whether all entries of an index that does not grow are in its file, and none in memory only."""
        return self._held is None

    def replace(self, columns: Columns) -> None:
        """Put a whole new index in the place of this one, which does not grow."""
        self._caches.discard(self)
        if self._read_only or self._held is not None:  # it has no file, or none any more
            self._held = columns
            return
        entries = np.empty(len(columns[0]), dtype=self.DTYPE)
        for name, column in zip(self.DTYPE.names or (), columns, strict=True):
            entries[name] = column
        try:
            files.write_file(self.path, entries.tobytes())
            self._held = None
        except DiskFull:
            if self.path.suffix == filename.CLEANED:  # it is to be put in place
                raise
            self._held = columns  # it can be made anew at any time; meanwhile it serves from memory

    def sync(self) -> None:
        """Wait until all entries that were stored are on the disk."""
        file = files.open_file(self.path, writable=True)
        file.sync()
        file.close()


class OffsetIndex(SparseIndex):
    """Entries (last offset of a batch, the batch's position), both increasing."""

    ENTRY = OFFSET_ENTRY
    DTYPE = OFFSET_DTYPE

    def _decode(self, buffer: memoryview) -> Columns:
        return offset_columns(buffer)

    def _check(self, columns: Columns) -> None:
        for column in columns:
            if (backwards := _first_not_increasing(column, strictly=True)) is not None:
                raise self.corrupt("entries do not increase", backwards)

    def position_for(self, offset: int) -> int:
        """The position of a batch at or before the one that holds ``offset``."""
        offsets, positions = self.columns
        entry = bisect_right(offsets, offset - self.base_offset) - 1
        return positions[entry] if entry >= 0 else 0

    def position_before(self, position: int) -> int:
        """The last indexed position that is not beyond ``position``; 0 where none is."""
        _, positions = self.columns
        entry = bisect_right(positions, position) - 1
        return positions[entry] if entry >= 0 else 0

    def append(self, last_offset: int, position: int) -> None:
        self._append(last_offset - self.base_offset, position)

    def drop_from(self, position: int) -> None:
        """Drop the entries that point at ``position`` or beyond."""
        if (count := self.count_before(position)) < len(self):
            self.start_growing(count)

    def count_before(self, position: int) -> int:
        """How many entries point below ``position``."""
        return bisect_left(self.columns[1], position)


class TimeIndex(SparseIndex):
    """Entries (largest timestamp up to here, the last offset of the batch that brought it): timestamps increase."""

    ENTRY = TIME_ENTRY
    DTYPE = TIME_DTYPE

    def _decode(self, buffer: memoryview) -> Columns:
        return time_columns(buffer)

    def _check(self, columns: Columns) -> None:
        for column in columns:
            if (backwards := _first_not_increasing(column, strictly=column is columns[0])) is not None:
                raise self.corrupt("entries do not increase", backwards)

    def entry_before(self, timestamp_ms: int) -> tuple[int, int] | None:
        """The last entry (timestamp, offset) that is older, as all before its offset are; None without one."""
        timestamps, offsets = self.columns
        entry = bisect_left(timestamps, timestamp_ms) - 1
        return (timestamps[entry], self.base_offset + offsets[entry]) if entry >= 0 else None

    @property
    def last(self) -> tuple[int, int] | None:
        """The largest timestamp that is indexed, and its offset."""
        timestamps, offsets = self.columns
        return (timestamps[-1], self.base_offset + offsets[-1]) if timestamps else None

    def append(self, timestamp_ms: int, offset: int) -> None:
        """Nothing is added where the timestamp is not larger than the last one."""
        if self.takes(timestamp_ms):
            self._append(timestamp_ms, offset - self.base_offset)

    def takes(self, timestamp_ms: int) -> bool:
        """Whether ``append`` would add an entry of this timestamp."""
        assert self._held is not None
        timestamps = self._held[0]
        return timestamp_ms > (timestamps[-1] if timestamps else -1)

    def count_up_to(self, offset: int) -> int:
        """How many entries are for offsets up to ``offset``."""
        return bisect_right(self.columns[1], offset - self.base_offset)


def _first_not_increasing(column: "Columns | object", *, strictly: bool) -> int | None:
    numbers = np.asarray(column)
    steps = numbers[1:] <= numbers[:-1] if strictly else numbers[1:] < numbers[:-1]
    wrong = np.flatnonzero(steps)
    return int(wrong[0]) + 1 if wrong.size else None
