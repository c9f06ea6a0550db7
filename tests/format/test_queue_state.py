"""A queue's notes: every record there and back, by hand-made bytes, and what is refused."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.errors import CorruptBatch, InvalidRecord
from logstore.format.queue_state import (
    Buried,
    Delivered,
    Event,
    Outcome,
    PendingMessage,
    Replaying,
    Returned,
    SettingsChanged,
    Settled,
    Snapshot,
    decode_event,
    encode_delivered,
    encode_event,
    encode_settled,
)

TOPIC_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
ID_HEX = "00112233445566778899aabbccddeeff"

CASES: list[tuple[Event, str]] = [
    (Delivered(1, 2, 3), "01 0000000000000001 0000000000000002 00000003"),
    (Settled(5, 2**40, Outcome.ACKED), "02 0000000000000005 0000010000000000 00"),
    (Settled(0, 0, Outcome.LOST), "02 0000000000000000 0000000000000000 02"),
    (Returned(7, 1_700_000_000_000), "03 0000000000000007 0000018bcfe56800"),
    (Buried(8, 9), "04 0000000000000008 0000000000000009"),
    (Replaying(-1), "05 ffffffffffffffff"),
    (SettingsChanged(TOPIC_ID, {"ordered": "true"}), f"06 {ID_HEX} {b'ordered=true'.hex()} 0a"),
    (
        Snapshot(TOPIC_ID, 10, 2, -1, {"ttl.ms": "5"}, ((3, 4),), (PendingMessage(6, 1, 0), PendingMessage(8, 0, 99))),
        (
            f"07 {ID_HEX} 000000000000000a 0000000000000002 ffffffffffffffff 00000009 {b'ttl.ms=5'.hex()} 0a"
            "00000001 0000000000000003 0000000000000004"
            "00000002 0000000000000006 00000001 0000000000000000 0000000000000008 00000000 0000000000000063"
        ),
    ),
    (Snapshot(TOPIC_ID, 0, 0, -1, {}, (), ()), f"07 {ID_HEX} {'00' * 16} ffffffffffffffff 00000000 00000000 00000000"),
]


@pytest.mark.parametrize(("event", "octets"), CASES)
def test_a_record_has_these_bytes_and_comes_back_from_them(event: Event, octets: str) -> None:
    data = bytes.fromhex(octets)
    assert encode_event(event) == data
    assert decode_event(data) == event
    assert decode_event(memoryview(data)) == event


def test_the_short_ways_give_the_same_bytes() -> None:
    assert encode_delivered(1, 2, 3) == encode_event(Delivered(1, 2, 3))
    assert encode_settled(4, 5) == encode_event(Settled(4, 5, Outcome.ACKED))
    assert encode_settled(4, 5, Outcome.PURGED) == encode_event(Settled(4, 5, Outcome.PURGED))


@pytest.mark.parametrize(("event", "octets"), CASES)
def test_a_record_that_is_cut_short_or_followed_by_something_is_refused(event: Event, octets: str) -> None:
    data = bytes.fromhex(octets)
    lengths = range(17) if isinstance(event, SettingsChanged) else range(len(data))
    for length in lengths:
        with pytest.raises(CorruptBatch):
            decode_event(data[:length])
    with pytest.raises(CorruptBatch):
        decode_event(data + b"x")


@given(st.binary(max_size=100))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        event = decode_event(data)
    except CorruptBatch:
        return
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize("octets", ["02 0000000000000000 0000000000000000 09", f"06 {ID_HEX} ff", f"06 {ID_HEX} 6162"])
def test_what_cannot_be_is_refused(octets: str) -> None:
    with pytest.raises(CorruptBatch):
        decode_event(bytes.fromhex(octets))


def test_settings_that_a_line_cannot_hold_are_refused() -> None:
    with pytest.raises(InvalidRecord):
        encode_event(SettingsChanged(TOPIC_ID, {"a": "b\nc"}))
