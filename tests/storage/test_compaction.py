import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import isfunction
from pathlib import Path
from struct import pack_into
from typing import Any

import pytest
from aiokafka.record import MemoryRecords as AioKafkaRecords  # type: ignore[import-untyped]
from kafka.record import MemoryRecords as KafkaPythonRecords  # type: ignore[import-untyped]

from kafka_oracle import KafkaOracle
from logstore.config import StoreConfig, TopicConfig
from logstore.errors import Closed, DiskFull, PartitionOffline
from logstore.format.batch import (
    CONTROL,
    CRC_START,
    DELETE_HORIZON,
    HEADER_SIZE,
    TRANSACTIONAL,
    BatchHeader,
    batches,
    encode_batch,
)
from logstore.format.checksum import crc32c
from logstore.format.compression import Compression
from logstore.format.control_record import encode_marker
from logstore.format.record import Record
from logstore.settings import LONG_MAX
from logstore.storage import files
from logstore.storage.compaction import CompactionResult, compact, compact_if_due
from logstore.storage.compaction_plan import Plan, plan, plan_log
from logstore.storage.offset_map import SLOT_SIZE
from logstore.storage.partition import PartitionLog
from logstore.storage.retention import SegmentInfo

START = 1_700_000_000_000
DAY = 86_400_000
MAP_SIZE = 1 << 20
ABORT, COMMIT = 0, 1


class Clock:
    def __init__(self) -> None:
        self.ms = START

    def __call__(self) -> int:
        return self.ms


class Keyed:
    """A compacted partition on a clock that a test moves, with every record that was ever appended to it."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.directory = directory / "keyed_0"
        self.directory.mkdir(exist_ok=True)
        self.config = TopicConfig(cleanup_policy=("compact",)).replace(changes)
        self.clock = Clock()
        self.written: dict[int, Record] = {}
        self.cleaned_offset = 0
        self.log = self.open(recovery_point=0, is_clean=False)

    def open(self, recovery_point: int, is_clean: bool) -> PartitionLog:
        return PartitionLog(
            self.directory, self.config, now_ms=self.clock, recovery_point=recovery_point, is_clean=is_clean
        )

    def reopen(self, *, is_clean: bool = True) -> None:
        if is_clean:
            assert self.log.close()
        self.log = self.open(self.log.recovery_point, is_clean)

    def put(self, *pairs: tuple[bytes, bytes | None], **options: Any) -> int:
        """One batch; its base offset."""
        keys, values = zip(*pairs, strict=True)
        timestamps = options.pop("timestamps_ms", [self.clock.ms + index for index in range(len(pairs))])
        receipt = self.log.append(values, keys=keys, timestamps_ms=timestamps, **options)
        for record in self.log.view.records(receipt.base_offset):
            self.written[record.offset] = record
        return receipt.base_offset

    def roll(self) -> None:
        self.log.roll()

    def compact(
        self, map_size_bytes: int = MAP_SIZE, should_stop: Callable[[], bool] = lambda: False
    ) -> CompactionResult:
        result = compact(self.log, self.cleaned_offset, map_size_bytes, should_stop)
        self.cleaned_offset = result.cleaned_offset
        return result

    def records(self) -> list[Record]:
        return list(self.log.view.records(self.log.log_start_offset))

    def pairs(self) -> list[tuple[int, bytes | None, bytes | None]]:
        return [(record.offset, record.key, record.value) for record in self.records()]

    def headers(self) -> list[BatchHeader]:
        return [batch.header for batch in self.log.view.batches(self.log.log_start_offset)]

    def check(self) -> None:
        """What compaction promises, whatever was compacted so far."""
        found = self.records()
        offsets = [record.offset for record in found]
        assert offsets == sorted(set(offsets))
        assert all(self.written[record.offset] == record for record in found), "a record has changed"
        latest = {record.key: record for record in self.written.values()}
        still = {record.key: record for record in found}
        for key, record in latest.items():
            if key in still:
                assert still[key] == record, f"an old value of {key!r} is the latest"
            else:
                assert record.value is None, f"{key!r} is lost"
        for offset in range(self.log.log_start_offset, self.log.log_end_offset):
            at = next(iter(self.log.view.records(offset)), None)
            assert at == next((record for record in found if record.offset >= offset), None)


@pytest.fixture
def keyed(tmp_path: Path) -> Keyed:
    return Keyed(tmp_path)


# ------------------------------------------------------------------------------------------------------- what is kept


def test_the_latest_record_of_each_key_stays_at_its_offset(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"), (b"b", b"1"), (b"a", b"2"))
    keyed.put((b"c", b"1"), (b"b", b"2"))
    keyed.roll()
    result = keyed.compact()
    assert keyed.pairs() == [(2, b"a", b"2"), (3, b"c", b"1"), (4, b"b", b"2")]
    assert (result.cleaned_offset, result.records_kept, result.records_dropped) == (5, 3, 2)
    assert (result.segment_count_before, result.segment_count_after) == (1, 1)
    assert result.bytes_after == keyed.log.view.segments[0].size < result.bytes_before
    keyed.check()


def test_the_active_segment_is_left_alone_and_overrides_nothing_yet(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"))
    keyed.roll()
    keyed.put((b"a", b"2"))
    assert keyed.compact().records_dropped == 0
    assert keyed.pairs() == [(0, b"a", b"1"), (1, b"a", b"2")]


def test_a_batch_that_loses_nothing_is_copied_byte_by_byte(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"), (b"b", b"1"), compression=Compression.ZSTD)
    keyed.put((b"c", b"1"), (b"c", b"2"))
    keyed.roll()
    before = [bytes(batch.data) for batch in keyed.log.view.batches(0)]
    keyed.compact()
    after = [bytes(batch.data) for batch in keyed.log.view.batches(0)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_segment_that_loses_nothing_is_not_written_anew(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"))
    keyed.roll()
    segment = keyed.log.view.segments[0]
    result = keyed.compact()
    assert result.cleaned_offset == 1
    assert keyed.log.view.segments[0] is segment
    assert sorted(path.suffix for path in keyed.directory.glob("*0.log*")) == [".log"]


def test_emptied_batches_that_stay_are_no_reason_to_write_a_segment_anew(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"), producer_id=7, producer_epoch=0, base_sequence=0)
    keyed.put((b"b", b"1"))
    keyed.put((b"a", b"1"))
    keyed.roll()
    keyed.put((b"a", b"2"))
    keyed.roll()
    keyed.log.config = keyed.config.replace({"segment.bytes": 220})
    keyed.compact()
    assert [header.record_count for header in keyed.headers()] == [0, 1, 0, 1]
    segments = keyed.log.view.segments
    assert keyed.compact().records_dropped == 0
    keyed.cleaned_offset = 0
    assert keyed.compact().records_dropped == 0
    assert keyed.log.view.segments == segments


def test_a_batch_keeps_its_place_and_the_deltas_of_what_stays(keyed: Keyed) -> None:
    times = [START + 50, START + 900, START + 20]
    keyed.put((b"a", b"1"), (b"b", b"1"), (b"c", b"1"), timestamps_ms=times)
    keyed.put((b"b", b"2"))
    keyed.roll()
    before = keyed.headers()[0]
    keyed.compact()
    after = keyed.headers()[0]
    assert after.max_timestamp == START + 50  # the newest of those that stay
    assert after.record_count == 2
    unlike = {"batch_length", "crc", "max_timestamp", "record_count"}
    assert {name: value for name, value in before._asdict().items() if name not in unlike} == {
        name: value for name, value in after._asdict().items() if name not in unlike
    }
    keyed.check()


def test_records_without_a_key_go_once_the_policy_compacts(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, cleanup_policy="delete")
    keyed.put((b"a", b"1"))
    keyed.log.append([b"no key"])
    keyed.roll()
    keyed.log.config = TopicConfig(cleanup_policy=("compact",))
    keyed.compact()
    assert keyed.pairs() == [(0, b"a", b"1")]


@pytest.mark.parametrize("compression", list(Compression))
def test_every_compression_is_kept(keyed: Keyed, compression: Compression) -> None:
    pairs = [(b"key %d" % (number % 40), b"value %d " % number * 10) for number in range(100)]
    keyed.put(*pairs, compression=compression)
    keyed.put((b"key 5", None), compression=compression)
    keyed.roll()
    keyed.compact()
    assert [header.compression for header in keyed.headers()] == [compression, compression]
    assert len(keyed.records()) == 40
    keyed.check()


def test_log_append_times_stay(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, message_timestamp_type="LogAppendTime")
    keyed.clock.ms += 77
    keyed.put((b"a", b"1"), (b"b", None), (b"a", b"2"), timestamps_ms=5)
    keyed.roll()
    keyed.clock.ms += 1000
    keyed.compact()
    assert [(record.offset, record.timestamp_ms) for record in keyed.records()] == [(1, START + 77), (2, START + 77)]
    (header,) = keyed.headers()
    assert header.has_append_time
    assert header.delete_horizon_ms == keyed.clock.ms + DAY
    keyed.check()


def test_headers_and_large_values_stay_as_they_are(keyed: Keyed) -> None:
    headers = [(("a", b"1"), ("b", None)), (), (("c", b"x" * 1000),)]
    values = [b"v" * 300_000, None, b""]
    keyed.log.append(values, keys=[b"x", b"y", b"z"], headers=headers, timestamps_ms=[START, START + 99, START])
    keyed.written.update({record.offset: record for record in keyed.records()})
    keyed.put((b"w", b"1"), (b"w", b"2"))
    keyed.roll()
    keyed.compact()
    assert [record.headers for record in keyed.records()][:3] == [tuple(header) for header in headers]
    keyed.check()


# -------------------------------------------------------------------------------------------------------- tombstones


def test_a_tombstone_gets_a_horizon_and_goes_with_the_first_compaction_behind_it(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, delete_retention_ms=1000)
    keyed.put((b"a", b"1"), (b"b", b"1"))
    keyed.put((b"a", None), (b"c", b"1"), timestamps_ms=[START + 5, START + 3])
    keyed.roll()
    keyed.clock.ms += 10
    keyed.compact()
    assert keyed.pairs() == [(1, b"b", b"1"), (2, b"a", None), (3, b"c", b"1")]
    horizons = [header.delete_horizon_ms for header in keyed.headers()]
    assert horizons == [None, START + 1010]
    assert keyed.headers()[1].max_timestamp == START + 5
    keyed.check()  # timestamps are what they were

    keyed.clock.ms = START + 1009
    keyed.put((b"d", b"1"))
    keyed.roll()
    keyed.compact()
    assert (2, b"a", None) in keyed.pairs()
    assert keyed.headers()[1].delete_horizon_ms == START + 1010  # set once

    keyed.clock.ms = START + 1010
    keyed.put((b"e", b"1"))
    keyed.roll()
    keyed.compact()
    assert [key for _, key, _ in keyed.pairs()] == [b"b", b"c", b"d", b"e"]
    keyed.check()


def test_a_tombstone_that_a_later_value_overrides_goes_at_once(keyed: Keyed) -> None:
    keyed.put((b"a", None))
    keyed.put((b"a", b"1"))
    keyed.roll()
    keyed.compact()
    assert keyed.pairs() == [(1, b"a", b"1")]


def test_tombstones_for_ever_have_a_horizon_that_fits(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, delete_retention_ms=LONG_MAX)
    keyed.put((b"a", None))
    keyed.roll()
    keyed.compact()
    assert keyed.headers()[0].delete_horizon_ms == LONG_MAX
    keyed.check()


# ----------------------------------------------------------------------------------------- producers and transactions


def test_an_emptied_batch_stays_while_it_holds_its_producers_last_sequence(keyed: Keyed) -> None:
    for sequence in range(3):
        keyed.put((b"a", b"%d" % sequence), producer_id=7, producer_epoch=2, base_sequence=sequence)
    keyed.put((b"a", b"3"))
    keyed.put((b"b", b"1"))
    keyed.roll()
    keyed.compact()
    assert keyed.pairs() == [(3, b"a", b"3"), (4, b"b", b"1")]
    emptied = keyed.headers()[0]
    assert (emptied.base_offset, emptied.last_offset, emptied.record_count, emptied.size) == (2, 2, 0, HEADER_SIZE)
    assert (emptied.producer_id, emptied.producer_epoch, emptied.base_sequence) == (7, 2, 2)
    keyed.log.recovery_point = 0
    for snapshot in keyed.directory.glob("*.snapshot"):
        snapshot.unlink()
    keyed.reopen(is_clean=False)
    assert keyed.log.append([b"2"], keys=[b"a"], producer_id=7, producer_epoch=2, base_sequence=2).is_duplicate
    assert not keyed.log.append([b"x"], keys=[b"a"], producer_id=7, producer_epoch=2, base_sequence=3).is_duplicate


def test_a_producer_that_is_forgotten_keeps_no_batch(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"), producer_id=7, producer_epoch=0, base_sequence=0)
    keyed.put((b"a", b"2"))
    keyed.roll()
    keyed.log.expire_producers(START + DAY, 1000)
    keyed.compact()
    assert [header.base_offset for header in keyed.headers()] == [1]


def test_the_last_batch_of_a_new_segment_stays_if_emptied(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"))
    keyed.put((b"b", b"1"))
    keyed.roll()
    keyed.put((b"b", b"2"))
    keyed.log.config = keyed.config.replace({"segment.bytes": 150})
    keyed.roll()
    keyed.compact()
    assert [(header.base_offset, header.record_count) for header in keyed.headers()] == [(0, 1), (1, 0), (2, 1)]
    keyed.check()


def transactional(keyed: Keyed, key: bytes, value: bytes, producer_id: int, sequence: int) -> None:
    keyed.log.append_batches(
        encode_batch(
            [value],
            keys=[key],
            timestamps_ms=START,
            attributes=TRANSACTIONAL,
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=sequence,
        )
    )


def end_transaction(keyed: Keyed, producer_id: int, control_type: int) -> None:
    key, value = encode_marker(control_type, 0)
    attributes = TRANSACTIONAL | CONTROL
    keyed.log.append_batches(
        encode_batch(
            [value], keys=[key], timestamps_ms=START, attributes=attributes, producer_id=producer_id, producer_epoch=0
        )
    )


def test_an_aborted_value_overrides_nothing_and_goes_while_its_marker_stays(keyed: Keyed) -> None:
    keyed.put((b"a", b"committed"))
    transactional(keyed, b"a", b"aborted", 7, 0)  # offset 1
    transactional(keyed, b"b", b"by another", 8, 0)
    keyed.roll()
    end_transaction(keyed, 7, ABORT)  # offset 3, in another segment
    end_transaction(keyed, 8, COMMIT)
    transactional(keyed, b"c", b"1", 7, 1)  # offset 5
    end_transaction(keyed, 7, COMMIT)
    keyed.roll()
    keyed.compact()
    assert keyed.pairs() == [(0, b"a", b"committed"), (2, b"b", b"by another"), (5, b"c", b"1")]
    assert [header.base_offset for header in keyed.headers() if header.is_control] == [3, 4, 6]


def test_nothing_from_the_first_open_transaction_on_is_compacted(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"))
    keyed.put((b"a", b"2"))
    keyed.roll()
    transactional(keyed, b"a", b"3", 7, 0)
    keyed.put((b"a", b"4"))
    keyed.roll()
    assert keyed.compact().cleaned_offset == 2
    assert [offset for offset, _, _ in keyed.pairs()] == [1, 2, 3]
    end_transaction(keyed, 7, COMMIT)
    keyed.roll()
    assert keyed.compact().cleaned_offset == 5
    assert [offset for offset, _, _ in keyed.pairs()] == [3]


# ------------------------------------------------------------------------------------------------ segments and memory


def test_small_segments_become_one_within_segment_bytes(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, segment_bytes=1000)
    for number in range(40):
        keyed.put((b"key %d" % number, b"v" * 100))
        keyed.roll()
    keyed.put((b"last", b"1"))
    result = keyed.compact()
    assert result.segment_count_before == 40
    segments = keyed.log.view.segments[:-1]
    assert result.segment_count_after == len(segments) == 8
    assert all(segment.size <= 1000 for segment in segments)
    keyed.check()
    keyed.reopen(is_clean=False)
    assert len(keyed.log.view.segments) == 9
    keyed.check()


def test_indexes_of_a_new_segment_are_those_of_its_log(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, index_interval_bytes=200)
    for number in range(200):
        keyed.put((b"key %d" % (number % 60), b"v" * 50), timestamps_ms=[START + number])
        if number % 50 == 49:
            keyed.roll()
    keyed.compact()
    segment = keyed.log.view.segments[0]
    columns = [list(column) for index in (segment.offset_index, segment.time_index) for column in index.columns]
    assert len(columns[0]) > 10
    assert segment.rebuild_indexes() == []
    assert columns == [list(column) for i in (segment.offset_index, segment.time_index) for column in i.columns]
    found = keyed.log.view.offset_for_time(START + 170)
    assert found is not None and found.offset == 170


def test_a_map_too_small_for_all_keys_is_gone_on_with_in_the_next_run(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, segment_bytes=2000)
    for turn in range(4):
        keyed.put(*[(b"%d" % number, b"%d" % turn) for number in range(50)])
    keyed.roll()
    ends = []
    while keyed.cleaned_offset < 200:
        ends.append(keyed.compact(map_size_bytes=28 * SLOT_SIZE).cleaned_offset)  # 21 keys
        keyed.check()
    assert ends[0] == 21
    assert ends == sorted(set(ends))
    assert [(offset, value) for offset, _, value in keyed.pairs()] == [(150 + number, b"3") for number in range(50)]


def test_one_run_gets_on_with_a_map_of_a_single_key(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"), (b"a", None), (b"b", b"1"), (b"b", None))
    keyed.roll()
    assert keyed.compact(map_size_bytes=1).cleaned_offset == 2
    assert keyed.headers()[0].delete_horizon_ms is None  # not before the batch is cleaned to its end
    assert keyed.compact(map_size_bytes=1).cleaned_offset == 4
    assert keyed.headers()[0].delete_horizon_ms == START + DAY
    assert [offset for offset, _, _ in keyed.pairs()] == [1, 3]
    keyed.check()


# --------------------------------------------------------------------------------------------- others at the same time


def test_views_taken_before_go_on_reading_what_they_saw(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, file_delete_delay_ms=1000)
    views = []
    for turn in range(3):  # the retired files of one compaction are in the way of the next one's
        keyed.put((b"a", b"%d" % turn), (b"b", b"%d" % turn))
        keyed.roll()
        views.append((keyed.log.view, keyed.records()))
        keyed.compact()
    for segment in [segment for view, _ in views for segment in view.segments]:
        segment.forget()  # so that files are opened anew, by name
    for view, records in views:
        assert list(view.records(0)) == records
    sliced = views[-1][0].read(0)
    keyed.clock.ms += 1001
    keyed.log.unlink_retired()
    assert list(keyed.directory.glob("*.deleted")) == []
    assert sliced.read()
    keyed.check()


def test_a_flush_that_began_before_a_segment_was_retired_does_not_fail(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"), (b"a", b"2"))
    keyed.roll()
    segment = keyed.log.view.segments[0]
    keyed.compact()
    assert segment.is_retired
    segment.sync()
    segment.sync_indexes()
    assert keyed.log.offline_reason is None


class During:
    """A ``should_stop`` that does something when it is asked for the n-th time."""

    def __init__(self, turn: int, action: Callable[[], object]) -> None:
        self.turns_left, self.action = turn, action

    def __call__(self) -> bool:
        self.turns_left -= 1
        if self.turns_left == 0:
            self.action()
        return False


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_log_cut_during_a_compaction_keeps_what_is_the_latest_now(tmp_path: Path, turn: int) -> None:
    keyed = Keyed(tmp_path, segment_bytes=250)
    for number in range(12):
        keyed.put((b"key %d" % (number % 4), b"v" * 50))
    keyed.roll()

    def cut() -> None:
        keyed.log.truncate_to(6)
        keyed.written = {record.offset: record for record in keyed.records()}  # what is the latest from now on

    during = During(turn, cut)
    keyed.compact(should_stop=during)
    assert during.turns_left <= 0
    keyed.check()
    keyed.put((b"key 0", b"again"))
    keyed.roll()
    keyed.compact()
    keyed.check()
    assert list(keyed.directory.glob("*.cleaned")) == []


@pytest.mark.parametrize("turn", range(1, 9))
def test_segments_that_go_during_a_compaction_do_not_come_back(tmp_path: Path, turn: int) -> None:
    keyed = Keyed(tmp_path, segment_bytes=250, cleanup_policy="compact,delete", retention_ms=1000)
    for number in range(12):
        keyed.put((b"key %d" % (number % 4), b"v" * 50))
        keyed.clock.ms += 100

    def expire() -> None:
        keyed.clock.ms = START + 1650
        assert keyed.log.delete_expired()

    during = During(turn, expire)
    keyed.compact(should_stop=during)
    assert during.turns_left <= 0
    start = keyed.log.log_start_offset
    assert start >= 4
    keyed.written = {offset: record for offset, record in keyed.written.items() if offset >= start}
    keyed.check()
    keyed.reopen(is_clean=False)
    keyed.check()
    assert list(keyed.directory.glob("*.cleaned")) == []


def test_appends_and_a_higher_log_start_during_a_compaction_are_kept(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"), (b"b", b"1"))
    keyed.put((b"a", b"2"))
    keyed.roll()

    def act() -> None:
        keyed.put((b"a", b"3"))
        keyed.roll()
        keyed.put((b"c", b"1"))
        keyed.log.advance_log_start(2)

    keyed.compact(should_stop=During(2, act))
    assert [offset for offset, _, _ in keyed.pairs()] == [2, 3, 4]
    assert keyed.log.log_start_offset == 2


@pytest.mark.parametrize("turn", range(1, 6))
def test_a_compaction_that_is_stopped_leaves_the_log_whole(tmp_path: Path, turn: int) -> None:
    keyed = Keyed(tmp_path, segment_bytes=250)
    for number in range(12):
        keyed.put((b"key %d" % (number % 4), b"v" * 50 if number < 11 else None))
    keyed.roll()
    asked = iter(range(1, 100))
    result = keyed.compact(should_stop=lambda: next(asked) >= turn)
    assert result.cleaned_offset < 12
    assert list(keyed.directory.glob("*.cleaned")) == []
    keyed.check()
    assert keyed.compact().cleaned_offset == 12
    keyed.check()


def test_a_log_closed_during_a_compaction_is_left_to_the_next_opening(keyed: Keyed) -> None:
    keyed.put((b"a", b"1"), (b"a", b"2"))
    keyed.roll()
    with pytest.raises(Closed):
        keyed.compact(should_stop=During(3, keyed.log.close))
    keyed.reopen(is_clean=False)
    assert len(keyed.records()) == 2
    assert list(keyed.directory.glob("*.cleaned")) == []


# ------------------------------------------------------------------------------------------------------------- damage


def damage(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def test_a_damaged_group_is_left_and_reported_and_keeps_later_tombstones(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, segment_bytes=200, delete_retention_ms=0)
    keyed.put((b"x", b"0"), (b"x", b"1"), (b"pad", b"v" * 100))
    keyed.roll()
    base = keyed.put((b"a", b"1"), (b"a", b"2"), (b"pad", b"v" * 100))
    keyed.roll()
    keyed.put((b"a", None), (b"c", b"1"), (b"c", b"2"), (b"pad", b"v" * 100))
    keyed.roll()
    keyed.log.flush()
    whole = keyed.log.view.segments[1].path.read_bytes()
    damage(keyed.log.view.segments[1].path, HEADER_SIZE + 10)
    for _ in range(2):
        result = keyed.compact()
        assert len(result.damages) == 1
        assert result.damages[0].path == str(keyed.log.view.segments[1].path)
        assert result.cleaned_offset == base
        keyed.clock.ms += 10
    assert compact_if_due(keyed.log, 0, StoreConfig()) is None  # it would only meet the damage again
    assert [segment.base_offset for segment in keyed.log.view.segments] == [0, base, base + 3, base + 7]
    assert [record.offset for record in keyed.log.view.records(base + 3)] == [base + 3, base + 5, base + 6]

    keyed.log.view.segments[1].path.write_bytes(whole)
    keyed.reopen()
    keyed.compact()
    keyed.check()
    keyed.clock.ms += 10
    keyed.put((b"z", b"1"))
    keyed.roll()
    keyed.compact()
    assert [key for _, key, _ in keyed.pairs()] == [b"x", b"c", b"pad", b"z"]


def test_records_that_cannot_be_read_are_reported_at_their_batch_in_the_file(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path)
    keyed.put((b"a", b"1"))
    base = keyed.put((b"a", b"2"), (b"b", b"1"))
    keyed.put((b"a", b"3"))
    keyed.roll()
    path = keyed.log.view.segments[0].path
    data = bytearray(path.read_bytes())
    batch = list(batches(data))[1]
    data[batch.position + HEADER_SIZE] ^= 0xFF  # a record's length, under a CRC that is right
    pack_into(
        ">I", data, batch.position + 17, crc32c(data[batch.position + CRC_START : batch.position + batch.header.size])
    )
    path.write_bytes(data)
    (found,) = keyed.compact().damages
    assert (found.path, found.position) == (str(path), batch.position)
    assert found.reason.startswith(f"the records of offsets {base} to {base + 1}: ")


@pytest.mark.parametrize("compression", [Compression.ZSTD, Compression.GZIP])
def test_a_horizon_is_not_set_where_the_records_would_grow_beyond_what_can_be_decompressed(
    keyed: Keyed, compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed.put((b"gone", b"1"), (b"gone", None), (b"other", b"2"), compression=compression)
    keyed.put((b"pad", b"3"))
    keyed.roll()
    monkeypatch.setattr("logstore.format.compression.DECOMPRESSED_SIZE_MAX", 24)  # what stays, to the byte
    keyed.compact()
    keyed.check()
    assert [key for _, key, _ in keyed.pairs()] == [b"gone", b"other", b"pad"]
    assert keyed.headers()[0].delete_horizon_ms is None and keyed.headers()[0].compression is compression


# ------------------------------------------------------------------------------------------------------------ crashes


# Between two of these, nothing on the disk changes.
EFFECTS = {"open_file", "write_file", "write_at", "write_pieces_at", "truncate", "sync", "rename", "unlink", "sync_dir"}


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def each_file_call(act: Callable[[int, str], None]) -> Iterator[list[str]]:
    """Have ``act`` called, with a number and a name, before every call of what the files module offers."""
    calls: list[str] = []
    patches = pytest.MonkeyPatch()

    def watch(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def watched(*args: object, **kwargs: object) -> object:
            calls.append(name)
            act(len(calls) - 1, name)
            return real(*args, **kwargs)

        patches.setattr(owner, name, watched)

    for owner in (files, files.File):
        for name, value in list(vars(owner).items()):
            is_ours = isfunction(value) and not name.startswith("_") and value.__module__ == files.__name__
            if is_ours and name not in {"failure", "exists", "is_dir"}:
                watch(owner, name)
    try:
        yield calls
    finally:
        patches.undo()


def dirty_log(directory: Path) -> Keyed:
    """Two compactions' worth: tombstones that are due to go, values under them, groups of several segments."""
    keyed = Keyed(directory, segment_bytes=700, delete_retention_ms=100, index_interval_bytes=100)
    for number in range(12):
        keyed.put((b"key %d" % (number % 5), b"%d" % number * 20), (b"once %d" % number, b"v"))
        if number % 3 == 2:
            keyed.roll()
    keyed.put((b"key 1", None), (b"key 2", b"again"), producer_id=7, producer_epoch=0, base_sequence=0)
    keyed.put((b"key 3", None))
    keyed.roll()
    keyed.compact()
    for number in range(4):
        keyed.put((b"key %d" % (number % 3), None if number % 2 else b"new" * 30))
        keyed.put((b"once %d" % number, None))
        keyed.roll()
    keyed.clock.ms += 200
    return keyed


def copy_of(keyed: Keyed, target: Path) -> Keyed:
    shutil.copytree(keyed.directory, target / "keyed_0")
    other = Keyed.__new__(Keyed)
    other.__dict__.update(keyed.__dict__)
    other.directory = target / "keyed_0"
    other.written = dict(keyed.written)
    other.log = other.open(keyed.log.log_end_offset, True)
    return other


@pytest.mark.slow
def test_a_kill_at_any_file_call_of_a_compaction_loses_nothing_and_revives_nothing(tmp_path: Path) -> None:
    original = dirty_log(tmp_path)
    original.log.close()
    trial = copy_of(original, tmp_path / "trial")
    with each_file_call(lambda number, name: None) as calls:
        trial.compact()
    assert calls.count("rename") > 10
    for kill_at in [number for number, name in enumerate(calls) if name in EFFECTS]:
        keyed = copy_of(original, tmp_path / str(kill_at))

        def kill(number: int, name: str, at: int = kill_at) -> None:
            if number == at:
                raise Killed(name)

        with each_file_call(kill), pytest.raises(Killed):
            keyed.compact()
        recovery_point = 0 if kill_at % 2 else keyed.log.log_end_offset
        keyed.log = keyed.open(recovery_point, is_clean=False)
        assert keyed.log.damages == ()
        assert keyed.log.log_end_offset == original.log.log_end_offset
        left_over = {".swap", ".cleaned", ".deleted", ".tmp"}
        assert [path for path in keyed.directory.iterdir() if path.suffix in left_over] == []
        keyed.check()
        keyed.compact()
        keyed.check()
        keyed.log.close()
        shutil.rmtree(keyed.directory)


def test_an_index_that_a_kill_left_behind_is_not_taken_for_the_new_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = Keyed(tmp_path, index_interval_bytes=0)
    for number in range(60):  # batches of one size: what the old index points at would be batches in the new log too
        keyed.put((b"%02d" % (number % 20 if number % 2 else number + 40), b"v"))
    keyed.roll()
    unlink = files.unlink

    def kill(path: Path) -> None:
        if path.suffix == ".index":
            raise Killed(path)
        unlink(path)

    monkeypatch.setattr(files, "unlink", kill)
    with pytest.raises(Killed):
        keyed.compact()
    monkeypatch.undo()
    names = {path.name for path in keyed.directory.iterdir()}
    assert names >= {f"{0:020d}.index", f"{0:020d}.log.swap", f"{0:020d}.log.deleted"}
    keyed.log = keyed.open(keyed.log.log_end_offset, is_clean=False)
    assert len(keyed.records()) < 60
    keyed.check()


@pytest.mark.slow
def test_a_full_disk_at_any_file_call_leaves_the_log_as_it_was_or_to_be_opened_anew(tmp_path: Path) -> None:
    original = dirty_log(tmp_path)
    original.log.close()
    trial = copy_of(original, tmp_path / "trial")
    with each_file_call(lambda number, name: None) as calls:
        trial.compact()
    outcomes = set()
    for fail_at in [number for number, name in enumerate(calls) if name in EFFECTS - {"unlink", "truncate"}]:
        keyed = copy_of(original, tmp_path / str(fail_at))

        def fail(number: int, name: str, at: int = fail_at) -> None:
            if number == at:
                raise DiskFull("the disk", name, 28, "no space")

        with each_file_call(fail), pytest.raises(DiskFull):
            keyed.compact()
        outcomes.add("failed" if keyed.log.offline_reason is None else "offline")
        assert list(keyed.directory.glob("*.cleaned")) == []
        keyed.check()
        if keyed.log.offline_reason is None:
            keyed.compact()
        else:
            with pytest.raises(PartitionOffline):
                keyed.log.append([b"1"], keys=[b"a"])
            keyed.log = keyed.open(keyed.log.log_end_offset, is_clean=False)
        keyed.check()
        keyed.log.close()
        shutil.rmtree(keyed.directory)
    assert outcomes == {"failed", "offline"}


# ----------------------------------------------------------------------------------------------------------- decision


def infos(*sizes: int, age_ms: int = 10_000) -> list[SegmentInfo]:
    """Segments of ten offsets each, the last one active, one ``age_ms`` apart, the newest of now."""
    count = len(sizes)
    return [
        SegmentInfo(10 * i, 10 * i + 10, size, START - (count - 1 - i) * age_ms, START, i == count - 1)
        for i, size in enumerate(sizes)
    ]


def planned(segments: list[SegmentInfo], cleaned_offset: int = 0, **changes: Any) -> Plan:
    facts = {
        name: changes.pop(name)
        for name in ("log_start_offset", "high_watermark", "first_unstable_offset", "first_timestamps_ms")
        if name in changes
    }
    config = TopicConfig(cleanup_policy=("compact",)).replace(changes)
    return plan(segments, config, START, cleaned_offset=cleaned_offset, **facts)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, (0, 40, 0, 400)),
        ({"cleaned_offset": 20}, (20, 40, 200, 200)),
        ({"cleaned_offset": 25}, (25, 40, 200, 200)),
        ({"cleaned_offset": 40}, (40, 40, 400, 0)),
        ({"cleaned_offset": 999}, (0, 40, 0, 400)),
        ({"log_start_offset": 13}, (13, 40, 100, 300)),
        ({"high_watermark": 39}, (0, 30, 0, 300)),
        ({"first_unstable_offset": 20}, (0, 20, 0, 200)),
        ({"first_unstable_offset": 19}, (0, 10, 0, 100)),
        ({"first_unstable_offset": 5}, (0, 0, 0, 0)),
        ({"min_compaction_lag_ms": 10_000}, (0, 40, 0, 400)),
        ({"min_compaction_lag_ms": 10_001}, (0, 30, 0, 300)),
        ({"min_compaction_lag_ms": 50_000}, (0, 0, 0, 0)),
        ({"min_compaction_lag_ms": 50_000, "cleaned_offset": 20}, (20, 20, 200, 0)),
    ],
)
def test_what_is_dirty(facts: Mapping[str, Any], expected: tuple[int, ...]) -> None:
    assert planned(infos(100, 100, 100, 100, 77), **facts)[:4] == expected


def test_a_log_is_due_above_the_dirty_ratio_and_never_without_dirt() -> None:
    config = TopicConfig(cleanup_policy=("compact",), min_cleanable_dirty_ratio=0.5)
    assert not planned(infos(100, 100, 1), 10).is_due(config)
    assert planned(infos(100, 101, 1), 10).is_due(config)
    eager = config.replace({"min.cleanable.dirty.ratio": 0})
    assert planned(infos(100, 1, 1), 10).is_due(eager)
    assert not planned(infos(100, 1, 1), 20).is_due(eager)
    assert planned(infos(100, 101, 1), 20).dirty_ratio == 0
    assert not planned(infos(100, 101, 1), 10).is_due(config.replace({"cleanup.policy": "delete"}))


def test_a_record_older_than_the_maximal_lag_makes_the_log_due() -> None:
    segments = infos(100, 100, 10, 77)
    config = TopicConfig(cleanup_policy=("compact",), max_compaction_lag_ms=5000)
    times = {0: START - 90_000, 10: START - 50_000, 20: START - 5000}
    assert planned(segments, 20, max_compaction_lag_ms=5000, first_timestamps_ms=times).is_due(config) is False
    times[20] -= 1
    assert planned(segments, 20, max_compaction_lag_ms=5000, first_timestamps_ms=times).is_due(config)
    assert not planned(segments, 30, max_compaction_lag_ms=5000, first_timestamps_ms=times).is_due(config)


def test_the_facts_of_a_log_decide(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, min_cleanable_dirty_ratio=0.6, max_compaction_lag_ms=5000)
    keyed.put((b"a", b"1" * 100))
    keyed.roll()
    assert compact_if_due(keyed.log, 1, StoreConfig()) is None
    keyed.put((b"a", b"2" * 100))
    assert compact_if_due(keyed.log, 1, StoreConfig()) is None
    keyed.roll()
    assert plan_log(keyed.log, 1).dirty_ratio == 0.5
    assert compact_if_due(keyed.log, 1, StoreConfig()) is None
    keyed.clock.ms += 5001
    result = compact_if_due(keyed.log, 1, StoreConfig())
    assert result is not None and result.cleaned_offset == 2 and result.records_dropped == 1


def test_a_log_that_was_cut_is_dirty_from_there(keyed: Keyed) -> None:
    for number in range(6):
        keyed.put((b"a", b"%d" % number))
        keyed.roll()
    keyed.cleaned_offset = 6
    keyed.log.truncate_to(2)
    for number in range(6):
        keyed.put((b"a", b"%d" % number))
    keyed.roll()
    assert plan_log(keyed.log, 6).first_dirty_offset == 2
    assert keyed.compact().cleaned_offset == 8
    assert [offset for offset, _, _ in keyed.pairs()] == [7]
    assert plan_log(keyed.log, 8).first_dirty_offset == 8


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_log_that_is_cut_where_compaction_left_a_hole_ends_behind_the_batch_before_it(
    keyed: Keyed, is_clean: bool
) -> None:
    """Were its end in the hole, the next opening would report lost records there, or move it back."""
    keyed.put((b"a", b"1"), (b"b", b"1"))
    for number in range(4):  # offsets 2 to 5, of which the last one stays
        keyed.put((b"c", b"%d" % number))
    keyed.roll()
    keyed.compact()
    assert [offset for offset, _, _ in keyed.pairs()] == [0, 1, 5]
    keyed.log.truncate_to(4)
    assert keyed.log.log_end_offset == 2
    keyed.reopen(is_clean=is_clean)
    assert (keyed.log.log_end_offset, keyed.log.damages) == (2, ())
    assert keyed.put((b"d", b"1")) == 2
    assert [offset for offset, _, _ in keyed.pairs()] == [0, 1, 2]


# ------------------------------------------------------------------------------------------------------------ oracles


def cleaned_log(directory: Path, compression: Compression) -> Keyed:
    keyed = Keyed(directory)
    pairs = [(b"key %d" % (number % 30), None if number % 7 == 0 else b"%d" % number) for number in range(90)]
    for first in range(0, 90, 9):
        keyed.put(*pairs[first : first + 9], compression=compression)
        keyed.clock.ms += 1000
    keyed.put((b"key 1", b"x"), producer_id=7, producer_epoch=0, base_sequence=0)
    keyed.clock.ms += 1000
    keyed.put((b"key 1", b"y"))
    keyed.roll()
    keyed.compact()
    return keyed


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("reader", [AioKafkaRecords, KafkaPythonRecords])
def test_kafka_clients_read_a_compacted_file_as_we_do(tmp_path: Path, reader: type, compression: Compression) -> None:
    keyed = cleaned_log(tmp_path, compression)
    headers = keyed.headers()
    assert any(header.attributes & DELETE_HORIZON for header in headers)
    assert any(header.record_count == 0 for header in headers)
    found = []
    records = reader(keyed.log.view.segments[0].path.read_bytes())
    while (batch := records.next_batch()) is not None:
        assert batch.validate_crc()
        found += [(record.offset, record.timestamp, record.key, record.value) for record in batch]
    assert found == [(r.offset, r.timestamp_ms, r.key, r.value) for r in keyed.records()]
    keyed.check()


@pytest.mark.kafka
def test_kafka_finds_nothing_wrong_with_a_compacted_segment(tmp_path: Path, kafka: KafkaOracle) -> None:
    keyed = cleaned_log(tmp_path, Compression.LZ4)
    segment = keyed.log.view.segments[0]
    dump = kafka.dump_log_segments(*segment.paths)
    holes = re.compile(r"Non-consecutive offsets in .*|  \d+ is followed by \d+")
    assert [problem for problem in dump.problems if not holes.fullmatch(problem)] == []
    ours = [(record.offset, record.timestamp_ms) for record in keyed.records()]
    assert [(record.offset, record.timestamp_ms) for record in dump.records()] == ours
    horizons = [int(horizon) for horizon in re.findall(r"deleteHorizonMs: OptionalLong\[(\d+)\]", dump.output)]
    assert horizons == [header.base_timestamp for header in keyed.headers() if header.attributes & DELETE_HORIZON]
    assert horizons
