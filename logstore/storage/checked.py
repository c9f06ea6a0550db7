"""How far the check of a log that is being opened is: what is told of it, and from where the next opening may go on.

A recovery point promises that below it the log and its indexes are on the disk, whole. A long check reaches new ones
on its way: at the end of a segment all of whose batches were good, as were those of all segments before, and whose
indexes have been written again, when the logs are synced too. Nothing that was found on the way may be forgotten with
a kill: from the first damage or gap on, which are only stored at the end, there is no further recovery point.

Used by recovery, in the thread that opens the log.
"""

import logging
from collections.abc import Callable

from logstore.errors import StorageFailure
from logstore.storage import files
from logstore.storage.segment import Segment

logger = logging.getLogger("logstore.storage")

# What a long check pays for being able to go on is bounded: so much is checked again sooner than synced.
_KEPT_SIZE_MIN = 512 << 20


def ignore(number: int) -> None:
    """Nobody wants to be told."""


class Checked:
    """What has been checked of one log. ``on_checked`` is called with the bytes of each step, every few MiB;
    ``on_synced`` with each new recovery point, to record it: a StorageFailure that it raises is logged.

    ``recovery_point`` is the last one, recorded or not. ``failed_sync``: nothing is known of what is on the disk, and
    the log must take no writes.
    """

    def __init__(
        self, recovery_point: int, on_checked: Callable[[int], None] = ignore, on_synced: Callable[[int], None] = ignore
    ) -> None:
        self.recovery_point = recovery_point
        self.failed_sync: StorageFailure | None = None
        self._on_checked = on_checked
        self._on_synced = on_synced
        self._unsynced: list[Segment] = []
        self._unsynced_size = 0
        self._are_indexes_stored = True

    def add(self, size: int) -> None:
        """So many bytes more have been checked."""
        self._unsynced_size += size
        self._on_checked(size)

    def keep(self, segment: Segment, end_offset: int) -> None:
        """Everything below ``end_offset`` is whole, up to this segment's end: after enough bytes, sync it, and have it
        recorded. A disk that is too full for that keeps no log from being opened."""
        self._unsynced.append(segment)
        self._are_indexes_stored &= segment.has_stored_indexes
        is_due = self._unsynced_size >= _KEPT_SIZE_MIN and end_offset > self.recovery_point
        if not is_due or not self._are_indexes_stored or self.failed_sync is not None:
            return
        try:
            self._sync()
            self.recovery_point = end_offset
            self._on_synced(end_offset)
        except StorageFailure as error:
            logger.warning("%s: its recovery point %d is not recorded yet: %s", segment.directory, end_offset, error)

    def _sync(self) -> None:
        try:
            files.sync_dir(self._unsynced[0].directory)  # a process that is gone may have begun them
            for segment in self._unsynced:
                segment.sync()
        except StorageFailure as error:
            if error.operation == "sync":
                self.failed_sync = error
            raise
        self._unsynced, self._unsynced_size = [], 0
