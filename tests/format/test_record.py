"""Records inside a batch: golden bytes, the fast forms against the general ones, and hostile bodies."""

from array import array
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hostile_records import HOSTILE
from logstore.errors import CorruptBatch, InvalidRecord
from logstore.format import record as record_module
from logstore.format.record import Record, decode_record, encode_records, encode_values, only_bytes
from logstore.format.record_columns import COLUMNS_RECORD_COUNT_MIN, decode_columns, decode_records, iterate_records

# (offset delta, timestamp delta, key, value, headers), its bytes
GOLDEN: list[tuple[tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]], str]] = [
    ((0, 0, None, None, ()), "0c000000010100"),
    ((0, 0, None, b"", ()), "0c000000010000"),
    ((0, 0, b"", b"", ()), "0c000000000000"),
    ((0, 0, None, b"hello", ()), "16000000010a68656c6c6f00"),
    ((1, 2, b"k", b"v", ()), "10000402026b027600"),
    ((0, -1, b"k", None, ()), "0e000100026b0100"),
    ((64, 0, None, b"v", ()), "100000800101027600"),
    ((0, 0, None, None, (("h", b"x"),)), "1400000001010202680278"),
    ((0, 0, None, None, (("é", None), ("", b""))), "1800000001010404c3a9010000"),
    ((0, 0, None, b"a" * 64, ()), "8e01000000018001" + "61" * 64 + "00"),
]

VALUES = st.none() | st.binary(max_size=80)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3).map(tuple)
ROWS = st.lists(st.tuples(st.integers(-(2**40), 2**40), VALUES, VALUES, HEADERS), max_size=80)


def one_by_one(body: bytes, count: int, base: int = 0, time: int = 0, append_time: int | None = None) -> list[Record]:
    """The records by the general decoder, whatever their number, and the same demand that nothing follows them."""
    records, position = [], 0
    for _ in range(count):
        record, position = decode_record(body, position, base, time, append_time)
        records.append(record)
    if position != len(body):
        raise CorruptBatch("bytes follow")
    return records


@pytest.mark.parametrize(("record", "encoded"), GOLDEN)
def test_a_record_has_exactly_these_bytes(record: tuple[Any, ...], encoded: str) -> None:
    golden = bytes.fromhex(encoded)
    assert encode_records([record]) == golden
    offset_delta, timestamp_delta, key, value, headers = record
    expected = [Record(1000 + offset_delta, 5000 + timestamp_delta, key, value, headers)]
    assert decode_records(golden, 1, 1000, 5000, None) == expected
    assert decode_columns(golden, 1, 1000, 5000, None).records() == expected


def test_all_golden_records_in_a_row_are_read_by_both_decoders() -> None:
    body = bytes.fromhex("".join(encoded for _, encoded in GOLDEN)) * 10
    rows = [record for record, _ in GOLDEN] * 10
    expected = [Record(7 + offset, 9 + time, key, value, headers) for offset, time, key, value, headers in rows]
    assert one_by_one(body, 100, 7, 9) == expected
    assert decode_columns(body, 100, 7, 9, None).records() == expected
    assert list(iterate_records(body, 100, 7, 9, None)) == expected


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=150))
@example([b""] * 65)
@example([b"x" * size for size in (54, 55, 56, 57, 58, 63, 64, 65)] * 20)
@example([b"x" * size for size in (4095, 4096, 4097, 8180, 8191, 8192, 8193)])
def test_the_encoder_of_plain_values_writes_what_the_general_one_writes(values: list[bytes]) -> None:
    rows = [(delta, 0, None, value, ()) for delta, value in enumerate(values)]
    assert encode_values(values) == encode_records(rows)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1023, 1024, 1025, 8191, 8192, 8193, 9000])
def test_the_encoder_of_plain_values_is_right_where_offset_deltas_grow_longer(count: int) -> None:
    values = [b"v" * (delta % 70) for delta in range(count)]
    body = encode_values(values)
    assert body == encode_records([(delta, 0, None, value, ()) for delta, value in enumerate(values)])
    columns = decode_columns(body, count, 0, 0, None)
    assert columns.values() == values
    assert columns.offsets.tolist() == list(range(count))


def test_plain_values_are_encoded_alike_the_first_and_the_second_time() -> None:
    for size in (0, 1, record_module.CACHED_LENGTH_MAX, record_module.CACHED_LENGTH_MAX + 1):
        assert encode_values([bytes(size)] * 3) == encode_values([bytes(size)] * 3)
    sizes = [max(cache) for _, cache in record_module._HEADS if cache]
    assert max(sizes) <= record_module.CACHED_LENGTH_MAX


def test_only_plain_bytes_take_the_fast_encoder() -> None:
    assert only_bytes([b"", b"x"])
    for other in (None, bytearray(b"x"), memoryview(b"x"), "x", array("I", [1])):
        assert not only_bytes([b"x", other])
    assert not only_bytes([])


@settings(max_examples=150)
@given(ROWS, st.integers(0, 2**62), st.integers(0, 2**50), st.none() | st.integers(0, 2**50))
def test_both_decoders_give_back_any_records(
    rows: list[tuple[Any, ...]], base_offset: int, base_timestamp: int, append_time: int | None
) -> None:
    body = encode_records(
        [(delta, time, key, value, headers) for delta, (time, key, value, headers) in enumerate(rows)]
    )
    expected = [
        Record(base_offset + delta, base_timestamp + time if append_time is None else append_time, key, value, headers)
        for delta, (time, key, value, headers) in enumerate(rows)
    ]
    context = (len(rows), base_offset, base_timestamp, append_time)
    assert one_by_one(body, *context) == expected
    columns = decode_columns(body, *context)
    assert columns.records() == expected
    assert columns.keys() == [record.key for record in expected]
    assert columns.values() == [record.value for record in expected]
    assert columns.headers() == [record.headers for record in expected]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_values_keys_and_headers_may_be_any_buffer(kind: type) -> None:
    body = encode_records([(0, 0, kind(b"key"), kind(b"value"), (("h", kind(b"x")),))])
    assert decode_records(body, 1, 0, 0, None) == [Record(0, 0, b"key", b"value", (("h", b"x"),))]


def test_a_memoryview_counts_its_bytes_and_not_its_items() -> None:
    wide = memoryview(array("I", [1, 2, 3]))
    body = encode_records([(0, 0, wide, wide[::2], ())])
    assert decode_records(body, 1, 0, 0, None)[0][2:4] == (wide.tobytes(), wide[::2].tobytes())


@pytest.mark.parametrize("wrong", ["text", 5, 1.5, array("I", [1]), [b"x"], object(), True])
def test_a_key_or_value_of_a_wrong_type_is_refused_by_its_type(wrong: object) -> None:
    for row in ((0, 0, wrong, b"v", ()), (0, 0, b"k", wrong, ())):
        with pytest.raises(InvalidRecord, match=type(wrong).__name__):
            encode_records([row])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "headers",
    [
        (("k",),),
        (("k", b"v", b"w"),),
        ((b"k", b"v"),),
        ((None, b"v"),),
        (("k", "v"),),
        (("k", 5),),
        5,
        ("ab",),
        {"key": b"v"},
        (("\ud800", b"v"),),
    ],
)
def test_headers_of_a_wrong_shape_are_refused(headers: Any) -> None:
    with pytest.raises(InvalidRecord, match="headers are pairs"):
        encode_records([(0, 0, None, None, headers)])


@pytest.mark.parametrize("delta", [2**63, -(2**63) - 1, 2**64])
def test_a_timestamp_delta_beyond_64_bits_is_refused(delta: int) -> None:
    with pytest.raises(InvalidRecord):
        encode_records([(0, delta, None, b"", ())])


@pytest.mark.parametrize("delta", [2**63 - 1, -(2**63)])
def test_a_timestamp_delta_of_64_bits_survives(delta: int) -> None:
    body = encode_records([(0, delta, None, b"", ())])
    base = -1 if delta > 0 else 0
    assert one_by_one(body, 1, 0, base)[0].timestamp_ms == base + delta
    assert decode_columns(body, 1, 0, base, None).records()[0].timestamp_ms == base + delta


@pytest.mark.parametrize(("base", "delta"), [(1, 2**63 - 1), (2**63 - 1, 1), (-1, -(2**63))])
def test_a_timestamp_that_leaves_64_bits_is_corrupt_to_both_decoders(base: int, delta: int) -> None:
    body = encode_records([(0, delta, None, b"", ())])
    with pytest.raises(CorruptBatch, match="timestamp"):
        one_by_one(body, 1, 0, base)
    with pytest.raises(CorruptBatch, match="timestamp"):
        decode_columns(body, 1, 0, base, None)


@pytest.mark.parametrize(("base", "delta"), [(0, -1), (0, 2**31), (2**62, 2**62), (0, 2**63 - 1), (5, -(2**63))])
def test_an_offset_delta_that_no_batch_can_have_is_corrupt_to_both_decoders(base: int, delta: int) -> None:
    body = encode_records([(delta, 0, None, b"", ())])
    with pytest.raises(CorruptBatch, match="offset"):
        one_by_one(body, 1, base)
    with pytest.raises(CorruptBatch, match="offset"):
        decode_columns(body, 1, base, 0, None)


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_record_is_corrupt_to_both_decoders(body: bytes) -> None:
    good = bytes.fromhex(GOLDEN[4][1])
    for padded, count in ((body, 1), (good + body, 2), (body + good, 2), (body + good * 30, 31)):
        with pytest.raises(CorruptBatch):
            one_by_one(padded, count)
        with pytest.raises(CorruptBatch):
            decode_columns(padded, count, 0, 0, None).records()
        with pytest.raises(CorruptBatch):
            decode_records(padded, count, 0, 0, None)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 23, 24, 100, 2**31 - 1])
def test_a_record_count_that_lies_is_corrupt(count: int) -> None:
    body = bytes.fromhex(GOLDEN[4][1]) * 3
    for decode in (lambda: decode_records(body, count, 0, 0, None), lambda: decode_columns(body, count, 0, 0, None)):
        with pytest.raises(CorruptBatch):
            decode()


@pytest.mark.parametrize("count", [COLUMNS_RECORD_COUNT_MIN - 1, COLUMNS_RECORD_COUNT_MIN])
def test_bytes_behind_the_last_record_are_corrupt_whatever_the_decoder(count: int) -> None:
    with pytest.raises(CorruptBatch, match="follow the last"):
        decode_records(bytes.fromhex(GOLDEN[4][1]) * count + b"\0", count, 0, 0, None)


def test_no_records_are_no_records() -> None:
    assert decode_records(b"", 0, 0, 0, None) == []
    assert decode_columns(b"", 0, 0, 0, None).records() == []


@settings(max_examples=400)
@given(
    st.binary(max_size=60) | st.lists(st.sampled_from([0, 1, 2, 12, 14, 16, 0x80, 0xFF])).map(bytes), st.integers(0, 6)
)
def test_any_bytes_are_records_or_corrupt_and_both_decoders_agree(body: bytes, count: int) -> None:
    assert outcome(lambda: one_by_one(body, count)) == outcome(
        lambda: decode_columns(body, count, 0, 0, None).records()
    )


@settings(max_examples=300)
@given(st.data())
def test_a_changed_byte_gives_records_or_corrupt_and_both_decoders_agree(data: st.DataObject) -> None:
    body = bytearray(bytes.fromhex("".join(encoded for _, encoded in GOLDEN)))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(lambda: one_by_one(bytes(body), len(GOLDEN))) == outcome(
        lambda: decode_columns(bytes(body), len(GOLDEN), 0, 0, None).records()
    )


def outcome(decode: Any) -> list[Record] | str:
    try:
        return list(decode())
    except CorruptBatch:
        return "corrupt"


@given(st.lists(st.tuples(st.sampled_from([0, 1, 57, 58, 8180, 8200]), st.integers(1, 600)), max_size=4))
@example([(58, 600)])
@settings(max_examples=30)
def test_runs_of_records_of_one_size_are_found_where_they_end(runs: list[tuple[int, int]]) -> None:
    values = [bytes([count % 251]) * size for size, count in runs for _ in range(count)]
    body = encode_values(values) if values else b""
    expected = one_by_one(body, len(values), 7, 9)
    assert decode_columns(body, len(values), 7, 9, None).records() == expected
    for first in {0, 1, len(values) // 2, len(values)}:
        assert list(iterate_records(body, len(values), 7, 9, None, first)) == expected[first:]


def test_a_run_of_records_does_not_go_on_into_one_that_is_cut_short() -> None:
    body = encode_values([b"v" * 50] * 60)
    with pytest.raises(CorruptBatch):
        decode_columns(body[:-1], 60, 0, 0, None)
    with pytest.raises(CorruptBatch):
        decode_columns(body, 59, 0, 0, None)
