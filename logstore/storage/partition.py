"""A partition's log: one writer, many readers, and what is promised of it.

Owns a directory of segments. Appends are serialised by one lock; readers take a ``view`` and no lock. What an append
promises when it returns is in its receipt: with ``Durability.OS`` it survives the end of this process, with ``FSYNC``
the end of power. Offsets are given once and never again. A write that fails leaves nothing behind: the log is cut back
to its last whole batch and goes on when there is space again. A sync that fails takes the partition offline for
writes until it is opened anew, since nothing is known then of what reached the disk; reads go on.
"""

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock, RLock
from typing import NamedTuple

import numpy as np

from logstore.config import LONG_MAX, TopicConfig
from logstore.errors import (
    Closed,
    CorruptBatch,
    DamagedLog,
    InvalidRecord,
    InvalidTimestamp,
    LogstoreError,
    OffsetOutOfRange,
    PartitionOffline,
    RecordTooLarge,
    StorageFailure,
)
from logstore.format import checkpoint, filename, producer_snapshot
from logstore.format.batch import (
    FRAME_SIZE,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    PLACE,
    RecordBatch,
    batches,
    encode_batch,
    encode_plain,
    recompress,
    restamp,
)
from logstore.format.compression import Compression
from logstore.format.record import Buffer, Headers, only_bytes
from logstore.storage import files, retention
from logstore.storage.cache import Caches
from logstore.storage.durability import Durability, GroupCommit
from logstore.storage.log_view import LogView, ReadableLog
from logstore.storage.recovery import SegmentDamage, recover, replay, swap_in, update_producers
from logstore.storage.segment import OFFSET_SPAN_MAX, Segment
from logstore.storage.waiters import Waiters

logger = logging.getLogger("logstore.storage")

_STORED_AS = {"uncompressed": Compression.NONE} | {codec.name.lower(): codec for codec in Compression if codec}


class Appended(NamedTuple):
    """The receipt of an append. ``timestamp_ms`` is the largest of its records. ``is_duplicate``: an idempotent
    producer had sent it before, and it stands where the first one was put."""

    base_offset: int
    last_offset: int
    timestamp_ms: int
    durability: Durability
    is_duplicate: bool = False


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class PartitionLog(ReadableLog):
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
        )
        self._segments = tuple(found.segments)
        self._active = self._segments[-1]
        self._log_start_offset = found.log_start_offset
        self._log_end_offset = found.log_end_offset
        self._gaps = tuple(found.gaps)
        self.damages: tuple[SegmentDamage, ...] = tuple(found.damages)
        self.producers = found.producers
        self.leader_epochs = found.leader_epochs
        self._saved_epochs = found.leader_epochs.entries if is_clean else None
        self._snapshot_offsets = found.snapshot_offsets
        self.leader_epoch = found.leader_epochs.latest or 0
        self.recovery_point = min(recovery_point, found.log_end_offset) if is_clean or not found.damages else 0
        self.last_flush_ms = now_ms()
        self._lock = RLock()
        self._group_commit = GroupCommit(self._sync, self.recovery_point)
        self._waiters = Waiters()
        self._offline: LogstoreError | None = None
        self._retired: list[tuple[int, Segment]] = []
        self.cut_offset = LONG_MAX  # from here on the log has been cut since it was last compacted
        self.compaction_met_damage = False

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
        """What can be read now. Raises Closed."""
        if self.is_closed:
            self._check_writable()
        log_end_offset = self._log_end_offset  # before the segments: they must hold all of it
        return LogView(self.name, self._segments, self._log_start_offset, log_end_offset, self._gaps)

    @property
    def is_closed(self) -> bool:
        return type(self._offline) is Closed

    @property
    def offline_reason(self) -> str | None:
        """Why the partition takes no writes, None if it does."""
        return None if self._offline is None else str(self._offline)

    def wait(self, offset: int, timeout_s: float | None = None) -> bool:
        """Wait until the log's end is beyond ``offset``: whether it is. False too when the log is closed or deleted."""
        if self._log_end_offset > offset:
            return True
        turn = Lock()
        turn.acquire()
        waiter = self._waiters.add(offset, turn.release)
        if self._log_end_offset <= offset and isinstance(self._offline, PartitionOffline | None):
            turn.acquire(timeout=-1 if timeout_s is None else max(0.0, min(timeout_s, 1e9)))
        self._waiters.remove(waiter)
        return self._log_end_offset > offset

    def call_when_beyond(self, offset: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called once, in the appending thread or at once, when the log's end is beyond ``offset``.

        Returns what cancels it. This is how an event loop waits.
        """
        waiter = self._waiters.add(offset, callback)
        if self._log_end_offset > offset:
            self._waiters.wake(self._log_end_offset)
        return lambda: self._waiters.remove(waiter)

    # ----------------------------------------------------------------------------------------------------- appending

    def append(
        self,
        values: Sequence[Buffer | None],
        *,
        keys: Sequence[Buffer | None] | None = None,
        headers: Sequence[Headers] | None = None,
        timestamps_ms: int | Sequence[int] | None = None,
        compression: Compression = Compression.NONE,
        compression_level: int | None = None,
        producer_id: int = NO_PRODUCER_ID,
        producer_epoch: int = NO_PRODUCER_EPOCH,
        base_sequence: int = NO_SEQUENCE,
        durability: Durability = Durability.OS,
    ) -> Appended:
        """Append records, given as columns of one length, as one batch; without timestamps (ms) it is now.

        Raises InvalidRecord (RecordTooLarge, InvalidTimestamp), OutOfOrderSequence, ProducerFenced, StorageFailure
        (DiskFull), PartitionOffline, Closed.
        """
        if not values:
            raise InvalidRecord("a batch needs a record")
        now_ms = self.now_ms()
        is_plain = keys is None and headers is None and timestamps_ms is None and not compression and producer_id < 0
        if is_plain and only_bytes(values) and self._stores_as_sent():
            return self._append_plain(values, now_ms, durability)  # type: ignore[arg-type]  # just checked
        batch = encode_batch(
            values,
            timestamps_ms=now_ms if timestamps_ms is None else timestamps_ms,
            keys=keys,
            headers=headers,
            compression=compression,
            compression_level=compression_level,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
        )
        return self._append(RecordBatch.at(batch), durability)

    def _stores_as_sent(self) -> bool:
        """Whether no setting changes, or looks into, batches with times of now."""
        config = self.config
        return (
            config.compression_type == "producer"
            and config.message_timestamp_type == "CreateTime"
            and not config.compacts
        )

    def _append_plain(self, values: Sequence[bytes], now_ms: int, durability: Durability) -> Appended:
        """The short way for values alone, at the time of now: nothing of the batch needs a check but its size."""
        head, body = encode_plain(values, now_ms)
        size = PLACE.size + len(head) + len(body)
        if size > self.config.max_message_bytes:
            raise RecordTooLarge(size, self.config.max_message_bytes)
        with self._lock:
            self._check_writable()
            base_offset = self._write((head, body), size, len(values) - 1, now_ms, now_ms)
        return self._acknowledge(base_offset, base_offset + len(values) - 1, now_ms, durability)

    def append_batches(self, data: Buffer, durability: Durability = Durability.OS) -> list[Appended]:
        """Append whole batches that somebody else encoded, after a check of each, a receipt for each.

        Raises CorruptBatch before anything is written, else as ``append``; the batches before the one that failed stay.
        """
        found = list(batches(data))
        if not found or found[-1].position + found[-1].header.size != len(data):
            raise InvalidRecord("the data is not a row of whole batches")
        for batch in found:
            batch.check_crc()
            _check_records(batch)
        return [self._append(batch, durability) for batch in found]

    def _append(self, batch: RecordBatch, durability: Durability) -> Appended:
        self._check_writable()
        now_ms = self.now_ms()
        batch = self._admit(batch, now_ms)
        header, data = batch.header, batch.data
        with self._lock:
            self._check_writable()
            if header.producer_id >= 0 and not header.is_control:
                duplicate = self.producers.check(
                    header.producer_id, header.producer_epoch, header.base_sequence, header.record_count
                )
                if duplicate is not None:
                    if durability is Durability.FSYNC:
                        self._group_commit.wait(duplicate.last_offset + 1)
                    return Appended(*duplicate, durability, is_duplicate=True)
            pieces = (data[PLACE.size :],)
            base_offset = self._write(pieces, len(data), header.last_offset_delta, header.max_timestamp, now_ms)
            if header.producer_id >= 0:
                update_producers(self.producers, header._replace(base_offset=base_offset), batch)
        return self._acknowledge(base_offset, base_offset + header.last_offset_delta, header.max_timestamp, durability)

    def _write(
        self, pieces: tuple[Buffer, ...], size: int, last_offset_delta: int, max_timestamp: int, now_ms: int
    ) -> int:
        """Give a batch its place and write it, under the lock: its base offset. ``pieces`` are what follows PLACE, of
        ``size`` bytes with it."""
        base_offset = self._log_end_offset
        last_offset = base_offset + last_offset_delta
        segment = self._active
        if not segment.is_growing or self._is_due_to_roll(segment, size, last_offset, now_ms):
            segment = self._prepare_segment(size, last_offset, now_ms)
        place = PLACE.pack(base_offset, size - FRAME_SIZE, self.leader_epoch)
        try:
            segment.append((place, *pieces), size, last_offset, max_timestamp, now_ms)
        except StorageFailure:
            self._cut_back(segment)
            raise
        if self.leader_epochs.latest != self.leader_epoch:
            self.leader_epochs.assign(self.leader_epoch, base_offset)
        self._log_end_offset = last_offset + 1
        return base_offset

    def _acknowledge(self, base_offset: int, last_offset: int, timestamp_ms: int, durability: Durability) -> Appended:
        end_offset = last_offset + 1
        if self._waiters:
            self._waiters.wake(end_offset)
        if durability is Durability.FSYNC or end_offset - self.recovery_point >= self.config.flush_messages:
            self._group_commit.wait(end_offset)
        return Appended(base_offset, last_offset, timestamp_ms, durability)

    def _admit(self, batch: RecordBatch, now_ms: int) -> RecordBatch:
        """The batch as it will be stored. Raises InvalidRecord where the topic's settings refuse it."""
        config = self.config
        if batch.header.is_control:
            return batch
        if config.message_timestamp_type == "LogAppendTime":
            batch = restamp(batch, now_ms)
        else:
            _check_timestamps(batch, now_ms, config)
        if config.compacts and (batch.columns().key_lengths < 0).any():
            raise InvalidRecord(f"{self.name}: a record without a key cannot be in a topic that is compacted by key")
        if config.compression_type != "producer":
            batch = recompress(batch, _STORED_AS[config.compression_type])
        if batch.header.size > config.max_message_bytes:
            raise RecordTooLarge(batch.header.size, config.max_message_bytes)
        return batch

    def _is_due_to_roll(self, segment: Segment, size: int, last_offset: int, now_ms: int) -> bool:
        config = self.config
        return segment.size > 0 and (
            segment.size + size > config.segment_bytes
            or retention.should_roll_by_age(segment.created_ms, now_ms, config.segment_ms)
            or last_offset - segment.base_offset > OFFSET_SPAN_MAX
            or (segment.index_is_due and segment.index_is_full(config.segment_index_bytes))
        )

    def _prepare_segment(self, size: int, last_offset: int, now_ms: int) -> Segment:
        """The active segment, ready for a batch of ``size``; a new one where it is due to roll."""
        self._active.start_growing()
        if self._active.size:
            self._created_ms()
        if self._is_due_to_roll(self._active, size, last_offset, now_ms):
            self._roll()
        return self._active

    def _cut_back(self, segment: Segment) -> None:
        try:
            segment.cut_back(self.config.segment_bytes if self.config.preallocate else 0)
        except StorageFailure as error:
            self._go_offline(error)

    def _go_offline(self, error: StorageFailure) -> None:
        if self._offline is None:
            self._offline = PartitionOffline(self.name, str(error))

    # -------------------------------------------------------------------------------------------------- durability

    def flush(self) -> None:
        """Wait until everything appended so far is on the disk. Raises StorageFailure, PartitionOffline."""
        self._group_commit.wait(self._log_end_offset)

    def _sync(self) -> int:
        self._check_writable()
        end_offset = self._log_end_offset
        segments = self._segments
        # Sealed segments that hold offsets from the recovery point on, or end there, and the active one.
        first = max(0, bisect_left(segments, self.recovery_point, key=_base_offset) - 1)
        try:
            for segment in segments[first:-1]:
                segment.sync()
                segment.sync_indexes()
            segments[-1].sync()
        except StorageFailure as error:
            self._go_offline(error)
            raise
        self.recovery_point = end_offset
        self.last_flush_ms = self.now_ms()
        return end_offset

    def checkpoint(self) -> int:
        """Make everything durable that opening the log after a crash can save work with; returns the recovery point."""
        with self._lock:
            self.flush()
            if self._active.is_growing:
                self._active.sync_indexes()
            self._take_snapshot()
            return self.recovery_point

    def _take_snapshot(self) -> None:
        """Store what is known of producers and epochs up to the log's end. It can be had from the log again, so a disk
        that is full or a crash that tears it costs time at the next opening, nothing else."""
        offset = self._log_end_offset
        try:
            if self._saved_epochs != self.leader_epochs.entries:
                entries = self.leader_epochs.entries
                files.write_file(self.directory / filename.LEADER_EPOCH_CHECKPOINT, checkpoint.encode_epochs(entries))
                self._saved_epochs = entries
            if offset in self._snapshot_offsets:
                return
            data = producer_snapshot.encode(self.producers.snapshot_entries())
            files.write_file(self.directory / filename.snapshot_name(offset), data, sync=False)
            self._snapshot_offsets.append(offset)
            kept = {segment.base_offset for segment in self._segments} | set(sorted(self._snapshot_offsets)[-2:])
            for gone in [old for old in self._snapshot_offsets if old not in kept]:
                files.unlink(self.directory / filename.snapshot_name(gone))
                self._snapshot_offsets.remove(gone)
        except StorageFailure as error:
            logger.warning("%s: no producer snapshot at %d: %s", self.name, offset, error)

    # ---------------------------------------------------------------------------------------------------- segments

    def roll(self) -> None:
        """Begin a new segment, unless the active one is empty."""
        with self._lock:
            self._check_writable()
            if self._active.size:
                self._active.start_growing()
                self._roll()

    def roll_if_old(self, now_ms: int) -> None:
        """Roll a segment that is older than ``segment.ms``: a topic without appends must roll too, and one that is
        compacted so that its records can be, since the active segment never is."""
        config = self.config
        age_max_ms = min(config.segment_ms, config.max_compaction_lag_ms) if config.compacts else config.segment_ms
        with self._lock:
            if self._offline is not None or not self._active.size:
                return
            if retention.should_roll_by_age(self._created_ms(), now_ms, age_max_ms):
                self.roll()

    def _created_ms(self) -> int:
        active = self._active
        if not active.created_ms:
            try:
                timestamp = next(active.headers()).header.max_timestamp
            except DamagedLog:
                timestamp = NO_TIMESTAMP
            active.created_ms = min(active.modified_ms, timestamp) if timestamp >= 0 else active.modified_ms
        return active.created_ms

    def _roll(self) -> None:
        active = self._active
        active.time_index.reserve()  # what the end of the old segment needs, while nothing has changed yet
        segment = Segment.create(
            self.directory,
            self._log_end_offset,
            self._caches,
            index_interval=self.config.index_interval_bytes,
            allocate_size=self.config.segment_bytes if self.config.preallocate else 0,
        )
        segment.modified_ms = self.now_ms()  # retention may date the segments before it by this
        try:
            active.seal()
            files.sync_dir(self.directory)
        except StorageFailure as error:
            self._go_offline(error)
            raise
        self._segments = (*self._segments, segment)
        self._active = segment
        self._take_snapshot()

    def segment_infos(self) -> list[retention.SegmentInfo]:
        """What retention decides by, one for each segment."""
        return self.view.segment_infos()

    def delete_expired(
        self, now_ms: int | None = None, committed_offsets: Mapping[str, int] | None = None
    ) -> list[retention.Expiry]:
        """Retire the segments that retention lets go; returns them. Their files stay for ``file.delete.delay.ms``.

        ``committed_offsets``: what the groups named in ``consumed.groups`` have committed, by group.
        """
        with self._lock:
            self._check_writable()
            expired = retention.expired(
                self.segment_infos(),
                self.config,
                self.now_ms() if now_ms is None else now_ms,
                log_start_offset=self._log_start_offset,
                high_watermark=self._log_end_offset,
                committed=committed_offsets or {},
            )
            if expired and expired[-1].segment.is_active:
                self.roll()
            self._drop_oldest(len(expired))
            return expired

    def _drop_oldest(self, count: int) -> None:
        gone, kept = self._segments[:count], self._segments[count:]
        if not gone:
            return
        self._segments = kept
        self._log_start_offset = max(self._log_start_offset, kept[0].base_offset)
        self._retire(gone)
        if self.leader_epochs.truncate_from_start(self._log_start_offset):
            self._saved_epochs = None
        for offset in [offset for offset in self._snapshot_offsets if offset < kept[0].base_offset]:
            files.unlink(self.directory / filename.snapshot_name(offset))
            self._snapshot_offsets.remove(offset)

    def _retire(self, segments: Sequence[Segment]) -> None:
        """The oldest first, and surely: after a crash in the middle, what is left is the end of the log, without a hole
        or, after compaction, a value whose tombstone is gone."""
        for segment in segments:
            self._retire_one(segment)
            files.sync_dir(self.directory)

    def _retire_one(self, segment: Segment) -> None:
        for _, earlier in self._retired:
            if earlier.base_offset == segment.base_offset:
                earlier.pin()
        segment.retire()
        self._retired.append((self.now_ms(), segment))

    def replace_segments(self, old: Sequence[Segment], cleaned: Segment, later: Segment) -> bool:
        """Put a finished segment in the place of those that compaction made it from. False, with nothing changed, where
        the log does not have all of these any more, or not ``later``: something behind them has been cut off, which
        compaction took for the latest record of some key.

        Raises StorageFailure: before the new segment stands as ``.swap``, nothing has changed; after that, the
        partition is offline until opening it completes the swap.
        """
        with self._lock:
            self._check_writable()
            segments = self._segments
            first = segments.index(old[0]) if old[0] in segments else 0
            if segments[first : first + len(old)] != tuple(old) or later not in segments[first + len(old) :]:
                return False

            def retire_old() -> None:
                for segment in old:
                    self._retire_one(segment)

            swap_path = cleaned.path.with_suffix(filename.SWAP)
            files.rename(cleaned.path, swap_path)
            cleaned.path = swap_path
            try:
                files.sync_dir(self.directory)
                swap_in(self.directory, retire_old, cleaned.put_in_place)
            except StorageFailure as error:
                self._go_offline(error)
                raise
            self._segments = (*segments[:first], cleaned, *segments[first + len(old) :])
            return True

    def set_compacted(self, later: Segment, met_damage: bool) -> None:
        """Take note of a compaction that has run; ``later`` as in ``replace_segments``."""
        with self._lock:
            self.compaction_met_damage = met_damage
            if later in self._segments:
                self.cut_offset = LONG_MAX

    def producer_offsets(self) -> tuple[dict[int, int], int | None]:
        """The last offset of each producer's last batch, by producer id, and the first of an open transaction."""
        with self._lock:
            last_offsets = {entry.producer_id: entry.last_offset for entry in self.producers.snapshot_entries()}
            return last_offsets, self.producers.first_unstable_offset()

    def unlink_retired(self, *, at_once: bool = False) -> None:
        """Unlink the files of retired segments that have waited for ``file.delete.delay.ms``."""
        if not self._retired:
            return
        with self._lock:
            limit_ms = self.now_ms() - self.config.file_delete_delay_ms
            due = [item for item in self._retired if at_once or item[0] <= limit_ms]
            self._retired = [item for item in self._retired if item not in due]
            for _, segment in due:
                segment.unlink()

    def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        """Forget the producers that have been idle for so long."""
        with self._lock:
            self.producers.expire(now_ms, expiration_ms)

    def advance_log_start(self, offset: int) -> int:
        """Let go of the records before ``offset``: they can no longer be read, and whole segments of them go with the
        next retention. Returns the log start offset, which never moves back. Raises OffsetOutOfRange."""
        with self._lock:
            self._check_writable()
            if offset > self._log_end_offset or offset < 0:
                raise OffsetOutOfRange(self.name, offset, self._log_start_offset, self._log_end_offset)
            self._log_start_offset = max(self._log_start_offset, offset)
            return self._log_start_offset

    def truncate_to(self, offset: int) -> None:
        """Cut the log so that it ends at ``offset``, or before the batch that holds it. Raises OffsetOutOfRange."""
        with self._lock:
            self._check_writable()
            if not self._log_start_offset <= offset <= self._log_end_offset:
                raise OffsetOutOfRange(self.name, offset, self._log_start_offset, self._log_end_offset)
            if offset == self._log_end_offset:
                return
            self.flush()
            kept = [segment for segment in self._segments if segment.base_offset <= offset] or [self._segments[0]]
            located = kept[-1].find(offset)
            end_offset = offset if located is None else min(offset, located.header.base_offset)
            self.recovery_point = min(self.recovery_point, end_offset)
            self.cut_offset = min(self.cut_offset, end_offset)
            self._save_recovery_point()
            gone = self._segments[len(kept) :]
            self._log_end_offset = end_offset
            self._segments, self._active = tuple(kept), kept[-1]
            for segment in reversed(gone):  # the newest first: what is left has no hole
                self._retire_one(segment)
                files.sync_dir(self.directory)
            if located is not None:
                self._active.truncate(located.position)
            self._forget_after(end_offset)

    def _forget_after(self, end_offset: int) -> None:
        for offset in [offset for offset in self._snapshot_offsets if offset > end_offset]:
            files.unlink(self.directory / filename.snapshot_name(offset))
            self._snapshot_offsets.remove(offset)
        self.leader_epochs.truncate_from_end(end_offset)
        self._log_start_offset = min(self._log_start_offset, end_offset)
        self._group_commit.synced_offset = min(self._group_commit.synced_offset, end_offset)
        replay(self.directory, self._segments, self._snapshot_offsets, self.producers, self.leader_epochs)
        self._active.sync()
        self._take_snapshot()

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
                if self._active.is_growing:
                    self._active.seal()
                    self._active.sync()
                    self._active.sync_indexes()
                self._take_snapshot()
                self.unlink_retired(at_once=True)
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
        that it does not have may hold."""
        self._offline = reason
        self._lock = RLock()
        self._group_commit = GroupCommit(self._sync, self.recovery_point)

    def _release(self) -> None:
        self._waiters.wake(LONG_MAX)
        for segment in self._segments:
            segment.forget()


def _check_records(batch: RecordBatch) -> None:
    """Raises CorruptBatch where the records cannot be read, or are not what the header says of them."""
    header, columns = batch.header, batch.columns()
    columns.headers()
    if not np.array_equal(columns.offsets - header.base_offset, np.arange(header.last_offset_delta + 1)):
        raise CorruptBatch(f"the records do not fill offsets 0 to {header.last_offset_delta}", batch.position)
    if columns.timestamps_ms.max() > header.max_timestamp:
        raise CorruptBatch(
            f"a record is newer than the batch's largest timestamp {header.max_timestamp}", batch.position
        )


def _base_offset(segment: Segment) -> int:
    return segment.base_offset


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
