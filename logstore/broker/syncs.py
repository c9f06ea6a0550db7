"""Waiting for the disk without blocking the event loop: a group commit for each log.

Of each log one flush at a time is under way, in a thread. All who came before it began are served together when it is
done; the next one is for those who came later. The event loop's thread calls this.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor

from logstore.errors import LogstoreError
from logstore.storage.owned_log import OwnedLog

logger = logging.getLogger("logstore.broker")

SyncCallback = Callable[[Exception | None], None]


class Syncs:
    """``on_flushed`` is told how many seconds each flush has taken."""

    def __init__(self, threads: Executor, on_flushed: Callable[[float], None] = lambda elapsed_s: None) -> None:
        self._threads = threads
        self._on_flushed = on_flushed
        self._waiting: dict[OwnedLog, list[tuple[int, SyncCallback]]] = {}

    def when_synced(self, log: OwnedLog, end_offset: int, callback: SyncCallback) -> None:
        """Have ``callback`` called once everything below ``end_offset`` is on the disk, at once where it is; with the
        error where that failed, whatever it is."""
        if log.synced_offset >= end_offset:
            callback(None)
            return
        waiting = self._waiting.get(log)
        if waiting is not None:
            waiting.append((end_offset, callback))
            return
        self._waiting[log] = [(end_offset, callback)]
        self._flush_in_thread(log)

    async def wait(self, log: OwnedLog, end_offset: int) -> None:
        """Return once everything below ``end_offset`` is on the disk. Raises StorageFailure, PartitionOffline, Closed,
        UnknownTopic."""
        synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: Exception | None) -> None:
            if synced.done():  # who waited was cancelled
                return
            if error is None:
                synced.set_result(None)
            else:
                synced.set_exception(error)

        self.when_synced(log, end_offset, settle)
        await synced

    def _flush_in_thread(self, log: OwnedLog) -> None:
        self._threads.submit(self._flush, log, asyncio.get_running_loop())

    def _flush(self, log: OwnedLog, loop: asyncio.AbstractEventLoop) -> None:
        began_s = time.perf_counter()
        failure: Exception | None = None
        try:
            log.flush()
        except Exception as error:  # whatever it is, those who wait are told, and a later flush is tried
            failure = error
            if not isinstance(error, LogstoreError):
                logger.error("syncing %s failed", log.name, exc_info=error)
        elapsed_s = time.perf_counter() - began_s
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(self._serve, log, failure, elapsed_s)

    def _serve(self, log: OwnedLog, failure: Exception | None, elapsed_s: float) -> None:
        self._on_flushed(elapsed_s)
        waiting = self._waiting.pop(log)
        synced_offset = log.synced_offset
        later = [] if failure else [waiter for waiter in waiting if waiter[0] > synced_offset]
        if later:
            self._waiting[log] = later
            self._flush_in_thread(log)
        for end_offset, callback in waiting:
            if end_offset > synced_offset and not failure:
                continue
            try:
                callback(None if end_offset <= synced_offset else failure)
            except Exception:  # the others are to be called all the same
                logger.exception("what waited for a sync of %s failed", log.name)
