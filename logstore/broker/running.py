"""A broker in a thread of this process: for tests, and for programs that serve their directory by the way.

The directory is open in this process while the broker runs, and closed cleanly when it stops.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from logstore.addresses import Address
from logstore.broker.serving import Serving, open_store, serving
from logstore.config import BrokerConfig, StoreConfig
from logstore.errors import Closed
from logstore.store import TopicStore
from logstore.threads import start_thread

logger = logging.getLogger("logstore.broker")

# What the thread gives once it serves: what, and how to end it.
Started = Future[tuple[Serving, Callable[[], object]]]


class RunningBroker:
    """Runs from ``start`` to ``stop``, and can be started again. Any thread may call these, one at a time."""

    def __init__(self, path: Path, config: BrokerConfig, store_config: StoreConfig) -> None:
        self._path = path
        self._config = config
        self._store_config = store_config
        self._serving: Serving | None = None
        self._stop: Callable[[], object] | None = None

    @property
    def address(self) -> Address:
        """Where it listens. Raises Closed where it does not run."""
        return self._running.address

    @property
    def metrics_address(self) -> Address | None:
        """Where its metrics are told, if they are. Raises Closed."""
        return self._running.metrics

    @property
    def store(self) -> TopicStore:
        """The directory that it serves, to look at and to change beside its clients. Raises Closed."""
        return self._running.broker.store

    def start(self) -> Address:
        """Open the directory and serve it. Raises CannotListen, and as ``logstore.open``."""
        if self._serving is None:
            store = open_store(self._path, self._store_config)
            started: Started = Future()
            thread = threading.Thread(
                target=self._run, args=(store, started), name=f"logstore-serve {self._path}", daemon=True
            )
            try:
                start_thread(thread)
                self._serving, end = started.result()
            except BaseException:  # it could not, or a Ctrl-C: then it ends as soon as it serves
                started.add_done_callback(_end_started)
                _join(thread, store)
                raise
            self._stop = partial(_end, end, thread, store)
        return self.address

    def stop(self) -> None:
        """Finish what is under way and close the directory. Stopping twice is no error."""
        stop, self._stop, self._serving = self._stop, None, None
        if stop is not None:
            stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _running(self) -> Serving:
        if self._serving is None:
            raise Closed(f"the broker of {self._path}")
        return self._serving

    def _run(self, store: TopicStore, started: Started) -> None:
        try:
            asyncio.run(self._serve(store, started))
        except BaseException as error:
            if started.done():
                logger.exception("the broker of %s has ended", self._path)
            else:
                started.set_exception(error)

    async def _serve(self, store: TopicStore, started: Started) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        async with serving(store, self._config) as found:
            started.set_result((found, partial(loop.call_soon_threadsafe, stopping.set)))
            await stopping.wait()


def _end_started(started: Started) -> None:
    if started.exception() is None:
        _, end = started.result()
        end()


def _end(end: Callable[[], object], thread: threading.Thread, store: TopicStore) -> None:
    with suppress(RuntimeError):  # it has ended by itself
        end()
    _join(thread, store)


def _join(thread: threading.Thread, store: TopicStore) -> None:
    try:
        if thread.ident is not None:
            thread.join()
    finally:
        store.close()
