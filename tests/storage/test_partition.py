"""The partition log: what an append promises, what a read gives, and what rolls, truncation and settings change."""

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from log_tools import NOW, Clock, crash_copy, log_files, names, numbered, open_log, values
from logstore.config import TopicConfig
from logstore.errors import (
    Closed,
    CorruptBatch,
    InvalidArgument,
    InvalidRecord,
    InvalidTimestamp,
    LogstoreError,
    OffsetGap,
    OffsetOutOfRange,
    OutOfOrderSequence,
    ProducerFenced,
    RecordTooLarge,
)
from logstore.format.batch import CONTROL, CRC_START, HEADER_SIZE, TRANSACTIONAL, batches, encode_batch
from logstore.format.checksum import crc32c
from logstore.format.compression import Compression
from logstore.format.control_record import encode_marker
from logstore.format.record import Record
from logstore.storage import files, index
from logstore.storage.durability import LOCAL_LEVELS, Durability
from logstore.storage.gaps import write_gaps
from logstore.storage.partition import PartitionLog

INTERVALS = [0, 1, 100, 4096]


# ---------------------------------------------------------------------------------------------------- append and read


def test_what_is_appended_is_read_back_with_offsets_from_zero(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    first = log.append([b"a", None, b"c"], keys=[None, b"k", b""], headers=[(("h", b"x"),), (), (("n", None),)])
    second = log.append([b"d"], timestamps_ms=5)
    assert (first.base_offset, first.last_offset, first.timestamp_ms, first.durability) == (0, 2, NOW, Durability.OS)
    assert (second.base_offset, second.last_offset, second.timestamp_ms) == (3, 3, 5)
    assert list(log.records(0)) == [
        Record(0, NOW, None, b"a", (("h", b"x"),)),
        Record(1, NOW, b"k", None),
        Record(2, NOW, b"", b"c", (("n", None),)),
        Record(3, 5, None, b"d"),
    ]
    assert log.log_end_offset == 4 and not log.damages


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("compression", list(Compression))
def test_every_offset_can_be_read_whatever_the_index_interval(
    tmp_path: Path, interval: int, compression: Compression
) -> None:
    log = open_log(tmp_path / "t_0", index_interval_bytes=interval, segment_bytes=1500)
    for first in range(0, 90, 3):
        log.append(numbered(first, 3, 40), timestamps_ms=[NOW + first] * 3, compression=compression)
    for _ in range(2):
        for offset in range(90):
            data = log.read(offset, 1).read()
            (batch,) = batches(data)
            assert len(data) == batch.header.size and batch.header.base_offset == offset - offset % 3
            assert next(log.records(offset)).value == numbered(offset, 1, 40)[0]
            assert log.offset_for_time(NOW + offset) == (
                None if offset > 87 else (NOW + -(-offset // 3) * 3, -(-offset // 3) * 3)
            )
        assert log.close()
        log = open_log(tmp_path / "t_0", index_interval_bytes=interval, recovery_point=90, is_clean=True)


def test_a_read_takes_one_batch_at_least_and_max_bytes_at_most(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    sizes = [len(encode_batch([bytes(size)], timestamps_ms=NOW)) for size in (100, 200, 300)]
    for size in (100, 200, 300):
        log.append([bytes(size)])
    assert log.read(0, 1).size == log.read(0, sizes[0]).size == sizes[0]
    assert log.read(0, sizes[0] + 1).size == sizes[0] + 1  # the last batch may be cut
    assert log.read(0, 1 << 30).size == sum(sizes)
    assert log.read(1, 5).size == sizes[1]
    assert log.read(3).size == 0 and log.read(3).read() == b""
    for wrong in (0, -1):
        with pytest.raises(InvalidArgument, match="max_bytes"):
            log.read(0, wrong)


def test_a_read_never_crosses_a_segment(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    for number in range(4):
        log.append(numbered(number, 1))
        if number % 2:
            log.roll()
    assert [batch.header.base_offset for batch in batches(log.read(0).read())] == [0, 1]
    assert [batch.header.base_offset for batch in batches(log.read(2).read())] == [2, 3]
    assert log.read(4).size == 0


def test_a_read_is_bounded_by_max_offset_also_when_the_log_grows_meanwhile(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=400)
    for number in range(12):
        log.append(numbered(number, 1, 30))
    ends = [segment.base_offset for segment in log.view.segments[1:]]
    assert ends
    for bound in range(14):
        view = log.view
        if bound == 12:
            log.append([b"later"])  # at or beyond the bound: not to be seen through it
        for offset in range(12):
            seen = [batch.header.base_offset for batch in batches(view.read(offset, max_offset=bound).read())]
            limit = min([bound, *[end for end in ends if end > offset]])
            if bound < 13:
                assert seen == list(range(offset, limit)), (bound, offset)
            assert [record.offset for record in view.records(offset, max_offset=bound)] == list(
                range(offset, min(bound, view.log_end_offset))
            )


def test_offsets_outside_the_log_are_out_of_range_with_the_bounds(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append(numbered(0, 10))
    log.append(numbered(10, 10))
    log.advance_log_start(10)
    for offset in (-1, 0, 9, 21, 2**63):
        with pytest.raises(OffsetOutOfRange) as caught:
            log.read(offset)
        assert (caught.value.log_start_offset, caught.value.log_end_offset) == (10, 20)
        with pytest.raises(OffsetOutOfRange):
            list(log.records(offset))
    assert log.read(20).size == 0 and values(log) == numbered(10, 10)


def test_the_log_start_never_moves_back_and_not_beyond_the_end(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append(numbered(0, 10))
    assert log.advance_log_start(6) == 6
    assert log.advance_log_start(3) == 6
    assert values(log) == numbered(6, 4)
    for wrong in (11, -1):
        with pytest.raises(OffsetOutOfRange):
            log.advance_log_start(wrong)
    assert log.advance_log_start(10) == 10
    assert log.append([b"next"]).base_offset == 10


def test_timestamps_find_the_first_record_that_is_not_older(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=300, index_interval_bytes=0)
    times = [50, 10, 60, 60, 20, 90, 0, 5]
    for first in range(0, 8, 2):
        log.append(numbered(first, 2), timestamps_ms=times[first : first + 2])
    for reopened in (False, True):
        for wanted in (-1, 0, 5, 10, 50, 51, 60, 61, 89, 90, 91):
            expected = next(((time, offset) for offset, time in enumerate(times) if time >= wanted), None)
            assert log.offset_for_time(wanted) == expected, wanted
        log.advance_log_start(3)
        assert log.offset_for_time(20) == (60, 3)
        if not reopened:
            log.close()
            log = open_log(tmp_path / "t_0", index_interval_bytes=0, recovery_point=8, is_clean=True)


def test_a_segment_of_records_from_1970_is_found_by_time(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", index_interval_bytes=0)
    for number in range(5):
        log.append(numbered(number, 1), timestamps_ms=0)
    log.roll()
    log.append([b"later"])
    log.close()
    log = open_log(tmp_path / "t_0", recovery_point=6, is_clean=True)
    assert log.offset_for_time(0) == (0, 0)
    assert log.segment_infos()[0].max_timestamp_ms == 0


def test_a_batch_without_records_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    with pytest.raises(InvalidRecord, match="needs a record"):
        log.append([])
    with pytest.raises(InvalidRecord):
        log.append_batches(b"")
    assert log.log_end_offset == 0


# ----------------------------------------------------------------------------------------------- batches from others


def test_batches_from_others_are_checked_given_offsets_and_stored_as_they_are(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"x"])
    sent = [encode_batch(numbered(0, 3), timestamps_ms=NOW, base_offset=77, compression=Compression.LZ4)] * 2
    for kind in (bytes, bytearray, memoryview):
        receipts = log.append_batches(kind(b"".join(sent)))
        assert receipts[1].base_offset == receipts[0].base_offset + 3
    assert log.log_end_offset == 19
    stored = log.read(1).read()
    assert stored[12:16] == b"\0\0\0\0"  # the leader's epoch
    assert stored[16 : len(sent[0])] == sent[0][16:]


def reseal(data: bytearray) -> bytes:
    """``data`` with the CRC that its bytes have now."""
    data[17:21] = crc32c(data[CRC_START:]).to_bytes(4, "big")
    return bytes(data)


def tampered(position: int, replacement: bytes, **arguments: Any) -> bytes:
    data = bytearray(encode_batch(**{"values": numbered(0, 3), "timestamps_ms": NOW, **arguments}))
    data[position : position + len(replacement)] = replacement
    return reseal(data)


def with_counts(last_offset_delta: int, record_count: int) -> bytes:
    """Three records under a header that says otherwise."""
    data = bytearray(encode_batch(numbered(0, 3), timestamps_ms=NOW))
    data[23:27] = last_offset_delta.to_bytes(4, "big")
    data[57:61] = record_count.to_bytes(4, "big")
    return reseal(data)


BAD_BATCHES = {
    "a CRC that is not its own": encode_batch([b"a"], timestamps_ms=NOW)[:-1] + b"\1",
    "fewer records than its count": with_counts(3, 4),
    "a count that its records do not have": with_counts(2, 2),
    "offsets that do not count up": tampered(HEADER_SIZE + 3, b"\x08"),
    "a body that is no records": tampered(HEADER_SIZE, b"\xff" * 8),
    "a compression that is none": tampered(22, b"\7"),
    "a compression that its body does not have": tampered(22, b"\1"),
    "fewer offsets than records": with_counts(0, 3),
    "more offsets than records": with_counts(7, 3),
    "two billion offsets, three records": with_counts(2**31 - 2, 3),
    "a control batch that is no marker": encode_batch(
        [None], timestamps_ms=NOW, attributes=TRANSACTIONAL | CONTROL, producer_id=1, producer_epoch=0
    ),
    "a marker of no producer": encode_batch(
        [encode_marker(1, 0)[1]], keys=[encode_marker(1, 0)[0]], timestamps_ms=NOW, attributes=TRANSACTIONAL | CONTROL
    ),
    "a tail of another": encode_batch([b"a"], timestamps_ms=NOW) + b"\0" * 5,
    "nothing of a second one": encode_batch([b"a"], timestamps_ms=NOW)[:-2],
    "random bytes": bytes(range(200)),
}


@pytest.mark.parametrize("bad", BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_a_batch_that_cannot_be_read_is_refused_and_nothing_is_appended(tmp_path: Path, bad: bytes) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"x"])
    with pytest.raises((CorruptBatch, InvalidRecord)):
        log.append_batches(encode_batch([b"good"], timestamps_ms=NOW) + bad)
    assert log.log_end_offset == 1 and values(log) == [b"x"]
    assert log.append([b"y"]).base_offset == 1


def test_a_timestamp_that_the_header_hides_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    future = tampered(35, NOW.to_bytes(8, "big"), timestamps_ms=[NOW, NOW + 10**10, NOW])
    with pytest.raises((CorruptBatch, InvalidRecord)):
        log.append_batches(future)
    assert log.log_end_offset == 0


def test_markers_of_transactions_are_stored_and_not_shown(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    producer = {"producer_id": 7, "producer_epoch": 0, "timestamps_ms": NOW}
    log.append_batches(encode_batch([b"a"], attributes=TRANSACTIONAL, base_sequence=0, **producer))  # type: ignore[arg-type]
    assert log.producers.first_unstable_offset() == 0
    key, value = encode_marker(1, 3)
    log.append_batches(encode_batch([value], keys=[key], attributes=TRANSACTIONAL | CONTROL, **producer))  # type: ignore[arg-type]
    assert log.producers.first_unstable_offset() is None
    assert log.log_end_offset == 2 and values(log) == [b"a"]


@pytest.mark.parametrize(
    ("log_start_offset", "largest"), [(0, 90), (1, 80), (2, 70), (3, 70), (4, 60), (6, 50), (7, 30), (8, -1)]
)
def test_the_largest_timestamp_is_that_of_a_record_that_is_there_still(
    tmp_path: Path, log_start_offset: int, largest: int
) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"] * 3, timestamps_ms=[90, 80, 10])
    log.append([b"a"], timestamps_ms=70)
    log.append([b"a"] * 2, timestamps_ms=[60, 40])
    log.roll()
    log.append([b"a"] * 2, timestamps_ms=[50, 30])
    log.advance_log_start(log_start_offset)
    assert log.view.largest_timestamp() == largest
    found = log.offset_for_time(largest) if largest >= 0 else None
    assert (found.timestamp_ms if found else -1) == largest
    log.close()


# ----------------------------------------------------------------------------------------------------------- settings


def test_log_append_time_replaces_every_timestamp(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path / "t_0", clock, message_timestamp_type="LogAppendTime")
    assert log.append([b"a", b"b"], timestamps_ms=[5, NOW * 2]).timestamp_ms == NOW
    clock.now_ms += 10
    log.append_batches(encode_batch([b"c"], timestamps_ms=1, compression=Compression.GZIP))
    assert [record.timestamp_ms for record in log.records(0)] == [NOW, NOW, NOW + 10]
    assert log.offset_for_time(NOW + 1) == (NOW + 10, 2)


@pytest.mark.parametrize("setting", ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("sent", list(Compression))
def test_batches_are_stored_in_the_compression_that_the_topic_asks_for(
    tmp_path: Path, setting: str, sent: Compression
) -> None:
    log = open_log(tmp_path / "t_0", compression_type=setting)
    expected = (
        {"producer": sent, "uncompressed": Compression.NONE}.get(setting) or Compression[setting.upper()]
        if (setting not in ("producer", "uncompressed"))
        else {"producer": sent, "uncompressed": Compression.NONE}[setting]
    )
    log.append(numbered(0, 50), compression=sent)
    log.append_batches(encode_batch(numbered(50, 50), timestamps_ms=NOW, compression=sent))
    assert [batch.header.compression for batch in log.batches(0)] == [expected] * 2
    assert values(log) == numbered(0, 100)


@pytest.mark.parametrize(("codec", "low", "high"), [("gzip", 1, 9), ("lz4", 1, 17), ("zstd", 1, 19)])
def test_batches_are_stored_at_the_compression_level_that_the_topic_asks_for(
    tmp_path: Path, codec: str, low: int, high: int
) -> None:
    values = [b"%d and %d" % (number % 13, number * number) for number in range(5000)]
    batch = encode_batch(values, timestamps_ms=NOW)
    sizes = []
    for level in (low, high):
        settings = {"compression_type": codec, f"compression_{codec}_level": level}
        log = open_log(tmp_path / f"t_{level}", **settings)
        log.append_batches(batch)
        sizes.append(log.view.size)
    assert sizes[1] < sizes[0]


def test_a_batch_over_max_message_bytes_is_refused_with_its_size(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", max_message_bytes=1000)
    size = len(encode_batch([b""], timestamps_ms=NOW))
    log.append([bytes(1000 - size - 2)])  # the length of the value and of the record take a byte more each
    with pytest.raises(RecordTooLarge) as caught:
        log.append([bytes(1001)])
    assert caught.value.limit == 1000 and caught.value.size > 1001
    with pytest.raises(RecordTooLarge):
        log.append_batches(encode_batch([bytes(1001)], timestamps_ms=NOW))
    log.append([bytes(5000)], compression=Compression.GZIP)
    assert log.log_end_offset == 2


def test_a_timestamp_too_far_in_the_future_or_past_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", message_timestamp_after_max_ms=1000, message_timestamp_before_max_ms=2000)
    log.append([b"a", b"b"], timestamps_ms=[NOW + 1000, NOW - 2000])
    for wrong in ([NOW, NOW + 1001], [NOW - 2001, NOW]):
        with pytest.raises(InvalidTimestamp, match=r"message\.timestamp\."):
            log.append([b"a", b"b"], timestamps_ms=wrong)
    assert log.log_end_offset == 2


def test_a_topic_that_is_compacted_takes_no_record_without_a_key(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", cleanup_policy=("compact",))
    log.append([b"a", None], keys=[b"k", b"k"])
    for keys in (None, [b"k", None]):
        with pytest.raises(InvalidRecord, match="without a key"):
            log.append([b"a", b"b"], keys=keys, compression=Compression.ZSTD)
    assert log.log_end_offset == 2


def test_settings_change_while_the_log_is_open(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([bytes(500)])
    log.config = TopicConfig(segment_bytes=600, max_message_bytes=1000)
    log.append([bytes(500)])
    assert len(log.view.segments) == 2
    with pytest.raises(RecordTooLarge):
        log.append([bytes(1000)])


# --------------------------------------------------------------------------------------------------------------- roll


def bases(log: PartitionLog) -> list[int]:
    return [segment.base_offset for segment in log.view.segments]


def test_a_segment_is_rolled_before_it_grows_past_its_size(tmp_path: Path) -> None:
    size = len(encode_batch([bytes(50)], timestamps_ms=NOW))
    log = open_log(tmp_path / "t_0", segment_bytes=3 * size)
    for _ in range(7):
        log.append([bytes(50)])
    assert bases(log) == [0, 3, 6]
    assert [path.stat().st_size for path in log_files(log.directory)] == [3 * size, 3 * size, size]
    log.append([bytes(5000)])  # larger than a segment: stands alone
    log.append([b""])
    assert bases(log) == [0, 3, 6, 7, 8]


def test_a_segment_is_rolled_when_it_is_old_by_an_append_or_without_one(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path / "t_0", clock, segment_ms=1000)
    log.append([b"a"], timestamps_ms=5)
    clock.now_ms += 1000
    log.append([b"b"])
    log.roll_if_old(clock.now_ms)
    assert bases(log) == [0]
    clock.now_ms += 1
    log.append([b"c"])
    assert bases(log) == [0, 2]
    clock.now_ms += 1001
    log.roll_if_old(clock.now_ms)
    assert bases(log) == [0, 2, 3]
    clock.now_ms += 5000
    log.roll_if_old(clock.now_ms)
    assert bases(log) == [0, 2, 3], "an empty segment does not grow old"


def test_segments_are_rolled_up_to_their_jitter_early_each_at_a_time_of_its_own(tmp_path: Path) -> None:
    rolled_ms = []
    for number in range(20):
        clock = Clock()
        log = open_log(tmp_path / f"t_{number}", clock, segment_ms=1000, segment_jitter_ms=400)
        log.append([b"a"])
        while bases(log) == [0]:
            clock.now_ms += 1
            log.roll_if_old(clock.now_ms)
        rolled_ms.append(clock.now_ms - NOW)
    assert 600 < min(rolled_ms) and max(rolled_ms) <= 1001
    assert len(set(rolled_ms)) > 10


def test_a_segment_that_was_made_in_the_future_is_rolled(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path / "t_0", clock, segment_ms=1000)
    log.append([b"a"])
    clock.now_ms -= 1001  # the clock was set back
    log.roll_if_old(clock.now_ms)
    assert bases(log) == [0, 1]


def test_a_log_that_is_opened_again_goes_on_in_the_same_segment(tmp_path: Path) -> None:
    clock = Clock(time.time_ns() // 1_000_000)
    for number in range(5):
        log = open_log(tmp_path / "t_0", clock, segment_ms=100_000, recovery_point=number, is_clean=bool(number % 2))
        log.append([b"%d" % number])
        assert log.close()
    assert bases(open_log(tmp_path / "t_0")) == [0]


@pytest.mark.parametrize("timestamp", ["rising", "standing still"])
def test_a_segment_is_rolled_when_an_index_is_full(tmp_path: Path, timestamp: str) -> None:
    log = open_log(tmp_path / "t_0", index_interval_bytes=0, segment_index_bytes=60)
    for number in range(40):
        log.append([b"v"], timestamps_ms=NOW + number if timestamp == "rising" else NOW)
    log.close()
    sizes = [path.stat().st_size for path in log.directory.iterdir() if path.name.endswith("index")]
    assert max(sizes) <= 60 and len(log_files(log.directory)) >= 5
    assert values(open_log(log.directory)) == [b"v"] * 40


def test_a_segment_is_rolled_before_an_offset_is_too_far_from_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logstore.storage.log_writer.RELATIVE_OFFSET_MAX", 9)
    log = open_log(tmp_path / "t_0")
    for _ in range(8):
        log.append(numbered(0, 3))
    assert bases(log) == [0, 9, 18]


def test_an_empty_segment_is_not_rolled(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.roll()
    log.append([b"a"])
    log.roll()
    log.roll()
    assert bases(log) == [0, 1]
    assert log.append([b"b"]).base_offset == 1


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_preallocated_log_has_its_full_size_while_it_is_active(tmp_path: Path, is_clean: bool) -> None:
    log = open_log(tmp_path / "t_0", preallocate=True, segment_bytes=4096)
    assert log_files(log.directory)[0].stat().st_size == 4096
    for number in range(60):
        log.append(numbered(number, 1, 30))
    first, *_, last = log_files(log.directory)
    assert first.stat().st_size == log.view.segments[0].size < 4096 == last.stat().st_size
    assert values(log) == numbered(0, 60, 30)
    if is_clean:
        segment_size = log.view.segments[-1].size
        log.close()
        assert last.stat().st_size == segment_size
    log = open_log(log.directory, is_clean=is_clean, recovery_point=60 if is_clean else 0, preallocate=True)
    assert values(log) == numbered(0, 60, 30) and not log.damages


# ----------------------------------------------------------------------------------------------- truncate and retain


@pytest.mark.parametrize("rolls", [(), (6,), (3, 6, 12)])
def test_a_log_is_truncated_at_any_offset_and_goes_on_from_there(tmp_path: Path, rolls: tuple[int, ...]) -> None:
    for offset in range(19):
        directory = tmp_path / f"t_{offset}"
        log = open_log(directory, index_interval_bytes=0)
        for first in range(0, 18, 3):
            log.append(numbered(first, 3), timestamps_ms=NOW + first)
            if first + 3 in rolls:
                log.roll()
        log.truncate_to(offset)
        end = offset - offset % 3  # the batch that holds the offset goes whole
        assert log.log_end_offset == end and values(log) == numbered(0, end)
        assert log.recovery_point <= end
        assert log.offset_for_time(NOW + end) is None
        assert log.append([b"new"]).base_offset == end
        expected = [*numbered(0, end), b"new"]
        assert values(log) == expected
        assert log.offset_for_time(NOW) is not None
        log.close()
        for is_clean in (True, False):
            again = open_log(directory, recovery_point=end + 1 if is_clean else 0, is_clean=is_clean)
            assert values(again) == expected and not again.damages


def test_a_log_cannot_be_truncated_outside_its_offsets(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append(numbered(0, 3))
    log.append(numbered(3, 3))
    log.advance_log_start(3)
    for wrong in (2, 7, -1):
        with pytest.raises(OffsetOutOfRange):
            log.truncate_to(wrong)
    log.truncate_to(3)
    assert (log.log_start_offset, log.log_end_offset) == (3, 3)


def test_truncation_tells_of_the_lower_recovery_point_before_it_cuts(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def save() -> None:
        told.append((log.recovery_point, log_files(log.directory)[0].stat().st_size))

    log = open_log(tmp_path / "t_0", save_recovery_point=save)
    log.append([b"a"])
    log.append([b"b"])
    log.checkpoint()
    size = log.view.size
    log.truncate_to(1)
    assert told == [(1, size)]


def test_truncation_forgets_what_producers_and_epochs_did_behind_it(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    producer = {"producer_id": 1, "producer_epoch": 0}
    log.append([b"a"], base_sequence=0, **producer)  # type: ignore[arg-type]
    log.leader_epoch = 4
    log.append([b"b"], base_sequence=1, **producer)  # type: ignore[arg-type]
    log.truncate_to(1)
    assert log.leader_epochs.entries == ((0, 0), (4, 1))  # who leads now
    assert not log.append([b"c"], base_sequence=1, **producer).is_duplicate  # type: ignore[arg-type]
    assert values(log) == [b"a", b"c"]


def test_whole_segments_go_by_retention_and_their_files_stay_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path / "t_0", clock, retention_ms=1000, file_delete_delay_ms=50)
    for number in range(3):
        log.append(numbered(number, 1))
        log.roll()
        clock.now_ms += 500
    log.append([b"newest"])
    before = log.view
    held = before.read(0)
    assert [expiry.segment.base_offset for expiry in log.delete_expired()] == [0]
    assert log.log_start_offset == 1 and bases(log) == [1, 2, 3]
    assert [record.value for record in before.records(0)] == [*numbered(0, 3), b"newest"]
    with pytest.raises(OffsetOutOfRange):
        log.read(0)
    log.unlink_retired()
    assert any(name.endswith(".deleted") for name in names(log.directory))
    clock.now_ms += 51
    log.unlink_retired()
    assert not any(name.endswith(".deleted") for name in names(log.directory))
    assert next(batches(held.read())).header.base_offset == 0, "an open slice can be read after the unlink"


def test_an_active_segment_that_expired_is_rolled_and_goes(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path / "t_0", clock, retention_ms=1000)
    log.append(numbered(0, 5))
    clock.now_ms += 1001
    log.delete_expired()
    assert (log.log_start_offset, log.log_end_offset, bases(log)) == (5, 5, [5])
    assert log.append([b"next"]).base_offset == 5
    log.close()
    assert values(open_log(log.directory)) == [b"next"]


def test_segments_below_the_log_start_go_with_the_next_retention(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", retention_ms=-1)
    for number in range(4):
        log.append(numbered(number, 1))
        log.roll()
    log.advance_log_start(2)
    log.delete_expired()
    assert bases(log) == [2, 3, 4] and values(log) == numbered(2, 2)


# -------------------------------------------------------------------------------------------------------- file slices


def test_a_slice_is_sent_through_a_socket_that_is_slow(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", max_message_bytes=8 << 20)
    log.append([os.urandom(4 << 20)])
    piece = log.read(0, 8 << 20)
    for timeout in (None, 0.0, 5.0):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(timeout)
            received: list[bytes] = []

            def receive(theirs: socket.socket = theirs, received: list[bytes] = received) -> None:
                while data := theirs.recv(50_000):
                    received.append(data)

            thread = threading.Thread(target=receive)
            thread.start()
            assert piece.sendfile(ours) == piece.size
            ours.shutdown(socket.SHUT_WR)
            thread.join(10)
        assert b"".join(received) == piece.read()


def test_sending_to_a_socket_that_nobody_reads_ends_with_its_time_out(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", max_message_bytes=8 << 20)
    log.append([bytes(4 << 20)])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.05)
        with pytest.raises(TimeoutError):
            log.read(0, 8 << 20).sendfile(ours)
        theirs.close()
        with pytest.raises(OSError):
            log.read(0, 8 << 20).sendfile(ours)


def test_a_descriptor_beyond_1024_can_be_waited_for(tmp_path: Path) -> None:
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("this process may not hold 1,200 descriptors")
    log = open_log(tmp_path / "t_0", max_message_bytes=8 << 20)
    log.append([bytes(4 << 20)])
    ours, theirs = socket.socketpair()
    high = os.dup2(ours.fileno(), 1150)
    with ours, theirs, socket.socket(fileno=high) as far:
        far.settimeout(0.05)
        with pytest.raises(TimeoutError):
            log.read(0, 8 << 20).sendfile(far)


def test_a_slice_of_a_file_that_was_cut_is_an_error_and_not_an_endless_loop(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([bytes(1000)])
    piece = log.read(0)
    os.truncate(log_files(log.directory)[0], 100)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(CorruptBatch, match="cut short: 100 of"):
            piece.sendfile(ours)
        assert len(theirs.recv(5000)) == 100
    with pytest.raises(CorruptBatch, match="cut short: 100 of") as caught:
        piece.read()
    assert caught.value.path.endswith(".log")
    with pytest.raises(CorruptBatch):
        list(log.records(0))


# ------------------------------------------------------------------------------------------------------------ waiting


def test_a_reader_that_waits_is_woken_by_the_append(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    assert not log.wait(0, 0.01)
    woken: list[tuple[bool, float]] = []
    thread = threading.Thread(target=lambda: woken.append((log.wait(0, 20), time.monotonic())))
    thread.start()
    time.sleep(0.05)
    log.append([b"a"])
    thread.join(10)
    assert woken[0][0] and log.wait(0, 0) and not log.wait(1, 0)
    assert not len(log._waiters)


def test_waiting_does_not_look_again_and_again(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    before = time.process_time()
    assert not log.wait(0, 0.5)
    assert time.process_time() - before < 0.1


def test_those_who_wait_for_more_are_not_woken(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    called: list[int] = []
    for offset in (0, 1, 5):
        log.call_when_beyond(offset, lambda offset=offset: called.append(offset))  # type: ignore[misc]
    cancel = log.call_when_beyond(1, lambda: called.append(99))
    cancel()
    log.append([b"a"])
    assert called == [0]
    log.append(numbered(0, 3))
    assert called == [0, 1]
    log.call_when_beyond(2, lambda: called.append(2))
    assert called == [0, 1, 2], "what is there already is told at once"
    cancel()


def test_a_callback_that_fails_is_no_failure_of_the_append(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = open_log(tmp_path / "t_0")
    called: list[int] = []

    def fail() -> None:
        raise RuntimeError("the event loop is closed")

    log.call_when_beyond(0, fail)
    log.call_when_beyond(0, lambda: called.append(1))
    assert log.append([b"a"]).base_offset == 0
    assert called == [1] and "event loop is closed" in caplog.text


def test_closing_wakes_those_who_wait(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(log.wait(0, 20)))
    thread.start()
    time.sleep(0.05)
    log.close()
    thread.join(10)
    assert woken == [False] and not log.wait(0, 10)


# ------------------------------------------------------------------------------------------------ idempotent producers


def send(
    log: PartitionLog, sequence: int, count: int = 1, epoch: int = 0, durability: Durability = Durability.OS
) -> Any:
    return log.append(
        numbered(sequence, count), producer_id=9, producer_epoch=epoch, base_sequence=sequence, durability=durability
    )


@pytest.mark.parametrize("durability", LOCAL_LEVELS)
def test_a_batch_that_is_sent_again_is_answered_with_its_first_place(tmp_path: Path, durability: Durability) -> None:
    log = open_log(tmp_path / "t_0")
    first = [send(log, sequence, 2) for sequence in range(0, 10, 2)]
    again = [send(log, sequence, 2, durability=durability) for sequence in range(0, 10, 2)]
    assert [receipt[:3] for receipt in again] == [receipt[:3] for receipt in first]
    assert all(receipt.is_duplicate and receipt.durability is durability for receipt in again)
    assert log.log_end_offset == 10 and values(log) == numbered(0, 2) + numbered(2, 2) + numbered(4, 6)
    if durability is Durability.FSYNC:
        assert log.synced_offset == 10


def test_a_gap_in_a_producers_sequence_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    send(log, 0)
    with pytest.raises(OutOfOrderSequence) as caught:
        send(log, 2)
    assert (caught.value.sequence, caught.value.expected) == (2, 1)
    with pytest.raises(OutOfOrderSequence):
        send(log, 0, 2)  # not the batch that was sent
    assert log.log_end_offset == 1


def test_an_old_epoch_is_fenced_and_a_new_one_starts_at_zero(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    send(log, 0, epoch=1)
    with pytest.raises(ProducerFenced):
        send(log, 1, epoch=0)
    with pytest.raises(OutOfOrderSequence):
        send(log, 1, epoch=2)
    send(log, 0, epoch=2)
    assert log.log_end_offset == 2


def test_a_producer_without_a_sequence_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    with pytest.raises(InvalidRecord, match="sequence"):
        log.append([b"a"], producer_id=1, producer_epoch=0)
    assert log.log_end_offset == 0


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_duplicate_is_known_after_the_log_was_opened_again(tmp_path: Path, is_clean: bool) -> None:
    log = open_log(tmp_path / "t_0")
    send(log, 0)
    log.roll()
    last = send(log, 1, 3)
    if is_clean:
        log.close()
    log = open_log(log.directory, is_clean=is_clean, recovery_point=4 if is_clean else 0)
    again = send(log, 1, 3)
    assert again.is_duplicate and again[:3] == last[:3]
    send(log, 4)


# ------------------------------------------------------------------------------------------------------------- closing


def test_a_closed_log_takes_nothing_more_and_says_so(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"])
    assert log.close() and log.close()
    uses = (
        lambda: log.append([b"b"]),
        lambda: log.append_batches(encode_batch([b"b"], timestamps_ms=NOW)),
        log.roll,
        log.delete_expired,
        lambda: log.truncate_to(0),
        lambda: log.advance_log_start(1),
        lambda: log.read(0),
        lambda: list(log.records(0)),
    )
    for use in uses:
        with pytest.raises(Closed, match="t_0 is closed"):
            use()
    assert values(open_log(log.directory)) == [b"a"]


def test_an_error_that_is_raised_again_does_not_grow(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.close()
    lengths = []
    for _ in range(5):
        with pytest.raises(Closed) as caught:
            log.append([b"b"])
        lengths.append(len(caught.traceback))
    assert len(set(lengths)) == 1


def test_a_receipt_of_fsync_is_below_the_recovery_point(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    assert log.append([b"a"]).durability is Durability.OS and log.synced_offset == 0
    assert log.append([b"b"], durability=Durability.FSYNC).durability is Durability.FSYNC
    assert log.synced_offset == 2
    log.append([b"c"])
    log.flush()
    assert log.synced_offset == 3


def test_flush_messages_bounds_what_is_not_synced(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", flush_messages=5)
    unsynced = []
    for number in range(20):
        log.append([b"%d" % number])
        unsynced.append(log.log_end_offset - log.synced_offset)
    assert max(unsynced) == 4


# ---------------------------------------------------------------------------------------------------------------- gaps


def log_with_gap(directory: Path) -> PartitionLog:
    """Offsets 0 to 29, of which salvage could not save 10 to 19."""
    log = open_log(directory, segment_bytes=1 << 20)
    bounds = []
    for first in (0, 10, 20):
        start = log.view.size
        log.append(numbered(first, 10))
        bounds.append((start, log.view.size))
    log.close()
    (path,) = log_files(directory)
    data = path.read_bytes()
    path.write_bytes(data[: bounds[0][1]] + data[bounds[2][0] :])
    write_gaps(directory, [(10, 19)])
    return open_log(directory, segment_bytes=1 << 20)


def test_neither_records_nor_read_goes_over_a_gap_in_silence(tmp_path: Path) -> None:
    log = log_with_gap(tmp_path / "t_0")
    seen = []
    with pytest.raises(OffsetGap) as caught:
        seen.extend(record.value for record in log.records(0))
    assert seen == numbered(0, 10) and (caught.value.first_offset, caught.value.last_offset) == (10, 19)
    assert [batch.header.base_offset for batch in batches(log.read(0, 1 << 20).read())] == [0]
    with pytest.raises(OffsetGap):
        log.read(10)
    assert values(log, 20) == numbered(20, 10)


def test_a_gap_that_is_cut_off_is_one_no_more(tmp_path: Path) -> None:
    log = log_with_gap(tmp_path / "t_0")
    log.truncate_to(5)
    end = log.log_end_offset
    log.append(numbered(end, 30 - end))
    assert values(log, end) == numbered(end, 30 - end)
    log.close()
    again = open_log(log.directory, is_clean=True, recovery_point=30)
    assert values(again, end) == numbered(end, 30 - end)


# ------------------------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize("durability", ["fsync", Durability.FSYNC])
def test_durability_may_be_given_by_name(tmp_path: Path, durability: str) -> None:
    log = open_log(tmp_path / "t_0")
    assert log.append([b"a"], durability=durability).durability is Durability.FSYNC
    assert log.synced_offset == 1
    (receipt,) = log.append_batches(encode_batch([b"b"], timestamps_ms=NOW), durability)
    assert receipt.durability is Durability.FSYNC and log.synced_offset == 2


def test_a_receipt_says_what_flush_messages_reached(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", flush_messages=2)
    assert [log.append([b"a"]).durability for _ in range(4)] == [Durability.OS, Durability.FSYNC] * 2


def test_many_batches_at_once_need_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path / "t_0")
    syncs = []
    sync = files.File.sync
    monkeypatch.setattr(files.File, "sync", lambda file: (syncs.append(file.path), sync(file))[1])
    receipts = log.append_batches(encode_batch([b"a"], timestamps_ms=NOW) * 20, Durability.FSYNC)
    assert len(syncs) == 1 and {receipt.durability for receipt in receipts} == {Durability.FSYNC}


@pytest.mark.parametrize(
    "arguments",
    [
        {"values": 5},
        {"values": b"bytes"},
        {"values": {b"a": b"b"}},
        {"values": [b"a"], "keys": 7},
        {"values": [b"a"], "compression": 9},
        {"values": [b"a"], "compression": "brotli"},
        {"values": [b"a"], "durability": "bogus"},
        {"values": [b"a"], "durability": None},
    ],
    ids=str,
)
def test_an_argument_of_a_wrong_type_is_an_error_of_ours_and_appends_nothing(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    log = open_log(tmp_path / "t_0")
    with pytest.raises(LogstoreError):
        log.append(**arguments)
    assert log.log_end_offset == 0


def test_values_may_come_from_a_generator_and_codecs_by_name(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append((b"%d" % number for number in range(3)), keys=iter([b"a", b"b", b"c"]), compression="zstd")
    assert values(log) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("offset", ["0", None, 1.5])
def test_an_offset_that_is_no_integer_is_an_error_of_ours(tmp_path: Path, offset: Any) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a", b"b"])
    for call in (
        lambda: log.read(offset),
        lambda: list(log.records(offset)),
        lambda: log.wait(offset, 0),
        lambda: log.truncate_to(offset),
        lambda: log.advance_log_start(offset),
        lambda: log.offset_for_time(offset),
    ):
        with pytest.raises(InvalidArgument):
            call()
    assert values(log) == [b"a", b"b"]


# ----------------------------------------------------------------------------------------------------------- interrupts


@pytest.mark.parametrize("where", ["File.write_at", "OffsetIndex.append", "TimeIndex.append"])
def test_an_append_that_is_interrupted_anywhere_has_not_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    log = open_log(tmp_path / "t_0", index_interval_bytes=0)
    log.append([b"a"], timestamps_ms=NOW)
    log.append([b"b"], timestamps_ms=NOW + 1)
    kind, method = where.split(".")
    owner = files.File if kind == "File" else getattr(index, kind)
    original = getattr(owner, method)

    def interrupted(*arguments: Any) -> None:
        original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, method, interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.append([b"interrupted"], timestamps_ms=NOW + 100)
    monkeypatch.undo()
    assert log.append([b"c"], timestamps_ms=NOW + 2).base_offset == 2
    for reader in (log, open_log(crash_copy(log, tmp_path / "crashed"))):
        assert values(reader) == [b"a", b"b", b"c"]
        assert reader.offset_for_time(NOW + 2) == (NOW + 2, 2) and reader.offset_for_time(NOW + 3) is None
    log.close()
    assert values(open_log(log.directory, is_clean=True, recovery_point=3)) == [b"a", b"b", b"c"]
