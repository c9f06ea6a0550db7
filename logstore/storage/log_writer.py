"""Writing a partition's log: appends, and what each is promised.

Appends are serialised by one lock; readers take a ``view`` and no lock. What an append promises when it returns is in
its receipt: with ``Durability.OS`` it survives the end of this process, with ``FSYNC`` the end of power. Offsets are
given once and never again. A write that fails leaves nothing behind: the log is cut back to its last whole batch and
goes on when there is space again.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from logstore.errors import InvalidRecord, RecordTooLarge, StorageFailure
from logstore.format.batch import (
    CONTROL,
    DELETE_HORIZON,
    FRAME_SIZE,
    LOG_APPEND_TIME,
    MAGIC,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    PLACE,
    TRANSACTIONAL,
    BatchHeader,
    RecordBatch,
    batches,
    encode_batch,
)
from logstore.format.checksum import crc32c
from logstore.format.compression import Compression
from logstore.format.index_entry import RELATIVE_OFFSET_MAX
from logstore.format.plain_batch import BEFORE_COVERED, UNFRAMED_SIZE, encode_plain
from logstore.format.record import LONE_END, Buffer, Headers, only_bytes
from logstore.format.record_check import RecordFacts
from logstore.storage import retention
from logstore.storage.admission import admit, check_sent, stores_as_sent
from logstore.storage.arguments import as_column, as_compression
from logstore.storage.burst import Burst
from logstore.storage.durability import Durability
from logstore.storage.owned_log import OwnedLog
from logstore.storage.producer_state import DuplicateBatch
from logstore.storage.replay import update_producers
from logstore.storage.segment import Segment


class Stored(NamedTuple):
    """A batch in the log, and its largest timestamp. ``append_time_ms``: what the log has put in the place of all its
    timestamps, NO_TIMESTAMP where it has not. ``is_duplicate`` as in ``Appended``."""

    base_offset: int
    last_offset: int
    timestamp_ms: int
    append_time_ms: int
    is_duplicate: bool


class Appended(NamedTuple):
    """The receipt of an append. ``timestamp_ms`` is the largest of its records. ``is_duplicate``: an idempotent
    producer had sent it before, and it stands where the first one was put."""

    base_offset: int
    last_offset: int
    timestamp_ms: int
    durability: Durability
    is_duplicate: bool = False


# An enum's members are slow to look up.
_OS = Durability.OS
_receipt: Callable[[tuple[int, int, int, Durability, bool]], Appended] = partial(tuple.__new__, Appended)
_stored: Callable[[tuple[int, int, int, int, bool]], Stored] = partial(tuple.__new__, Stored)


# Attributes that a log gives a batch.
NOT_OF_CLIENTS = CONTROL | LOG_APPEND_TIME | DELETE_HORIZON


class LogWriter(OwnedLog):
    """See the module."""

    _burst: Burst | None = None

    def append(
        self,
        values: Iterable[Buffer | None],
        *,
        keys: Iterable[Buffer | None] | None = None,
        headers: Iterable[Headers] | None = None,
        timestamps_ms: int | Sequence[int] | None = None,
        compression: Compression | str = Compression.NONE,
        compression_level: int | None = None,
        producer_id: int = NO_PRODUCER_ID,
        producer_epoch: int = NO_PRODUCER_EPOCH,
        base_sequence: int = NO_SEQUENCE,
        durability: Durability | str = Durability.OS,
    ) -> Appended:
        """Append records, given as columns of one length, as one batch; without timestamps (ms) it is now.

        ``compression`` and ``durability`` may be given by name. Raises InvalidArgument, InvalidRecord (RecordTooLarge,
        InvalidTimestamp), OutOfOrderSequence, ProducerFenced, StorageFailure (DiskFull), PartitionOffline, Closed.
        """
        if durability is not _OS:
            durability = Durability.parse(durability)
        if type(values) is not list and type(values) is not tuple:
            values = as_column("values", values)
        if not values:
            raise InvalidRecord("a batch needs a record")
        now_ms = self.now_ms()
        if keys is None and headers is None and timestamps_ms is None and not compression and producer_id < 0:
            if len(values) == 1 and type(values[0]) is bytes and durability is _OS:
                appended = self._append_in_burst(values[0], now_ms)
                if appended is not None:
                    return appended
            if only_bytes(values) and stores_as_sent(self.config):
                return self._append_plain(values, now_ms, durability)  # type: ignore[arg-type]  # just checked
        key_column = None if keys is None else as_column("keys", keys)
        batch = encode_batch(
            values,
            timestamps_ms=now_ms if timestamps_ms is None else timestamps_ms,
            keys=key_column,
            headers=None if headers is None else as_column("headers", headers),
            compression=as_compression(compression),
            compression_level=compression_level,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
        )
        is_keyed = key_column is not None and None not in key_column
        return self._acknowledge(self._store(RecordBatch.at(batch), is_keyed=is_keyed), durability)

    def _append_in_burst(self, value: bytes, now_ms: int) -> Appended | None:
        """The shortest way, for what ``Burst`` tells of: None, and nothing done, where it does not hold."""
        burst = self._burst
        if burst is None or now_ms != burst.now_ms or len(value) > burst.value_size_max:
            return None
        segment = burst.segment
        if segment.size > segment.quiet_until:  # mostly an index entry is due: seen before anything is done in vain
            return None
        covered = burst.batches[len(value)] + value + LONE_END
        crc = crc32c(covered)
        with self._lock:
            position, offset = segment.size, self._log_end_offset
            if (
                position > segment.quiet_until
                or offset >= burst.end_offset
                or burst.config is not self.config
                or burst.leader_epoch != self.leader_epoch
                or self._offline is not None
            ):
                return None
            head = BEFORE_COVERED.pack(offset, len(covered) + UNFRAMED_SIZE, burst.leader_epoch, MAGIC, crc)
            try:
                segment.append_quietly(head + covered, offset)
                self._log_end_offset = offset + 1
            except BaseException:
                if self._log_end_offset == offset:
                    self._cut_back(segment, position)
                raise
        if offset >= self._waiters.lowest:
            self._waiters.wake(offset + 1)
        return _receipt((offset, offset, now_ms, _OS, False))

    def _append_plain(self, values: Sequence[bytes], now_ms: int, durability: Durability) -> Appended:
        """The short way for values alone, at the time of now: nothing of the batch needs a check but its size."""
        head, body = encode_plain(values, now_ms)
        size = PLACE.size + len(head) + len(body)
        if size > self.config.max_message_bytes:
            raise RecordTooLarge(size, self.config.max_message_bytes)
        config = self.config  # before the batch is written: a burst must not hold for one that came only after that
        with self._lock:
            self._check_writable()
            base_offset = self._write((head, body), size, len(values) - 1, now_ms, now_ms)
            if len(values) == 1 and durability is _OS and stores_as_sent(config):
                synced_offset = self._group_commit.synced_offset
                segment = self._segments.active
                self._burst = Burst(segment, config, self.leader_epoch, now_ms, synced_offset, self._burst)
        return self._acknowledge(
            _stored((base_offset, base_offset + len(values) - 1, now_ms, NO_TIMESTAMP, False)), durability
        )

    def append_batches(self, data: Buffer, durability: Durability | str = Durability.OS) -> list[Appended]:
        """Append whole batches that somebody else encoded, after a check of each, a receipt for each.

        Raises CorruptBatch before anything is written, else as ``append``; the batches before the one that failed stay.
        """
        level = Durability.parse(durability)
        _check_type(data)
        found = list(batches(data))
        if not found or found[-1].position + found[-1].header.size != len(data):
            raise InvalidRecord("the data is not a row of whole batches")
        checked = [check_sent(batch) for batch in found]
        stored = [self._store(batch, facts) for batch, facts in zip(found, checked)]
        return [self._acknowledge(where, level) for where in stored]

    def append_batch(self, data: Buffer) -> Stored:
        """Append the one batch that a client sent: what a broker does. It is checked as by ``append_batches``.

        It is in the page cache then; this waits for no sync, not for flush.messages' either: that is the caller's, see
        ``is_flush_due``. Raises CorruptBatch, InvalidRecord (of which records, where it can be told), else as
        ``append``; then nothing is written.
        """
        batch = RecordBatch.at(data)
        header = batch.header
        if header.batch_length + FRAME_SIZE != len(data):
            raise InvalidRecord("the data is not one whole batch")
        if header.attributes & NOT_OF_CLIENTS:
            raise InvalidRecord("a client's batch is no transaction marker, and has no time that only a log may give")
        stored = self._store(batch, check_sent(batch))
        if stored.last_offset >= self._waiters.lowest:
            self._waiters.wake(stored.last_offset + 1)
        return stored

    @property
    def is_flush_due(self) -> bool:
        """Whether as much is unsynced as ``flush.messages`` allows."""
        return self._log_end_offset - self._group_commit.synced_offset >= self.config.flush_messages

    def _store(self, batch: RecordBatch, facts: RecordFacts | None = None, is_keyed: bool = False) -> Stored:
        """Append a batch, as far as the page cache; ``facts`` and ``is_keyed`` as for ``admit``."""
        self._check_writable()
        now_ms = self.now_ms()
        batch = admit(batch, self.config, now_ms, self.name, facts, is_keyed=is_keyed)
        header = batch.header
        delta, max_timestamp, producer_id = header.last_offset_delta, header.max_timestamp, header.producer_id
        size = header.batch_length + FRAME_SIZE
        behind_place = memoryview(batch.buffer)[batch.position + PLACE.size : batch.position + size]
        with self._lock:
            self._check_writable()
            if producer_id >= 0 and (duplicate := self._find_duplicate(header)) is not None:
                append_time = duplicate.timestamp_ms if header.attributes & LOG_APPEND_TIME else NO_TIMESTAMP
                return _stored((*duplicate, append_time, True))
            base_offset = self._write((behind_place,), size, delta, max_timestamp, now_ms)
            if producer_id >= 0:
                update_producers(self.producers, header, batch, base_offset)
            if header.attributes & TRANSACTIONAL:
                self.aborted.note_written(base_offset + delta + 1)
        append_time = max_timestamp if header.attributes & LOG_APPEND_TIME else NO_TIMESTAMP
        return _stored((base_offset, base_offset + delta, max_timestamp, append_time, False))

    def _find_duplicate(self, header: BatchHeader) -> DuplicateBatch | None:
        if header.attributes & CONTROL:
            return None
        return self.producers.check(
            header.producer_id, header.producer_epoch, header.base_sequence, header.record_count
        )

    def _write(
        self, pieces: tuple[Buffer, ...], size: int, last_offset_delta: int, max_timestamp: int, now_ms: int
    ) -> int:
        """Give a batch its place and write it, under the lock: its base offset. ``pieces`` are what follows PLACE, of
        ``size`` bytes with it."""
        base_offset = self._log_end_offset
        last_offset = base_offset + last_offset_delta
        segment, config = self._segments.active, self.config
        position = segment.size
        if (  # mostly nothing is due, which few looks tell
            position > segment.unindexed_until
            or position + size > config.segment_bytes
            or not 0 <= now_ms - segment.created_ms <= config.segment_ms
            or last_offset - segment.base_offset > RELATIVE_OFFSET_MAX
            or not segment.is_growing
        ):
            segment = self._prepare_segment(size, last_offset, now_ms)
            position = segment.size
        if self.leader_epochs.latest != self.leader_epoch:
            self._begin_leader_epoch()
            self.leader_epochs.assign(self.leader_epoch, base_offset)
        place = PLACE.pack(base_offset, size - FRAME_SIZE, self.leader_epoch)
        try:
            segment.append((place, *pieces), size, base_offset, last_offset, max_timestamp, now_ms)
            self._log_end_offset = last_offset + 1
        except BaseException:  # a full disk, or a Ctrl-C anywhere in between: then the batch was not appended
            if self._log_end_offset == base_offset:
                self._cut_back(segment, position)
            raise
        return base_offset

    def _acknowledge(self, stored: Stored, durability: Durability) -> Appended:
        """Wake who waits for the batch, see that it is as durable as it must be, and say how durable it is."""
        base_offset, last_offset, timestamp_ms, _, is_duplicate = stored
        end_offset = last_offset + 1
        if last_offset >= self._waiters.lowest:
            self._waiters.wake(end_offset)
        unsynced_count = end_offset - self._group_commit.synced_offset
        if durability is Durability.FSYNC or unsynced_count >= self.config.flush_messages:
            self._group_commit.wait(end_offset)
        reached = Durability.FSYNC if self._group_commit.synced_offset >= end_offset else Durability.OS
        return Appended(base_offset, last_offset, timestamp_ms, reached, is_duplicate)

    def _is_due_to_roll(self, segment: Segment, size: int, last_offset: int, now_ms: int) -> bool:
        config = self.config
        return segment.size > 0 and (
            segment.size + size > config.segment_bytes
            or retention.should_roll_by_age(segment.created_ms, now_ms, config.segment_ms)
            or last_offset - segment.base_offset > RELATIVE_OFFSET_MAX
            or (segment.size > segment.unindexed_until and segment.index_is_full(config.segment_index_bytes))
        )

    def _prepare_segment(self, size: int, last_offset: int, now_ms: int) -> Segment:
        """The active segment, ready for a batch of ``size``; a new one where it is due to roll."""
        segments = self._segments
        segments.active.start_growing()
        segments.active_since_ms()
        if self._is_due_to_roll(segments.active, size, last_offset, now_ms):
            self._roll()
        return segments.active

    def _cut_back(self, segment: Segment, position: int) -> None:
        try:
            with self._offline_on_failure():
                segment.cut_back(position, self.config.segment_bytes if self.config.preallocate else 0)
        except StorageFailure:
            pass  # what made the append fail is raised


def _check_type(data: object) -> None:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidRecord(f"batches are bytes, not a {type(data).__name__}")
