"""Any order of appends, reads, rolls, truncations, retention, compactions, closes and crashes, against a plain list.

The list knows nothing of files: of the engine's segments it only takes where each begins, since compaction leaves the
active one alone and keeps the last batch of each that it writes.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from log_tools import NOW, Clock
from logstore.config import TopicConfig
from logstore.errors import OffsetOutOfRange, OutOfOrderSequence
from logstore.format.batch import BatchHeader, batches
from logstore.format.compression import Compression
from logstore.format.record import Record
from logstore.storage.compaction import compact
from logstore.storage.durability import Durability
from logstore.storage.log_writer import Appended
from logstore.storage.offset_map import SLOT_SIZE, OffsetMap
from logstore.storage.partition import PartitionLog

DELETE_RETENTION_MS = 100
MEMORY = Path("/dev/shm")  # what a sync waits for is not the question here

SHARE = st.integers(0, 20).map(lambda number: number / 20)  # of the log's offsets
VALUES = st.none() | st.binary(max_size=40)
KEYS = st.sampled_from([None, b"", b"a", b"b", b"c", b"d"])
ROW = st.tuples(
    VALUES,
    KEYS,
    st.integers(-100, 100),
    st.lists(st.tuples(st.text(max_size=3), VALUES), max_size=2).map(tuple),
)


@dataclass(frozen=True)
class Batch:
    """A batch as it must be in the log: the offsets that it covers, the records that are left, and when its tombstones
    go (``horizon_ms``, None where compaction has left it none)."""

    base_offset: int
    last_offset: int
    records: tuple[Record, ...]
    horizon_ms: int | None = None


class Sent(NamedTuple):
    """A batch of an idempotent producer, as it was appended."""

    arguments: dict[str, Any]
    receipt: Appended

    @property
    def next_sequence(self) -> int:
        return int(self.arguments["base_sequence"]) + len(self.arguments["values"])


@dataclass(frozen=True)
class Compaction:
    """What a compaction has to go by. It is not told which batches to keep, but for those that stay when emptied."""

    first_dirty_offset: int
    end_offset: int
    key_count_max: int
    now_ms: int

    def of(self, before: Sequence[Batch], never_gone: set[int]) -> tuple[list[Batch], int]:
        """What is left of the batches, and up to where the log is compacted. ``never_gone``: last offsets of batches
        that stay without records too."""
        end_offset, latest = self._latest(before)
        if end_offset <= self.first_dirty_offset:
            return list(before), max(self.first_dirty_offset, end_offset)
        found = [self._cleaned(batch, end_offset, latest) for batch in before]
        kept = [
            batch
            for batch in found
            if batch.records or batch.base_offset >= end_offset or batch.last_offset in never_gone
        ]
        return kept, end_offset

    def _latest(self, before: Sequence[Batch]) -> tuple[int, dict[bytes, int]]:
        """Up to where the keys fit into the map, and where each was last."""
        latest: dict[bytes, int] = {}
        for record in (record for batch in before for record in batch.records):
            if not self.first_dirty_offset <= record.offset < self.end_offset or record.key is None:
                continue
            if record.key not in latest and len(latest) == self.key_count_max:
                return record.offset, latest
            latest[record.key] = record.offset
        return self.end_offset, latest

    def _cleaned(self, batch: Batch, end_offset: int, latest: dict[bytes, int]) -> Batch:
        is_over = batch.horizon_ms is not None and batch.horizon_ms <= self.now_ms

        def stays(record: Record) -> bool:
            if record.offset >= end_offset:
                return True
            is_latest = record.key is not None and latest.get(record.key, -1) <= record.offset
            return is_latest and not (is_over and record.value is None)

        records = tuple(filter(stays, batch.records))
        horizon_ms = batch.horizon_ms if records else None
        has_tombstone = any(record.value is None for record in records)
        if has_tombstone and horizon_ms is None and batch.last_offset < end_offset:
            horizon_ms = self.now_ms + DELETE_RETENTION_MS
        return replace(batch, records=records, horizon_ms=horizon_ms)


def facts(header: BatchHeader) -> tuple[int, int, int, int | None]:
    return header.base_offset, header.last_offset, header.record_count, header.delete_horizon_ms


class PartitionModel(RuleBasedStateMachine):
    """``batches`` are all that the log must hold, in order, with those before ``start`` that share a segment with what
    is behind it, or once did: compaction looks at them too."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="partition-model-", dir=MEMORY if MEMORY.is_dir() else None))
        self.directory = self.root / "t_0"
        self.directory.mkdir()
        self.clock = Clock()
        self.batches: list[Batch] = []
        self.sent: dict[int, list[Sent]] = {}  # by producer id
        self.recognised: dict[int, int] = {}  # how many of the last of these are, when they are sent again
        self.start = self.end = self.cleaned = 0

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @initialize(
        policy=st.sampled_from(["delete", "compact", "compact", "compact,delete"]),
        segment_bytes=st.sampled_from([150, 400, 1500, 100_000]),
        interval=st.sampled_from([0, 1, 90, 300, 4096]),
        index_bytes=st.sampled_from([24, 60, 10_000]),
        preallocate=st.booleans(),
    )
    def configure(self, policy: str, segment_bytes: int, interval: int, index_bytes: int, preallocate: bool) -> None:
        self.config = TopicConfig(
            cleanup_policy=tuple(policy.split(",")),
            segment_bytes=segment_bytes,
            index_interval_bytes=interval,
            segment_index_bytes=index_bytes,
            preallocate=preallocate,
            retention_ms=-1,
            delete_retention_ms=DELETE_RETENTION_MS,
            file_delete_delay_ms=0,
        )
        self.log = self.open(recovery_point=0, is_clean=False)

    def open(self, **arguments: Any) -> PartitionLog:
        return PartitionLog(
            self.directory,
            self.config,
            log_start_offset=self.start,
            now_ms=self.clock,
            save_recovery_point=self.save,
            **arguments,
        )

    def save(self) -> None:
        """What a data directory records when a log is about to be cut."""
        self.cleaned = min(self.cleaned, self.log.cut_offset)

    # ------------------------------------------------------------------------------------------------------- changes

    @rule(
        rows=st.lists(ROW, min_size=1, max_size=6) | st.lists(ROW, min_size=24, max_size=30),
        compression=st.sampled_from(list(Compression)),
        plain=st.booleans(),
        producer=st.sampled_from([None, None, 7, 8]),
        durability=st.sampled_from([Durability.OS, Durability.OS, Durability.FSYNC]),
    )
    def append(
        self, rows: list[Any], compression: Compression, plain: bool, producer: int | None, durability: Durability
    ) -> None:
        self.clock.now_ms += 10
        if plain and not self.config.compacts:
            rows = [(value or b"", None, 0, ()) for value, *_ in rows]
            arguments: dict[str, Any] = {"values": [value for value, *_ in rows]}
        else:
            rows = [(value, self.key(key), delta, headers) for value, key, delta, headers in rows]
            values, keys, deltas, headers = map(list, zip(*rows, strict=True))
            times = [self.clock.now_ms + delta for delta in deltas]
            arguments = {"values": values, "keys": keys, "headers": headers, "timestamps_ms": times}
        arguments |= {"compression": compression, "durability": durability}
        if producer is not None:
            sent = self.sent.setdefault(producer, [])
            sequence = sent[-1].next_sequence if sent else 0
            arguments |= {"producer_id": producer, "producer_epoch": 0, "base_sequence": sequence}
        receipt = self.log.append(**arguments)
        assert (receipt.base_offset, receipt.last_offset) == (self.end, self.end + len(rows) - 1)
        assert not receipt.is_duplicate
        if producer is not None:
            sent.append(Sent(arguments, receipt))
            self.recognised[producer] = min(5, len(sent), self.recognised.get(producer, 0) + 1)
        records = [
            Record(offset, self.clock.now_ms + delta, key, value, headers)
            for offset, (value, key, delta, headers) in enumerate(rows, self.end)
        ]
        self.batches.append(Batch(self.end, receipt.last_offset, tuple(records)))
        self.end += len(rows)

    @rule(
        keys=st.lists(st.lists(st.tuples(KEYS, st.booleans()), min_size=1, max_size=3), min_size=3, max_size=8),
        producer=st.sampled_from([None, 7, 8]),
        roll_every=st.integers(1, 9),
    )
    def append_short_batches(self, keys: list[Any], producer: int | None, roll_every: int) -> None:
        for number, batch in enumerate(keys, 1):
            rows = [(b"value" if has_value else None, key, 0, ()) for key, has_value in batch]
            self.append(rows, Compression.NONE, False, producer, Durability.OS)
            if number % roll_every == 0:
                self.log.roll()

    def key(self, key: bytes | None) -> bytes | None:
        return b"no key" if key is None and self.config.compacts else key

    @rule(producer=st.sampled_from([7, 8]), back=st.integers(0, 4))
    def send_again(self, producer: int, back: int) -> None:
        sent = self.sent.get(producer)
        if not sent:
            return
        before = sent[-1 - min(back, self.recognised[producer] - 1)]
        receipt = self.log.append(**before.arguments)
        assert receipt.is_duplicate
        assert receipt[:3] == before.receipt[:3]
        gap = {**before.arguments, "base_sequence": sent[-1].next_sequence + 1}
        with pytest.raises(OutOfOrderSequence):
            self.log.append(**gap)

    @rule()
    def roll(self) -> None:
        self.log.roll()

    @rule()
    def checkpoint(self) -> None:
        assert self.log.checkpoint() == self.end

    @rule(delta_ms=st.integers(1, 150))
    def wait(self, delta_ms: int) -> None:
        self.clock.now_ms += delta_ms

    @rule(share=st.sampled_from([0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 1]))
    def truncate(self, share: float) -> None:
        offset = self.start + round(share * (self.end - self.start))
        first_offset = self.log.view.segments[0].base_offset
        self.log.truncate_to(offset)
        if offset == self.end:
            return
        self.batches = [batch for batch in self.batches if batch.last_offset < offset]
        self.end = max([first_offset, *(batch.last_offset + 1 for batch in self.batches[-1:])])
        self.start = min(self.start, self.end)
        self.forget_producers()

    def forget_producers(self) -> None:
        """After a truncation a producer is known by its last batch that is left, if compaction has not taken it: then
        the log may know it by an older one, or not at all."""
        entries = {entry.producer_id: entry for entry in self.log.producers.snapshot_entries()}
        first_offset = self.log.view.segments[0].base_offset
        in_log = {batch.base_offset for batch in self.batches if batch.base_offset >= first_offset}
        for producer, sent in self.sent.items():
            left = [before for before in sent if before.receipt.base_offset < self.end]
            known_at = entries[producer].last_offset if producer in entries else -1
            if left and left[-1].receipt.base_offset in in_log:
                assert known_at == left[-1].receipt.last_offset
            self.sent[producer] = [before for before in left if before.receipt.last_offset <= known_at]
        self.recognised = dict.fromkeys(self.sent, 1)

    @rule(share=SHARE)
    def advance_start(self, share: float) -> None:
        offset = self.start + round(share * (self.end - self.start))
        assert self.log.advance_log_start(offset) == offset
        self.start = offset

    @rule(kept=st.integers(0, 2000))
    def retain_by_size(self, kept: int) -> None:
        self.log.config = self.config.replace({"retention.bytes": kept})
        self.log.delete_expired()
        self.log.config = self.config
        self.log.unlink_retired()
        assert self.log.log_start_offset >= self.start
        assert self.log.log_end_offset == self.end
        assert self.config.deletes or self.log.log_start_offset == self.start
        self.start = self.log.log_start_offset

    @rule(
        map_size_bytes=st.sampled_from([1, 4 * SLOT_SIZE, 1 << 20, 1 << 20]), rolls=st.sampled_from([True, True, False])
    )
    def compact(self, map_size_bytes: int, rolls: bool) -> None:
        if not self.config.compacts:
            return
        if rolls:
            self.log.roll()
        segments = self.log.view.segments
        first_dirty_offset = max(self.cleaned, self.start, segments[0].base_offset)
        end_offset = max(first_dirty_offset, segments[-1].base_offset)
        offset_map = OffsetMap(map_size_bytes, max(1, end_offset - first_dirty_offset))
        compaction = Compaction(first_dirty_offset, end_offset, offset_map.capacity, self.clock.now_ms)
        result = compact(self.log, self.cleaned, map_size_bytes)
        lasts, _ = self.log.producer_offsets()
        borders = {segment.base_offset - 1 for segment in self.log.view.segments}
        in_log = [batch for batch in self.batches if batch.base_offset >= segments[0].base_offset]
        self.batches, self.cleaned = compaction.of(in_log, borders | set(lasts.values()))
        assert result.cleaned_offset == self.cleaned
        assert not result.damages

    @rule()
    def close_and_open(self) -> None:
        assert self.log.close()
        self.log = self.open(recovery_point=self.end, is_clean=True)
        self.reload_producers()

    @rule(share=SHARE, torn=st.sampled_from([b"", b"\0", bytes(500), b"torn" * 30]))
    def crash_and_open(self, share: float, torn: bytes) -> None:
        synced = self.log.recovery_point
        active = self.log.view.segments[-1]
        with active.path.open("r+b") as file:
            file.seek(active.size)
            file.write(torn)
        del self.log
        self.log = self.open(recovery_point=round(share * synced), is_clean=False)
        self.reload_producers()

    def reload_producers(self) -> None:
        """A snapshot holds the last batch of each."""
        self.recognised = dict.fromkeys(self.sent, 1)

    # --------------------------------------------------------------------------------------------------------- reads

    def at(self, offset: int) -> Batch:
        """The batch that holds the offset, or the first behind it."""
        return next(batch for batch in self.batches if batch.last_offset >= offset)

    def records(self, offset: int) -> list[Record]:
        return [record for batch in self.batches for record in batch.records if record.offset >= offset]

    def bases(self, first: int, limit: int) -> list[int]:
        return [batch.base_offset for batch in self.batches if batch.last_offset >= first and batch.base_offset < limit]

    @rule(share=SHARE, max_bytes=st.integers(1, 3000))
    def read(self, share: float, max_bytes: int) -> None:
        offset = self.start + round(share * (self.end - self.start))
        data = self.log.read(offset, max_bytes).read()
        if offset == self.end:
            assert data == b""
            return
        found = list(batches(data))
        expected = [batch for batch in self.batches if batch.last_offset >= offset][: len(found)]
        assert found
        assert [batch.header.base_offset for batch in found] == [batch.base_offset for batch in expected]
        assert [tuple(batch.records()) for batch in found] == [batch.records for batch in expected]

    @rule(delta=st.integers(-150, 600))
    def read_by_time(self, delta: int) -> None:
        wanted = NOW + delta
        expected = next(
            (
                (record.timestamp_ms, record.offset)
                for record in self.records(self.start)
                if record.timestamp_ms >= wanted
            ),
            None,
        )
        assert self.log.offset_for_time(wanted) == expected

    @rule(share=SHARE, bound=SHARE)
    def read_up_to(self, share: float, bound: float) -> None:
        offset = self.start + round(share * (self.end - self.start))
        limit = self.start + round(bound * (self.end - self.start))
        found = [batch.header.base_offset for batch in self.log.batches(offset, max_offset=limit)]
        assert found == (self.bases(offset, limit) if offset < limit else [])

    @rule()
    def read_outside(self) -> None:
        for offset in (self.start - 1, self.end + 1):
            with pytest.raises(OffsetOutOfRange):
                self.log.read(offset)

    @invariant()
    def the_log_is_the_list(self) -> None:
        if not hasattr(self, "log"):
            return
        assert not self.log.damages
        assert (self.log.log_start_offset, self.log.log_end_offset) == (self.start, self.end)
        found = list(self.log.batches(self.start))
        expected = [batch for batch in self.batches if batch.last_offset >= self.start]
        assert [facts(batch.header) for batch in found] == [
            (batch.base_offset, batch.last_offset, len(batch.records), batch.horizon_ms) for batch in expected
        ]
        assert list(self.log.records(self.start)) == self.records(self.start)


def check_histories(examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        PartitionModel,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_log_is_a_list_whatever_happens_in_whatever_order() -> None:
    check_histories(examples=120, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_log_is_a_list_through_many_longer_histories() -> None:
    check_histories(examples=300, steps=50)
