"""A batch made anew from one that there is: another body, timestamp or compression, and all else as it was.

What changes is covered by the CRC, which is made anew too. Offsets, leader epoch, producer and sequence stay.
"""

from logstore.format.batch import (
    COMPRESSION_MASK,
    HEADER_SIZE,
    LOG_APPEND_TIME,
    BatchHeader,
    RecordBatch,
    assemble_batch,
)
from logstore.format.compression import Compression, compress


def reassemble(
    header: BatchHeader, body: bytes, *, attributes: int, base_timestamp: int, max_timestamp: int, record_count: int
) -> bytes:
    """A batch around another body that keeps what else ``header`` says: offsets, leader epoch, producer, sequence.
    ``body`` is compressed as ``attributes`` says. Raises InvalidRecord."""
    return assemble_batch(
        body,
        base_offset=header.base_offset,
        partition_leader_epoch=header.partition_leader_epoch,
        attributes=attributes,
        last_offset_delta=header.last_offset_delta,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        record_count=record_count,
    )


def restamp(batch: RecordBatch, append_time_ms: int) -> RecordBatch:
    """The batch with the log's append time as the timestamp of all its records, which stay untouched."""
    header = batch.header
    return RecordBatch.at(
        reassemble(
            header,
            bytes(batch.data[HEADER_SIZE:]),
            attributes=header.attributes | LOG_APPEND_TIME,
            base_timestamp=header.base_timestamp,
            max_timestamp=append_time_ms,
            record_count=header.record_count,
        )
    )


def recompress(batch: RecordBatch, compression: Compression, level: int | None = None) -> RecordBatch:
    """The batch with its records compressed as asked; itself where they are, at whatever level. Raises CorruptBatch,
    RecordTooLarge."""
    header = batch.header
    if header.compression is compression:
        return batch
    return RecordBatch.at(
        reassemble(
            header,
            compress(compression, batch.body(), level),
            attributes=header.attributes & ~COMPRESSION_MASK | compression,
            base_timestamp=header.base_timestamp,
            max_timestamp=header.max_timestamp,
            record_count=header.record_count,
        )
    )
