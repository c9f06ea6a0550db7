"""What a journal promises, folded to what must be found, and the check of a data directory against it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from damage import findings
from driver import (
    Acknowledged,
    Attempted,
    Changed,
    Changing,
    Compacting,
    Cut,
    Cutting,
    Event,
    Leaving,
    Left,
    PartitionKey,
    Synced,
    TopicState,
    states_of,
)
from log_tools import Clock
from logstore.format.record import Record
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from logstore.storage.partition import PartitionLog
from logstore.storage.producer_state import DuplicateBatch


class BrokenPromise(AssertionError):
    """What was found is not what was promised."""


def demand(condition: object, message: str) -> None:
    if not condition:
        raise BrokenPromise(message)


@dataclass
class LogPromise:
    """Of one partition. ``known``: what was acknowledged, by offset. ``batches`` are the values that only exist
    together. From ``start_min`` to ``start_max`` the log may start; up to ``durable_end`` nothing may be missing."""

    known: dict[int, bytes] = field(default_factory=dict)
    keys: dict[int, bytes | None] = field(default_factory=dict)
    batches: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    cut_values: set[tuple[int, bytes]] = field(default_factory=set)
    unanswered: set[bytes] = field(default_factory=set)
    durable_end: int = 0
    end: int = 0
    start_min: int = 0
    start_max: int = 0
    is_compacted: bool = False

    def take(self, event: Event) -> None:
        match event:
            case Attempted(_, values, _):
                self.unanswered.update(values)
                self.batches |= {value: tuple(values) for value in values}
            case Acknowledged(_, base_offset, values, key, durability):
                self.unanswered.difference_update(values)
                for offset, value in enumerate(values, base_offset):
                    self.known[offset], self.keys[offset] = value, key
                self.end = max(self.end, base_offset + len(values))
                if durability is Durability.FSYNC:
                    self.durable_end = max(self.durable_end, base_offset + len(values))
            case Synced(_, end_offset):
                self.durable_end = max(self.durable_end, end_offset)
            case Cutting(_, offset):
                # The batch that holds the offset goes whole, so nothing is sure from its first value on.
                start = offset
                while start > 0 and self.known.get(start - 1) in self.batches.get(self.known.get(offset, b""), ()):
                    start -= 1
                self.cut_values |= {item for item in self.known.items() if item[0] >= start}
                self.known = {item: value for item, value in self.known.items() if item < start}
                self.durable_end = min(self.durable_end, start)
                self.end = min(self.end, start)
            case Cut(_, end_offset):
                self.durable_end = self.end = end_offset
                self.cut_values.clear()
            case Leaving(_, offset):
                self.start_max = max(self.start_max, offset)
            case Left(_, start_offset):
                self.start_min = max(self.start_min, start_offset)
            case Compacting():
                self.is_compacted = True

    def settled(self, log: PartitionLog) -> "LogPromise":
        """As if all that there is had been acknowledged, and nothing else been tried."""
        start, end = log.log_start_offset, log.log_end_offset
        records = {record.offset: record for record in log.records(start)}
        values = {offset: bytes(record.value or b"") for offset, record in records.items()}
        # What a compaction has left out is known still.
        known = {offset: value for offset, value in self.known.items() if start <= offset < end} | values
        keys = {offset: key for offset, key in self.keys.items() if offset in known}
        return LogPromise(
            known,
            keys | {offset: record.key for offset, record in records.items()},
            {value: self.batches[value] for value in known.values() if value in self.batches},
            durable_end=end,
            end=end,
            start_min=start,
            start_max=start,
            is_compacted=self.is_compacted,
        )


@dataclass
class Promises:
    """Of a whole directory. A topic may be in any of its ``states``; None: it need not be there."""

    logs: dict[PartitionKey, LogPromise] = field(default_factory=dict)
    states: dict[str, list[TopicState | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Event], *, survives: Durability = Durability.FSYNC) -> "Promises":
        """``survives``: FSYNC where power was lost, OS where only the process ended: then all that was acknowledged
        must be there."""
        promises = cls()
        promises.take(events, survives=survives)
        return promises

    def take(self, events: Iterable[Event], *, survives: Durability) -> None:
        for event in events:
            if isinstance(event, Changing):
                self.states.setdefault(event.topic, [None]).append(event.state)
            elif isinstance(event, Changed):
                self.states[event.topic] = [event.state]
                if event.state is None:
                    self.logs = {key: log for key, log in self.logs.items() if key[0] != event.topic}
            else:
                self.logs.setdefault(event.partition, LogPromise()).take(event)
        if survives is Durability.OS:
            for log in self.logs.values():
                log.durable_end = max(log.durable_end, log.end)

    def settle(self, data_dir: DataDir) -> None:
        """What ``check`` has found in a directory is what must be there from now on: no more, and no less."""
        found = states_of(data_dir)
        self.states = {name: [found.get(name)] for name in found.keys() | self.states.keys()}
        self.logs = {key: self.logs.get(key, LogPromise()).settled(log) for key, log in data_dir.logs()}


# ------------------------------------------------------------------------------------------------------ the checking


def check_directory(path: Path, promises: Promises, *, settle: bool = False) -> None:
    """Open what is there, check it, close it and verify it. ``settle``: it is what must be there from now on."""
    data_dir = DataDir(path, now_ms=Clock())
    try:
        check_all_open(data_dir)
        check(data_dir, promises)
        if settle:
            promises.settle(data_dir)
    finally:
        data_dir.close()
    check_verified(path)


def check(data_dir: DataDir, promises: Promises) -> None:
    """Raises BrokenPromise, and the engine's own errors, where ``data_dir``, just opened, is not what was promised."""
    found = states_of(data_dir)
    for name in found.keys() | promises.states.keys():
        allowed = promises.states.get(name, [None])
        demand(found.get(name) in allowed, f"topic {name}: {found.get(name)}, not one of {allowed}")
    demand(not data_dir.damages(), f"damage is reported: {data_dir.damages()}")
    for key, log in data_dir.logs():
        check_log(log, promises.logs.get(key, LogPromise()))


def check_all_open(data_dir: DataDir) -> None:
    """An opening leaves out a partition that it cannot open: none is left out."""
    there = {(topic.name, number) for topic in data_dir.topics() for number in range(topic.partitions)}
    opened = {key for key, _ in data_dir.logs()}
    demand(opened == there, f"partitions {sorted(there ^ opened)} are not open, or nobody's")


def check_log(log: PartitionLog, promise: LogPromise) -> None:
    records = list(log.records(log.log_start_offset))
    _check_range(log, promise)
    _check_records(log, records, promise)
    _check_batches(records, promise)
    _check_look_ups(log, records)
    _check_producers(log)


def _check_range(log: PartitionLog, promise: LogPromise) -> None:
    start, end = log.log_start_offset, log.log_end_offset
    demand(start >= promise.start_min, f"{log.name}: starts at {start}; {promise.start_min} was promised")
    demand(start <= promise.start_max, f"{log.name}: starts at {start}; nothing before {promise.start_max} was to go")
    demand(end >= promise.durable_end, f"{log.name}: ends at {end}; {promise.durable_end} was on the disk")


def _check_records(log: PartitionLog, records: list[Record], promise: LogPromise) -> None:
    for record in records:
        value = bytes(record.value or b"")
        is_known = promise.known.get(record.offset) == value or (record.offset, value) in promise.cut_values
        demand(is_known or value in promise.unanswered, f"{log.name}: garbage at {record.offset}: {value[:60]!r}")
        demand(record.offset in promise.known or not is_known or promise.cut_values, f"{log.name}: {record.offset}")
    offsets = [record.offset for record in records]
    demand(offsets == sorted(set(offsets)), f"{log.name}: offsets {offsets}")
    missing = set(range(log.log_start_offset, log.log_end_offset)).difference(offsets)
    if promise.is_compacted:
        latest = {record.key: record.offset for record in records}
        missing = {at for at in missing if latest.get(promise.keys.get(at), -1) < at}
        if promise.unanswered:  # one of them may have come in, and gone
            missing &= promise.known.keys()
    demand(not missing, f"{log.name}: offsets {sorted(missing)} of {log.log_start_offset} to {log.log_end_offset} miss")


def _check_batches(records: list[Record], promise: LogPromise) -> None:
    present = {bytes(record.value or b"") for record in records}
    for record in records:
        together = promise.batches.get(bytes(record.value or b""), ())
        torn = [value for value in together if value not in present]
        if torn and not promise.is_compacted:
            first = records[0].offset  # the log may start in the middle of a batch
            demand(record.offset - together.index(bytes(record.value or b"")) < first, f"half a batch: {torn} missing")


def _check_look_ups(log: PartitionLog, records: list[Record]) -> None:
    for record in records:
        read = next(iter(log.records(record.offset)))
        demand(read == record, f"{log.name}: a read at {record.offset} gave {read}")
        first = next(other for other in records if other.timestamp_ms >= record.timestamp_ms)
        by_time = log.offset_for_time(record.timestamp_ms)
        demand(by_time == (first.timestamp_ms, first.offset), f"{log.name}: by time {by_time}, not {first.offset}")


def _check_producers(log: PartitionLog) -> None:
    """A batch that was the producer's last is known again, and one behind it is welcome."""
    last = {batch.header.producer_id: batch.header for batch in log.batches(log.log_start_offset)}
    for producer_id, header in last.items():
        if producer_id < 0:
            continue
        count = header.last_offset_delta + 1  # of the records that it was sent with; a compaction may have left fewer
        known = log.producers.check(producer_id, header.producer_epoch, header.base_sequence, count)
        demand(isinstance(known, DuplicateBatch), f"{log.name}: producer {producer_id}'s last batch is not known")
        next_sequence = header.base_sequence + count
        welcome = log.producers.check(producer_id, header.producer_epoch, next_sequence, 1)
        demand(welcome is None, f"{log.name}: producer {producer_id} cannot go on at {next_sequence}")


def check_verified(path: Path) -> None:
    """``logstore verify`` has nothing to say of the directory."""
    found = findings(path)
    demand(not found, f"verify says {found}")
