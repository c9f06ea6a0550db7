"""What concurrent clients of logs did and saw, and a judge of it: Jepsen's model of a queue, for partitions.

Clients note an append before they make it, and again once it is acknowledged; a reader notes each poll, which is one
look at a log from an offset on. Every value is appended once, so a value says which append it is of. ``anomalies``
looks at the whole history afterwards. It needs no global order of events: what was acknowledged before a poll began
is noted with the poll.

In a compacted log an offset may be missing where a later record has the same key, or where the record was a tombstone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import NamedTuple


class Kind(StrEnum):
    LOST = "an acknowledged value was never read, though later offsets were"
    TWO_VALUES = "two values at one offset"
    DUPLICATE = "one value at two offsets"
    INVERTED = "a client's later append stands before its earlier one"
    SKIPPED = "a poll left an offset out"
    BACKWARDS = "a poll went backwards"
    GARBAGE = "a record that nobody appended there"
    STALE = "a poll did not see what was acknowledged before it began"
    UNSTEADY_START = "a poll found the log to start behind where it really did"


class Anomaly(NamedTuple):
    kind: Kind
    log: str
    offset: int
    what: str


class Entry(NamedTuple):
    """A record, as a reader sees it."""

    offset: int
    key: bytes | None
    value: bytes | None


@dataclass
class Append:
    """One batch of one client, ``number`` of those that it sent. ``base_offset`` is None while there is no answer: it
    may or may not be in the log."""

    log: str
    client: str
    number: int
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    base_offset: int | None = None

    def entries(self) -> Iterator[Entry]:
        if self.base_offset is not None:
            for offset, (key, value) in enumerate(zip(self.keys, self.values, strict=True), self.base_offset):
                yield Entry(offset, key, value)


class Poll(NamedTuple):
    """A look at a log from ``offset`` to ``next_offset``, exclusively, and where the log started by then.

    ``acked_end``: all below had been acknowledged before the poll began. ``is_whole``: it went on to the end that the
    log then had; False for one that was bounded, or cut off by an error.
    """

    log: str
    reader: str
    offset: int
    entries: Sequence[Entry]
    next_offset: int
    log_start_offset: int
    acked_end: int
    is_whole: bool


@dataclass
class History:
    """Safe to write to from many threads."""

    appends: list[Append] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    _acked_ends: dict[str, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def begin(
        self,
        log: str,
        client: str,
        number: int,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None = None,
    ) -> Append:
        """An append that is about to be made."""
        append = Append(log, client, number, values, keys or [None] * len(values))
        self.appends.append(append)
        return append

    def acknowledge(self, append: Append, base_offset: int) -> None:
        append.base_offset = base_offset
        with self._lock:
            self._acked_ends[append.log] = max(self.acked_end(append.log), base_offset + len(append.values))

    def acked_end(self, log: str) -> int:
        """To be asked before a poll begins."""
        return self._acked_ends.get(log, 0)

    def poll(
        self,
        log: str,
        reader: str,
        offset: int,
        entries: Sequence[Entry],
        next_offset: int,
        *,
        log_start_offset: int = 0,
        acked_end: int = 0,
        is_whole: bool = False,
    ) -> None:
        self.polls.append(Poll(log, reader, offset, entries, next_offset, log_start_offset, acked_end, is_whole))

    def anomalies(self, compacted: Iterable[str] = ()) -> list[Anomaly]:
        """All that is wrong; ``compacted`` names the logs that were compacted. The last poll of each log is taken for
        one that was made when all was quiet."""
        names = sorted({item.log for item in (*self.appends, *self.polls)})
        is_compacted = set(compacted)
        return [anomaly for name in names for anomaly in _Judge(self, name, name in is_compacted).judge()]


class _Judge:
    """Goes through the history of one log."""

    def __init__(self, history: History, log: str, is_compacted: bool) -> None:
        self.log = log
        self.is_compacted = is_compacted
        self.appends = [append for append in history.appends if append.log == log]
        self.polls = [poll for poll in history.polls if poll.log == log]
        self.acked = [entry for append in self.appends for entry in append.entries()]
        self.at: dict[int, Entry] = {}  # what stands, or stood, at each offset
        self.last_of_key: dict[bytes, int] = {}
        self.read = {entry.offset for poll in self.polls for entry in poll.entries}
        self.start = self.polls[-1].log_start_offset if self.polls else 0

    def judge(self) -> Iterator[Anomaly]:
        yield from self._values()
        yield from self._garbage()
        yield from self._order()
        for poll in self.polls:
            yield from self._poll(poll)
        yield from self._lost()

    def _found(self, kind: Kind, offset: int, what: object) -> Anomaly:
        return Anomaly(kind, self.log, offset, str(what))

    def _seen(self) -> Iterator[Entry]:
        yield from self.acked
        for poll in self.polls:
            yield from poll.entries

    def _values(self) -> Iterator[Anomaly]:
        """One record an offset, one offset a value."""
        place: dict[bytes, int] = {}
        for entry in self._seen():
            known = self.at.setdefault(entry.offset, entry)
            if known != entry:
                yield self._found(Kind.TWO_VALUES, entry.offset, f"{known} and {entry}")
            if entry.value is not None and place.setdefault(entry.value, entry.offset) != entry.offset:
                yield self._found(Kind.DUPLICATE, entry.offset, f"{entry.value!r} is at {place[entry.value]} too")
            if entry.key is not None:
                self.last_of_key[entry.key] = max(entry.offset, self.last_of_key.get(entry.key, -1))

    def _garbage(self) -> Iterator[Anomaly]:
        sent = {pair for append in self.appends for pair in zip(append.keys, append.values, strict=True)}
        for entry in self.at.values():
            if (entry.key, entry.value) not in sent:
                yield self._found(Kind.GARBAGE, entry.offset, entry)

    def _order(self) -> Iterator[Anomaly]:
        """Each client sends one batch after the other, so its batches' numbers grow with the offsets."""
        owner = {
            value: (append, index)
            for append in self.appends
            for index, value in enumerate(append.values)
            if value is not None
        }
        newest: dict[str, tuple[int, int]] = {}
        for offset in sorted(self.at):
            value = self.at[offset].value
            if value is None or value not in owner:
                continue
            append, index = owner[value]
            if newest.get(append.client, (-1, -1)) > (append.number, index):
                yield self._found(Kind.INVERTED, offset, f"{value!r} of {append.client}")
            newest[append.client] = append.number, index

    def _poll(self, poll: Poll) -> Iterator[Anomaly]:
        expected = poll.offset
        for entry in poll.entries:
            if entry.offset < expected:
                yield self._found(Kind.BACKWARDS, entry.offset, f"{poll.reader} expected {expected}")
            yield from self._skipped(poll, expected, entry.offset)
            expected = entry.offset + 1
        yield from self._skipped(poll, expected, poll.next_offset)
        if poll.log_start_offset > self.start:
            yield self._found(Kind.UNSTEADY_START, poll.log_start_offset, f"{poll.reader}; it is {self.start}")
        if poll.is_whole and poll.next_offset < poll.acked_end:
            yield self._found(Kind.STALE, poll.acked_end - 1, f"{poll.reader} saw the end at {poll.next_offset}")

    def _skipped(self, poll: Poll, first: int, end: int) -> Iterator[Anomaly]:
        for offset in range(first, end):
            if not self._may_be_gone(offset):
                yield self._found(Kind.SKIPPED, offset, f"{poll.reader} from {poll.offset} to {poll.next_offset}")

    def _may_be_gone(self, offset: int) -> bool:
        """Whether compaction may have taken it. What nobody ever saw, nobody can miss."""
        if not self.is_compacted:
            return False
        entry = self.at.get(offset)
        return entry is None or entry.value is None or entry.key is None or self.last_of_key[entry.key] > offset

    def _lost(self) -> Iterator[Anomaly]:
        last_read = max(self.read, default=-1)
        for entry in self.acked:
            is_due = self.start <= entry.offset < last_read and entry.offset not in self.read
            if is_due and not self._may_be_gone(entry.offset):
                yield self._found(Kind.LOST, entry.offset, entry)


def explain(found: Sequence[Anomaly]) -> str:
    """The first few, for a failing assertion."""
    return "\n".join(f"{anomaly.log}@{anomaly.offset}: {anomaly.kind}: {anomaly.what}" for anomaly in found[:10])
