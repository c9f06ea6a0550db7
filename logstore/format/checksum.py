"""CRC-32C (Castagnoli), the checksum of batches and producer snapshots.

``crc32c`` takes the processor's instruction where the ``crc32c`` package is built (about 19 GB/s), else the portable
``crc32c_portable`` of crcmod (about 0.3 GB/s). The two share no code, so that each can check the other.
"""

from typing import Protocol, cast

from crcmod.predefined import mkPredefinedCrcFun


class Checksum(Protocol):
    """``data``'s checksum as an unsigned 32-bit number; ``crc`` is the checksum of what goes before it."""

    def __call__(self, data: bytes | bytearray | memoryview, crc: int = 0, /) -> int: ...


crc32c_portable = cast(Checksum, mkPredefinedCrcFun("crc-32c"))
crc32c: Checksum

try:
    from crc32c import crc32c as _crc32c_hardware
except ImportError:  # no build for this platform
    crc32c = crc32c_portable
else:
    crc32c = _crc32c_hardware
