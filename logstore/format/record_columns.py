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
from logstore.format.record import OFFSET_DELTA_MAX, Headers, Record, decode_headers, decode_record
from logstore.format.varint import decode_varint

Int64Array = npt.NDArray[np.int64]

# Below this many records numpy's cost a call outweighs what it saves a record.
COLUMNS_RECORD_COUNT_MIN = 24
_RUN_MAX = 256  # records of one size that are looked for at once: what a run that ends at once may waste
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
    position = _record_bounds(body, first)[-1]
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
    bounds = np.fromiter(_record_bounds(body, record_count), np.int64, record_count + 1)
    if bounds[-1] != len(body):
        end = int(bounds[-1])
        raise CorruptBatch(f"{len(body) - end} bytes follow the last of {record_count} records", end)
    octets = np.frombuffer(body, dtype=np.uint8)
    ends = bounds[1:]
    try:
        _, starts = _varints(octets, bounds[:-1])
        timestamp_deltas, at = _varints(octets, starts + 1)
        offset_deltas, at = _varints(octets, at)
        key_lengths, key_positions = _varints(octets, at)
        at = _skip(key_positions, key_lengths, ends)
        value_lengths, value_positions = _varints(octets, at)
        header_positions = _skip(value_positions, value_lengths, ends)
        header_counts = octets[header_positions]
    except IndexError:
        raise CorruptBatch("a record runs past the end of its batch") from None
    if ((header_positions >= ends) | ((header_counts == 0) != (header_positions + 1 == ends))).any():
        raise CorruptBatch("a record's fields do not add up to its length")
    if ((offset_deltas < 0) | (offset_deltas > OFFSET_DELTA_MAX)).any():
        raise CorruptBatch("a record's offset delta is negative or too large")
    if append_time is not None:
        timestamps = np.full(record_count, append_time, dtype=np.int64)
    else:
        timestamps = base_timestamp + timestamp_deltas
        if ((timestamps < base_timestamp) != (timestamp_deltas < 0)).any():
            raise CorruptBatch("a record's timestamp does not fit 64 bits")
    return RecordColumns(
        body,
        base_offset + offset_deltas,
        timestamps,
        key_positions,
        key_lengths,
        value_positions,
        value_lengths,
        header_positions,
        ends,
    )


def _record_bounds(body: bytes, record_count: int) -> list[int]:
    """Where each of the first ``record_count`` records begins, length included, and where the last of them ends.

    This is the one thing that must be read record after record.
    """
    bounds = [0]
    found = bounds.append
    position = before = 0
    size = len(body)
    try:
        while len(bounds) <= record_count:
            low = body[position]
            if low < 0x80:
                step = 1 + (low >> 1)
            elif (high := body[position + 1]) < 0x80:
                step = (low >> 1) + (high << 6) - 62  # (low & 0x7F | high << 7) >> 1, and 2 of its own
            else:
                length, start = decode_varint(body, position)
                step, before = start - position + length, 0  # no run: the first two bytes do not tell the size
            if low & 1 or position + step > size:  # the lowest bit is the sign
                raise CorruptBatch("a record's length does not fit its batch", position)
            if step == before:
                # Records of one size come in runs, which are found at once: where the next one's length is the same
                # two bytes, so is its size, and so on.
                stop = position + min(_RUN_MAX, record_count + 1 - len(bounds)) * step
                run = min(_equal_prefix(body[position:stop:step]), _equal_prefix(body[position + 1 : stop : step]))
                end = min(position + run * step, position + (size - position) // step * step)
                bounds += range(position + step, end + 1, step)
                position, before = end, 0
            else:
                position, before = position + step, step
                found(position)
    except IndexError:
        raise CorruptBatch(f"the batch ends before its {record_count} records do", size) from None
    return bounds


def _equal_prefix(octets: bytes) -> int:
    """How many octets at the beginning are the same."""
    return len(octets) - len(octets.lstrip(octets[:1]))


def _varints(octets: npt.NDArray[np.uint8], positions: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The varints that begin at ``positions``, and the positions behind them."""
    octet = octets[positions]
    positions = positions + 1
    is_long = octet >= 0x80
    if not is_long.any():
        return _SHORT_VARINTS[octet], positions
    # The second octet of all: whole columns are cheaper than a choice of rows. The last octet has none behind it.
    second = octets.take(positions, mode="clip")
    numbers = (octet & 0x7F).astype(np.int64) | (second & 0x7F).astype(np.int64) * is_long << 7
    longer = np.flatnonzero(is_long & (second >= 0x80))
    positions += is_long
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


def _skip(positions: Int64Array, lengths: Int64Array, ends: Int64Array) -> Int64Array:
    if ((lengths < -1) | (lengths > ends - positions)).any():
        raise CorruptBatch("a key or value does not fit its record")
    return positions + np.maximum(lengths, 0)


def _slices(body: bytes, positions: Int64Array, lengths: Int64Array) -> list[bytes | None]:
    pieces: list[bytes | None] = [body[a:b] for a, b in zip(positions.tolist(), (positions + lengths).tolist())]
    for index in np.flatnonzero(lengths < 0).tolist():
        pieces[index] = None
    return pieces
