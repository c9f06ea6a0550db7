"""Waiting for new records without polling: whoever waits is woken by the append."""

import logging
from collections.abc import Callable
from threading import Lock

logger = logging.getLogger("logstore.storage")


class Waiters:
    """Callbacks to be called once, when the log's end passes an offset. An append without any costs one look, at
    ``waiting``."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Callable[[], None]]] = []
        self._mutex = Lock()

    def add(self, offset: int, callback: Callable[[], None]) -> tuple[int, Callable[[], None]]:
        """Have ``callback`` called, in the appending thread, when the end is beyond ``offset``. The caller looks at the
        end once more after this: an append may have come between. Returns what ``remove`` takes."""
        waiter = (offset, callback)
        with self._mutex:
            self.waiting.append(waiter)
        return waiter

    def remove(self, waiter: tuple[int, Callable[[], None]]) -> None:
        with self._mutex:
            if waiter in self.waiting:
                self.waiting.remove(waiter)

    def wake(self, end_offset: int) -> None:
        """Call, and forget, those who wait for an offset below ``end_offset``."""
        with self._mutex:
            due = [callback for offset, callback in self.waiting if offset < end_offset]
            self.waiting = [waiter for waiter in self.waiting if waiter[0] >= end_offset]
        for callback in due:
            try:
                callback()
            except Exception:  # an event loop that has ended, say: the append has happened, and others wait too
                logger.exception("a callback that waited for new records failed")
