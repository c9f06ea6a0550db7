"""Records every call by which the engine changes the disk, in order, as calls on inodes and directories.

``record`` puts a proxy in the place of the ``os`` that ``logstore.storage.files`` uses. Files and directories have
numbers of our own here, the root directory's is 0.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple
from unittest import mock

from logstore.storage import files

ROOT = 0


class Write(NamedTuple):
    inode: int
    position: int
    data: bytes


class Resize(NamedTuple):
    inode: int
    size: int


class Sync(NamedTuple):
    """The file's data and size, of the calls before the ``until``-th, are on the disk."""

    inode: int
    until: int


class Link(NamedTuple):
    """The name in the directory now means that inode; ``old`` (directory, name), where it was renamed, does not."""

    directory: int
    name: str
    inode: int
    old: tuple[int, str] | None = None
    is_directory: bool = False


class Unlink(NamedTuple):
    directory: int
    name: str


class SyncDir(NamedTuple):
    """The directory's names, of the calls before the ``until``-th, are on the disk."""

    directory: int
    until: int


Call = Write | Resize | Sync | Link | Unlink | SyncDir


@dataclass
class Tree:
    """Directories and files by number: what a disk holds."""

    directories: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    contents: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> "Tree":
        return Tree({number: dict(names) for number, names in self.directories.items()}, dict(self.contents))

    def paths(self, directory: int = ROOT, prefix: str = "") -> Iterator[tuple[str, int]]:
        """The path below the root, and the number, of all that can be reached, directories before what is in them."""
        for name, number in sorted(self.directories[directory].items()):
            yield prefix + name, number
            if number in self.directories:
                yield from self.paths(number, f"{prefix}{name}/")

    def write_out(self, root: Path) -> None:
        for path, number in self.paths():
            if number in self.directories:
                (root / path).mkdir()
            else:
                (root / path).write_bytes(self.contents[number])

    def key(self) -> tuple[tuple[str, bytes | None], ...]:
        """Equal for disks that look the same."""
        return tuple((path, self.contents.get(number)) for path, number in self.paths())


@dataclass
class Trace:
    """``before``: the disk when the recording began; all of it was durable."""

    root: Path
    before: Tree = field(default_factory=Tree)
    calls: list[Call] = field(default_factory=list)


class _Recorder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.trace = Trace(root)
        self.lock = RLock()
        self.now = Tree()
        self.open_files: dict[int, int] = {}
        self._next_number = ROOT + 1
        self._load(root, ROOT)
        self.trace.before = self.now.copy()

    def _load(self, path: Path, directory: int) -> None:
        for entry in sorted(path.iterdir()):
            number = self.new_number()
            self.now.directories[directory][entry.name] = number
            if entry.is_dir():
                self.now.directories[number] = {}
                self._load(entry, number)
            else:
                self.now.contents[number] = entry.read_bytes()

    def new_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    # -------------------------------------------------------------------------------------------------- what is meant

    def locate(self, path: str | Path) -> tuple[int, str] | None:
        """The directory's number and the name; None for what is not below the root."""
        try:
            *parents, name = Path(path).relative_to(self.root).parts
        except ValueError:
            return None
        directory = ROOT
        for parent in parents:
            directory = self.now.directories[directory][parent]
        return directory, name

    def number_of(self, path: str | Path) -> int | None:
        if Path(path) == self.root:
            return ROOT
        found = self.locate(path)
        return None if found is None else self.now.directories[found[0]].get(found[1])

    # ---------------------------------------------------------------------------------------------------- noting

    def note(self, call: Call) -> None:
        match call:
            case Write(inode, position, data):
                content = self.now.contents[inode].ljust(position, b"\0")
                self.now.contents[inode] = content[:position] + data + content[position + len(data) :]
            case Resize(inode, size):
                self.now.contents[inode] = self.now.contents[inode][:size].ljust(size, b"\0")
            case Link(directory, name, inode, old):
                if old is not None:
                    del self.now.directories[old[0]][old[1]]
                self.now.directories[directory][name] = inode
            case Unlink(directory, name):
                del self.now.directories[directory][name]
        self.trace.calls.append(call)


class _TracedOs:
    """``os``, with the calls that change the disk noted."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[_Recorder]:
        with self._recorder.lock:
            yield self._recorder

    def open(self, path: Path, flags: int, *arguments: Any) -> int:
        with self._noting() as recorder:
            fd = os.open(path, flags, *arguments)
            number = recorder.number_of(path)
            place = recorder.locate(path)
            if number is None and place is not None:
                number = recorder.new_number()
                recorder.now.contents[number] = b""
                recorder.note(Link(*place, number))
            if number is not None:
                recorder.open_files[fd] = number
            return fd

    def pwrite(self, fd: int, data: Any, position: int) -> int:
        with self._noting() as recorder:
            written = os.pwrite(fd, data, position)
            recorder.note(Write(recorder.open_files[fd], position, bytes(data)[:written]))
            return written

    def pwritev(self, fd: int, pieces: Any, position: int) -> int:
        with self._noting() as recorder:
            written = os.pwritev(fd, pieces, position)
            recorder.note(Write(recorder.open_files[fd], position, b"".join(map(bytes, pieces))[:written]))
            return written

    def ftruncate(self, fd: int, size: int) -> None:
        with self._noting() as recorder:
            os.ftruncate(fd, size)
            if len(recorder.now.contents[recorder.open_files[fd]]) != size:
                recorder.note(Resize(recorder.open_files[fd], size))

    def posix_fallocate(self, fd: int, position: int, size: int) -> None:
        with self._noting() as recorder:
            os.posix_fallocate(fd, position, size)
            if len(recorder.now.contents[recorder.open_files[fd]]) < position + size:
                recorder.note(Resize(recorder.open_files[fd], position + size))

    def fdatasync(self, fd: int) -> None:
        with self._noting() as recorder:
            until, number = len(recorder.trace.calls), recorder.open_files[fd]
        os.fdatasync(fd)
        with self._noting() as recorder:
            recorder.note(Sync(number, until))

    def fsync(self, fd: int) -> None:
        with self._noting() as recorder:
            until, number = len(recorder.trace.calls), recorder.open_files[fd]
        os.fsync(fd)
        with self._noting() as recorder:
            recorder.note(SyncDir(number, until) if number in recorder.now.directories else Sync(number, until))

    def rename(self, source: Path, target: Path) -> None:
        with self._noting() as recorder:
            os.rename(source, target)
            old, new, number = recorder.locate(source), recorder.locate(target), recorder.number_of(source)
            assert old is not None and new is not None and number is not None
            recorder.note(Link(*new, number, old))

    def unlink(self, path: Path) -> None:
        with self._noting() as recorder:
            os.unlink(path)
            place = recorder.locate(path)
            assert place is not None
            recorder.note(Unlink(*place))

    def mkdir(self, path: Path, mode: int) -> None:
        with self._noting() as recorder:
            os.mkdir(path, mode)
            place = recorder.locate(path)
            assert place is not None
            number = recorder.new_number()
            recorder.now.directories[number] = {}
            recorder.note(Link(*place, number, is_directory=True))

    def rmdir(self, path: Path) -> None:
        with self._noting() as recorder:
            os.rmdir(path)
            place = recorder.locate(path)
            assert place is not None
            recorder.note(Unlink(*place))


@contextlib.contextmanager
def record(root: Path) -> Iterator[Trace]:
    """Note what is done to the directory while the ``with`` block runs."""
    recorder = _Recorder(root)
    with mock.patch.object(files, "os", _TracedOs(recorder)):
        yield recorder.trace
