"""Batches that others encoded: what is refused before a byte is written, of which records it says so, and what a broker
is told of one that was taken."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from log_tools import NOW, Clock, contents, open_log, values
from logstore.errors import CorruptBatch, InvalidRecord, InvalidTimestamp, LogstoreError, RecordTooLarge
from logstore.format.batch import (
    CONTROL,
    CRC_START,
    DELETE_HORIZON,
    HEADER_SIZE,
    LOG_APPEND_TIME,
    NO_TIMESTAMP,
    TRANSACTIONAL,
    RecordBatch,
    assemble_batch,
    encode_batch,
)
from logstore.format.checksum import crc32c
from logstore.format.compression import Compression, compress
from logstore.format.control_record import encode_marker
from logstore.format.record import decode_record, encode_records
from logstore.storage.admission import check_sent

VALUES = st.none() | st.binary(max_size=20)
HEADERS = st.lists(st.tuples(st.text(max_size=3), VALUES), max_size=2).map(tuple)
ROWS = st.lists(st.tuples(st.integers(-100, 100), VALUES, VALUES, HEADERS), min_size=1, max_size=60)


def check_slowly(data: bytes) -> tuple[int, int, bool]:
    """What ``check_sent`` must find, record by record. Raises CorruptBatch."""
    batch = RecordBatch.at(data)
    header, body = batch.header, batch.body()
    if crc32c(data[CRC_START:]) != header.crc or len(data) != header.size:
        raise CorruptBatch("CRC")
    append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME else None
    times, has_null_key, position = [], False, 0
    for number in range(header.last_offset_delta + 1):
        record, position = decode_record(body, position, 0, header.base_timestamp, append_time)
        if record.offset != number or record.timestamp_ms > header.max_timestamp:
            raise CorruptBatch("offset or timestamp")
        times.append(record.timestamp_ms)
        has_null_key = has_null_key or record.key is None
    if position != len(body) or len(times) != header.record_count:
        raise CorruptBatch("count")
    return min(times), max(times), has_null_key


def outcome(data: bytes, check: Any) -> object:
    try:
        return check(data)
    except CorruptBatch:
        return "corrupt"


def check_quickly(data: bytes) -> tuple[int, int, bool]:
    batch = RecordBatch.at(b"before" + data, 6)
    facts = check_sent(batch)
    header = batch.header
    if header.has_append_time:
        return header.max_timestamp, header.max_timestamp, facts.has_null_key
    base = header.base_timestamp
    return base + facts.oldest_delta_ms, base + facts.newest_delta_ms, facts.has_null_key


def sealed(data: bytearray) -> bytes:
    """``data`` with the length and the CRC that its bytes have now."""
    data[8:12] = (len(data) - 12).to_bytes(4, "big")
    data[17:21] = crc32c(data[CRC_START:]).to_bytes(4, "big")
    return bytes(data)


def batch_of(rows: list[tuple[Any, ...]], compression: Compression = Compression.NONE, attributes: int = 0) -> bytes:
    times, keys, sent, headers = zip(*rows)
    return encode_batch(
        sent, keys=keys, headers=headers, timestamps_ms=times, compression=compression, attributes=attributes
    )


@settings(max_examples=100)
@given(ROWS, st.sampled_from(list(Compression)), st.sampled_from([0, LOG_APPEND_TIME]))
def test_any_batch_of_a_producer_is_taken(rows: list[tuple[Any, ...]], compression: Compression, kind: int) -> None:
    data = batch_of(rows, compression, kind)
    assert check_quickly(data) == check_slowly(data)


@settings(max_examples=300)
@given(ROWS, st.sampled_from([Compression.NONE, Compression.LZ4]), st.data())
@example([(0, None, b"v", ())] * 41, Compression.NONE, None)
def test_a_changed_batch_whose_crc_is_right_is_taken_or_refused_as_the_decoder_of_records_says(
    rows: list[tuple[Any, ...]], compression: Compression, draw: st.DataObject | None
) -> None:
    data = bytearray(batch_of(rows, Compression.NONE))
    for _ in range(draw.draw(st.integers(1, 3)) if draw else 0):
        position = draw.draw(st.integers(23, len(data) - 1)) if draw else 0
        data[position] = draw.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)) if draw else 0
    if compression:
        data[22] |= compression
        data[HEADER_SIZE:] = compress(compression, data[HEADER_SIZE:])
    found = outcome(sealed(data), check_quickly)
    assert found == outcome(sealed(data), check_slowly)


def test_what_a_client_may_not_send_or_no_reader_could_read_changes_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", cleanup_policy=("compact",), max_message_bytes=5000)
    log.append([b"x"], keys=[b"k"])
    before = contents(tmp_path / "t_0")
    key, marker = encode_marker(0, 0)
    keyed: dict[str, Any] = {"keys": [b"k"], "timestamps_ms": NOW}
    good = encode_batch([b"a"], **keyed)
    bomb = encode_batch([bytes(65 << 20)], **keyed, compression=Compression.NONE)
    bad = {
        "nothing": b"",
        "half a batch": good[:-1],
        "two batches": good * 2,
        "a wrong CRC": good[:-1] + b"\1",
        "no key": encode_batch([b"a"], timestamps_ms=NOW),
        "a marker": encode_batch(
            [marker], keys=[key], timestamps_ms=NOW, attributes=CONTROL | TRANSACTIONAL, producer_id=1, producer_epoch=0
        ),
        "a log's time": encode_batch([b"a"], **keyed, attributes=LOG_APPEND_TIME),
        "a compactor's horizon": encode_batch([b"a"], **keyed, attributes=DELETE_HORIZON),
        "too much": encode_batch([bytes(5000)], **keyed),
        "a bomb": squeezed(bomb),
    }
    for data in bad.values():
        with pytest.raises((CorruptBatch, InvalidRecord)):
            log.append_batch(data)
    assert contents(tmp_path / "t_0") == before and log.log_end_offset == 1
    assert log.append_batch(memoryview(good)).base_offset == 1


def squeezed(data: bytes) -> bytes:
    """A batch whose body is compressed beyond what readers take."""
    body = b"".join(
        compress(Compression.ZSTD, data[at : at + (1 << 20)]) for at in range(HEADER_SIZE, len(data), 1 << 20)
    )
    return sealed(bytearray(data[:22] + bytes([Compression.ZSTD]) + data[23:HEADER_SIZE] + body))


def test_a_broker_is_told_where_a_batch_stands_and_when_the_log_set_its_time(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path / "t_0", clock)
    assert log.append_batch(encode_batch([b"a", b"b"], timestamps_ms=[5, 3])) == (0, 1, 5, NO_TIMESTAMP, False)
    log.config = log.config.replace({"message.timestamp.type": "LogAppendTime"})
    assert log.append_batch(encode_batch([b"c"], timestamps_ms=5)) == (2, 2, NOW, NOW, False)
    assert [record.timestamp_ms for record in log.records(0)] == [5, 3, NOW]


def test_a_batch_that_is_sent_again_is_told_from_others(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    sent = [
        encode_batch([b"a"] * 2, timestamps_ms=NOW, producer_id=7, producer_epoch=0, base_sequence=at) for at in (0, 2)
    ]
    first = [log.append_batch(data) for data in sent]
    again = [log.append_batch(data) for data in sent]
    assert [tuple(one)[:3] for one in again] == [(0, 1, NOW), (2, 3, NOW)] == [tuple(one)[:3] for one in first]
    assert [one.is_duplicate for one in first + again] == [False, False, True, True]
    assert log.log_end_offset == 4


def test_a_batch_of_a_broker_waits_for_no_sync_and_tells_when_one_is_due(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", flush_messages=3)
    due = []
    for _ in range(4):
        log.append_batch(encode_batch([b"a"], timestamps_ms=NOW))
        due.append(log.is_flush_due)
    assert due == [False, False, True, True] and log.synced_offset == 0
    log.flush()
    assert not log.is_flush_due


def test_a_batch_of_a_broker_wakes_who_waits_for_it(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    woken: list[int] = []
    log.call_when_beyond(0, lambda: woken.append(log.log_end_offset))
    log.append_batch(encode_batch([b"a"], timestamps_ms=NOW))
    assert woken == [1] and values(log) == [b"a"]


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
@pytest.mark.parametrize("count", [5, 100])
def test_a_refusal_names_the_records_that_are_to_blame(tmp_path: Path, compression: Compression, count: int) -> None:
    limits: dict[str, Any] = {"message_timestamp_after_max_ms": 1000, "message_timestamp_before_max_ms": 2000}
    log = open_log(tmp_path / "t_0", cleanup_policy=("compact",), **limits)
    keys = [None if number in (1, 3) else b"k" for number in range(count)]
    with pytest.raises(InvalidRecord, match="without a key") as keyless:
        log.append_batch(encode_batch([b"v"] * count, keys=keys, timestamps_ms=NOW, compression=compression))
    assert [number for number, reason in keyless.value.records if "without a key" in reason] == [1, 3]
    for wrong, where in ((NOW + 1001, "future"), (NOW - 2001, "past")):
        times = [wrong if number in (2, 4) else NOW for number in range(count)]
        for append in (log.append_batch, log.append_batches):
            with pytest.raises(InvalidRecord, match=where) as late:
                append(encode_batch([b"v"] * count, keys=[b"k"] * count, timestamps_ms=times, compression=compression))
            assert type(late.value) is InvalidTimestamp
            assert [number for number, reason in late.value.records if where in reason] == [2, 4]
            copied = pickle.loads(pickle.dumps(late.value))
            assert copied.records == late.value.records and copied.reason == late.value.reason
    assert log.log_end_offset == 0


def test_other_refusals_name_no_record(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", max_message_bytes=100)
    with pytest.raises(RecordTooLarge) as caught:
        log.append_batch(encode_batch([bytes(200)], timestamps_ms=NOW))
    assert caught.value.records == () and InvalidRecord("reason").records == ()


def test_a_timestamp_below_64_bits_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    body = encode_records([(0, 0, None, b"v", ()), (1, -(2**63), None, b"v", ())])
    fields: dict[str, Any] = {"base_offset": 0, "partition_leader_epoch": 0, "attributes": 0, "last_offset_delta": 1}
    producer = {"producer_id": -1, "producer_epoch": -1, "base_sequence": -1, "record_count": 2}
    with pytest.raises(LogstoreError, match="64 bits"):
        log.append_batch(assemble_batch(body, base_timestamp=-1, max_timestamp=0, **fields, **producer))
    assert log.log_end_offset == 0
