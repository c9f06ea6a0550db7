"""What ``logstore.open`` gives: a data directory with its topics, groups, producers, consumers and queues."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, overload

from logstore.config import StoreConfig
from logstore.errors import InvalidArgument
from logstore.storage.data_dir import DataDir
from logstore.storage.opening import OpeningProgress
from logstore.store import ReadOnlyStore, TopicStore


class Store(TopicStore):
    """An open data directory, owned by this process until it is closed, and its clients. Safe to use from many
    threads."""


@overload
def open(
    path: str | Path = "data",
    *,
    read_only: Literal[False] = False,
    create: bool = True,
    on_progress: Callable[[OpeningProgress], None] | None = None,
    **settings: object,
) -> Store: ...
@overload
def open(
    path: str | Path = "data",
    *,
    read_only: Literal[True],
    create: bool = True,
    on_progress: Callable[[OpeningProgress], None] | None = None,
    **settings: object,
) -> ReadOnlyStore: ...
def open(
    path: str | Path = "data",
    *,
    read_only: bool = False,
    create: bool = True,
    on_progress: Callable[[OpeningProgress], None] | None = None,
    **settings: object,
) -> Store | ReadOnlyStore:
    """Open a data directory; ``create`` makes it where there is none. ``settings`` are those of ``StoreConfig``.

    ``read_only`` takes no lock, creates and changes nothing: for a look beside a live owner, or at Apache Kafka's
    directories. Else ``on_progress`` is called, in this thread, a few times a second while partitions are opened, and
    when all are; what it raises ends the opening.

    Raises InvalidArgument, NotADataDir, DataDirLocked, InvalidSetting, StorageFailure.
    """
    config = StoreConfig.parse(settings)
    directory = _checked(path)
    if read_only:
        return ReadOnlyStore(directory, config)
    return Store(DataDir(directory, config, create=create, on_progress=on_progress))


def _checked(path: str | Path) -> Path:
    try:
        if b"\0" not in os.fsencode(Path(path)):
            return Path(path)
    except (TypeError, ValueError):
        pass
    raise InvalidArgument("path", path, "it is no path: name the directory by a str or a Path without NUL")
