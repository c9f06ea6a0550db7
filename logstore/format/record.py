"""Records inside a batch of message format v2: values <-> bytes.

A batch's body, once decompressed, is its records one after the other::

    length varint | attributes int8 = 0 | timestamp_delta varint | offset_delta varint
    | key_length varint | key | value_length varint | value | header_count varint
    | header_count x ( key_length varint | key (UTF-8) | value_length varint | value )

All varints are zigzag; a length of -1 stands for null (a header's key cannot be null). Nothing here has a checksum of
its own: the batch's CRC covers the body as it is stored, compressed or not.

Python pays for each step it takes a record, so neither direction takes many: the encoder of plain values assembles
cached pieces with ``map`` and one ``join``; the decoder of larger batches reads one field of all records at a time with
numpy. Both have a general, record-by-record form for the rest, and tests hold the two to the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from logstore.errors import CorruptBatch, InvalidRecord
from logstore.format.varint import decode_varint, encode_varint

Buffer = bytes | bytearray | memoryview
Headers = tuple[tuple[str, bytes | None], ...]
Int64Array = npt.NDArray[np.int64]

# Below this many records numpy's cost a call outweighs what it saves a record.
COLUMNS_RECORD_COUNT_MIN = 24
_RUN_MAX = 256  # records of one size that are looked for at once: what a run that ends at once may waste
# What a varint of one byte stands for.
_SHORT_VARINTS = np.array([number >> 1 ^ -(number & 1) for number in range(128)], dtype=np.int64)
OFFSET_DELTA_MAX = 0x7FFFFFFF  # the batch's last_offset_delta is an int32
# Lengths up to this keep their encoded heads cached; longer values are too few and too many-sized to gain from it.
CACHED_LENGTH_MAX = 4096


class Record(NamedTuple):
    """One record: its place in the partition, when it was made (ms since 1970), and what it carries."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


new_record: Callable[[tuple[Any, ...]], Record] = partial(tuple.__new__, Record)


# ------------------------------------------------------------------------------------------------------------- encode


class _Cache(dict[int, bytes]):
    """A table of encoded integers that fills itself, up to a bound."""

    def __init__(self, encode: Callable[[int], bytes]) -> None:
        self.encode = encode

    def __missing__(self, number: int) -> bytes:
        encoded = self.encode(number)
        if number <= CACHED_LENGTH_MAX:
            self[number] = encoded
        return encoded


def _head_encoder(offset_delta_size: int) -> Callable[[int], bytes]:
    def head(value_length: int) -> bytes:
        length = 1 + 1 + offset_delta_size + 1 + len(encode_varint(value_length)) + value_length + 1
        # The record before ends with its header count, zero; then this one's length, attributes and timestamp delta.
        return b"\0" + encode_varint(length) + b"\0\0"

    return head


_BYTES_ONLY = {bytes}
_LENGTHS = _Cache(encode_varint)
# Offset deltas of one, two, … bytes: (first delta that is longer, heads by value length).
_HEADS = [(1 << (7 * size - 1), _Cache(_head_encoder(size))) for size in range(1, 6)]
_NULL = b"\x01"  # the varint of -1
# What a lone record without key begins with, up to its value, by value length.
_LONE_HEADS = _Cache(lambda length: _HEADS[0][1][length][1:] + b"\0" + _NULL + encode_varint(length))
_DELTAS = [encode_varint(delta) + _NULL for delta in range(1024)]
# From so many records on, values that all have one length are taken to be so by nature, and not by chance.
_EQUAL_COUNT_MIN = 16


def only_bytes(values: Iterable[object]) -> bool:
    """Whether all values are plain bytes: no null, and nothing whose length may count something else than bytes."""
    return set(map(type, values)) == _BYTES_ONLY


def encode_values(values: Sequence[bytes]) -> bytes:
    """A body of records that have a value only: no key, no headers, all at the batch's base timestamp."""
    count = len(values)
    if count == 1:
        return lone_head(len(values[0])) + values[0] + b"\0"
    lengths = list(map(len, values))
    if _EQUAL_COUNT_MIN <= count <= len(_DELTAS) and lengths.count(lengths[0]) == count:
        return _encode_equal(values, lengths[0])
    deltas = _DELTAS
    if count > len(deltas):
        deltas = deltas + [encode_varint(delta) + _NULL for delta in range(len(deltas), count)]
    pieces: list[Buffer] = [b""] * (4 * count + 1)
    begin = 0
    for delta_limit, heads in _HEADS:
        end = min(delta_limit, count)
        pieces[4 * begin : 4 * end : 4] = map(heads.__getitem__, lengths[begin:end])
        begin = end
        if end == count:
            break
    pieces[1 : 4 * count : 4] = deltas[:count]
    pieces[2 : 4 * count : 4] = map(_LENGTHS.__getitem__, lengths)
    pieces[3 : 4 * count : 4] = values
    pieces[0] = pieces[0][1:]
    pieces[-1] = b"\0"
    return b"".join(pieces)


def lone_head(value_length: int) -> bytes:
    """What stands before the value in a body of one such record; behind it, a zero ends the record."""
    return _LONE_HEADS[value_length]


def _encode_equal(values: Sequence[bytes], length: int) -> bytes:
    """``encode_values`` of values of one length: what stands between them is the same in each such batch."""
    count = len(values)
    pieces = [b"\0"] * (2 * count + 1)
    pieces[: 2 * count : 2] = _heads_of_equal(length, 1 << (count - 1).bit_length())[:count]
    pieces[1::2] = values
    pieces[0] = pieces[0][1:]
    return b"".join(pieces)


@lru_cache(maxsize=32)
def _heads_of_equal(length: int, count: int) -> list[bytes]:
    """All that stands before each value of ``length``, the end of the record before it included."""
    encoded_length = encode_varint(length)
    short, long = (heads[length] for _, heads in _HEADS[:2])
    limit = _HEADS[0][0]
    return [(short if delta < limit else long) + _DELTAS[delta] + encoded_length for delta in range(count)]


def encode_records(
    records: Iterable[tuple[int, int, Buffer | None, Buffer | None, Iterable[tuple[str, Any]]]],
) -> bytes:
    """A body of any records, given as (offset delta, timestamp delta, key, value, headers). Raises InvalidRecord."""
    pieces: list[bytes] = []
    for offset_delta, timestamp_delta, key, value, headers in records:
        head = b"\0" + encode_varint(timestamp_delta) + encode_varint(offset_delta) + _encode_bytes("key", key)
        value_field = _encode_bytes("value", value)
        tail = _encode_headers(headers) if headers else b"\0"
        pieces += (encode_varint(len(head) + len(value_field) + len(tail)), head, value_field, tail)
    return b"".join(pieces)


def _encode_bytes(name: str, value: Buffer | None) -> bytes:
    if value is None:
        return _NULL
    if type(value) is not bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise InvalidRecord(f"a {name} is bytes or None, not {type(value).__name__}; encode it first")
        value = bytes(value)
    return _LENGTHS[len(value)] + value


def _encode_headers(headers: Iterable[tuple[str, Buffer | None]]) -> bytes:
    pieces: list[bytes] = []
    try:
        for key, value in headers:
            pieces += (_encode_bytes("header key", key.encode()), _encode_bytes("header value", value))
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidRecord(f"headers are pairs of a str and bytes or None: {error}") from None
    return encode_varint(len(pieces) // 2) + b"".join(pieces)


# ------------------------------------------------------------------------------------------------------------- decode


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
        record, position = _decode_record(body, position, base_offset, base_timestamp, append_time)
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
    record, position = _decode_record(body, position, base_offset, base_timestamp, append_time)
    yield record
    left = record_count - first - 1
    yield from decode_records(body[position:], left, base_offset, base_timestamp, append_time)


def _decode_record(
    body: bytes, position: int, base_offset: int, base_timestamp: int, append_time: int | None
) -> tuple[Record, int]:
    length, start = decode_varint(body, position)
    end = start + length
    if length < 6 or end > len(body):
        raise CorruptBatch(f"a record of {length} bytes does not fit the {len(body) - start} that are left", position)
    timestamp_delta, at = decode_varint(body, start + 1)
    offset_delta, at = decode_varint(body, at)
    key, at = _decode_bytes(body, at, end)
    value, at = _decode_bytes(body, at, end)
    headers: Headers = ()
    if at < end and body[at] == 0:
        at += 1
    else:
        headers, at = _decode_headers(body, at, end)
    if at != end:
        raise CorruptBatch("a record's fields do not add up to its length", position)
    if not 0 <= offset_delta <= OFFSET_DELTA_MAX:
        raise CorruptBatch(f"a record's offset delta is {offset_delta}", position)
    timestamp = base_timestamp + timestamp_delta if append_time is None else append_time
    if not -1 << 63 <= timestamp < 1 << 63:
        raise CorruptBatch(f"a record's timestamp {timestamp} does not fit 64 bits", position)
    return new_record((base_offset + offset_delta, timestamp, key, value, headers)), end


def _decode_bytes(body: bytes, position: int, end: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(body, position)
    if length == -1:
        return None, at
    if length < 0 or at + length > end:
        raise CorruptBatch(f"a field of {length} bytes does not fit its record", position)
    return body[at : at + length], at + length


def _decode_headers(body: bytes, position: int, end: int) -> tuple[Headers, int]:
    count, at = decode_varint(body, position)
    if count < 0 or count > end - at:
        raise CorruptBatch(f"a record cannot hold {count} headers", position)
    headers = []
    for _ in range(count):
        name, after_name = _decode_bytes(body, at, end)
        if name is None:
            raise CorruptBatch("a header's key is null", at)
        try:
            key = name.decode()
        except UnicodeDecodeError as error:
            raise CorruptBatch(f"a header's key is not UTF-8: {error.reason}", at) from None
        value, at = _decode_bytes(body, after_name, end)
        headers.append((key, value))
    return tuple(headers), at


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
            headers[index], at = _decode_headers(self.body, int(self.header_positions[index]), end)
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
