"""The records of a batch's body, decoded: few of them one by one, many a field of all records at a time, with numpy.

The bytes are drawn in ``record``. Only where each record begins must be read record after record, since its length
stands before it; the fields of all records are then columns. Tests hold both forms to the same records and refusals.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from logstore.errors import CorruptBatch
from logstore.format.record import OFFSET_DELTA_MAX, Buffer, Headers, Record, decode_headers, decode_record
from logstore.format.varint import decode_varint

Int64Array = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]

# Below this many records numpy's cost a call outweighs what it saves a record.
COLUMNS_RECORD_COUNT_MIN = 24
# How many records of one size are looked for at once, which may be in vain, and how many are passed before.
_RUN_MAX, _RUN_MIN = 256, 16
# What a varint of one byte stands for.
_SHORT_VARINTS = np.array([number >> 1 ^ -(number & 1) for number in range(128)], dtype=np.int64)


def decode_records(
    body: bytes, record_count: int, base_offset: int, base_timestamp: int, append_time: int | None
) -> list[Record]:
    """All records of a decompressed body. ``append_time`` (ms) stands for every timestamp, where the log set it.

    Raises CorruptBatch where the body is not exactly ``record_count`` well-formed records.
    """
    if record_count >= COLUMNS_RECORD_COUNT_MIN:
        return decode_columns(body, record_count, base_offset, base_timestamp, append_time).records()
    records = []
    position = 0
    for _ in range(record_count):
        record, position = decode_record(body, position, base_offset, base_timestamp, append_time)
        records.append(record)
    if position != len(body):
        raise CorruptBatch(f"{len(body) - position} bytes follow the last of {record_count} records", position)
    return records


def iterate_records(
    body: bytes, record_count: int, base_offset: int, base_timestamp: int, append_time: int | None, first: int = 0
) -> Iterator[Record]:
    """The records from number ``first`` on: that one decoded alone, for readers that want no more, and the others
    together once a second one is asked for. Raises CorruptBatch as ``decode_records``, for what it decodes."""
    if first >= record_count:
        return
    position = int(record_bounds(body, first)[-1])
    record, position = decode_record(body, position, base_offset, base_timestamp, append_time)
    yield record
    left = record_count - first - 1
    yield from decode_records(body[position:], left, base_offset, base_timestamp, append_time)


class RecordColumns(NamedTuple):
    """A batch's records as columns: numpy int64 arrays of one length, and the body that the spans point into.

    ``key_lengths`` and ``value_lengths`` are -1 for null; a record's value is
    ``body[value_positions[i] : value_positions[i] + value_lengths[i]]``.
    """

    body: bytes
    offsets: Int64Array
    timestamps_ms: Int64Array
    key_positions: Int64Array
    key_lengths: Int64Array
    value_positions: Int64Array
    value_lengths: Int64Array
    header_positions: Int64Array
    ends: Int64Array

    def keys(self) -> list[bytes | None]:
        return _slices(self.body, self.key_positions, self.key_lengths)

    def values(self) -> list[bytes | None]:
        return _slices(self.body, self.value_positions, self.value_lengths)

    def headers(self) -> list[Headers]:
        """Raises CorruptBatch where headers are malformed."""
        headers: list[Headers] = [()] * len(self.offsets)
        for index in np.flatnonzero(self.header_positions + 1 != self.ends).tolist():
            end = int(self.ends[index])
            headers[index], at = decode_headers(self.body, int(self.header_positions[index]), end)
            if at != end:
                raise CorruptBatch("a record's fields do not add up to its length", at)
        return headers

    def records(self) -> list[Record]:
        """Raises CorruptBatch where headers are malformed."""
        keys = repeat(None) if (self.key_lengths < 0).all() else self.keys()
        columns = zip(self.offsets.tolist(), self.timestamps_ms.tolist(), keys, self.values(), self.headers())
        return list(map(tuple.__new__, repeat(Record), columns))


def decode_columns(
    body: bytes, record_count: int, base_offset: int, base_timestamp: int, append_time: int | None
) -> RecordColumns:
    """Where the records' fields lie, without touching keys, values and headers. Raises CorruptBatch like
    decode_records, but for headers, which are looked at when they are asked for."""
    bounds = record_bounds(body, record_count)
    if bounds[-1] != len(body):
        end = int(bounds[-1])
        raise CorruptBatch(f"{len(body) - end} bytes follow the last of {record_count} records", end)
    fields = decode_fields(np.frombuffer(body, dtype=np.uint8), bounds)
    offset_deltas, timestamp_deltas = fields.offset_deltas, fields.timestamp_deltas
    if ((offset_deltas < 0) | (offset_deltas > OFFSET_DELTA_MAX)).any():
        raise CorruptBatch("a record's offset delta is negative or too large")
    if append_time is not None:
        timestamps = np.full(record_count, append_time, dtype=np.int64)
    else:
        timestamps = base_timestamp + timestamp_deltas
        if ((timestamps < base_timestamp) != (timestamp_deltas < 0)).any():
            raise CorruptBatch("a record's timestamp does not fit 64 bits")
    return RecordColumns(body, base_offset + offset_deltas, timestamps, *fields[2:])


class Fields(NamedTuple):
    """What stands in records, a column a field; positions are those in the body."""

    timestamp_deltas: Int64Array
    offset_deltas: Int64Array
    key_positions: Int64Array
    key_lengths: Int64Array
    value_positions: Int64Array
    value_lengths: Int64Array
    header_positions: Int64Array
    ends: Int64Array


def decode_fields(octets: Octets, bounds: Int64Array) -> Fields:
    """The fields of the records that begin and end at ``bounds``. Raises CorruptBatch where they do not add up to their
    records; headers are not looked at."""
    ends = bounds[1:]
    try:
        starts = _after_varints(octets, bounds[:-1])
        timestamp_deltas, at = _varints(octets, starts + 1)
        offset_deltas, at = _varints(octets, at)
        key_lengths, key_positions = _varints(octets, at)
        at = _skip(octets, key_positions, key_lengths)
        value_lengths, value_positions = _varints(octets, at)
        header_positions = _skip(octets, value_positions, value_lengths)
        header_counts = octets[header_positions]
    except IndexError:
        raise CorruptBatch("a record runs past the end of its batch") from None
    # No field ends before it begins, so that all lie within their records if the last ones do.
    left = ends - header_positions
    if ((left < 1) | ((header_counts == 0) != (left == 1))).any():
        raise CorruptBatch("a record's fields do not add up to its length")
    return Fields(
        *(timestamp_deltas, offset_deltas, key_positions, key_lengths),
        *(value_positions, value_lengths, header_positions, ends),
    )


def record_bounds(body: Buffer, record_count: int, position: int = 0) -> Int64Array:
    """Where each of ``record_count`` records from ``position`` on begins, length included, and where the last of them
    ends. Raises CorruptBatch where the body ends before they do.

    This is the one thing that must be read record after record.
    """
    bounds = [position]
    found = bounds.append
    size = len(body)
    left = record_count
    try:
        while left > 0:
            for _ in range(min(_RUN_MIN, left)):
                low = body[position]
                if low < 0x80:
                    position += 1 + (low >> 1)
                elif (high := body[position + 1]) < 0x80:
                    position += (low >> 1) + (high << 6) - 62  # (low & 0x7F | high << 7) >> 1, and 2 of its own
                else:
                    length, position = decode_varint(body, position)
                    position += max(0, length)
                found(position)
            left -= _RUN_MIN
            if left > 0 and bounds[-2] - bounds[-3] == position - bounds[-2]:
                run = _run(body, bounds[-2], position, left)
                bounds += run
                left -= len(run)
                position = bounds[-1]
    except IndexError:
        raise CorruptBatch(f"the batch ends before its {record_count} records do", size) from None
    if position > size:
        raise CorruptBatch("a record's length does not fit its batch", position)
    found_bounds = np.fromiter(bounds, np.int64, len(bounds))
    if (np.frombuffer(body, dtype=np.uint8)[found_bounds[:-1]] & 1).any():  # a length's sign
        raise CorruptBatch("a record's length is negative")
    return found_bounds


def _run(body: Buffer, start: int, position: int, count: int) -> range:
    """The ends of records that follow the one from ``start`` to ``position``, and have its size. They come in runs,
    which are found at once: where the next one's length is the same two bytes, so is its size, and so on."""
    step = position - start
    stop = start + min(_RUN_MAX, count + 1, (len(body) - start) // step) * step
    if stop <= position or (body[start] >= 0x80 and body[start + 1] >= 0x80):
        return range(0)
    length = min(_equal_prefix(body[start:stop:step]), _equal_prefix(body[start + 1 : stop : step]))
    return range(position + step, start + length * step + 1, step)


def _equal_prefix(octets: Buffer) -> int:
    """How many octets at the beginning are the same."""
    octets = bytes(octets)
    return len(octets) - len(octets.lstrip(octets[:1]))


def _varints(octets: Octets, positions: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The varints that begin at ``positions``, and the positions behind them."""
    octet = octets[positions]
    positions = positions + 1
    if octet.tobytes().isascii():  # the quickest way to see that none is long
        return _SHORT_VARINTS[octet], positions
    is_long = octet >= 0x80
    # The second octet of all: whole columns are cheaper than a choice of rows. The last octet has none behind it.
    second = octets.take(positions, mode="clip") * is_long
    positions += is_long
    if second.tobytes().isascii():
        numbers = (octet & 0x7F) | second.astype(np.int64) << 7
        return numbers >> 1 ^ -(numbers & 1), positions
    numbers = (octet & 0x7F) | (second & 0x7F).astype(np.int64) << 7
    longer = np.flatnonzero(second >= 0x80)
    shift = 14
    while longer.size:
        octet = octets[positions[longer]]
        if shift == 63 and (octet > 1).any():
            raise CorruptBatch("a varint is longer than 64 bits")
        numbers[longer] |= (octet & 0x7F).astype(np.int64) << shift
        positions[longer] += 1
        longer = longer[octet >= 0x80]
        shift += 7
    # Zigzag, on the unsigned value: an arithmetic shift would drag the sign bit down.
    return (numbers.view(np.uint64) >> np.uint64(1)).view(np.int64) ^ -(numbers & 1), positions


def _after_varints(octets: Octets, positions: Int64Array) -> Int64Array:
    """The positions behind the varints, known to be good, that begin at ``positions``."""
    octet = octets[positions]
    positions = positions + 1
    while not octet.tobytes().isascii():
        positions += octet >= 0x80
        octet = octets.take(positions - 1, mode="clip") * (octet >= 0x80)
    return positions


def _skip(octets: Octets, positions: Int64Array, lengths: Int64Array) -> Int64Array:
    """Behind keys or values. Raises CorruptBatch for a length below null's, or one with which positions could wrap."""
    lowest = int(lengths.min()) if lengths.size else 0
    if lowest < -1 or (lengths > len(octets)).any():
        raise CorruptBatch("a key or value does not fit its record")
    return positions + lengths if lowest >= 0 else positions + np.maximum(lengths, 0)


def _slices(body: bytes, positions: Int64Array, lengths: Int64Array) -> list[bytes | None]:
    pieces: list[bytes | None] = [body[a:b] for a, b in zip(positions.tolist(), (positions + lengths).tolist())]
    for index in np.flatnonzero(lengths < 0).tolist():
        pieces[index] = None
    return pieces
