"""How messages are handed out: to the next getter, and what is found on the way goes to the dead letters."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from logstore.client.queue.burial import Burial, Doomed
from logstore.client.queue.engine import Engine, logger
from logstore.client.queue.messages import Job, visible_at_ms
from logstore.client.queue.ranges import ranges
from logstore.client.queue.reader import Missing
from logstore.client.queue.state import BLOCKED, Pending, QueueState
from logstore.client.queue.upkeep import Upkeep
from logstore.client.queue.waiting import Turn, Waiter
from logstore.errors import Empty
from logstore.format.queue_state import Outcome, encode_delivered, encode_settled
from logstore.format.record import Record

if TYPE_CHECKING:
    from logstore.client.queue.queue import Queue

Doom = Callable[[QueueState, Pending, Record, int], str | None]

_DOOMED_MAX = 500  # dead letters that are made at a time


class Outlet:
    """See the module. ``queue`` is the one that its messages are of; ``doom`` says why one becomes a dead letter."""

    def __init__(self, queue: "Queue", engine: Engine, burial: Burial, upkeep: Upkeep, doom: Doom) -> None:
        self._queue, self._engine, self._burial, self._upkeep, self._doom = queue, engine, burial, upkeep, doom

    def take(self, count: int, until_s: float, is_over: Callable[[], bool] = lambda: False) -> list[Job]:
        """See Queue.get_many; until a time of the monotonic clock. ``is_over`` is looked at whenever this is woken;
        where it is, Empty is raised."""
        jobs: list[Job] = []
        while len(jobs) < count:
            turn = Turn(until_s) if not jobs and time.monotonic() < until_s and not is_over() else None
            more, doomed = self.take_or_wait(count - len(jobs), turn)
            jobs += more
            if doomed:
                self._burial.bury_beside(doomed, jobs)
            elif jobs:
                break
            elif turn is None:
                raise Empty(self._engine.name)
            elif is_over():  # since it was asked before: who says so wakes those only who wait by then
                self.leave(turn)
            else:
                self._wait(turn)
        _newest.job = jobs[-1]
        if self._upkeep.is_due:
            self._upkeep.run()
        return jobs

    def take_or_wait(self, count: int, waiter: Waiter | None) -> tuple[list[Job], list[Doomed]]:
        """What is ready, up to ``count``, and what is to be buried on the way; without either, ``waiter`` waits from
        now on, and looks again at its ``until_s`` at the latest, or is to ``leave``."""
        with self._engine.lock:
            jobs, doomed = self._take(count)
            if waiter is not None and not jobs and not doomed:
                waiter.until_s = self._engine.look_again_s(waiter.until_s)
                self._engine.getters.add(waiter)
            if self._engine.getters.waiting:
                self._engine.pass_on()
        return jobs, doomed

    def _wait(self, turn: Turn) -> None:
        try:
            turn.wait()
        except BaseException:
            self.leave(turn)
            raise
        self._engine.getters.remove(turn)

    def leave(self, waiter: Waiter) -> None:
        """A getter goes away, and might have been the one who was woken."""
        self._engine.getters.remove(waiter)
        with self._engine.lock:
            if self._engine.getters.waiting and self._engine.closed is None:
                self._engine.pass_on()

    def take_plain(self) -> Job | None:
        """The next message, where there is one, and nothing but its turn matters: the way of most."""
        engine = self._engine
        state = engine.state
        with engine.lock:
            now_ms = engine.now_ms()
            if not engine.is_plain or engine.closed is not None or state.has_other(now_ms, engine.wall_ms):
                return None
            offset = state.cursor
            if offset >= engine.log.log_end_offset:
                return None
            record = engine.reader.next(offset)
            if type(record) is not Record or record[4]:  # it has headers
                return None
            engine.journal.note([encode_delivered(offset, offset, 1)])
            state.deliver_fresh(now_ms + engine.hold_ms)
            if engine.getters.waiting:
                engine.pass_on()
        _newest.job = job = Job(self._queue, record, 1)
        return job

    def _take_plain_run(self, count: int) -> list[Job]:
        """As many of those; none where something else is among them. Under the lock."""
        engine = self._engine
        state = engine.state
        now_ms = engine.now_ms()
        if not engine.is_plain or state.has_other(now_ms, engine.wall_ms):
            return []
        first = state.cursor
        end = min(first + count, engine.log.log_end_offset)
        records: list[Record] = []
        for offset in range(first, end):
            record = engine.reader.next(offset)
            if type(record) is not Record or record[4]:
                return []
            records.append(record)
        if records:
            engine.journal.note([encode_delivered(first, end - 1, 1)])
        for _ in records:
            state.deliver_fresh(now_ms + engine.hold_ms)
        return [Job(self._queue, record, 1) for record in records]

    def _take(self, count: int) -> tuple[list[Job], list[Doomed]]:
        """What is ready, up to ``count``, and what is found on the way that is for the dead letters. Under the lock."""
        engine, state = self._engine, self._engine.state
        engine.check_open()
        if run := self._take_plain_run(count):
            return run, []
        wall_ms, now_ms = engine.wall_ms(), engine.now_ms()
        taken: list[tuple[Pending, Record]] = []
        doomed: list[Doomed] = []
        try:
            while len(taken) < count and len(doomed) < _DOOMED_MAX:
                found = self._next_ready(wall_ms, now_ms)
                if found is None:
                    break
                message, record = found
                reason = self._doom(state, message, record, wall_ms)
                if reason is None:
                    state.delivered(message, now_ms + engine.hold_ms)
                    taken.append(found)
                else:
                    state.leave(message)
                    doomed.append(Doomed(message, record, reason))
            if taken:
                engine.journal.note(_delivery_notes([message for message, _ in taken]))
        except BaseException:
            for message, _ in taken:
                message.deliveries -= 1
                state.returned(message, 0)
            for one in doomed:
                state.stay(one.message)
            raise
        return [Job(self._queue, record, message.deliveries) for message, record in taken], doomed

    def _next_ready(self, wall_ms: int, now_ms: int) -> tuple[Pending, Record] | None:
        """The next message that is ready, still so. Under the lock."""
        while True:
            message = self._engine.state.take_ready(wall_ms, now_ms)
            if message is None:
                if not self.look_at_next(wall_ms):
                    return None
                continue
            record = self.read_pending(message)
            if record is not None:
                return message, record

    def look_at_next(self, wall_ms: int) -> bool:
        """Look at the message at the cursor: False where there is none, or no room for it. Under the lock."""
        engine, state = self._engine, self._engine.state
        if state.cursor >= engine.log.log_end_offset or not state.may_look:
            return False
        record = engine.reader.next(state.cursor)
        if isinstance(record, Missing):
            self._skip(record)
            return True
        state.look(record.key, visible_at_ms(record.headers), wall_ms)
        if state.pending[record.offset].status == BLOCKED:
            engine.reader.keep(record)
        return True

    def _skip(self, missing: Missing) -> None:
        """At the cursor there is no message that can be read: it goes on behind. Under the lock."""
        engine, state = self._engine, self._engine.state
        first, last = state.cursor, missing.next_offset - 1
        engine.journal.note([encode_settled(first, last, missing.outcome)])
        state.settled(first, last)
        self._take_for_lost(first, last, missing)

    def read_pending(self, message: Pending) -> Record | None:
        """None where it cannot be read any more, and is settled now. Under the lock."""
        engine, offset = self._engine, message.offset
        record = engine.reader.one(offset)
        if not isinstance(record, Missing):
            return record
        engine.journal.note([encode_settled(offset, offset, record.outcome)])
        engine.state.settle(offset)
        self._take_for_lost(offset, offset, record)
        return None

    def _take_for_lost(self, first: int, last: int, missing: Missing) -> None:
        engine = self._engine
        if missing.outcome is Outcome.LOST:
            engine.state.lost.append((first, last))
            logger.error("queue %r: messages %d to %d are lost: %s", engine.name, first, last, missing.reason)
        if engine.putters.waiting or engine.joiners.waiting:
            engine.settled_some()


_newest = threading.local()


def newest_job() -> Job | None:
    """The message that this thread has got last, of whatever queue."""
    return getattr(_newest, "job", None)


def _delivery_notes(messages: Sequence[Pending]) -> list[bytes]:
    """Runs of messages that are handed out for the same time make one note each."""
    notes: list[bytes] = []
    by_count: dict[int, list[int]] = {}
    for message in messages:
        by_count.setdefault(message.deliveries, []).append(message.offset)
    for deliveries, offsets in by_count.items():
        notes += [encode_delivered(first, last, deliveries) for first, last in ranges(sorted(offsets))]
    return notes
