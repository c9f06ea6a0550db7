import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import CorruptBatch, InvalidRecord
from logstore.format.varint import (
    decode_unsigned_varint,
    decode_varint,
    encode_unsigned_varint,
    encode_varint,
)

SIGNED = [
    (0, "00"),
    (-1, "01"),
    (1, "02"),
    (63, "7e"),
    (-64, "7f"),
    (64, "8001"),
    (-65, "8101"),
    (150, "ac02"),
    (8191, "fe7f"),
    (-8192, "ff7f"),
    (8192, "808001"),
    (-8193, "818001"),
    (1048576, "80808001"),
    (2**31 - 1, "feffffff0f"),
    (-(2**31), "ffffffff0f"),
    (2**63 - 1, "feffffffffffffffff01"),
    (-(2**63), "ffffffffffffffffff01"),
]
UNSIGNED = [
    (0, "00"),
    (1, "01"),
    (127, "7f"),
    (128, "8001"),
    (300, "ac02"),
    (16383, "ff7f"),
    (16384, "808001"),
    (2**32 - 1, "ffffffff0f"),
    (2**64 - 1, "ffffffffffffffffff01"),
]


@pytest.mark.parametrize(("value", "encoded"), SIGNED)
def test_a_signed_value_has_exactly_these_bytes(value: int, encoded: str) -> None:
    golden = bytes.fromhex(encoded)
    assert encode_varint(value) == golden
    assert decode_varint(golden, 0) == (value, len(golden))


@pytest.mark.parametrize(("value", "encoded"), UNSIGNED)
def test_an_unsigned_value_has_exactly_these_bytes(value: int, encoded: str) -> None:
    golden = bytes.fromhex(encoded)
    assert encode_unsigned_varint(value) == golden
    assert decode_unsigned_varint(golden, 0) == (value, len(golden))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_values_are_read_one_after_the_other_from_any_buffer(kind: type) -> None:
    values = [value for value, _ in SIGNED]
    buffer = kind(b"\xff" + b"".join(encode_varint(value) for value in values))
    position = 1
    for value in values:
        decoded, position = decode_varint(buffer, position)
        assert decoded == value
    assert position == len(buffer)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64, 2**200, -(2**200)])
def test_a_signed_value_over_64_bits_is_refused(value: int) -> None:
    with pytest.raises(InvalidRecord, match=str(value)):
        encode_varint(value)


@pytest.mark.parametrize("value", [-1, -(2**64), 2**64, 2**200])
def test_an_unsigned_value_outside_64_bits_is_refused(value: int) -> None:
    with pytest.raises(InvalidRecord, match=str(value)):
        encode_unsigned_varint(value)


@pytest.mark.parametrize("encoded", [encoded for _, encoded in SIGNED])
def test_a_varint_that_is_cut_is_corrupt_at_its_position(encoded: str) -> None:
    golden = bytes.fromhex(encoded)
    for size in range(len(golden)):
        for decode in (decode_varint, decode_unsigned_varint):
            with pytest.raises(CorruptBatch) as caught:
                decode(b"\x00\x00" + golden[:size], 2)
            assert caught.value.position == 2


@pytest.mark.parametrize(
    "encoded", ["ffffffffffffffffff02", "ffffffffffffffffff7f", "80808080808080808002", "ff" * 10 + "01", "80" * 11]
)
def test_a_varint_over_64_bits_is_corrupt(encoded: str) -> None:
    for decode in (decode_varint, decode_unsigned_varint):
        with pytest.raises(CorruptBatch, match="longer than 64 bits"):
            decode(bytes.fromhex(encoded), 0)


def test_a_padded_varint_within_ten_bytes_is_read_as_kafka_reads_it() -> None:
    assert decode_unsigned_varint(bytes.fromhex("8100"), 0) == (1, 2)
    assert decode_varint(bytes.fromhex("82808080808080808000"), 0) == (1, 10)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_value_survives(value: int) -> None:
    encoded = encode_varint(value)
    assert decode_varint(encoded, 0) == (value, len(encoded))
    assert len(encoded) <= 10


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=12))
def test_any_bytes_are_a_64_bit_value_or_corrupt(data: bytes) -> None:
    try:
        value, position = decode_varint(data, 0)
    except CorruptBatch:
        return
    assert -(2**63) <= value < 2**63
    assert 0 < position <= min(len(data), 10)
