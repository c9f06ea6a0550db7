"""Reading a source's partition past what cannot be read, where that is allowed, and noting what was passed over."""

from collections.abc import Iterator
from typing import NamedTuple

from logstore.client.copying.ends import Piece, Source
from logstore.errors import DamagedLog, OffsetGap, OffsetOutOfRange
from logstore.format.filename import TopicPartition


class Skipped(NamedTuple):
    """Offsets of the source, ``last`` included, that were not copied. ``is_damage``: else retention took them first."""

    first: int
    last: int
    reason: str
    is_damage: bool


class Reader:
    """Of one partition, up to ``end``; ``skips_damage``: else damage is raised. What has been let go by retention is
    always passed over: there is nothing left to do about it."""

    def __init__(self, source: Source, partition: TopicPartition, end: int, *, skips_damage: bool) -> None:
        self._source, self._partition, self.end = source, partition, end
        self._skips_damage = skips_damage
        self.skipped: list[Skipped] = []

    def pieces(self, offset: int) -> Iterator[Piece]:
        """From ``offset`` on, as ``Source.pieces``. Behind what was skipped comes a piece without records. Raises
        DamagedLog, OffsetGap."""
        while offset < self.end:
            try:
                for piece in self._source.pieces(self._partition, offset, self.end):
                    offset = piece.next_offset
                    yield piece
                return
            except OffsetGap as gap:
                offset = self._skip(offset, gap.last_offset + 1, gap)
            except DamagedLog as damage:
                offset = self._skip(offset, damage.next_offset, damage)
            except OffsetOutOfRange as error:
                if error.log_start_offset <= offset:
                    raise
                self._note(offset, min(error.log_start_offset, self.end), "retention took them first", False)
                offset = error.log_start_offset
            yield Piece(offset, 0)

    def _skip(self, offset: int, next_offset: int | None, error: DamagedLog | OffsetGap) -> int:
        if not self._skips_damage:
            raise error
        behind = self.end if next_offset is None else max(next_offset, offset + 1)
        self._note(offset, min(behind, self.end), str(error), True)
        return behind

    def _note(self, first: int, behind: int, reason: str, is_damage: bool) -> None:
        skipped = Skipped(first, behind - 1, reason, is_damage)
        if skipped not in self.skipped:
            self.skipped.append(skipped)

    def count(self, first: int, behind: int) -> int:
        """How many records can be read from ``first`` up to ``behind``."""
        count = 0
        for piece in Reader(self._source, self._partition, behind, skips_damage=True).pieces(first):
            if piece.next_offset > behind:
                return count + sum(record.offset < behind for record in piece.records())
            count += piece.count
        return count
