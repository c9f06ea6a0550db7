"""Bytes taken out of a log, kept: each range in a file of ``salvaged/``, in the partition's directory.

A file there has its name only once it is whole and on the disk; what a crash interrupted ends with ``.tmp``, and is
written over by the next try. Nothing there is ever replaced: what finds its name taken by other bytes gets a number
behind it, and a copy that a crash made superfluous is found again. The caller takes the bytes out of the log only
after they are kept.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from logstore.errors import StorageFailure
from logstore.format import filename
from logstore.storage import files

COPY_SIZE = 1 << 20


def keep_range(directory: Path, source: files.File, position: int, end: int) -> Path:
    """Copy the bytes from ``position`` to ``end`` of a log of the partition in ``directory``; returns the file that
    holds them now. Raises StorageFailure."""

    def pieces() -> Iterator[bytes]:
        for start in range(position, end, COPY_SIZE):
            yield source.read_at(start, min(COPY_SIZE, end - start))

    return _keep(directory, f"{source.path.name}.{position}-{end}", pieces)


def keep_bytes(directory: Path, name: str, data: bytes) -> Path:
    """Write ``data`` to a file that is named after the one it is from; returns it. Raises StorageFailure."""
    return _keep(directory, name, lambda: (data,))


def keep_file(path: Path) -> Path:
    """Move a whole file of the partition; returns where it is now. The caller syncs the directory that it has left.
    Raises StorageFailure."""
    kept = next(free for free in _paths(_dir(path.parent), path.name) if not files.exists(free))
    files.rename(path, kept)
    files.sync_dir(kept.parent)
    return kept


def _dir(directory: Path) -> Path:
    """Made, and on the disk: an earlier try may have made it, and failed before it was synced."""
    salvaged = directory / filename.SALVAGED_DIR
    files.make_dir(salvaged)
    files.sync_dir(directory)
    return salvaged


def _paths(salvaged: Path, name: str) -> Iterator[Path]:
    """The names that it may have, the first that is free is taken."""
    return (salvaged / (f"{name}.{number}" if number else name) for number in count())


def _keep(directory: Path, name: str, pieces: Callable[[], Iterable[bytes]]) -> Path:
    for path in _paths(_dir(directory), name):
        if not files.exists(path):
            _write(path, pieces())
            return path
        if _holds(path, pieces()):  # it was copied before a crash, perhaps just before its name was synced
            files.sync_dir(path.parent)
            return path
    raise AssertionError("there are always more names")


def _holds(path: Path, pieces: Iterable[bytes]) -> bool:
    """Whether these bytes are all that is in a file; one that cannot be read is taken for another."""
    with suppress(StorageFailure):
        file = files.open_file(path)
        position = 0
        for piece in pieces:
            if file.read_at(position, len(piece)) != piece:
                return False
            position += len(piece)
        return file.size() == position
    return False


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    temporary = path.with_name(path.name + files.TEMPORARY)
    file = files.open_file(temporary, writable=True, create=True)
    try:
        file.truncate(0)
        position = 0
        for piece in pieces:
            file.write_at(position, piece)
            position += len(piece)
        file.sync()
    except StorageFailure:
        files.unlink(temporary)  # it may hold the last of the space
        raise
    finally:
        file.close()
    files.rename(temporary, path)
    files.sync_dir(path.parent)
