"""The file ``leader-epoch-checkpoint`` of a partition: what it says, and what is made of it when the log is opened.

What it misses of a log's batches is had from them again. A new epoch is stored before the first record has it: else a
power cut could take both away, the epoch be given again, and a reader of the first records not be told from one of the
second.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from logstore.errors import CorruptCheckpoint
from logstore.format import checkpoint, filename
from logstore.storage import files
from logstore.storage.leader_epochs import EpochEntry, LeaderEpochs
from logstore.storage.replay import good_batches
from logstore.storage.segment import Segment

logger = logging.getLogger("logstore.storage")


def read_epochs(directory: Path) -> list[tuple[int, int]] | None:
    """None where there is no file, or no good one. Raises StorageFailure."""
    path = directory / filename.LEADER_EPOCH_CHECKPOINT
    data = files.read_file(path)
    if data is None:
        return None
    try:
        return checkpoint.decode_epochs(data)
    except CorruptCheckpoint as error:
        logger.warning("%s: made anew from the log", error.within(str(path)))
        return None


def write_epochs(directory: Path, entries: Sequence[EpochEntry]) -> None:
    """Store them, on the disk when this returns. Raises StorageFailure."""
    files.write_file(directory / filename.LEADER_EPOCH_CHECKPOINT, checkpoint.encode_epochs(entries))


def restore_epochs(directory: Path, segments: Iterable[Segment], leader_epochs: LeaderEpochs) -> None:
    """The leader epochs as the batches say them, stored again."""
    for segment in segments:
        for batch in good_batches(segment, segment.base_offset):
            leader_epochs.assign(batch.header.partition_leader_epoch, batch.header.base_offset)
    write_epochs(directory, leader_epochs.entries)


def begin_epoch(directory: Path, leader_epochs: LeaderEpochs, epoch: int, start_offset: int) -> None:
    """A new leader begins, with what is appended from ``start_offset`` on. Where it fails, or is interrupted, none has
    begun as far as ``leader_epochs`` says. Raises StorageFailure."""
    begun = LeaderEpochs(leader_epochs.entries)
    begun.assign(epoch, start_offset)
    write_epochs(directory, begun.entries)
    leader_epochs.entries = begun.entries
