"""Who waits for a queue to change: threads and event loops, the first to come is the first to be called."""

import math
import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from logstore.errors import InvalidArgument

NEVER_S = math.inf


WaiterKind = TypeVar("WaiterKind", bound="Waiter")


class Waiter:
    """``until_s``: when it looks again by itself, by the monotonic clock. ``count``: of the messages that it puts,
    where it waits for room."""

    __slots__ = ("callback", "count", "until_s")

    def __init__(self, callback: Callable[[], None], until_s: float, count: int = 1) -> None:
        self.callback, self.until_s, self.count = callback, until_s, count


class Waiters:
    """Each is called once at most, and is none any more then. One that was called and does not take what there is must
    see to it that the next is. May be used under any lock: it takes none but its own, but for what callbacks do."""

    def __init__(self) -> None:
        self.waiting: dict[Waiter, None] = {}  # looked at without the lock: mostly nobody waits
        self._mutex = Lock()

    def add(self, waiter: WaiterKind) -> WaiterKind:
        with self._mutex:
            self.waiting[waiter] = None
        return waiter

    def remove(self, waiter: Waiter) -> None:
        with self._mutex:
            self.waiting.pop(waiter, None)

    def wake_one(self) -> None:
        with self._mutex:
            waiter = next(iter(self.waiting), None)
            if waiter is not None:
                del self.waiting[waiter]
        if waiter is not None:
            waiter.callback()

    def wake_fitting(self, room: int) -> None:
        """Those for whose messages there is room, first come, first served; who wants more does not hold up others."""
        fitting: list[Waiter] = []
        with self._mutex:
            for waiter in self.waiting:
                if room < 1:
                    break
                if waiter.count <= room:
                    fitting.append(waiter)
                    room -= waiter.count
            for waiter in fitting:
                del self.waiting[waiter]
        for waiter in fitting:
            waiter.callback()

    def wake_all(self) -> None:
        with self._mutex:
            waiters, self.waiting = list(self.waiting), {}
        for waiter in waiters:
            waiter.callback()

    def earliest_s(self) -> float:
        """When the first of them looks again by itself."""
        with self._mutex:
            return min((waiter.until_s for waiter in self.waiting), default=NEVER_S)


# ------------------------------------------------------------------------------------------------------------ threads


def deadline_s(block: bool, timeout: float | None) -> float:
    """Until when to wait, by the monotonic clock. Raises InvalidArgument."""
    if not block:
        return 0.0
    if timeout is None:
        return NEVER_S
    try:
        if timeout >= 0:
            return time.monotonic() + timeout
    except (TypeError, OverflowError):
        pass
    raise InvalidArgument("timeout", timeout, "it is a number of seconds, from 0 on, or None")


class Turn(Waiter):
    """A thread that waits: ``lock`` is released when it is its turn."""

    __slots__ = ("lock",)

    def __init__(self, until_s: float, count: int = 1) -> None:
        self.lock = Lock()
        self.lock.acquire()
        super().__init__(self.lock.release, until_s, count)

    def wait(self) -> None:
        """Until it is called, or its time is over."""
        until_s = self.until_s
        self.lock.acquire(timeout=-1 if until_s == NEVER_S else min(max(0.0, until_s - time.monotonic()), 1e6))
