"""A partition's .snapshot: what is known of each producer at the offset in the file's name. Kafka's layout, big-endian.

::

    version int16 = 1 | crc uint32 | entry_count int32 | entries
    entry:  producer_id int64 | producer_epoch int16 | last_sequence int32 | last_offset int64 | offset_delta int32
            | timestamp int64 | coordinator_epoch int32 | current_txn_first_offset int64

The crc is the CRC-32C of all that follows it. A snapshot only spares recovery a walk through the whole log: one that
is damaged or missing is rebuilt from the batches.
"""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from logstore.errors import CorruptSnapshot
from logstore.format.checksum import crc32c

VERSION = 1

HEADER = Struct(">hI")
HEADER_SIZE = 6
COUNT = Struct(">i")
COUNT_SIZE = 4
ENTRY = Struct(">qhiqiqiq")
ENTRY_SIZE = 46

assert HEADER.size == HEADER_SIZE and COUNT.size == COUNT_SIZE and ENTRY.size == ENTRY_SIZE


class ProducerSnapshotEntry(NamedTuple):
    producer_id: int
    producer_epoch: int
    last_sequence: int  # of the last batch; -1: none but transaction markers
    last_offset: int  # of the last batch; -1: as above
    offset_delta: int  # last offset - first offset of the last batch
    timestamp: int  # ms, of the last batch or marker
    coordinator_epoch: int  # of the coordinator that wrote the last marker; -1: none did
    current_txn_first_offset: int  # of the transaction that is open; -1: none is


def encode(entries: Iterable[ProducerSnapshotEntry]) -> bytes:
    rows = [ENTRY.pack(*entry) for entry in entries]
    covered = COUNT.pack(len(rows)) + b"".join(rows)
    return HEADER.pack(VERSION, crc32c(covered)) + covered


def decode(buffer: bytes | bytearray | memoryview) -> list[ProducerSnapshotEntry]:
    """A snapshot's entries, in the order of the file. Raises CorruptSnapshot."""
    view = memoryview(buffer)
    if len(view) < HEADER_SIZE + COUNT_SIZE:
        raise CorruptSnapshot(f"{len(view)} bytes are too few for a producer snapshot")
    version, crc = HEADER.unpack_from(view)
    if version != VERSION:
        raise CorruptSnapshot(f"version {version} of producer snapshots is not known")
    computed = crc32c(view[HEADER_SIZE:])
    if computed != crc:
        raise CorruptSnapshot(f"CRC {computed:#010x} instead of {crc:#010x}", HEADER_SIZE)
    (count,) = COUNT.unpack_from(view, HEADER_SIZE)
    rows = view[HEADER_SIZE + COUNT_SIZE :]
    if count * ENTRY_SIZE != len(rows):
        raise CorruptSnapshot(f"{count} entries of {ENTRY_SIZE} bytes in {len(rows)} bytes", HEADER_SIZE)
    return [ProducerSnapshotEntry._make(row) for row in ENTRY.iter_unpack(rows)]
