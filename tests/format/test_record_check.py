"""The broker's look at records that others encoded, against the decoder of single records."""

import tracemalloc
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hostile_records import HOSTILE
from logstore.errors import CorruptBatch
from logstore.format import record_check
from logstore.format.record import RECORD_SIZE_MIN, decode_record, encode_records, encode_values
from logstore.format.record_check import RecordFacts, check_records
from logstore.format.varint import encode_varint

TIMES = st.integers(-3, 3) | st.integers(-(2**62), 2**62)
VALUES = st.none() | st.binary(max_size=80) | st.integers(0, 9000).map(bytes)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3).map(tuple)
ROWS = st.lists(st.tuples(TIMES, VALUES, VALUES, HEADERS), min_size=1, max_size=90)
PLAIN = encode_records([(0, 0, None, b"v", ())])


def slowly(body: bytes, count: int) -> RecordFacts:
    """One record after the other by the decoder, and what the check must prove of them."""
    records, position = [], 0
    for number in range(count):
        record, position = decode_record(body, position, 0, 0, None)
        if record.offset != number:
            raise CorruptBatch("offsets do not count up")
        records.append(record)
    if not records or position != len(body):
        raise CorruptBatch("bytes follow, or there is no record")
    times = [record.timestamp_ms for record in records]
    return RecordFacts(min(times), max(times), any(record.key is None for record in records))


def outcome(check: Any, *arguments: Any) -> RecordFacts | str:
    try:
        facts = check(*arguments)
        assert isinstance(facts, RecordFacts)
        return facts
    except CorruptBatch:
        return "corrupt"


def outcomes(body: bytes, count: int) -> set[RecordFacts | str]:
    """What the look straight through, if it tells, and the columns, whole and in small parts, say of a body that lies
    somewhere in a larger buffer."""
    said = {outcome(check_records, b"\1\0" + body + PLAIN, 2, 2 + len(body), count)}
    for few, part in ((0, 1 << 14), (0, 7), (40, 7)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(record_check, "_FEW", few)
            patch.setattr(record_check, "_PART", part)
            said.add(outcome(check_records, memoryview(PLAIN + body), len(PLAIN), len(PLAIN) + len(body), count))
    return said


@settings(max_examples=150)
@given(ROWS)
def test_the_check_takes_any_records_and_tells_of_them_what_the_decoder_does(rows: list[tuple[Any, ...]]) -> None:
    body = encode_records((number, *row) for number, row in enumerate(rows))
    times = [row[0] for row in rows]
    expected = RecordFacts(min(times), max(times), any(row[1] is None for row in rows))
    assert outcomes(body, len(rows)) == {expected}


@settings(max_examples=300)
@given(ROWS, st.data())
def test_changed_bytes_are_right_or_corrupt_to_the_check_as_to_the_decoder(
    rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    body = bytearray(encode_records((number, *row) for number, row in enumerate(rows)))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, min(len(body) - 1, 400)))
        body[position] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    count = len(rows) + data.draw(st.sampled_from([0, 0, 0, -1, 1]))
    assert outcomes(bytes(body), count) == {outcome(slowly, bytes(body), count)}


@settings(max_examples=400)
@given(
    st.binary(max_size=60) | st.lists(st.sampled_from([0, 1, 2, 12, 14, 16, 0x80, 0xFF])).map(bytes), st.integers(0, 6)
)
@example(b"", 0)
def test_any_bytes_are_right_or_corrupt_to_the_check_as_to_the_decoder(body: bytes, count: int) -> None:
    assert outcomes(body, count) == {outcome(slowly, body, count)}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_record_is_corrupt_to_the_check(hostile: bytes) -> None:
    for count in (1, 2, 60):
        good = [encode_records([(number, 0, None, b"v", ())]) for number in range(count)]
        for at in {0, count - 1}:
            assert outcomes(b"".join([*good[:at], hostile, *good[at + 1 :]]), count) == {"corrupt"}


def padded(number: int, size: int) -> bytes:
    """A varint with empty groups behind it, ``size`` bytes in all."""
    encoded = bytearray(encode_varint(number))
    encoded[-1] |= 0x80
    return bytes(encoded) + b"\x80" * (size - len(encoded) - 1) + b"\0"


@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("key", [b"", b"key"])
def test_varints_that_are_padded_are_taken_as_the_decoder_takes_them(field: int, size: int, key: bytes) -> None:
    pad = [encode_varint if index != field else partial(padded, size=size) for index in range(6)]
    length, time, offset, key_length, value_length, header_count = pad
    rest = [time(5), offset(0), key_length(len(key) or -1), key, value_length(1), b"v", header_count(0)]
    fields = b"\0" + b"".join(rest)
    body = length(len(fields)) + fields
    # A count of headers that is padded is no header count of one byte: then the decoder reads headers, of which it
    # finds none.
    assert outcomes(body, 1) == {outcome(slowly, body, 1)} == {RecordFacts(5, 5, not key)}


@pytest.mark.parametrize("first", [1, -1, 64, 2**31])
def test_offsets_that_do_not_count_up_from_0_are_corrupt(first: int) -> None:
    for count in (1, 70):
        body = encode_records((first + number, 0, None, b"v", ()) for number in range(count))
        assert outcomes(body, count) == {"corrupt"}


def test_offsets_are_right_across_all_sizes_of_their_varints() -> None:
    body = encode_values([b"v" * (number % 3) for number in range(9000)])
    assert check_records(body, 0, len(body), 9000) == RecordFacts(0, 0, True)


def test_what_a_count_claims_costs_nothing_and_many_small_records_little() -> None:
    count = 400_000
    body = encode_records((number, 0, None, None, ()) for number in range(count))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptBatch):
            check_records(bytes(1 << 20), 0, 1 << 20, 2**31 - 1)
        with pytest.raises(CorruptBatch):
            check_records(b"\x0c" * (RECORD_SIZE_MIN * 1000), 0, RECORD_SIZE_MIN * 1000, 1000)
        assert check_records(body, 0, len(body), count).has_null_key
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
