"""A queue to await: no thread for a waiting ``get``, and a sync for all who wait for one.

What is quick happens in the event loop's thread: appends and notes go to the page cache. What waits for the disk goes
to a worker thread, one call for all tasks that came meanwhile. A cancelled ``get`` has taken nothing; of a cancelled
``put`` or ``ack`` it is not known whether it has happened. A queue may be awaited in several loops, and used by threads
beside them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from logstore.client.producer import Receipt
from logstore.client.queue.dead_letters import DeadLetters
from logstore.client.queue.intake import HeadersGiven
from logstore.client.queue.looks import QueueStats
from logstore.client.queue.messages import DeadLetter, Job, Message
from logstore.client.queue.queue import Queue
from logstore.client.queue.waiting import NEVER_S, Waiter, deadline_s
from logstore.errors import Closed, Empty, Full, LogstoreError, NotInFlight
from logstore.format.record import Headers
from logstore.storage.durability import Durability

_Future = asyncio.Future[None]
_SLEEP_MAX_S = 1e6


class _Round:
    """Syncs for tasks of a loop: one at a time, in a worker thread, each for all who came before it began."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._next: _Future | None = None
        self._is_running = False

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        if self._next is None:
            self._next = loop.create_future()
            if not self._is_running:
                loop.call_soon(self._begin, loop)  # not at once: other tasks of this turn of the loop come along
        await asyncio.shield(self._next)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        served, self._next = self._next, None
        self._is_running = served is not None
        if served is not None:
            running = loop.run_in_executor(None, self._sync)
            running.add_done_callback(lambda done: self._end(loop, served, done))

    def _end(self, loop: asyncio.AbstractEventLoop, served: _Future, done: _Future) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if served.cancelled():
            pass
        elif error is None:
            served.set_result(None)
        elif isinstance(error, asyncio.CancelledError):
            served.cancel()
        else:
            served.set_exception(error)
            served.exception()  # whoever waited may have gone
        self._begin(loop)


class AsyncJob:
    """A Job whose ack and nack are awaited; in ``async with`` it is acked at the end, or nacked where that raises."""

    def __init__(self, queue: "AsyncQueue", job: Job) -> None:
        self.job = job
        self._queue = queue

    @property
    def value(self) -> Any:
        """See Message.value."""
        return self.job.value

    @property
    def key(self) -> bytes | None:
        return self.job.key

    @property
    def headers(self) -> Headers:
        return self.job.headers

    @property
    def offset(self) -> int:
        return self.job.offset

    @property
    def timestamp_ms(self) -> int:
        return self.job.timestamp_ms

    @property
    def deliveries(self) -> int:
        return self.job.deliveries

    @property
    def dead_letter(self) -> DeadLetter | None:
        return self.job.dead_letter

    @property
    def is_settled(self) -> bool:
        return self.job.is_settled

    async def ack(self) -> None:
        """See Job.ack."""
        await self._queue.ack(self)

    async def nack(self, delay: float = 0.0) -> None:
        """See Job.nack."""
        await self._queue.nack(self, delay)

    def extend(self, seconds: float) -> None:
        """See Job.extend."""
        self.job.extend(seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_settled:
            return
        if error is None:
            await self.ack()
            return
        try:
            await self.nack()
        except NotInFlight:
            pass  # its time is over, and it was handed out again anyway
        except LogstoreError as failure:
            error.add_note(f"and it could not be nacked, so it comes back after its visibility timeout: {failure}")


class AsyncQueue:
    """See the module. Made by ``AsyncStore.queue``, or around any Queue; ``.queue`` is the one behind it."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self._messages: dict[asyncio.AbstractEventLoop, _Round] = {}
        self._notes: dict[asyncio.AbstractEventLoop, _Round] = {}

    @property
    def name(self) -> str:
        return self.queue.name

    # ---------------------------------------------------------------------------------------------------------- put

    async def put(
        self,
        value: Any,
        block: bool = True,
        timeout: float | None = None,
        *,
        key: bytes | None = None,
        headers: HeadersGiven = None,
        delay: float = 0.0,
        ttl: float | None = None,
    ) -> Receipt:
        """See Queue.put."""
        until_s = deadline_s(block, timeout)
        while True:
            try:
                receipt = self.queue.intake.put(value, Durability.OS, 0.0, key, headers, delay, ttl)
            except Full:
                if time.monotonic() >= until_s:
                    raise
                await self._wait_for_room(until_s)
                continue
            if not self.queue.engine.must_sync:
                return receipt
            await self._sync_messages()
            return receipt._replace(durability=Durability.FSYNC)

    async def put_many(self, values: Iterable[Any], **given: Any) -> list[Receipt]:
        """See Queue.put_many."""
        return await asyncio.to_thread(self.queue.put_many, values, **given)

    async def _wait_for_room(self, until_s: float) -> None:
        waiter, turn = _waiter(until_s)
        try:
            self.queue.intake.wait_for_room(waiter)
            await _until(turn, until_s)
        finally:
            self.queue.intake.give_up_room(waiter)

    # ---------------------------------------------------------------------------------------------------------- get

    async def get(self, block: bool = True, timeout: float | None = None) -> AsyncJob:
        """See Queue.get."""
        return (await self.get_many(1, block, timeout))[0]

    async def get_many(self, count: int, block: bool = True, timeout: float | None = None) -> list[AsyncJob]:
        """See Queue.get_many."""
        until_s = deadline_s(block, timeout)
        while True:
            waiter, turn = _waiter(until_s)
            may_wait = time.monotonic() < until_s
            jobs, doomed = self.queue.outlet.take_or_wait(count, waiter if may_wait else None)
            if jobs:
                if doomed:  # no await while this has jobs in its hands
                    asyncio.get_running_loop().run_in_executor(None, self.queue.burial.bury_beside, doomed, jobs)
                return [AsyncJob(self, job) for job in jobs]
            if doomed:
                await asyncio.to_thread(self.queue.burial.bury_beside, doomed, jobs)
            elif not may_wait:
                raise Empty(self.name)
            else:
                try:
                    await _until(turn, waiter.until_s)
                finally:
                    self.queue.outlet.leave(waiter)

    async def __aiter__(self) -> AsyncIterator[AsyncJob]:
        """Messages, for ever: waits for more until the queue is closed."""
        while True:
            try:
                job = await self.get()
            except Closed:
                return
            yield job

    # ------------------------------------------------------------------------------------------------------- settle

    async def ack(self, job: AsyncJob) -> None:
        """See Queue.ack."""
        self.queue.settling.note_ack(job.job)
        if self.queue.engine.must_sync:
            await self._sync_notes()
        if self.queue.upkeep.is_due:
            await asyncio.to_thread(self.queue.upkeep.run)

    async def ack_many(self, jobs: Iterable[AsyncJob]) -> None:
        """See Queue.ack_many."""
        await asyncio.to_thread(self.queue.ack_many, [job.job for job in jobs])

    async def nack(self, job: AsyncJob, delay: float = 0.0) -> None:
        """See Queue.nack."""
        await asyncio.to_thread(self.queue.nack, job.job, delay)

    async def purge(self) -> int:
        """See Queue.purge."""
        return await asyncio.to_thread(self.queue.purge)

    async def join(self, timeout: float | None = None) -> None:
        """See Queue.join. Takes a worker thread."""
        await asyncio.to_thread(self.queue.join, timeout)

    # --------------------------------------------------------------------------------------------------------- look

    async def peek(self, count: int | None = 1) -> list[Message]:
        """See Queue.peek."""
        return await asyncio.to_thread(self.queue.peek, count)

    async def stats(self) -> QueueStats:
        """See Queue.stats."""
        return await asyncio.to_thread(self.queue.stats)

    async def dead_letters(self) -> DeadLetters:
        """See Queue.dead_letters."""
        return await asyncio.to_thread(lambda: self.queue.dead_letters)

    def qsize(self) -> int:
        return self.queue.qsize()

    def empty(self) -> bool:
        return self.queue.empty()

    def full(self) -> bool:
        return self.queue.full()

    async def close(self) -> None:
        """See Queue.close."""
        await asyncio.to_thread(self.queue.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # -------------------------------------------------------------------------------------------------------- syncs

    async def _sync_messages(self) -> None:
        await self._round(self._messages, self.queue.log.flush).wait()

    async def _sync_notes(self) -> None:
        await self._round(self._notes, self.queue.engine.journal.sync).wait()

    def _round(self, rounds: dict[asyncio.AbstractEventLoop, _Round], sync: Callable[[], None]) -> _Round:
        loop = asyncio.get_running_loop()
        found = rounds.get(loop)
        if found is None:
            for ended in [other for other in list(rounds) if other.is_closed()]:  # other loops' threads add theirs
                rounds.pop(ended, None)
            found = rounds[loop] = _Round(sync)
        return found


def _waiter(until_s: float) -> tuple[Waiter, _Future]:
    """Of this loop: the future is done when it is its turn."""
    loop = asyncio.get_running_loop()
    turn: _Future = loop.create_future()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(_finish, turn)
        except RuntimeError:
            pass  # the loop has ended, and nobody waits

    return Waiter(wake, until_s), turn


def _finish(turn: _Future) -> None:
    if not turn.done():
        turn.set_result(None)


async def _until(turn: _Future, until_s: float) -> None:
    timeout_s = None if until_s == NEVER_S else min(max(0.0, until_s - time.monotonic()), _SLEEP_MAX_S)
    await asyncio.wait([turn], timeout=timeout_s)
