"""The small files beside a log's segments that save work when it is opened: producer snapshots, leader epochs.

Snapshots made at rolls are synced with the next checkpoint. All they say can be had from the log again, and all that
the epochs' file says but for an epoch without records, which is stored before it is told of. So a disk that is full, or
a crash that tears one, costs time at the next opening and nothing else; a failure to write one is logged, and is no
failure of what called for it. A sync that fails is one: it may be the directory's, with the names of segments.
"""

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from logstore.errors import StorageFailure
from logstore.format import filename, producer_snapshot
from logstore.storage import files
from logstore.storage.epoch_checkpoint import write_epochs
from logstore.storage.leader_epochs import EpochEntry
from logstore.storage.producer_state import ProducerState

logger = logging.getLogger("logstore.storage")


class StateFiles:
    """``snapshot_offsets`` are those of the snapshots on the disk; ``saved_epochs`` what the checkpoint says, None
    where that is not known."""

    def __init__(
        self, directory: Path, snapshot_offsets: list[int], saved_epochs: tuple[EpochEntry, ...] | None
    ) -> None:
        self._directory = directory
        self.snapshot_offsets = snapshot_offsets
        self._saved_epochs = saved_epochs
        self._unsynced_offsets: set[int] = set()

    def save_epochs(self, entries: tuple[EpochEntry, ...]) -> None:
        """Raises StorageFailure where a sync has failed."""
        if self._saved_epochs == entries:
            return
        try:
            write_epochs(self._directory, entries)
            self._saved_epochs = entries
        except StorageFailure as error:
            if error.operation == "sync":
                raise
            logger.warning("%s: the leader epochs are not stored: %s", self._directory, error)

    def save_snapshot(self, offset: int, producers: ProducerState, base_offsets: Collection[int]) -> None:
        """Store what is known of producers up to the log's end, ``offset``, without waiting for the disk. The snapshots
        at segments' ``base_offsets`` stay, and the last two."""
        try:
            if offset not in self.snapshot_offsets:
                data = producer_snapshot.encode(producers.snapshot_entries())
                files.write_file(self._directory / filename.snapshot_name(offset), data, sync=False)
                self.snapshot_offsets.append(offset)
                self._unsynced_offsets.add(offset)
                kept = {*base_offsets, *sorted(self.snapshot_offsets)[-2:]}
                self.drop_snapshots(lambda offset: offset not in kept)
        except StorageFailure as error:
            logger.warning("%s: no producer snapshot at %d: %s", self._directory, offset, error)

    def sync(self) -> None:
        """Wait until the snapshots are on the disk; those that cannot be brought there are removed. Others may be
        saved, and old ones dropped, meanwhile. Raises StorageFailure where the directory's sync has failed."""
        unsynced = self._unsynced_offsets.copy()
        if not unsynced:
            return
        try:
            for offset in sorted(unsynced):
                try:
                    file = files.open_file(self._directory / filename.snapshot_name(offset))
                except StorageFailure:
                    if offset not in self._unsynced_offsets:  # dropped since
                        continue
                    raise
                file.sync()
                file.close()
        except StorageFailure as error:
            logger.warning("%s: producer snapshots are dropped: %s", self._directory, error)
            self.drop_snapshots(lambda offset: offset in unsynced)
        files.sync_dir(self._directory)
        self._unsynced_offsets -= unsynced

    def drop_snapshots(self, is_gone: Callable[[int], bool]) -> None:
        """Remove the snapshots at offsets that are ``is_gone``. Raises StorageFailure."""
        for offset in [offset for offset in self.snapshot_offsets if is_gone(offset)]:
            files.unlink(self._directory / filename.snapshot_name(offset))
            self.snapshot_offsets.remove(offset)
            self._unsynced_offsets.discard(offset)
