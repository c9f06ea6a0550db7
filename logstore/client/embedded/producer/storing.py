"""Batches of a producer into the logs of a directory, and what becomes of each.

Batches of a partition go in by the order in which they are given. With acks=all all of them are appended first, then
each log is synced once, which covers what others have appended meanwhile too.
"""

import logging
from collections.abc import Iterator, Sequence

from logstore.client.embedded.producer.accumulator import Batch, Outgoing, Stretch
from logstore.config import ProducerConfig
from logstore.errors import InvalidRecord, LogstoreError, TimedOut, UnknownTopic
from logstore.format.compression import Compression
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from logstore.storage.log_writer import Appended
from logstore.storage.partition import PartitionLog

logger = logging.getLogger("logstore.client")

_NO_KEYS = {type(None)}


class Storing:
    """See the module."""

    def __init__(self, data_dir: DataDir, config: ProducerConfig) -> None:
        self._data_dir = data_dir
        self._compression = Compression.parse(config.compression_type)
        self._syncs = config.acks in ("all", "-1")
        self._timeout_ms = config.delivery_timeout_ms

        self.late: TimedOut | None = None
        """Once set, no batch is begun any more: this is what its records fail with."""

    def store(self, batches: Sequence[Batch], now_ms: int) -> Iterator[tuple[Batch, list[Stretch]]]:
        """Each batch with what became of it, as soon as that is certain. Nothing is raised: it is in there."""
        appended: list[tuple[Batch, PartitionLog, int, list[Stretch]]] = []
        for batch in batches:
            if not batch.records:
                yield batch, []
                continue
            try:
                self._check_age(batch, now_ms)
                log = self._log(batch)
                stretches = _append(log, batch.records, self._compression)
                end_offset = log.log_end_offset
            except Exception as error:  # noqa: BLE001  # whatever it is, the batch's futures tell it
                yield batch, [_failure(batch, error)]
                continue
            if self._syncs:
                appended.append((batch, log, end_offset, stretches))
            else:
                yield batch, stretches
        failures: dict[PartitionLog, Exception | None] = {}
        for batch, log, end_offset, stretches in appended:
            if log not in failures:
                failures[log] = _sync(log)
            failure = None if log.synced_offset >= end_offset else failures[log]  # it may be of what came later
            yield batch, [_synced(stretch, failure) for stretch in stretches]

    def _check_age(self, batch: Batch, now_ms: int) -> None:
        if self.late is not None:
            raise self.late
        if now_ms - batch.since_ms >= self._timeout_ms:
            what = f"storing a record in {batch.route.topic}-{batch.partition}"
            raise TimedOut(what, self._timeout_ms / 1000, "it is not in the log; see delivery.timeout.ms")

    def _log(self, batch: Batch) -> PartitionLog:
        """Of the topic that the records were sent to, not of a later one of its name."""
        topic = batch.route.topic
        log = self._data_dir.log(topic, batch.partition)
        if self._data_dir.topic(topic).topic_id != batch.route.topic_id:
            raise UnknownTopic(topic)
        return log


def _append(
    log: PartitionLog, records: Sequence[Outgoing], compression: Compression, first_index: int = 0
) -> list[Stretch]:
    """Append as few batches as it takes: where the log refuses one for what is in it, nothing of it was appended, and
    its halves are tried, down to the records that are to blame."""
    values, keys, headers, timestamps_ms, _ = zip(*records, strict=True)
    first_ms = timestamps_ms[0]
    try:
        appended = log.append(
            values,
            keys=None if set(map(type, keys)) == _NO_KEYS else keys,
            headers=headers if any(headers) else None,
            timestamps_ms=first_ms if timestamps_ms.count(first_ms) == len(timestamps_ms) else timestamps_ms,
            compression=compression,
        )
    except InvalidRecord as error:
        if len(records) == 1:
            return [Stretch(first_index, error)]
        middle = len(records) // 2
        return [
            *_append(log, records[:middle], compression, first_index),
            *_append(log, records[middle:], compression, first_index + middle),
        ]
    except LogstoreError as error:
        return [Stretch(first_index, error)]
    return [_stretch(log, appended, first_index)]


def _stretch(log: PartitionLog, appended: Appended, first_index: int) -> Stretch:
    is_restamped = log.config.message_timestamp_type == "LogAppendTime"
    timestamp_ms = appended.timestamp_ms if is_restamped else None
    return Stretch(first_index, None, appended.base_offset, appended.durability, timestamp_ms)


def _sync(log: PartitionLog) -> Exception | None:
    try:
        log.flush()
    except Exception as error:  # noqa: BLE001  # told by the futures
        return error
    return None


def _synced(stretch: Stretch, failure: Exception | None) -> Stretch:
    """What became of it, now that the log was synced, or was not."""
    if stretch.error is not None:
        return stretch
    if failure is not None:
        return Stretch(stretch.first_index, failure)
    return stretch._replace(durability=Durability.FSYNC)


def _failure(batch: Batch, error: Exception) -> Stretch:
    if not isinstance(error, LogstoreError):
        logger.error("%s-%d: sending failed", batch.route.topic, batch.partition, exc_info=error)
    return Stretch(0, error)
