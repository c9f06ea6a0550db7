"""Whether records that somebody else encoded can be read, and count up their offsets, without making objects of them.

A broker must know this of every batch before it stores it. One or a few records are looked at straight through; that
look knows what producers write, and leaves all else, such as padded varints, to the columns of ``record_columns``,
which tell what is wrong, if anything is. Of many records the columns are made a part at a time: a compressed body of a
few KiB may hold millions. Tests hold both to what the decoder of single records says.

The bytes are drawn in ``record``.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from logstore.errors import CorruptBatch
from logstore.format.record import RECORD_SIZE_MIN, Buffer
from logstore.format.record_columns import Fields, decode_fields, record_bounds
from logstore.format.varint import decode_varint

_FEW = 40  # above, numpy's cost a call is less than what it saves; below 64 an offset delta has one byte
_PART = 1 << 14  # records whose columns are made at once
_NULL = 1  # the varint of -1


class RecordFacts(NamedTuple):
    """What admission asks of the records of a batch, once they are known to be right."""

    oldest_delta_ms: int
    newest_delta_ms: int
    has_null_key: bool


_new_facts: Callable[[tuple[int, int, bool]], RecordFacts] = partial(tuple.__new__, RecordFacts)


def check_records(body: Buffer, start: int, end: int, record_count: int) -> RecordFacts:
    """The facts of the records in ``body`` from ``start`` to ``end``. Raises CorruptBatch where these are not exactly
    ``record_count`` (one or more) well-formed records at the offset deltas 0, 1, 2 …"""
    if 0 < record_count <= _FEW:
        facts = _look_through(body, start, end, record_count)
        if facts is not None:
            return facts
    if not 0 < record_count <= (end - start) // RECORD_SIZE_MIN:
        raise CorruptBatch(f"{end - start} bytes cannot hold {record_count} records")
    return _check_columns(memoryview(body)[start:end], record_count)


def _look_through(body: Buffer, at: int, end: int, record_count: int) -> RecordFacts | None:
    """None where this does not tell. Nothing is held against ``end`` on the way: a field that runs too far makes its
    record end elsewhere than its length says."""
    oldest = newest = 0
    has_null_key = False
    try:
        for number in range(record_count):
            low = body[at]
            if low < 0x80:
                record_end = at + 1 + (low >> 1)
                at += 2  # past the attributes too, which mean nothing
            elif (high := body[at + 1]) < 0x80:
                record_end = (
                    at + 2 + (low >> 1) + (high << 6) - 64
                )  # (low & 0x7F | high << 7) >> 1, behind its two bytes
                at += 3
            else:
                size, following = decode_varint(body, at)
                record_end = following + size
                at = following + 1
            if low & 1:  # the lowest bit is the sign
                return None
            delta = body[at]
            at += 1
            if delta:
                delta, at = decode_varint(body, at - 1)
            if not number:
                oldest = newest = delta
            elif delta > newest:
                newest = delta
            elif delta < oldest:
                oldest = delta
            if body[at] != number << 1:
                return None
            at += 1
            key_size = body[at]
            if key_size == _NULL:
                has_null_key = True
                at += 1
            elif key_size & 1:  # a padded null, if anything
                return None
            else:
                at = _after_bytes(body, at)
            at = _after_bytes(body, at)
            at = at + 1 if not body[at] else _after_headers(body, at, end)
            if at != record_end:
                return None
    except (CorruptBatch, IndexError, UnicodeDecodeError):
        return None
    return _new_facts((oldest, newest, has_null_key)) if at == end else None


def _after_bytes(body: Buffer, at: int) -> int:
    """Where a key or value that begins at ``at`` ends, or should. Raises CorruptBatch for a size that none has."""
    low = body[at]
    if not low & 1:  # the sign
        if low < 0x80:
            return at + 1 + (low >> 1)
        if (high := body[at + 1]) < 0x80:
            return at + 2 + (low >> 1) + (high << 6) - 64  # as above
    size, at = decode_varint(body, at)
    if size < -1:
        raise CorruptBatch(f"a field of {size} bytes", at)
    return at + size if size > 0 else at


def _after_headers(body: Buffer, at: int, end: int) -> int:
    """Where headers that begin at ``at`` end, or should. Raises CorruptBatch, IndexError, UnicodeDecodeError."""
    count, at = decode_varint(body, at)
    if not 0 <= count <= end - at:
        raise CorruptBatch(f"a record cannot hold {count} headers", at)
    for _ in range(count):
        size, at = decode_varint(body, at)
        if not 0 <= size <= end - at:
            raise CorruptBatch(f"a header's key of {size} bytes does not fit its record", at)
        str(body[at : at + size], "utf-8")
        at = _after_bytes(body, at + size)
    return at


def _check_columns(body: memoryview, record_count: int) -> RecordFacts:
    octets = np.frombuffer(body, dtype=np.uint8)
    oldest = newest = number = position = 0
    has_null_key = False
    while number < record_count:
        count = min(_PART, record_count - number)
        bounds = record_bounds(body, count, position)
        fields = decode_fields(octets, bounds)
        if fields.offset_deltas.tobytes() != np.arange(number, number + count).tobytes():
            raise CorruptBatch(f"the records do not fill offsets 0 to {record_count - 1}", position)
        _check_headers(body, fields)
        times = fields.timestamp_deltas
        first, last = int(times.min()), int(times.max())
        oldest, newest = (min(oldest, first), max(newest, last)) if number else (first, last)
        has_null_key = has_null_key or int(fields.key_lengths.min()) < 0
        number += count
        position = int(bounds[-1])
    if position != len(body):
        raise CorruptBatch(f"{len(body) - position} bytes follow the last of {record_count} records", position)
    return _new_facts((oldest, newest, has_null_key))


def _check_headers(body: memoryview, fields: Fields) -> None:
    """Raises CorruptBatch. The headers of many records are mostly alike, and looked at once."""
    has_headers = np.flatnonzero(fields.header_positions + 1 != fields.ends)
    bounds = zip(fields.header_positions[has_headers].tolist(), fields.ends[has_headers].tolist())
    for headers in {body[start:end].tobytes() for start, end in bounds}:
        try:
            is_right = _after_headers(headers, 0, len(headers)) == len(headers)
        except (IndexError, UnicodeDecodeError):
            is_right = False
        if not is_right:
            raise CorruptBatch("a record's headers are malformed")
