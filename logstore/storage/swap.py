"""Putting a compacted segment in the place of those that it was made from, so that a crash leaves the old or the new.

``.log.cleaned``: being written, dropped after a crash. ``.log.swap``: complete, and from then on it counts; a crash
before it has its final name is made good when the log is opened.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from logstore.format import filename
from logstore.storage import files
from logstore.storage.scan import LogBatch, scan


def complete_swap(directory: Path, base_offset: int, logs: Iterable[int]) -> None:
    """Put a compacted segment, complete as ``.swap``, in the place of those of ``logs`` (base offsets) that begin
    within its offsets: those that it was made from, since compaction keeps their last batch."""
    swap_path = directory / (filename.log_name(base_offset) + filename.SWAP)
    swap = files.open_file(swap_path)
    end_offset = end_of_swap(swap, base_offset)
    swap.close()

    def remove_old() -> None:
        remove_segment_files(directory, base_offset, keep_log=True)  # a left index would pass for the new segment's
        for old in sorted(logs):
            if base_offset < old < end_offset:
                remove_segment_files(directory, old)

    swap_in(directory, remove_old, lambda: files.rename(swap_path, directory / filename.log_name(base_offset)))


def end_of_swap(file: files.File, base_offset: int) -> int:
    """The offset behind a complete segment's last batch: up to there it takes the place of others."""
    end_offset = base_offset + 1
    for found in scan(file, expected_offset=base_offset):
        if isinstance(found, LogBatch):
            end_offset = max(end_offset, found.batch.header.next_offset)
    return end_offset


def swap_in(directory: Path, remove_old: Callable[[], None], put_in_place: Callable[[], None]) -> None:
    """The end of a swap, interrupted once or not: only when the old segments are surely gone has the new one, which
    stood ready as ``.swap``, its name. Else a crash could leave both, and bring old values back."""
    remove_old()
    files.sync_dir(directory)
    put_in_place()
    files.sync_dir(directory)


def remove_segment_files(directory: Path, base_offset: int, *, keep_log: bool = False) -> None:
    """Unlink a segment's files, the log first: what is left without one is removed when the log is opened."""
    if not keep_log:
        files.unlink(directory / filename.log_name(base_offset))
    for name in (filename.index_name, filename.time_index_name, filename.txn_index_name):
        files.unlink(directory / name(base_offset))
