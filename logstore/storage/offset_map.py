"""From each key to the last offset at which it stands: what compaction knows, in a set amount of memory.

A key is stood for by 16 bytes of BLAKE2b, so keys of any size take the same room. Two that share a digest would be
taken for one: among a billion keys a chance of 1 in 10^21. The table is a numpy one of open addressing, 24 bytes a slot
and three quarters of the slots in use: 32 bytes a key. (A dict of such digests takes 123 bytes a key, and half as much
again while it grows, at the same speed: here the work is done on thousands of keys at once.)
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from logstore.format.record_columns import Int64Array

Digests = npt.NDArray[np.uint64]  # a row of two a key

DIGEST_SIZE = 16
SLOT_SIZE = DIGEST_SIZE + 8
_EMPTY_HASH = blake2b(digest_size=DIGEST_SIZE)


def digest_keys(keys: Iterable[bytes]) -> Digests:
    """The digests of keys, in their order."""
    return np.frombuffer(b"".join([_digest(key) for key in keys]), dtype=np.uint64).reshape(-1, 2)


def _digest(key: bytes) -> bytes:
    state = _EMPTY_HASH.copy()  # half the time of a new one
    state.update(key)
    return state.digest()


class OffsetMap:
    """Holds ``capacity`` keys. Offsets must come in increasing order."""

    def __init__(self, size_bytes: int, key_count_max: int) -> None:
        """``size_bytes`` of memory, or less where ``key_count_max`` keys, all there can be, take less."""
        self._slot_count = max(2, min(size_bytes // SLOT_SIZE, key_count_max * 4 // 3 + 2))
        self.capacity = max(1, self._slot_count * 3 // 4)
        self._digests = np.zeros((self._slot_count, 2), dtype=np.uint64)
        self._next_offsets = np.zeros(self._slot_count, dtype=np.int64)  # one past the key's offset; 0: a free slot
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, digests: Digests, offsets: Int64Array) -> int:
        """Take note of keys and their offsets, as far as there is room: how many were taken, from the first on."""
        count = len(digests)
        room = self.capacity - self._count
        if count > room:
            is_new = self.latest(digests) < 0
            _, firsts = np.unique(digests, axis=0, return_index=True)
            is_first = np.zeros(count, dtype=bool)
            is_first[firsts] = True
            count = int(np.searchsorted(np.cumsum(is_new & is_first), room, side="right"))
        self._put(digests[:count], offsets[:count] + 1)
        return count

    def _put(self, digests: Digests, next_offsets: Int64Array) -> None:
        slots = self._first_slots(digests)
        waiting = np.arange(len(digests))
        while waiting.size:
            tried = slots[waiting]
            is_free = self._next_offsets[tried] == 0
            free = tried[is_free]
            # Where several want one slot, numpy lets the last have it; the others see that below.
            self._digests[free] = digests[waiting[is_free]]
            self._next_offsets[free] = next_offsets[waiting[is_free]]
            # As np.unique would, but that imports a module: an error where no descriptor is left.
            self._count += int(np.count_nonzero(np.diff(np.sort(free), prepend=-1)))
            is_mine = (self._digests[tried] == digests[waiting]).all(axis=1)
            self._next_offsets[tried[is_mine]] = next_offsets[waiting[is_mine]]
            waiting = waiting[~is_mine]
            slots[waiting] = (slots[waiting] + 1) % self._slot_count

    def latest(self, digests: Digests) -> Int64Array:
        """The last offset of each key, -1 for one that is not here."""
        found = np.full(len(digests), -1, dtype=np.int64)
        slots = self._first_slots(digests)
        waiting = np.arange(len(digests))
        while waiting.size:
            tried = slots[waiting]
            next_offsets = self._next_offsets[tried]
            is_mine = (next_offsets > 0) & (self._digests[tried] == digests[waiting]).all(axis=1)
            found[waiting[is_mine]] = next_offsets[is_mine] - 1
            waiting = waiting[~is_mine & (next_offsets > 0)]
            slots[waiting] = (slots[waiting] + 1) % self._slot_count
        return found

    def _first_slots(self, digests: Digests) -> Int64Array:
        return (digests[:, 0] % np.uint64(self._slot_count)).astype(np.int64)
