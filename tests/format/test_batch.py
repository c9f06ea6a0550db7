"""Batches: golden bytes, every header field, checksums, and two independent implementations in both directions."""

from array import array
from functools import partial
from struct import pack_into
from typing import Any

import aiokafka.record.default_records as aiokafka_records
import numpy as np
import pytest
from aiokafka.record.memory_records import MemoryRecords as AiokafkaRecords
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder as KafkaPythonBuilder
from kafka.record.memory_records import MemoryRecords as KafkaPythonRecords

from batches import compacted_batch
from logstore.errors import CorruptBatch, InvalidRecord, LogstoreError, RecordTooLarge, UnsupportedMagic
from logstore.format.batch import (
    CONTROL,
    CRC_START,
    DELETE_HORIZON,
    HEADER,
    HEADER_SIZE,
    LOG_APPEND_TIME,
    MAGIC_POSITION,
    PLACE,
    TRANSACTIONAL,
    BatchHeader,
    RecordBatch,
    batches,
    encode_batch,
    read_header,
)
from logstore.format.checksum import crc32c_portable
from logstore.format.compression import DECOMPRESSED_SIZE_MAX, Compression
from logstore.format.control_record import encode_marker
from logstore.format.plain_batch import BEFORE_COVERED, UNFRAMED_SIZE, LoneBatches, encode_plain
from logstore.format.record import LONE_END, Record
from logstore.format.rewritten_batch import recompress, restamp

COMPRESSIONS = list(Compression)
NOW = 1_700_000_000_000
GOLDEN = [
    (
        {"values": [b"hello"], "timestamps_ms": NOW},
        """0000000000000000 0000003d ffffffff 02 e641a44b 0000 00000000 0000018bcfe56800 0000018bcfe56800
        ffffffffffffffff ffff ffffffff 00000001 16 00 00 00 01 0a 68656c6c6f 00""",
    ),
    (
        {
            "values": [b"v", None],
            "keys": [b"k", None],
            "headers": [(("h", b"x"),), ()],
            "timestamps_ms": [NOW, NOW - 1],
            "base_offset": 66,
            "attributes": TRANSACTIONAL,
            "producer_id": 4711,
            "producer_epoch": 2,
            "base_sequence": 9,
        },
        """0000000000000042 00000045 ffffffff 02 f3351834 0010 00000001 0000018bcfe56800 0000018bcfe56800
        0000000000001267 0002 00000009 00000002 18 00 00 00 026b 0276 02 0268 0278 0c 00 01 02 01 01 00""",
    ),
]

COLUMNS = st.integers(1, 40).flatmap(
    lambda count: st.fixed_dictionaries(
        {
            "values": st.lists(st.none() | st.binary(max_size=30), min_size=count, max_size=count),
            "keys": st.none() | st.lists(st.none() | st.binary(max_size=10), min_size=count, max_size=count),
            "headers": st.none()
            | st.lists(
                st.lists(st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=4)), max_size=2).map(tuple),
                min_size=count,
                max_size=count,
            ),
            "timestamps_ms": st.integers(0, 2**45) | st.lists(st.integers(0, 2**45), min_size=count, max_size=count),
        }
    )
)
PRODUCERS = st.sampled_from([{}, {"producer_id": 9, "producer_epoch": 3, "base_sequence": 17}])


def rows_of(columns: dict[str, Any]) -> list[tuple[int, bytes | None, bytes | None, tuple[Any, ...]]]:
    """(timestamp, key, value, headers) of each record."""
    count = len(columns["values"])
    times = columns["timestamps_ms"]
    return list(
        zip(
            [times] * count if isinstance(times, int) else times,
            columns.get("keys") or [None] * count,
            columns["values"],
            columns.get("headers") or [()] * count,
            strict=True,
        )
    )


@pytest.mark.parametrize(("arguments", "encoded"), GOLDEN, ids=["one plain value", "every field"])
def test_a_batch_has_exactly_these_bytes(arguments: dict[str, Any], encoded: str) -> None:
    golden = bytes.fromhex(encoded)
    assert encode_batch(**arguments).hex() == golden.hex()
    batch = RecordBatch.at(golden)
    batch.check_crc()
    assert batch.header.crc == crc32c_portable(golden[CRC_START:])
    base = arguments.get("base_offset", 0)
    assert batch.records() == [Record(base + delta, *row) for delta, row in enumerate(rows_of(arguments))]


def test_every_header_field_stands_where_kafka_reads_it() -> None:
    fields = BatchHeader(
        base_offset=0x0102030405060708,
        batch_length=49,
        partition_leader_epoch=0x11121314,
        magic=2,
        crc=0xDEADBEEF,
        attributes=0x0078,
        last_offset_delta=0x21222324,
        base_timestamp=-0x0102030405060708,
        max_timestamp=0x3132333435363738,
        producer_id=0x4142434445464748,
        producer_epoch=0x5152,
        base_sequence=0x61626364,
        record_count=0x01020304,
    )
    data = HEADER.pack(*fields)
    assert data[:8] == bytes(range(1, 9)) and data[8:12] == b"\0\0\0\x31" and data[12:16] == b"\x11\x12\x13\x14"
    assert data[16] == 2 and data[17:21] == b"\xde\xad\xbe\xef" and data[21:23] == b"\0\x78"
    assert data[23:27] == b"\x21\x22\x23\x24" and data[35:43] == b"\x31\x32\x33\x34\x35\x36\x37\x38"
    assert data[43:51] == b"\x41\x42\x43\x44\x45\x46\x47\x48" and data[51:53] == b"\x51\x52"
    assert data[53:57] == b"\x61\x62\x63\x64" and data[57:61] == b"\1\2\3\4"
    header = read_header(b"xx" + data, 2)
    assert header == fields
    assert header.size == 61
    assert header.last_offset == fields.base_offset + fields.last_offset_delta == header.next_offset - 1
    assert header.has_append_time and header.is_transactional and header.is_control
    assert header.delete_horizon_ms == fields.base_timestamp
    assert header.compression is Compression.NONE


@pytest.mark.parametrize(
    ("bit", "name"),
    [(LOG_APPEND_TIME, "has_append_time"), (TRANSACTIONAL, "is_transactional"), (CONTROL, "is_control")],
)
def test_each_attribute_bit_says_one_thing(bit: int, name: str) -> None:
    header = RecordBatch.at(encode_batch([b"v"], timestamps_ms=NOW, attributes=bit)).header
    names = ("has_append_time", "is_transactional", "is_control")
    assert [other for other in names if getattr(header, other)] == [name]
    assert header.delete_horizon_ms is None


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_batch_of_any_compression_gives_its_records_back(compression: Compression) -> None:
    values = [b"value %d" % number for number in range(200)]
    batch = RecordBatch.at(encode_batch(values, timestamps_ms=NOW, compression=compression, base_offset=5))
    batch.check_crc()
    assert batch.header.compression is compression
    assert batch.columns().values() == values
    assert [record.offset for record in batch.records()] == list(range(5, 205))


def test_a_compacted_batch_has_holes_a_last_offset_and_a_delete_horizon() -> None:
    batch = RecordBatch.at(
        compacted_batch(
            [b"x", None],
            [2, 7],
            keys=[b"a", b"b"],
            timestamps_ms=[NOW, NOW + 5],
            last_offset_delta=9,
            base_timestamp=NOW + 1000,
            base_offset=100,
            leader_epoch=3,
            attributes=DELETE_HORIZON,
        )
    )
    assert batch.header.partition_leader_epoch == 3
    assert batch.header.next_offset == 110 and batch.header.record_count == 2
    assert batch.header.delete_horizon_ms == NOW + 1000
    assert [record[:2] for record in batch.records()] == [(102, NOW), (107, NOW + 5)]


def test_a_batch_that_compaction_emptied_keeps_its_offsets() -> None:
    batch = RecordBatch.at(compacted_batch([], [], timestamps_ms=[], last_offset_delta=4, base_offset=10))
    assert batch.header.next_offset == 15 and batch.records() == []


@pytest.mark.parametrize("timestamps", [NOW, []])
def test_a_batch_without_records_is_refused(timestamps: Any) -> None:
    with pytest.raises(InvalidRecord, match="needs a record"):
        encode_batch([], timestamps_ms=timestamps)


def test_what_zstd_shrinks_to_nothing_is_still_held_to_the_limit() -> None:
    value = bytes(DECOMPRESSED_SIZE_MAX - 100)
    stored = encode_batch([value], timestamps_ms=NOW, compression=Compression.ZSTD)
    assert len(stored) < 10_000 and RecordBatch.at(stored).records()[0].value == value
    with pytest.raises(RecordTooLarge):
        encode_batch([value, bytes(100)], timestamps_ms=NOW, compression=Compression.ZSTD)


# --------------------------------------------------------------------------------------------------------- wrong use


def test_columns_of_different_lengths_are_refused() -> None:
    for column in ({"keys": [b"k"]}, {"headers": [()] * 3}, {"timestamps_ms": [1]}):
        with pytest.raises(InvalidRecord, match="2 values came with"):
            encode_batch([b"a", b"b"], **{"timestamps_ms": NOW, **column})


@pytest.mark.parametrize("wrong", ["text", 5, array("I", [7]), object()])
def test_a_wrong_type_among_many_values_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRecord, match="encode it first"):
        encode_batch([b"ok"] * 100 + [wrong], timestamps_ms=NOW)
    with pytest.raises(InvalidRecord, match="encode it first"):
        encode_batch([b"ok"] * 2, keys=[b"k", wrong], timestamps_ms=NOW)


@pytest.mark.parametrize("values", ["text", b"bytes"])
def test_one_value_in_the_place_of_a_column_is_refused(values: Any) -> None:
    with pytest.raises(InvalidRecord, match="encode it first"):
        encode_batch(values, timestamps_ms=NOW)


@pytest.mark.parametrize("timestamps", [[1.5, 2], ["1", "2"], [None, 2], "12", 1.5, None])
def test_a_timestamp_that_is_no_integer_is_refused(timestamps: Any) -> None:
    with pytest.raises(InvalidRecord, match="timestamp"):
        encode_batch([b"a", b"b"], timestamps_ms=timestamps)


def test_timestamps_may_be_numpy_integers() -> None:
    plain = encode_batch([b"a", b"b"], timestamps_ms=[NOW, NOW + 5])
    assert encode_batch([b"a", b"b"], timestamps_ms=np.array([NOW, NOW + 5])) == plain  # type: ignore[arg-type]
    one = encode_batch([b"a"], timestamps_ms=np.int64(NOW))  # type: ignore[arg-type]
    assert one == encode_batch([b"a"], timestamps_ms=NOW)


@pytest.mark.parametrize("timestamps", [2**63, -(2**63) - 1, [0, 2**63], [2**63 - 1, -(2**63)]])
def test_timestamps_beyond_64_bits_are_refused(timestamps: Any) -> None:
    with pytest.raises(InvalidRecord):
        encode_batch([b"a", b"b"], timestamps_ms=timestamps)


@pytest.mark.parametrize("extreme", [2**63 - 1, -(2**63), 0, -1])
def test_timestamps_at_the_ends_of_64_bits_survive(extreme: int) -> None:
    assert RecordBatch.at(encode_batch([b"a"], timestamps_ms=extreme)).records()[0].timestamp_ms == extreme
    many = encode_batch([b"a"] * 50, timestamps_ms=[extreme] * 50)
    assert set(RecordBatch.at(many).columns().timestamps_ms.tolist()) == {extreme}


@pytest.mark.parametrize("field", [{"producer_id": 2**63}, {"producer_epoch": 2**15}, {"base_sequence": 2**31}])
def test_a_header_field_that_does_not_fit_is_refused(field: dict[str, int]) -> None:
    with pytest.raises(InvalidRecord, match="header"):
        encode_batch([b"a"], timestamps_ms=NOW, **field)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_values_and_the_batch_itself_may_be_any_buffer(kind: type) -> None:
    data = encode_batch([kind(b"value")] * 30, keys=[kind(b"key")] * 30, timestamps_ms=NOW)
    assert data == encode_batch([b"value"] * 30, keys=[b"key"] * 30, timestamps_ms=NOW)
    (batch,) = batches(kind(b"..." + data), 3)
    batch.check_crc()
    assert bytes(batch.data) == data and batch.columns().values() == [b"value"] * 30


# -------------------------------------------------------------------------------------------------------- bad bytes


def test_a_buffer_is_walked_batch_by_batch_and_ends_before_one_that_is_cut() -> None:
    pieces = [encode_batch([b"v" * size], timestamps_ms=NOW, base_offset=size) for size in range(5)]
    data = b"".join(pieces)
    ends = [sum(map(len, pieces[: count + 1])) for count in range(5)]
    for size in range(len(data) + 1):
        found = list(batches(data[:size]))
        assert [batch.header.base_offset for batch in found] == list(range(sum(end <= size for end in ends)))


@pytest.mark.parametrize(("magic", "name"), [(0, "v0"), (1, "v1")])
def test_old_message_formats_are_refused_by_name(magic: int, name: str) -> None:
    data = bytearray(encode_batch([b"v"], timestamps_ms=NOW))
    data[MAGIC_POSITION] = magic
    for size in (len(data), MAGIC_POSITION + 1, 34):  # a v0 message may be shorter than a v2 header
        with pytest.raises(UnsupportedMagic, match=f"message format {name}"):
            read_header(data[:size])
    with pytest.raises(UnsupportedMagic, match=name):
        list(batches(data))


@pytest.mark.parametrize("magic", [3, 127, 255])
def test_a_magic_that_never_was_is_corrupt_but_not_old(magic: int) -> None:
    data = bytearray(encode_batch([b"v"], timestamps_ms=NOW))
    data[MAGIC_POSITION] = magic
    with pytest.raises(CorruptBatch, match=f"magic is {magic}") as caught:
        read_header(data)
    assert not isinstance(caught.value, UnsupportedMagic)


@pytest.mark.parametrize(
    ("position", "layout", "number"),
    [
        (0, ">q", -1),
        (8, ">i", 48),
        (8, ">i", 0),
        (8, ">i", -1),
        (8, ">i", -(2**31)),
        (23, ">i", -1),
        (57, ">i", -1),
        (57, ">i", 2),
        (57, ">i", 2**31 - 1),
        (0, ">q", 2**63 - 1),  # with a last offset delta of 1: the next offset would not be one
    ],
)
def test_a_header_that_cannot_be_is_corrupt_at_its_position(position: int, layout: str, number: int) -> None:
    data = bytearray(encode_batch([b"v"], timestamps_ms=NOW))
    if number == 2**63 - 1:
        pack_into(">i", data, 23, 1)
    pack_into(layout, data, position, number)
    with pytest.raises(CorruptBatch) as caught:
        read_header(b"...." + data, 4)
    assert caught.value.position == 4


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_flipped_bit_that_the_crc_covers_is_caught(compression: Compression) -> None:
    data = encode_batch([b"some value", None], keys=[b"k", None], timestamps_ms=NOW, compression=compression)
    for position in range(8, len(data)):
        if PLACE.size - 4 <= position < PLACE.size:  # the leader epoch: outside, as in Kafka
            continue
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(CorruptBatch):
                RecordBatch.at(flipped).check_crc()


def test_a_codec_that_kafka_does_not_have_is_corrupt() -> None:
    for codec in (5, 6, 7):
        batch = RecordBatch.at(encode_batch([b"v"], timestamps_ms=NOW, attributes=codec))
        for use in (batch.records, batch.columns, batch.body, partial(recompress, batch, Compression.GZIP)):
            with pytest.raises(CorruptBatch, match=f"unknown compression {codec}"):
                use()


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_batches_or_corrupt(data: bytes) -> None:
    for piece in (data, data[:16] + b"\x02" + data[17:]):
        try:
            for batch in batches(piece):
                batch.check_crc()
                batch.records()
        except CorruptBatch:
            pass


@settings(max_examples=200)
@given(st.sampled_from(COMPRESSIONS), st.data())
def test_a_body_of_any_bytes_under_a_good_crc_is_records_or_corrupt(
    compression: Compression, data: st.DataObject
) -> None:
    good = bytearray(encode_batch([b"value"] * 30, timestamps_ms=NOW, compression=compression))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(HEADER_SIZE, len(good) - 1))] = data.draw(st.integers(0, 255))
    pack_into(">I", good, 17, crc32c_portable(good[CRC_START:]))
    batch = RecordBatch.at(good)
    batch.check_crc()
    try:
        records = batch.records()
    except CorruptBatch:
        return
    assert len(records) == 30


# ----------------------------------------------------------------------------------------------------------- oracles


def foreign_row(record: Any) -> tuple[Any, ...]:
    headers = tuple((name, None if value is None else bytes(value)) for name, value in record.headers)
    key = None if record.key is None else bytes(record.key)
    value = None if record.value is None else bytes(record.value)
    return (record.offset, record.timestamp, key, value, headers)


@pytest.mark.parametrize("reader", [AiokafkaRecords, KafkaPythonRecords], ids=["aiokafka", "kafka-python"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@settings(max_examples=25)
@given(columns=COLUMNS, producer=PRODUCERS)
def test_an_independent_reader_reads_what_we_write(
    reader: Any, compression: Compression, columns: dict[str, Any], producer: dict[str, int]
) -> None:
    attributes = TRANSACTIONAL if producer else 0
    data = encode_batch(**columns, compression=compression, base_offset=77, attributes=attributes, **producer)
    memory = reader(data)
    batch = memory.next_batch()
    assert memory.next_batch() is None
    assert batch.validate_crc()
    assert batch.base_offset == 77 and batch.next_offset == 77 + len(columns["values"])
    assert batch.is_transactional == bool(producer) and not batch.is_control_batch
    assert batch.producer_id == producer.get("producer_id", -1)
    assert batch.producer_epoch == producer.get("producer_epoch", -1)
    assert batch.base_sequence == producer.get("base_sequence", -1)
    expected = [(77 + delta, *row) for delta, row in enumerate(rows_of(columns))]
    assert [foreign_row(record) for record in batch] == expected


@pytest.mark.parametrize(
    "builder_class", [aiokafka_records.DefaultRecordBatchBuilder, KafkaPythonBuilder], ids=["aiokafka", "kafka-python"]
)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@settings(max_examples=25)
@given(columns=COLUMNS, producer=PRODUCERS)
def test_we_read_what_an_independent_writer_writes(
    builder_class: Any, compression: Compression, columns: dict[str, Any], producer: dict[str, int]
) -> None:
    builder = builder_class(
        magic=2,
        compression_type=int(compression),
        is_transactional=int(bool(producer)),
        producer_id=producer.get("producer_id", -1),
        producer_epoch=producer.get("producer_epoch", -1),
        base_sequence=producer.get("base_sequence", -1),
        batch_size=1 << 20,
    )
    rows = rows_of(columns)
    for delta, (timestamp, key, value, headers) in enumerate(rows):
        assert builder.append(delta, timestamp=timestamp, key=key, value=value, headers=list(headers)) is not None
    data = bytes(builder.build())
    (batch,) = batches(data)
    batch.check_crc()
    header = batch.header
    assert header.size == len(data)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (
        producer.get("producer_id", -1),
        producer.get("producer_epoch", -1),
        producer.get("base_sequence", -1),
    )
    assert header.is_transactional == bool(producer)
    expected = [Record(delta, *row) for delta, row in enumerate(rows)]
    assert batch.records() == expected
    assert batch.columns().records() == expected


@pytest.mark.parametrize("reader", [AiokafkaRecords, KafkaPythonRecords], ids=["aiokafka", "kafka-python"])
def test_an_independent_reader_sees_append_time_and_control_batches(reader: Any) -> None:
    stamped = restamp(RecordBatch.at(encode_batch([b"a", b"b"], timestamps_ms=[1, 2])), NOW)
    batch = reader(bytes(stamped.data)).next_batch()
    assert batch.timestamp_type == 1 and batch.validate_crc()
    assert [record.timestamp for record in batch] == [NOW, NOW]
    key, value = encode_marker(1, 3)
    marker = encode_batch(
        [value],
        keys=[key],
        timestamps_ms=NOW,
        attributes=CONTROL | TRANSACTIONAL,
        producer_id=1,
        producer_epoch=0,
    )
    batch = reader(marker).next_batch()
    assert batch.is_control_batch and batch.is_transactional and batch.validate_crc()


def test_errors_of_this_module_are_all_ours() -> None:
    assert issubclass(UnsupportedMagic, CorruptBatch) and issubclass(CorruptBatch, LogstoreError)
    assert issubclass(InvalidRecord, ValueError)


@pytest.mark.parametrize("values", [[b""], [b"v"], [b"v" * 5000], [b"a", b"", b"c" * 300] * 50])
def test_a_plain_batch_is_what_the_general_encoder_writes(values: list[bytes]) -> None:
    head, body = encode_plain(values, 1_700_000_000_000)
    assert encode_batch(values, timestamps_ms=1_700_000_000_000)[PLACE.size :] == head + body


@pytest.mark.parametrize("length", [0, 1, 56, 57, 58, 63, 64, 300, 8191, 8192, 20_000])
def test_a_lone_batch_is_what_the_general_encoder_writes(length: int) -> None:
    value = b"v" * length
    covered = LoneBatches(NOW)[length] + value + LONE_END
    head = BEFORE_COVERED.pack(0, len(covered) + UNFRAMED_SIZE, -1, 2, crc32c_portable(covered))
    assert head + covered == encode_batch([value], timestamps_ms=NOW)


@pytest.mark.parametrize("count", [15, 16, 17, 63, 64, 65, 100, 1023, 1024, 1025])
@pytest.mark.parametrize("length", [0, 55, 56, 57, 58, 63, 64, 1024, 5000])
def test_values_of_one_length_are_encoded_like_any(count: int, length: int) -> None:
    values = [bytes([number % 251]) * length for number in range(count)]
    general = encode_batch(values, timestamps_ms=[NOW] * count)
    assert encode_batch(values, timestamps_ms=NOW) == general


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
@pytest.mark.parametrize("offset", [0, 10, 11, 25, 39, 40])
def test_records_from_an_offset_are_those_at_and_behind_it(compression: Compression, offset: int) -> None:
    values = [b"%d" % number for number in range(30)]
    batch = RecordBatch.at(encode_batch(values, timestamps_ms=5, base_offset=10, compression=compression))
    assert list(batch.records_from(offset)) == [record for record in batch.records() if record.offset >= offset]


def test_records_from_an_offset_in_a_batch_with_holes() -> None:
    data = compacted_batch([b"a", b"b"], [2, 7], timestamps_ms=[5, 5], base_offset=10, last_offset_delta=9)
    batch = RecordBatch.at(data)
    assert [[record.offset for record in batch.records_from(offset)] for offset in (12, 13, 18)] == [[12, 17], [17], []]
