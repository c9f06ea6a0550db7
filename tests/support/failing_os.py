"""Calls to the system that fail: a ``Fault`` says which and how, ``FailingCalls`` lets it come true at one of them.

Everything that touches the disk goes through ``logstore.storage.files``, which calls ``os`` and ``fcntl`` by its
globals. ``FailingCalls`` puts proxies in their place, counts the calls that its fault can hit, and fails the one it
was told to: that one only, or it and all that follow until ``lift``. A count of -1 fails none, and so tells how many
there are.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

from logstore.storage import files

_READS = frozenset({"pread", "fstat", "lseek", "stat", "lstat", "scandir", "listdir"})
_WRITES = frozenset({"pwrite", "pwritev"})
_SYNCS = frozenset({"fdatasync", "fsync"})
_NAMES = frozenset({"rename", "unlink", "mkdir", "rmdir"})
_CALLS = _READS | _WRITES | _SYNCS | _NAMES | {"open", "close", "ftruncate", "posix_fallocate", "flock", "fcntl"}

Applies = Callable[[str, tuple[Any, ...]], bool]


class Fault(NamedTuple):
    """``applies``: to which calls, by name and arguments. ``number`` is the errno, 0 where a call is only shorter than
    asked for, None where it is a Ctrl-C. ``stays``: until lifted. ``tears``: of a write, half is done before the error.
    ``reads_go_on``: the data can be read all the while.
    """

    name: str
    number: int | None
    applies: Applies
    stays: bool = False
    tears: bool = False
    reads_go_on: bool = False


def _creates(name: str, arguments: tuple[Any, ...]) -> bool:
    return name == "open" and bool(arguments[1] & os.O_CREAT) and not os.path.lexists(arguments[0])


def _any(name: str, arguments: tuple[Any, ...]) -> bool:
    return True


def _takes_space(name: str, arguments: tuple[Any, ...]) -> bool:
    is_new_dir = name == "mkdir" and not os.path.lexists(arguments[0])
    return name in _WRITES or name in {"posix_fallocate", "rename"} or is_new_dir or _creates(name, arguments)


def _takes_descriptor(name: str, arguments: tuple[Any, ...]) -> bool:
    return name in {"open", "scandir", "listdir"}


def _takes_memory(name: str, arguments: tuple[Any, ...]) -> bool:
    return name in {"open", "scandir", "mkdir"} or name in _WRITES


def _changes(name: str, arguments: tuple[Any, ...]) -> bool:
    """What a file system that has become read-only refuses."""
    opens_to_write = name == "open" and bool(arguments[1] & (os.O_RDWR | os.O_CREAT))
    return opens_to_write or name in _WRITES | _SYNCS | _NAMES | {"ftruncate", "posix_fallocate"}


def _syncs(name: str, arguments: tuple[Any, ...]) -> bool:
    return name in _SYNCS


def _moves_bytes(name: str, arguments: tuple[Any, ...]) -> bool:
    return name in _WRITES or name == "pread"


EIO_ONCE = Fault("EIO once", errno.EIO, _any)
DEAD_DISK = Fault("EIO until lifted", errno.EIO, _any, stays=True)
READ_ONLY_DISK = Fault("EROFS until lifted", errno.EROFS, _changes, stays=True, reads_go_on=True)
FULL_DISK = Fault("ENOSPC until lifted", errno.ENOSPC, _takes_space, stays=True, tears=True, reads_go_on=True)
FULL_ONCE = Fault("ENOSPC once", errno.ENOSPC, _takes_space, tears=True)
NO_DESCRIPTOR = Fault("EMFILE until lifted", errno.EMFILE, _takes_descriptor, stays=True)
NO_DESCRIPTOR_ONCE = Fault("EMFILE once", errno.EMFILE, _takes_descriptor)
NO_MEMORY = Fault("ENOMEM until lifted", errno.ENOMEM, _takes_memory, stays=True)
FAILED_SYNC = Fault("EIO of one sync", errno.EIO, _syncs)
SHORT_ONCE = Fault("one short read or write", 0, _moves_bytes)
SHORT = Fault("short reads and writes", 0, _moves_bytes, stays=True)
CTRL_C = Fault("Ctrl-C", None, lambda name, arguments: name != "close")


class _Proxy:
    def __init__(self, module: Any, calls: "FailingCalls") -> None:
        self._module = module
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._module, name)
        if name not in _CALLS:
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            return self._calls.call(name, real, arguments, named)

        setattr(self, name, call)
        return call


class FailingCalls:
    """See the module. ``failed``: the calls that did, by name. ``synced``: what is on the disk of each file (its
    inode), by the syncs that succeeded; ``lost``: of which files a sync failed, and what was on the disk by then."""

    def __init__(self, fault: Fault, at: int = -1) -> None:
        self.fault = fault
        self.at = at
        self.count = 0
        self.failed: list[str] = []
        self.places: list[tuple[str, ...]] = []  # by which functions each of the counted calls was reached
        self.syncs_of: list[str] = []
        self.synced: dict[int, bytes] = {}
        self.lost: dict[int, bytes] = {}
        self._is_lifted = False
        self._is_paused = 0
        self._lock = RLock()
        self._replaced: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for name in ("os", "fcntl"):
            self._replaced[name] = getattr(files, name)
            setattr(files, name, _Proxy(self._replaced[name], self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name, module in self._replaced.items():
            setattr(files, name, module)

    def lift(self) -> None:
        self._is_lifted = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let calls through, uncounted."""
        self._is_paused += 1
        try:
            yield
        finally:
            self._is_paused -= 1

    def call(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if not self._is_due(name, arguments):
            done = real(*arguments, **named)
            if name in _SYNCS:
                self._note_synced(arguments[0])
            return done
        if self.fault.number == 0:
            return _partly(name, real, arguments)
        if self.fault.number is None:
            raise KeyboardInterrupt
        if name in _SYNCS:
            inode = os.fstat(arguments[0]).st_ino
            self.lost.setdefault(inode, self.synced.get(inode, b""))
        if name == "close":
            real(*arguments)  # Linux closes it, whatever it says
        if name in _WRITES and self.fault.tears and len(self.failed) == 1:
            return _partly(name, real, arguments)  # the error comes with the rest
        raise OSError(self.fault.number, os.strerror(self.fault.number))

    def _is_due(self, name: str, arguments: tuple[Any, ...]) -> bool:
        with self._lock:
            if name in _SYNCS:
                self.syncs_of.append(os.readlink(f"/proc/self/fd/{arguments[0]}"))
            if self._is_lifted or self._is_paused or not self.fault.applies(name, arguments):
                return False
            number, self.count = self.count, self.count + 1
            if self.at < 0:
                self.places.append((name, *_engine_functions()))
            is_rest = self.fault.tears and self.failed and number == self.at + 1
            if self.at < 0 or not (number == self.at or is_rest or (self.fault.stays and number > self.at)):
                return False
            self.failed.append(name)
            return True

    def _note_synced(self, fd: int) -> None:
        path = f"/proc/self/fd/{fd}"
        if not os.path.isdir(path):
            with open(path, "rb") as file:
                self.synced[os.fstat(fd).st_ino] = file.read()


def _partly(name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Do half of a read or a write."""
    fd, what, position = arguments
    if name == "pread":
        return real(fd, max(1, what // 2), position)
    data = bytes(what) if name == "pwrite" else b"".join(what)
    return os.pwrite(fd, data[: max(1, len(data) // 2)], position)


def _engine_functions() -> tuple[str, ...]:
    """Where in the engine we are: its functions on the stack, each with its line."""
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if "logstore" in frame.f_code.co_filename:
            found.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        frame = frame.f_back
    return tuple(found)
