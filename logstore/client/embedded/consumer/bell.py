"""How a consumer waits: until somebody rings, without looking again and again."""

from collections.abc import Callable

from logstore.client.turns import AutoResetEvent


class Bell(AutoResetEvent):
    """Rings whenever a poll may find something. ``has_news``: for something else than records, since who waits last
    looked."""

    def __init__(self) -> None:
        super().__init__()
        self.has_news = False
        self._callback: Callable[[], None] | None = None

    def set(self) -> None:
        super().set()
        callback = self._callback
        if callback is not None:
            self._callback = None
            callback()

    def call_when_set(self, callback: Callable[[], None]) -> None:
        """For who cannot stand still to wait: have this called when it is set next, instead of what was to be called
        before, in the thread that does. Whether it was set earlier, ``wait(0)`` tells. Of two at once, both may call.
        """
        self._callback = callback

    def tell(self) -> None:
        """Ring for something that is to be seen to before any further record is handed out."""
        self.has_news = True
        self.set()
