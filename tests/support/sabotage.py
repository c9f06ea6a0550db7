"""The engine with one of its syncs left out, to see whether the crash-state explorer notices."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from logstore.storage import files

Site = str  # the sync and the functions that asked for it, the innermost first


def _site(kind: str) -> Site:
    """Of the call to the function of ``files`` that is being made."""
    callers: list[str] = []
    frame = sys._getframe(2)
    while frame is not None and len(callers) < 2:
        if frame.f_code.co_filename.endswith("logstore/storage/files.py"):
            kind += f" in {frame.f_code.co_name}"
        elif "/logstore/" in frame.f_code.co_filename:
            callers.append(frame.f_code.co_qualname)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return " < ".join([kind, *callers])


@contextlib.contextmanager
def watching(is_left_out: Callable[[Site], bool]) -> Iterator[None]:
    """Ask before each sync, of a file or a directory, whether it is left out."""
    sync, sync_dir = files.File.sync, files.sync_dir

    def maybe_sync(file: files.File) -> None:
        if not is_left_out(_site("sync")):
            sync(file)

    def maybe_sync_dir(path: Path) -> None:
        if not is_left_out(_site("sync_dir")):
            sync_dir(path)

    with mock.patch.object(files.File, "sync", maybe_sync), mock.patch.object(files, "sync_dir", maybe_sync_dir):
        yield


def without(site: Site) -> contextlib.AbstractContextManager[None]:
    return watching(lambda asked: asked == site)
