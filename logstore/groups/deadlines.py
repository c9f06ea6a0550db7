"""One thread that acts when a time has come: a heap of keys and their times.

Each key has one time; that it is later than told is found when the earlier one comes, so that moving it on, as every
heartbeat does, costs nothing. The thread starts with the first time that is set, and is joined by ``close``.
"""

import heapq
import logging
import threading
from collections.abc import Callable

from logstore.threads import start_thread

logger = logging.getLogger("logstore.groups")

_WAIT_MAX_S = 3600.0
_RETRY_MS = 1_000


class Deadlines:
    """Safe to use from many threads. Times are in the milliseconds of ``clock_ms``."""

    def __init__(self, name: str, clock_ms: Callable[[], int], act: Callable[[str], int | None]) -> None:
        """``act`` is called with a key whose time has come, without a lock, and returns the key's next time."""
        self._clock_ms, self._act = clock_ms, act
        self._lock = threading.Lock()  # taken by itself: a Ctrl-C in Condition.__enter__ would leave it taken
        self._changed = threading.Condition(self._lock)
        self._times: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []  # an entry that does not agree with the times is void
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def set(self, key: str, time_ms: int | None) -> None:
        """Have the thread act at ``time_ms`` for ``key``, unless it will earlier. None: nothing is to be done."""
        if time_ms is None or time_ms >= self._times.get(key, time_ms + 1):
            return
        with self._lock:
            if self._is_closed or time_ms >= self._times.get(key, time_ms + 1):
                return
            heapq.heappush(self._heap, (time_ms, key))
            self._times[key] = time_ms  # last: a Ctrl-C before it leaves an entry that is void
            if self._heap[0][1] == key:
                self._changed.notify()
            if self._thread.ident is None:
                start_thread(self._thread)

    def run_due(self) -> None:
        """Act for all whose time has come, in this thread."""
        for key in self._take_due():
            time_ms = None
            try:
                time_ms = self._act(key)
            except Exception:
                logger.exception("%s: what was due for %r failed, and is tried again", self._thread.name, key)
                time_ms = self._clock_ms() + _RETRY_MS
            self.set(key, time_ms)

    def close(self) -> None:
        """Act no more; wait for the thread, unless this is it."""
        with self._lock:
            self._is_closed = True
            self._changed.notify()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _take_due(self) -> list[str]:
        due: list[str] = []
        with self._lock:
            now_ms = self._clock_ms()
            while self._heap and self._heap[0][0] <= now_ms:
                time_ms, key = heapq.heappop(self._heap)
                if self._times.get(key) == time_ms:
                    del self._times[key]
                    due.append(key)
        return due

    def _wait_s(self) -> float:
        """Until the next time, under the lock."""
        if not self._heap:
            return _WAIT_MAX_S
        return min(_WAIT_MAX_S, (self._heap[0][0] - self._clock_ms()) / 1000)

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._is_closed and (wait_s := self._wait_s()) > 0:
                    self._changed.wait(wait_s)
                if self._is_closed:
                    return
            self.run_due()
