"""Batches made anew: what changes, what stays, and what is refused."""

import pytest

from logstore.errors import RecordTooLarge
from logstore.format.batch import HEADER_SIZE, TRANSACTIONAL, BatchHeader, RecordBatch, encode_batch
from logstore.format.compression import Compression
from logstore.format.rewritten_batch import recompress, restamp

COMPRESSIONS = list(Compression)
COMPRESSORS = [compression for compression in COMPRESSIONS if compression]
NOW = 1_700_000_000_000


def test_the_log_append_time_stands_for_all_records() -> None:
    batch = RecordBatch.at(encode_batch([b"a", b"b"], timestamps_ms=[5, 9], base_offset=3))
    stamped = restamp(batch, NOW)
    stamped.check_crc()
    assert stamped.header.has_append_time and stamped.header.max_timestamp == NOW
    assert [record[:2] for record in stamped.records()] == [(3, NOW), (4, NOW)]
    assert stamped.columns().timestamps_ms.tolist() == [NOW, NOW]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_restamping_a_compressed_batch_keeps_its_records(compression: Compression) -> None:
    stamped = restamp(RecordBatch.at(encode_batch([b"a"] * 99, timestamps_ms=5, compression=compression)), NOW)
    stamped.check_crc()
    assert stamped.header.compression is compression
    assert {record[1:4] for record in stamped.records()} == {(NOW, None, b"a")}


@pytest.mark.parametrize("source", COMPRESSIONS)
@pytest.mark.parametrize("target", COMPRESSIONS)
def test_a_batch_can_be_recompressed_and_keeps_the_rest(source: Compression, target: Compression) -> None:
    batch = RecordBatch.at(
        encode_batch(
            [b"one", None, b"three"],
            keys=[b"a", b"b", None],
            timestamps_ms=[3, 2, 1],
            compression=source,
            base_offset=8,
            attributes=TRANSACTIONAL,
            producer_id=5,
            producer_epoch=1,
            base_sequence=0,
        )
    )
    changed = recompress(batch, target)
    changed.check_crc()
    assert changed.header.compression is target
    assert changed.records() == batch.records()
    different = ("crc", "batch_length", "attributes")
    kept = [name for name in BatchHeader._fields if name not in different]
    assert [getattr(changed.header, name) for name in kept] == [getattr(batch.header, name) for name in kept]
    assert changed.header.is_transactional


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_records_that_could_not_be_decompressed_again_are_not_compressed(
    compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = RecordBatch.at(encode_batch([b"v" * 3000], timestamps_ms=NOW))
    size = plain.header.size - HEADER_SIZE
    monkeypatch.setattr("logstore.format.compression.DECOMPRESSED_SIZE_MAX", size)
    for batch in (
        recompress(plain, compression),
        RecordBatch.at(encode_batch([b"v" * 3000], timestamps_ms=NOW, compression=compression)),
    ):
        assert batch.header.size < 1000 and batch.records() == plain.records()
    monkeypatch.setattr("logstore.format.compression.DECOMPRESSED_SIZE_MAX", size - 1)
    with pytest.raises(RecordTooLarge, match=f"{size} bytes of records are over the limit of {size - 1}"):
        encode_batch([b"v" * 3000], timestamps_ms=NOW, compression=compression)
    with pytest.raises(RecordTooLarge, match=f"{size} bytes of records are over the limit of {size - 1}"):
        recompress(plain, compression)
    assert recompress(plain, Compression.NONE) is plain
