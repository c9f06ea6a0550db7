"""The durable queue: ``store.queue("jobs")``. Its habits are those of queue.Queue, its messages outlive the process.

Every message is handed out at least once, to one worker at a time, until it is acked: a committed ack is never taken
back. It goes to the dead letters when it has been handed out max.deliveries times without an ack, or when its time to
live is over. Safe to use from many threads; one process owns a queue, as it owns the store.

::

    put ──> ready ──get──> in flight ──ack──> settled
              ^               |
              +──nack, visibility timeout, the process's end      (deliveries == max.deliveries: dead letter)
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

from logstore.client.producer import Receipt
from logstore.client.queue.burial import Doomed, doom
from logstore.client.queue.core import logger
from logstore.client.queue.looks import QueueStats, check_count, look_ahead, make_stats
from logstore.client.queue.messages import Job, Message, visible_at_ms
from logstore.client.queue.opening import DEAD_SUFFIX, has_queue
from logstore.client.queue.ranges import ranges
from logstore.client.queue.reader import Missing
from logstore.client.queue.settling import Settling
from logstore.client.queue.state import BLOCKED, Pending
from logstore.client.queue.waiting import Turn, Waiter, deadline_s
from logstore.client.queue.workers import Workers
from logstore.errors import Closed, Empty, InvalidArgument, LogstoreError, TimedOut
from logstore.format.queue_state import encode_delivered
from logstore.format.record import Record

_DOOMED_MAX = 500  # dead letters that are made at a time


class Queue(Settling):
    """See the module. Made by ``store.queue``."""

    def get(self, block: bool = True, timeout: float | None = None) -> Job:
        """Take the next message, which is then this worker's for visibility.timeout.ms: ``ack`` it in this time.

        Without one, wait for ``timeout`` seconds (None: for ever; 0, or ``block=False``: not at all). Raises Empty,
        StorageFailure (the delivery could not be noted), Closed.
        """
        with self._lock:
            job = self._take_plain()
        if job is not None:
            _holding.job = job
            return job
        return self.take(1, deadline_s(block, timeout))[0]

    def get_many(self, count: int, block: bool = True, timeout: float | None = None) -> list[Job]:
        """Take up to ``count`` messages that are ready, at least one; waits and raises as ``get`` does."""
        if type(count) is not int or count < 1:
            raise InvalidArgument("count", count, "it is at least 1")
        return self.take(count, deadline_s(block, timeout))

    def take(self, count: int, until_s: float, is_over: Callable[[], bool] = lambda: False) -> list[Job]:
        """``get_many`` until a time of the monotonic clock. ``is_over`` is looked at whenever this is woken; where it
        is, Empty is raised."""
        jobs: list[Job] = []
        while len(jobs) < count:
            turn = Turn(until_s) if not jobs and time.monotonic() < until_s and not is_over() else None
            more, doomed = self.take_or_wait(count - len(jobs), turn)
            jobs += more
            if doomed:
                self.bury_beside(doomed, jobs)
            elif jobs:
                break
            elif turn is None:
                raise Empty(self.name)
            elif is_over():  # since it was asked before: who says so wakes those only who wait by then
                self.leave(turn)
            else:
                self._wait(turn)
        _holding.job = jobs[-1]
        if self.upkeep_is_due():
            self._upkeep()
        return jobs

    def take_or_wait(self, count: int, waiter: Waiter | None) -> tuple[list[Job], list[Doomed]]:
        """What is ready, up to ``count``, and what is to be buried on the way; without either, ``waiter`` waits from
        now on, and looks again at its ``until_s`` at the latest, or is to ``leave``."""
        with self._lock:
            jobs, doomed = self._take(count)
            if waiter is not None and not jobs and not doomed:
                waiter.until_s = self._look_again_s(waiter.until_s)
                self._getters.add(waiter)
            if self._getters.waiting:
                self._pass_on()
        return jobs, doomed

    def bury_beside(self, doomed: Sequence[Doomed], jobs: Sequence[Job]) -> None:
        """Bury what was found beside ``jobs``, which must come into their worker's hands whatever happens here. Raises
        StorageFailure where there are none."""
        try:
            self._bury(doomed)
        except LogstoreError as error:
            if not jobs:
                raise
            logger.error("queue %r: %d messages are no dead letters yet: %s", self.name, len(doomed), error)

    def _wait(self, turn: Turn) -> None:
        try:
            turn.wait()
        except BaseException:
            self.leave(turn)
            raise
        self._getters.remove(turn)

    def leave(self, waiter: Waiter) -> None:
        """A getter goes away, and might have been the one who was woken."""
        self._getters.remove(waiter)
        with self._lock:
            if self._getters.waiting and self._closed is None:
                self._pass_on()

    def _look_again_s(self, until_s: float) -> float:
        look_s = self._next_look_s()
        return until_s if look_s is None else min(until_s, time.monotonic() + look_s)

    def _take_plain(self) -> Job | None:
        """The next message, where nothing but its turn matters: the way of most. Under the lock."""
        state = self._state
        now_ms = self._now_ms()
        if not self._is_plain or self._closed is not None or state.has_other(now_ms, self._wall_ms):
            return None
        offset = state.cursor
        if offset >= self._log.log_end_offset:
            return None
        record = self._reader.next(offset)
        if type(record) is not Record or record[4]:  # it has headers
            return None
        self._journal.note([encode_delivered(offset, offset, 1)])
        state.deliver_fresh(now_ms + self._hold_ms)
        if self._getters.waiting:
            self._pass_on()
        return Job(self, record, 1)

    def _take_plain_run(self, count: int) -> list[Job]:
        """As many of those; none where something else is among them. Under the lock."""
        state = self._state
        now_ms = self._now_ms()
        if not self._is_plain or state.has_other(now_ms, self._wall_ms):
            return []
        first = state.cursor
        end = min(first + count, self._log.log_end_offset)
        records: list[Record] = []
        for offset in range(first, end):
            record = self._reader.next(offset)
            if type(record) is not Record or record[4]:
                return []
            records.append(record)
        if records:
            self._journal.note([encode_delivered(first, end - 1, 1)])
        for _ in records:
            state.deliver_fresh(now_ms + self._hold_ms)
        return [Job(self, record, 1) for record in records]

    def _take(self, count: int) -> tuple[list[Job], list[Doomed]]:
        """What is ready, up to ``count``, and what is found on the way that is for the dead letters. Under the lock."""
        self._check_open()
        if run := self._take_plain_run(count):
            return run, []
        wall_ms, now_ms = self._wall_ms(), self._now_ms()
        taken: list[tuple[Pending, Record]] = []
        doomed: list[Doomed] = []
        try:
            while len(taken) < count and len(doomed) < _DOOMED_MAX:
                found = self._next_ready(wall_ms, now_ms)
                if found is None:
                    break
                message, record = found
                reason = self._doom(message, record, wall_ms)
                if reason is None:
                    self._state.delivered(message, now_ms + self._hold_ms)
                    taken.append(found)
                else:
                    self._state.leave(message)
                    doomed.append(Doomed(message, record, reason))
            if taken:
                self._journal.note(_delivery_notes([message for message, _ in taken]))
        except BaseException:
            for message, _ in taken:
                message.deliveries -= 1
                self._state.returned(message, 0)
            for one in doomed:
                self._state.stay(one.message)
            raise
        return [Job(self, record, message.deliveries) for message, record in taken], doomed

    def _doom(self, message: Pending, record: Record, wall_ms: int) -> str | None:
        return doom(self._state, message, record, wall_ms)

    def _next_ready(self, wall_ms: int, now_ms: int) -> tuple[Pending, Record] | None:
        """The next message that is ready, still so. Under the lock."""
        while True:
            message = self._state.take_ready(wall_ms, now_ms)
            if message is None:
                if not self._look_at_next(wall_ms):
                    return None
                continue
            record = self._read_pending(message)
            if record is not None:
                return message, record

    def _look_at_next(self, wall_ms: int) -> bool:
        """Look at the message at the cursor: False where there is none, or no room for it. Under the lock."""
        state = self._state
        if state.cursor >= self._log.log_end_offset or not state.may_look:
            return False
        record = self._reader.next(state.cursor)
        if isinstance(record, Missing):
            self._skip(record)
            return True
        state.look(record.key, visible_at_ms(record.headers), wall_ms)
        if state.pending[record.offset].status == BLOCKED:
            self._reader.keep(record)
        return True

    def _read_pending(self, message: Pending) -> Record | None:
        """None where it is lost, and settled now. Under the lock."""
        record = self._reader.one(message.offset)
        if not isinstance(record, Missing):
            return record
        self._drop(message.offset, record)
        return None

    # ------------------------------------------------------------------------------------------ as in queue.Queue

    def put_nowait(self, value: Any) -> Receipt:
        return self.put(value, block=False)

    def get_nowait(self) -> Job:
        return self.get(block=False)

    def task_done(self) -> None:
        """Ack the message that this thread has got last. Raises InvalidArgument, a ValueError, where there is none."""
        job = getattr(_holding, "job", None)
        if job is None or job.is_settled or job.queue is not self:
            raise InvalidArgument("task_done", self.name, "this thread has no message of the queue that is not settled")
        self.ack(job)

    def join(self, timeout: float | None = None) -> None:
        """Wait until every message is settled: none is ready, delayed or with a worker. Raises TimedOut, Closed."""
        until_s = deadline_s(True, timeout)
        while True:
            with self._lock:
                self._check_open()
                if not self._unsettled_count():
                    return
                if time.monotonic() >= until_s:
                    raise TimedOut(f"{self._unsettled_count()} messages of queue {self.name!r}", timeout or 0.0)
                turn = self._joiners.add(Turn(until_s))
            try:
                turn.wait()
            finally:
                self._joiners.remove(turn)

    def qsize(self) -> int:
        """How many messages are to be got, now or after their delay."""
        with self._lock:
            self._check_open()
            self._state.pass_time(self._wall_ms(), self._now_ms())
            return self._unsettled_count() - self._state.in_flight_count - self._state.leaving_count

    def __len__(self) -> int:
        return self.qsize()

    def __bool__(self) -> bool:
        """A queue is one, also when it is empty."""
        return True

    def empty(self) -> bool:
        return not self.qsize()

    def full(self) -> bool:
        """Whether ``put`` would wait."""
        with self._lock:
            self._check_open()
            return self._is_bounded and self._unsettled_count() >= self.config.max_size

    def __iter__(self) -> Iterator[Job]:
        """Messages, for ever: waits for more until the queue is closed."""
        while True:
            try:
                job = self.get()
            except Closed:
                return
            yield job

    # --------------------------------------------------------------------------------------------------------- look

    def peek(self, count: int | None = 1) -> list[Message]:
        """The next messages that are ready, up to ``count`` (None: all), without taking them; of each, ``deliveries``
        says how often it has been handed out so far."""
        check_count(count)
        with self._lock:
            self._check_open()
            self._state.pass_time(self._wall_ms(), self._now_ms())
            found = islice(look_ahead(self._state, self._log, self._wall_ms()), count)
            return [Message(record, deliveries, self.deserializer) for record, deliveries in found]

    def stats(self) -> QueueStats:
        """See QueueStats."""
        dead_count = self._dead_count()
        with self._lock:
            self._check_open()
            self._state.pass_time(self._wall_ms(), self._now_ms())
            notes_size = self._journal.log.view.size
            return make_stats(self._state, self._log.view, self._wall_ms(), dead_count, self.damages, notes_size)

    def _dead_count(self) -> int:
        return len(self.dead_letters) if has_queue(self._store, self.name + DEAD_SUFFIX) else 0

    def work(
        self, handler: Callable[[Job], object], workers: int = 1, *, backoff: float = 1.0, backoff_max: float = 60.0
    ) -> Workers:
        """Have ``workers`` threads call ``handler`` with each message: see Workers."""
        return Workers(self, handler, workers, backoff=backoff, backoff_max=backoff_max)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}{' closed' if self.is_closed else ''}>"


_holding = threading.local()


def _delivery_notes(messages: Sequence[Pending]) -> list[bytes]:
    """Runs of messages that are handed out for the same time make one note each."""
    notes: list[bytes] = []
    by_count: dict[int, list[int]] = {}
    for message in messages:
        by_count.setdefault(message.deliveries, []).append(message.offset)
    for deliveries, offsets in by_count.items():
        notes += [encode_delivered(first, last, deliveries) for first, last in ranges(sorted(offsets))]
    return notes
