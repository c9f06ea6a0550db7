"""A segment's .txnindex: the aborted transactions whose abort markers lie in it. Kafka's layout, big-endian.

::

    version int16 = 0 | producer_id int64 | first_offset int64 | last_offset int64 | last_stable_offset int64

An entry has 34 bytes. first_offset is the transaction's first record, last_offset its abort marker, last_stable_offset
what it was when the marker came. Entries stand in the order of their markers. Nothing is checksummed: all of it follows
from the log.
"""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from logstore.errors import CorruptIndex

VERSION = 0
ENTRY = Struct(">hqqqq")
ENTRY_SIZE = 34
assert ENTRY.size == ENTRY_SIZE


class AbortedTransaction(NamedTuple):
    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


def encode(transactions: Iterable[AbortedTransaction]) -> bytes:
    return b"".join(ENTRY.pack(VERSION, *transaction) for transaction in transactions)


def decode(buffer: bytes | bytearray | memoryview) -> list[AbortedTransaction]:
    """The transactions in the order of the file. Raises CorruptIndex."""
    torn = len(buffer) % ENTRY_SIZE
    if torn:
        reason = f"the transaction index ends with {torn} bytes of an entry of {ENTRY_SIZE}"
        raise CorruptIndex(reason, len(buffer) - torn)
    transactions: list[AbortedTransaction] = []
    for number, (version, *fields) in enumerate(ENTRY.iter_unpack(buffer)):
        found = AbortedTransaction(*fields)
        position = number * ENTRY_SIZE
        if version != VERSION:
            raise CorruptIndex(f"version {version} of an aborted transaction is not known", position)
        if not 0 <= found.first_offset <= found.last_offset or found.producer_id < 0:
            raise CorruptIndex(
                f"producer {found.producer_id} cannot have aborted offsets {found.first_offset} to {found.last_offset}",
                position,
            )
        if transactions and found.last_offset <= transactions[-1].last_offset:
            raise CorruptIndex("the abort markers' offsets do not increase", position)
        transactions.append(found)
    return transactions
