"""Whether a batch may be appended, and as what: a topic's settings applied to it. Pure: no files, no clock.

Whatever comes from elsewhere is looked at here before a byte of it is written, so that the log holds nothing that a
reader could not read.
"""

from logstore.config import TopicConfig
from logstore.errors import CorruptBatch, InvalidRecord, InvalidTimestamp, RecordTooLarge
from logstore.format.batch import COMPRESSION_MASK, CONTROL, HEADER_SIZE, LOG_APPEND_TIME, RecordBatch
from logstore.format.compression import Compression
from logstore.format.control_record import CONTROL_TYPES, decode_marker
from logstore.format.record_check import RecordFacts, check_records
from logstore.format.rewritten_batch import recompress, restamp
from logstore.settings import LONG_MAX, LONG_MIN

_STORED_AS = {"uncompressed": Compression.NONE} | {codec.name.lower(): codec for codec in Compression if codec}
_ERRORS_MAX = 1000  # of how many records a refusal names


def stores_as_sent(config: TopicConfig) -> bool:
    """Whether no setting changes, or looks into, batches with times of now."""
    return (
        config.compression_type == "producer" and config.message_timestamp_type == "CreateTime" and not config.compacts
    )


def admit(
    batch: RecordBatch, config: TopicConfig, now_ms: int, log: str, facts: RecordFacts | None = None
) -> RecordBatch:
    """The batch as it will be stored in ``log`` (its name). ``facts`` are those of its records, looked for here where
    they are not given and a setting asks for them. Raises InvalidRecord where the settings refuse it."""
    header = batch.header
    if header.attributes & CONTROL:
        return batch
    if config.compacts and (facts or _facts(batch)).has_null_key:
        raise _without_key(batch, log)
    if config.message_timestamp_type == "LogAppendTime":
        batch = restamp(batch, now_ms)
    elif (
        header.max_timestamp - now_ms > config.message_timestamp_after_max_ms
        or config.message_timestamp_before_max_ms < LONG_MAX
    ):
        _check_timestamps(batch, now_ms, config)
    if config.compression_type != "producer":
        batch = recompress(batch, _STORED_AS[config.compression_type])
    if batch.header.size > config.max_message_bytes:
        raise RecordTooLarge(batch.header.size, config.max_message_bytes)
    return batch


def check_sent(batch: RecordBatch) -> RecordFacts:
    """What ``admit`` asks of a batch that somebody else encoded. Raises CorruptBatch for a wrong CRC, and for records
    that cannot be read or are not what the header says; InvalidRecord for a control batch that is no marker."""
    batch.check_crc()
    header = batch.header
    if header.record_count != header.last_offset_delta + 1:
        raise CorruptBatch(f"the records do not fill offsets 0 to {header.last_offset_delta}", batch.position)
    facts = _facts(batch)
    if not header.attributes & LOG_APPEND_TIME:
        if header.base_timestamp + facts.newest_delta_ms > header.max_timestamp:
            raise CorruptBatch(
                f"a record is newer than the batch's largest timestamp {header.max_timestamp}", batch.position
            )
        if header.base_timestamp + facts.oldest_delta_ms < LONG_MIN:
            raise CorruptBatch("a record's timestamp does not fit 64 bits", batch.position)
    if header.attributes & CONTROL:
        _check_marker(batch)
    return facts


def _facts(batch: RecordBatch) -> RecordFacts:
    """Raises CorruptBatch where the records cannot be read, or do not count up their offsets."""
    header, position = batch.header, batch.position
    if header.attributes & COMPRESSION_MASK:
        body = batch.body()
        return check_records(body, 0, len(body), header.record_count)
    return check_records(batch.buffer, position + HEADER_SIZE, position + header.size, header.record_count)


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
    """Raises InvalidTimestamp where one is further from now than the settings allow."""
    times = batch.columns().timestamps_ms
    limits = (
        ("message.timestamp.after.max.ms", config.message_timestamp_after_max_ms, "future", times - now_ms),
        ("message.timestamp.before.max.ms", config.message_timestamp_before_max_ms, "past", now_ms - times),
    )
    for setting, limit, where, distances in limits:
        wrong = (distances > limit).nonzero()[0][:_ERRORS_MAX].tolist()
        if wrong:
            reasons = [
                f"timestamp {times[i]} is {distances[i]} ms in the {where}; the limit is {setting}={limit}" for i in wrong
            ]
            raise InvalidTimestamp(reasons[0], tuple(zip(wrong, reasons)))


def _without_key(batch: RecordBatch, log: str) -> InvalidRecord:
    reason = f"{log}: a record without a key cannot be in a topic that is compacted by key"
    wrong = (batch.columns().key_lengths < 0).nonzero()[0][:_ERRORS_MAX].tolist()
    return InvalidRecord(reason, tuple((index, reason) for index in wrong))
