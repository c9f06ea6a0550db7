"""Whether a batch may be appended, and as what: a topic's settings applied to it. Pure: no files, no clock.

Whatever comes from elsewhere is looked at here before a byte of it is written, so that the log holds nothing that a
reader could not read.
"""

import numpy as np

from logstore.config import TopicConfig
from logstore.errors import CorruptBatch, InvalidRecord, InvalidTimestamp, RecordTooLarge
from logstore.format.batch import RecordBatch
from logstore.format.compression import Compression
from logstore.format.control_record import CONTROL_TYPES, decode_marker
from logstore.format.rewritten_batch import recompress, restamp
from logstore.settings import LONG_MAX

_STORED_AS = {"uncompressed": Compression.NONE} | {codec.name.lower(): codec for codec in Compression if codec}


def stores_as_sent(config: TopicConfig) -> bool:
    """Whether no setting changes, or looks into, batches with times of now."""
    return (
        config.compression_type == "producer" and config.message_timestamp_type == "CreateTime" and not config.compacts
    )


def admit(batch: RecordBatch, config: TopicConfig, now_ms: int, log: str, *, is_keyed: bool = False) -> RecordBatch:
    """The batch as it will be stored in ``log`` (its name); ``is_keyed``: every record is known to have a key. Raises
    InvalidRecord where the settings refuse it."""
    if batch.header.is_control:
        return batch
    if config.message_timestamp_type == "LogAppendTime":
        batch = restamp(batch, now_ms)
    else:
        _check_timestamps(batch, now_ms, config)
    if config.compacts and not is_keyed and (batch.columns().key_lengths < 0).any():
        raise InvalidRecord(f"{log}: a record without a key cannot be in a topic that is compacted by key")
    if config.compression_type != "producer":
        batch = recompress(batch, _STORED_AS[config.compression_type])
    if batch.header.size > config.max_message_bytes:
        raise RecordTooLarge(batch.header.size, config.max_message_bytes)
    return batch


def check_sent(batch: RecordBatch) -> None:
    """Raises CorruptBatch for a wrong CRC, and for records that cannot be read or are not what the header says;
    InvalidRecord for a control batch that is no marker."""
    batch.check_crc()
    header, columns = batch.header, batch.columns()
    columns.headers()
    if header.record_count != header.last_offset_delta + 1 or not np.array_equal(
        columns.offsets - header.base_offset, np.arange(header.last_offset_delta + 1)
    ):
        raise CorruptBatch(f"the records do not fill offsets 0 to {header.last_offset_delta}", batch.position)
    if columns.timestamps_ms.max() > header.max_timestamp:
        raise CorruptBatch(
            f"a record is newer than the batch's largest timestamp {header.max_timestamp}", batch.position
        )
    if header.is_control:
        _check_marker(batch)


def _check_marker(batch: RecordBatch) -> None:
    """Raises InvalidRecord for a control batch that is no transaction marker."""
    header = batch.header
    try:
        is_marker = decode_marker(batch.records()[0])[0] in CONTROL_TYPES
    except CorruptBatch:
        is_marker = False
    if not (is_marker and header.record_count == 1 and header.is_transactional and header.producer_id >= 0):
        raise InvalidRecord("a control batch is one transaction marker of a producer with an id, and this is none")


def _check_timestamps(batch: RecordBatch, now_ms: int, config: TopicConfig) -> None:
    header = batch.header
    if header.max_timestamp - now_ms > config.message_timestamp_after_max_ms:
        raise InvalidTimestamp(
            f"timestamp {header.max_timestamp} is {header.max_timestamp - now_ms} ms in the future; the limit is "
            f"message.timestamp.after.max.ms={config.message_timestamp_after_max_ms}"
        )
    if config.message_timestamp_before_max_ms < LONG_MAX:
        oldest = int(batch.columns().timestamps_ms.min())
        if now_ms - oldest > config.message_timestamp_before_max_ms:
            raise InvalidTimestamp(
                f"timestamp {oldest} is {now_ms - oldest} ms in the past; the limit is "
                f"message.timestamp.before.max.ms={config.message_timestamp_before_max_ms}"
            )
