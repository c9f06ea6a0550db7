"""Takes bad bytes out of logs, so that what is behind them can be read again. First a plan, then the deed.

A bad range is what the scanner calls damage, or a batch whose CRC is right and whose records cannot be decoded. Good
batches are never changed: a segment is written anew with exactly these, checked, and put in the old one's place. The
bad bytes are kept, in ``salvaged/`` in the partition's directory, under a name that says where they were. The offsets
that were in them become a gap: reads of them raise OffsetGap, instead of skipping what was lost in silence.

The steps for a segment, each on the disk before the next begins; after a crash at any of them, salvage starts anew:

1. Bad ranges are copied to ``salvaged/``.
2. The gap is added to ``offset-gap-checkpoint``.
3. The good batches are written to ``.log.cleaned``, which an opening of the log would remove, and compared.
4. The indexes are removed: they lead to positions that are about to change.
5. ``.log.cleaned`` is renamed to ``.log``.
6. The indexes are made anew.

The caller holds the data directory's lock.
"""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from logstore.errors import CorruptBatch, CorruptCheckpoint, StorageFailure, UnsupportedMagic
from logstore.format import checkpoint, filename
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.scan import Damage, LogBatch, scan
from logstore.storage.segment import Segment
from logstore.storage.survey import KnownFile, PartitionFiles, check_segment_name
from logstore.storage.swap import remove_segment_files
from logstore.storage.verify import check_records

SALVAGED_DIR = "salvaged"
_COPY_SIZE = 1 << 20


class BadRange(NamedTuple):
    """``size`` bytes from ``position``; ``lost`` are the first and last offset that were in them, None where there was
    none, or none that was ever given to anybody."""

    position: int
    size: int
    reason: str
    lost: tuple[int, int] | None


class SegmentPlan(NamedTuple):
    """What is to be done to a log file. ``good`` are the (position, size) of what is kept, in order."""

    log: KnownFile
    bad: tuple[BadRange, ...]
    good: tuple[tuple[int, int], ...]
    batch_count: int


def plan(
    partition: PartitionFiles, recovery_point: int = 0, progress: Callable[[int], None] = lambda size: None
) -> list[SegmentPlan]:
    """What would be done, for each log file with a bad range. ``recovery_point``: offsets below it had been given.

    Raises UnsupportedMagic where messages of Kafka's old formats are in the way: they are no damage. StorageFailure.
    """
    logs = partition.logs
    plans = []
    for log, following in zip(logs, [*logs[1:], None]):
        check_segment_name(log)
        end_offset = following.base_offset if following else recovery_point
        planned = _plan_segment(log, end_offset, is_last=following is None)
        if planned.bad:
            plans.append(planned)
        progress(log.size)
    return plans


def _plan_segment(log: KnownFile, end_offset: int, is_last: bool) -> SegmentPlan:
    bad: list[BadRange] = []
    good: list[tuple[int, int]] = []
    batch_count = 0
    for found in scan(files.open_file(log.path), expected_offset=log.base_offset):
        if isinstance(found, LogBatch):
            header = found.batch.header
            try:
                check_records(found.batch)
            except CorruptBatch as error:
                lost = (header.base_offset, header.last_offset)
                bad.append(BadRange(found.position, header.size, f"its records cannot be read: {error.reason}", lost))
                continue
            batch_count += 1
            if good and sum(good[-1]) == found.position:
                good[-1] = (good[-1][0], good[-1][1] + header.size)
            else:
                good.append((found.position, header.size))
        elif found.is_old:
            raise UnsupportedMagic(found.reason, found.position, str(log.path))
        elif not (found.is_zeros and is_last):
            bad.append(_bad_range(found, end_offset))
    return SegmentPlan(log, tuple(bad), tuple(good), batch_count)


def _bad_range(damage: Damage, end_offset: int) -> BadRange:
    next_offset = end_offset if damage.next_offset is None else damage.next_offset
    lost = (damage.expected_offset, next_offset - 1) if next_offset > damage.expected_offset else None
    return BadRange(damage.position, damage.size, damage.reason, lost)


def apply(planned: SegmentPlan, index_interval: int = 4096) -> list[Path]:
    """Do what was planned; returns the files that hold the bad bytes now. Raises StorageFailure, and loses nothing."""
    directory = planned.log.path.parent
    log = files.open_file(planned.log.path)
    aside = [_move_aside(log, planned.log.base_offset, bad) for bad in planned.bad]
    _add_gaps(directory, [bad.lost for bad in planned.bad if bad.lost])
    cleaned = planned.log.path.with_name(planned.log.path.name + filename.CLEANED)
    _write_good(log, cleaned, planned)
    remove_segment_files(directory, planned.log.base_offset, keep_log=True)
    files.sync_dir(directory)
    files.rename(cleaned, planned.log.path)
    files.sync_dir(directory)
    size = files.entry(planned.log.path).size
    Segment(directory, planned.log.base_offset, Caches(), size=size, index_interval=index_interval).rebuild_indexes()
    return aside


def _move_aside(log: files.File, base_offset: int, bad: BadRange) -> Path:
    name = f"{filename.log_name(base_offset)}.{bad.position}-{bad.position + bad.size}"
    return _keep(log.path.parent, name, log.read_at(bad.position, bad.size))


def _keep(directory: Path, name: str, data: bytes) -> Path:
    """Write ``data`` to a file in ``salvaged/``, in no other one's place."""
    salvaged = directory / SALVAGED_DIR
    files.make_dir(salvaged)
    files.sync_dir(directory)
    path = salvaged / name
    for number in count(1):
        existing = files.read_file(path)
        if existing is None:
            files.write_file(path, data)
        if existing is None or existing == data:  # equal: it was copied before a crash
            break
        path = salvaged / f"{name}.{number}"
    return path


def _add_gaps(directory: Path, lost: Sequence[tuple[int, int]]) -> None:
    path = directory / filename.OFFSET_GAP_CHECKPOINT
    data = files.read_file(path)
    gaps: set[tuple[int, int]] = set()
    if data is not None:
        try:
            gaps.update(checkpoint.decode_gaps(data))
        except CorruptCheckpoint:
            _keep(directory, path.name, data)
    if not gaps.issuperset(lost):
        files.write_file(path, checkpoint.encode_gaps(sorted(gaps.union(lost))))


def _write_good(log: files.File, target: Path, planned: SegmentPlan) -> None:
    cleaned = files.open_file(target, writable=True, create=True)
    cleaned.truncate(0)
    end = 0
    for start, size in planned.good:
        for position in range(start, start + size, _COPY_SIZE):
            piece = log.read_at(position, min(_COPY_SIZE, start + size - position))
            cleaned.write_at(end, piece)
            end += len(piece)
    cleaned.sync()
    written = [isinstance(found, LogBatch) for found in scan(cleaned, expected_offset=planned.log.base_offset)]
    if not all(written) or len(written) != planned.batch_count:
        files.unlink(target)
        raise StorageFailure(str(target), "write", 0, "what was written is not what was read; is the log in use?")
