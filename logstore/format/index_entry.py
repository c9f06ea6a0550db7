"""The entries of a segment's two indexes, big-endian, without header or checksum.

::

    .index       | relative_offset uint32 | position uint32 |          8 bytes
    .timeindex   | timestamp int64 | relative_offset uint32 |         12 bytes

A relative offset counts from the segment's base offset. An offset entry gives where in the .log the batch starts that
holds the offset; a time entry says that no batch up to that offset is newer than the timestamp (ms). Both columns of
an index ascend. Nothing is checksummed: an index is checked against its log and rebuilt from it when in doubt.
"""

from array import array
from struct import Struct

import numpy as np
import numpy.typing as npt

from logstore.errors import CorruptIndex

OFFSET_ENTRY = Struct(">II")
TIME_ENTRY = Struct(">qI")
OFFSET_ENTRY_SIZE = 8
TIME_ENTRY_SIZE = 12
RELATIVE_OFFSET_MAX = 0x7FFFFFFF  # for Kafka it is a positive int32
OFFSET_DTYPE = np.dtype([("relative_offset", ">u4"), ("position", ">u4")])
TIME_DTYPE = np.dtype([("timestamp", ">i8"), ("relative_offset", ">u4")])

assert OFFSET_ENTRY.size == OFFSET_DTYPE.itemsize == OFFSET_ENTRY_SIZE
assert TIME_ENTRY.size == TIME_DTYPE.itemsize == TIME_ENTRY_SIZE
assert array("I").itemsize == 4 and array("q").itemsize == 8


def offset_columns(buffer: bytes | bytearray | memoryview) -> tuple["array[int]", "array[int]"]:
    """An .index as two columns in native order, to bisect: relative offsets, positions. Raises CorruptIndex.

    Arrays of the standard library, because ``bisect`` on a numpy array, or ``np.searchsorted`` with a Python int,
    takes many times as long a look-up.
    """
    entries = _entries(buffer, OFFSET_DTYPE)
    return _column("I", entries["relative_offset"]), _column("I", entries["position"])


def time_columns(buffer: bytes | bytearray | memoryview) -> tuple["array[int]", "array[int]"]:
    """A .timeindex as two columns in native order: timestamps (ms), relative offsets. Raises CorruptIndex."""
    entries = _entries(buffer, TIME_DTYPE)
    return _column("q", entries["timestamp"]), _column("I", entries["relative_offset"])


def _entries(buffer: bytes | bytearray | memoryview, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    torn = len(buffer) % dtype.itemsize
    if torn:
        reason = f"the index ends with {torn} bytes of an entry of {dtype.itemsize}"
        raise CorruptIndex(reason, len(buffer) - torn)
    return np.frombuffer(buffer, dtype)


def _column(typecode: str, field: npt.NDArray[np.void]) -> "array[int]":
    column: array[int] = array(typecode)
    column.frombytes(field.astype(field.dtype.newbyteorder("=")).tobytes())
    return column
