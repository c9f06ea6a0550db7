"""Whose a data directory is: the lock that keeps others out, and the file that says that it is ours.

``meta.properties`` names our format, or another program's. ``.lock`` is locked, in the two ways that programs lock
files, as long as the directory is open; the lock goes with the process.
"""

import contextlib
import logging
import os
from pathlib import Path
from uuid import uuid4

from logstore.errors import CorruptCheckpoint, DataDirLocked, DiskFull, NotADataDir
from logstore.format import filename
from logstore.format.properties import decode_properties, encode_properties
from logstore.storage import files

logger = logging.getLogger("logstore.storage")

_FORMAT_KEY = "logstore.format"
_FORMAT_VERSION = "1"


def prepare(path: Path, create: bool) -> None:
    """Make sure that there is a directory of our own: a new one, an empty one, or one that says so."""
    if not files.exists(path):
        if not create:
            raise NotADataDir(str(path), "there is no such directory")
        files.make_dir(path, parents=True)
        files.sync_dir(path.parent)
    if not files.is_dir(path):
        raise NotADataDir(str(path), "it is a file, not a directory")
    if is_ours(path):
        return
    begun = {filename.LOCK, filename.META_PROPERTIES + files.TEMPORARY}  # by an opening that was interrupted
    foreign = [entry.name for entry in files.list_dir(path) if entry.name not in begun]
    if is_ours(path):  # begun by another opening since
        return
    if foreign:
        raise NotADataDir(str(path), f"it holds {foreign[0]!r} and no {filename.META_PROPERTIES}; name an empty one")
    if not create:
        raise NotADataDir(str(path), "it is empty")


def take_lock(path: Path) -> files.File:
    """Keep other processes from opening the directory, until the file is closed. Raises DataDirLocked.

    What another program's lock file says, such as Apache Kafka's, stays.
    """
    file = files.open_file(path / filename.LOCK, writable=True, create=True)
    if not files.lock(file):
        owner = file.read_at(0, 100).decode(errors="replace").strip()
        file.close()
        raise DataDirLocked(str(path), owner or "its process id is unknown")
    with contextlib.suppress(NotADataDir):
        is_ours(path)
        file.truncate(0)
        try:
            file.write_at(0, f"process {os.getpid()}\n".encode())
        except DiskFull as error:  # a directory on a full disk can be read, and space made in it
            logger.warning("others are not told who has locked the directory: %s", error)
    return file


def make_meta(path: Path) -> None:
    meta = {"version": "1", _FORMAT_KEY: _FORMAT_VERSION, "cluster.id": uuid4().hex, "node.id": "0"}
    files.write_file(path / filename.META_PROPERTIES, encode_properties(meta))


def read_meta(path: Path) -> dict[str, str]:
    """What the directory says of itself, such as its cluster.id; nothing where it says nothing. Raises NotADataDir."""
    data = files.read_file(path / filename.META_PROPERTIES)
    if data is None:
        return {}
    try:
        return decode_properties(data)
    except CorruptCheckpoint as error:
        raise NotADataDir(str(path), f"its {filename.META_PROPERTIES} cannot be read: {error}") from None


def is_ours(path: Path) -> bool:
    """Whether the directory says that it is; False where it says nothing. Raises NotADataDir where it is another's."""
    meta = read_meta(path)
    if not meta and not files.exists(path / filename.META_PROPERTIES):
        return False
    if _FORMAT_KEY not in meta:
        raise NotADataDir(str(path), "it is Apache Kafka's; read it with read_only, or with `logstore dump`")
    if meta[_FORMAT_KEY] != _FORMAT_VERSION:
        raise NotADataDir(
            str(path),
            f"its format is {meta[_FORMAT_KEY]}, this program's {_FORMAT_VERSION}; use the program that wrote it",
        )
    return True
