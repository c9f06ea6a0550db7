"""How a data directory was left by the process that had it before: closed cleanly, killed, or in another boot.

Owns ``.kafka_cleanshutdown``, by which an opening trusts the ends that the checkpoints give: it is removed on opening,
and comes back when all is closed; and ``.boot-id``, of the machine's boot in which all logs were last opened.
"""

import logging
from pathlib import Path

from logstore.errors import DiskFull
from logstore.format import filename
from logstore.format.properties import encode_clean_shutdown
from logstore.storage import files

logger = logging.getLogger("logstore.storage")


class LastShutdown:
    """``was_clean``: everything was on the disk. ``has_lost_power``: what was not known to be there may be in part, or
    not at all; None where nobody can tell. Raises StorageFailure."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.was_clean = files.exists(path / filename.CLEAN_SHUTDOWN)
        self._boot_id = (files.boot_id() or "").encode()
        self._written_in = files.read_file(path / filename.BOOT_ID)
        self.has_lost_power: bool | None = None
        if self.was_clean:
            self.has_lost_power = False
        elif self._boot_id and self._written_in is not None:
            self.has_lost_power = self._written_in != self._boot_id

    def begin(self) -> None:
        """From now on the directory is not closed cleanly."""
        if self.was_clean:
            files.unlink(self._path / filename.CLEAN_SHUTDOWN)
            files.sync_dir(self._path)

    def note_opened(self) -> None:
        """All logs have been recovered: this boot is now the one that they were written in."""
        if self._boot_id and self._written_in != self._boot_id:
            try:
                files.write_file(self._path / filename.BOOT_ID, self._boot_id)
                self._written_in = self._boot_id
            except DiskFull as error:  # it must not keep the directory from being opened
                logger.warning("%s: in which boot it was opened is not recorded: %s", self._path, error)

    def note_closed(self) -> None:
        """The next opening may trust every partition's recorded end. Raises StorageFailure."""
        files.write_file(self._path / filename.CLEAN_SHUTDOWN, encode_clean_shutdown())
