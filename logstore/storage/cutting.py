"""Cutting off the end of a log that is being opened: what never was a record is dropped, what was one is kept aside.

A *torn tail* has no good batch in it: it is an append that was not finished. Where power was lost, the disk may have
kept later writes and not earlier ones. What is behind the first that is missing was never known to be on the disk, and
the log ends before it; but good batches may be in it, so it goes to ``salvaged/`` in the partition's directory.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from logstore.storage import files
from logstore.storage.salvaged import keep_file, keep_range
from logstore.storage.scan import Damage
from logstore.storage.segment import Segment
from logstore.storage.swap import remove_segment_files

logger = logging.getLogger("logstore.storage")


def cut_tail(segment: Segment, damage: Damage) -> None:
    """Cut the segment where the damage begins, which reaches to its end. Raises StorageFailure."""
    if not damage.is_zeros:
        logger.warning(
            "%s: cut %d bytes of an append that was not finished at position %d: %s",
            *(segment.path, damage.size, damage.position, damage.reason),
        )
    _truncate(segment, damage.position)


def cut_rest(segment: Segment, position: int, reason: str) -> None:
    """Cut the segment at ``position``, and keep what is behind it aside. Raises StorageFailure."""
    kept = keep_range(segment.directory, files.open_file(segment.path), position, segment.size)
    _say_cut(segment.path, position, segment.size, reason, kept)
    _truncate(segment, position)


def cut_segments(directory: Path, segments: Sequence[Segment], reason: str) -> None:
    """Take whole segments at the end of a log out of it, and keep their logs aside: the last first, so that a crash in
    between leaves what another recovery goes on with. Raises StorageFailure."""
    for segment in reversed(segments):
        segment.forget()
        if segment.size:
            _say_cut(segment.path, 0, segment.size, reason, keep_file(segment.path))
        remove_segment_files(directory, segment.base_offset)
        files.sync_dir(directory)


def drop_empty_tail(segments: list[Segment], end_offset: int) -> int:
    """Drop empty segments that do not begin where the log ends: a roll came to the disk, what was before it did not.

    Returns the end offset: an empty log keeps the start of its first segment.
    """
    while len(segments) > 1 and not segments[-1].size and segments[-1].base_offset != end_offset:
        gone = segments.pop()
        gone.forget()
        remove_segment_files(gone.directory, gone.base_offset)
    if segments and not any(segment.size for segment in segments):
        return segments[-1].base_offset
    return end_offset


def _truncate(segment: Segment, position: int) -> None:
    segment.size = position
    segment.forget_damage_from(position)
    file = files.open_file(segment.path, writable=True)
    file.truncate(position)
    file.sync()
    file.close()


def _say_cut(path: Path, position: int, end: int, reason: str, kept: Path) -> None:
    logger.error(
        "%s: the machine was restarted, and not all was on its disk: the log ends at position %d (%s); "
        "%d bytes from behind it are kept in %s",
        *(path, position, reason, end - position, kept),
    )
