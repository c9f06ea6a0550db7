"""Opening a partition's directory: what is kept, what is cut, what is reported.

1. Finish or undo what was under way: files named ``.cleaned`` are dropped, ``.swap`` takes the place of the segments
   that it was made from, ``.deleted`` are unlinked, and so are ``.tmp`` and what belongs to no ``.log``.
2. Read the small files: leader epochs, gaps. One that is damaged is made again from what the log says, or reported.
3. After a clean shutdown, trust the recorded end if the last segment's tail agrees: it is walked from its last index
   entry. Otherwise
4. walk from the recovery point on: every batch's header, CRC and offset; indexes are made anew from there. A log that
   was found damaged is walked from its start, at each opening, until it is salvaged. In a long walk the recovery
   point moves along, from segment to segment, so that one that is killed goes on there.
5. Cut a torn tail: bytes at the end of the last segment with no good batch behind them. Say how many in the log.
   Damage with good batches behind it, or below the recovery point, is no torn tail: it stays, is reported, and reads
   stop at it. Offsets that are missing between segments, or before the recovery point, are a gap that reads report;
   so are, after a clean shutdown, those from the recorded start to the first segment.
   But where power was lost (this is another boot than the one the log was written in), the disk may have kept later
   writes and not earlier ones: above the recovery point the log ends before the first that is missing, and what is
   behind it is moved to ``salvaged/``.
6. Drop empty segments behind the end. Without any segment, or behind damage at the end, start an empty one.
7. Bring the producer state up: the newest good snapshot, then the batches behind it; likewise the leader epochs.
8. Where records may be gone that somebody has read, a new leader epoch begins at the end, by which readers find that
   out: something was cut off, or power was lost, or nobody can tell. It is stored before anything is served; on a full
   disk, before anything is written, or the log is said to be whole.

Doing it twice changes nothing the second time, but for another epoch, and it may be interrupted anywhere and started
again.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from logstore.errors import CorruptData, StorageFailure
from logstore.format import filename
from logstore.format.filename import FileKind, SegmentFile
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.checked import Checked, ignore
from logstore.storage.cutting import cut_rest, cut_segments, cut_tail, drop_empty_tail
from logstore.storage.epoch_checkpoint import begin_epoch, read_epochs, restore_epochs
from logstore.storage.gaps import Gap, add_gap, is_known_gap, keep_end, keep_start, read_gaps, start_of, write_gaps
from logstore.storage.leader_epochs import LeaderEpochs
from logstore.storage.producer_state import ProducerState
from logstore.storage.replay import drop_snapshots, replay
from logstore.storage.scan import Damage, LogBatch
from logstore.storage.segment import Segment
from logstore.storage.swap import complete_swap

logger = logging.getLogger("logstore.storage")


_SMALL_FILES = {filename.LEADER_EPOCH_CHECKPOINT, filename.OFFSET_GAP_CHECKPOINT, filename.PARTITION_METADATA}


class SegmentDamage(NamedTuple):
    """Damage in one log file."""

    path: Path
    damage: Damage


class Recovered(NamedTuple):
    """What stands on the disk, ready for use. ``snapshot_offsets`` are those of the producer snapshots kept.
    ``leader_epoch`` is that of now. ``failed_sync``: of a log that can be read, and must take no writes."""

    segments: list[Segment]
    log_start_offset: int
    log_end_offset: int
    producers: ProducerState
    leader_epochs: LeaderEpochs
    leader_epoch: int
    gaps: list[Gap]
    damages: list[SegmentDamage]
    snapshot_offsets: list[int]
    recovery_point: int
    failed_sync: StorageFailure | None


def recover(
    directory: Path,
    caches: Caches,
    *,
    index_interval: int = 4096,
    allocate_size: int = 0,
    log_start_offset: int = 0,
    recovery_point: int = 0,
    is_clean: bool = False,
    is_start_known: bool = False,
    is_compacted: bool = False,
    has_lost_power: bool | None = False,
    on_checked: Callable[[int], None] = ignore,
    on_synced: Callable[[int], None] = ignore,
) -> Recovered:
    """Open the log in ``directory``. ``recovery_point``: offsets below it are known to be on the disk, whole;
    ``is_clean``: the log was closed and ends there; ``is_start_known``: and began with ``log_start_offset``;
    ``is_compacted``: offsets between segments may be missing;
    ``has_lost_power``: since it was written, so that what was not known to be on the disk may be there in part, None
    where nobody can tell;
    ``allocate_size``: what a first segment has at once; ``on_checked``, ``on_synced``: see ``Checked``.

    Raises StorageFailure, DamagedLog never."""
    name = directory.name
    entries = _finish_interrupted(directory)
    segments, snapshot_offsets = load_segments(directory, entries, caches, index_interval)
    epochs = read_epochs(directory)
    leader_epochs = LeaderEpochs(epochs or ())
    gaps = read_gaps(directory)
    if is_start_known and segments:
        keep_start(directory, gaps, log_start_offset, segments[0].base_offset)
    damages: list[SegmentDamage] = []
    was_damaged = files.exists(directory / filename.DAMAGE_REPORT)
    log_end_offset = None
    may_be_shorter = has_lost_power is not False
    checked = Checked(recovery_point, on_checked, on_synced)
    if is_clean and segments and not was_damaged:
        log_end_offset = _check_clean_end(segments[-1], recovery_point)
    if log_end_offset is None:
        known_gaps = list(gaps)
        walk = _Walk(
            directory=directory,
            segments=segments,
            recovery_point=recovery_point,
            checked=checked,
            closed_offset=recovery_point if is_clean else None,
            is_compacted=is_compacted,
            has_lost_power=bool(has_lost_power),
            gaps=gaps,
            damages=damages,
        )
        log_end_offset = walk.run(0 if is_clean or was_damaged else recovery_point)
        may_be_shorter = may_be_shorter or walk.has_cut
        log_end_offset = max(log_end_offset, drop_empty_tail(segments, log_end_offset))
        log_end_offset = keep_end(log_end_offset, recovery_point, gaps)
        _report(directory, damages, gaps, known_gaps, was_damaged)
    if log_start_offset > log_end_offset and segments:
        logger.error(
            "%s: log start offset %d is beyond the end %d: not believed", name, log_start_offset, log_end_offset
        )
        log_start_offset = 0
    next_base_offset = max([log_end_offset, *(segment.base_offset + 1 for segment in segments)])
    if not segments or _ends_damaged(segments[-1], damages, next_base_offset):
        log_end_offset = max(log_start_offset, next_base_offset)
        segments.append(_start_segment(directory, log_end_offset, caches, index_interval, allocate_size))
    log_start_offset = start_of(gaps, log_start_offset, segments[0].base_offset)
    producers = ProducerState(name)
    drop_snapshots(directory, snapshot_offsets, log_end_offset, bool(has_lost_power))
    newest_epoch = leader_epochs.latest or 0
    leader_epochs.truncate_from_end(log_end_offset + 1)  # who has written nothing yet leads still
    if not epochs and snapshot_offsets:  # else the replay begins at the beginning anyway
        restore_epochs(directory, segments, leader_epochs)
    replay(directory, segments, snapshot_offsets, producers, leader_epochs)
    leader_epoch = max(newest_epoch, leader_epochs.latest or 0) + may_be_shorter
    if may_be_shorter:
        _begin_epoch(directory, leader_epochs, leader_epoch, log_end_offset)
    return Recovered(
        *(segments, log_start_offset, log_end_offset, producers, leader_epochs, leader_epoch, gaps, damages),
        *(snapshot_offsets, min(checked.recovery_point, log_end_offset), checked.failed_sync),
    )


# ----------------------------------------------------------------------------------------------------------- step 1


def _finish_interrupted(directory: Path) -> list[files.Entry]:
    """Returns what is in the directory then."""
    entries = files.list_dir(directory)
    found = _segment_files(entries)
    temporary = [entry.name for entry in entries if not entry.is_dir and _is_temporary(entry.name)]
    logs = {file.base_offset for file in found if file.kind is FileKind.LOG and not file.suffix}
    swapped = sorted(file.base_offset for file in found if file.kind is FileKind.LOG and file.suffix == filename.SWAP)
    for base_offset in swapped:
        complete_swap(directory, base_offset, logs)
        logs.add(base_offset)
    if swapped:
        found = _segment_files(files.list_dir(directory))
    unfinished = [file for file in found if file.suffix]
    orphans = [
        file
        for file in found
        if not file.suffix and file.kind is not FileKind.SNAPSHOT and file.base_offset not in logs
    ]
    gone = temporary + [file.name for file in unfinished + orphans]
    for name in gone:
        files.unlink(directory / name)
    return files.list_dir(directory) if gone or swapped else entries


def _is_temporary(name: str) -> bool:
    """Whether it is what an interrupted ``write_file`` of ours left behind."""
    final_name = name.removesuffix(files.TEMPORARY)
    return name != final_name and (final_name in _SMALL_FILES or filename.parse_segment_file(final_name) is not None)


def _segment_files(entries: Iterable[files.Entry]) -> list[SegmentFile]:
    parsed = (filename.parse_segment_file(entry.name) for entry in entries if not entry.is_dir)
    return [file for file in parsed if file is not None]


def load_segments(
    directory: Path, entries: Iterable[files.Entry], caches: Caches, index_interval: int
) -> tuple[list[Segment], list[int]]:
    """The segments among a directory's entries, and the offsets of its producer snapshots. Nothing is read."""
    segments, snapshot_offsets = [], []
    for entry in entries:
        file = filename.parse_segment_file(entry.name)
        if file is None or file.suffix or entry.is_dir:
            continue
        if file.kind is FileKind.LOG:
            segments.append(
                Segment(
                    directory,
                    file.base_offset,
                    caches,
                    size=entry.size,
                    modified_ms=entry.modified_ms,
                    index_interval=index_interval,
                )
            )
        elif file.kind is FileKind.SNAPSHOT:
            snapshot_offsets.append(file.base_offset)
    return segments, snapshot_offsets


# ------------------------------------------------------------------------------------------------------ steps 3 to 6


def _check_clean_end(segment: Segment, end_offset: int) -> int | None:
    """``end_offset`` if the segment's tail, behind its last index entry, ends there; else None."""
    try:
        positions = segment.offset_index.columns[1]
        next_offset = segment.base_offset
        for located in segment.headers(positions[-1] if positions else 0):
            next_offset = located.header.next_offset
            if located.position + located.header.size > segment.size:
                return None
    except CorruptData:
        return None
    return end_offset if next_offset == end_offset else None


@dataclass(kw_only=True, slots=True)
class _Walk:
    """Steps 4 and 5, over ``segments``, from which those are dropped that are cut off; adds to ``gaps`` and
    ``damages``. ``closed_offset``: where the log ended when it was closed cleanly, None where it was not. ``has_cut``:
    something was taken from the end.

    What was on the disk, below the recovery point, cannot be a torn tail: bad bytes there are damage.
    """

    directory: Path
    segments: list[Segment]
    recovery_point: int
    checked: Checked
    closed_offset: int | None
    is_compacted: bool
    has_lost_power: bool
    gaps: list[Gap]
    damages: list[SegmentDamage]
    has_cut: bool = False

    def run(self, start_offset: int) -> int:
        """Check and reindex from ``start_offset`` on, and return the end offset."""
        segments = self.segments
        first = max((i for i, segment in enumerate(segments) if segment.base_offset <= start_offset), default=0)
        end_offset = segments[first].base_offset if segments else 0
        is_damaged = False  # at the end of the segment before
        known_gap_count = len(self.gaps)
        for index in range(first, len(segments)):
            segment = segments[index]
            if segment.size and segment.base_offset > end_offset and not is_damaged:
                if self._may_be_lost(end_offset) and not is_known_gap(self.gaps, end_offset, segment.base_offset - 1):
                    self._cut_from(index, f"offset {end_offset} is missing")
                    return end_offset
                if not self.is_compacted:
                    add_gap(self.gaps, end_offset, segment.base_offset - 1)
            position = _trusted_position(segment, start_offset) if index == first else 0
            is_damaged = self._check(index, position)
            if segment.size:
                end_offset = max(end_offset, segment.base_offset, _end_offset(segment))
            if len(segments) == index + 1:  # it is the last now, whatever there was
                break
            if not self.damages and len(self.gaps) == known_gap_count:
                self.checked.keep(segment, min(end_offset, segments[index + 1].base_offset))
        return end_offset

    def _check(self, index: int, position: int) -> bool:
        """Walk one segment from ``position`` on; whether damage reaches to its end."""
        segment, segments = self.segments[index], self.segments
        following = next((later for later in segments[index + 1 :] if later.size), None)
        is_damaged = False
        for damage in segment.rebuild_indexes(position, self._following_offset(index), self.checked.add):
            is_tail = damage.next_offset is None
            if is_tail and not following and damage.expected_offset >= self.recovery_point and not damage.is_old:
                cut_tail(segment, damage)
                self.has_cut |= not damage.is_zeros  # which are space that was kept ready, unless power was lost
                continue
            if damage.is_zeros and following and following.base_offset == damage.expected_offset:
                cut_tail(segment, damage)  # space that was kept ready, when the next segment had just been begun
                continue
            if self._may_be_lost(damage.expected_offset) and not damage.is_old:
                self._cut_from(index + 1, f"what is before it is not whole: {damage.reason}")
                if is_tail:
                    cut_tail(segment, damage)
                else:
                    cut_rest(segment, damage.position, damage.reason)
                segment.rebuild_indexes(position if position < damage.position else 0)
                return False
            if is_tail and index + 1 < len(segments):
                damage = damage._replace(next_offset=(following or segments[index + 1]).base_offset)
                is_damaged = True
            segment.know(damage)
            self.damages.append(SegmentDamage(segment.path, damage))
            logger.warning("%s", segment.damaged(damage))
        return is_damaged

    def _following_offset(self, index: int) -> int | None:
        """What comes behind a segment: it tells whether its last batch's base offset, which no CRC covers, is right."""
        return next((later.base_offset for later in self.segments[index + 1 :] if later.size), self.closed_offset)

    def _may_be_lost(self, offset: int) -> bool:
        """Whether what is missing at ``offset`` may never have come to the disk. What is behind it then was never
        known to be there either: a sync covers all that was appended before it."""
        return self.has_lost_power and offset >= self.recovery_point

    def _cut_from(self, index: int, reason: str) -> None:
        self.has_cut = True
        cut_segments(self.directory, self.segments[index:], reason)
        del self.segments[index:]


def _report(
    directory: Path, damages: list[SegmentDamage], gaps: list[Gap], known_gaps: list[Gap], was_damaged: bool
) -> None:
    """Store what was found: damage makes the next opening look again, gaps are what reads go by."""
    for first, last in gaps:
        if (first, last) not in known_gaps:
            logger.error("%s: offsets %d to %d are missing", directory, first, last)
    if gaps != known_gaps:
        write_gaps(directory, gaps)
    path = directory / filename.DAMAGE_REPORT
    if damages:
        lines = [
            f"{segment_path.name}: {damage.size} bytes from position {damage.position}: {damage.reason}\n"
            for segment_path, damage in damages
        ]
        files.write_file(path, "".join(lines).encode())
    elif was_damaged:
        files.unlink(path)


def _ends_damaged(segment: Segment, damages: list[SegmentDamage], end_offset: int) -> bool:
    """Whether damage reaches to the end of the last segment: then what follows begins in another."""
    for index, (path, damage) in enumerate(damages):
        if path == segment.path and damage.position + damage.size >= segment.size:
            damages[index] = SegmentDamage(path, damage._replace(next_offset=end_offset))
            segment.know(damages[index].damage)
            return True
    return False


def _begin_epoch(directory: Path, leader_epochs: LeaderEpochs, epoch: int, start_offset: int) -> None:
    try:
        begin_epoch(directory, leader_epochs, epoch, start_offset)
    except StorageFailure as error:
        logger.warning("%s: its leader epoch %d is stored with the first append: %s", directory, epoch, error)


def _start_segment(
    directory: Path, base_offset: int, caches: Caches, index_interval: int, allocate_size: int
) -> Segment:
    """A new one, empty, to be appended to; it is on the disk."""
    empty = Segment.create(directory, base_offset, caches, index_interval=index_interval, allocate_size=allocate_size)
    files.sync_dir(directory)
    return empty


def _trusted_position(segment: Segment, start_offset: int) -> int:
    """Where in the segment to begin: an indexed batch that is known to be on the disk, before ``start_offset``."""
    try:
        position = segment.offset_index.position_for(start_offset - 1)
        segment.time_index.columns  # noqa: B018  # both must be good, or both are made anew
        header = next(iter(segment.headers(position)), None) if position else None
        return position if header and header.header.last_offset < start_offset else 0
    except CorruptData:
        return 0


def _end_offset(segment: Segment) -> int:
    """The offset behind the segment's last good batch."""
    positions = segment.offset_index.columns[1]
    end_offset = segment.base_offset
    start = positions[-1] if positions else 0
    for found in segment.scan(start, segment.base_offset):
        if isinstance(found, LogBatch) and not segment.is_damaged_at(found.position):
            end_offset = found.batch.header.next_offset
    return end_offset
