"""Fetches that wait for records: woken by the logs they wait for, or by one timer each.

A log calls whoever waits in the thread that appends, which in a broker is the event loop's for what clients send, and
another's for what the groups store. Either way it is looked at again in a turn of the loop of its own: what one request
appends to several partitions is seen together.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

from logstore.broker.fetching import Fetch


class DelayedFetch:
    """``look`` reads what there is, ``is_enough`` says whether that will do, ``answer`` is called once. It is among the
    ``waiting`` as long as it waits. What the loop calls is called through ``attempt``, which sees to what it raises."""

    __slots__ = (
        *("_answer", "_attempt", "_cancels", "_is_enough", "_is_to_look", "_look", "_loop", "_thread_id", "_timer"),
        *("_waiting",),
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
        self._cancels: list[Callable[[], None]] = []
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
        self._forget_logs()

    def _watch(self, seen: Fetch) -> None:
        for fetched in seen.fetched:
            if fetched.log is not None:
                self._cancels.append(fetched.log.call_when_beyond(fetched.read.high_watermark, self._on_growth))

    def _forget_logs(self) -> None:
        for cancel in self._cancels:
            cancel()
        self._cancels.clear()

    def _on_growth(self) -> None:
        """In any thread."""
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
        seen = self._look()
        if self._is_enough(seen):
            self._finish(seen)
        else:
            self._forget_logs()
            self._watch(seen)

    def _finish(self, seen: Fetch) -> None:
        self.cancel()
        self._answer(seen)
