"""Fetches that wait for records: woken by the logs they wait for, or by one timer each.

A log calls whoever waits in the thread that appends, which in a broker is the event loop's for what clients send, and
another's for what the groups store. Either way it is looked at again in a turn of the loop of its own: what one request
appends to several partitions is seen together.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial

from logstore.broker.fetch_sessions import FetchKey
from logstore.broker.fetching import Fetch


class DelayedFetch:
    """``look`` reads what there is, ``is_enough`` says whether that will do, ``answer`` is called once. It is among the
    ``waiting`` as long as it waits. What the loop calls is called through ``attempt``, which sees to what it raises."""

    __slots__ = (
        *("_answer", "_attempt", "_cancels", "_grown", "_is_enough", "_is_to_look", "_look", "_loop", "_thread_id"),
        *("_timer", "_waiting"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        waiting: "set[DelayedFetch]",
        look: Callable[[], Fetch],
        is_enough: Callable[[Fetch], bool],
        answer: Callable[[Fetch], None],
        attempt: Callable[[Callable[[], None]], None],
    ) -> None:
        self._loop, self._waiting = loop, waiting
        self._look, self._is_enough, self._answer, self._attempt = look, is_enough, answer, attempt
        self._thread_id = threading.get_ident()
        self._cancels: dict[FetchKey, Callable[[], None]] = {}  # of the logs that are watched
        self._grown: list[FetchKey] = []  # those of them that have called
        self._timer: asyncio.TimerHandle | None = None
        self._is_to_look = False

    def wait(self, seen: Fetch, timeout_s: float) -> None:
        """Answer once there is enough, or the time is over. ``seen`` is what there is now."""
        self._timer = self._loop.call_later(timeout_s, self.expire)
        self._waiting.add(self)
        self._watch(seen)

    def expire(self) -> None:
        """Answer with what there is."""
        if self in self._waiting:
            self._attempt(lambda: self._finish(self._look()))

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        self._waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for stop in self._cancels.values():
            stop()
        self._cancels.clear()

    def _watch(self, seen: Fetch) -> None:
        """Have all logs call that are not watched yet: of thousands, one append wakes one."""
        for partition, read, log in seen.fetched:
            key = partition.key
            if log is not None and key not in self._cancels:
                self._cancels[key] = log.call_when_beyond(read.high_watermark, partial(self._on_growth, key))

    def _on_growth(self, key: FetchKey) -> None:
        """In any thread, also while the log is about to be watched."""
        self._grown.append(key)  # first: who looks says so first, and then sees this
        if self._is_to_look:
            return
        self._is_to_look = True
        if threading.get_ident() == self._thread_id:
            self._loop.call_soon(self._attempt, self._look_again)
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._attempt, self._look_again)

    def _look_again(self) -> None:
        self._is_to_look = False
        if self not in self._waiting:
            return
        while self._grown:
            self._cancels.pop(self._grown.pop(), None)
        seen = self._look()
        if self._is_enough(seen):
            self._finish(seen)
        else:
            self._watch(seen)

    def _finish(self, seen: Fetch) -> None:
        self.cancel()
        self._answer(seen)
