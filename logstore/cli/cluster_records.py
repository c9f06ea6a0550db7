"""Records of a cluster's topic, to be printed; lines that become records of one."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from logstore.client.consumer import ConsumerRecord
from logstore.errors import InvalidRecord, LogstoreError, TimedOut
from logstore.format.filename import TopicPartition
from logstore.format.record import Record

if TYPE_CHECKING:
    from logstore.client.kafka.cluster import Cluster
    from logstore.client.producer import Receipt

_POLL_S = 0.5
_PATIENCE_S = 30.0
_POLL_COUNT = 5_000
_BATCH_SIZE = 256 << 10


def read(cluster: "Cluster", starts: Mapping[TopicPartition, int], follow: bool) -> Iterator[tuple[int, list[Record]]]:
    """The partitions' records, one partition after the other, up to where they ended when this began; then, to
    ``follow``, what comes, as it comes. Raises TimedOut, and as a consumer's poll."""
    ends = cluster.end_offsets(starts)
    with cluster.consumer(auto_offset_reset="earliest", max_poll_records=_POLL_COUNT) as consumer:
        for partition, start in starts.items():
            offset, end = start, ends[partition]
            consumer.assign([partition])
            consumer.seek(*partition, start)
            deadline = time.monotonic() + _PATIENCE_S
            while offset < end:
                records = [_record(record) for record in consumer.poll(_POLL_S) if record.offset < end]
                position = consumer.position(*partition)
                if position > offset:
                    offset, deadline = position, time.monotonic() + _PATIENCE_S
                    yield partition.partition, records
                elif time.monotonic() > deadline:
                    raise TimedOut(f"reading {partition.topic}-{partition.partition} at offset {offset}", _PATIENCE_S)
        if follow:
            consumer.assign(starts)
            for partition, start in starts.items():
                consumer.seek(*partition, max(start, ends[partition]))
            while True:
                for record in consumer.poll(_POLL_S):
                    yield record.partition, [_record(record)]


def _record(record: ConsumerRecord) -> Record:
    return Record(record.offset, record.timestamp_ms, record.key, record.value, record.headers)


class Sent(NamedTuple):
    """What became of lines: ``offsets``, from the first one to behind the last one, by partition; in how many batches
    they are stored, and in how many bytes, if that is known. ``failure``: why not all of them are stored."""

    record_count: int
    record_size: int
    offsets: Mapping[int, tuple[int, int]]
    batch_count: int | None = None
    stored_size: int | None = None
    failure: LogstoreError | None = None


class LineSender:
    """Sends lines, and takes note of what became of them. ``separator`` ends a line's key."""

    def __init__(self, cluster: "Cluster", topic: str, separator: bytes | None, compression: str) -> None:
        self._topic, self._separator = topic, separator
        self._producer = cluster.producer(compression=compression, batch_size=_BATCH_SIZE)
        self._line_count = self._record_size = 0
        self._counts: Counter[int] = Counter()
        self._firsts: dict[int, int] = {}
        self._nexts: dict[int, int] = {}
        self._failure: LogstoreError | None = None

    def send(self, lines: Iterable[bytes]) -> None:
        """Raises InvalidRecord, which names the line that cannot be sent, and what has failed of those before. What
        was sent by then is for ``finish`` to tell."""
        for line in lines:
            self._line_count += 1
            key, value = None, line
            if self._separator is not None:
                key, found, value = line.partition(self._separator)
                if not found:
                    raise InvalidRecord(f"line {self._line_count} has no key: {self._separator!r} is not in it")
            try:
                self._producer.send(self._topic, value, key=key, on_delivery=self._delivered)
            except InvalidRecord as error:
                raise InvalidRecord(f"line {self._line_count}: {error}") from None
            self._record_size += len(line)
        if self._failure is not None:
            raise self._failure

    def finish(self) -> Sent:
        """Wait for what becomes of all that was sent."""
        try:
            self._producer.close()
        except LogstoreError as error:
            self._failure = self._failure or error
        offsets = {number: (self._firsts[number], self._nexts[number]) for number in sorted(self._firsts)}
        return Sent(self._counts.total(), self._record_size, offsets, failure=self._failure)

    def _delivered(self, receipt: "Receipt | None", error: BaseException | None) -> None:
        if receipt is None:
            self._failure = self._failure or (error if isinstance(error, LogstoreError) else InvalidRecord(str(error)))
            return
        number = receipt.partition
        self._counts[number] += 1
        self._firsts[number] = min(self._firsts.get(number, receipt.offset), receipt.offset)
        self._nexts[number] = max(self._nexts.get(number, 0), receipt.offset + 1)
