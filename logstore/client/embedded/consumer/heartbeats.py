"""The heartbeats of all members that one store has: one thread, which runs while there are any.

It knows members by weak references only: one that nobody has any more, and that was not closed, is taken out of its
group as soon as Python lets go of it. Whoever joins or leaves has the others of its group look at once, so that a
rebalance need not wait for their next heartbeat. What a member in the main thread asks of its group is run here, where
no Ctrl-C comes.
"""

import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from logstore.client.embedded.consumer.errand import Errand, is_interruptible
from logstore.client.turns import AutoResetEvent
from logstore.errors import LogstoreError
from logstore.threads import start_thread

logger = logging.getLogger("logstore.client")

# A rebalance takes each member's time. So the more members there are, the longer others that come have, to be part of
# the same one; seconds, a member and at most.
_NOTICE_S_PER_MEMBER = 0.001
_NOTICE_S_MAX = 0.1


class Seat:
    """A member's place in its group, which outlives it. ``member_id`` is empty while it has none, or is to keep it."""

    def __init__(self, group: str, leave: Callable[[str], object]) -> None:
        self.group = group
        self.member_id = ""
        self._leave = leave

    def give_up(self) -> None:
        """Leave the group. Raises what leaving does."""
        member_id, self.member_id = self.member_id, ""
        if member_id:
            self._leave(member_id)


class Beating(ABC):
    """A member, as far as its heartbeats go. ``due_s`` is by time.monotonic."""

    seat: Seat
    due_s: float

    @abstractmethod
    def beat(self, now_s: float) -> None:
        """Be heard of, and set ``due_s`` to the next time. Called in the heartbeats' thread."""


class Heartbeats:
    """See the module. Safe to use from many threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._wake = AutoResetEvent()
        self._members: list[tuple[weakref.ref[Beating], Seat]] = []
        self._errands: deque[Errand] = deque()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def add(self, member: Beating) -> None:
        with self._lock:
            if self._is_closed or any(known() is member for known, _ in self._members):
                return
            self._members.append((weakref.ref(member, self._gone), member.seat))
            self._start()
        self._wake.set()

    def _start(self) -> None:
        """Under the lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                start_thread(self._thread)
            except BaseException:  # a Ctrl-C: the thread may run all the same, and sees that it is not wanted
                self._thread = None
                raise

    def begin(self, action: Callable[[], object]) -> Errand:
        """Have ``action`` run where no Ctrl-C comes: here and now, but for the main thread's, which ``wait``s for it.
        What was begun is run to its end, whether anybody waits or not."""
        errand = Errand(action)
        with self._lock:
            is_run_here = self._is_closed or not is_interruptible()
            if not is_run_here:
                self._errands.append(errand)
                self._start()
        if is_run_here:
            errand.run()
        else:
            self._wake.set()
        return errand

    def discard(self, member: Beating) -> None:
        with self._lock:
            self._members = [known for known in self._members if known[0]() is not member]
        self._wake.set()

    def _gone(self, _: object) -> None:
        self._wake.set()  # no lock here: any thread may be in the middle of anything

    def notify_others(self, seat: Seat) -> None:
        """Have the other members of its group heard of soon: it has begun a rebalance."""
        with self._lock:
            members = [known() for known, other in self._members if other is not seat and other.group == seat.group]
        notice_s = min(_NOTICE_S_MAX, _NOTICE_S_PER_MEMBER * len(members))
        due_s = time.monotonic() + notice_s
        for member in members:
            if member is not None:
                member.due_s = min(member.due_s, due_s)
        if members:
            self._wake.set()

    def close(self) -> None:
        """Stop. Closing twice is no error."""
        if os.getpid() != self._process_id:
            return  # a child has neither the thread nor, for sure, the lock
        with self._lock:
            self._is_closed = True
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while (wait_s := self._beat_due()) is not None:
            self._wake.wait(wait_s)

    def _run_errands(self) -> None:
        while self._errands:
            self._errands.popleft().run()

    def _beat_due(self) -> float | None:
        """Have those heard of that are due; how long until the next is, None where the thread is to end."""
        self._run_errands()
        with self._lock:
            members = self._members
            self._members = [known for known in members if known[0]() is not None]
        for reference, seat in members:
            if reference() is None:
                self._give_up(seat)
        with self._lock:
            if threading.current_thread() is not self._thread:
                return None
            if self._errands:
                return 0.0
            if self._is_closed or not self._members:
                self._thread = None
                return None
            references = [reference for reference, _ in self._members]
        next_s = float("inf")
        for reference in references:
            member = reference()
            if member is not None:
                now_s = time.monotonic()
                if member.due_s <= now_s:
                    member.beat(now_s)
                next_s = min(next_s, member.due_s)
        return max(0.0, next_s - time.monotonic())

    def _give_up(self, seat: Seat) -> None:
        try:
            seat.give_up()
        except LogstoreError as error:  # its session ends without that too
            logger.warning("a consumer of group %r that nobody has any more did not leave it: %s", seat.group, error)
        self.notify_others(seat)
