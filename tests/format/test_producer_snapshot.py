from pathlib import Path
from struct import pack, pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import CorruptSnapshot
from logstore.format.checksum import crc32c_portable
from logstore.format.producer_snapshot import ProducerSnapshotEntry, decode, encode

KAFKA = Path(__file__).parent.parent / "data" / "kafka-4.1.1" / "00000000000000001236.snapshot"
KAFKA_ENTRIES = [
    ProducerSnapshotEntry(
        producer_id=4000,
        producer_epoch=3,
        last_sequence=41,
        last_offset=1234,
        offset_delta=9,
        timestamp=1_700_000_000_123,
        coordinator_epoch=12,
        current_txn_first_offset=900,
    ),
    ProducerSnapshotEntry(4001, 0, 0, 1235, 0, 1_700_000_000_456, -1, -1),
]
GOLDEN = [
    (KAFKA_ENTRIES, KAFKA.read_bytes()),
    ([], bytes.fromhex("0001" "48674bc7" "00000000")),
    (
        [ProducerSnapshotEntry(1, 2, 3, 4, 5, 6, 7, 8)],
        bytes.fromhex("0001")
        + pack(">I", crc32c_portable(rows := bytes.fromhex(
            "00000001" "0000000000000001" "0002" "00000003" "0000000000000004"
            "00000005" "0000000000000006" "00000007" "0000000000000008"
        )))
        + rows,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "golden"), GOLDEN, ids=["kafka's", "none", "one"])
def test_a_snapshot_has_exactly_these_bytes(entries: list[ProducerSnapshotEntry], golden: bytes) -> None:
    assert encode(entries) == golden
    for kind in (bytes, bytearray, memoryview):
        assert decode(kind(golden)) == entries


def test_every_flipped_bit_is_noticed() -> None:
    golden = KAFKA.read_bytes()
    for bit in range(len(golden) * 8):
        damaged = bytearray(golden)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptSnapshot):
            decode(damaged)


def test_a_snapshot_that_is_cut_or_goes_on_is_corrupt() -> None:
    golden = KAFKA.read_bytes()
    for size in range(len(golden)):
        with pytest.raises(CorruptSnapshot):
            decode(golden[:size])
    with pytest.raises(CorruptSnapshot):
        decode(golden + b"\0")


@pytest.mark.parametrize("version", [-1, 0, 2])
def test_another_version_is_refused(version: int) -> None:
    data = bytearray(KAFKA.read_bytes())
    pack_into(">h", data, 0, version)
    with pytest.raises(CorruptSnapshot, match=f"version {version}"):
        decode(data)


@pytest.mark.parametrize("count", [-1, 1, 3, 2**31 - 1])
def test_a_count_that_does_not_fit_is_corrupt_though_the_crc_holds(count: int) -> None:
    covered = pack(">i", count) + KAFKA.read_bytes()[10:]
    with pytest.raises(CorruptSnapshot, match=f"{count} entries"):
        decode(pack(">hI", 1, crc32c_portable(covered)) + covered)


def signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


ENTRIES = st.builds(
    ProducerSnapshotEntry,
    signed(64),
    signed(16),
    signed(32),
    signed(64),
    signed(32),
    signed(64),
    signed(32),
    signed(64),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(ENTRIES, max_size=5))
def test_every_entry_comes_back(entries: list[ProducerSnapshotEntry]) -> None:
    assert decode(encode(entries)) == entries


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_entries_or_corrupt(data: bytes, mend: bool) -> None:
    if mend:  # past the version and the CRC
        data = pack(">hI", 1, crc32c_portable(data)) + data
    try:
        entries = decode(data)
    except CorruptSnapshot:
        return
    assert encode(entries) == data
