"""How much of clients' bytes is in memory, of all connections together, and who must wait for there to be less."""

from collections.abc import Hashable
from typing import Protocol


class Waiter(Hashable, Protocol):
    def on_memory(self) -> None:
        """There is memory again: go on."""


class MemoryBudget:
    """At most ``limit`` bytes, -1 without one: who would have more is told to wait, and called when there is room.

    The one who has held some for longest never waits: so there is always somebody who goes on, and lets go of his in
    the end. What is held is bounded by the limit and the largest that one may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Hashable, int] = {}  # who began to hold first comes first
        self._waiting: dict[Waiter, None] = {}
        self.total = 0

    @property
    def is_full(self) -> bool:
        return 0 <= self._limit < self.total

    def hold(self, holder: Hashable, size: int) -> None:
        """Take note that ``holder`` has ``size`` bytes now."""
        before = self._held.get(holder, 0)
        if size:
            self._held[holder] = size
        elif before:
            del self._held[holder]
        self.total += size - before
        if size < before and self._waiting:
            self._wake()

    def must_wait(self, holder: Waiter) -> bool:
        """Whether ``holder`` may take no more now; then it is called once it may."""
        if not self.is_full or next(iter(self._held), None) is holder:
            return False
        self._waiting[holder] = None
        return True

    def forget(self, holder: Waiter) -> None:
        self._waiting.pop(holder, None)
        self.hold(holder, 0)

    def _wake(self) -> None:
        first = next(iter(self._held), None)
        woken = [holder for holder in self._waiting if not self.is_full or holder is first]
        for holder in woken:
            del self._waiting[holder]
        for holder in woken:
            holder.on_memory()
