"""A bounded, thread-safe cache of things that can be had again: open files, and indexes read into memory.

It holds what was used last. What it drops is not closed: it lives on for whoever holds it, and ends when they let go.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from logstore.storage.files import File

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """Keeps values up to ``capacity``, in the unit of ``cost``: one each where none is given."""

    def __init__(self, capacity: int, cost: Callable[[Value], int] = lambda value: 1) -> None:
        self.capacity = capacity
        self._cost = cost
        self._total = 0
        self._values: OrderedDict[object, Value] = OrderedDict()
        # What was got last, which is in ``_values``, with its key: for a look without a call, let alone a lock.
        self.newest: tuple[object, Value | None] = None, None
        self._lock = Lock()

    def get(self, key: object, make: Callable[[], Value]) -> Value:
        """The value kept for ``key`` (compared by identity, as plain objects are), else the one that ``make`` makes."""
        newest = self.newest
        if newest[0] is key and newest[1] is not None:
            return newest[1]
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
                self.newest = key, value
                return value
        value = make()
        with self._lock:
            self._drop(key)
            self._values[key] = value
            self.newest = key, value
            self._total += self._cost(value)
            while self._total > self.capacity and len(self._values) > 1:
                _, oldest = self._values.popitem(last=False)
                self._total -= self._cost(oldest)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def discard(self, key: object) -> None:
        with self._lock:
            self._drop(key)

    def renew_in_child(self) -> None:
        """After a fork: forget everything, and the lock, which a thread that the child does not have may hold."""
        self._lock = Lock()
        self._values, self._total = OrderedDict(), 0
        self.newest = None, None

    def _drop(self, key: object) -> None:
        value = self._values.pop(key, None)
        self.newest = None, None
        if value is not None:
            self._total -= self._cost(value)


class Caches:
    """What the partitions of one data directory share: open logs and growing indexes, sealed indexes in memory.

    ``open_file_count`` bounds descriptors, ``index_bytes`` the memory of sealed indexes.
    """

    def __init__(self, open_file_count: int = 256, index_bytes: int = 64 << 20) -> None:
        self.files: LruCache[File] = LruCache(max(2, open_file_count))
        self.columns: LruCache[Columns] = LruCache(index_bytes, cost=_columns_size)

    def discard(self, *keys: object) -> None:
        for key in keys:
            self.files.discard(key)
            self.columns.discard(key)

    def renew_in_child(self) -> None:
        """See ``LruCache.renew_in_child``."""
        self.files.renew_in_child()
        self.columns.renew_in_child()


Columns = tuple["array[int]", "array[int]"]


def _columns_size(columns: Columns) -> int:
    return 128 + sum(column.itemsize * len(column) for column in columns)
