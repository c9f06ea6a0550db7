"""What the parts of a queue share: its logs, its state, its lock, and who waits.

The parts are intake (what is put), outlet (what is got), settling (what becomes of that), burial (dead letters) and
upkeep; each holds the engine, and those of the others that it needs.

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
from collections.abc import Callable, Sequence
from typing import Any

from logstore.client.queue.journal import Journal
from logstore.client.queue.opening import STATE_PREFIX, Opened
from logstore.client.queue.reader import Reader
from logstore.client.queue.state import QueueState
from logstore.client.queue.waiting import Waiters
from logstore.config import QueueConfig
from logstore.errors import DiskFull, ForkedProcess, InvalidSetting, LogstoreError
from logstore.format.queue_state import SettingsChanged, encode_event
from logstore.storage.durability import Durability
from logstore.storage.log_writer import Appended
from logstore.store import TopicStore

logger = logging.getLogger("logstore.queue")

_LOOK_AGAIN_MS = 60_000
_TOLERANCE_S = 0.002  # a getter that looks again so little later is not woken for it


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Engine:
    """See the module."""

    def __init__(
        self, store: TopicStore, name: str, opened: Opened, wall_ms: Callable[[], int], now_ms: Callable[[], int]
    ) -> None:
        self.name = name
        self.damages: list[str] = opened.loaded.damages
        self.wall_ms, self.now_ms = wall_ms, now_ms
        self.log = store.log(name)
        self.state: QueueState = opened.loaded.state
        self.journal = Journal(store.log(STATE_PREFIX + name), opened.loaded.note_count, self.make_room)
        self.reader = Reader(self.log)
        self.lock = threading.Lock()
        self.upkeep_lock = threading.Lock()
        self.getters = Waiters()
        self.putters = Waiters()
        self.joiners = Waiters()
        self.closed: LogstoreError | None = None
        self._is_listening = False
        self._set_config(self.state.config)
        if opened.must_sync:
            self.journal.snapshot(self.state)
            self.journal.sync()
            self.journal.try_to_let_go()
        elif opened.must_note:  # of a new queue, the settings say whose messages these are as well
            self._note_config(self.state.config)
            self.journal.sync()
        _OPEN.add(self)

    # ----------------------------------------------------------------------------------------------------- settings

    def _set_config(self, config: QueueConfig) -> None:
        self.state.config = config
        self.must_sync = config.durability == "fsync"
        self.durability = Durability(config.durability)
        self.is_plain = not config.ordered and config.ttl_ms < 0
        self.is_bounded = config.max_size > 0
        self.hold_ms = config.visibility_timeout_ms

    @property
    def config(self) -> QueueConfig:
        return self.state.config

    def _note_config(self, config: QueueConfig) -> None:
        self.journal.note([encode_event(SettingsChanged(self.state.topic_id, config.overrides()))])
        self._set_config(config)

    def configure(self, config: QueueConfig) -> None:
        """Change the settings, for good. Raises InvalidSetting, StorageFailure, Closed."""
        with self.lock:
            self.check_open()
            if config == self.state.config:
                return
            if config.ordered != self.state.config.ordered and self.state.pending:
                reason = "messages are under way: give it when you open the queue, or when they are settled"
                raise InvalidSetting("ordered", config.ordered, reason)
            self._note_config(config)
        self.journal.sync()
        self.getters.wake_all()
        self.putters.wake_all()

    # ---------------------------------------------------------------------------------------------------- who waits

    def settled_some(self) -> None:
        """Tell who waits for it. Under the lock."""
        if self.putters.waiting:
            self.wake_putters()
        if self.joiners.waiting and not self.unsettled_count():
            self.joiners.wake_all()
        if self.getters.waiting:
            self.pass_on()

    def wake_putters(self) -> None:
        """Those for whom there is room. Under the lock."""
        if self.is_bounded:
            self.putters.wake_fitting(self.config.max_size - self.unsettled_count())
        else:
            self.putters.wake_all()

    def unsettled_count(self) -> int:
        return self.state.unsettled_count(self.log.log_end_offset)

    def pass_on(self) -> None:
        """See that getters are woken when it is time, under the lock: one of them now, where something is ready or the
        next thing becomes ready before any of them looks again."""
        state = self.state
        wall_ms, now_ms = self.wall_ms(), self.now_ms()
        if state.take_ready(wall_ms, now_ms) is not None:
            self.getters.wake_one()
            return
        if state.may_look:
            if self.log.log_end_offset > state.cursor:
                self.getters.wake_one()
                return
            self._listen()
        due_ms = state.next_due_ms(wall_ms, now_ms)
        if due_ms is not None and time.monotonic() + due_ms / 1000 + _TOLERANCE_S < self.getters.earliest_s():
            self.getters.wake_one()

    def _listen(self) -> None:
        """Have a getter woken when the log grows beyond the cursor."""
        if not self._is_listening:
            self._is_listening = True
            self.log.call_when_beyond(self.state.cursor, self._heard)

    def _heard(self) -> None:
        self._is_listening = False
        self.getters.wake_one()

    def look_again_s(self, until_s: float) -> float:
        """When a getter that waits until then looks again: something becomes ready by itself. Under the lock."""
        due_ms = self.state.next_due_ms(self.wall_ms(), self.now_ms())
        return until_s if due_ms is None else min(until_s, time.monotonic() + min(due_ms, _LOOK_AGAIN_MS) / 1000)

    # ------------------------------------------------------------------------------------------------------ the disk

    def append(self, values: Sequence[bytes | None], **columns: Any) -> Appended:
        """To the log of messages. Where the disk is full, what is settled makes room first."""
        try:
            return self.log.append(values, **columns)
        except DiskFull:
            self.make_room()
        return self.log.append(values, **columns)

    def make_room(self) -> None:
        """The disk is full: what was let go of is unlinked at once."""
        for log in (self.log, self.journal.log):
            with contextlib.suppress(LogstoreError):
                log.unlink_retired(at_once=True)

    # ---------------------------------------------------------------------------------------------------------- end

    def check_open(self) -> None:
        if self.closed is not None:
            raise self.closed.with_traceback(None)

    def abandon(self, reason: LogstoreError) -> bool:
        """It is of no use any more, as when its topic is gone: ``reason`` is what those get who still use it. False
        where it was closed before."""
        with self.lock:  # nobody looks at it, and waits after that
            if self.closed is not None:
                return False
            self.closed = reason
        _OPEN.discard(self)
        for waiters in (self.getters, self.putters, self.joiners):
            waiters.wake_all()
        return True

    def _abandon_in_child(self) -> None:
        self.closed = ForkedProcess(f"queue {self.name!r}")
        self.lock, self.upkeep_lock = threading.Lock(), threading.Lock()
        self.getters, self.putters, self.joiners = Waiters(), Waiters(), Waiters()


_OPEN: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def _abandon_all_in_child() -> None:
    for engine in list(_OPEN):
        engine._abandon_in_child()
    _OPEN.clear()


os.register_at_fork(after_in_child=_abandon_all_in_child)
