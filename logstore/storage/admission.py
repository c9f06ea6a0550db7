"""Whether a batch may be appended, and as what: a topic's settings applied to it. Pure: no files, no clock.

Whatever comes from elsewhere is looked at here before a byte of it is written, so that the log holds nothing that a
reader could not read.
"""

from logstore.config import TopicConfig
from logstore.errors import CorruptBatch, InvalidRecord, InvalidTimestamp, RecordTooLarge
from logstore.format.batch import COMPRESSION_MASK, CONTROL, FRAME_SIZE, HEADER_SIZE, LOG_APPEND_TIME, RecordBatch
from logstore.format.compression import Compression
from logstore.format.control_record import CONTROL_TYPES, decode_marker
from logstore.format.record_check import RecordFacts, check_records
from logstore.format.rewritten_batch import recompress, restamp
from logstore.settings import LONG_MAX

_STORED_AS = {"uncompressed": Compression.NONE} | {codec.name.lower(): codec for codec in Compression if codec}
_ERRORS_MAX = 1000  # of how many records a refusal names


def stores_as_sent(config: TopicConfig) -> bool:
    """Whether no setting changes, or looks into, batches with times of now."""
    return (
        config.compression_type == "producer" and config.message_timestamp_type == "CreateTime" and not config.compacts
    )


def admit(
    batch: RecordBatch,
    config: TopicConfig,
    now_ms: int,
    log: str,
    facts: RecordFacts | None = None,
    *,
    is_keyed: bool = False,
) -> RecordBatch:
    """The batch as it will be stored in ``log`` (its name). ``facts``: of its records, where they are known already;
    ``is_keyed``: every record is known to have a key. Raises InvalidRecord where the settings refuse it."""
    header = batch.header
    if header.attributes & CONTROL:
        return batch
    if config.compacts and not is_keyed and (facts or _facts(batch)).has_null_key:
        raise _without_key(batch, log)
    if config.message_timestamp_type == "LogAppendTime":
        batch = restamp(batch, now_ms)
    elif (
        header.max_timestamp - now_ms > config.message_timestamp_after_max_ms
        or config.message_timestamp_before_max_ms < LONG_MAX
    ):
        _check_timestamps(batch, now_ms, config)
    if config.compression_type != "producer":
        batch = recompress(batch, _STORED_AS[config.compression_type], config.compression_level)
    if batch.header.batch_length > config.max_message_bytes - FRAME_SIZE:
        raise RecordTooLarge(batch.header.size, config.max_message_bytes)
    return batch


def check_sent(batch: RecordBatch) -> RecordFacts:
    """What ``admit`` asks of a batch that somebody else encoded. Raises CorruptBatch for a wrong CRC, and for records
    that cannot be read or are not what the header says; InvalidRecord for a control batch that is no marker."""
    batch.check_crc()
    header, position, _ = batch
    if header.record_count != header.last_offset_delta + 1:
        raise CorruptBatch(f"the records do not fill offsets 0 to {header.last_offset_delta}", position)
    facts = _facts(batch)
    if not header.attributes & LOG_APPEND_TIME:
        if header.base_timestamp + facts.newest_delta_ms > header.max_timestamp:
            raise CorruptBatch(f"a record is newer than the batch's largest timestamp {header.max_timestamp}", position)
        if header.base_timestamp + facts.oldest_delta_ms < -LONG_MAX - 1:
            raise CorruptBatch("a record's timestamp does not fit 64 bits", position)
    if header.attributes & CONTROL:
        _check_marker(batch)
    return facts


def _facts(batch: RecordBatch) -> RecordFacts:
    """Raises CorruptBatch where the records cannot be read, or do not count up their offsets."""
    header, position, buffer = batch
    if header.attributes & COMPRESSION_MASK:
        body = batch.body()
        return check_records(body, 0, len(body), header.record_count)
    end = position + header.batch_length + FRAME_SIZE
    return check_records(buffer, position + HEADER_SIZE, end, header.record_count)


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
    after_max_ms, before_max_ms = config.message_timestamp_after_max_ms, config.message_timestamp_before_max_ms
    wrong = (times > min(now_ms + after_max_ms, LONG_MAX)) | (times < max(now_ms - before_max_ms, -LONG_MAX))
    reasons = []
    for index in wrong.nonzero()[0][:_ERRORS_MAX].tolist():
        timestamp = int(times[index])
        if timestamp > now_ms:
            limit = f"message.timestamp.after.max.ms={after_max_ms}"
            reason = f"timestamp {timestamp} is {timestamp - now_ms} ms in the future; the limit is {limit}"
        else:
            limit = f"message.timestamp.before.max.ms={before_max_ms}"
            reason = f"timestamp {timestamp} is {now_ms - timestamp} ms in the past; the limit is {limit}"
        reasons.append((index, reason))
    if reasons:
        raise InvalidTimestamp(reasons[0][1], tuple(reasons))


def _without_key(batch: RecordBatch, log: str) -> InvalidRecord:
    reason = f"{log}: a record without a key cannot be in a topic that is compacted by key"
    wrong = (batch.columns().key_lengths < 0).nonzero()[0][:_ERRORS_MAX].tolist()
    return InvalidRecord(reason, tuple((index, reason) for index in wrong))
