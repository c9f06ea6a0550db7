"""What a log's batches say of its producers and leader epochs: the last step of opening it (see recovery).

The newest good snapshot is loaded, and the batches behind it are replayed; damaged ranges are passed over.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from logstore.errors import CorruptBatch, CorruptData, CorruptSnapshot
from logstore.format import filename, producer_snapshot
from logstore.format.batch import CONTROL, BatchHeader, RecordBatch
from logstore.format.control_record import decode_marker
from logstore.storage import files
from logstore.storage.leader_epochs import LeaderEpochs
from logstore.storage.producer_state import ProducerState
from logstore.storage.scan import LogBatch, scan
from logstore.storage.segment import Segment

logger = logging.getLogger("logstore.storage")


def replay(
    directory: Path,
    segments: Iterable[Segment],
    snapshot_offsets: list[int],
    producers: ProducerState,
    leader_epochs: LeaderEpochs,
) -> None:
    """Bring both up to the log's end. A snapshot that is damaged is removed. Raises StorageFailure."""
    start_offset = 0
    producers.load(())
    for offset in sorted(snapshot_offsets, reverse=True):
        path = directory / filename.snapshot_name(offset)
        try:
            producers.load(producer_snapshot.decode(files.read_file(path) or b""))
        except CorruptSnapshot as error:
            logger.warning("%s: an older one, or the log itself, is used instead", error.within(str(path)))
            files.unlink(path)
            snapshot_offsets.remove(offset)
            continue
        start_offset = offset
        break
    for segment in _segments_from(list(segments), start_offset):
        for batch in good_batches(segment, start_offset):
            header = batch.header
            # Of what is known of a later part already, nothing goes.
            if leader_epochs.epoch_for(header.base_offset) != header.partition_leader_epoch:
                leader_epochs.assign(header.partition_leader_epoch, header.base_offset)
            if header.producer_id >= 0:
                update_producers(producers, header, batch, header.base_offset)


def drop_snapshots(directory: Path, offsets: list[int], end_offset: int, has_lost_power: bool) -> None:
    """Remove producer snapshots behind the log's end. Where power was lost, any may be torn: those that are go too."""
    for offset in list(offsets):
        path = directory / filename.snapshot_name(offset)
        if offset > end_offset or (has_lost_power and not _is_good_snapshot(path)):
            files.unlink(path)
            offsets.remove(offset)


def _is_good_snapshot(path: Path) -> bool:
    try:
        producer_snapshot.decode(files.read_file(path) or b"")
    except CorruptSnapshot:
        return False
    return True


def _segments_from(segments: list[Segment], offset: int) -> list[Segment]:
    first = max((i for i, segment in enumerate(segments) if segment.base_offset <= offset), default=0)
    return segments[first:]


def good_batches(segment: Segment, from_offset: int) -> Iterable[RecordBatch]:
    position = 0
    if from_offset > segment.base_offset:
        try:
            located = segment.find(from_offset)
            position = segment.size if located is None else located.position
        except CorruptData:
            position = 0
    for found in scan(segment.file, position=position, end=segment.size, expected_offset=0, check_crc=False):
        if isinstance(found, LogBatch) and found.batch.header.base_offset >= from_offset:
            yield found.batch


def update_producers(producers: ProducerState, header: BatchHeader, batch: RecordBatch, base_offset: int) -> None:
    """Take note of a producer's batch, or of a transaction's marker, that stands at ``base_offset``."""
    if not header.attributes & CONTROL:
        if header.base_sequence >= 0:
            producers.update(
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                base_offset,
                base_offset + header.last_offset_delta,
                header.max_timestamp,
                header.is_transactional,
            )
        return
    try:
        marker = decode_marker(batch.records()[0])
    except (CorruptBatch, IndexError):
        return  # Kafka's own control batches, such as a snapshot's, end no transaction
    producers.end_transaction(header.producer_id, header.producer_epoch, marker[1], header.max_timestamp)
