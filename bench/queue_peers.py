"""The durable queues that are measured side by side, all behind one interface, each used the way that suits it best.

What a message costs depends on what is promised of it, so each says what becomes of one whose worker dies between
``take`` and ``settle``. lmdb and sqlite are no queues: around them stands the simplest one that loses nothing. Nothing
here waits but logstore and persist-queue: the others are asked again and again.
"""

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count
from pathlib import Path
from struct import Struct
from time import sleep
from typing import Any

import diskcache
import litequeue
import lmdb
import persistqueue
from queuelib import FifoDiskQueue

import logstore

POLL_INTERVAL_S = 0.0005

_KEY = Struct(">Q")
_MAP_SIZE = 1 << 30


class QueuePeer(ABC):
    """A queue in ``directory``. ``durable``: what is put or settled is on the disk when the call returns; else it
    outlives the process. All but ``take`` of different peers may be called from many threads."""

    name: str
    can_be_durable = True

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self.durable = durable
        directory.mkdir(parents=True, exist_ok=True)
        self.open()

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def put(self, value: bytes) -> object: ...

    @abstractmethod
    def take(self) -> Any:
        """The next message, to be settled; None where there is none."""

    @abstractmethod
    def settle(self, message: Any) -> None: ...

    def value_of(self, message: Any) -> bytes:
        return message[1]

    def tidy(self) -> None:  # noqa: B027
        """Get rid of what is settled, where the queue does not do so by itself."""

    def wait(self) -> Any:
        """Take the next message, as soon as there is one."""
        while (message := self.take()) is None:
            sleep(POLL_INTERVAL_S)
        return message

    @abstractmethod
    def close(self) -> None: ...


class LmdbQueue(QueuePeer):
    """Two trees: what is ready, and what workers hold, which is ready again after a restart. At least once."""

    name = "lmdb"

    def open(self) -> None:
        self.env = lmdb.open(
            str(self.directory), map_size=_MAP_SIZE, max_dbs=2, sync=self.durable, metasync=self.durable
        )
        self._ready, self._held = self.env.open_db(b"ready"), self.env.open_db(b"held")
        self._next = count()

    def put(self, value: bytes) -> None:
        with self.env.begin(self._ready, write=True) as txn:
            txn.put(_KEY.pack(next(self._next)), value, append=True)

    def take(self) -> tuple[bytes, bytes] | None:
        with self.env.begin(self._ready, write=True) as txn:
            cursor = txn.cursor()
            if not cursor.first():
                return None
            message = cursor.item()
            cursor.delete()
            txn.put(*message, db=self._held)
            return message

    def settle(self, message: tuple[bytes, bytes]) -> None:
        with self.env.begin(self._held, write=True) as txn:
            txn.delete(message[0])

    def close(self) -> None:
        self.env.close()


class SqliteQueue(QueuePeer):
    """One table in WAL mode, synchronous FULL where durable, else NORMAL. What workers hold is marked, and ready again
    after a restart. At least once."""

    name = "sqlite"

    def open(self) -> None:
        self.db = sqlite3.connect(self.directory / "sqlite", check_same_thread=False, isolation_level=None)
        self.db.execute("pragma journal_mode = wal")
        self.db.execute(f"pragma synchronous = {'full' if self.durable else 'normal'}")
        self.db.execute("create table queue (number integer primary key, value blob, is_held integer default 0)")
        self._lock = threading.Lock()

    def put(self, value: bytes) -> None:
        with self._lock:
            self.db.execute("insert into queue (value) values (?)", (value,))

    def take(self) -> tuple[int, bytes] | None:
        with self._lock:
            return self.db.execute(
                "update queue set is_held = 1 where number = "
                "(select number from queue where is_held = 0 order by number limit 1) returning number, value"
            ).fetchone()

    def settle(self, message: tuple[int, bytes]) -> None:
        with self._lock:
            self.db.execute("delete from queue where number = ?", (message[0],))

    def close(self) -> None:
        self.db.close()


class Queuelib(QueuePeer):
    """Where it begins and ends is in memory until it is closed: a crash loses all of it, so it cannot be durable, and
    what is popped is settled. No threads: hence the lock."""

    name = "queuelib"
    can_be_durable = False

    def open(self) -> None:
        self.queue = FifoDiskQueue(self.directory)
        self._lock = threading.Lock()

    def put(self, value: bytes) -> None:
        with self._lock:
            self.queue.push(value)

    def take(self) -> bytes | None:
        with self._lock:
            return self.queue.pop()

    def settle(self, message: bytes) -> None:
        pass

    def value_of(self, message: bytes) -> bytes:
        return message

    def close(self) -> None:
        self.queue.close()


class Litequeue(QueuePeer):
    """``pop`` locks a message, which stays so if the worker dies, until somebody looks for it; ``done`` marks it, and
    ``prune`` removes what is marked. At most once by itself. Its one connection takes no threads: hence the lock."""

    name = "litequeue"

    def open(self) -> None:
        self.queue = litequeue.LiteQueue(self.directory / "litequeue")
        if self.durable:
            self.queue.conn.execute("pragma synchronous = full")
        self._lock = threading.Lock()

    def put(self, value: bytes) -> None:
        with self._lock:
            self.queue.put(value)

    def take(self) -> Any:
        with self._lock:
            return self.queue.pop()

    def settle(self, message: Any) -> None:
        with self._lock:
            self.queue.done(message.message_id)

    def value_of(self, message: Any) -> bytes:
        return message.data

    def tidy(self) -> None:
        self.queue.prune()

    def close(self) -> None:
        self.queue.close()


class PersistQueue(QueuePeer):
    """SQLiteAckQueue: what was got and not acked is ready again after a restart. At least once. A get that waits misses
    a put that comes just before it: hence the time-out. Synchronous FULL, unless it is told otherwise here."""

    name = "persist-queue"

    def open(self) -> None:
        self.queue = persistqueue.SQLiteAckQueue(str(self.directory), multithreading=True)
        if not self.durable:
            self.queue._putter.execute("pragma synchronous = normal")

    def put(self, value: bytes) -> None:
        self.queue.put(value)

    def take(self) -> Any:
        return self._get(block=False)

    def _get(self, **how: Any) -> Any:
        try:
            return self.queue.get(raw=True, **how)
        except persistqueue.Empty:
            return None

    def wait(self) -> Any:
        while (message := self._get(timeout=0.05)) is None:
            pass
        return message

    def settle(self, message: Any) -> None:
        self.queue.ack(id=message["pqid"])

    def value_of(self, message: Any) -> bytes:
        return message["data"]

    def tidy(self) -> None:
        self.queue.clear_acked_data(max_delete=-1, keep_latest=0)

    def close(self) -> None:
        self.queue.close()


class Diskcache(QueuePeer):
    """``popleft`` takes a message for good: at most once. It has no other way that keeps two workers apart."""

    name = "diskcache"

    def open(self) -> None:
        cache = diskcache.Cache(
            str(self.directory), eviction_policy="none", sqlite_synchronous=2 if self.durable else 1
        )
        self.queue = diskcache.Deque.fromcache(cache)

    def put(self, value: bytes) -> None:
        self.queue.append(value)

    def take(self) -> bytes | None:
        try:
            return self.queue.popleft()
        except IndexError:
            return None

    def settle(self, message: bytes) -> None:
        pass

    def value_of(self, message: bytes) -> bytes:
        return message

    def close(self) -> None:
        self.queue.cache.close()


class LogstoreQueue(QueuePeer):
    """All settings at their defaults, but for the durability. What was got and not acked comes again, to a worker who
    is told how often it did: at least once, and never after its ack."""

    name = "logstore"

    def open(self) -> None:
        self.store = logstore.open(self.directory)
        self.queue = self.store.queue("bench", durability="fsync" if self.durable else "os")

    def put(self, value: bytes) -> object:
        return self.queue.put(value)

    def take(self) -> Any:
        try:
            return self.queue.get(block=False)
        except logstore.Empty:
            return None

    def wait(self) -> Any:
        return self.queue.get()

    def settle(self, message: Any) -> None:
        self.queue.ack(message)

    def value_of(self, message: Any) -> bytes:
        return message.value

    def close(self) -> None:
        self.store.close()


QUEUE_PEERS: tuple[Callable[..., QueuePeer], ...] = (
    LmdbQueue,
    SqliteQueue,
    Queuelib,
    Litequeue,
    PersistQueue,
    Diskcache,
    LogstoreQueue,
)
