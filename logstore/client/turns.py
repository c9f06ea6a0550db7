"""How threads of clients wait for each other: until somebody says so, and one at a time.

A turn is what stands around each public method of a consumer: whoever comes second is told so. It is no lock that is
waited for, and none that Ctrl-C could leave held, but an entry of a dict, made and deleted by single instructions of
the interpreter, between which no signal handler runs.
"""

import functools
import os
from collections.abc import Callable
from threading import Lock, get_ident
from typing import Any, Concatenate, ParamSpec, TypeVar

from logstore.errors import Closed, ConcurrentUse, ForkedProcess, LogstoreError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


_LONG_S = 1e6  # more than a lock's time-out may be is for ever


class AutoResetEvent:
    """One thread waits, any may set it: an appending one, a signal handler. Set before the wait, it ends that wait at
    once; several times are one. Takes no lock that a thread could be interrupted with."""

    def __init__(self) -> None:
        self._is_unset = Lock()
        self._is_unset.acquire()

    def set(self) -> None:
        try:
            self._is_unset.release()
        except RuntimeError:  # it is set
            pass

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it was set within ``timeout_s`` seconds, and is not any more; None waits for ever."""
        if timeout_s is None:
            return self._is_unset.acquire()
        return self._is_unset.acquire(timeout=min(max(timeout_s, 0.0), _LONG_S))


class TakesTurns:
    """``what`` names the thing in errors. It is closing first, when only the thread whose turn it is may still call,
    as a listener does; then closed."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._turn: dict[str, int] = {}  # "thread": whose turn it is
        self._turn_is_over = AutoResetEvent()
        self._process_id = os.getpid()
        self._is_closing = False
        self._closed: LogstoreError | None = None

    def _is_in_child(self) -> bool:
        return os.getpid() != self._process_id

    def _begin_turn(self) -> None:
        """Before what the turn is for; not again before what a listener calls in it."""

    def _end_turn(self) -> None:
        """Have the turn of another thread come to its end, as soon as may be."""

    def _check_usable(self) -> None:
        """Raises Closed, ForkedProcess."""
        if self._is_in_child():
            raise ForkedProcess(self._what)
        if self._closed is not None:
            raise self._closed.with_traceback(None)


def in_turn(
    method: Callable[Concatenate[Any, Arguments], Result],
) -> Callable[Concatenate[Any, Arguments], Result]:
    """Have a method raise ConcurrentUse while another thread is in one, Closed after ``close``, ForkedProcess in a
    child. A listener that is called in it may call others."""

    @functools.wraps(method)
    def guarded(self: TakesTurns, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        turn, me = self._turn, get_ident()
        self._check_usable()
        if turn.get("thread") == me:
            return method(self, *args, **kwargs)
        try:
            if turn.setdefault("thread", me) != me:
                raise ConcurrentUse(self._what)
            if self._is_closing:
                raise Closed(self._what)
            self._begin_turn()
            return method(self, *args, **kwargs)
        finally:
            if "thread" in turn and turn["thread"] == me:
                del turn["thread"]
            if self._is_closing:
                self._turn_is_over.set()

    return guarded  # type: ignore[return-value]  # of whatever class takes turns


def last_turn(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """For ``close``: waits for the turn of another thread, which has been told to end, and is called once."""

    @functools.wraps(method)
    def guarded(self: TakesTurns) -> None:
        turn, me = self._turn, get_ident()
        if self._is_in_child() or self._closed is not None:
            return
        self._is_closing = True
        if turn.get("thread") == me:  # a listener closes it
            method(self)
            return
        self._end_turn()
        try:
            while turn.setdefault("thread", me) != me:
                self._turn_is_over.wait()
            if self._closed is None:
                method(self)
        finally:
            if "thread" in turn and turn["thread"] == me:
                del turn["thread"]
            self._turn_is_over.set()

    return guarded
