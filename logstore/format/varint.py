"""Variable-length integers as in Kafka's records and protobuf: seven bits a byte, the lowest seven first.

::

    unsigned    | 1 bbbbbbb | 1 bbbbbbb | ... | 0 bbbbbbb |     the top bit says that another byte follows
    signed      zigzag, then unsigned:  0, -1, 1, -2, 2 ... are written as 0, 1, 2, 3, 4 ...

64 bits take at most ten bytes; the tenth can only be 0 or 1, and what goes beyond is refused. A value that is padded
with empty groups but stays within ten bytes is read, as Kafka reads it; nobody writes it. Nothing is checksummed here:
varints stand inside batches, whose CRC covers them.
"""

from logstore.errors import CorruptBatch, InvalidRecord


def _encode(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


# One and two bytes: lengths and deltas are nearly always here. A look-up takes a tenth of the loop's time.
_SMALL = (
    *[bytes((value,)) for value in range(1 << 7)],
    *[bytes((value & 0x7F | 0x80, value >> 7)) for value in range(1 << 7, 1 << 14)],
)
_SMALL_COUNT = len(_SMALL)


def encode_unsigned_varint(value: int) -> bytes:
    """``value`` (0 to 2^64-1) as 1 to 10 bytes. Raises InvalidRecord for a value outside."""
    if 0 <= value < _SMALL_COUNT:
        return _SMALL[value]
    if value < 0 or value >> 64:
        raise InvalidRecord(f"{value} does not fit an unsigned 64-bit varint")
    return _encode(value)


def encode_varint(value: int) -> bytes:
    """``value`` (signed, 64 bits) as 1 to 10 bytes, zigzag. Raises InvalidRecord for a value outside."""
    zigzag = (value << 1) ^ (value >> 63)
    if zigzag < _SMALL_COUNT:  # the zigzag of any integer, however large, is never negative
        return _SMALL[zigzag]
    if zigzag >> 64:
        raise InvalidRecord(f"{value} does not fit a signed 64-bit varint")
    return _encode(zigzag)


def decode_unsigned_varint(buffer: bytes | bytearray | memoryview, position: int) -> tuple[int, int]:
    """The unsigned value at ``position`` (not negative), and the position after it. Raises CorruptBatch."""
    try:
        byte = buffer[position]
        if byte < 0x80:
            return byte, position + 1
        value = byte & 0x7F
        following = position + 1
        for shift in (7, 14, 21, 28, 35, 42, 49, 56, 63):
            byte = buffer[following]
            following += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                return value, following
    except IndexError:
        raise CorruptBatch("the bytes end within a varint", position) from None
    raise CorruptBatch("a varint is longer than 64 bits", position)


def decode_varint(buffer: bytes | bytearray | memoryview, position: int) -> tuple[int, int]:
    """The signed (zigzag) value at ``position`` (not negative), and the position after it. Raises CorruptBatch."""
    try:
        byte = buffer[position]
        if byte < 0x80:
            return (byte >> 1) ^ -(byte & 1), position + 1
        second = buffer[position + 1]
    except IndexError:
        raise CorruptBatch("the bytes end within a varint", position) from None
    if second < 0x80:  # for speed alone: two bytes are nearly as common as one
        zigzag, following = byte & 0x7F | second << 7, position + 2
    else:
        zigzag, following = decode_unsigned_varint(buffer, position)
    return (zigzag >> 1) ^ -(zigzag & 1), following
