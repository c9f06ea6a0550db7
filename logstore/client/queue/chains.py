"""The messages of a key that follow each other: while one is under way, those behind it wait. Pure."""

from collections import deque


class Chains:
    """By key: the offsets behind the message that comes first. ``blocked_count``: how many there are of them all."""

    def __init__(self) -> None:
        self.blocked_count = 0
        self._chains: dict[bytes, deque[int]] = {}

    def __contains__(self, key: bytes | None) -> bool:
        """Whether a message of this key is under way."""
        return key in self._chains

    def join(self, key: bytes, offset: int) -> bool:
        """A message takes its place. Whether it is the first of its key, and so waits for none."""
        chain = self._chains.get(key)
        if chain is None:
            self._chains[key] = deque()
            return True
        chain.append(offset)
        self.blocked_count += 1
        return False

    def next(self, key: bytes) -> int | None:
        """The first one is settled: the offset of the next, which is the first now; None where there is none."""
        chain = self._chains[key]
        if not chain:
            del self._chains[key]
            return None
        self.blocked_count -= 1
        return chain.popleft()

    def leave(self, key: bytes, offset: int) -> None:
        """One that was not the first is settled, as what is lost to damage."""
        self._chains[key].remove(offset)
        self.blocked_count -= 1

    def clear(self) -> None:
        self._chains.clear()
        self.blocked_count = 0
