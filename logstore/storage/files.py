"""Files: the one module that opens, writes, syncs, allocates, renames, truncates and unlinks.

Everything that can reach the disk goes through a function or a File of this module, so that a test which replaces
them sees every effect and can make any of them fail. An OSError never leaves it: it becomes a StorageFailure (DiskFull
where space, inodes or quota are out) that names the path and the operation. Python repeats calls that a signal
interrupted; short reads and writes are repeated here.

Modes are 0600 and 0700, and symbolic links are not followed: a data directory holds plain files of one owner.
"""

import contextlib
import errno
import fcntl
import os
import resource
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from logstore.errors import DiskFull, StorageFailure

Buffer = bytes | bytearray | memoryview
FILE_MODE = 0o600
DIR_MODE = 0o700
TEMPORARY = ".tmp"  # the ending of a file that ``write_file`` has not finished
_IOV_MAX = os.sysconf("SC_IOV_MAX")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_MAY_NOT_WRITE = {errno.EROFS, errno.EPERM, errno.EACCES}
_ON_LINUX = sys.platform == "linux"
_READS_WITHOUT_WAITING = hasattr(os, "RWF_NOWAIT")


def failure(path: str | Path, operation: str, error: OSError) -> StorageFailure:
    kind = DiskFull if error.errno in _NO_SPACE else StorageFailure
    return kind(str(path), operation, error.errno or 0, error.strerror or str(error))


class _named:
    """Around what may fail: says what was done to which file. No generator: opening ten thousand logs enters two
    hundred thousand."""

    __slots__ = ("_operation", "_path")

    def __init__(self, path: str | Path, operation: str) -> None:
        self._path = path
        self._operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise failure(self._path, self._operation, error) from None


class File:
    """An open file. It closes when it is told to, or when the last who holds it lets go: a reader that still holds
    one goes on reading after retention has unlinked the name."""

    __slots__ = ("fd", "path", "refusal")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.refusal: OSError | None = None  # why it could only be opened to be read

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with _named(self.path, "close"):
                _close(fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.fd)

    def size(self) -> int:
        with _named(self.path, "stat"):
            return os.fstat(self.fd).st_size

    def inode(self) -> int:
        """By which a file is told from another that has, or had, its name."""
        with _named(self.path, "stat"):
            return os.fstat(self.fd).st_ino

    def read_at(self, position: int, size: int) -> bytes:
        """``size`` bytes from ``position``; fewer only at the end of the file."""
        try:
            data = os.pread(self.fd, size, position)
            if len(data) == size or not data:
                return data
            pieces = [data]
            missing = size - len(data)
            while missing and (data := os.pread(self.fd, missing, position + size - missing)):
                pieces.append(data)
                missing -= len(data)
        except OSError as error:
            raise failure(self.path, "read", error) from None
        return b"".join(pieces)

    def read_cached(self, position: int, size: int) -> bytes | bytearray | None:
        """As ``read_at``, where that needs no disk: None where some of it is not in memory, or beyond the end."""
        if not _READS_WITHOUT_WAITING:
            return self.read_at(position, size)
        data = bytearray(size)
        try:
            count = os.preadv(self.fd, [data], position, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # a file system that cannot tell
                return self.read_at(position, size)
            raise failure(self.path, "read", error) from None
        return data if count == size else None

    def write_at(self, position: int, data: Buffer) -> None:
        """All of ``data``. On an error some of it may be in the file: cut back to where it was."""
        try:
            written = os.pwrite(self.fd, data, position)
            while written < len(data):
                written += os.pwrite(self.fd, memoryview(data)[written:], position + written)
        except OSError as error:
            raise failure(self.path, "write", self.refusal or error) from None

    def write_pieces_at(self, position: int, pieces: Sequence[Buffer]) -> None:
        """All pieces, one after the other, by as few system calls as the kernel allows."""
        try:
            size = sum(map(len, pieces))
            if len(pieces) <= _IOV_MAX and os.pwritev(self.fd, pieces, position) == size:
                return
        except OSError as error:
            raise failure(self.path, "write", self.refusal or error) from None
        self.write_at(position, b"".join(pieces))

    def next_data(self, position: int) -> int | None:
        """Where from ``position`` on the file has something else than space that was never written, as far as the file
        system knows; None where there is nothing."""
        try:
            return os.lseek(self.fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            if error.errno == errno.EINVAL:  # it cannot tell
                return position
            raise failure(self.path, "read", error) from None

    def sync(self) -> None:
        """Wait until data and size are on the disk. After a failure nothing is known of either: never retry it."""
        try:
            _sync(self.fd)
        except OSError as error:
            raise failure(self.path, "sync", error) from None

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            raise failure(self.path, "truncate", self.refusal or error) from None

    def allocate(self, size: int) -> None:
        """Grow the file to ``size`` bytes of zeros that the disk has promised."""
        with _named(self.path, "allocate"):
            if _ON_LINUX:
                os.posix_fallocate(self.fd, 0, size)
            else:
                end = os.fstat(self.fd).st_size
                os.pwrite(self.fd, bytes(max(0, size - end)), end)

    def send(self, socket_fd: int, position: int, size: int) -> int:
        """Let the kernel copy up to ``size`` bytes into a socket: the count sent, 0 at the end of the file.

        OSErrors here are the socket's (BlockingIOError, BrokenPipeError, …) and the caller's to handle.
        """
        if _ON_LINUX:
            return os.sendfile(socket_fd, self.fd, position, size)
        return os.write(socket_fd, os.pread(self.fd, min(size, 1 << 20), position))


def _close(fd: int) -> None:
    """Interrupted by a signal it is closed all the same, and another try could close what has its number by then."""
    with contextlib.suppress(InterruptedError):
        os.close(fd)


def _sync(fd: int) -> None:
    if _ON_LINUX:
        os.fdatasync(fd)
    elif hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def open_file(
    path: Path, *, writable: bool = False, create: bool = False, exclusive: bool = False, or_readable: bool = False
) -> File:
    """``or_readable``: one that may not be written, on a disk that has become read-only, is opened to be read."""
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
    if create:
        flags |= os.O_CREAT | (os.O_EXCL if exclusive else 0)
    try:
        return _open_regular(path, flags)
    except OSError as error:
        if not (or_readable and writable and error.errno in _MAY_NOT_WRITE):
            raise failure(path, "open", error) from None
        file = open_file(path)
        file.refusal = error
        return file


def _open_regular(path: Path, flags: int) -> File:
    """A pipe, a device or a directory in a file's place is an error, and never a wait for who is at its other end."""
    file = File(path, os.open(path, flags | os.O_NONBLOCK, FILE_MODE))
    mode = os.fstat(file.fd).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "it is not a regular file")
    return file


def read_file(path: Path) -> bytes | None:
    """All of a small file, or None where there is none."""
    try:
        file = _open_regular(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(path, "open", error) from None
    try:
        return file.read_at(0, file.size())
    finally:
        file.close()


def write_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace a small file: after a crash there is the old or the new one, whole. Without ``sync`` it may be torn."""
    temporary = path.with_name(path.name + TEMPORARY)
    file = open_file(temporary, writable=True, create=True)
    try:
        file.truncate(0)
        file.write_at(0, data)
        if sync:
            file.sync()
    except StorageFailure:
        unlink(temporary)  # it may hold the last of the space
        raise
    finally:
        file.close()
    rename(temporary, path)
    if sync:
        sync_dir(path.parent)


def rename(source: Path, target: Path) -> None:
    """Atomic; survives a power cut once the directory is synced."""
    with _named(source, f"rename to {target.name}"):
        os.rename(source, target)


def unlink(path: Path) -> None:
    """A name that is gone already is no error."""
    with _named(path, "unlink"), contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def make_dir(path: Path, *, parents: bool = False) -> None:
    """A directory that is there already is no error."""
    with _named(path, "create"):
        if parents:
            path.parent.mkdir(mode=DIR_MODE, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, DIR_MODE)


def remove_dir(path: Path) -> None:
    """Remove an empty directory."""
    with _named(path, "remove"), contextlib.suppress(FileNotFoundError):
        os.rmdir(path)


def sync_dir(path: Path) -> None:
    """Wait until the names that were made, renamed and removed in a directory are on the disk."""
    with _named(path, "open"):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with _named(path, "sync"):
        try:
            os.fsync(fd)
        finally:
            _close(fd)


class Entry:
    """A name in a directory, with what ``stat`` says of it."""

    __slots__ = ("inode", "is_dir", "modified_ms", "name", "size")

    def __init__(self, name: str, status: os.stat_result) -> None:
        self.name = name
        self.size = status.st_size
        self.inode = status.st_ino
        self.modified_ms = status.st_mtime_ns // 1_000_000
        self.is_dir = stat.S_ISDIR(status.st_mode)


def entry(path: Path) -> Entry:
    """What is at ``path``, where it is a plain file or a directory; links are followed."""
    with _named(path, "open"):
        status = os.stat(path)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise OSError(errno.EINVAL, "it is neither a file nor a directory")
    return Entry(path.name, status)


def _scan_dir(path: Path) -> Any:
    """The one call of ours that Python does not repeat when a signal interrupts it."""
    while True:
        with contextlib.suppress(InterruptedError):
            return os.scandir(path)


def list_dir(path: Path) -> list[Entry]:
    """What a directory holds, by name. Links and special files are left out: they are not the log's."""
    entries = []
    with _named(path, "list"), _scan_dir(path) as found:
        for entry in found:
            with contextlib.suppress(FileNotFoundError):  # unlinked since
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                    entries.append(Entry(entry.name, status))
    entries.sort(key=lambda entry: entry.name)
    return entries


def dir_names(path: Path) -> list[str]:
    """The names of a directory's directories, without asking for more: there may be ten thousand."""
    with _named(path, "list"), _scan_dir(path) as found:
        return sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))


def names(path: Path) -> list[str]:
    """All names in a directory, those of links and special files too."""
    with _named(path, "list"):
        with _scan_dir(path) as found:
            return sorted(entry.name for entry in found)


def exists(path: Path) -> bool:
    """Whether there is anything of that name, be it a link to nothing. Raises StorageFailure where it is not told."""
    with _named(path, "open"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)
        return True
    return False


def is_dir(path: Path, *, follow_links: bool = True) -> bool:
    """Whether there is a directory. Raises StorageFailure where it is not told."""
    with _named(path, "open"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return stat.S_ISDIR(os.stat(path, follow_symlinks=follow_links).st_mode)
    return False


def lock(file: File) -> bool:
    """Take the file's lock until it closes, and its copies in forked children; False where another holds it.

    Java, and so Apache Kafka, takes POSIX locks, which Linux keeps apart from ``flock``'s: both are taken. The POSIX
    one is of the open file: one of the process would be lost with any other descriptor of the file that closes.
    """
    try:
        fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _ON_LINUX:  # elsewhere the two kinds know of each other
            whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(file.fd, fcntl.F_OFD_SETLK, whole_file)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise failure(file.path, "lock", error) from None
    return True


def boot_id() -> str | None:
    """What is another after each start of the machine, and so after each loss of power; None where it is not told."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()
    return None


def disk_space(path: Path) -> tuple[int, int]:
    """Of the file system that ``path`` is on: its bytes, and those that this process may still write."""
    with _named(path, "look at the disk of"):
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def raise_open_file_limit() -> None:
    """Let this process hold as many descriptors as the system lets it: a few thousand partitions and connections take
    more than it has by default. For a process of its own: one that calls select() had better not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # a system may have limits besides: then it has what it has
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_file_limit() -> int:
    """How many descriptors this process may hold."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 65_536 if soft == resource.RLIM_INFINITY else soft
