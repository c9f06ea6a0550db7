"""The directory as a kill would leave it in the middle of something: copied before one of the calls that change it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from failing_os import EIO_ONCE, FailingCalls

_CHANGES = frozenset(
    {"pwrite", "pwritev", "fdatasync", "fsync", "rename", "unlink", "mkdir", "rmdir", "ftruncate", "open"}
)


class CrashCopy(FailingCalls):
    """Copies ``source`` to ``target`` before call number ``at``. ``is_made``: there were so many."""

    def __init__(self, source: Path, target: Path, at: int) -> None:
        super().__init__(EIO_ONCE)
        self.source, self.target, self.at = source, target, at
        self.is_made = False

    def call(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if name not in _CHANGES:
            return real(*arguments, **named)
        with self._lock:  # so that what other threads do meanwhile is in the copy as a whole, or not at all
            if self.count == self.at:
                self.is_made = True
                shutil.copytree(self.source, self.target)
            self.count += 1
            return real(*arguments, **named)
