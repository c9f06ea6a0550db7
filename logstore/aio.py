"""The asyncio face of a data directory: ``async with logstore.aio.open("data") as store``.

Whatever waits for the disk, or opens and closes, runs in a worker thread; sending and receiving needs none. The store
behind it is at ``.store``, for what is quick and needs no await.

An AsyncStore is for one event loop, and so are its producers and consumers.
"""

import asyncio
import logging
import re
import weakref
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from logstore.client.aio.consumer import AsyncConsumer
from logstore.client.aio.producer import AsyncProducer
from logstore.client.aio.queue import AsyncJob, AsyncQueue
from logstore.client.consumer import Deserializer, Partitions, RebalanceListener
from logstore.client.embedded import store as embedded
from logstore.client.embedded.store import Store
from logstore.client.producer import Serializer
from logstore.errors import Closed
from logstore.storage.opening import OpeningProgress
from logstore.storage.topics import TopicDescription

logger = logging.getLogger("logstore.client")

__all__ = ["AsyncConsumer", "AsyncJob", "AsyncProducer", "AsyncQueue", "AsyncStore", "open"]


class AsyncStore:
    """A Store to await; ``open`` gives one that is opened by ``await`` or ``async with``."""

    def __init__(self, opening: Callable[[], Store]) -> None:
        self._opening = opening
        self._store: Store | None = None
        self._consumers: weakref.WeakSet[AsyncConsumer] = weakref.WeakSet()

    @property
    def store(self) -> Store:
        """Raises Closed before it is open."""
        if self._store is None:
            raise Closed("the store that nobody has awaited yet")
        return self._store

    async def _open(self) -> Self:
        if self._store is None:
            opening = asyncio.ensure_future(asyncio.to_thread(self._opening))
            try:
                self._store = await asyncio.shield(opening)
            except asyncio.CancelledError:  # the thread goes on: what it opens must not stay open
                opening.add_done_callback(_close_what_was_opened)
                raise
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # -------------------------------------------------------------------------------------------------------- clients

    def producer(
        self,
        *,
        acks: str | int = "all",
        compression: str | None = None,
        key_serializer: Serializer | None = None,
        value_serializer: Serializer | None = None,
        **settings: object,
    ) -> AsyncProducer:
        """See Store.producer."""
        producer = self.store.producer(
            acks=acks,
            compression=compression,
            key_serializer=key_serializer,
            value_serializer=value_serializer,
            **settings,
        )
        return AsyncProducer(producer)

    def consumer(
        self,
        *topics: str,
        group: str | None = None,
        pattern: str | re.Pattern[str] | None = None,
        assignment: Partitions | None = None,
        key_deserializer: Deserializer | None = None,
        value_deserializer: Deserializer | None = None,
        listener: RebalanceListener | None = None,
        **settings: object,
    ) -> AsyncConsumer:
        """See Store.consumer. The listener and the deserializers are called in the event loop."""
        consumer = AsyncConsumer(
            self.store.consumer(
                *topics,
                group=group,
                pattern=pattern,
                assignment=assignment,
                key_deserializer=key_deserializer,
                value_deserializer=value_deserializer,
                listener=listener,
                **settings,
            )
        )
        self._consumers.add(consumer)
        return consumer

    async def queue(
        self,
        name: str,
        *,
        serializer: Serializer | None = None,
        deserializer: Callable[[bytes], Any] | None = None,
        **settings: object,
    ) -> AsyncQueue:
        """See Store.queue."""
        opening = partial(self.store.queue, name, serializer=serializer, deserializer=deserializer, **settings)
        return AsyncQueue(await asyncio.to_thread(opening))

    def queues(self) -> list[str]:
        """The names of all queues."""
        return self.store.queues()

    async def delete_queue(self, name: str) -> None:
        """See Store.delete_queue."""
        await asyncio.to_thread(self.store.delete_queue, name)

    # --------------------------------------------------------------------------------------------------------- topics

    async def create_topic(self, name: str, partitions: int | None = None, **settings: object) -> TopicDescription:
        """See Store.create_topic."""
        return await asyncio.to_thread(self.store.create_topic, name, partitions, **settings)

    async def alter_topic(
        self, name: str, settings: Mapping[str, object] | None = None, partitions: int | None = None
    ) -> TopicDescription:
        """See Store.alter_topic."""
        return await asyncio.to_thread(self.store.alter_topic, name, settings, partitions)

    async def delete_topic(self, name: str) -> None:
        """See Store.delete_topic."""
        await asyncio.to_thread(self.store.delete_topic, name)

    def topics(self) -> list[TopicDescription]:
        """All topics, by name."""
        return self.store.topics()

    def topic(self, name: str) -> TopicDescription:
        """Raises UnknownTopic, DamagedTopic."""
        return self.store.topic(name)

    # -------------------------------------------------------------------------------------------------------- the end

    async def flush(self) -> None:
        """Wait until everything appended so far is on the disk. Raises StorageFailure."""
        await asyncio.to_thread(self.store.flush)

    async def close(self) -> None:
        """Close the clients, make everything durable, let others open the directory. Closing twice is no error."""
        if self._store is not None:
            await asyncio.shield(self._close(self._store))

    async def _close(self, store: Store) -> None:
        """Consumers first: their listeners are called in the loop."""
        consumers = list(self._consumers)
        closed = await asyncio.gather(*(consumer.close() for consumer in consumers), return_exceptions=True)
        for error in closed:
            if error is not None:
                logger.error("%s: a consumer was not closed cleanly: %s", store.path, error, exc_info=error)
        await asyncio.to_thread(store.close)


def _close_what_was_opened(opening: "asyncio.Future[Store]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.get_loop().run_in_executor(None, opening.result().close)


def open(
    path: str | Path = "data",
    *,
    create: bool = True,
    on_progress: Callable[[OpeningProgress], None] | None = None,
    **settings: object,
) -> AsyncStore:
    """``logstore.open`` to await, or to stand in an ``async with``; ``on_progress`` is called in a worker thread."""
    return AsyncStore(lambda: embedded.open(path, read_only=False, create=create, on_progress=on_progress, **settings))
