"""Any order of appends, reads, rolls, truncations, retention, closes and crashes, against a list in memory."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from log_tools import NOW, Clock
from logstore.config import TopicConfig
from logstore.errors import OffsetOutOfRange
from logstore.format.batch import batches
from logstore.format.compression import Compression
from logstore.format.record import Record
from logstore.storage.durability import Durability
from logstore.storage.partition import PartitionLog

VALUES = st.none() | st.binary(max_size=40)
ROW = st.tuples(
    VALUES,
    VALUES,
    st.integers(-100, 100),
    st.lists(st.tuples(st.text(max_size=3), VALUES), max_size=2).map(tuple),
)


class PartitionModel(RuleBasedStateMachine):
    """``records`` are all that the log must hold, in order; ``batch_starts`` the first offset of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="partition-model-"))
        self.directory = self.root / "t_0"
        self.directory.mkdir()
        self.clock = Clock()
        self.records: list[Record] = []
        self.batch_starts: list[int] = []
        self.start = self.end = 0

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @initialize(
        segment_bytes=st.sampled_from([150, 400, 1500, 100_000]),
        interval=st.sampled_from([0, 1, 90, 300, 4096]),
        index_bytes=st.sampled_from([24, 60, 10_000]),
        preallocate=st.booleans(),
    )
    def configure(self, segment_bytes: int, interval: int, index_bytes: int, preallocate: bool) -> None:
        self.config = TopicConfig(
            segment_bytes=segment_bytes,
            index_interval_bytes=interval,
            segment_index_bytes=index_bytes,
            preallocate=preallocate,
            retention_ms=-1,
            file_delete_delay_ms=0,
        )
        self.log = self.open(recovery_point=0, is_clean=False)

    def open(self, **arguments: Any) -> PartitionLog:
        return PartitionLog(self.directory, self.config, log_start_offset=self.start, now_ms=self.clock, **arguments)

    # ------------------------------------------------------------------------------------------------------- changes

    @rule(
        rows=st.lists(ROW, min_size=1, max_size=6) | st.lists(ROW, min_size=24, max_size=30),
        compression=st.sampled_from(list(Compression)),
        plain=st.booleans(),
        durability=st.sampled_from([Durability.OS, Durability.OS, Durability.FSYNC]),
    )
    def append(self, rows: list[Any], compression: Compression, plain: bool, durability: Durability) -> None:
        self.clock.now_ms += 10
        values, keys, deltas, headers = map(list, zip(*rows, strict=True))
        times = [self.clock.now_ms + delta for delta in deltas]
        if plain:
            values = [value or b"" for value in values]
            receipt = self.log.append(values, compression=compression, durability=durability)
            rows = [(value, None, 0, ()) for value in values]
            times = [self.clock.now_ms] * len(values)
        else:
            receipt = self.log.append(
                values, keys=keys, headers=headers, timestamps_ms=times, compression=compression, durability=durability
            )
            rows = list(zip(values, keys, deltas, headers, strict=True))
        assert (receipt.base_offset, receipt.last_offset) == (self.end, self.end + len(rows) - 1)
        self.batch_starts.append(self.end)
        for time, (value, key, _, header) in zip(times, rows, strict=True):
            self.records.append(Record(self.end, time, key, value, header))
            self.end += 1

    @rule()
    def roll(self) -> None:
        self.log.roll()

    @rule()
    def checkpoint(self) -> None:
        assert self.log.checkpoint() == self.end

    @rule(share=st.floats(0, 1))
    def truncate(self, share: float) -> None:
        offset = self.start + round(share * (self.end - self.start))
        self.log.truncate_to(offset)
        if offset < self.end:
            self.end = max(start for start in self.batch_starts if start <= offset)
            self.batch_starts = [start for start in self.batch_starts if start < self.end]
            self.records = [record for record in self.records if record.offset < self.end]
            self.start = min(self.start, self.end)

    @rule(share=st.floats(0, 1))
    def advance_start(self, share: float) -> None:
        offset = self.start + round(share * (self.end - self.start))
        assert self.log.advance_log_start(offset) == offset
        self.drop_before(offset)

    @rule(kept=st.integers(0, 2000))
    def retain_by_size(self, kept: int) -> None:
        self.log.config = self.config.replace({"retention.bytes": kept})
        self.log.delete_expired()
        self.log.config = self.config
        self.log.unlink_retired()
        assert self.log.log_start_offset >= self.start
        assert self.log.log_end_offset == self.end
        self.drop_before(self.log.log_start_offset)

    def drop_before(self, offset: int) -> None:
        self.start = offset
        self.records = [record for record in self.records if record.offset >= offset]

    @rule()
    def close_and_open(self) -> None:
        assert self.log.close()
        self.log = self.open(recovery_point=self.end, is_clean=True)

    @rule(share=st.floats(0, 1), torn=st.sampled_from([b"", b"\0", bytes(500), b"torn" * 30]))
    def crash_and_open(self, share: float, torn: bytes) -> None:
        synced = self.log.recovery_point
        active = self.log.view.segments[-1]
        with active.path.open("r+b") as file:
            file.seek(active.size)
            file.write(torn)
        del self.log
        self.log = self.open(recovery_point=round(share * synced), is_clean=False)

    # --------------------------------------------------------------------------------------------------------- reads

    @rule(share=st.floats(0, 1), max_bytes=st.integers(1, 3000))
    def read(self, share: float, max_bytes: int) -> None:
        offset = self.start + round(share * (self.end - self.start))
        data = self.log.read(offset, max_bytes).read()
        if offset == self.end:
            assert data == b""
            return
        found = [record for batch in batches(data) for record in batch.records()]
        assert found[0].offset == max(start for start in self.batch_starts if start <= offset)
        seen = [record for record in found if record.offset >= offset]
        first = offset - self.start
        assert seen and seen == self.records[first : first + len(seen)]

    @rule(delta=st.integers(-150, 600))
    def read_by_time(self, delta: int) -> None:
        wanted = NOW + delta
        expected = next(
            ((record.timestamp_ms, record.offset) for record in self.records if record.timestamp_ms >= wanted), None
        )
        assert self.log.offset_for_time(wanted) == expected

    @rule(share=st.floats(0, 1), bound=st.floats(0, 1))
    def read_up_to(self, share: float, bound: float) -> None:
        offset = self.start + round(share * (self.end - self.start))
        limit = self.start + round(bound * (self.end - self.start))
        found = [batch.header.base_offset for batch in self.log.batches(offset, max_offset=limit)]
        first = max((start for start in self.batch_starts if start <= offset), default=0)
        expected = [start for start in self.batch_starts if first <= start < limit]
        assert found == (expected if offset < limit else [])

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
        assert list(self.log.records(self.start)) == self.records


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
    check_histories(examples=400, steps=60)
