"""CRC-32C (Castagnoli), the checksum of batches and producer snapshots.

``crc32c`` takes the processor's instruction where the ``crc32c`` package is built (about 19 GB/s), else the portable
``crc32c_portable`` of crcmod (about 0.3 GB/s). The two share no code, so that each can check the other.
"""

from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Protocol, cast


class Checksum(Protocol):
    """``data``'s checksum as an unsigned 32-bit number; ``crc`` is the checksum of what goes before it."""

    def __call__(self, data: bytes | bytearray | memoryview, crc: int = 0, /) -> int: ...


@cache
def _crcmod() -> Checksum:
    from crcmod.predefined import mkPredefinedCrcFun

    return cast(Checksum, mkPredefinedCrcFun("crc-32c"))


def crc32c_portable(data: bytes | bytearray | memoryview, crc: int = 0, /) -> int:
    return _crcmod()(data, crc)


def _hardware() -> Checksum:
    """The function of the package's extension, by itself if possible: what the package imports besides, to tell its own
    version, takes longer than all of ``format``. Raises ImportError where there is no build for this platform."""
    package = PathFinder.find_spec("crc32c")
    extension = package and PathFinder.find_spec("_crc32c", package.submodule_search_locations)
    if extension and extension.loader:
        module = module_from_spec(extension)
        extension.loader.exec_module(module)
        return cast(Checksum, module.crc32c)
    from crc32c import crc32c as from_package

    return from_package


crc32c: Checksum
try:
    crc32c = _hardware()
except (ImportError, AttributeError):
    crc32c = crc32c_portable
