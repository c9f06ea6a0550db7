"""Writing a partition's log: appends, their durability, and the roll from one segment to the next.

Appends are serialised by one lock; readers take a ``view`` and no lock. What an append promises when it returns is in
its receipt: with ``Durability.OS`` it survives the end of this process, with ``FSYNC`` the end of power. Offsets are
given once and never again. A write that fails leaves nothing behind: the log is cut back to its last whole batch and
goes on when there is space again. A sync that fails takes the partition offline for writes until it is opened anew,
since nothing is known then of what reached the disk; reads go on.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock, RLock
from typing import NamedTuple

from logstore.config import LONG_MAX, TopicConfig
from logstore.errors import (
    Closed,
    InvalidRecord,
    LogstoreError,
    PartitionOffline,
    RecordTooLarge,
    StorageFailure,
    UnknownTopic,
)
from logstore.format.batch import (
    FRAME_SIZE,
    MAGIC,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    PLACE,
    BatchHeader,
    RecordBatch,
    batches,
    encode_batch,
)
from logstore.format.checksum import crc32c
from logstore.format.compression import Compression
from logstore.format.index_entry import RELATIVE_OFFSET_MAX
from logstore.format.plain_batch import (
    BEFORE_COVERED,
    LONE_END,
    UNFRAMED_SIZE,
    encode_plain,
)
from logstore.format.record import Buffer, Headers, only_bytes
from logstore.storage import retention
from logstore.storage.admission import admit, check_sent, stores_as_sent
from logstore.storage.arguments import as_column, as_compression, as_integer
from logstore.storage.burst import Burst
from logstore.storage.cache import Caches
from logstore.storage.durability import Durability, GroupCommit
from logstore.storage.log_view import LogView, ReadableLog
from logstore.storage.producer_state import DuplicateBatch
from logstore.storage.recovery import SegmentDamage, recover
from logstore.storage.replay import update_producers
from logstore.storage.segment import Segment
from logstore.storage.segment_list import SegmentList
from logstore.storage.state_files import StateFiles
from logstore.storage.waiters import Waiters

logger = logging.getLogger("logstore.storage")

# Base offset, last offset and largest timestamp of a batch in the log.
Stored = tuple[int, int, int] | DuplicateBatch


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


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class LogWriter(ReadableLog):
    """See the module. Times come from ``now_ms``, which tests replace."""

    def __init__(
        self,
        directory: Path,
        config: TopicConfig | None = None,
        *,
        caches: Caches | None = None,
        log_start_offset: int = 0,
        recovery_point: int = 0,
        is_clean: bool = False,
        was_compacted: bool = False,
        has_lost_power: bool = False,
        now_ms: Callable[[], int] = wall_clock_ms,
        save_recovery_point: Callable[[], None] = lambda: None,
    ) -> None:
        """Open, and if need be recover, the log in ``directory``, which exists. Raises StorageFailure.

        ``save_recovery_point`` is called when the recovery point has been lowered, before the log itself is cut.
        """
        self.directory = directory
        self.name = directory.name
        self.config = config or TopicConfig()
        self.now_ms = now_ms
        self._caches = caches or Caches()
        self._save_recovery_point = save_recovery_point
        found = recover(
            directory,
            self._caches,
            index_interval=self.config.index_interval_bytes,
            allocate_size=self.config.segment_bytes if self.config.preallocate else 0,
            log_start_offset=log_start_offset,
            recovery_point=recovery_point,
            is_clean=is_clean,
            is_compacted=was_compacted or self.config.compacts,
            has_lost_power=has_lost_power,
        )
        self._segments = SegmentList(directory, found.segments, self._caches)
        self._log_start_offset = found.log_start_offset
        self._log_end_offset = found.log_end_offset
        self._gaps = tuple(found.gaps)
        self.damages: tuple[SegmentDamage, ...] = tuple(found.damages)
        self.producers = found.producers
        self.leader_epochs = found.leader_epochs
        saved_epochs = found.leader_epochs.entries if is_clean else None
        self._state_files = StateFiles(directory, found.snapshot_offsets, saved_epochs)
        self.leader_epoch = found.leader_epochs.latest or 0
        self.recovery_point = min(recovery_point, found.log_end_offset)
        self.last_flush_ms = now_ms()
        self._lock = RLock()
        self._group_commit = GroupCommit(self._sync, self.recovery_point)
        self._waiters = Waiters()
        self._burst: Burst | None = None
        self._offline: LogstoreError | None = None
        self.cut_offset = LONG_MAX  # from here on the log has been cut since it was last compacted
        self.compaction_met_damage = False
        self.was_compacted = was_compacted or self.config.compacts

    # ----------------------------------------------------------------------------------------------------- reading

    @property
    def log_start_offset(self) -> int:
        return self._log_start_offset

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record will have."""
        return self._log_end_offset

    @property
    def view(self) -> LogView:
        """What can be read now. Raises Closed, and UnknownTopic where the topic has been deleted."""
        if isinstance(self._offline, Closed | UnknownTopic):
            self._check_writable()
        log_end_offset = self._log_end_offset  # before the segments: they must hold all of it
        return LogView(
            *(self.name, self._segments.all, self._log_start_offset, log_end_offset, self._gaps, self._may_have_holes)
        )

    def _may_have_holes(self) -> bool:
        return self.was_compacted or self.config.compacts

    @property
    def is_closed(self) -> bool:
        return type(self._offline) is Closed

    @property
    def offline_reason(self) -> str | None:
        """Why the partition takes no writes, None if it does."""
        return None if self._offline is None else str(self._offline)

    def wait(self, offset: int, timeout_s: float | None = None) -> bool:
        """Wait until the log's end is beyond ``offset``: whether it is. False too when the log is closed or deleted."""
        offset = as_integer("offset", offset)
        if self._log_end_offset > offset:
            return True
        turn = Lock()
        turn.acquire()
        waiter = self._waiters.add(offset, turn.release)
        try:
            if self._log_end_offset <= offset and self._may_grow():
                turn.acquire(timeout=-1 if timeout_s is None else max(0.0, min(timeout_s, 1e9)))
        finally:
            self._waiters.remove(waiter)
        return self._log_end_offset > offset

    def _may_grow(self) -> bool:
        return isinstance(self._offline, PartitionOffline | None)

    def call_when_beyond(self, offset: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called once, in the appending thread or at once, when the log's end is beyond ``offset``,
        or the log is closed or deleted.

        Returns what cancels it. This is how an event loop waits.
        """
        waiter = self._waiters.add(as_integer("offset", offset), callback)
        if self._log_end_offset > offset or not self._may_grow():
            self._waiters.wake(self._log_end_offset if self._may_grow() else LONG_MAX)
        return lambda: self._waiters.remove(waiter)

    # ----------------------------------------------------------------------------------------------------- appending

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
        if type(durability) is not Durability:
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
        batch = encode_batch(
            values,
            timestamps_ms=now_ms if timestamps_ms is None else timestamps_ms,
            keys=None if keys is None else as_column("keys", keys),
            headers=None if headers is None else as_column("headers", headers),
            compression=as_compression(compression),
            compression_level=compression_level,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
        )
        return self._acknowledge(self._store(RecordBatch.at(batch)), durability)

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
        if self._waiters.waiting:
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
        return self._acknowledge((base_offset, base_offset + len(values) - 1, now_ms), durability)

    def append_batches(self, data: Buffer, durability: Durability | str = Durability.OS) -> list[Appended]:
        """Append whole batches that somebody else encoded, after a check of each, a receipt for each.

        Raises CorruptBatch before anything is written, else as ``append``; the batches before the one that failed stay.
        """
        level = Durability.parse(durability)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidRecord(f"batches are bytes, not a {type(data).__name__}")
        found = list(batches(data))
        if not found or found[-1].position + found[-1].header.size != len(data):
            raise InvalidRecord("the data is not a row of whole batches")
        for batch in found:
            check_sent(batch)
        stored = [self._store(batch) for batch in found]
        return [self._acknowledge(where, level) for where in stored]

    def _store(self, batch: RecordBatch) -> Stored:
        """Append a batch, as far as the page cache."""
        self._check_writable()
        now_ms = self.now_ms()
        batch = admit(batch, self.config, now_ms, self.name)
        header = batch.header
        with self._lock:
            self._check_writable()
            duplicate = self._find_duplicate(header) if header.producer_id >= 0 else None
            if duplicate is not None:
                return duplicate
            delta = header.last_offset_delta
            base_offset = self._write((batch.data[PLACE.size :],), header.size, delta, header.max_timestamp, now_ms)
            if header.producer_id >= 0:
                update_producers(self.producers, header._replace(base_offset=base_offset), batch)
        return base_offset, base_offset + delta, header.max_timestamp

    def _find_duplicate(self, header: BatchHeader) -> DuplicateBatch | None:
        if header.is_control:
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
        segment = self._segments.active
        if not segment.is_growing or self._is_due_to_roll(segment, size, last_offset, now_ms):
            segment = self._prepare_segment(size, last_offset, now_ms)
        place = PLACE.pack(base_offset, size - FRAME_SIZE, self.leader_epoch)
        position = segment.size
        try:
            segment.append((place, *pieces), size, base_offset, last_offset, max_timestamp, now_ms)
            if self.leader_epochs.latest != self.leader_epoch:
                self.leader_epochs.assign(self.leader_epoch, base_offset)
            self._log_end_offset = last_offset + 1
        except BaseException:  # a full disk, or a Ctrl-C anywhere in between: then the batch was not appended
            if self._log_end_offset == base_offset:
                self._cut_back(segment, position)
            raise
        return base_offset

    def _acknowledge(self, stored: Stored, durability: Durability) -> Appended:
        """Wake who waits for the batch, see that it is as durable as it must be, and say how durable it is."""
        base_offset, last_offset, timestamp_ms = stored
        end_offset = last_offset + 1
        if self._waiters.waiting:
            self._waiters.wake(end_offset)
        unsynced_count = end_offset - self._group_commit.synced_offset
        if durability is Durability.FSYNC or unsynced_count >= self.config.flush_messages:
            self._group_commit.wait(end_offset)
        reached = Durability.FSYNC if self._group_commit.synced_offset >= end_offset else Durability.OS
        return Appended(base_offset, last_offset, timestamp_ms, reached, type(stored) is DuplicateBatch)

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

    def _go_offline(self, error: BaseException) -> None:
        if self._offline is None:
            self._offline = PartitionOffline(self.name, str(error) or f"{type(error).__name__} in the middle of a step")
            logger.error("%s", self._offline)

    # -------------------------------------------------------------------------------------------------- durability

    def flush(self) -> None:
        """Wait until everything appended so far is on the disk. Raises StorageFailure, PartitionOffline, Closed."""
        self._check_writable()
        self._group_commit.wait(self._log_end_offset)

    def _sync(self) -> int:
        self._check_writable()
        end_offset = self._log_end_offset
        try:
            with self._offline_on_failed_sync():
                self._segments.sync_from(self._group_commit.synced_offset)
        except StorageFailure:
            if isinstance(self._offline, UnknownTopic):  # deleted meanwhile, and its files are gone
                raise self._offline.with_traceback(None) from None
            raise
        self.last_flush_ms = self.now_ms()
        return end_offset

    @property
    def synced_offset(self) -> int:
        """Everything below is on the disk."""
        return self._group_commit.synced_offset

    def checkpoint(self) -> int:
        """Make durable all that opening the log after a crash can save work with, and return the recovery point: below
        it log and indexes are on the disk, whole. Raises StorageFailure, PartitionOffline."""
        with self._lock:
            self._check_writable()
            self.flush()
            if self._segments.active.is_growing:
                with self._offline_on_failed_sync():
                    self._segments.active.sync_indexes()
            self._save_state()
            self._state_files.sync()
            self.recovery_point = self._log_end_offset
            return self.recovery_point

    def _save_state(self) -> None:
        base_offsets = [segment.base_offset for segment in self._segments.all]
        self._state_files.save(self._log_end_offset, self.producers, self.leader_epochs, base_offsets)

    @contextmanager
    def _offline_on_failed_sync(self) -> Iterator[None]:
        """A file that could not even be opened has lost nothing."""
        try:
            yield
        except StorageFailure as error:
            if error.operation == "sync":
                self._go_offline(error)
            raise

    @contextmanager
    def _offline_on_failure(self) -> Iterator[None]:
        """Around steps after which, should one fail or be interrupted, nothing is known of what is on the disk."""
        try:
            yield
        except BaseException as error:
            self._go_offline(error)
            raise

    # ---------------------------------------------------------------------------------------------------- segments

    def roll(self) -> None:
        """Begin a new segment, unless the active one is empty."""
        with self._lock:
            self._check_writable()
            if self._segments.active.size:
                self._segments.active.start_growing()
                self._roll()

    def _roll(self) -> None:
        segment = self._segments.next_segment(self._log_end_offset, self.config, self.now_ms())
        with self._offline_on_failure():
            self._segments.add(segment)
        self._save_state()

    def roll_if_old(self, now_ms: int) -> None:
        """Roll a segment that is older than ``segment.ms``: a topic without appends must roll too, and one that is
        compacted so that its records can be, since the active segment never is."""
        config = self.config
        age_max_ms = min(config.segment_ms, config.max_compaction_lag_ms) if config.compacts else config.segment_ms
        with self._lock:
            if self._offline is not None or not self._segments.active.size:
                return
            if retention.should_roll_by_age(self._segments.active_since_ms(), now_ms, age_max_ms):
                self.roll()

    # ---------------------------------------------------------------------------------------------------------- end

    def _check_writable(self) -> None:
        if self._offline is not None:
            raise self._offline.with_traceback(None)  # or each raise would add to it, and keep what its frames hold

    def close(self) -> bool:
        """Make everything durable and stop; True where the next opening may trust that. Closing twice is no error.

        Raises StorageFailure where that failed; the log is closed then too, and will be checked when it is opened.
        """
        with self._lock:
            if self._offline is not None:
                self._release()
                return isinstance(self._offline, Closed)
            try:
                self.flush()
                active = self._segments.active
                if active.is_growing:
                    active.seal()
                    active.sync_indexes()
                self._save_state()
                self._state_files.sync()
                self._segments.unlink_retired(lambda _: True)
                self.recovery_point = self._log_end_offset
            except StorageFailure as error:
                self._go_offline(error)
                raise
            finally:
                if self._offline is None:
                    self._offline = Closed(f"partition {self.name}")
                self._release()
            return True

    def abandon(self, reason: LogstoreError) -> None:
        """Stop without a word to the disk: the log is deleted, and ``reason`` is what those get who still use it."""
        with self._lock:
            self._offline = reason
            self._release()

    def abandon_in_child(self, reason: LogstoreError) -> None:
        """Take no more writes, and touch nothing: a child process does not own the log, nor its locks, which a thread
        that it does not have may hold. It may read what there was."""
        self._offline = reason
        self._lock = RLock()
        self._waiters = Waiters()
        for segment in self._segments.all:
            segment.renew_lock_in_child()
        self._group_commit = GroupCommit(self._sync, self.synced_offset)

    def _release(self) -> None:
        self._waiters.wake(LONG_MAX)
        self._segments.forget()
