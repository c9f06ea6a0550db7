"""Control records: transaction markers in both directions, and what is none."""

import pytest

from logstore.errors import CorruptBatch
from logstore.format.control_record import control_type, decode_marker, encode_marker
from logstore.format.record import Record


@pytest.mark.parametrize(("control_type", "epoch"), [(0, 0), (1, 7), (1, 2**31 - 1)])
def test_a_transaction_marker_survives(control_type: int, epoch: int) -> None:
    key, value = encode_marker(control_type, epoch)
    assert (key, len(value)) == (bytes([0, 0, 0, control_type]), 6)
    assert decode_marker(Record(0, 0, key, value)) == (control_type, epoch)


@pytest.mark.parametrize(
    ("key", "value"), [(None, b"123456"), (b"\0\0\0\1", None), (b"123", b"123456"), (b"\0\0\0\1", b"12345")]
)
def test_a_marker_that_is_too_short_is_corrupt(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(CorruptBatch):
        decode_marker(Record(0, 0, key, value))
    with pytest.raises(CorruptBatch):
        control_type(Record(0, 0, key, value))


def test_a_control_record_is_an_abort_a_commit_or_not_for_transactions() -> None:
    assert [control_type(Record(0, 0, *encode_marker(number, 7))) for number in range(-1, 4)] == [
        *(None, "ABORT", "COMMIT", None, None)
    ]
    assert control_type(Record(0, 0, b"\0\0\0\2", None)) is None  # Kafka's own say what they like
