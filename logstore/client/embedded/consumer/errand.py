"""A call that must not end halfway: Ctrl-C comes only in the main thread, so another one makes it.

What a member asks of its group changes the group for all members. Ended in the middle, it could leave others waiting.
"""

import threading
from collections.abc import Callable
from threading import Lock


class Errand:
    """``action``, to be run once, in whatever thread."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._error: Exception | None = None
        self._is_under_way = Lock()
        self._is_under_way.acquire()

    def run(self) -> None:
        try:
            self._action()
        except Exception as error:  # noqa: BLE001  # whoever waits raises it
            self._error = error
        finally:
            self._is_under_way.release()

    def wait(self) -> None:
        """Until it is over; once. Raises what the action did."""
        self._is_under_way.acquire()
        if self._error is not None:
            raise self._error


def is_interruptible() -> bool:
    """Whether Ctrl-C may come in this thread."""
    return threading.current_thread() is threading.main_thread()
