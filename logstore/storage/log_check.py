"""Checks one log file at rest: every batch's header, CRC, records and place, and its indexes along with it.

A batch's CRC leaves out its base offset, length, leader epoch and magic. A wrong length or magic makes the CRC wrong.
The others are held against what is around the batch:

- A base offset that is too low overlaps the batch before, one that is too high overlaps what follows: the next batch,
  the next segment, or the end that was recorded when the log was closed. Where no compaction ran, offsets that no batch
  has and no known gap explains are damage as well, so that nothing escapes. In a compacted log, where offsets are
  missing by right, a base offset that is wrong by less than the hole beside it can be known only if an index has an
  entry for the batch.
- A leader epoch must be what ``leader-epoch-checkpoint`` gives for the offset, up to where that was last saved. Behind
  it, in what was written since the last roll or checkpoint before a crash, epochs must not go backwards: a wrong one
  that fits between those of the batches around it cannot be told from that of a new leader.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from logstore.errors import CorruptBatch, StorageFailure
from logstore.format import filename
from logstore.format.batch import NO_LEADER_EPOCH, BatchHeader, RecordBatch
from logstore.format.control_record import control_type
from logstore.storage import files
from logstore.storage.facts import LogFacts
from logstore.storage.findings import Finding, Severity, Tally, damage_finding, unreadable
from logstore.storage.gaps import overlapping
from logstore.storage.index_check import IndexCheck, WrongEntry
from logstore.storage.scan import Damage, LogBatch, scan
from logstore.storage.survey import KnownFile


def check_records(batch: RecordBatch) -> int:
    """Decode all records of a batch, and return their count. Raises CorruptBatch, which names what is wrong."""
    header = batch.header
    columns = batch.columns()
    columns.headers()
    offsets = columns.offsets
    if len(offsets):
        if int(offsets[0]) < header.base_offset or int(offsets[-1]) > header.last_offset:
            raise CorruptBatch(
                f"a record's offset is outside its batch's, {header.base_offset} to {header.last_offset}"
            )
        if bool((np.diff(offsets) <= 0).any()):
            raise CorruptBatch("the records' offsets do not increase")
    if header.is_control:
        for record in batch.records():
            control_type(record)
    return len(offsets)


class EpochCheck:
    """Told of all good batches of a partition, in order."""

    def __init__(self, facts: LogFacts) -> None:
        self._facts = facts
        self._latest = NO_LEADER_EPOCH
        self._said: tuple[int, int] | None = None  # of the batch before

    def wrong(self, header: BatchHeader) -> str | None:
        """What is wrong with the batch's leader epoch, None where nothing is."""
        epoch, before = header.partition_leader_epoch, self._latest
        right = self._facts.right_epoch(header)
        if right is None:
            self._latest = epoch
            return None if epoch >= before else f"leader epoch {epoch} comes after {before}: one of the two is wrong"
        self._latest = right
        said, self._said = self._said, None if epoch == right else (epoch, right)
        if self._said in (None, said):  # it may be the checkpoint that is wrong: not a finding for every batch then
            return None
        return f"leader epoch {epoch}, but {filename.LEADER_EPOCH_CHECKPOINT} says {right}"


class LogPlace(NamedTuple):
    """Where a log file stands in its partition. ``following_offset``: what comes behind it, None where that is not
    known; ``is_last``: no file does."""

    facts: LogFacts
    epochs: EpochCheck
    following_offset: int | None
    is_last: bool


def check_log(
    log: KnownFile,
    checks: Mapping[Path, IndexCheck],
    place: LogPlace,
    tally: Tally,
    progress: Callable[[int], None],
) -> Generator[Finding, None, int]:
    """Yields findings, and returns the log's end offset: the following one, where damage reaches up to it. ``checks``
    are those of its indexes."""
    tally.files += 1
    tally.segments += 1
    end_offset = log.base_offset
    holes: list[tuple[int, int]] = []
    ends_damaged = False
    try:
        file = files.open_file(log.path)
        for found in _scan_growing(file, log.base_offset, place):
            if isinstance(found, Damage):
                progress(found.size)
                tally.size += found.size
                yield damage_finding(log.path, found, place.is_last)
                for check in checks.values() if found.size else ():
                    check.damage(found)
                end_offset = max(end_offset, found.next_offset or end_offset)
                ends_damaged = found.next_offset is None
                continue
            header = found.batch.header
            if header.base_offset > end_offset:
                holes.append((end_offset, header.base_offset - 1))
            end_offset = header.next_offset
            yield from _check_batch(log.path, found, place, tally)
            for path, check in checks.items():
                yield from _wrong_entries(path, check, check.batch(found.position, header))
            progress(header.size)
    except StorageFailure as error:
        yield unreadable(log.path, error)
        ends_damaged = True
    else:
        for path, check in checks.items():
            yield from _wrong_entries(path, check, check.end())
    if holes:
        yield _holes_note(log.path, holes)
    return max(end_offset, place.following_offset or 0) if ends_damaged and not place.is_last else end_offset


def _check_batch(path: Path, found: LogBatch, place: LogPlace, tally: Tally) -> Iterator[Finding]:
    header = found.batch.header
    tally.batches += 1
    tally.size += header.size
    try:
        tally.records += check_records(found.batch)
    except CorruptBatch as error:
        reason = f"the batch's CRC is right, but its records are not: {error.reason}"
        yield Finding(
            path,
            found.position,
            reason,
            size=header.size,
            first_offset=header.base_offset,
            last_offset=header.last_offset,
        )
    if (wrong := place.epochs.wrong(header)) is not None:
        yield Finding(path, found.position, f"the batch at offset {header.base_offset} has {wrong}", size=header.size)
    for first, last in overlapping(place.facts.gaps, header.base_offset, header.last_offset):
        reason = f"it says that offsets {first} to {last} are lost, but {path.name} has {header.base_offset}"
        yield Finding(path.with_name(filename.OFFSET_GAP_CHECKPOINT), 0, reason)


def _holes_note(path: Path, holes: list[tuple[int, int]]) -> Finding:
    first, last = holes[0]
    reason = f"{len(holes)} ranges of offsets have no batch, the first from {first} to {last}: "
    return Finding(path, 0, reason + "compacted away, or salvaged", Severity.NOTE, 0, first, last)


def _scan_growing(file: files.File, base_offset: int, place: LogPlace) -> Iterator[LogBatch | Damage]:
    """Like ``scan``, of a file to which a live writer may append meanwhile."""
    position, expected_offset = 0, base_offset
    known_gaps = place.facts.known_gaps
    while True:
        end = file.size()
        for found in scan(
            file,
            position=position,
            end=end,
            expected_offset=expected_offset,
            following_offset=place.following_offset,
            known_gaps=known_gaps,
        ):
            if isinstance(found, LogBatch):
                position, expected_offset = found.position + found.batch.header.size, found.batch.header.next_offset
            elif found.next_offset is None and file.size() > end:
                break  # it was being written: look again
            else:
                position, expected_offset = found.position + found.size, found.next_offset or expected_offset
            yield found
        else:
            return


def _wrong_entries(path: Path, check: IndexCheck, wrong: Iterator[WrongEntry]) -> Iterator[Finding]:
    for entry, reason in wrong:
        yield Finding(path, entry * check.ENTRY_SIZE, reason, size=check.ENTRY_SIZE)
