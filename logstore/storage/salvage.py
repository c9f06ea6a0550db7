"""Takes bad bytes out of logs, so that what is behind them can be read again. First a plan, then the deed.

A bad range is what the scanner calls damage, or a batch whose CRC is right and whose records cannot be decoded. A
segment is written anew with exactly the good batches, checked, and put in the old one's place. The bad bytes are kept,
in ``salvaged/`` in the partition's directory, under a name that says where they were. The offsets that were in them
become a gap: reads of them raise OffsetGap, instead of skipping what was lost in silence.

Where only a field that the CRC leaves out is wrong (base offset, length, leader epoch, magic), the batch is put right
and kept, if what it must be is beyond doubt: its CRC fits, and it fills the bad bytes and the missing offsets exactly.

The steps for a segment, each on the disk before the next begins; after a crash at any of them, salvage starts anew:

1. Bad ranges are copied to ``salvaged/``.
2. The gap is added to ``offset-gap-checkpoint``; one that cannot be read is put aside, and begun anew.
3. The good batches, some of them put right, are written to ``.log.cleaned``, which an opening of the log would
   remove, and compared.
4. The indexes are removed: they lead to positions that are about to change.
5. ``.log.cleaned`` is renamed to ``.log``.
6. The indexes are made anew.

The caller holds the data directory's lock.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from logstore.errors import CorruptBatch, CorruptCheckpoint, StorageFailure, UnsupportedMagic
from logstore.format import checkpoint, filename
from logstore.format.batch import (
    FRAME_SIZE,
    HEADER_SIZE,
    MAGIC,
    MAGIC_POSITION,
    PLACE,
    BatchHeader,
    RecordBatch,
)
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.facts import LogFacts
from logstore.storage.gaps import Gap, overlapping, without, write_gaps
from logstore.storage.log_check import check_records
from logstore.storage.salvaged import COPY_SIZE, keep_bytes, keep_range
from logstore.storage.scan import Damage, LogBatch, missing, scan
from logstore.storage.segment import Segment
from logstore.storage.survey import KnownFile, PartitionFiles, check_segment_name
from logstore.storage.swap import remove_segment_files

MENDED_SIZE_MAX = 128 << 20  # of a batch that is put right: more than any that is written


class BadRange(NamedTuple):
    """``size`` bytes from ``position``; ``lost`` are the first and last offset that were in them, None where there was
    none, or none that was ever given to anybody. ``head``: the first bytes of the batch that they become when it is put
    right; empty where they are none."""

    position: int
    size: int
    reason: str
    lost: Gap | None
    head: bytes = b""


class SegmentPlan(NamedTuple):
    """What is to be done to a log file. ``good`` are the (position, size) of what is kept, in order, with what is put
    right."""

    log: KnownFile
    bad: tuple[BadRange, ...]
    good: tuple[tuple[int, int], ...]
    batch_count: int
    not_lost: tuple[Gap, ...]  # offsets of good batches that a gap says are lost


def plan(
    partition: PartitionFiles, facts: LogFacts, progress: Callable[[int], None] = lambda size: None
) -> list[SegmentPlan]:
    """What would be done, for each log file with a bad range. ``facts``: what is known of the log.

    Raises UnsupportedMagic where messages of Kafka's old formats are in the way: they are no damage. StorageFailure.
    """
    logs = partition.logs
    plans = []
    for log, following in zip(logs, [*logs[1:], None]):
        check_segment_name(log)
        planner = _Planner(log, facts, following.base_offset if following else None)
        if log is logs[0]:
            planner.check_start()
        planned = planner.run()
        if planned.bad:
            plans.append(planned)
        progress(log.size)
    return plans


class _Planner:
    """Looks at one segment. ``following_offset``: the base offset of the next one, None where there is none."""

    def __init__(self, log: KnownFile, facts: LogFacts, following_offset: int | None) -> None:
        self.log, self.facts = log, facts
        self.is_last = following_offset is None
        self.following_offset = facts.closed_offset if following_offset is None else following_offset
        # Offsets below had been given.
        self.end_offset = facts.recovery_point if following_offset is None else following_offset
        self.file = files.open_file(log.path)
        self.bad: list[BadRange] = []
        self.good: list[tuple[int, int]] = []
        self.batch_count = 0
        self.not_lost: list[Gap] = []

    def check_start(self) -> None:
        """What is before the first segment."""
        if self.facts.gaps_error:
            reason = f"{filename.OFFSET_GAP_CHECKPOINT} cannot be read: {self.facts.gaps_error}"
            self.bad.append(BadRange(0, 0, reason, None))
        if self.facts.start_offset is not None:
            for hole in missing(0, self.facts.start_offset, self.log.base_offset, self.facts.gaps):
                self._note_damage(hole, hole.next_offset or 0)

    def run(self) -> SegmentPlan:
        next_offset = self.log.base_offset
        for found in scan(
            self.file,
            expected_offset=self.log.base_offset,
            following_offset=self.following_offset,
            known_gaps=self.facts.known_gaps,
        ):
            if isinstance(found, LogBatch):
                next_offset = found.batch.header.next_offset
                self._look_at(found)
            elif found.is_old:
                raise UnsupportedMagic(found.reason, found.position, str(self.log.path))
            elif not (found.is_zeros and self.is_last and found.expected_offset >= self.end_offset):
                next_offset = self.end_offset if found.next_offset is None else found.next_offset
                self._note_damage(found, next_offset)
        if self.facts.known_gaps is not None:
            for hole in missing(self.log.size, next_offset, self.end_offset, self.facts.known_gaps):
                self._note_damage(hole, hole.next_offset or 0)
        return SegmentPlan(self.log, tuple(self.bad), tuple(self.good), self.batch_count, tuple(self.not_lost))

    def _look_at(self, found: LogBatch) -> None:
        header = found.batch.header
        try:
            check_records(found.batch)
        except CorruptBatch as error:
            lost = (header.base_offset, header.last_offset)
            reason = f"its records cannot be read: {error.reason}"
            self.bad.append(BadRange(found.position, header.size, reason, lost))
            return
        self._take_back_gaps(found.position, header)
        epoch = self.facts.right_epoch(header)
        if epoch is not None and epoch != header.partition_leader_epoch:
            reason = f"leader epoch {header.partition_leader_epoch} instead of {epoch}"
            self._put_right(found.position, header._replace(partition_leader_epoch=epoch), reason)
        else:
            self._keep(found.position, header.size)

    def _take_back_gaps(self, position: int, header: BatchHeader) -> None:
        for first, last in overlapping(self.facts.gaps, header.base_offset, header.last_offset):
            self.not_lost.append((header.base_offset, header.last_offset))
            reason = f"offsets {first} to {last} are said to be lost, but {header.base_offset} is there"
            self.bad.append(BadRange(position, 0, reason, None))

    def _note_damage(self, damage: Damage, next_offset: int) -> None:
        mended = self._mended(damage, next_offset)
        if mended is not None:
            self._take_back_gaps(damage.position, mended)
            self._put_right(damage.position, mended, damage.reason)
            return
        lost = (damage.expected_offset, next_offset - 1) if next_offset > damage.expected_offset else None
        self.bad.append(BadRange(damage.position, damage.size, damage.reason, lost))

    def _mended(self, damage: Damage, next_offset: int) -> BatchHeader | None:
        """The header of the one batch that fills the damage and the missing offsets exactly; None where there is none
        such: then the bytes that a CRC covers, or more than one batch, are bad."""
        if not HEADER_SIZE <= damage.size <= MENDED_SIZE_MAX:
            return None
        data = bytearray(self.file.read_at(damage.position, damage.size))
        _, _, epoch = PLACE.unpack_from(data)
        PLACE.pack_into(data, 0, damage.expected_offset, damage.size - FRAME_SIZE, epoch)
        data[MAGIC_POSITION] = MAGIC
        try:
            batch = RecordBatch.at(data)
            batch.check_crc()
            check_records(batch)
        except CorruptBatch:
            return None
        header = batch.header
        right_epoch = self.facts.right_epoch(header)
        if header.next_offset != next_offset:
            return None
        return header if right_epoch is None else header._replace(partition_leader_epoch=right_epoch)

    def _put_right(self, position: int, header: BatchHeader, reason: str) -> None:
        place = PLACE.pack(header.base_offset, header.batch_length, header.partition_leader_epoch)
        self.bad.append(BadRange(position, header.size, reason, None, place + bytes((MAGIC,))))
        self._keep(position, header.size)

    def _keep(self, position: int, size: int) -> None:
        self.batch_count += 1
        if self.good and sum(self.good[-1]) == position:
            self.good[-1] = (self.good[-1][0], self.good[-1][1] + size)
        else:
            self.good.append((position, size))


def apply(planned: SegmentPlan, index_interval: int = 4096) -> list[Path | None]:
    """Do what was planned; returns, for each bad range, the file that holds its bytes now, None where there were none.
    Raises StorageFailure, and loses nothing."""
    directory = planned.log.path.parent
    log = files.open_file(planned.log.path)
    aside = [
        keep_range(directory, log, bad.position, bad.position + bad.size) if bad.size else None for bad in planned.bad
    ]
    _change_gaps(directory, [bad.lost for bad in planned.bad if bad.lost], planned.not_lost)
    if any(bad.size for bad in planned.bad):
        _replace_log(log, planned)
    size = files.entry(planned.log.path).size
    Segment(directory, planned.log.base_offset, Caches(), size=size, index_interval=index_interval).rebuild_indexes()
    return aside


def _replace_log(log: files.File, planned: SegmentPlan) -> None:
    directory = planned.log.path.parent
    cleaned = planned.log.path.with_name(planned.log.path.name + filename.CLEANED)
    _write_good(log, cleaned, planned)
    remove_segment_files(directory, planned.log.base_offset, keep_log=True)
    files.sync_dir(directory)
    files.rename(cleaned, planned.log.path)
    files.sync_dir(directory)


def _change_gaps(directory: Path, lost: Sequence[Gap], not_lost: Sequence[Gap]) -> None:
    data = files.read_file(directory / filename.OFFSET_GAP_CHECKPOINT)
    known: set[Gap] | None = set()
    if data is not None:
        try:
            known = set(checkpoint.decode_gaps(data))
        except CorruptCheckpoint:
            keep_bytes(directory, filename.OFFSET_GAP_CHECKPOINT, data)
            known = None
    gaps = (known or set()).union(lost)
    for first, last in not_lost:
        gaps = set(without(gaps, first, last))
    if gaps != known:
        write_gaps(directory, gaps)


def _write_good(log: files.File, target: Path, planned: SegmentPlan) -> None:
    cleaned = files.open_file(target, writable=True, create=True)
    cleaned.truncate(0)
    end = 0
    heads: list[tuple[int, bytes]] = []
    for start, size in planned.good:
        for position in range(start, start + size, COPY_SIZE):
            piece = log.read_at(position, min(COPY_SIZE, start + size - position))
            cleaned.write_at(end, piece)
            heads += [
                (end + bad.position - position, bad.head)
                for bad in planned.bad
                if bad.head and position <= bad.position < position + len(piece)
            ]
            end += len(piece)
    for position, head in heads:
        cleaned.write_at(position, head)
    cleaned.sync()
    written = [isinstance(found, LogBatch) for found in scan(cleaned, expected_offset=planned.log.base_offset)]
    if not all(written) or len(written) != planned.batch_count:
        files.unlink(target)
        raise StorageFailure(str(target), "write", 0, "what was written is not what was read; is the log in use?")
