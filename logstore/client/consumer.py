"""What a consumer is, whatever stands behind it: a directory of this process, or a Kafka cluster."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from logstore.format.filename import TopicPartition
from logstore.format.record import Headers
from logstore.groups.requests import OffsetAndMetadata

Deserializer = Callable[[bytes], Any]
Partitions = Iterable[tuple[str, int]]


class ConsumerRecord(NamedTuple):
    """One record: where it is, when it was made (ms since 1970), and what it carries."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: Any
    value: Any
    headers: Headers = ()


class RebalanceListener:
    """What a consumer tells of its partitions, in the thread that polls: override what you need.

    With a cooperative strategy only those are named that come or go. What a method raises comes out of the poll.
    """

    def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
        """They are this consumer's from now on; a seek here decides where it begins."""

    def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
        """They are about to go to others, and may still be committed."""

    def on_partitions_lost(self, partitions: list[TopicPartition]) -> None:
        """They may be others' already: it is too late to commit. Unless overridden, as if revoked."""
        self.on_partitions_revoked(partitions)


class Consumer(ABC):
    """Reads records, alone or as a member of a group. For one thread at a time, but for ``wakeup``."""

    @abstractmethod
    def subscribe(
        self,
        topics: Iterable[str] | str = (),
        *,
        pattern: str | re.Pattern[str] | None = None,
        listener: RebalanceListener | None = None,
    ) -> None:
        """Have the group hand out the partitions of these topics, or of all whose whole name matches ``pattern``, those
        to come included. Topics that do not exist are waited for. Without a group, which a directory allows, this
        consumer has all the partitions."""

    @abstractmethod
    def assign(self, partitions: Partitions) -> None:
        """Read just these, without rebalances. With a group, offsets are committed for it all the same."""

    @abstractmethod
    def unsubscribe(self) -> None:
        """Leave the group and give up all partitions."""

    @abstractmethod
    def subscription(self) -> frozenset[str]:
        """The topics subscribed to; those that match now, with a pattern."""

    @abstractmethod
    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that this consumer reads now."""

    @abstractmethod
    def poll(self, timeout: float | None = None, *, max_records: int | None = None) -> list[ConsumerRecord]:
        """The next records, in order within a partition; waits up to ``timeout`` seconds (None: for ever) for the
        first. Empty at the time-out, and after ``wakeup``.

        Raises NoCommittedOffset, DamagedLog, OffsetGap (once each: the next poll goes on behind), SerializationFailed
        (at the record, which stays the next one: seek past it), PollIntervalExceeded, ConcurrentUse, Closed.
        """

    @abstractmethod
    def __iter__(self) -> Iterator[ConsumerRecord]:
        """Records without end, until ``wakeup`` or ``close``. A record counts as consumed when the next is asked for:
        neither an automatic commit nor ``commit()`` covers one that the loop's body has not finished, and ``position``
        is that record's own offset."""

    @abstractmethod
    def wakeup(self) -> None:
        """Have a poll under way, or the next one, return at once. From any thread."""

    @abstractmethod
    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Go on at ``offset``. Raises NotAssigned."""

    @abstractmethod
    def seek_to_beginning(self, partitions: Partitions = ()) -> None:
        """Of all assigned partitions where none is named, as with ``seek_to_end``, ``pause`` and ``resume``."""

    @abstractmethod
    def seek_to_end(self, partitions: Partitions = ()) -> None: ...

    @abstractmethod
    def seek_to_time(self, timestamp_ms: int, partitions: Partitions = ()) -> None:
        """Go on at the first record that is not older; at the end where all are."""

    @abstractmethod
    def pause(self, partitions: Partitions = ()) -> None:
        """Return no records of these from poll, which keeps the membership up all the same."""

    @abstractmethod
    def resume(self, partitions: Partitions = ()) -> None: ...

    @abstractmethod
    def paused(self) -> frozenset[TopicPartition]: ...

    @abstractmethod
    def position(self, topic: str, partition: int) -> int:
        """The offset that comes next. Raises NotAssigned."""

    @abstractmethod
    def committed(self, topic: str, partition: int) -> OffsetAndMetadata | None:
        """What the group has committed; None where it has not."""

    @abstractmethod
    def lag(self) -> dict[TopicPartition, int]:
        """How many offsets each assigned partition's end is ahead of the position."""

    @abstractmethod
    def beginning_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]: ...

    @abstractmethod
    def end_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]: ...

    @abstractmethod
    def offsets_for_times(self, timestamps_ms: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int | None]: ...

    @abstractmethod
    def commit(self, offsets: Mapping[tuple[str, int], int | OffsetAndMetadata] | None = None) -> None:
        """Record, for the group, where to go on: ``offsets``, else the positions. Returns when that is on the disk.

        Raises UnknownMember, IllegalGeneration, RebalanceInProgress, FencedInstance where the group has gone on without
        this consumer: nothing is committed then. NotAssigned, InvalidArgument.
        """

    @abstractmethod
    def close(self) -> None:
        """Commit if that is automatic, leave the group, let go. Closing twice is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
