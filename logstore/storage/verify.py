"""Checks everything that can be checked of logs at rest, and yields what is wrong. Nothing is changed.

Of a log: every batch's header, CRC and place; every record is decoded and counted, and its offset is within its batch;
offsets increase from batch to batch and from segment to segment. Of an index: its size, that its entries increase, that
each one leads to a batch that a look-up may begin at, and that a time is the largest up to there. Of small files: that
they can be read, by their CRC where they have one, and that no recovery point or start lies behind the log's end.

It may run beside a live writer: an append under way is not taken for damage. DAMAGE is what is lost or must be repaired;
a NOTE is what an owner may want to know and is no harm.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from logstore.errors import CorruptBatch, CorruptData, CorruptIndex, StorageFailure
from logstore.format import checkpoint, filename
from logstore.format.batch import CONTROL_TYPES, BatchHeader, RecordBatch, decode_marker
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.index import OffsetIndex, SparseIndex, TimeIndex
from logstore.storage.index_check import IndexCheck, OffsetIndexCheck, TimeIndexCheck, Wrong
from logstore.storage.scan import Damage, LogBatch, scan
from logstore.storage.survey import DECODERS, Kind, KnownFile, PartitionFiles, Survey


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
        for path, what, offset in limits.get(partition.topic_partition or ("", -1), ()):
            if end_offset is not None and offset > end_offset:
                reason = f"{partition.directory.name} has the {what} {offset}, but its log ends at {end_offset}"
                yield Finding(path, 0, reason, first_offset=end_offset, last_offset=offset - 1)


def check_records(batch: RecordBatch) -> int:
    """Decode all records of a batch, and return their count. Raises CorruptBatch, which names what is wrong."""
    header = batch.header
    columns = batch.columns()
    columns.headers()
    offsets = columns.offsets
    if len(offsets):
        if int(offsets[0]) < header.base_offset or int(offsets[-1]) > header.last_offset:
            raise CorruptBatch(f"a record's offset is outside its batch's, {header.base_offset} to {header.last_offset}")
        if bool((np.diff(offsets) <= 0).any()):
            raise CorruptBatch("the records' offsets do not increase")
    if header.is_control:
        for record in batch.records():
            decode_marker(record) if len(record.key or b"") < 4 or _is_marker(record.key) else None
    return len(offsets)


def _is_marker(key: bytes | None) -> bool:
    """Whether it ends a transaction; Kafka has other control records for its own topics."""
    return key is not None and int.from_bytes(key[2:4], "big") in CONTROL_TYPES


# --------------------------------------------------------------------------------------------------------- small files


def _verify_small(file: KnownFile, tally: Tally, progress: Callable[[int], None]) -> Iterator[Finding]:
    tally.files += 1
    tally.size += file.size
    if file.kind is Kind.LOG:  # a snapshot of Kafka's metadata
        yield from _Log(file, 0, (), tally, progress, is_last=True).findings()
        return
    try:
        data = files.read_file(file.path)
        if data is not None:
            DECODERS[file.kind](data)
    except CorruptData as error:
        is_empty_marker = file.kind is Kind.CLEAN_SHUTDOWN and not file.size  # Kafka's before 3.7
        severity = Severity.NOTE if is_empty_marker else Severity.DAMAGE
        yield Finding(file.path, error.position, error.reason, severity)
    except StorageFailure as error:
        yield _unreadable(file.path, error)
    progress(file.size)


def _unreadable(path: Path, error: StorageFailure) -> Finding:
    return Finding(path, 0, f"cannot {error.operation}: {error.reason}")


def _checkpointed(found: Survey) -> dict[tuple[str, int], list[tuple[Path, str, int]]]:
    """By partition: the offsets that its log must reach, what they are, and the file that says so."""
    limits: dict[tuple[str, int], list[tuple[Path, str, int]]] = {}
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
                limits.setdefault(key, []).append((path, what, offset))
    return limits


# ---------------------------------------------------------------------------------------------------------- partitions


def _verify_partition(
    partition: PartitionFiles, is_file: bool, tally: Tally, progress: Callable[[int], None]
) -> Iterator[Finding]:
    """Yields findings, and returns the log's end offset, None where there is no log to have one."""
    by_base: dict[int, dict[Kind, KnownFile]] = {}
    for file in partition.files:
        if file.kind in DECODERS:
            yield from _verify_small(file, tally, progress)
        else:
            by_base.setdefault(file.base_offset, {})[file.kind] = file
    end_offset: int | None = None
    last_base = max((base for base, kinds in by_base.items() if Kind.LOG in kinds), default=-1)
    for base_offset, kinds in sorted(by_base.items()):
        checks: list[IndexCheck] = []
        for kind, index_type, check_type in _INDEXES:
            path = partition.directory / f"{base_offset:020d}{_ENDINGS[kind]}"
            index_file = kinds.get(kind)
            if index_file is not None or (Kind.LOG in kinds and not is_file):
                path = index_file.path if index_file else path
                wrong, check = _load_index(index_type(path, base_offset, Caches(), True), check_type, index_file)
                checks += [check] if check else []
                tally.files += 1 if index_file else 0
                tally.size += index_file.size if index_file else 0
                progress(index_file.size if index_file else 0)
                yield from wrong
        log_file = kinds.get(Kind.LOG)
        if log_file is None:
            if not is_file:
                yield from (Finding(file.path, 0, "there is no .log that this index belongs to") for file in kinds.values())
            continue
        tally.files += 1
        if end_offset is not None and base_offset < end_offset:
            reason = f"the segment begins at offset {base_offset}, but the one before it ends at {end_offset}"
            yield Finding(log_file.path, 0, reason)
        is_last = base_offset == last_base
        ended_at = yield from _Log(log_file, base_offset, tuple(checks), tally, progress, is_last).findings()
        end_offset = max(ended_at, end_offset or 0)
    return end_offset


_INDEXES: tuple[tuple[Kind, type[SparseIndex], type[IndexCheck]], ...] = (
    (Kind.INDEX, OffsetIndex, OffsetIndexCheck),
    (Kind.TIME_INDEX, TimeIndex, TimeIndexCheck),
)
