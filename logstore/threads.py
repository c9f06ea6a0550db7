"""Starting threads from calls that a Ctrl-C may end anywhere.

``Thread.start`` takes locks of Python's own and waits. Ended in the middle it may leave one of them taken, and no
thread of the process starts any more. So a Ctrl-C that comes meanwhile is dealt with when the thread has started.
"""

import signal
import threading
from typing import Any


def start_thread(thread: threading.Thread) -> None:
    """Start it. In the main thread, whatever handles Ctrl-C is called after that; in others none comes."""
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):
        thread.start()
        return
    came: list[tuple[Any, ...]] = []
    try:
        signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
        thread.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        handler(*came[0])
