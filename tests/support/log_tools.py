"""What the storage tests share: logs with a clock that stands still, and a look at their files."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logstore.config import TopicConfig
from logstore.format.batch import batches
from logstore.storage.partition import PartitionLog

NOW = 1_700_000_000_000


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now_ms: int = NOW) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def open_log(directory: Path, clock: Clock | None = None, **arguments: Any) -> PartitionLog:
    """A log in ``directory``, made if need be. Arguments that PartitionLog does not know are topic settings."""
    known = ("caches", "log_start_offset", "recovery_point", "is_clean", "save_recovery_point")
    own = {name: arguments.pop(name) for name in known if name in arguments}
    directory.mkdir(exist_ok=True)
    return PartitionLog(directory, TopicConfig(**arguments), now_ms=clock or Clock(), **own)


def values(log: PartitionLog, offset: int | None = None) -> list[bytes | None]:
    return [record.value for record in log.records(log.log_start_offset if offset is None else offset)]


def numbered(first: int, count: int, size: int = 0) -> list[bytes]:
    return [(b"%d." % number).ljust(size, b".") for number in range(first, first + count)]


def log_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.log"))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def batch_bounds(path: Path) -> Iterator[tuple[int, int]]:
    """(position, end) of each batch in a log file that is whole."""
    for batch in batches(path.read_bytes()):
        yield batch.position, batch.position + batch.header.size


def crash_copy(log: PartitionLog, target: Path) -> Path:
    """The directory as it would be found if the process ended now."""
    shutil.copytree(log.directory, target)
    return target
