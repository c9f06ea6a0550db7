"""Reading a queue's messages: ahead of who gets them one after the other, and here and there for those that come back.

What is read is kept decoded, a window of the log at a time. A message that cannot be read is ``Missing``: who asked for
it goes on behind. Not thread-safe: its queue is.
"""

from struct import error as StructError
from typing import NamedTuple

from logstore.errors import CorruptBatch, DamagedLog, OffsetGap
from logstore.format.batch import CRC_START, FRAME_SIZE, HEADER, HEADER_SIZE, MAGIC, RecordBatch
from logstore.format.checksum import crc32c
from logstore.format.queue_state import Outcome
from logstore.format.record import LONE_END, Record, lone_head, new_record
from logstore.storage.log_view import ReadableLog

_AHEAD_SIZE_MIN = 8 << 10
_AHEAD_SIZE_MAX = 256 << 10
_SINGLE_SIZE = 32 << 10
_KEPT_SIZE_MAX = 8 << 20


class Missing(NamedTuple):
    """There is no message, or none that can be read, at the offset asked for, nor before ``next_offset``."""

    next_offset: int
    outcome: Outcome
    reason: str


class _Window:
    """Records of consecutive offsets from ``first`` on."""

    __slots__ = ("first", "records")

    def __init__(self) -> None:
        self.first = 0
        self.records: list[Record] = []

    def find(self, offset: int) -> Record | None:
        index = offset - self.first
        return self.records[index] if 0 <= index < len(self.records) else None


class Reader:
    """See the module."""

    def __init__(self, log: ReadableLog) -> None:
        self._log = log
        self.ahead = _Window()
        self._single = _Window()
        self._ahead_size = _AHEAD_SIZE_MIN
        self._kept: dict[int, Record] = {}
        self._kept_size = 0

    def next(self, offset: int) -> Record | Missing:
        """The message at ``offset``, which the log has, and after which the next ones will be asked for. Raises
        StorageFailure, Closed, UnknownTopic."""
        ahead = self.ahead
        index = offset - ahead.first
        if 0 <= index < len(ahead.records):
            return ahead.records[index]
        is_on = index == len(ahead.records) > 0
        self._ahead_size = min(self._ahead_size * 2, _AHEAD_SIZE_MAX) if is_on else _AHEAD_SIZE_MIN
        return self._load(ahead, offset, self._ahead_size)

    def one(self, offset: int) -> Record | Missing:
        """The message at ``offset``, which the log has, or had. Raises as ``next`` does."""
        if self._kept and (kept := self._kept.pop(offset, None)) is not None:
            self._kept_size -= _size(kept)
            return kept
        found = self.ahead.find(offset) or self._single.find(offset)
        return found or self._load(self._single, offset, _SINGLE_SIZE)

    def keep(self, record: Record) -> None:
        """It will be asked for by ``one`` soon: keep it, if there is room."""
        if self._kept_size < _KEPT_SIZE_MAX:
            self._kept[record.offset] = record
            self._kept_size += _size(record)

    def forget(self) -> None:
        """What was kept is not wanted any more."""
        self._kept.clear()
        self._kept_size = 0

    def _load(self, window: _Window, offset: int, size: int) -> Record | Missing:
        log_start_offset = self._log.view.log_start_offset
        if offset < log_start_offset:
            return Missing(log_start_offset, Outcome.PURGED, "the log begins behind it")
        window.first, window.records = offset, []
        try:
            window.records = decode_run(self._log.read(offset, size).read(), offset)
        except (DamagedLog, OffsetGap, CorruptBatch):
            pass  # what it is, _examine finds out
        return window.records[0] if window.records else self._examine(window, offset)

    def _examine(self, window: _Window, offset: int) -> Record | Missing:
        """Nothing could be decoded at ``offset`` in a simple way: the log's own reader says why."""
        view = self._log.view
        next_offset: int | None
        behind = offset
        try:
            for batch in view.batches(offset):
                header = batch.header
                behind = header.next_offset
                if header.base_offset > offset:  # offsets that a log which was compacted does not have any more
                    return Missing(header.base_offset, Outcome.NO_MESSAGE, "the log has no such offset")
                if header.is_control:
                    return Missing(header.next_offset, Outcome.NO_MESSAGE, "it is a transaction's marker")
                records = [record for record in batch.records() if record.offset >= offset]
                if not records:
                    return Missing(header.next_offset, Outcome.NO_MESSAGE, "the log has no such offset")
                if records[0].offset > offset:
                    return Missing(records[0].offset, Outcome.NO_MESSAGE, "the log has no such offset")
                window.records = records[:1]
                return records[0]
            next_offset, reason = view.log_end_offset, "the log has no such offset"
        except OffsetGap as error:
            next_offset, reason = error.last_offset + 1, str(error)
        except DamagedLog as error:
            next_offset, reason = error.next_offset, str(error)
        except CorruptBatch as error:
            next_offset, reason = behind, str(error)
        if next_offset is None or next_offset <= offset:
            next_offset = view.log_end_offset
        return Missing(next_offset, Outcome.LOST, reason)


def _size(record: Record) -> int:
    return 200 + len(record.value or b"") + len(record.key or b"")


class _LoneHeads(dict[int, bytes]):
    """By the size of a batch's body: what stands before the value, if all it holds is one plain value."""

    def __missing__(self, body_size: int) -> bytes:
        for value_size in range(max(0, body_size - 16), body_size):
            head = lone_head(value_size)
            if len(head) + value_size + len(LONE_END) == body_size:
                break
        else:
            head = b"\xff"  # no record begins like this
        if len(self) < 4096:
            self[body_size] = head
        return head


_LONE_HEADS = _LoneHeads()


def decode_run(data: bytes, offset: int) -> list[Record]:
    """The records of consecutive offsets from ``offset`` on, up to what is not whole, not in order, no message, or not
    right: who goes on there is told. ``data`` begins with the batch that holds ``offset``."""
    records: list[Record] = []
    found = records.append
    octets = memoryview(data)
    unpack = HEADER.unpack_from
    size = len(data)
    position = 0
    expected_offset = offset
    while position + HEADER_SIZE <= size:
        try:
            fields = unpack(data, position)
        except StructError:
            break
        base_offset, batch_length, _, magic, crc, attributes, _, base_timestamp = fields[:8]
        end = position + FRAME_SIZE + batch_length
        if magic != MAGIC or batch_length < HEADER_SIZE - FRAME_SIZE or end > size:
            break
        if crc32c(octets[position + CRC_START : end]) != crc:
            break
        start = position + HEADER_SIZE
        if fields[12] == 1 and not attributes and base_offset == expected_offset and not fields[6]:
            head = _LONE_HEADS[end - start]
            value_at = start + len(head)
            if data[start:value_at] == head and data[end - 1] == 0:
                found(new_record((base_offset, base_timestamp, None, data[value_at : end - 1], ())))
                expected_offset += 1
                position = end
                continue
        batch = RecordBatch.at(data, position)
        if batch.header.is_control or batch.header.base_offset > expected_offset:
            break
        for record in batch.records():
            if record.offset == expected_offset:
                found(record)
                expected_offset += 1
            elif record.offset > expected_offset:
                return records
        position = end
    return records
