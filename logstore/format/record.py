"""Records inside a batch of message format v2: values <-> bytes.

A batch's body, once decompressed, is its records one after the other::

    length varint | attributes int8 = 0 | timestamp_delta varint | offset_delta varint
    | key_length varint | key | value_length varint | value | header_count varint
    | header_count x ( key_length varint | key (UTF-8) | value_length varint | value )

All varints are zigzag; a length of -1 stands for null (a header's key cannot be null). Nothing here has a checksum of
its own: the batch's CRC covers the body as it is stored, compressed or not.

Python pays for each step it takes a record, so neither direction takes many: the encoder of plain values assembles
cached pieces with ``map`` and one ``join``; the decoder of larger batches (``record_columns``) reads one field of all
records at a time. Both have a general, record-by-record form for the rest, and tests hold the two to the same bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from logstore.errors import CorruptBatch, InvalidRecord
from logstore.format.varint import decode_varint, encode_varint

Buffer = bytes | bytearray | memoryview
Headers = tuple[tuple[str, bytes | None], ...]

OFFSET_DELTA_MAX = 0x7FFFFFFF  # the batch's last_offset_delta is an int32
RECORD_SIZE_MIN = 7  # a byte a field, its length included, and neither key, value nor headers
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
_LENGTHS = _Cache(encode_varint)  # of whatever is not negative
# Offset deltas of one, two, … bytes: (first delta that is longer, heads by value length).
_HEADS = [(1 << (7 * size - 1), _Cache(_head_encoder(size))) for size in range(1, 6)]
_NULL = b"\x01"  # the varint of -1
# What a lone record without key begins with, up to its value, by value length.
_LONE_HEADS = _Cache(lambda length: _HEADS[0][1][length][1:] + b"\0" + _NULL + encode_varint(length))
LONE_END = b"\0"  # what it ends with, behind its value: no headers
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
        return lone_head(len(values[0])) + values[0] + LONE_END
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
    """What stands before the value in a body of one such record; behind it stands LONE_END."""
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
    lengths = _LENGTHS
    for offset_delta, timestamp_delta, key, value, headers in records:
        if type(value) is bytes and (key is None or type(key) is bytes) and not headers and timestamp_delta >= 0:
            key_field = _NULL if key is None else lengths[len(key)] + key  # most records: no call for each field
            times = lengths[timestamp_delta] + lengths[offset_delta]
            record = b"\0" + times + key_field + lengths[len(value)] + value + b"\0"
        else:
            times = encode_varint(timestamp_delta) + encode_varint(offset_delta)
            fields = _encode_bytes("key", key) + _encode_bytes("value", value)
            record = b"\0" + times + fields + (_encode_headers(headers) if headers else b"\0")
        pieces += (lengths[len(record)], record)
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


def decode_record(
    body: bytes, position: int, base_offset: int, base_timestamp: int, append_time: int | None
) -> tuple[Record, int]:
    """The record at ``position``, and where it ends. Raises CorruptBatch."""
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
        headers, at = decode_headers(body, at, end)
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


def decode_headers(body: bytes, position: int, end: int) -> tuple[Headers, int]:
    """The headers at ``position`` of a record that ends at ``end``, and where they end. Raises CorruptBatch."""
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
