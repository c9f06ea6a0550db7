"""Batches of plain values, all of one time, as most appends are: no keys, headers, compression, producer.

They are encoded without their place, which the log knows only when nothing is left to do but to write. ``encode_plain``
makes one of any number of values; ``LoneBatches`` serves who appends one value at a time, and so many in a millisecond
that all they have in common is worth keeping: nearly the whole header, and what stands before the value. Both give the
bytes that ``batch.encode_batch`` gives, and tests hold them to it.
"""

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

from logstore.format.batch import (
    BODY_HEADER,
    CRC_START,
    FRAME_SIZE,
    HEADER_SIZE,
    MAGIC,
    MAGIC_AND_CRC,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
)
from logstore.format.checksum import crc32c
from logstore.format.record import encode_values, lone_head

# What stands before the bytes that the CRC covers:
#
#     base_offset int64 | batch_length int32 | partition_leader_epoch int32 | magic int8 | crc uint32      21 bytes
#
BEFORE_COVERED = Struct(">qiibI")
assert BEFORE_COVERED.size == CRC_START
UNFRAMED_SIZE = CRC_START - FRAME_SIZE  # of it, what batch_length counts
# The most that a lone batch has beside its value: its record has two lengths of up to five bytes, five single bytes.
LONE_OVERHEAD_MAX = HEADER_SIZE + 15


def encode_plain(values: Sequence[bytes], timestamp_ms: int) -> tuple[bytes, bytes]:
    """A batch of plain values (see ``record.only_bytes``): what follows PLACE in the header, and the records."""
    body = encode_values(values)
    covered, crc = _plain_header(timestamp_ms, len(values))
    return MAGIC_AND_CRC.pack(MAGIC, crc32c(body, crc)) + covered, body


@lru_cache(maxsize=16)
def _plain_header(timestamp_ms: int, count: int) -> tuple[bytes, int]:
    """The covered part of a plain batch's header, and its CRC."""
    producer = NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE
    covered = BODY_HEADER.pack(0, count - 1, timestamp_ms, timestamp_ms, *producer, count)
    return covered, crc32c(covered)


class LoneBatches(dict[int, bytes]):
    """Batches of one plain value each, of one time: by a value's length, what the CRC covers before the value. Before
    that stands BEFORE_COVERED; behind the value only LONE_END."""

    def __init__(self, timestamp_ms: int) -> None:
        self._covered_header = _plain_header(timestamp_ms, 1)[0]

    def __missing__(self, value_length: int) -> bytes:
        head = self[value_length] = self._covered_header + lone_head(value_length)
        return head
