"""The offset checkpoints of a data directory: where each log is known to be whole, where it starts, how far it has been
compacted.

Owns ``recovery-point-offset-checkpoint``, ``log-start-offset-checkpoint`` and ``cleaner-offset-checkpoint``. Each is
replaced whole: after a crash there is the old or the new one. One that is missing or damaged costs a full check of
the logs, and no record. Where the last one is damaged, any log may have been compacted: all are compacted from their
start, and offsets that are missing from one are no damage from then on. ``DataDir`` has the one that writes; whoever
looks beside it calls ``read_offsets``.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

from logstore.errors import CorruptCheckpoint
from logstore.format import checkpoint, filename
from logstore.format.filename import PartitionKey
from logstore.storage import files
from logstore.storage.partition import PartitionLog

logger = logging.getLogger("logstore.storage")

Offsets = Mapping[PartitionKey, int]
_MADE_ANEW = "it is made anew, after a full check of the logs"


class OffsetCheckpoints:
    """What the three files of ``directory`` say. The mappings are replaced, never changed: no lock is taken to read.

    ``logs`` are the open ones, as they come and go; ``exists`` tells whether there is a partition, open or not.
    """

    def __init__(
        self, directory: Path, logs: Mapping[PartitionKey, PartitionLog], exists: Callable[[PartitionKey], bool]
    ) -> None:
        self._directory = directory
        self._logs = logs
        self._exists = exists
        # Taken last: a log that is being cut saves under its own lock, and asks for nothing else.
        self._lock = Lock()
        self.recovery_points: Offsets = read_offsets(directory / filename.RECOVERY_POINT_CHECKPOINT)
        start_path = directory / filename.LOG_START_OFFSET_CHECKPOINT
        stored_start_offsets = _read(start_path, _MADE_ANEW)
        self.start_offsets: Offsets = stored_start_offsets or {}
        # Of logs that the file does not name, too: they start at 0.
        self.are_starts_known = stored_start_offsets is not None and files.exists(start_path)
        self._stored_cleaner_offsets = _read(
            directory / filename.CLEANER_OFFSET_CHECKPOINT, "compaction may have taken offsets from any log"
        )
        self.cleaner_offsets: Offsets = (
            _any_cleaned(directory) if self._stored_cleaner_offsets is None else self._stored_cleaner_offsets
        )

    def save(self) -> None:
        """Record where each log starts and up to where it is known to be whole. Raises StorageFailure."""
        with self._lock:
            logs = dict(self._logs)
            recovery_points = {key: log.recovery_point for key, log in logs.items()}
            recovery_points |= self._of_unopened(self.recovery_points, logs)
            start_offsets = {key: log.log_start_offset for key, log in logs.items() if log.log_start_offset}
            start_offsets |= self._of_unopened(self.start_offsets, logs)
            self._write(filename.RECOVERY_POINT_CHECKPOINT, recovery_points)
            self.recovery_points = recovery_points
            self._write(filename.LOG_START_OFFSET_CHECKPOINT, start_offsets)
            self.start_offsets = start_offsets
            # What was compacted and then cut off is not compacted when it has grown anew.
            cut = {key: log.cut_offset for key, log in logs.items()}
            cleaned = {key: min(offset, cut.get(key, offset)) for key, offset in self.cleaner_offsets.items()}
            self._store_cleaner_offsets(cleaned)

    def save_recovery_point(self, key: PartitionKey, offset: int) -> None:
        """Record up to where a log that is still being opened is known to be whole. Raises StorageFailure."""
        with self._lock:
            recovery_points = {**self.recovery_points, key: offset}
            self._write(filename.RECOVERY_POINT_CHECKPOINT, recovery_points)
            self.recovery_points = recovery_points

    def save_cleaner_offset(self, key: PartitionKey, offset: int) -> None:
        """Record up to where a log has been compacted. Raises StorageFailure."""
        with self._lock:
            self._store_cleaner_offsets({**self.cleaner_offsets, key: offset})

    def forget(self, topic: str) -> None:
        """Drop what the files say of a topic that is gone: another of the same name begins anew. Raises
        StorageFailure."""
        if any(key[0] == topic for key in (*self.recovery_points, *self.start_offsets)):
            self.save()
        with self._lock:
            self._store_cleaner_offsets(
                {key: offset for key, offset in self.cleaner_offsets.items() if key[0] != topic}
            )

    def _of_unopened(self, offsets: Offsets, logs: Mapping[PartitionKey, PartitionLog]) -> Offsets:
        """What was read of partitions that there are and that could not be opened."""
        return {key: offset for key, offset in offsets.items() if key not in logs and self._exists(key)}

    def _store_cleaner_offsets(self, offsets: Offsets) -> None:
        if offsets != self._stored_cleaner_offsets:
            self._write(filename.CLEANER_OFFSET_CHECKPOINT, offsets)
            self._stored_cleaner_offsets = self.cleaner_offsets = offsets

    def _write(self, name: str, offsets: Offsets) -> None:
        files.write_file(self._directory / name, checkpoint.encode_offsets(offsets))


def read_offsets(path: Path) -> Offsets:
    """A checkpoint file's offsets; none, and a word in the log, where it is damaged: what it says can be had again."""
    return _read(path, _MADE_ANEW) or {}


def _read(path: Path, consequence: str) -> Offsets | None:
    """None where the file is damaged: it stays as it is, and says so, until what is put in its place is written."""
    data = files.read_file(path)
    try:
        return {} if data is None else checkpoint.decode_offsets(data)
    except CorruptCheckpoint as error:
        logger.warning("%s: %s", error.within(str(path)), consequence)
        return None


def _any_cleaned(directory: Path) -> Offsets:
    """All logs that there are, up to none of their offsets."""
    parsed = map(filename.parse_partition_dir, files.dir_names(directory))
    return {key: 0 for key in parsed if key is not None}
