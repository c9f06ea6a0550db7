"""Walks a log file and yields what it finds: whole batches, and damage. Whoever reads a log that may be broken reads
it through here: recovery, verify, salvage, dump. Nothing is changed.

A batch is good when its header is plausible, it lies within the file, its CRC fits and its offsets follow those
before. Anything else is damage, which ends where the next good batch begins (found by looking at every position), or
at the end of the file. Damage up to the end is a *torn tail* if no good batch follows; zeros to the end are space that
was allocated and never written. In a log that nothing was compacted away from, missing offsets are damage too, of no
bytes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from logstore.errors import CorruptBatch, UnsupportedMagic
from logstore.format.batch import (
    FRAME_SIZE,
    HEADER_SIZE,
    MAGIC,
    MAGIC_POSITION,
    BatchHeader,
    RecordBatch,
    is_old_message,
    read_header,
)
from logstore.format.index_entry import RELATIVE_OFFSET_MAX
from logstore.storage.files import File

CHUNK_SIZE = 1 << 20


class LogBatch(NamedTuple):
    """A good batch and its position in the file."""

    position: int
    batch: RecordBatch


class Damage(NamedTuple):
    """Bytes that are no good batch: ``size`` of them from ``position``.

    ``next_offset`` is the base offset of the good batch that follows, None where none does: then it is a torn tail.
    ``is_zeros``: nothing but zeros, up to the end of the file. ``is_old``: it begins with a good message of format v0
    or v1, which is no damage but nothing that is read here.
    """

    position: int
    size: int
    reason: str
    expected_offset: int
    next_offset: int | None
    is_zeros: bool
    is_old: bool = False


class _Window:
    """A piece of the file in memory that moves along."""

    def __init__(self, file: File, end: int, max_offset: int, following_offset: int | None) -> None:
        self.file, self.end = file, end
        self.max_offset, self.following_offset = max_offset, following_offset
        self.start, self.data = 0, b""

    def at(self, position: int, size: int) -> int:
        """The index in ``data`` where ``position`` is, with ``size`` bytes behind it as far as the file has them."""
        if not (self.start <= position and position + size <= self.start + len(self.data)):
            self.start = position
            self.data = self.file.read_at(position, min(max(size, CHUNK_SIZE), self.end - position))
        return position - self.start


def scan(
    file: File,
    *,
    position: int = 0,
    end: int | None = None,
    expected_offset: int = 0,
    max_offset: int | None = None,
    following_offset: int | None = None,
    known_gaps: Sequence[tuple[int, int]] | None = None,
    check_crc: bool = True,
) -> Iterator[LogBatch | Damage]:
    """What lies from ``position`` to ``end`` (the file's end where None): batches of offsets from ``expected_offset``
    to ``max_offset``, by default the highest that a segment which may begin with ``expected_offset`` can hold.

    ``following_offset``: what comes behind ``end``, where that is known. ``known_gaps``: the offsets (first, last)
    that may be missing; None where any may."""
    size = file.size()
    if max_offset is None:
        max_offset = expected_offset + RELATIVE_OFFSET_MAX
    window = _Window(file, size if end is None else min(end, size), max_offset, following_offset)
    resumed_offset = 0  # what is missing before it was in the damage that was met
    while position < window.end:
        try:
            found = _read_batch(window, position, expected_offset, check_crc)
            _check_gap(window, position, found.header, expected_offset)
        except CorruptBatch as error:
            is_old = isinstance(error, UnsupportedMagic) and _is_old_message(window, position)
            damage = _measure_damage(window, position, expected_offset, error.reason)._replace(is_old=is_old)
            yield damage
            position += damage.size
            resumed_offset = damage.next_offset or 0
            continue
        base_offset = found.header.base_offset
        if known_gaps is not None and base_offset > expected_offset:
            yield from missing(position, max(expected_offset, resumed_offset), base_offset, known_gaps)
        yield LogBatch(position, found)
        position += found.header.size
        expected_offset = found.header.next_offset


def missing(
    position: int, first_offset: int, next_offset: int, known_gaps: Sequence[tuple[int, int]]
) -> Iterator[Damage]:
    """Damage of no bytes for the offsets from ``first_offset`` up to ``next_offset`` that are in no known gap."""
    for gap_first, gap_last in [*sorted(known_gaps), (next_offset, next_offset)]:
        if first_offset < min(gap_first, next_offset):
            end_offset = min(gap_first, next_offset)
            reason = f"offsets {first_offset} to {end_offset - 1} are in no batch"
            yield Damage(position, 0, reason, first_offset, end_offset, False)
        first_offset = max(first_offset, gap_last + 1)


def _read_batch(window: _Window, position: int, expected_offset: int, check_crc: bool) -> RecordBatch:
    left = window.end - position
    start = window.at(position, HEADER_SIZE)
    header = read_header(window.data, start)
    if header.size > left:
        raise CorruptBatch(f"a batch of {header.size} bytes is cut short after {left}", position)
    if header.last_offset > window.max_offset:
        raise CorruptBatch(f"last offset {header.last_offset} is above {window.max_offset}, the highest here", position)
    if header.base_offset < expected_offset:
        raise CorruptBatch(f"base offset {header.base_offset} is below {expected_offset}, which comes next", position)
    start = window.at(position, header.size)
    batch = RecordBatch(header, start, window.data)
    if check_crc:
        batch.check_crc()
    return batch


def _check_gap(window: _Window, position: int, header: BatchHeader, expected_offset: int) -> None:
    """Raises CorruptBatch for a batch behind a gap in the offsets that the next batch belongs into: then it is its own
    base offset, which no CRC covers, that is wrong."""
    if header.base_offset == expected_offset:
        return
    following_offset = window.following_offset
    if position + header.size < window.end:
        try:
            following = _read_batch(window, position + header.size, expected_offset, False)
            following_offset = following.header.base_offset
            if following_offset <= header.last_offset:
                following.check_crc()
        except CorruptBatch:
            return
    if following_offset is not None:
        check_follower(header.base_offset, header.last_offset, expected_offset, following_offset)


def check_follower(base_offset: int, last_offset: int, expected_offset: int, following_offset: int) -> None:
    """Raises CorruptBatch where a batch behind a gap that begins with ``expected_offset`` reaches up to, or beyond,
    what follows it, while that fits behind what is before the gap."""
    if expected_offset <= following_offset <= last_offset:
        reason = f"base offset {base_offset} is too high: its last offset {last_offset} is not below {following_offset}"
        raise CorruptBatch(f"{reason}, which follows it")


def _is_old_message(window: _Window, position: int) -> bool:
    start = window.at(position, min(CHUNK_SIZE, window.end - position))
    return is_old_message(window.data, start)


def _measure_damage(window: _Window, position: int, expected_offset: int, reason: str) -> Damage:
    if _is_zeros(window, position):
        return Damage(position, window.end - position, "nothing but zeros", expected_offset, None, True)
    resumed = _find_batch(window, position + 1, expected_offset)
    if resumed is not None:
        next_position, next_offset = resumed
        return Damage(position, next_position - position, reason, expected_offset, next_offset, False)
    return Damage(position, window.end - position, reason, expected_offset, None, False)


def _find_batch(window: _Window, position: int, expected_offset: int) -> tuple[int, int] | None:
    """Position and base offset of the first good batch from ``position`` on, at whatever position."""
    while window.end - position >= HEADER_SIZE:
        at = window.at(position, min(CHUNK_SIZE, window.end - position))
        for candidate in _candidates(window.data[at:], window.end - position, expected_offset):
            try:
                batch = _read_batch(window, position + candidate, expected_offset, True)
            except CorruptBatch:
                window.at(position, min(CHUNK_SIZE, window.end - position))
                continue
            return position + candidate, batch.header.base_offset
        position += max(1, len(window.data) - (position - window.start) - HEADER_SIZE + 1)
    return None


def _candidates(data: bytes, left: int, expected_offset: int) -> list[int]:
    """Where in ``data`` a batch may begin: by magic, and a length and offset that are possible."""
    octets = np.frombuffer(data, dtype=np.uint8)
    if len(octets) < HEADER_SIZE:
        return []
    starts = np.flatnonzero(octets[MAGIC_POSITION : len(octets) - HEADER_SIZE + MAGIC_POSITION + 1] == MAGIC)
    lengths = np.zeros(len(starts), dtype=np.int64)
    for index in range(8, 12):
        lengths = lengths << 8 | octets[starts + index]
    sizes = lengths + FRAME_SIZE
    fits = (sizes >= HEADER_SIZE) & (sizes <= left - starts)
    return [int(start) for start in starts[fits] if data[start] == 0]


def _is_zeros(window: _Window, position: int) -> bool:
    while position < window.end:
        data_position = window.file.next_data(position)
        if data_position is None or data_position >= window.end:
            return True
        position = max(position, data_position)
        at = window.at(position, min(CHUNK_SIZE, window.end - position))
        piece = window.data[at:]
        if piece.count(0) != len(piece):
            return False
        position += max(1, len(piece))
    return True
