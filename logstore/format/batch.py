"""Record batches of Kafka's message format v2: the unit that is appended, checked, indexed, compressed and sent.

::

    base_offset int64 | batch_length int32 | partition_leader_epoch int32 | magic int8 = 2 | crc uint32      21 bytes
    | attributes int16 | last_offset_delta int32 | base_timestamp int64 | max_timestamp int64
    | producer_id int64 | producer_epoch int16 | base_sequence int32 | record_count int32                    40 bytes
    | records, compressed as one if the attributes say so

``batch_length`` counts what follows itself. The CRC32C covers everything from the attributes on; base_offset and
partition_leader_epoch lie outside it, so a log gives a batch its offsets by patching 16 bytes, and never touches
records.

Attributes: bits 0-2 compression, 3 timestamp type (1: the log's append time, which is then max_timestamp for all),
4 transactional, 5 control (a transaction marker), 6 base_timestamp is the compactor's delete horizon.

Formats v0 and v1, which Kafka wrote before 0.11, have their magic byte at the same place: recognised, refused by name.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from operator import index
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple
from zlib import crc32

from logstore.errors import CorruptBatch, InvalidRecord, UnsupportedMagic
from logstore.format.checksum import crc32c
from logstore.format.compression import Compression, compress, decompress
from logstore.format.record import (
    Buffer,
    Headers,
    Record,
    encode_records,
    encode_values,
    only_bytes,
)
from logstore.format.record_columns import RecordColumns, decode_columns, decode_records, iterate_records

HEADER = Struct(">qiibIhiqqqhii")
HEADER_SIZE = 61
assert HEADER.size == HEADER_SIZE

# What the log writes over a batch when it gives it a place: base_offset, batch_length, partition_leader_epoch.
PLACE = Struct(">qii")
# base_offset and batch_length: what must be read to know where the next batch begins.
FRAME_SIZE = 12
MAGIC_POSITION = 16
CRC_START = 21  # the first byte that the CRC covers
MAGIC_AND_CRC = Struct(">bI")
BODY_HEADER = Struct(">hiqqqhii")
assert PLACE.size + MAGIC_AND_CRC.size == CRC_START and CRC_START + BODY_HEADER.size == HEADER_SIZE

# A message of format v0 or v1: offset, size of what follows, CRC-32, magic.
_OLD_MESSAGE = Struct(">qiIb")
assert _OLD_MESSAGE.size == MAGIC_POSITION + 1

MAGIC = 2
OFFSET_MAX = 0x7FFF_FFFF_FFFF_FFFF

NO_TIMESTAMP = -1
NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
NO_LEADER_EPOCH = -1

COMPRESSION_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40


class BatchHeader(NamedTuple):
    """A batch's first 61 bytes."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.batch_length + FRAME_SIZE

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> Compression:
        """Raises CorruptBatch for a codec that Kafka does not have."""
        try:
            return Compression(self.attributes & COMPRESSION_MASK)
        except ValueError:
            raise CorruptBatch(f"unknown compression {self.attributes & COMPRESSION_MASK}") from None

    @property
    def has_append_time(self) -> bool:
        return bool(self.attributes & LOG_APPEND_TIME)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def delete_horizon_ms(self) -> int | None:
        """When the compactor may drop this batch's tombstones, once it has set a time."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON else None


_new_header: Callable[[tuple[int, ...]], BatchHeader] = partial(tuple.__new__, BatchHeader)


class RecordBatch(NamedTuple):
    """A batch in a buffer: its header, and the bytes, looked at only when records are asked for."""

    header: BatchHeader
    position: int
    buffer: Buffer

    @classmethod
    def at(cls, buffer: Buffer, position: int = 0) -> "RecordBatch":
        """The batch at ``position``. Raises CorruptBatch; see ``read_header``."""
        return tuple.__new__(cls, (read_header(buffer, position), position, buffer))

    @property
    def data(self) -> memoryview:
        """The whole batch."""
        return memoryview(self.buffer)[self.position : self.position + self.header.size]

    def check_crc(self) -> None:
        """Raises CorruptBatch where the batch is cut short, or the stored CRC is not that of the bytes."""
        header, position, buffer = self
        size = header.batch_length + FRAME_SIZE
        if len(buffer) - position < size:
            raise CorruptBatch(f"a batch of {size} bytes is cut short after {len(buffer) - position}", position)
        computed = crc32c(memoryview(buffer)[position + CRC_START : position + size])
        if computed != header.crc:
            raise CorruptBatch(f"CRC is {computed:#010x}, stored {header.crc:#010x}", position)

    def body(self) -> bytes:
        """The records' bytes, decompressed. Raises CorruptBatch."""
        header = self.header
        body = memoryview(self.buffer)[self.position + HEADER_SIZE : self.position + header.size]
        if header.attributes & COMPRESSION_MASK:
            return decompress(header.compression, body)
        return bytes(body)

    def records(self) -> list[Record]:
        """Raises CorruptBatch."""
        return decode_records(self.body(), *self._record_context())

    def records_from(self, offset: int) -> Iterator[Record]:
        """The records from ``offset`` on; the first of them comes without decoding the others. Raises CorruptBatch."""
        header = self.header
        if offset <= header.base_offset or header.record_count != header.last_offset_delta + 1:
            return iter([record for record in self.records() if record.offset >= offset])
        return iterate_records(self.body(), *self._record_context(), first=offset - header.base_offset)

    def columns(self) -> RecordColumns:
        """Raises CorruptBatch."""
        return decode_columns(self.body(), *self._record_context())

    def _record_context(self) -> tuple[int, int, int, int | None]:
        header = self.header
        append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME else None
        return header.record_count, header.base_offset, header.base_timestamp, append_time


# ------------------------------------------------------------------------------------------------------------- decode


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at ``position``. Raises CorruptBatch where it is cut short or cannot be one, UnsupportedMagic for
    v0 and v1. That the whole batch is there, and its CRC, are the caller's to check."""
    available = len(buffer) - position
    if available > MAGIC_POSITION and buffer[position + MAGIC_POSITION] != MAGIC:
        raise _wrong_magic(buffer, position)
    if available < HEADER_SIZE:
        raise CorruptBatch(f"{available} bytes are too few for a batch header of {HEADER_SIZE}", position)
    header = _new_header(HEADER.unpack_from(buffer, position))
    base_offset, batch_length, last_offset_delta, record_count = header[0], header[1], header[6], header[12]
    if batch_length < HEADER_SIZE - FRAME_SIZE:
        raise CorruptBatch(f"a batch length of {batch_length} is too small", position)
    if base_offset < 0 or last_offset_delta < 0 or record_count < 0:
        raise CorruptBatch(
            f"base offset {base_offset}, last offset delta {last_offset_delta} and record count {record_count} cannot "
            "be negative",
            position,
        )
    if base_offset + last_offset_delta >= OFFSET_MAX:
        raise CorruptBatch(f"the offset after {base_offset + last_offset_delta} does not fit 64 bits", position)
    if record_count > last_offset_delta + 1:
        raise CorruptBatch(f"{record_count} records do not fit offsets 0 to {last_offset_delta}", position)
    return header


def _wrong_magic(buffer: Buffer, position: int) -> CorruptBatch:
    magic = buffer[position + MAGIC_POSITION]
    if magic in (0, 1) and any(buffer[position : position + MAGIC_POSITION]):
        return UnsupportedMagic(
            f"message format v{magic}, which Kafka wrote before 0.11, is not read; let Kafka rewrite it as v2", position
        )
    return CorruptBatch(f"magic is {magic}, not {MAGIC}", position)


def is_old_message(buffer: Buffer, position: int = 0) -> bool:
    """Whether a whole message of format v0 or v1 is at ``position``: its CRC-32, over all that follows it, fits."""
    if len(buffer) - position < _OLD_MESSAGE.size:
        return False
    _, size, crc, magic = _OLD_MESSAGE.unpack_from(buffer, position)
    end = position + FRAME_SIZE + size
    return (
        magic in (0, 1)
        and 0 < size <= len(buffer) - position - FRAME_SIZE
        and (crc32(memoryview(buffer)[position + MAGIC_POSITION : end]) == crc)
    )


def batches(buffer: Buffer, position: int = 0) -> Iterator[RecordBatch]:
    """The whole batches of a buffer, in order, records untouched. Ends before a batch that the buffer cuts short.

    Raises CorruptBatch where the bytes cannot be a batch.
    """
    size = len(buffer)
    while size - position >= HEADER_SIZE:
        header = read_header(buffer, position)
        if header.batch_length + FRAME_SIZE > size - position:
            return
        yield RecordBatch(header, position, buffer)
        position += header.batch_length + FRAME_SIZE


# ------------------------------------------------------------------------------------------------------------- encode


def encode_batch(
    values: Sequence[Buffer | None],
    *,
    timestamps_ms: int | Sequence[int],
    keys: Sequence[Buffer | None] | None = None,
    headers: Sequence[Headers] | None = None,
    base_offset: int = 0,
    compression: Compression = Compression.NONE,
    compression_level: int | None = None,
    attributes: int = 0,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
) -> bytes:
    """One batch of the columns given, all of one length; one timestamp may stand for all.

    ``attributes`` takes the bits above compression. Raises InvalidRecord; RecordTooLarge as ``compress`` does.
    """
    base_timestamp, max_timestamp, body = _encode_body(values, timestamps_ms, keys, headers)
    return assemble_batch(
        compress(compression, body, compression_level) if compression else body,
        base_offset=base_offset,
        partition_leader_epoch=NO_LEADER_EPOCH,
        attributes=attributes | compression,
        last_offset_delta=len(values) - 1,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(values),
    )


def _encode_body(
    values: Sequence[Buffer | None],
    timestamps_ms: int | Sequence[int],
    keys: Sequence[Buffer | None] | None,
    headers: Sequence[Headers] | None,
) -> tuple[int, int, bytes]:
    """Base timestamp, largest timestamp and the records, not compressed. Raises InvalidRecord."""
    count = len(values)
    if not count:
        raise InvalidRecord("a batch needs a record")
    for name, column in (("keys", keys), ("headers", headers)):
        if column is not None and len(column) != count:
            raise InvalidRecord(f"{count} values came with {len(column)} {name}")
    if not isinstance(timestamps_ms, int):
        timestamps_ms = _integers(timestamps_ms)
    if isinstance(timestamps_ms, int):
        base_timestamp = max_timestamp = timestamps_ms
        if keys is None and headers is None and only_bytes(values):
            return base_timestamp, max_timestamp, encode_values(values)  # type: ignore[arg-type]  # just checked
        deltas = [0] * count
    elif len(timestamps_ms) != count:
        raise InvalidRecord(f"{count} values came with {len(timestamps_ms)} timestamps")
    else:
        base_timestamp, max_timestamp = timestamps_ms[0], max(timestamps_ms)
        deltas = [timestamp - base_timestamp for timestamp in timestamps_ms]
    rows = zip(
        range(count),
        deltas,
        repeat(None) if keys is None else keys,
        values,
        repeat(()) if headers is None else headers,
        strict=False,
    )
    return base_timestamp, max_timestamp, encode_records(rows)


def _integers(timestamps_ms: Any) -> int | list[int]:
    """Timestamps as Python's integers; numpy's would wrap where theirs end. Raises InvalidRecord."""
    try:
        return list(map(index, timestamps_ms)) if isinstance(timestamps_ms, Iterable) else index(timestamps_ms)
    except TypeError as error:
        raise InvalidRecord(f"a timestamp is an integer, in milliseconds: {error}") from None


def assemble_batch(
    body: bytes,
    *,
    base_offset: int,
    partition_leader_epoch: int,
    attributes: int,
    last_offset_delta: int,
    base_timestamp: int,
    max_timestamp: int,
    producer_id: int,
    producer_epoch: int,
    base_sequence: int,
    record_count: int,
) -> bytes:
    """A batch around a body that is encoded, and compressed as ``attributes`` says. Raises InvalidRecord."""
    try:
        covered = BODY_HEADER.pack(
            attributes,
            last_offset_delta,
            base_timestamp,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count,
        )
        place = PLACE.pack(base_offset, HEADER_SIZE - FRAME_SIZE + len(body), partition_leader_epoch)
    except StructError as error:
        raise InvalidRecord(f"the batch header cannot hold its fields: {error}") from None
    return b"".join((place, MAGIC_AND_CRC.pack(MAGIC, crc32c(body, crc32c(covered))), covered, body))
