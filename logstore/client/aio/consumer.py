"""A consumer to await: no thread for a waiting ``poll``, however many consumers wait.

All happens in the event loop's thread: reading, deserializers, the group's protocol, and the listener, whose methods
are plain ones. What waits for the disk on purpose, the sync of a commit, goes to a worker thread; so does what a group
needs read or made before its first poll. Between two looks at its partitions a waiting poll holds nothing: an append, a
rebalance, ``wakeup`` and ``close`` ring for it, timers do the rest, so the members of a group may be in one loop.

A cancelled ``poll`` has taken nothing. Of a cancelled ``commit`` it is not known whether it is on the disk.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from logstore.client.arguments import as_timeout
from logstore.client.consumer import ConsumerRecord, Partitions, RebalanceListener
from logstore.client.embedded.consumer.consumer import LEAVE_S, EmbeddedConsumer
from logstore.errors import Closed, ConcurrentUse
from logstore.format.filename import TopicPartition
from logstore.groups.requests import OffsetAndMetadata
from logstore.storage.durability import Durability

Found = TypeVar("Found")

_LOOKS_PER_POLL_INTERVAL = 3  # a waiting poll counts as polling, as long as the loop runs
_ROWS_IN_A_ROW = 256  # that an iteration hands out before it lets other tasks run
_LONG_S = 1e6


class AsyncConsumer:
    """See the module. Made by ``AsyncStore.consumer``, or around an EmbeddedConsumer, which is at ``.consumer``.

    One task polls or iterates; others may call the rest meanwhile. ``position`` and what is committed are as Consumer
    has them: what a poll returned counts as consumed at once, what an iteration handed out when the next is asked for.
    """

    def __init__(self, consumer: EmbeddedConsumer) -> None:
        self.consumer = consumer
        consumer.leave_s = 0.0  # the waiting is done here
        self._bell = consumer.bell
        self._rung: asyncio.Future[None] | None = None  # of all who wait
        self._look_again_s = consumer.config.max_poll_interval_ms / 1000 / _LOOKS_PER_POLL_INTERVAL
        self._is_ready = False
        self._polled_in: asyncio.AbstractEventLoop | None = None
        self._is_woken = False
        self._is_closing = False

    # ------------------------------------------------------------------------------------------------- which partitions

    def subscribe(
        self,
        topics: Iterable[str] | str = (),
        *,
        pattern: str | re.Pattern[str] | None = None,
        listener: RebalanceListener | None = None,
    ) -> None:
        """See Consumer.subscribe."""
        self.consumer.subscribe(topics, pattern=pattern, listener=listener)

    def assign(self, partitions: Partitions) -> None:
        """See Consumer.assign."""
        self.consumer.assign(partitions)

    async def unsubscribe(self) -> None:
        """See Consumer.unsubscribe."""
        await self._until_it_may_leave()
        self.consumer.unsubscribe()

    def subscription(self) -> frozenset[str]:
        """See Consumer.subscription."""
        return self.consumer.subscription()

    def assignment(self) -> frozenset[TopicPartition]:
        """See Consumer.assignment."""
        return self.consumer.assignment()

    # ---------------------------------------------------------------------------------------------------------- records

    async def poll(self, timeout: float | None = None, *, max_records: int | None = None) -> list[ConsumerRecord]:
        """See Consumer.poll. Lets other tasks run, even where there are records."""
        until_s = float("inf") if timeout is None else time.monotonic() + as_timeout(timeout)
        return await self._found(partial(self.consumer.poll, 0, max_records=max_records), until_s) or []

    def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        """See Consumer.__iter__. A wait that is cancelled does not end it."""
        return _Records(self._next_run)

    async def _next_run(self) -> Iterator[ConsumerRecord] | None:
        try:
            return await self._found(partial(self.consumer.next_run, 0), float("inf"))
        except Closed:
            if self._is_closing:
                return None
            raise

    async def _found(self, look: Callable[[], Found | None], until_s: float) -> Found | None:
        """What ``look`` finds; None at that time, and after ``wakeup``. No await once it has found something."""
        loop = asyncio.get_running_loop()
        if self._polled_in is not None and not self._polled_in.is_closed():
            raise ConcurrentUse("an AsyncConsumer, which another task polls,")
        self._polled_in = loop
        try:
            await asyncio.sleep(0)
            await self._get_ready()
            while True:
                if self._is_closing:
                    raise Closed("the consumer")
                if self._is_woken:
                    self._is_woken = False
                    return None
                found = look()
                if found:
                    return found
                now_s = time.monotonic()
                if now_s >= until_s:
                    return None
                await self._ring(min(until_s, self.consumer.due_s, now_s + self._look_again_s))
        finally:
            if self._polled_in is loop:  # not so where that loop was closed under this
                self._polled_in = None

    async def _get_ready(self) -> None:
        if not self._is_ready:
            await asyncio.to_thread(self.consumer.get_ready)
            self._is_ready = True

    async def _ring(self, until_s: float) -> None:
        """Wait for the bell, or until then."""
        loop = asyncio.get_running_loop()
        rung = self._rung
        if rung is None or rung.done() or rung.get_loop() is not loop:
            rung = self._rung = loop.create_future()
        self._bell.call_when_set(partial(_wake, loop, rung))
        if not self._bell.wait(0):
            await asyncio.wait([rung], timeout=min(max(0.0, until_s - time.monotonic()), _LONG_S))
            self._bell.wait(0)

    def wakeup(self) -> None:
        """See Consumer.wakeup: from any thread."""
        self._is_woken = True
        self._bell.tell()

    # -------------------------------------------------------------------------------------------------------- positions

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """See Consumer.seek."""
        self.consumer.seek(topic, partition, offset)

    def seek_to_beginning(self, partitions: Partitions = ()) -> None:
        """See Consumer.seek_to_beginning."""
        self.consumer.seek_to_beginning(partitions)

    def seek_to_end(self, partitions: Partitions = ()) -> None:
        """See Consumer.seek_to_end."""
        self.consumer.seek_to_end(partitions)

    async def seek_to_time(self, timestamp_ms: int, partitions: Partitions = ()) -> None:
        """See Consumer.seek_to_time."""
        keys = list(partitions) or list(self.consumer.assignment())
        found = await self.offsets_for_times(dict.fromkeys(keys, timestamp_ms))
        for key, offset in found.items():
            if offset is None:
                self.consumer.seek_to_end([key])
            else:
                self.consumer.seek(*key, offset)

    def pause(self, partitions: Partitions = ()) -> None:
        """See Consumer.pause."""
        self.consumer.pause(partitions)

    def resume(self, partitions: Partitions = ()) -> None:
        """See Consumer.resume."""
        self.consumer.resume(partitions)

    def paused(self) -> frozenset[TopicPartition]:
        """See Consumer.paused."""
        return self.consumer.paused()

    def position(self, topic: str, partition: int) -> int:
        """See Consumer.position."""
        return self.consumer.position(topic, partition)

    def lag(self) -> dict[TopicPartition, int]:
        """See Consumer.lag."""
        return self.consumer.lag()

    def beginning_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]:
        """See Consumer.beginning_offsets."""
        return self.consumer.beginning_offsets(partitions)

    def end_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]:
        """See Consumer.end_offsets."""
        return self.consumer.end_offsets(partitions)

    async def offsets_for_times(self, timestamps_ms: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int | None]:
        """See Consumer.offsets_for_times."""
        return await asyncio.to_thread(self.consumer.look_up_times, timestamps_ms)

    # ---------------------------------------------------------------------------------------------------------- commits

    async def committed(self, topic: str, partition: int) -> OffsetAndMetadata | None:
        """See Consumer.committed."""
        await self._get_ready()
        return self.consumer.committed(topic, partition)

    def commit(
        self, offsets: Mapping[tuple[str, int], int | OffsetAndMetadata] | None = None
    ) -> "asyncio.Future[None]":
        """See Consumer.commit. The group knows it when this returns, and a crash of the process does not undo it; it is
        on the disk when what this returns has been awaited. So a listener, which cannot await, may commit too."""
        self.consumer.commit(offsets, durability=Durability.OS)
        return asyncio.get_running_loop().run_in_executor(None, self.consumer.sync_commits)

    # ---------------------------------------------------------------------------------------------------------- the end

    async def close(self) -> None:
        """See Consumer.close. A poll under way raises Closed, an iteration ends."""
        self._is_closing = True
        self._bell.tell()
        try:
            await self._until_it_may_leave()
        finally:
            self.consumer.close()

    async def _until_it_may_leave(self) -> None:
        deadline_s = time.monotonic() + LEAVE_S
        try:
            while not self.consumer.may_leave() and time.monotonic() < deadline_s:
                await self._ring(deadline_s)
        except Closed:
            pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """After an error, what the last poll returned may not have been dealt with: it is not committed."""
        if kind is not None:
            self.consumer.take_back()
        await self.close()


class _Records(AsyncIterator[ConsumerRecord]):
    """Hands out run after run. Not a generator, which an exception would end for good."""

    def __init__(self, next_run: Callable[[], Awaitable[Iterator[ConsumerRecord] | None]]) -> None:
        self._next_run = next_run
        self._run: Iterator[ConsumerRecord] = iter(())
        self._left = 0

    async def __anext__(self) -> ConsumerRecord:
        while True:
            if self._left:
                for record in self._run:
                    self._left -= 1
                    return record
            run = await self._next_run()
            if run is None:
                raise StopAsyncIteration
            self._run, self._left = run, _ROWS_IN_A_ROW


def _wake(loop: asyncio.AbstractEventLoop, rung: "asyncio.Future[None]") -> None:
    """In any thread."""
    try:
        loop.call_soon_threadsafe(_finish, rung)
    except RuntimeError:
        pass  # the loop has ended, and nobody waits


def _finish(rung: "asyncio.Future[None]") -> None:
    if not rung.done():
        rung.set_result(None)
