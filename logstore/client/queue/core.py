"""What a queue is made of, below its methods: its logs, its state, who waits, and what it does besides.

One lock guards the state, and with it the order of the notes. Nothing waits for the disk under it: whoever must, does
so when the note is in the page cache and the state is changed, so that workers share syncs. Every change is noted
before it is made, and an interrupt in between leaves a note of what was not done: a message that is handed out once
more.

Nobody polls: a getter sleeps until the log grows, a delay or a visibility timeout is over, or its own time is up. A
wake goes to one of them, who passes it on while there is more. (The wall clock, by which messages are delayed, may be
set: who waits for it looks again once a minute.)
"""

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable

from logstore.client.queue.journal import Journal
from logstore.client.queue.messages import Deserializer
from logstore.client.queue.opening import STATE_PREFIX, Opened
from logstore.client.queue.reader import Missing, Reader
from logstore.client.queue.state import QueueState
from logstore.client.queue.waiting import Waiter, Waiters
from logstore.config import QueueConfig
from logstore.errors import Closed, ForkedProcess, InvalidSetting, LogstoreError
from logstore.format.queue_state import Outcome, SettingsChanged, encode_event, encode_settled
from logstore.storage.durability import Durability
from logstore.storage.partition import PartitionLog
from logstore.store import TopicStore

logger = logging.getLogger("logstore.queue")

_LOOK_AGAIN_MS = 60_000
_TOLERANCE_S = 0.002  # a getter that looks again so little later is not woken for it
_SEGMENT_CHECK_COUNT = 64  # messages that are settled before it is seen that a segment has been rolled


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class QueueCore:
    """See the module."""

    def __init__(
        self,
        store: TopicStore,
        name: str,
        opened: Opened,
        wall_ms: Callable[[], int],
        now_ms: Callable[[], int] = monotonic_ms,
        *,
        serializer: Callable[[object], bytes | None] | None = None,
        deserializer: Deserializer | None = None,
    ) -> None:
        self.name = name
        self.serializer, self.deserializer = serializer, deserializer
        self.damages: list[str] = opened.loaded.damages
        self._store = store
        self._wall_ms, self._now_ms = wall_ms, now_ms
        self._log = store.log(name)
        self._append = self._log.append
        self._state: QueueState = opened.loaded.state
        self._journal = Journal(store.log(STATE_PREFIX + name), opened.loaded.note_count, self._make_room)
        self._reader = Reader(self._log)
        self._lock = threading.Lock()
        self._upkeep_lock = threading.Lock()
        self._getters = Waiters()
        self._putters = Waiters()
        self._joiners = Waiters()
        self._is_listening = False
        self._closed: LogstoreError | None = None
        self._check_segments_at = self._state.low_water
        self._set_config(self._state.config)
        if opened.must_sync:
            self._journal.snapshot(self._state)
            self._journal.sync()
            self._journal.try_to_let_go()
        elif opened.must_note:
            self.begin()
        _OPEN.add(self)

    def _set_config(self, config: QueueConfig) -> None:
        self._state.config = config
        self._must_sync = config.durability == "fsync"
        self._durability = Durability(config.durability)
        self._is_plain = not config.ordered and config.ttl_ms < 0
        self._is_bounded = config.max_size > 0
        self._hold_ms = config.visibility_timeout_ms

    @property
    def log(self) -> PartitionLog:
        """The log of its messages, which anybody may read."""
        return self._log

    @property
    def config(self) -> QueueConfig:
        return self._state.config

    def configure(self, config: QueueConfig) -> None:
        """Change the settings, for good. Raises InvalidSetting, StorageFailure, Closed."""
        with self._lock:
            self._check_open()
            if config == self._state.config:
                return
            if config.ordered != self._state.config.ordered and self._state.pending:
                reason = "messages are under way: give it when you open the queue, or when they are settled"
                raise InvalidSetting("ordered", config.ordered, reason)
            self._note_config(config)
        self._journal.sync()
        self._getters.wake_all()
        self._putters.wake_all()

    def begin(self) -> None:
        """Note the settings that it was opened with; of a new queue, this says whose messages these are as well."""
        with self._lock:
            self._note_config(self._state.config)
        self._journal.sync()

    def _note_config(self, config: QueueConfig) -> None:
        self._journal.note([encode_event(SettingsChanged(self._state.topic_id, config.overrides()))])
        self._set_config(config)

    # ----------------------------------------------------------------------------------------------------- messages

    def _skip(self, missing: Missing) -> None:
        """At the cursor there is no message that can be read: it goes on behind. Under the lock."""
        first, last = self._state.cursor, missing.next_offset - 1
        self._journal.note([encode_settled(first, last, missing.outcome)])
        self._state.settled(first, last)
        self._take_for_lost(first, last, missing)

    def _drop(self, offset: int, missing: Missing) -> None:
        """A pending message cannot be read any more. Under the lock."""
        self._journal.note([encode_settled(offset, offset, missing.outcome)])
        self._state.settle(offset)
        self._take_for_lost(offset, offset, missing)

    def _take_for_lost(self, first: int, last: int, missing: Missing) -> None:
        if missing.outcome is Outcome.LOST:
            self._state.lost.append((first, last))
            logger.error("queue %r: messages %d to %d are lost: %s", self.name, first, last, missing.reason)
        if self._putters.waiting or self._joiners.waiting:
            self._settled_some()

    def _settled_some(self) -> None:
        """Tell who waits for it. Under the lock."""
        if self._putters.waiting:
            self._wake_putters()
        if self._joiners.waiting and not self._unsettled_count():
            self._joiners.wake_all()
        if self._getters.waiting:
            self._pass_on()

    def _wake_putters(self) -> None:
        """Those for whom there is room. Under the lock."""
        if self._is_bounded:
            self._putters.wake_fitting(self.config.max_size - self._unsettled_count())
        else:
            self._putters.wake_all()

    def _unsettled_count(self) -> int:
        return self._state.unsettled_count(self._log.log_end_offset)

    # ------------------------------------------------------------------------------------------------------ waiting

    def _pass_on(self) -> None:
        """See that getters are woken when it is time, under the lock: one of them now, where something is ready or the
        next thing becomes ready before any of them looks again."""
        state = self._state
        wall_ms, now_ms = self._wall_ms(), self._now_ms()
        if state.take_ready(wall_ms, now_ms) is not None:
            self._getters.wake_one()
            return
        if state.may_look:
            if self._log.log_end_offset > state.cursor:
                self._getters.wake_one()
                return
            self._listen()
        due_ms = state.next_due_ms(wall_ms, now_ms)
        if due_ms is not None and time.monotonic() + due_ms / 1000 + _TOLERANCE_S < self._getters.earliest_s():
            self._getters.wake_one()

    def wake_all_getters(self) -> None:
        """They look whether they still want what they wait for."""
        self._getters.wake_all()

    def _listen(self) -> None:
        """Have a getter woken when the log grows beyond the cursor."""
        if not self._is_listening:
            self._is_listening = True
            self._log.call_when_beyond(self._state.cursor, self._heard)

    def _heard(self) -> None:
        self._is_listening = False
        self._getters.wake_one()

    def _next_look_s(self) -> float | None:
        """In how many seconds something becomes ready by itself, a minute at most; None: nothing does. Under the
        lock."""
        due_ms = self._state.next_due_ms(self._wall_ms(), self._now_ms())
        return None if due_ms is None else min(due_ms, _LOOK_AGAIN_MS) / 1000

    # ------------------------------------------------------------------------------------------------------- upkeep

    def do_upkeep(self) -> None:
        """What is due of it; ``ack`` and ``get`` do it themselves."""
        if self.upkeep_is_due():
            self._upkeep()

    @property
    def must_sync(self) -> bool:
        """Whether what is put, acked and nacked is to be on the disk before that returns."""
        return self._must_sync

    def sync_messages(self) -> None:
        """Wait until all that was put is on the disk."""
        self._log.flush()

    def sync_notes(self) -> None:
        """Wait until all that was acked and nacked is on the disk."""
        self._journal.sync()

    def wait_for_room(self, waiter: Waiter) -> None:
        """It is called when there is room for its messages, at once where there is; ``give_up_room`` must follow.
        Raises Closed."""
        with self._lock:
            self._check_open()
            self._putters.add(waiter)
            self._wake_putters()

    def give_up_room(self, waiter: Waiter) -> None:
        """A putter goes away, and might have been the one who was woken."""
        self._putters.remove(waiter)
        with self._lock:
            if self._putters.waiting and self._closed is None:
                self._wake_putters()

    def upkeep_is_due(self) -> bool:
        """Whether it is time for ``do_upkeep``."""
        return self._journal.is_due or self._state.low_water >= self._check_segments_at

    def _upkeep(self) -> None:
        """A snapshot, and what nobody needs any more goes. What fails is tried again later."""
        if not self._upkeep_lock.acquire(blocking=False):
            return
        try:
            for duty in (self._release, self._shorten_notes):  # the first makes room for the second
                try:
                    duty()
                except LogstoreError as error:
                    logger.warning("queue %r: what is settled stays on the disk for now: %s", self.name, error)
        finally:
            self._upkeep_lock.release()

    def _shorten_notes(self) -> None:
        if self._journal.is_due:
            with self._lock:
                self._journal.snapshot(self._state)
            self._journal.let_go()

    def _release(self, *, all_of_it: bool = False) -> None:
        """Let go of the segments of settled messages; ``all_of_it``: where nothing is pending, of the last one too."""
        bases = [segment.base_offset for segment in self._log.view.segments]
        with self._lock:
            low_water = self._kept_from()
            soon = self._state.low_water + _SEGMENT_CHECK_COUNT
            self._check_segments_at = next((base for base in bases[1:] if base > self._state.low_water), soon)
        is_empty = low_water == self._log.log_end_offset > bases[0]
        if all_of_it and is_empty:
            self._log.roll()
            bases.append(low_water)
        if len(bases) > 1 and bases[1] <= low_water and self._may_release():
            self._log.advance_log_start(low_water)
            self._log.delete_expired()

    def _may_release(self) -> bool:
        """Whether nobody else needs what is settled here."""
        return True

    def _kept_from(self) -> int:
        """Below it nothing is needed: all is settled, and no damage waits to be salvaged."""
        gaps = self._log.view.gaps
        waiting = [
            first for first, last in self._state.lost if not any(low <= first and last <= high for low, high in gaps)
        ]
        return min([self._state.low_water, *waiting])

    def _make_room(self) -> None:
        """The disk is full: what was let go of is unlinked at once."""
        for log in (self._log, self._journal.log):
            with contextlib.suppress(LogstoreError):
                log.unlink_retired(at_once=True)

    # ---------------------------------------------------------------------------------------------------------- end

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed.with_traceback(None)

    @property
    def is_closed(self) -> bool:
        return self._closed is not None

    def close(self) -> None:
        """Stop: who waits gets Closed. Messages that are not settled stay, and those that workers have are ready at the
        next opening. Closing twice is no error."""
        if self._closed is not None:
            return
        with self._upkeep_lock:
            if not self.abandon(Closed(f"queue {self.name!r}")):
                return  # by another thread, meanwhile
            try:
                if self._journal.has_news:
                    with self._lock:
                        self._journal.snapshot(self._state)
                    self._journal.let_go()
                self._release(all_of_it=True)
            except LogstoreError as error:  # its notes are there, and tell the same
                logger.warning("queue %r: closed without a snapshot: %s", self.name, error)

    def wait_until_closed(self) -> None:
        """Of one that is being closed: nothing is noted by it any more when this returns."""
        with self._upkeep_lock:
            pass

    def abandon(self, reason: LogstoreError) -> bool:
        """It is of no use any more, as its topic is gone: ``reason`` is what those get who still use it. False where it
        was closed before."""
        with self._lock:  # nobody looks at it, and waits after that
            if self.is_closed:
                return False
            self._closed = reason
        _OPEN.discard(self)
        for waiters in (self._getters, self._putters, self._joiners):
            waiters.wake_all()
        return True

    def _abandon_in_child(self) -> None:
        self._closed = ForkedProcess(f"queue {self.name!r}")
        self._lock, self._upkeep_lock = threading.Lock(), threading.Lock()
        self._getters, self._putters, self._joiners = Waiters(), Waiters(), Waiters()


_OPEN: "weakref.WeakSet[QueueCore]" = weakref.WeakSet()


def _abandon_all_in_child() -> None:
    for queue in list(_OPEN):
        queue._abandon_in_child()
    _OPEN.clear()


os.register_at_fork(after_in_child=_abandon_all_in_child)
