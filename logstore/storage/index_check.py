"""Holds a segment's indexes against its batches, in one walk along both. Pure: entries and headers in, findings out.

An offset entry (offset, position) is right where a batch begins at the position, and a look-up of the offset may begin
there: the offset is that batch's last one or, as in files of older Kafkas, which indexed several batches at a time, the
last one of a later batch. A time entry (timestamp, offset) is right where the batch that holds the offset has this
timestamp as its largest, and no batch before has a larger one. Entries for what is damaged in the log are passed over.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from logstore.format.batch import NO_TIMESTAMP, BatchHeader
from logstore.format.index_entry import OFFSET_ENTRY_SIZE, TIME_ENTRY_SIZE
from logstore.storage.cache import Columns
from logstore.storage.scan import Damage


class WrongEntry(NamedTuple):
    """``entry`` counts from 0."""

    entry: int
    reason: str


class IndexCheck(ABC):
    """Told of everything in the log in the order of the file: good batches, damage, the end."""

    ENTRY_SIZE: ClassVar[int]

    def __init__(self, columns: Columns, base_offset: int) -> None:
        self.columns = columns
        self.base_offset = base_offset
        self.next = 0  # the first entry that has not been looked at

    @abstractmethod
    def batch(self, position: int, header: BatchHeader) -> Iterator[WrongEntry]: ...

    @abstractmethod
    def damage(self, damage: Damage) -> None: ...

    @abstractmethod
    def end(self) -> Iterator[WrongEntry]: ...


class OffsetIndexCheck(IndexCheck):
    ENTRY_SIZE = OFFSET_ENTRY_SIZE

    def __init__(self, columns: Columns, base_offset: int) -> None:
        super().__init__(columns, base_offset)
        self._pending: list[int] = []  # entries whose offset is behind the batch that they lead to

    def batch(self, position: int, header: BatchHeader) -> Iterator[WrongEntry]:
        positions = self.columns[1]
        for entry in [entry for entry in self._pending if self._offset(entry) <= header.last_offset]:
            self._pending.remove(entry)
            if self._offset(entry) != header.last_offset:
                yield self._wrong(entry, "is the last of no batch")
        while self.next < len(positions) and positions[self.next] <= position:
            entry, offset = self.next, self._offset(self.next)
            self.next += 1
            if positions[entry] < position:
                yield self._wrong(entry, "leads to where no batch begins")
            elif offset > header.last_offset:
                self._pending.append(entry)
            elif offset < header.last_offset:
                yield self._wrong(entry, f"leads to the batch of offsets {header.base_offset} to {header.last_offset}")

    def damage(self, damage: Damage) -> None:
        positions = self.columns[1]
        while self.next < len(positions) and positions[self.next] < damage.position + damage.size:
            self.next += 1
        self._pending.clear()

    def end(self) -> Iterator[WrongEntry]:
        for entry in [*self._pending, *range(self.next, len(self.columns[0]))]:
            yield self._wrong(entry, "is behind the end of the log")

    def _offset(self, entry: int) -> int:
        return self.base_offset + self.columns[0][entry]

    def _wrong(self, entry: int, reason: str) -> WrongEntry:
        position = self.columns[1][entry]
        return WrongEntry(entry, f"the entry of offset {self._offset(entry)}, position {position}, {reason}")


class TimeIndexCheck(IndexCheck):
    ENTRY_SIZE = TIME_ENTRY_SIZE

    def __init__(self, columns: Columns, base_offset: int) -> None:
        super().__init__(columns, base_offset)
        self._largest = NO_TIMESTAMP
        self._after_damage = False

    def batch(self, position: int, header: BatchHeader) -> Iterator[WrongEntry]:
        self._largest = max(self._largest, header.max_timestamp)
        timestamps, offsets = self.columns
        while self.next < len(offsets) and self.base_offset + offsets[self.next] <= header.last_offset:
            entry, offset, timestamp = self.next, self.base_offset + offsets[self.next], timestamps[self.next]
            self.next += 1
            if offset < header.base_offset:
                if not self._after_damage:
                    yield self._wrong(entry, "is of an offset that no batch holds")
            elif timestamp != header.max_timestamp:
                yield self._wrong(entry, f"is not the largest of its batch, which is {header.max_timestamp}")
            elif timestamp < self._largest:
                yield self._wrong(entry, f"is not the largest up to there, which is {self._largest}")
        self._after_damage = False

    def damage(self, damage: Damage) -> None:
        self._after_damage = True

    def end(self) -> Iterator[WrongEntry]:
        for entry in () if self._after_damage else range(self.next, len(self.columns[0])):
            yield self._wrong(entry, "is behind the end of the log")

    def _wrong(self, entry: int, reason: str) -> WrongEntry:
        offset = self.base_offset + self.columns[1][entry]
        return WrongEntry(entry, f"the entry of time {self.columns[0][entry]}, offset {offset}, {reason}")
