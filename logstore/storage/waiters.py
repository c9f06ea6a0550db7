"""Waiting for new records without polling: whoever waits is woken by the append."""

import logging
from collections.abc import Callable
from threading import Lock

from logstore.settings import LONG_MAX

logger = logging.getLogger("logstore.storage")


class Waiter:
    """What ``Waiters.remove`` takes."""

    __slots__ = ("callback", "offset")

    def __init__(self, offset: int, callback: Callable[[], None]) -> None:
        self.offset, self.callback = offset, callback


class Waiters:
    """Callbacks to be called once, when the log's end passes an offset. An append costs one look, at ``lowest``, as
    long as it passes none that somebody waits for: then it need not call ``wake``."""

    def __init__(self) -> None:
        self.lowest = LONG_MAX  # or an offset that nobody waits for any more: not above any that is waited for
        self._waiting: dict[Waiter, None] = {}
        self._mutex = Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, offset: int, callback: Callable[[], None]) -> Waiter:
        """Have ``callback`` called, in the appending thread, when the end is beyond ``offset``. The caller looks at the
        end once more after this: an append may have come between."""
        waiter = Waiter(offset, callback)
        with self._mutex:
            self._waiting[waiter] = None
            self.lowest = min(self.lowest, offset)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        with self._mutex:
            self._waiting.pop(waiter, None)
            if not self._waiting:
                self.lowest = LONG_MAX

    def wake(self, end_offset: int) -> None:
        """Call, and forget, those who wait for an offset below ``end_offset``."""
        with self._mutex:
            due = [waiter for waiter in self._waiting if waiter.offset < end_offset]
            for waiter in due:
                del self._waiting[waiter]
            self.lowest = min((waiter.offset for waiter in self._waiting), default=LONG_MAX)
        for waiter in due:
            try:
                waiter.callback()
            except Exception:  # an event loop that has ended, say: the append has happened, and others wait too
                logger.exception("a callback that waited for new records failed")
