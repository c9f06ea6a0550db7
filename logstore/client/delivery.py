"""The future of one record that a producer has taken in.

There is one for each record, so it must cost next to nothing: it is a place in a batch, and what it tells is the
batch's. What makes a ``concurrent.futures.Future`` dear, a condition and lists, is made only once somebody needs it:
who waits before the batch is done, or hands the future to ``wait``, ``as_completed`` or asyncio. From then on it is
``watched``, and the standard library's in all it does.

A record that was taken in cannot be taken back, so ``cancel`` does nothing, and says so by False.
"""

import os
from concurrent.futures import Future
from threading import Lock
from typing import Any, Protocol

from logstore.client.producer import Receipt

_FIELDS = frozenset(vars(Future()))
# Between who begins to watch a future and who settles its batch: held for a few steps.
_LOOKING = Lock()


class Promise(Protocol):
    """What a Delivery asks of its batch."""

    watched: "list[Delivery]"

    @property
    def is_settled(self) -> bool: ...

    def outcome(self, index: int) -> Receipt | BaseException:
        """Of the record at ``index``, once the batch is settled."""


class Delivery(Future[Receipt]):
    """See the module."""

    __slots__ = ("_index", "_promise")

    def __init__(self, promise: Promise, index: int) -> None:
        # Not the base's: what it would make is made by __getattr__ when it is missed.
        self._promise = promise
        self._index = index

    def __getattr__(self, name: str) -> Any:
        if name not in _FIELDS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._watch()
        return self.__dict__[name]

    def _watch(self) -> None:
        made: Future[Receipt] = Future()
        made.set_running_or_notify_cancel()
        with _LOOKING:
            if "_condition" not in self.__dict__:
                if self._promise.is_settled:
                    _settle(made, self._promise.outcome(self._index))
                else:
                    self._promise.watched.append(self)
                self.__dict__.update(vars(made))

    def result(self, timeout: float | None = None) -> Receipt:
        """The receipt; waits up to ``timeout`` seconds (None: for ever). Raises what went wrong, TimeoutError."""
        if not self._promise.is_settled:
            return super().result(timeout)
        outcome = self._promise.outcome(self._index)
        if isinstance(outcome, BaseException):
            raise outcome.with_traceback(None)
        return outcome

    def done(self) -> bool:
        return self._promise.is_settled

    def running(self) -> bool:
        return not self._promise.is_settled

    def tell(self) -> None:
        """Wake who watches. Called once, by who has settled the batch."""
        _settle(super(), self._promise.outcome(self._index))

    def forget_watchers(self) -> None:
        """In a forked child: who watched is not there, nor whoever holds the condition."""
        self.__dict__.clear()


def _settle(future: Any, outcome: Receipt | BaseException) -> None:
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def looking() -> Lock:
    """To be held while a batch becomes settled and hands out whom to tell."""
    return _LOOKING


def _renew_in_child() -> None:
    global _LOOKING
    _LOOKING = Lock()


os.register_at_fork(after_in_child=_renew_in_child)
