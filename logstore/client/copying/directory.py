"""A directory as the source or the target of a copy.

As a source it is opened read-only: a live one of another process, or Apache Kafka's own. As a target it gets the
source's batches as they are, where it can: compressed records are not compressed anew.
"""

import errno
from collections.abc import Iterator, Mapping

from logstore.client.copying.ends import (
    NOTES_TOPIC,
    Bounds,
    Piece,
    Source,
    SourceGroups,
    Target,
    TargetGroups,
    Writer,
)
from logstore.client.embedded.consumer.transactions import Transactions
from logstore.config import TopicConfig
from logstore.errors import (
    CopyRefused,
    CorruptBatch,
    DamagedLog,
    OffsetGap,
    OffsetOutOfRange,
    StorageFailure,
    UnknownPartition,
)
from logstore.format.batch import (
    DELETE_HORIZON,
    HEADER_SIZE,
    NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    TRANSACTIONAL,
    RecordBatch,
    assemble_batch,
)
from logstore.format.compression import Compression
from logstore.format.filename import TopicPartition
from logstore.format.record import Record
from logstore.storage.durability import Durability
from logstore.storage.log_view import LogView
from logstore.storage.partition import PartitionLog
from logstore.storage.topics import TopicDescription
from logstore.store import ReadOnlyTopicStore, TopicStore

_BATCH_SIZE = 256 << 10  # of records that come one by one
_SYNC_SIZE = 64 << 20


class DirectorySource(Source):
    def __init__(self, store: ReadOnlyTopicStore, *, decodes_all: bool = False) -> None:
        """``decodes_all``: records that cannot be decoded, though their CRC is right, are found before they are handed
        out, and are a DamagedLog that can be passed over."""
        self._store, self._decodes_all = store, decodes_all
        self.name = str(store.path)

    def topics(self) -> list[TopicDescription]:
        return self._store.topics()

    def identity(self, topic: TopicDescription) -> str:
        if topic.topic_id.int:
            return str(topic.topic_id)
        return f"{self._store.path.resolve()}/{topic.name}"  # of a Kafka that gave topics no ids yet

    def bounds(self, partition: TopicPartition) -> Bounds | None:
        try:
            view = self._store.log(*partition).view
        except UnknownPartition:
            return None
        return Bounds(view.log_start_offset, view.log_end_offset)

    def size(self, partition: TopicPartition, offset: int) -> int:
        segments = self._store.log(*partition).view.segment_infos()
        return sum(segment.size_bytes for segment in segments if segment.next_offset > offset)

    def groups(self) -> SourceGroups:
        return self._store.groups

    def pieces(self, partition: TopicPartition, offset: int, end: int) -> Iterator[Piece]:
        view = self._store.log(*partition).view
        transactions = Transactions(offset)
        try:
            for batch in view.batches(offset, max_offset=end):
                header = batch.header
                is_seen: bool | None = not header.is_control
                if is_seen and header.is_transactional:
                    is_seen = transactions.is_committed(header, view)
                    if is_seen is None:
                        return
                yield self._piece(view, batch, offset) if is_seen else Piece(header.next_offset, header.size)
        except StorageFailure as error:
            if error.errno != errno.ENOENT:
                raise
            now = self._store.log(*partition).view
            if now.log_start_offset <= offset:
                raise
            # Retention has unlinked what was being read.
            raise OffsetOutOfRange(view.name, offset, now.log_start_offset, now.log_end_offset) from None

    def _piece(self, view: LogView, batch: RecordBatch, offset: int) -> Piece:
        header = batch.header
        try:
            if header.base_offset < offset:
                return Piece(header.next_offset, header.size, records=list(batch.records_from(offset)))
            if self._decodes_all:
                batch.columns().headers()
        except CorruptBatch as error:
            raise undecodable(f"{self.name}/{view.name}", header.base_offset, header.next_offset, error) from None
        return Piece(header.next_offset, header.size, batch=batch)


def undecodable(path: str, offset: int, next_offset: int, error: CorruptBatch) -> DamagedLog:
    """A batch whose CRC is right and whose records are not."""
    reason = f"the records of the batch at offset {offset} cannot be read: {error.reason}"
    return DamagedLog(reason, error.position, path, next_offset)


class DirectoryTarget(Target):
    sync_size = _SYNC_SIZE

    def __init__(self, store: TopicStore, compression: Compression = Compression.NONE) -> None:
        """``compression``: of records that do not come in batches."""
        self._store, self._compression = store, compression
        self.name = str(store.path)

    def topics(self) -> dict[str, TopicDescription]:
        return {topic.name: topic for topic in self._store.topics()}

    def create_topic(self, name: str, partitions: int, config: TopicConfig) -> None:
        self._store.create_topic(name, partitions, **config.overrides())

    def bounds(self, partition: TopicPartition) -> Bounds:
        view = self._store.log(*partition).view
        return Bounds(view.log_start_offset, view.log_end_offset)

    def records(self, partition: TopicPartition, offset: int) -> Iterator[Record]:
        return _records(self._store.log(*partition).view, offset)

    def writer(self, partition: TopicPartition, offset: int) -> Writer:
        return _LogWriter(self._store.log(*partition), self._compression)

    def load_notes(self) -> dict[bytes, bytes]:
        if NOTES_TOPIC not in self.topics():
            return {}
        return {record.key or b"": record.value or b"" for record in _records(self._store.log(NOTES_TOPIC).view, 0)}

    def note(self, notes: Mapping[bytes, bytes]) -> None:
        if NOTES_TOPIC not in self.topics():
            self._store.create_topic(NOTES_TOPIC, 1, cleanup_policy="compact")
        log = self._store.log(NOTES_TOPIC)
        log.append(list(notes.values()), keys=list(notes), durability=Durability.FSYNC)

    def groups(self) -> TargetGroups:
        return self._store.groups

    def settle(self) -> None:
        """What was killed has left the directory's lock, and nothing under way."""


def _records(view: LogView, offset: int) -> Iterator[Record]:
    """Of the target. Raises CopyRefused where they are damaged: what was copied cannot be told then."""
    try:
        yield from view.records(max(offset, view.log_start_offset))
    except (DamagedLog, OffsetGap) as error:
        raise CopyRefused(view.name, f"the target is damaged: {error}", "copy to another target") from None


class _LogWriter(Writer):
    def __init__(self, log: PartitionLog, compression: Compression) -> None:
        self._log, self._compression = log, compression
        self.unsynced_size = 0

    @property
    def offset(self) -> int:  # type: ignore[override]  # nobody sets it
        return self._log.log_end_offset

    def append(self, piece: Piece) -> None:
        batch = piece.batch
        if batch is not None and batch.header.record_count == batch.header.last_offset_delta + 1:
            self._log.append_batches(_without_producer(batch))
        elif batch is not None:  # compaction has taken some records out of it
            self._append(piece.records(), batch.header.compression)
        else:
            for records in _in_batches(piece.records(), min(_BATCH_SIZE, self._log.config.max_message_bytes // 2)):
                self._append(records, self._compression)
        self.unsynced_size += piece.size

    def _append(self, records: list[Record], compression: Compression) -> None:
        if records:
            self._log.append(
                [record.value for record in records],
                keys=[record.key for record in records],
                headers=[record.headers for record in records],
                timestamps_ms=[record.timestamp_ms for record in records],
                compression=compression,
            )

    def sync(self) -> None:
        self._log.flush()
        self.unsynced_size = 0

    def abandon(self) -> None:
        """Nothing is under way."""


def _without_producer(batch: RecordBatch) -> bytes | memoryview:
    """The batch, but for what is said of who sent it: sequences are the source's, and so is a transaction that was
    committed there; the time at which compaction may drop tombstones is found anew. Its records stay as they are."""
    header = batch.header
    if header.producer_id < 0 and not header.attributes & (TRANSACTIONAL | DELETE_HORIZON):
        return batch.data
    return assemble_batch(
        bytes(batch.data[HEADER_SIZE:]),
        base_offset=header.base_offset,
        partition_leader_epoch=NO_LEADER_EPOCH,
        attributes=header.attributes & ~(TRANSACTIONAL | DELETE_HORIZON),
        last_offset_delta=header.last_offset_delta,
        base_timestamp=header.base_timestamp,
        max_timestamp=header.max_timestamp,
        producer_id=NO_PRODUCER_ID,
        producer_epoch=NO_PRODUCER_EPOCH,
        base_sequence=NO_SEQUENCE,
        record_count=header.record_count,
    )


def _in_batches(records: list[Record], size_max: int) -> Iterator[list[Record]]:
    first, size = 0, 0
    for number, record in enumerate(records):
        added = record_size(record)
        if number > first and size + added > size_max:
            yield records[first:number]
            first, size = number, 0
        size += added
    yield records[first:]


def record_size(record: Record) -> int:
    """About the bytes that it takes."""
    headers = sum(len(key) + len(value or b"") for key, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers + 16
