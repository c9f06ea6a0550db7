"""What producers, a group and a queue noted while their process was killed again and again, and what must hold of it.

Events are noted by threads: before they try something whose outcome a kill may leave open, and after it has returned.
So an order between two of them is known where the one caused the other.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from promises import demand

Place = tuple[str, int]  # a group's, in a partition


class Receipts(NamedTuple):
    """Records were acknowledged: partition, offset, value."""

    places: list[tuple[int, int, bytes]]


class Resumed(NamedTuple):
    """A process begins, and finds this committed, by group and partition."""

    committed: dict[Place, int]


class Read(NamedTuple):
    """A poll of a member has returned values from ``offset`` on; noted before they are committed."""

    place: Place
    offset: int
    values: list[bytes]


class Committed(NamedTuple):
    """A commit has returned."""

    positions: dict[Place, int]


class Put(NamedTuple):
    """A put has returned."""

    offset: int
    key: bytes
    value: bytes


class Got(NamedTuple):
    """A worker has got a message."""

    offset: int
    deliveries: int
    key: bytes
    value: bytes


class Acking(NamedTuple):
    """An ack is about to be made."""

    offset: int


class Acked(NamedTuple):
    """It has returned: of the so-many-th delivery."""

    offset: int
    deliveries: int


class AckRefused(NamedTuple):
    """It was not made: the message had become another's, or a dead letter."""

    offset: int


class Ended(NamedTuple):
    """All is drained: what the partitions hold, and the dead letters (offset, deliveries, value)."""

    partitions: list[list[bytes]]
    dead: list[tuple[int, int, bytes]]


class ClientPromises:
    """Takes the events of one process after the other; a broken promise is an AssertionError."""

    def __init__(self, groups: Sequence[str], deliveries_max: int) -> None:
        self.groups, self.deliveries_max = groups, deliveries_max
        self.counts: Counter[str] = Counter()
        self.receipts: dict[tuple[int, int], bytes] = {}
        self.read: dict[Place, dict[int, bytes]] = {}
        self.committed: dict[Place, int] = {}
        self.put: dict[int, Put] = {}
        self.got: dict[int, set[int]] = {}
        self.acking: Counter[int] = Counter()  # acks that were begun and not refused, by offset
        self.acked: dict[int, int] = {}
        self.open_of_key: dict[bytes, set[int]] = {}  # messages whose ack nobody has begun
        self.key_of: dict[int, bytes] = {}
        self.early: list[tuple[Got, frozenset[int]]] = []  # handed out before these, which must have been dead by then

    def take(self, events: list[Any]) -> None:
        for event in events:
            self.counts[type(event).__name__] += 1
            match event:
                case Receipts(places):
                    for partition, offset, value in places:
                        known = self.receipts.setdefault((partition, offset), value)
                        demand(known == value, f"two receipts for offset {offset} of partition {partition}")
                case Resumed(committed):
                    self._resume(committed)
                case Read():
                    self._read(event)
                case Committed(positions):
                    self._commit(positions)
                case Put():
                    self.put[event.offset] = event
                    self._know(event.offset, event.key)
                case Got():
                    self._get(event)
                case Acking(offset):
                    self.acking[offset] += 1
                    self.open_of_key[self.key_of[offset]].discard(offset)
                case AckRefused(offset):
                    self.acking[offset] -= 1
                    self._know(offset, self.key_of[offset])
                case Acked(offset, deliveries):
                    demand(offset not in self.acked, f"message {offset} was acked twice")
                    self.acked[offset] = deliveries

    # ------------------------------------------------------------------------------------------------------ the group

    def _resume(self, committed: dict[Place, int]) -> None:
        for place, offset in self.committed.items():
            found = committed.get(place, 0)
            demand(found >= offset, f"{place} was committed up to {offset}, and resumes at {found}")
        for place, offset in committed.items():
            read_end = max(self.read.get(place, {}), default=-1) + 1
            demand(offset <= read_end, f"{offset} of {place} is committed, and {read_end} were read")
        self.committed = committed

    def _read(self, read: Read) -> None:
        place, first, values = read
        end = self.committed.get(place, 0)
        demand(first >= end, f"offset {first} of {place} comes again, committed was {end}")
        known = self.read.setdefault(place, {})
        demand(first in known or first == len(known), f"{place} goes on at {first}, not {len(known)}")
        for offset, value in enumerate(values, first):
            demand(known.setdefault(offset, value) == value, f"two values at offset {offset} of {place}")

    def _commit(self, positions: dict[Place, int]) -> None:
        for place, offset in positions.items():
            before = self.committed.get(place, 0)
            demand(offset >= before, f"the commit of {place} went back from {before} to {offset}")
            self.committed[place] = offset

    # ------------------------------------------------------------------------------------------------------ the queue

    def _get(self, got: Got) -> None:
        offset, deliveries, key, value = got
        demand(1 <= deliveries <= self.deliveries_max, f"message {offset} was handed out for the {deliveries}th time")
        seen = self.got.setdefault(offset, set())
        demand(deliveries not in seen, f"message {offset} was handed out twice as delivery {deliveries}")
        seen.add(deliveries)
        # Who gets a message and is slow to say so may do so when another has acked a later delivery.
        demand(deliveries <= self.acked.get(offset, deliveries), f"message {offset} was handed out after its ack")
        known = self.put.get(offset)
        demand(known is None or (known.key, known.value) == (key, value), f"message {offset} is another one")
        before = frozenset(other for other in self._know(offset, key) if other < offset)
        if before:
            self.early.append((got, before))

    def _know(self, offset: int, key: bytes) -> set[int]:
        """The messages of its key that are open."""
        self.key_of[offset] = key
        known = self.open_of_key.setdefault(key, set())
        if not self.acking[offset]:
            known.add(offset)
        return known

    # -------------------------------------------------------------------------------------------------------- the end

    def finish(self, ended: Ended) -> None:
        self._check_records(ended.partitions)
        self._check_messages(ended.dead)

    def _check_records(self, partitions: list[list[bytes]]) -> None:
        for (partition, offset), value in self.receipts.items():
            found = partitions[partition][offset] if offset < len(partitions[partition]) else None
            demand(
                found == value, f"{value!r} was acknowledged at {offset} of partition {partition}; there is {found!r}"
            )
        everything = Counter(value for values in partitions for value in values)
        twice = [value for value, count in everything.items() if count > 1]
        demand(not twice, f"records are there twice: {twice[:5]}")
        for number, values in enumerate(partitions):
            newest: dict[bytes, int] = {}
            for value in values:
                client, _, count = value.partition(b":")
                demand(newest.get(client, -1) < int(count), f"{value!r} stands behind {newest.get(client)}")
                newest[client] = int(count)
            for place in ((group, number) for group in self.groups):
                read = self.read.get(place, {})
                missed = [offset for offset, value in enumerate(values) if read.get(offset) != value]
                demand(not missed, f"never read of {place}: {missed[:5]}")
                demand(self.committed.get(place, 0) == len(values), f"{place} is not drained")

    def _check_messages(self, dead: list[tuple[int, int, bytes]]) -> None:
        gone = {offset for offset, _, _ in dead}
        demand(len(gone) == len(dead), "a message is among the dead letters twice")
        for offset, deliveries, value in dead:
            demand(deliveries == self.deliveries_max, f"message {offset} died after {deliveries} deliveries")
            demand(offset not in self.acked, f"message {offset} was acked, and is a dead letter")
            demand(offset not in self.put or self.put[offset].value == value, f"dead letter {offset} is another one")
        for offset in self.put:
            demand(self.acking[offset] or offset in gone, f"message {offset} is lost")
        for got, before in self.early:
            demand(before <= gone, f"{got} came before {sorted(before - gone)} of its key were settled")
