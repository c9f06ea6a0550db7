"""What a check found: the words and places that verify, dump and reindex report."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from logstore.errors import StorageFailure
from logstore.storage.scan import Damage


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


def unreadable(path: Path, error: StorageFailure) -> Finding:
    """A file that the operating system does not let us read."""
    return Finding(path, 0, f"cannot {error.operation}: {error.reason}")


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
