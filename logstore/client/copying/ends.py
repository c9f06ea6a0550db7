"""The two ends of a copy, as the copier sees them, whichever is a directory and which a cluster.

A source is only read. A target is written by one copier at a time, which keeps its notes there, in the topic
``__copy``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from logstore.config import TopicConfig
from logstore.format.batch import RecordBatch
from logstore.format.compression import Compression
from logstore.format.filename import TopicPartition
from logstore.format.record import Record
from logstore.groups.requests import GroupDescription, OffsetAndMetadata
from logstore.storage.topics import TopicDescription

NOTES_TOPIC = "__copy"


class Piece:
    """Records of a partition that stand in a row; ``next_offset`` is behind them, and behind what holds no records.
    ``batch``: they are all of this one, as it is stored. ``size`` in bytes, as they came."""

    __slots__ = ("_records", "batch", "next_offset", "size")

    def __init__(
        self, next_offset: int, size: int, *, batch: RecordBatch | None = None, records: list[Record] | None = None
    ) -> None:
        self.next_offset, self.size, self.batch = next_offset, size, batch
        self._records = records

    @property
    def count(self) -> int:
        return self.batch.header.record_count if self.batch is not None else len(self._records or ())

    @property
    def compression(self) -> Compression | None:
        """How they are stored; None where that is not known."""
        return None if self.batch is None else self.batch.header.compression

    def records(self) -> list[Record]:
        """Raises CorruptBatch."""
        if self._records is None:
            self._records = self.batch.records() if self.batch is not None else []
        return self._records


class Bounds(NamedTuple):
    """``end`` is exclusive."""

    start: int
    end: int


class SourceGroups(Protocol):
    """As of a store or a cluster."""

    def groups(self) -> list[GroupDescription]: ...

    def committed(
        self, group: str, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]: ...


class TargetGroups(SourceGroups, Protocol):
    def describe(self, group: str) -> GroupDescription: ...

    def commit(self, group: str, offsets: Mapping[tuple[str, int], OffsetAndMetadata]) -> None: ...


class Source(ABC):
    """``name`` is for messages."""

    name: str

    @abstractmethod
    def topics(self) -> list[TopicDescription]: ...

    @abstractmethod
    def identity(self, topic: TopicDescription) -> str:
        """What tells this topic from all others, also from a later one of its name."""

    @abstractmethod
    def bounds(self, partition: TopicPartition) -> Bounds | None:
        """What can be read now; None of a partition that is not here."""

    @abstractmethod
    def pieces(self, partition: TopicPartition, offset: int, end: int) -> Iterator[Piece]:
        """The committed records from ``offset`` on, up to ``end`` or a transaction that is not finished; the last piece
        may reach beyond ``end``. Raises OffsetOutOfRange, DamagedLog, OffsetGap."""

    @abstractmethod
    def groups(self) -> SourceGroups: ...

    def size(self, partition: TopicPartition, offset: int) -> int:
        """About how many bytes there are from ``offset`` on; 0 where that is not known."""
        return 0


class Writer(ABC):
    """Of one partition. ``offset`` is that of the next record; ``unsynced_size``: bytes since the last ``sync``."""

    offset: int
    unsynced_size: int = 0

    @abstractmethod
    def append(self, piece: Piece) -> None:
        """Take records in, in order: after a failure or a kill some first ones of them are stored, and no others."""

    @abstractmethod
    def sync(self) -> None:
        """Wait until all are stored, and safe. Raises CopyRefused where another writer has been at work."""

    @abstractmethod
    def abandon(self) -> None:
        """Something has failed: store no more than what may be under way."""


class Target(ABC):
    """``name`` is for messages; ``sync_size``: so many bytes are copied between two notes of it."""

    name: str
    sync_size: int

    @abstractmethod
    def topics(self) -> dict[str, TopicDescription]: ...

    @abstractmethod
    def create_topic(self, name: str, partitions: int, config: TopicConfig) -> None: ...

    @abstractmethod
    def bounds(self, partition: TopicPartition) -> Bounds: ...

    @abstractmethod
    def records(self, partition: TopicPartition, offset: int) -> Iterator[Record]:
        """Those that are there from ``offset`` on."""

    @abstractmethod
    def writer(self, partition: TopicPartition, offset: int) -> Writer: ...

    @abstractmethod
    def load_notes(self) -> dict[bytes, bytes]:
        """The last value of each key."""

    @abstractmethod
    def note(self, notes: Mapping[bytes, bytes]) -> None:
        """Safe when this returns."""

    @abstractmethod
    def groups(self) -> TargetGroups: ...

    @abstractmethod
    def settle(self) -> None:
        """Wait for what a copier that was killed may still have under way."""


def show(partition: TopicPartition) -> str:
    """As messages name it."""
    return f"{partition.topic}-{partition.partition}"
