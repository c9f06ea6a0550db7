"""Checks everything that can be checked of logs at rest, and yields what is wrong. Nothing is changed.

Of a log: every batch's header, CRC and place; every record is decoded and counted, and its offset is within its batch;
offsets increase from batch to batch and from segment to segment. Of an index: its size, that its entries increase, that
each one leads to a batch that a look-up may begin at, and that a time is the largest up to there. Of small files: that
they can be read, by their CRC where they have one, and that no recovery point or start lies behind the log's end.

What no CRC covers is held against what is around it (see log_check, also for the little that cannot be known: in a
compacted log a base offset moved within a hole, and behind the last roll or checkpoint before a crash a leader epoch
that fits between its neighbours'). Whether the first and last segments are all there is known after a clean close only.

It may run beside a live writer: an append under way is not taken for damage. DAMAGE is what is lost or must be
repaired; a NOTE is what an owner may want to know and is no harm.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

from logstore.errors import CorruptData, CorruptIndex, StorageFailure
from logstore.format import filename
from logstore.format.filename import FileKind, PartitionKey
from logstore.settings import INT_MAX
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.facts import DirFacts, LogFacts
from logstore.storage.findings import Finding, Severity, Tally, damage_finding, unreadable
from logstore.storage.index import OffsetIndex, SparseIndex, TimeIndex
from logstore.storage.index_check import IndexCheck, OffsetIndexCheck, TimeIndexCheck
from logstore.storage.log_check import EpochCheck, LogPlace, check_log
from logstore.storage.scan import missing
from logstore.storage.survey import DECODERS, Kind, KnownFile, PartitionFiles, Survey, identify


def verify(found: Survey, tally: Tally, progress: Callable[[int], None] = lambda size: None) -> Iterator[Finding]:
    """All findings, file by file; ``tally`` counts along. ``progress`` is told each step's bytes; all of them together
    are the sizes of all files, but for those that grow meanwhile."""
    # What checkpoints say is read before the logs: those of a live writer only grow.
    facts = DirFacts(found.data_dir)
    limits = {} if found.data_dir is None or found.is_file else _limits(found.data_dir, facts)
    for file in found.own_files:
        yield from _verify_small(file, tally, progress)
    for partition in found.partitions:
        known = facts.of(partition)
        checking = _verify_partition(partition, known, found.is_file, tally, progress)
        end_offset = yield from _of_what_is_there(partition, checking)
        if not found.is_file and found.data_dir is not None:
            own_limits = limits.get(partition.topic_partition, ())
            yield from _check_ends(found.data_dir, facts, partition, known, end_offset, own_limits)
        if not found.is_file:
            yield from _salvaged_notes(partition.directory)
    if found.data_dir is not None:
        topics, present = _topics(found), {partition.topic_partition for partition in found.partitions}
        for key, limits_of_absent in limits.items():
            if key[0] in topics and key not in present:
                for limit in limits_of_absent:
                    yield from _check_limit(limit, found.data_dir / filename.partition_dir(*key), None)


# --------------------------------------------------------------------------------------------------------- small files


def _verify_small(file: KnownFile, tally: Tally, progress: Callable[[int], None]) -> Iterator[Finding]:
    if file.kind is Kind.LOG:  # a snapshot of Kafka's metadata
        yield from check_log(file, {}, LogPlace(LogFacts(), EpochCheck(LogFacts()), None, True), tally, progress)
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


class _Limit(NamedTuple):
    """An offset that a log must reach: what it is, and the file that says so."""

    path: Path
    what: str
    offset: int


def _limits(data_dir: Path, facts: DirFacts) -> dict[PartitionKey, list[_Limit]]:
    """What checkpoints say, by partition."""
    limits: dict[PartitionKey, list[_Limit]] = {}
    for name, what, offsets in (
        (filename.RECOVERY_POINT_CHECKPOINT, "recovery point", facts.recovery_points),
        (filename.LOG_START_OFFSET_CHECKPOINT, "log start offset", facts.start_offsets),
    ):
        for key, offset in (offsets or {}).items():
            limits.setdefault(key, []).append(_Limit(data_dir / name, what, offset))
    return limits


def _topics(found: Survey) -> set[str]:
    """The topics that a whole data directory says it has; Kafka's says nothing."""
    return {file.path.parent.name for file in found.own_files if file.path.name == filename.TOPIC_PROPERTIES}


def _check_ends(
    data_dir: Path,
    facts: DirFacts,
    partition: PartitionFiles,
    known: LogFacts,
    end_offset: int | None,
    limits: Sequence[_Limit],
) -> Iterator[Finding]:
    """Whether a log begins and ends where checkpoints say that it does."""
    # Offsets that were lost at the end, and are known to be, are not given again.
    reached = None if end_offset is None else known.behind_gaps(end_offset)
    for limit in limits:
        yield from _check_limit(limit, partition.directory, reached)
    if end_offset is None or not facts.are_closed():
        return
    path, name = data_dir / filename.RECOVERY_POINT_CHECKPOINT, partition.directory.name
    if known.closed_offset is not None and end_offset > known.closed_offset:
        yield Finding(path, 0, f"{name} was closed at offset {known.closed_offset}, but its log ends at {end_offset}")
    first = min(log.base_offset for log in partition.logs)
    if known.start_offset is not None and (start_offset := known.behind_gaps(known.start_offset)) < first:
        reason = f"{name} was closed with offsets from {start_offset} on, but its log begins at {first}"
        yield Finding(partition.logs[0].path, 0, reason, first_offset=start_offset, last_offset=first - 1)


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
    parsed = map(filename.parse_segment_file, files.names(directory) if files.exists(directory) else ())
    return any(file is not None and file.kind is FileKind.LOG and not file.suffix for file in parsed)


# ---------------------------------------------------------------------------------------------------------- partitions

_STRAY = "it belongs to no log"
_INDEXES: dict[Kind, tuple[type[SparseIndex], type[IndexCheck], Callable[[int], str]]] = {
    Kind.INDEX: (OffsetIndex, OffsetIndexCheck, filename.index_name),
    Kind.TIME_INDEX: (TimeIndex, TimeIndexCheck, filename.time_index_name),
}


def _verify_partition(
    partition: PartitionFiles, known: LogFacts, is_file: bool, tally: Tally, progress: Callable[[int], None]
) -> Generator[Finding, None, int | None]:
    """Yields findings, and returns the log's end offset, None where there is no log to have one."""
    segments: dict[int, dict[Kind, KnownFile]] = {}
    for file in partition.files:
        if file.kind in DECODERS:
            for finding in _verify_small(file, tally, progress):
                yield finding._replace(severity=Severity.NOTE) if _is_spare(file, partition) else finding
        else:
            segments.setdefault(file.base_offset, {})[file.kind] = file
    end_offset: int | None = None
    bases = sorted(base for base, kinds in segments.items() if Kind.LOG in kinds)
    following = dict(pairwise(bases))
    epochs = EpochCheck(known)
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
        log = kinds[Kind.LOG]
        if end_offset is not None:
            yield from _check_junction(log, end_offset, known)
        is_last = base_offset not in following
        following_offset = following.get(base_offset, None if is_file else known.closed_offset)
        loaded = {path: check for path, check in checks.items() if check is not None}
        place = LogPlace(known, epochs, following_offset, is_last)
        ended_at = yield from check_log(log, loaded, place, tally, progress)
        end_offset = max(ended_at, end_offset or 0)
    return end_offset


def _of_what_is_there(
    partition: PartitionFiles, checking: Generator[Finding, None, int | None]
) -> Generator[Finding, None, int | None]:
    """Without findings of segments that have left: beside a live writer, retention and compaction take them away."""
    logs = {log.path for log in partition.logs}
    while True:
        try:
            finding = next(checking)
        except StopIteration as end:
            return cast("int | None", end.value)
        log = finding.path.with_suffix(FileKind.LOG)
        if finding.severity is Severity.NOTE or log not in logs or files.exists(log):
            yield finding


def _is_spare(file: KnownFile, partition: PartitionFiles) -> bool:
    """Whether it is a producer snapshot that nothing needs, since there is a newer one."""
    return file.kind is Kind.SNAPSHOT and any(
        other.kind is Kind.SNAPSHOT and other.base_offset > file.base_offset for other in partition.files
    )


def _salvaged_notes(directory: Path) -> Iterator[Finding]:
    salvaged = directory / filename.SALVAGED_DIR
    for entry in files.list_dir(salvaged) if files.is_dir(salvaged) else ():
        if entry.name.endswith(files.TEMPORARY):  # a copy that was interrupted: the bytes are in the log still
            continue
        reason = f"{entry.size} bytes taken out of the log, kept"
        yield Finding(salvaged / entry.name, 0, reason, Severity.NOTE, entry.size)


def _check_junction(log: KnownFile, end_offset: int, known: LogFacts) -> Iterator[Finding]:
    """Whether a segment begins where the one before it ends."""
    if log.base_offset < end_offset:
        reason = f"the segment begins at offset {log.base_offset}, but the one before it ends at {end_offset}"
        yield Finding(log.path, 0, reason)
    if known.known_gaps is not None:
        for hole in missing(0, end_offset, log.base_offset, known.known_gaps):
            yield damage_finding(log.path, hole, False)


def _with_log(kinds: dict[Kind, KnownFile]) -> dict[Kind, KnownFile]:
    """An index alone, with the log that lies beside it, to be held against it."""
    log_path = next(iter(kinds.values())).path.with_suffix(FileKind.LOG)
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
