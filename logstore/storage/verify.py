"""Checks everything that can be checked of logs at rest, and yields what is wrong. Nothing is changed.

Of a log: every batch's header, CRC and place; every record is decoded and counted, and its offset is within its batch;
offsets increase from batch to batch and from segment to segment. Of an index: its size, that its entries increase, that
each one leads to a batch that a look-up may begin at, and that a time is the largest up to there. Of small files: that
they can be read, by their CRC where they have one, and that no recovery point or start lies behind the log's end.

It may run beside a live writer: an append under way is not taken for damage. DAMAGE is what is lost or must be
repaired; a NOTE is what an owner may want to know and is no harm.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from logstore.config import INT_MAX
from logstore.errors import CorruptBatch, CorruptData, CorruptIndex, StorageFailure
from logstore.format import checkpoint, filename
from logstore.format.batch import RecordBatch, control_type
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.index import OffsetIndex, SparseIndex, TimeIndex
from logstore.storage.index_check import IndexCheck, OffsetIndexCheck, TimeIndexCheck, WrongEntry
from logstore.storage.scan import Damage, LogBatch, scan
from logstore.storage.survey import DECODERS, Kind, KnownFile, PartitionFiles, Survey, identify


class Severity(StrEnum):
    DAMAGE = "damage"
    NOTE = "note"


class Finding(NamedTuple):
    """What is wrong, and where: ``size`` bytes from ``position`` (0: the size is unknown or does not matter).
    ``first_offset`` and ``last_offset`` bound the records that cannot be read, where any are lost and that is known."""

    path: Path
    position: int
    reason: str
    severity: Severity = Severity.DAMAGE
    size: int = 0
    first_offset: int | None = None
    last_offset: int | None = None


@dataclass
class Tally:
    """What has been looked at so far. ``size``: bytes."""

    files: int = 0
    segments: int = 0
    batches: int = 0
    records: int = 0
    size: int = 0


def verify(found: Survey, tally: Tally, progress: Callable[[int], None] = lambda size: None) -> Iterator[Finding]:
    """All findings, file by file; ``tally`` counts along. ``progress`` is told each step's bytes; all of them together
    are the sizes of all files, but for those that grow meanwhile."""
    # What checkpoints say is read before the logs: those of a live writer only grow.
    for file in found.own_files:
        yield from _verify_small(file, tally, progress)
    limits = _checkpointed(found) if not found.is_file else {}
    for partition in found.partitions:
        end_offset = yield from _verify_partition(partition, found.is_file, tally, progress)
        for limit in limits.get(partition.topic_partition, ()):
            yield from _check_limit(limit, partition.directory, end_offset)
    if found.data_dir is not None:
        topics, present = _topics(found), {partition.topic_partition for partition in found.partitions}
        for topic, number in [key for key in limits if key[0] in topics and key not in present]:
            for limit in limits[topic, number]:
                yield from _check_limit(limit, found.data_dir / filename.partition_dir(topic, number), None)


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


# --------------------------------------------------------------------------------------------------------- small files


def _verify_small(file: KnownFile, tally: Tally, progress: Callable[[int], None]) -> Iterator[Finding]:
    if file.kind is Kind.LOG:  # a snapshot of Kafka's metadata
        yield from _verify_log(file, {}, True, tally, progress)
        return
    if file.kind in _INDEXES:
        yield from _check_for(file, tally, progress)
        yield Finding(file.path, 0, _STRAY, Severity.NOTE)
        return
    tally.files += 1
    tally.size += file.size
    try:
        data = files.read_file(file.path)
        if data is not None:
            DECODERS[file.kind](data)
    except CorruptData as error:
        is_empty_marker = file.kind is Kind.CLEAN_SHUTDOWN and not file.size  # Kafka's before 3.7
        severity = Severity.NOTE if is_empty_marker else Severity.DAMAGE
        yield Finding(file.path, error.position, error.reason, severity)
    except StorageFailure as error:
        yield unreadable(file.path, error)
    progress(file.size)


def unreadable(path: Path, error: StorageFailure) -> Finding:
    """A file that the operating system does not let us read."""
    return Finding(path, 0, f"cannot {error.operation}: {error.reason}")


class _Limit(NamedTuple):
    """An offset that a log must reach: what it is, and the file that says so."""

    path: Path
    what: str
    offset: int


def _checkpointed(found: Survey) -> dict[tuple[str, int], list[_Limit]]:
    """What checkpoints say, by partition."""
    limits: dict[tuple[str, int], list[_Limit]] = {}
    if found.data_dir is None:
        return limits
    names = {
        filename.RECOVERY_POINT_CHECKPOINT: "recovery point",
        filename.LOG_START_OFFSET_CHECKPOINT: "log start offset",
    }
    for name, what in names.items():
        path = found.data_dir / name
        with contextlib.suppress(CorruptData, StorageFailure):  # reported where the file itself is checked
            for key, offset in checkpoint.decode_offsets(files.read_file(path) or b"").items():
                limits.setdefault(key, []).append(_Limit(path, what, offset))
    return limits


def _topics(found: Survey) -> set[str]:
    """The topics that a whole data directory says it has; Kafka's says nothing."""
    return {file.path.parent.name for file in found.own_files if file.path.name == filename.TOPIC_PROPERTIES}


def _check_limit(limit: _Limit, directory: Path, end_offset: int | None) -> Iterator[Finding]:
    """``end_offset``: the log's, None where there is none."""
    if limit.offset <= (end_offset or 0):
        return
    if end_offset is not None:
        end = f"its log ends at {end_offset}"
    elif _has_log(directory):  # begun since the directory was looked at
        return
    else:
        end = "it has no log"
    reason = f"{directory.name} has the {limit.what} {limit.offset}, but {end}"
    yield Finding(limit.path, 0, reason, first_offset=end_offset or 0, last_offset=limit.offset - 1)


def _has_log(directory: Path) -> bool:
    return files.exists(directory) and any(entry.name.endswith(".log") for entry in files.list_dir(directory))


# ---------------------------------------------------------------------------------------------------------- partitions

_STRAY = "it belongs to no log"
_INDEXES: dict[Kind, tuple[type[SparseIndex], type[IndexCheck], Callable[[int], str]]] = {
    Kind.INDEX: (OffsetIndex, OffsetIndexCheck, filename.index_name),
    Kind.TIME_INDEX: (TimeIndex, TimeIndexCheck, filename.time_index_name),
}


def _verify_partition(
    partition: PartitionFiles, is_file: bool, tally: Tally, progress: Callable[[int], None]
) -> Generator[Finding, None, int | None]:
    """Yields findings, and returns the log's end offset, None where there is no log to have one."""
    segments: dict[int, dict[Kind, KnownFile]] = {}
    for file in partition.files:
        if file.kind in DECODERS:
            yield from _verify_small(file, tally, progress)
        else:
            segments.setdefault(file.base_offset, {})[file.kind] = file
    end_offset: int | None = None
    last_base = max((base for base, kinds in segments.items() if Kind.LOG in kinds), default=-1)
    for base_offset, kinds in sorted(segments.items()):
        if Kind.LOG not in kinds:
            kinds = _with_log(kinds)
        elif not is_file:
            kinds = _with_missing_indexes(kinds, partition.directory, base_offset)
        checks = {}
        for kind in _INDEXES.keys() & kinds.keys():
            checks[kinds[kind].path] = yield from _check_for(kinds[kind], tally, progress)
        if Kind.LOG not in kinds:
            if not is_file:
                yield from (Finding(path, 0, _STRAY, Severity.NOTE) for path in checks)
            continue
        if end_offset is not None and base_offset < end_offset:
            reason = f"the segment begins at offset {base_offset}, but the one before it ends at {end_offset}"
            yield Finding(kinds[Kind.LOG].path, 0, reason)
        is_last = base_offset == last_base or is_file
        loaded = {path: check for path, check in checks.items() if check is not None}
        ended_at = yield from _verify_log(kinds[Kind.LOG], loaded, is_last, tally, progress)
        end_offset = max(ended_at, end_offset or 0)
    return end_offset


def _with_log(kinds: dict[Kind, KnownFile]) -> dict[Kind, KnownFile]:
    """An index alone, with the log that lies beside it, to be held against it."""
    log_path = next(iter(kinds.values())).path.with_suffix(".log")
    if not files.exists(log_path):
        return kinds
    log = identify(log_path, files.entry(log_path).size)
    return {**kinds, Kind.LOG: log} if log else kinds


def _with_missing_indexes(kinds: dict[Kind, KnownFile], directory: Path, base_offset: int) -> dict[Kind, KnownFile]:
    missing = {
        kind: KnownFile(directory / name(base_offset), kind, 0, base_offset) for kind, (_, _, name) in _INDEXES.items()
    }
    return {**missing, **kinds}


def load_index(file: KnownFile) -> tuple[SparseIndex, list[Finding]]:
    """An index file, with what is wrong with it as far as that shows without its log; where that is more than a torn
    last entry, its columns cannot be had."""
    index = _INDEXES[file.kind][0](file.path, file.base_offset, Caches(), True)
    findings = []
    torn = file.size % index.ENTRY.size
    try:
        # Zeros are space that a growing index keeps ready.
        if torn and any(files.open_file(file.path).read_at(file.size - torn, torn)):
            reason = f"the index ends with {torn} bytes of an entry of {index.ENTRY.size}"
            findings.append(Finding(file.path, file.size - torn, reason, size=torn))
        first, second = index.columns
        largest = max((first if file.kind is Kind.INDEX else second)[-1:], default=0)
        if largest > INT_MAX or (file.kind is Kind.TIME_INDEX and any(time < 0 for time in first[:1])):
            findings.append(Finding(file.path, 0, "it holds an offset or time that no segment can have"))
    except CorruptIndex as error:
        findings.append(Finding(file.path, error.position, error.reason))
    except StorageFailure as error:
        findings.append(unreadable(file.path, error))
    return index, findings


def _check_for(
    file: KnownFile, tally: Tally, progress: Callable[[int], None]
) -> Generator[Finding, None, IndexCheck | None]:
    """Yields findings; returns what holds the entries against the log, None where they cannot be had."""
    tally.files += 1
    tally.size += file.size
    index, findings = load_index(file)
    yield from findings
    progress(file.size)
    try:
        return _INDEXES[file.kind][1](index.columns, file.base_offset)
    except (CorruptIndex, StorageFailure):
        return None


# ------------------------------------------------------------------------------------------------------------ one log


def _verify_log(
    log: KnownFile,
    checks: Mapping[Path, IndexCheck],
    is_last: bool,
    tally: Tally,
    progress: Callable[[int], None],
) -> Generator[Finding, None, int]:
    """Yields findings, and returns the log's end offset. ``checks`` are those of its indexes."""
    tally.files += 1
    tally.segments += 1
    end_offset = log.base_offset
    holes: list[tuple[int, int]] = []
    try:
        file = files.open_file(log.path)
        for found in _scan_growing(file, log.base_offset):
            if isinstance(found, Damage):
                progress(found.size)
                tally.size += found.size
                yield damage_finding(log.path, found, is_last)
                for check in checks.values():
                    check.damage(found)
                end_offset = max(end_offset, found.next_offset or end_offset)
                continue
            header = found.batch.header
            if header.base_offset > end_offset:
                holes.append((end_offset, header.base_offset - 1))
            end_offset = header.next_offset
            yield from _verify_batch(log.path, found, tally)
            for path, check in checks.items():
                yield from _wrong_entries(path, check, check.batch(found.position, header))
            progress(header.size)
    except StorageFailure as error:
        yield unreadable(log.path, error)
        return end_offset
    for path, check in checks.items():
        yield from _wrong_entries(path, check, check.end())
    if holes:
        (first, last), count = holes[0], len(holes)
        reason = (
            f"{count} ranges of offsets have no batch, the first from {first} to {last}: compacted away, or salvaged"
        )
        yield Finding(log.path, 0, reason, Severity.NOTE, 0, first, last)
    return end_offset


def _verify_batch(path: Path, found: LogBatch, tally: Tally) -> Iterator[Finding]:
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


def _scan_growing(file: files.File, base_offset: int) -> Iterator[LogBatch | Damage]:
    """Like ``scan``, of a file to which a live writer may append meanwhile."""
    position, expected_offset = 0, base_offset
    while True:
        end = file.size()
        for found in scan(file, position=position, end=end, expected_offset=expected_offset):
            if isinstance(found, LogBatch):
                position, expected_offset = found.position + found.batch.header.size, found.batch.header.next_offset
            elif found.next_offset is None and file.size() > end:
                break  # it was being written: look again
            else:
                position, expected_offset = found.position + found.size, found.next_offset or expected_offset
            yield found
        else:
            return


def damage_finding(path: Path, damage: Damage, is_last: bool) -> Finding:
    """What the scanner found, as a finding; ``is_last``: the log is its partition's last."""
    if damage.is_zeros and is_last:
        reason = "zeros behind the last batch: space kept ready, or an append that a crash undid"
        return Finding(path, damage.position, reason, Severity.NOTE, damage.size)
    first, last = damage.expected_offset, None if damage.next_offset is None else damage.next_offset - 1
    if last is not None and last < first:
        first, last = None, None  # type: ignore[assignment]  # bytes too many, and no record lost
    reason = damage.reason
    if damage.next_offset is None and is_last and not damage.is_old:
        reason += "; no good batch follows"
    return Finding(path, damage.position, reason, Severity.DAMAGE, damage.size, first, last)


def _wrong_entries(path: Path, check: IndexCheck, wrong: Iterator[WrongEntry]) -> Iterator[Finding]:
    for entry, reason in wrong:
        yield Finding(path, entry * check.ENTRY_SIZE, reason, size=check.ENTRY_SIZE)
