"""The bounded memory of a producer: room for records that are not stored yet, first come, first served.

Not thread-safe: its owner locks, but for a waiter's turn.
"""

from collections import deque
from threading import Lock


class PoolWaiter:
    """A thread that waits for room. ``turn`` can be acquired once it has it, or is sent away."""

    __slots__ = ("cost", "is_granted", "turn")

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.is_granted = False
        self.turn = Lock()
        self.turn.acquire()


class BufferPool:
    """``limit`` bytes, of which ``used`` are taken. What alone is larger than that may have it all. Who finds nobody
    ``waiting``, and room enough, takes it by adding to ``used``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.waiting: deque[PoolWaiter] = deque()

    def _fits(self, cost: int) -> bool:
        return self.used + cost <= self.limit or not self.used

    def give_back(self, cost: int) -> None:
        """Room for others: those who wait get it in their order."""
        self.used = max(0, self.used - cost)  # what a Ctrl-C kept from being counted is given back all the same
        while self.waiting and self._fits(self.waiting[0].cost):
            waiter = self.waiting.popleft()
            self.used += waiter.cost
            waiter.is_granted = True
            waiter.turn.release()

    def withdraw(self, waiter: PoolWaiter) -> None:
        """Who waited does not want it any more, or does not want what it got."""
        if waiter in self.waiting:
            self.waiting.remove(waiter)
            self.give_back(0)  # the next one may need less
        elif waiter.is_granted:
            cost, waiter.cost = waiter.cost, 0
            self.give_back(cost)

    def send_away(self) -> None:
        """Wake all who wait, with nothing."""
        for waiter in self.waiting:
            waiter.turn.release()
        self.waiting.clear()
