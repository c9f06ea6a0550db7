"""Records on their way to the log: batches of a partition, and which of them are due.

Nothing here waits, locks or looks at a clock, but for the moment in which a batch tells its futures; its owner does
the locking. Order within a partition is the order in which records were added, whatever becomes due when: a partition
has one open batch, and those before it are full, and are handed out first.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from logstore.client.delivery import Delivery, looking
from logstore.client.embedded.producer.route import Route
from logstore.client.producer import Receipt
from logstore.format.batch import HEADER_SIZE
from logstore.format.record import Headers
from logstore.storage.durability import Durability

OnDelivery = Callable[[Receipt | None, BaseException | None], None]
# Value, key, headers, timestamp (ms), and who is called when it is stored or has failed.
Outgoing = tuple[bytes | None, bytes | None, Headers, int, OnDelivery | None]


class Stretch(NamedTuple):
    """What became of records of a batch that shared one fate, from the one at ``first_index`` on: an error, or where
    the first of them is. ``timestamp_ms``: what the log has stamped them with; None where they keep their own."""

    first_index: int
    error: BaseException | None = None
    base_offset: int = -1
    durability: Durability | None = None
    timestamp_ms: int | None = None


class Batch:
    """Records of one partition, in order, and what became of them. ``cost``: what they take of the producer's memory;
    ``since_ms``: since when it is there."""

    __slots__ = (
        *("cost", "is_full", "is_settled", "partition", "records", "route", "sequence", "since_ms", "size", "size_max"),
        *("stretches", "timestamps_ms", "watched"),
    )

    def __init__(self, route: Route, partition: int, sequence: int, now_ms: int) -> None:
        self.route = route
        self.partition = partition
        self.sequence = sequence
        self.since_ms = now_ms
        self.size_max = route.batch_size_max
        self.size = HEADER_SIZE
        self.cost = 0
        self.records: list[Outgoing] = []
        self.timestamps_ms: list[int] = []
        self.stretches: list[Stretch] = []
        self.watched: list[Delivery] = []
        self.is_full = False  # nothing more is added
        self.is_settled = False

    def outcome(self, index: int) -> Receipt | BaseException:
        """See Promise."""
        at = 0 if len(self.stretches) == 1 else bisect_right(self.stretches, index, key=lambda s: s.first_index) - 1
        first_index, error, base_offset, durability, timestamp_ms = self.stretches[at]
        if error is not None:
            return error
        if timestamp_ms is None:
            timestamp_ms = self.timestamps_ms[index]
        return Receipt(self.route.topic, self.partition, base_offset + index - first_index, timestamp_ms, durability)

    def settle(self, stretches: list[Stretch]) -> list[tuple[int, OnDelivery]]:
        """Let go of the records, which have come to this; returns who is to be called, by index. Then ``watched`` are
        to be told."""
        timestamps_ms = [record[3] for record in self.records]
        callbacks = [(at, record[4]) for at, record in enumerate(self.records) if record[4] is not None]
        with looking():
            self.timestamps_ms = timestamps_ms
            self.stretches = stretches
            self.is_settled = True
        self.records = []
        return callbacks


class Unacknowledged:
    """The promise of a batch with acks=0: none. It is settled from the start."""

    __slots__ = ("batch", "watched")
    is_settled = True

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.watched: list[Delivery] = []

    def outcome(self, index: int) -> Receipt | BaseException:
        batch = self.batch
        records = batch.records
        # The records go only once the timestamps are there.
        timestamp_ms = records[index][3] if records else batch.timestamps_ms[index]
        return Receipt(batch.route.topic, batch.partition, -1, timestamp_ms, None)


class Accumulator:
    """The batches of one producer. ``open`` holds those that take records, ``waiting`` those not handed out yet, and
    ``unsettled`` all whose records have no outcome yet, both in the order in which they were begun. ``has_full``: one
    of those that wait is full.

    A Ctrl-C may end ``begin`` anywhere: then there may be a batch without records, which is handed out as well.
    """

    def __init__(self, linger_ms: int) -> None:
        self.linger_ms = linger_ms
        self.open: dict[tuple[Route, int], Batch] = {}
        self.waiting: dict[int, Batch] = {}
        self.unsettled: dict[int, Batch] = {}
        self.sequence = 0
        self.has_full = False

    def find(self, route: Route, partition: int, size: int) -> Batch | None:
        """The open batch there, if it has room for a record of ``size``; else it is full from now on."""
        batch = self.open.get((route, partition))
        if batch is None or batch.is_full:
            return None
        if batch.size + size <= batch.size_max:
            return batch
        self.fill(batch)
        return None

    def fill(self, batch: Batch) -> None:
        """Nothing more is added to it."""
        self.has_full = True
        batch.is_full = True

    def begin(self, route: Route, partition: int, now_ms: int) -> Batch:
        """A new open batch, where there is none that takes more."""
        self.sequence += 1
        batch = Batch(route, partition, self.sequence, now_ms)
        self.waiting[batch.sequence] = batch
        self.unsettled[batch.sequence] = batch
        self.open[route, partition] = batch
        return batch

    def take_due(self, now_ms: int, everything: bool = False) -> list[Batch]:
        """Hand out the batches that are full or have lingered long enough, the oldest first."""
        since_ms = now_ms - self.linger_ms
        self.has_full = False
        due = [batch for batch in self.waiting.values() if everything or batch.is_full or batch.since_ms <= since_ms]
        for batch in due:
            batch.is_full = True
            del self.waiting[batch.sequence]
            if self.open.get(place := (batch.route, batch.partition)) is batch:
                del self.open[place]
        return due

    def next_due_ms(self) -> int | None:
        """When the next batch will be due by its age; None where none waits."""
        oldest = next(iter(self.waiting.values()), None)
        return None if oldest is None else oldest.since_ms + self.linger_ms

    def is_done_up_to(self, sequence: float) -> bool:
        """Whether all batches up to the one with this number are settled."""
        return next(iter(self.unsettled), sequence + 1) > sequence
