"""What the generated code, and the tuned code of Produce and Fetch, is made of: sizes, counts, varints and tags.

::

    string     size int16 (-1: null) | UTF-8                 "flexible": size unsigned varint, one higher (0: null)
    bytes      size int32 (-1: null) | bytes                 "flexible": size unsigned varint, one higher (0: null)
    array      count int32 (-1: null) | items                "flexible": count unsigned varint, one higher (0: null)
    struct     its fields, then in flexible versions its tags; one that may be null: int8 (-1: null, 1) before them
    tags       count varint | ( tag varint | size varint | bytes ) ..., by ascending tag; unknown ones are skipped

Unsigned varints hold 32 bits in at most five bytes: seven bits a byte, the lowest first. What a peer sends is refused
before anything is made of it: a size or a count that the bytes left cannot hold, and more elements and tags in all
than a message may have. So a message costs memory by its bytes, and never more than so many objects.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from struct import Struct
from typing import Any
from uuid import UUID

from logstore.errors import MalformedMessage
from logstore.format.varint import encode_unsigned_varint

# A few hundred bytes each at most, as objects. Ten thousand topics with all their settings are some 400,000.
ELEMENTS_MAX = 1 << 20
# A broker serves most requests in one turn of its loop, in which nobody else is served: this is some tenths of a second
# of work, and enough for three elements for each of the 10,000 partitions, or settings, that Kafka changes at once.
REQUEST_ELEMENTS_MAX = 1 << 15
VARINT_BYTES_MAX = 5
VARINTS_CACHED = 1 << 14
COUNTS_CACHED = 64
COMPACT_SIZE_MAX = 126  # whose compact form, one higher, is one byte

INT16 = Struct(">h")
INT32 = Struct(">i")


def _encode_varint(value: int) -> bytes:
    if VARINTS_CACHED <= value < 1 << 21:  # the sizes of most batches, which no table holds
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    return encode_unsigned_varint(value)


class Varints(dict[int, bytes]):
    """Unsigned varints by value; a table that fills itself, up to a bound."""

    def __missing__(self, value: int) -> bytes:
        encoded = _encode_varint(value)
        if value < VARINTS_CACHED:
            self[value] = encoded
        return encoded


VARINTS = Varints()


class Counts(dict[int, bytes]):
    """The counts of arrays, and the sizes of bytes, as they are encoded."""

    def __init__(self, is_flexible: bool) -> None:
        self._is_flexible = is_flexible

    def __missing__(self, count: int) -> bytes:
        encoded = _encode_varint(count + 1) if self._is_flexible else INT32.pack(count)
        if count < VARINTS_CACHED:
            self[count] = encoded
        return encoded


class ArrayPacks(dict[int, Callable[..., bytes]]):
    """For arrays of one fixed-size type: by the count of elements, what makes the array's bytes of them."""

    def __init__(self, letter: str, is_flexible: bool) -> None:
        self._letter, self._counts = letter, Counts(is_flexible)

    def __missing__(self, count: int) -> Callable[..., bytes]:
        head = self._counts[count]
        pack = partial(Struct(f">{len(head)}s{count}{self._letter}").pack, head)
        if count <= COUNTS_CACHED:
            self[count] = pack
        return pack


class Unpacks(dict[int, Callable[[memoryview, int], tuple[Any, ...]]]):
    """For arrays of one fixed-size type: ``unpack_from`` by the count of elements."""

    def __init__(self, letter: str) -> None:
        self._letter = letter

    def __missing__(self, count: int) -> Callable[[memoryview, int], tuple[Any, ...]]:
        unpack_from = Struct(f">{count}{self._letter}").unpack_from
        if count <= COUNTS_CACHED:
            self[count] = unpack_from
        return unpack_from


class ByNameSize(dict[int, Struct]):
    """Layouts of a message around a topic's name, by the size of that; used with those of a byte."""

    def __init__(self, layout: str) -> None:
        self._layout = layout

    def __missing__(self, size: int) -> Struct:
        found = self[size] = Struct(self._layout.format(size))
        return found


def long_varint(view: memoryview, first: int, position: int) -> tuple[int, int]:
    """The value whose first byte, ``first``, says that more follow at ``position``; and the position after it."""
    value = first & 0x7F
    for shift in range(7, 7 * VARINT_BYTES_MAX, 7):
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 32:
                break
            return value, position
    raise MalformedMessage("a varint is longer than 32 bits", position)


def varint(view: memoryview, position: int) -> tuple[int, int]:
    byte = view[position]
    return (byte, position + 1) if byte < 0x80 else long_varint(view, byte, position + 1)


def skip_tags(view: memoryview, count: int, position: int, budget: int) -> tuple[int, int]:
    """Past the tags whose count starts with the byte ``count``: the position, which may be behind the end, and what is
    left of ``budget``."""
    if count > 0x7F:
        count, position = long_varint(view, count, position)
    budget -= count
    if budget < 0:
        raise bad_count(count, position, len(view))
    last = -1
    for _ in range(count):
        tag, position = varint(view, position)
        size, position = varint(view, position)
        if tag <= last:
            raise bad_tag(tag, position)
        last = tag
        position += size
    return position, budget


# A topic's id comes again with every request, and UUID's constructor takes a microsecond.
@lru_cache(maxsize=4096)
def uuid_of(encoded: bytes) -> UUID:
    return UUID(bytes=encoded)


# ------------------------------------------------------------------------------------------------------------- errors


def bad_size(size: int, position: int, end: int) -> MalformedMessage:
    if size == -1:
        return MalformedMessage("a value is null where it cannot be", position)
    return MalformedMessage(f"a value of {size} bytes where {end - position} are left", position)


def bad_count(count: int, position: int, end: int) -> MalformedMessage:
    if count == -1:
        return MalformedMessage("an array is null where it cannot be", position)
    return MalformedMessage(
        f"{count} elements where {end - position} bytes are left, or more than a message may have in all", position
    )


def bad_tag(tag: int, position: int) -> MalformedMessage:
    return MalformedMessage(f"tag {tag} comes twice, or is out of order", position)


def bad_tag_size(tag: int, position: int) -> MalformedMessage:
    return MalformedMessage(f"the size of tag {tag} is not that of its field", position)


def bad_presence(position: int) -> MalformedMessage:
    return MalformedMessage("a struct is neither there nor null", position)


def bad_end(position: int, end: int) -> MalformedMessage:
    if position > end:
        return cut_short(position)
    return MalformedMessage(f"{end - position} bytes follow the last field", position)


def cut_short(position: int) -> MalformedMessage:
    return MalformedMessage("the bytes end within a field", position)


def bad_text(position: int) -> MalformedMessage:
    return MalformedMessage("a string is not UTF-8", position)
