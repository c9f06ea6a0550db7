"""A producer to await, in front of any other: no thread for a call, and the event loop is never held up.

What the sending thread tells arrives in an inbox, which the loop is woken for once, however many receipts come before
it looks. Who finds no room waits in the loop, first come, first served. What is promised of a record is what the
producer behind this promises.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from logstore.client.producer import Producer, Receipt
from logstore.errors import BufferFull, ConcurrentUse

logger = logging.getLogger("logstore.client")

OnDelivery = Callable[[Receipt | None, BaseException | None], None]

# Room is made by receipts of this producer's own records, which wake who waits; by others' only if they share it.
_LOOK_AGAIN_S = 0.05


class _Arrival(NamedTuple):
    delivered: "asyncio.Future[Receipt]"
    on_delivery: OnDelivery | None
    receipt: Receipt | None
    error: BaseException | None


class AsyncProducer:
    """See the module. For one event loop: the one in which it is first used."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: deque[_Arrival] = deque()
        self._is_told = False  # the loop will look into the inbox
        self._turn = asyncio.Lock()
        self._has_room = asyncio.Event()

    async def send(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        partition: int | None = None,
        headers: Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> Receipt:
        """Send a record and wait until it is stored; see Producer. Raises what its ``send`` and its future do.

        Records of several tasks go into one batch. Cancelling this does not take the record back.
        """
        delivered = await self.enqueue(
            topic,
            value,
            key=key,
            partition=partition,
            headers=headers,
            timestamp_ms=timestamp_ms,
            on_delivery=on_delivery,
        )
        return await delivered

    async def enqueue(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        partition: int | None = None,
        headers: Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> "asyncio.Future[Receipt]":
        """Take a record in, as soon as there is room, and return a future of its receipt: many can be on their way
        without a task for each. ``on_delivery`` is called in the loop. Raises as ``Producer.send``."""
        delivered = self._running_loop().create_future()
        take_in = partial(
            self.producer.send,
            topic,
            value,
            key=key,
            partition=partition,
            headers=headers,
            timestamp_ms=timestamp_ms,
            on_delivery=partial(self._arrives, delivered, on_delivery),
            block=False,
        )
        if self._turn.locked():
            future = await self._when_there_is_room(take_in)
        else:
            try:
                future = take_in()
            except BufferFull:
                future = await self._when_there_is_room(take_in)
        if future.done() and not delivered.done():  # with acks=0
            error = future.exception()
            _settle(delivered, error, None if error else future.result())
        return delivered

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise ConcurrentUse("an AsyncProducer of another event loop")
            self._loop = loop
        return loop

    async def _when_there_is_room(self, take_in: Callable[[], Future[Receipt]]) -> Future[Receipt]:
        timeout_s = self.producer.config.max_block_ms / 1000
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                while True:
                    self._has_room.clear()
                    try:
                        return take_in()
                    except BufferFull:
                        await self._room_or_a_while()
        except TimeoutError:
            remedy = "send slower, or raise buffer.memory or max.block.ms"
            raise BufferFull("room in the producer", timeout_s, remedy) from None

    async def _room_or_a_while(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await self._has_room.wait()
        except TimeoutError:
            pass

    # ------------------------------------------------------------------------------------------------------- arrivals

    def _arrives(
        self,
        delivered: "asyncio.Future[Receipt]",
        on_delivery: OnDelivery | None,
        receipt: Receipt | None,
        error: BaseException | None,
    ) -> None:
        """In the sending thread."""
        self._inbox.append(_Arrival(delivered, on_delivery, receipt, error))
        if not self._is_told and self._loop is not None:
            self._is_told = True
            try:
                self._loop.call_soon_threadsafe(self._open_inbox)
            except RuntimeError:  # the loop has ended: nobody waits any more
                self._inbox.clear()

    def _open_inbox(self) -> None:
        self._is_told = False  # before the look: what comes after it tells again
        while self._inbox:
            delivered, on_delivery, receipt, error = self._inbox.popleft()
            if not delivered.done():
                _settle(delivered, error, receipt)
            if on_delivery is not None:
                try:
                    on_delivery(receipt, error)
                except Exception:
                    logger.exception("a callback of a producer failed")
        self._has_room.set()

    # -------------------------------------------------------------------------------------------------------- the end

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was sent before is stored or has failed. Raises TimedOut."""
        await asyncio.to_thread(self.producer.flush, timeout)

    async def close(self, timeout: float | None = None) -> None:
        """Store what was sent, and stop. Closing twice is no error."""
        await asyncio.to_thread(self.producer.close, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _settle(delivered: "asyncio.Future[Receipt]", error: BaseException | None, receipt: Receipt | None) -> None:
    if error is not None:
        delivered.set_exception(error)
    elif receipt is not None:
        delivered.set_result(receipt)
