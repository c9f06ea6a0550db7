"""How a consumer waits: until somebody rings, without looking again and again."""

from collections.abc import Callable
from threading import Lock

_LONG_S = 1e6  # more than a lock's time-out may be is for ever


class Bell:
    """One thread waits, any may ring: an appending one, a signal handler. A ring that comes before the wait ends that
    wait at once; several are one. Takes no lock that a thread could be interrupted with."""

    def __init__(self) -> None:
        self._is_silent = Lock()
        self._is_silent.acquire()
        self.has_news = False
        """Rung for something else than records, since who waits last looked."""
        self._callback: Callable[[], None] | None = None

    def ring(self) -> None:
        try:
            self._is_silent.release()
        except RuntimeError:  # it is ringing
            pass
        callback = self._callback
        if callback is not None:
            self._callback = None
            callback()

    def call_when_rung(self, callback: Callable[[], None]) -> None:
        """For who cannot stand still to wait: have this called by the next ring, instead of what was to be called
        before, in the thread that rings. Of a ring that came earlier ``wait(0)`` tells. Of two at once, both may call.
        """
        self._callback = callback

    def tell(self) -> None:
        """Ring for something that is to be seen to before any further record is handed out."""
        self.has_news = True
        self.ring()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it rang within ``timeout_s`` seconds; None waits for ever."""
        if timeout_s is None:
            return self._is_silent.acquire()
        return self._is_silent.acquire(timeout=min(max(timeout_s, 0.0), _LONG_S))
