"""The stores that are measured side by side, all behind one interface, each used the way that suits it best.

A peer is the simplest whole program around its store: the plain file has no checksums, no index on disk and no
recovery, so it shows what Python itself costs; lmdb and sqlite are what one would take instead.
"""

import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, count
from pathlib import Path
from struct import Struct
from typing import Any

import lmdb

import logstore

_LENGTH = Struct(">I")
_KEY = Struct(">Q")
_MAP_SIZE = 8 << 30
_CHUNK_SIZE = 1 << 20


class Peer(ABC):
    """A store of messages by number, in ``directory``. ``durable``: an append returns when it is on the disk."""

    name: str

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self.durable = durable
        directory.mkdir(parents=True, exist_ok=True)
        self.open()

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def append_batch(self, values: Sequence[bytes]) -> None: ...

    @abstractmethod
    def append(self, value: bytes) -> None:
        """One message; from many threads at once where ``durable``."""

    @abstractmethod
    def read_all(self) -> Iterator[Any]:
        """Every message, as the store's own Python object."""

    @abstractmethod
    def read_at(self, offset: int) -> bytes: ...

    @abstractmethod
    def close(self) -> None: ...

    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_blocks * 512 for path in self.directory.rglob("*") if path.is_file())


class PlainFile(Peer):
    """Length, bytes, length, bytes, …; positions are in memory, made by one pass when they are first asked for."""

    name = "plain"

    def open(self) -> None:
        self.fd = os.open(self.directory / "plain", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._positions = array("q")
        self._group = _GroupSync(self.fd)

    def append_batch(self, values: Sequence[bytes]) -> None:
        pieces = [b""] * (2 * len(values))
        pieces[::2] = map(_LENGTH.pack, map(len, values))
        pieces[1::2] = values
        os.write(self.fd, b"".join(pieces))

    def append(self, value: bytes) -> None:
        os.write(self.fd, _LENGTH.pack(len(value)) + value)
        if self.durable:
            os.fdatasync(self.fd)

    def append_grouped(self, value: bytes) -> None:
        self._group.wait(self._group.written(os.write(self.fd, _LENGTH.pack(len(value)) + value)))

    def read_all(self) -> Iterator[bytes]:
        position, data = 0, b""
        unpack = _LENGTH.unpack_from
        while chunk := os.pread(self.fd, _CHUNK_SIZE, position):
            position += len(chunk)
            data += chunk
            at, messages = 0, []
            while at + 4 <= len(data):
                (length,) = unpack(data, at)
                end = at + 4 + length
                if end > len(data):
                    break
                messages.append(data[at + 4 : end])
                at = end
            yield from messages
            data = data[at:]

    def index(self) -> None:
        """Find all messages, as opening must that wants to know where the file ends."""
        self._positions = array("q", accumulate((4 + len(message) for message in self.read_all()), initial=0))

    def read_at(self, offset: int) -> bytes:
        if offset >= len(self._positions) - 1:
            self.index()
        position = self._positions[offset]
        return os.pread(self.fd, self._positions[offset + 1] - position, position)[4:]

    def close(self) -> None:
        os.close(self.fd)


class _GroupSync:
    """One fdatasync for all threads that have written before it: the first leads, the others wait for their turn."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mutex = threading.Lock()
        self._end = self._synced = 0
        self._has_leader = False
        self._waiting: deque[tuple[int, threading.Lock]] = deque()

    def written(self, size: int) -> int:
        with self._mutex:
            self._end += size
            return self._end

    def wait(self, end: int) -> None:
        while True:
            with self._mutex:
                if self._synced >= end:
                    return
                turn = threading.Lock() if self._has_leader else None
                if turn is not None:
                    turn.acquire()
                    self._waiting.append((end, turn))
                self._has_leader = True
                target = self._end
            if turn is None:
                os.fdatasync(self._fd)
                with self._mutex:
                    self._synced = target
                    self._has_leader = False
                    due = [turn for _, turn in self._waiting]
                    self._waiting.clear()
                for turn in due:
                    turn.release()
                return
            turn.acquire()


class BufferedPlainFile(PlainFile):
    """The plain file behind Python's own buffer: what an append costs that may be lost with the process."""

    name = "plain buffered"

    def open(self) -> None:
        super().open()
        self._buffered = os.fdopen(os.dup(self.fd), "ab", buffering=1 << 16)

    def append(self, value: bytes) -> None:
        self._buffered.write(_LENGTH.pack(len(value)) + value)

    def close(self) -> None:
        self._buffered.close()
        super().close()


class Lmdb(Peer):
    """Keys are counted up, so that every put is an append to the tree's right edge."""

    name = "lmdb"

    def open(self) -> None:
        self.env = lmdb.open(str(self.directory), map_size=_MAP_SIZE, sync=self.durable, metasync=self.durable)
        self._next = count(self.env.stat()["entries"])

    def append_batch(self, values: Sequence[bytes]) -> None:
        with self.env.begin(write=True) as txn:
            txn.cursor().putmulti([(_KEY.pack(next(self._next)), value) for value in values], append=True)

    def append(self, value: bytes) -> None:
        with self.env.begin(write=True) as txn:
            txn.put(_KEY.pack(next(self._next)), value, append=True)

    def read_all(self) -> Iterator[bytes]:
        with self.env.begin() as txn:
            yield from txn.cursor().iternext(keys=False, values=True)

    def read_at(self, offset: int) -> bytes:
        with self.env.begin() as txn:
            return txn.get(_KEY.pack(offset))

    def close(self) -> None:
        self.env.close()


class Sqlite(Peer):
    """One table in WAL mode, synchronous FULL where durable, else NORMAL."""

    name = "sqlite"

    def open(self) -> None:
        self.db = sqlite3.connect(self.directory / "sqlite", check_same_thread=False, isolation_level=None)
        self.db.execute("pragma journal_mode = wal")
        self.db.execute(f"pragma synchronous = {'full' if self.durable else 'normal'}")
        self.db.execute("create table if not exists log (number integer primary key, value blob)")
        self._lock = threading.Lock()

    def append_batch(self, values: Sequence[bytes]) -> None:
        self.db.execute("begin")
        self.db.executemany("insert into log (value) values (?)", [(value,) for value in values])
        self.db.execute("commit")

    def append(self, value: bytes) -> None:
        with self._lock:
            self.db.execute("insert into log (value) values (?)", (value,))

    def read_all(self) -> Iterator[tuple[bytes]]:
        return self.db.execute("select value from log order by number")

    def read_at(self, offset: int) -> bytes:
        return self.db.execute("select value from log where number = ?", (offset + 1,)).fetchone()[0]

    def close(self) -> None:
        self.db.close()


class Logstore(Peer):
    """A store with one topic of one partition, all settings at their defaults."""

    name = "logstore"

    def open(self) -> None:
        self.store = logstore.open(self.directory)
        if not self.store.topics():
            self.store.create_topic("bench")
        self.log = self.store.log("bench")
        self._durability = logstore.Durability.FSYNC if self.durable else logstore.Durability.OS

    def append_batch(self, values: Sequence[bytes]) -> None:
        self.log.append(values)

    def append(self, value: bytes) -> None:
        self.log.append((value,), durability=self._durability)

    def read_all(self) -> Iterator[logstore.Record]:
        return self.log.records(0)

    def read_columns(self) -> Iterator[Any]:
        for batch in self.log.batches(0):
            yield batch.columns()

    def read_at(self, offset: int) -> bytes:
        return next(self.log.records(offset)).value or b""

    def close(self) -> None:
        self.store.close()


PEERS: tuple[Callable[..., Peer], ...] = (PlainFile, Lmdb, Sqlite, Logstore)
