"""The codecs of a batch's body: Kafka's numbers, names and framings.

============  ==============================================  ===========================================
codec         written as                                      read as well
============  ==============================================  ===========================================
gzip          one gzip member                                 several members; what follows the last is left
snappy        xerial: magic "\\x82SNAPPY\\0" | version int32    one raw block; xerial streams joined
              | compatible int32 | blocks of
              ( size int32 | raw snappy of 32 KiB )
lz4           one frame of independent 64 KiB blocks          any block size; what follows the frame is left
zstd          one frame that states its size                  frames without size, several, skippable ones
============  ==============================================  ===========================================

What is joined or left unread is as in Kafka's own reading streams, so that all readers of a log see the same records.
No codec's own checksum is written: the batch's CRC covers the compressed bytes.

Hostile input: what comes out is bounded while it comes out, so that no input makes ``decompress`` hold much more than
``max_size``; whatever a library makes of bad bytes is raised as CorruptBatch.
"""

import threading
import zlib
from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

import cramjam
import lz4.frame
import zstandard

from logstore.errors import CorruptBatch, InvalidSetting, RecordTooLarge
from logstore.format.record import Buffer

# A batch holds 1 MiB by default (max.message.bytes); this leaves room for text that shrinks to a sixtieth.
DECOMPRESSED_SIZE_MAX = 64 * 1024 * 1024

_PIECE_SIZE = 16 * 1024
_SNAPPY_BLOCK_SIZE = 32 * 1024
_ZSTD_BLOCK_SIZE_MAX = 128 * 1024

_XERIAL = Struct(">8sii")
_XERIAL_SIZE = 16
_XERIAL_MAGIC = b"\x82SNAPPY\0"
_XERIAL_HEADER = _XERIAL.pack(_XERIAL_MAGIC, 1, 1)
_XERIAL_BLOCK = Struct(">i")

assert _XERIAL.size == _XERIAL_SIZE


class Compression(IntEnum):
    """The lowest three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4

    @property
    def kafka_name(self) -> str:
        """As settings and tools spell it."""
        return self.name.lower()

    @classmethod
    def parse(cls, name: str) -> "Compression":
        """By Kafka's name: none, gzip, snappy, lz4 or zstd. Raises InvalidSetting."""
        for compression in cls:
            if compression.kafka_name == name:
                return compression
        choices = ", ".join(compression.kafka_name for compression in cls)
        raise InvalidSetting("compression.type", name, f"use one of {choices}")


# Kafka's levels: lowest, highest, default. Kafka takes lz4's fast compressor at its default, 9, and so do we.
_LEVELS = {
    Compression.GZIP: (1, 9, -1),
    Compression.LZ4: (1, 17, 9),
    Compression.ZSTD: (-131072, 22, 3),
}
_LZ4_FAST = 0


def check_level(compression: Compression, level: int | None) -> None:
    """Whether the codec has this level; None is its default. Raises InvalidSetting."""
    if level is None:
        return
    setting = f"compression.{compression.kafka_name}.level"
    if compression not in _LEVELS:
        raise InvalidSetting(setting, level, f"{compression.kafka_name} has no levels")
    lowest, highest, default = _LEVELS[compression]
    if level not in range(lowest, highest + 1) and level != default:
        raise InvalidSetting(setting, level, f"use {lowest} to {highest}, or {default}, the default")


def compress(compression: Compression, data: Buffer, level: int | None = None) -> bytes:
    """``data`` in the codec's framing. Raises InvalidSetting for a level that the codec does not have, RecordTooLarge
    for more data than ``decompress`` would give back."""
    check_level(compression, level)
    if compression and len(data) > DECOMPRESSED_SIZE_MAX:
        raise RecordTooLarge(len(data), DECOMPRESSED_SIZE_MAX, None)
    match compression:
        case Compression.NONE:
            return bytes(data)
        case Compression.GZIP:
            return zlib.compress(data, -1 if level is None else level, wbits=31)
        case Compression.SNAPPY:
            return _compress_snappy(memoryview(data))
        case Compression.LZ4:
            return _compress_lz4(data, level)
        case Compression.ZSTD:
            return _zstd_compressor(3 if level is None else level).compress(data)


def decompress(compression: Compression, data: Buffer, max_size: int = DECOMPRESSED_SIZE_MAX) -> bytes:
    """What ``data`` held before it was compressed, at most ``max_size`` bytes. Raises CorruptBatch."""
    if compression is Compression.NONE:
        if len(data) > max_size:
            raise _too_large(compression, max_size)
        return bytes(data)
    view = memoryview(data)
    if not view:
        raise CorruptBatch(f"no {compression.kafka_name} data at all")
    try:
        return b"".join(_READERS[compression](view, max_size))
    except (zlib.error, cramjam.DecompressionError, zstandard.ZstdError, RuntimeError) as error:
        raise CorruptBatch(f"damaged {compression.kafka_name} data: {error}") from error


def _too_large(compression: Compression, max_size: int) -> CorruptBatch:
    return CorruptBatch(f"the {compression.kafka_name} data inflates to more than {max_size} bytes")


# --------------------------------------------------------------------------------------------------------------- gzip


_GZIP_MAGIC = b"\x1f\x8b"


def _gzip_pieces(view: memoryview, max_size: int) -> Iterator[bytes]:
    """Members one after the other. As in Java, bytes after a member that are no member end the stream.

    The input goes in by small pieces: zlib copies what a member leaves of its piece, and a stream of many empty
    members would otherwise cost the square of its size.
    """
    remaining = max_size
    member = zlib.decompressobj(wbits=31)
    position = 0
    while position < len(view):
        piece = view[position : position + _PIECE_SIZE]
        output = member.decompress(piece, remaining + 1)
        remaining -= len(output)
        if remaining < 0:
            raise _too_large(Compression.GZIP, max_size)
        yield output
        position += len(piece) - len(member.unused_data)
        if member.eof:
            if view[position : position + 2] != _GZIP_MAGIC:
                return
            member = zlib.decompressobj(wbits=31)
    raise CorruptBatch("the gzip data ends within a member", position)


# ------------------------------------------------------------------------------------------------------------- snappy


def _compress_snappy(view: memoryview) -> bytes:
    pieces = [_XERIAL_HEADER]
    for start in range(0, len(view), _SNAPPY_BLOCK_SIZE):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _SNAPPY_BLOCK_SIZE]))
        pieces += (_XERIAL_BLOCK.pack(len(block)), block)
    return b"".join(pieces)


def _snappy_pieces(view: memoryview, max_size: int) -> Iterator[bytes]:
    if view[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        yield _snappy_block(view, 0, max_size, max_size)
        return
    remaining = max_size
    position = 0
    while position < len(view):
        if view[position : position + len(_XERIAL_MAGIC)] == _XERIAL_MAGIC:  # the start, or streams that were joined
            position = _after_xerial_header(view, position)
            continue
        start = position + _XERIAL_BLOCK.size
        size = _XERIAL_BLOCK.unpack_from(view, position)[0] if start <= len(view) else -1
        if not 0 <= size <= len(view) - start:
            raise CorruptBatch("the snappy data ends within a block", position)
        output = _snappy_block(view[start : start + size], start, remaining, max_size)
        remaining -= len(output)
        yield output
        position = start + size


def _after_xerial_header(view: memoryview, position: int) -> int:
    if len(view) - position < _XERIAL_SIZE:
        raise CorruptBatch("the snappy data ends within its header", position)
    _, version, compatible = _XERIAL.unpack_from(view, position)
    if version < 1 or compatible > 1:
        raise CorruptBatch(f"snappy framing of version {version} (compatible with {compatible}) is not known", position)
    return position + _XERIAL_SIZE


def _snappy_block(block: memoryview, position: int, remaining: int, max_size: int) -> bytes:
    # The size stands at the block's start, and the library allocates it at once.
    if cramjam.snappy.decompress_raw_len(block) > remaining:
        raise CorruptBatch(_too_large(Compression.SNAPPY, max_size).reason, position)
    return bytes(cramjam.snappy.decompress_raw(block))


# ---------------------------------------------------------------------------------------------------------------- lz4


_LZ4_MAGIC = b"\x04\x22\x4d\x18"


def _compress_lz4(data: Buffer, level: int | None) -> bytes:
    default = _LEVELS[Compression.LZ4][2]
    frame: bytes = lz4.frame.compress(
        data,
        compression_level=_LZ4_FAST if level is None or level == default else level,
        block_size=lz4.frame.BLOCKSIZE_MAX64KB,
        block_linked=False,  # Kafka refuses blocks that lean on earlier ones
        store_size=False,
    )
    return frame


def _lz4_pieces(view: memoryview, max_size: int) -> Iterator[bytes]:
    if view[:4] != _LZ4_MAGIC:
        raise CorruptBatch("no lz4 frame starts here")
    context = lz4.frame.create_decompression_context()
    remaining = max_size
    position = 0
    wanted = max(4 * len(view), 4 * _PIECE_SIZE)
    ended = False
    while not ended:
        # The library allocates all it is allowed to put out: start by what is likely, then double.
        output, used, ended = lz4.frame.decompress_chunk(context, view[position:], min(wanted, remaining + 1))
        remaining -= len(output)
        if remaining < 0:
            raise _too_large(Compression.LZ4, max_size)
        if not used and not output:
            raise CorruptBatch("the lz4 data ends within its frame", position)
        yield output
        position += used
        wanted *= 2


# --------------------------------------------------------------------------------------------------------------- zstd

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = 0x184D2A50  # and the fifteen numbers after it
_ZSTD_RLE, _ZSTD_COMPRESSED = 1, 2


class _Zstd(threading.local):
    """A thread's own zstd contexts: they are dear to make and must not be shared."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


def _zstd_compressor(level: int) -> zstandard.ZstdCompressor:
    compressor = _zstd.compressors.get(level)
    if compressor is None:
        compressor = _zstd.compressors[level] = zstandard.ZstdCompressor(level=level)
    return compressor


def _zstd_pieces(view: memoryview, max_size: int) -> Iterator[bytes]:
    """Frames one after the other, each in one go.

    The one-shot call is the quickest and notices a frame that is cut, which the library's stream reader does not. It
    takes no limit where a frame states its size, so that size is looked at before; where none is stated, it
    allocates the limit, so that is set to what the frame's blocks can hold at most.
    """
    remaining = max_size
    position = 0
    while position < len(view):
        end, bound = _zstd_frame(view, position)
        if bound is not None:
            frame = view[position:end]
            stated = zstandard.frame_content_size(frame)
            if stated > bound:
                raise CorruptBatch(f"a zstd frame says {stated} bytes, but can hold {bound} at most", position)
            if stated > remaining:
                raise _too_large(Compression.ZSTD, max_size)
            try:  # a limit of 0 would mean: none
                output = _zstd.decompressor.decompress(frame, max_output_size=max(min(bound, remaining), 1))
            except zstandard.ZstdError as error:
                if stated < 0 and bound > remaining:  # the library says the same for both
                    raise CorruptBatch(
                        f"the zstd data is damaged, or inflates to more than {max_size} bytes"
                    ) from error
                raise
            remaining -= len(output)
            if remaining < 0:
                raise _too_large(Compression.ZSTD, max_size)
            yield output
        position = end


def _zstd_frame(view: memoryview, start: int) -> tuple[int, int | None]:
    """Where the frame at ``start`` ends, and how many bytes its blocks can hold: None for a skippable frame."""
    if len(view) - start >= 8 and int.from_bytes(view[start : start + 4], "little") & ~0xF == _ZSTD_SKIPPABLE:
        end = start + 8 + int.from_bytes(view[start + 4 : start + 8], "little")
        bound = None
    elif view[start : start + 4] == _ZSTD_MAGIC:
        end = start + zstandard.frame_header_size(view[start:])
        has_checksum = zstandard.get_frame_parameters(view[start:]).has_checksum
        bound = 0
        last = False
        while not last:
            block = int.from_bytes(view[end : end + 3], "little")
            last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            if end + 3 > len(view):
                break
            bound += _ZSTD_BLOCK_SIZE_MAX if kind == _ZSTD_COMPRESSED else size
            end += 3 + (1 if kind == _ZSTD_RLE else size)
        end += 4 if has_checksum else 0
    else:
        raise CorruptBatch("no zstd frame starts here", start)
    if end > len(view):
        raise CorruptBatch("the zstd data ends within a frame", start)
    return end, bound


_READERS = {
    Compression.GZIP: _gzip_pieces,
    Compression.SNAPPY: _snappy_pieces,
    Compression.LZ4: _lz4_pieces,
    Compression.ZSTD: _zstd_pieces,
}
