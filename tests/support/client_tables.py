"""What a producer, a consumer group and a queue do, as plain tables: the simple models that the clients are held to.

They know nothing of batches, generations, cursors and notes. A table survives a crash as it is; what only the clients
of a process knew (records not sent yet, positions, who has a message) is told it by ``crash``.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

from log_tools import NOW


@dataclass
class TopicTable:
    """The values that stand in each partition, by offset; and those that were sent and have no receipt yet."""

    partition_count: int
    values: list[list[bytes]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = [[] for _ in range(self.partition_count)]
        self.starts = [0] * self.partition_count

    def ends(self) -> list[int]:
        return [len(values) for values in self.values]

    def stored(self, partition: int, offset: int, value: bytes) -> None:
        """A receipt says so: offsets are given in order, without gaps."""
        assert offset == len(self.values[partition]), (partition, offset, value)
        self.values[partition].append(value)

    def left(self, partition: int) -> list[bytes]:
        return self.values[partition][self.starts[partition] :]


@dataclass
class Known:
    """A message that is not settled. ``held_until``: by the monotonic clock, None where nobody has it."""

    value: bytes
    key: bytes | None
    put_ms: int
    visible_ms: int
    expires_ms: int | None
    deliveries: int = 0
    held_until: int | None = None


@dataclass
class Dead:
    """A dead letter: the offset that it had, why it is one, how often it was handed out; and what it carries."""

    offset: int
    reason: str
    deliveries: int
    value: bytes
    key: bytes | None


@dataclass
class QueueTable:
    """The messages of a queue, by offset. Its clocks stand still, unless they are told to move."""

    ordered: bool
    max_deliveries: int
    visibility_ms: int
    ttl_ms: int = -1
    wall_ms: int = NOW
    now_ms: int = 5_000
    end_offset: int = 0
    messages: dict[int, Known] = field(default_factory=dict)
    dead: list[Dead] = field(default_factory=list)
    settled: set[bytes] = field(default_factory=set)  # never to be handed out again

    def passes(self, time_ms: int) -> None:
        self.wall_ms += time_ms
        self.now_ms += time_ms

    def crash(self) -> None:
        """Whoever had a message is gone."""
        for known in self.messages.values():
            known.held_until = None

    def put(self, value: bytes, key: bytes | None = None, delay_s: float = 0, ttl_s: float | None = None) -> None:
        expires_ms = None if ttl_s is None else self.wall_ms + round(ttl_s * 1000)
        visible_ms = self.wall_ms + round(delay_s * 1000)
        self.messages[self.end_offset] = Known(value, key, self.wall_ms, visible_ms, expires_ms)
        self.end_offset += 1

    def is_held(self, offset: int) -> bool:
        until = self.messages[offset].held_until
        return until is not None and until > self.now_ms

    def held_count(self) -> int:
        return sum(map(self.is_held, self.messages))

    def is_blocked(self, offset: int) -> bool:
        key = self.messages[offset].key
        if not self.ordered or key is None:
            return False
        return any(other < offset and message.key == key for other, message in self.messages.items())

    def is_ready(self, offset: int) -> bool:
        is_due = self.messages[offset].visible_ms <= self.wall_ms
        return is_due and not self.is_held(offset) and not self.is_blocked(offset)

    def next_ready(self) -> int | None:
        """The first message that may be handed out. Those before it whose time or count is over become dead letters;
        what was waiting behind one of them, for its key, is looked at the next time."""
        while True:
            ready = [offset for offset in sorted(self.messages) if self.is_ready(offset)]
            for offset in ready:
                reason = self.doom(offset)
                if reason is None:
                    return offset
                self.bury(offset, reason)
            if not ready:
                return None

    def doom(self, offset: int) -> str | None:
        known = self.messages[offset]
        expires_ms = known.expires_ms
        if expires_ms is None and self.ttl_ms >= 0:
            expires_ms = known.put_ms + self.ttl_ms
        if expires_ms is not None and expires_ms <= self.wall_ms:
            return "expired"
        return "max.deliveries" if self.is_spent(offset) else None

    def is_spent(self, offset: int) -> bool:
        return 0 < self.max_deliveries <= self.messages[offset].deliveries

    def bury(self, offset: int, reason: str) -> None:
        known = self.messages.pop(offset)
        self.dead.append(Dead(offset, reason, known.deliveries, known.value, known.key))

    def hand_out(self, offset: int) -> Known:
        known = self.messages[offset]
        known.deliveries += 1
        known.held_until = self.now_ms + self.visibility_ms
        return known

    def is_in_hand(self, offset: int, deliveries: int) -> bool:
        """Whether who got it as this delivery may still settle it."""
        known = self.messages.get(offset)
        return known is not None and known.deliveries == deliveries

    def ack(self, offset: int) -> None:
        self.settled.add(self.messages.pop(offset).value)

    def nack(self, offset: int, delay_s: float) -> None:
        if self.is_spent(offset):
            self.bury(offset, "max.deliveries")
            return
        known = self.messages[offset]
        known.held_until, known.visible_ms = None, self.wall_ms + round(delay_s * 1000)

    def extend(self, offset: int, seconds: float) -> None:
        self.messages[offset].held_until = self.now_ms + round(seconds * 1000)

    def purge(self) -> int:
        count = len(self.messages)
        self.settled |= {known.value for known in self.messages.values()}
        self.messages.clear()
        return count

    def replay(self, letters: list[Dead]) -> None:
        for letter in letters:
            self.dead.remove(letter)
            self.put(letter.value, letter.key)


@dataclass
class Seen:
    """What can be seen of a queue just after a crash: how many messages it has, the deliveries of those that are ready,
    by offset, and of which offsets there are dead letters."""

    count: int
    end_offset: int
    deliveries: Mapping[int, int]
    dead: set[int]


def crashed_between(before: QueueTable, after: QueueTable, seen: Seen) -> QueueTable:
    """The table of a queue that crashed on the way from one table to the other: each message is as it was before, or as
    it would be now, or was just handed out; none is lost, and none is there twice."""
    table = deepcopy(before)
    for offset in range(before.end_offset, seen.end_offset):
        table.messages[offset] = deepcopy(after.messages[offset])
    table.end_offset = seen.end_offset
    letters = {dead.offset: dead for dead in (*before.dead, *after.dead)}
    table.dead = [letters[offset] for offset in sorted(seen.dead)]
    for offset in seen.dead:
        table.messages.pop(offset, None)
    replayed = [dead.value for dead in before.dead if dead.offset not in seen.dead]
    put_back = {known.value for offset, known in table.messages.items() if offset >= before.end_offset}
    assert set(replayed) <= put_back and len(set(replayed)) == len(replayed), "a dead letter is lost"
    acked = before.messages.keys() - after.messages.keys() - {dead.offset for dead in after.dead}
    if acked and seen.count < len(table.messages):
        for offset in acked:
            table.settled.add(table.messages.pop(offset).value)
    table.crash()
    for offset, known in table.messages.items():
        known.deliveries = _deliveries(table, offset, after, seen)
    assert seen.count == len(table.messages), (seen, table)
    return table


def _deliveries(table: QueueTable, offset: int, after: QueueTable, seen: Seen) -> int:
    """Of a message that is still there: as many as before, or as now; where it cannot be seen, the number with which it
    would not be."""
    known = table.messages[offset]
    most = after.messages[offset].deliveries if offset in after.messages else known.deliveries + 1
    if offset in seen.deliveries:
        assert known.deliveries <= seen.deliveries[offset] <= most, (offset, known, seen)
        return seen.deliveries[offset]
    is_plain = table.is_ready(offset) and table.doom(offset) is None
    return most if is_plain else known.deliveries
