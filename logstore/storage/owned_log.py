"""A log that this process owns, from opening to closing: what it looks like to readers, when it is on the disk, how it
goes from one segment to the next, and what it takes no more writes after. What comes in is log_writer's.

A sync that fails takes the partition offline for writes until it is opened anew, since nothing is known then of what
reached the disk; reads go on.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, RLock

from logstore.config import TopicConfig
from logstore.errors import Closed, LogstoreError, PartitionOffline, StorageFailure, UnknownTopic
from logstore.settings import LONG_MAX
from logstore.storage import retention
from logstore.storage.aborted import Aborted, AbortedTransaction
from logstore.storage.arguments import as_integer
from logstore.storage.cache import Caches
from logstore.storage.checked import ignore
from logstore.storage.durability import GroupCommit
from logstore.storage.epoch_checkpoint import begin_epoch
from logstore.storage.log_view import LogView, ReadableLog
from logstore.storage.recovery import SegmentDamage, recover
from logstore.storage.segment_list import SegmentList
from logstore.storage.state_files import StateFiles
from logstore.storage.waiters import Waiters

logger = logging.getLogger("logstore.storage")


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class OwnedLog(ReadableLog):
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
        is_start_known: bool = False,
        was_compacted: bool = False,
        has_lost_power: bool | None = False,
        on_checked: Callable[[int], None] = ignore,
        on_synced: Callable[[int], None] = ignore,
        now_ms: Callable[[], int] = wall_clock_ms,
        save_recovery_point: Callable[[], None] = lambda: None,
    ) -> None:
        """Open, and if need be recover, the log in ``directory``, which exists. Raises StorageFailure.

        ``save_recovery_point`` is called when the recovery point has been lowered, before the log itself is cut;
        ``on_checked`` and ``on_synced`` while the log is recovered (see ``Checked``).
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
            is_start_known=is_start_known,
            is_compacted=was_compacted or self.config.compacts,
            has_lost_power=has_lost_power,
            on_checked=on_checked,
            on_synced=on_synced,
        )
        self._segments = SegmentList(directory, found.segments, self._caches)
        self._log_start_offset = found.log_start_offset
        self._log_end_offset = found.log_end_offset
        self._gaps = tuple(found.gaps)
        self.damages: tuple[SegmentDamage, ...] = tuple(found.damages)
        self.producers = found.producers
        self.leader_epochs = found.leader_epochs
        self.aborted = Aborted(found.log_end_offset)
        saved_epochs = found.leader_epochs.entries if is_clean else None
        self._state_files = StateFiles(directory, found.snapshot_offsets, saved_epochs)
        self.leader_epoch = found.leader_epoch
        self.recovery_point = found.recovery_point
        self.last_flush_ms = now_ms()
        self._lock = RLock()
        self._dropping = Lock()  # for who lets the oldest segments go, one by one; taken before the other
        self._group_commit = GroupCommit(self._sync, self.recovery_point)
        self._waiters = Waiters()
        self._offline: LogstoreError | None = None
        self._cut_count = 0
        self.cut_offset = LONG_MAX  # from here on the log has been cut since it was last compacted
        self.compaction_met_damage = False
        self.was_compacted = was_compacted or self.config.compacts
        if found.failed_sync is not None:
            self._go_offline(found.failed_sync)

    # ----------------------------------------------------------------------------------------------------- reading

    @property
    def log_start_offset(self) -> int:
        return self._log_start_offset

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record will have."""
        return self._log_end_offset

    @property
    def last_stable_offset(self) -> int:
        """Where the first transaction begins that is not finished; the log's end where all are."""
        with self._lock:  # the end moves before the producers' state
            first = self.producers.first_unstable_offset()
            return self._log_end_offset if first is None else min(first, self._log_end_offset)

    def aborted_transactions(self, from_offset: int, to_offset: int) -> list[AbortedTransaction]:
        """See ``Aborted.find``; ``aborted.may_be`` tells whether it has to read."""
        return self.aborted.find(self.view, from_offset, to_offset)

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

    # -------------------------------------------------------------------------------------------------- durability

    def flush(self) -> None:
        """Wait until everything appended so far is on the disk. Raises StorageFailure, PartitionOffline, Closed."""
        self._check_writable()
        self._group_commit.wait(self._log_end_offset)

    def _sync(self) -> int:
        self._check_writable()
        end_offset = self._log_end_offset
        with self._offline_on_failed_sync():
            self._segments.sync_from(self._group_commit.synced_offset)
        self.last_flush_ms = self.now_ms()
        return end_offset

    @property
    def synced_offset(self) -> int:
        """Everything below is on the disk."""
        return self._group_commit.synced_offset

    def checkpoint(self) -> int:
        """Make durable all that opening the log after a crash can save work with, and return the recovery point: below
        it log and indexes are on the disk, whole. Raises StorageFailure, PartitionOffline.

        Appends go on meanwhile: only an epoch of leaders that is new is synced under the lock."""
        self.flush()
        with self._lock:
            self._check_writable()
            end_offset, cut_count = self._log_end_offset, self._cut_count
            growing = [segment for segment in self._segments.all[-1:] if segment.is_growing]
            for segment in growing:
                segment.store_indexes()
            self._save_state()
        self._group_commit.wait(end_offset)  # what came since, if anything did
        with self._offline_on_failed_sync():
            for segment in growing:
                segment.sync_indexes()
            self._state_files.sync()
        with self._lock:
            self._check_writable()
            if self._cut_count == cut_count:
                self.recovery_point = max(self.recovery_point, end_offset)
            return self.recovery_point

    @property
    def has_begun_epoch(self) -> bool:
        """Whether the leader's epoch is stored, so that nobody else can be given it. The first, 0, is everybody's, and
        never given to other records: nothing is lost with it."""
        return not self.leader_epoch or self.leader_epochs.latest == self.leader_epoch

    def _begin_leader_epoch(self) -> None:
        """Before its first record, or before the log is said to be whole. Raises StorageFailure."""
        if not self.has_begun_epoch:
            with self._offline_on_failed_sync():
                begin_epoch(self.directory, self.leader_epochs, self.leader_epoch, self._log_end_offset)

    def _save_state(self) -> None:
        """Raises StorageFailure where a sync has failed, or a new epoch cannot be stored."""
        self._begin_leader_epoch()
        with self._offline_on_failed_sync():
            self._state_files.save_epochs(self.leader_epochs.entries)
        self._save_snapshot()

    def _save_snapshot(self) -> None:
        base_offsets = [segment.base_offset for segment in self._segments.all]
        self._state_files.save_snapshot(self._log_end_offset, self.producers, base_offsets)

    @contextmanager
    def _offline_on_failed_sync(self) -> Iterator[None]:
        """A file that could not even be opened has lost nothing."""
        try:
            yield
        except StorageFailure as error:
            if isinstance(self._offline, UnknownTopic):  # deleted meanwhile, and its files are gone
                raise self._offline.with_traceback(None) from None
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

    def _go_offline(self, error: BaseException) -> None:
        if self._offline is None:
            self._offline = PartitionOffline(self.name, str(error) or f"{type(error).__name__} in the middle of a step")
            logger.error("%s", self._offline)

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
        self._save_snapshot()

    def roll_if_old(self, now_ms: int) -> None:
        """Roll a segment that is older than ``segment.ms``, or will be within its share of ``segment.jitter.ms``: a
        topic without appends must roll too, and one that is compacted so that its records can be, since the active
        segment never is."""
        config = self.config
        with self._lock:
            if self._offline is not None or not self._segments.active.size:
                return
            age_max_ms = config.segment_ms
            if config.segment_jitter_ms:
                age_max_ms -= retention.jitter_ms(config, f"{self.name}/{self._segments.active.base_offset}")
            if config.compacts:
                age_max_ms = min(age_max_ms, config.max_compaction_lag_ms)
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
