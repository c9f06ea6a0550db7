"""Gaps: offsets that were lost, from a first to a last, which reads report instead of skipping them in silence.

They stand in ``offset-gap-checkpoint`` in the partition's directory, and are replaced there as a whole. Recovery and
salvage add to them; truncation takes away what is behind the log's new end.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from logstore.errors import CorruptCheckpoint
from logstore.format import checkpoint, filename
from logstore.storage import files

logger = logging.getLogger("logstore.storage")

Gap = tuple[int, int]  # the first and the last offset that are missing


def read_gaps(directory: Path) -> list[Gap]:
    """The gaps of a partition; none, with a warning, where they cannot be decoded. Raises StorageFailure."""
    path = directory / filename.OFFSET_GAP_CHECKPOINT
    data = files.read_file(path)
    if data is None:
        return []
    try:
        return checkpoint.decode_gaps(data)
    except CorruptCheckpoint as error:
        logger.warning("%s: gaps in the offsets are no longer reported", error.within(str(path)))
        return []


def write_gaps(directory: Path, gaps: Iterable[Gap]) -> None:
    """Raises StorageFailure; then what was stored before still is."""
    files.write_file(directory / filename.OFFSET_GAP_CHECKPOINT, checkpoint.encode_gaps(sorted(gaps)))


def behind(gaps: Iterable[Gap], offset: int) -> int:
    """``offset``, or the first one that is in no gap behind it, where it is in one."""
    for first, last in sorted(gaps):
        if first <= offset <= last:
            offset = last + 1
    return offset


def is_known_gap(gaps: Iterable[Gap], first: int, last: int) -> bool:
    """Whether the gaps, one or several side by side, hold all offsets from ``first`` to ``last``."""
    return behind(gaps, first) > last


def overlapping(gaps: Iterable[Gap], first: int, last: int) -> list[Gap]:
    """The gaps that say of any offset from ``first`` to ``last`` that it is lost."""
    return [gap for gap in gaps if gap[0] <= last and first <= gap[1]]


def add_gap(gaps: list[Gap], first: int, last: int) -> None:
    """Note offsets that are missing, unless it is known."""
    if not is_known_gap(gaps, first, last):
        gaps.append((first, last))


def start_of(gaps: Iterable[Gap], start_offset: int, first_offset: int) -> int:
    """Where a log starts whose first segment begins with ``first_offset``: at its recorded ``start_offset``, or with
    that segment, where retention took what was before it. What was lost before it is still the log's to report."""
    is_lost = start_offset < first_offset and is_known_gap(gaps, start_offset, first_offset - 1)
    return start_offset if is_lost else max(start_offset, first_offset)


def keep_start(directory: Path, gaps: list[Gap], start_offset: int, first_offset: int) -> None:
    """A log that was closed with offsets from ``start_offset`` on, and now begins with ``first_offset``, has lost those
    between: from now on, reads say so. Raises StorageFailure."""
    if start_offset < first_offset and not is_known_gap(gaps, start_offset, first_offset - 1):
        logger.error("%s: offsets %d to %d are missing", directory, start_offset, first_offset - 1)
        gaps.append((start_offset, first_offset - 1))
        write_gaps(directory, gaps)


def keep_end(end_offset: int, recovery_point: int, gaps: list[Gap]) -> int:
    """Offsets that were given once, below the recovery point or in a gap, are not given again: where the log ends
    before it, what is missing is a gap, and reads say so."""
    kept_end = max([end_offset, recovery_point, *(last + 1 for _, last in gaps)])
    if kept_end > end_offset:
        add_gap(gaps, end_offset, kept_end - 1)
    return kept_end


def without(gaps: Iterable[Gap], first: int, last: int) -> list[Gap]:
    """What is left of the gaps without the offsets from ``first`` to ``last``, in the same order."""
    return [
        (start, end)
        for gap_first, gap_last in gaps
        for start, end in ((gap_first, min(gap_last, first - 1)), (max(gap_first, last + 1), gap_last))
        if start <= end
    ]
