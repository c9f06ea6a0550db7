"""A Kafka cluster as the source or the target of a copy.

What is sent is stored in order and without a hole, whatever fails (librdkafka's enable.gapless.guarantee): so after any
end of the copier the target has some first ones of the records, and no others.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from logstore.client.consumer import ConsumerRecord
from logstore.client.copying.directory import record_size
from logstore.client.copying.ends import (
    NOTES_TOPIC,
    Bounds,
    Piece,
    Source,
    SourceGroups,
    Target,
    TargetGroups,
    Writer,
    show,
)
from logstore.client.producer import Producer, Receipt
from logstore.config import TopicConfig
from logstore.errors import ClusterFailure, CopyRefused, InvalidTimestamp, NoCommittedOffset, OffsetOutOfRange, TimedOut
from logstore.format.compression import Compression
from logstore.format.filename import TopicPartition
from logstore.format.record import Record
from logstore.groups.requests import GroupDescription, OffsetAndMetadata
from logstore.settings import INT_MAX
from logstore.storage.topics import TopicDescription

if TYPE_CHECKING:
    from logstore.client.kafka.cluster import Cluster
    from logstore.client.kafka.consumer import ClusterConsumer
    from logstore.client.kafka.groups import ClusterGroups

Result = TypeVar("Result")

_POLL_S = 0.5
_PATIENCE_S = 60.0
_STORING_S = 120.0
_RETRY_S = 0.1
_PASSING = ("COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR")
_POLL_COUNT = 5_000
_SYNC_SIZE = 8 << 20
_UNSYNCED_COUNT_MAX = 20_000
_BATCH_SIZE = 256 << 10
_REQUEST_SIZE_MAX = 1_000_000_000
_SETTLING_S = 1.0
# It holds with one request at a time, while no record times out by itself, and once the broker knows the producer: of
# one that it has never heard of it takes any sequence, also the one behind a batch that it has refused.
_GAPLESS: dict[str, Any] = {"enable.gapless.guarantee": True}
# Settings that a directory's topics have and a cluster's do not.
_OURS_ONLY = frozenset({"consumed.groups", "unconsumed.retention.ms"})


class ClusterSource(Source):
    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._consumer: ClusterConsumer | None = None
        self.name = f"cluster {cluster.address}"

    def topics(self) -> list[TopicDescription]:
        return self._cluster.topics()

    def identity(self, topic: TopicDescription) -> str:
        return str(topic.topic_id)

    def bounds(self, partition: TopicPartition) -> Bounds | None:
        ends = self._reader().end_offsets([partition])  # up to the first transaction that is not finished
        return Bounds(self._cluster.beginning_offsets([partition])[partition], ends[partition])

    def groups(self) -> SourceGroups:
        return _PatientGroups(self._cluster.groups)

    def pieces(self, partition: TopicPartition, offset: int, end: int) -> Iterator[Piece]:
        consumer = self._reader()
        consumer.assign([partition])
        consumer.seek(*partition, offset)
        deadline = time.monotonic() + _PATIENCE_S
        while offset < end:
            try:
                polled = consumer.poll(_POLL_S)
            except NoCommittedOffset:
                bounds = self.bounds(partition) or Bounds(0, 0)
                raise OffsetOutOfRange(show(partition), offset, *bounds) from None
            records = [_record(record) for record in polled if record.offset < end]
            position = min(consumer.position(*partition), end)
            if position > offset:
                offset = position
                deadline = time.monotonic() + _PATIENCE_S
                yield Piece(offset, sum(map(record_size, records)), records=records)
            elif time.monotonic() > deadline:
                raise TimedOut(f"reading {show(partition)} at offset {offset} of {end}", _PATIENCE_S, "copy again")

    def _reader(self) -> "ClusterConsumer":
        if self._consumer is None:
            self._consumer = self._cluster.consumer(
                isolation_level="read_committed", auto_offset_reset="none", max_poll_records=_POLL_COUNT
            )
        return self._consumer


class ClusterTarget(Target):
    sync_size = _SYNC_SIZE

    def __init__(self, cluster: "Cluster", compression: Compression | None = None) -> None:
        """``compression``: of what is sent; None: as each topic's first records were stored at the source, if it tells
        that."""
        self._cluster, self._compression = cluster, compression
        self._source = ClusterSource(cluster)
        logging.getLogger("logstore.kafka").addFilter(_is_worth_telling)
        self._producers: dict[str, Producer] = {}
        self._has_notes = False
        self.name = f"cluster {cluster.address}"

    def topics(self) -> dict[str, TopicDescription]:
        return {topic.name: topic for topic in self._cluster.topics()}

    def create_topic(self, name: str, partitions: int, config: TopicConfig) -> None:
        settings: dict[str, Any] = {
            setting: value for setting, value in config.overrides().items() if setting not in _OURS_ONLY
        }
        settings["message.timestamp.type"] = config.message_timestamp_type  # the brokers' default may be another
        if config.drops_consumed:  # the nearest that Kafka has
            settings |= {"cleanup.policy": "delete", "retention.ms": config.unconsumed_retention_ms}
        self._cluster.create_topic(name, partitions, **settings)

    def bounds(self, partition: TopicPartition) -> Bounds:
        cluster = self._cluster
        return Bounds(cluster.beginning_offsets([partition])[partition], cluster.end_offsets([partition])[partition])

    def records(self, partition: TopicPartition, offset: int) -> Iterator[Record]:
        start, end = self.bounds(partition)
        for piece in self._source.pieces(partition, max(offset, start), end):
            yield from piece.records()

    def writer(self, partition: TopicPartition, offset: int) -> Writer:
        return _Sender(self, partition, offset)

    def producer(self, topic: str, compression: Compression | None) -> Producer:
        """One a topic, since its batches must not be larger than the topic allows."""
        if topic not in self._producers:
            size_max = self._cluster.topic(topic).config.max_message_bytes
            self._producers[topic] = self._cluster.producer(
                compression=(self._compression or compression or Compression.NONE).name.lower(),
                batch_size=max(min(_BATCH_SIZE, size_max // 2), 1),
                max_request_size=_REQUEST_SIZE_MAX,
                delivery_timeout_ms=INT_MAX,
                max_in_flight_requests_per_connection=1,
                **_GAPLESS,
            )
        return self._producers[topic]

    def stop(self, topic: str) -> None:
        """Let go of what is not stored: behind a record that cannot be, librdkafka holds it back without end."""
        if (producer := self._producers.pop(topic, None)) is not None:
            producer.close(0)

    def load_notes(self) -> dict[bytes, bytes]:
        if NOTES_TOPIC not in self.topics():
            return {}
        return {record.key or b"": record.value or b"" for record in self.records(TopicPartition(NOTES_TOPIC, 0), 0)}

    def note(self, notes: Mapping[bytes, bytes]) -> None:
        if not self._has_notes and NOTES_TOPIC not in self.topics():
            self._cluster.create_topic(NOTES_TOPIC, 1, cleanup_policy="compact")
        self._has_notes = True
        producer = self.producer(NOTES_TOPIC, None)
        sent = [producer.send(NOTES_TOPIC, value, key=key, partition=0) for key, value in notes.items()]
        for future in sent:
            _stored(future)

    def groups(self) -> TargetGroups:
        return _PatientGroups(self._cluster.groups)

    def settle(self) -> None:
        time.sleep(_SETTLING_S)  # a request that the killed one had sent may still be on its way into the log


class _Sender(Writer):
    def __init__(self, target: ClusterTarget, partition: TopicPartition, offset: int) -> None:
        self._target, self._partition = target, partition
        self._sent: list[Future[Receipt]] = []
        self._is_known = False  # to the broker: see _GAPLESS
        self.offset = offset
        self.unsynced_size = 0

    def append(self, piece: Piece) -> None:
        send = self._target.producer(self._partition.topic, piece.compression).send
        topic, number = self._partition
        for record in piece.records():
            try:
                sent = send(
                    topic,
                    record.value,
                    key=record.key,
                    partition=number,
                    headers=record.headers,
                    timestamp_ms=record.timestamp_ms,
                )
            except InvalidTimestamp as error:
                place = f"{show(self._partition)}: the source's record at offset {record.offset}"
                raise CopyRefused(place, str(error), "copy this topic to a directory, which can keep it") from None
            self._sent.append(sent)
            if not self._is_known or len(self._sent) >= _UNSYNCED_COUNT_MAX:
                self._settle()
        self.unsynced_size += piece.size

    def sync(self) -> None:
        self._settle()
        self.unsynced_size = 0

    def abandon(self) -> None:
        self._target.stop(self._partition.topic)

    def _settle(self) -> None:
        sent, self._sent = self._sent, []
        for future in sent:
            offset = _stored(future).offset
            if offset != self.offset:
                reason = f"a record got offset {offset} and not {self.offset}: another writer is at work there"
                remedy = "stop it, delete the topic in the target, and copy anew"
                raise CopyRefused(show(self._partition), reason, remedy)
            self.offset += 1
            self._is_known = True


class _PatientGroups:
    """The cluster's groups; while their coordinator is on its way, as after the first group ever, it is waited for."""

    def __init__(self, groups: "ClusterGroups") -> None:
        self._groups = groups

    def groups(self) -> list[GroupDescription]:
        return _patiently(self._groups.groups)

    def describe(self, group: str) -> GroupDescription:
        return _patiently(lambda: self._groups.describe(group))

    def committed(
        self, group: str, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return _patiently(lambda: self._groups.committed(group, partitions))

    def commit(self, group: str, offsets: Mapping[tuple[str, int], OffsetAndMetadata]) -> None:
        _patiently(lambda: self._groups.commit(group, dict(offsets)))


def _patiently(ask: Callable[[], Result]) -> Result:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return ask()
        except ClusterFailure as error:
            if error.code not in _PASSING or time.monotonic() > deadline:
                raise
        time.sleep(_RETRY_S)


def _stored(future: "Future[Receipt]") -> Receipt:
    """Raises TimedOut, and what keeps the record from being stored."""
    try:
        return future.result(_STORING_S)
    except TimedOut:
        raise
    except TimeoutError:
        raise TimedOut("storing what was sent to the cluster", _STORING_S, "see that it runs, and copy again") from None


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """librdkafka warns that the guarantee is experimental; that it holds is tested here."""
    return "enable.gapless.guarantee" not in record.getMessage()


def _record(record: ConsumerRecord) -> Record:
    return Record(record.offset, record.timestamp_ms, record.key, record.value, record.headers)
