"""The fields of Kafka's schemas outside of batches: big-endian integers, strings, bytes, arrays and tagged fields.

::

    string     size int16 (-1: null) | UTF-8                 "flexible": size unsigned varint, one higher (0: null)
    bytes      size int32 (-1: null) | bytes                 "flexible": size unsigned varint, one higher (0: null)
    array      count int32 | items                           "flexible": count unsigned varint, one higher
    tags       "flexible" only: count varint | ( tag varint | size varint | bytes ) ..., all of which may be skipped

Each schema says from which of its versions on it is flexible. A Reader raises the error it was given, or CorruptBatch
for a bad varint, and never takes more memory than the bytes that it reads account for.
"""

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct, pack, unpack
from uuid import UUID

from logstore.errors import CorruptData, InvalidRecord
from logstore.format.record import Buffer
from logstore.format.varint import decode_unsigned_varint, encode_unsigned_varint

_INT16 = Struct(">h")
_INT32 = Struct(">i")
_INT64 = Struct(">q")

assert (_INT16.size, _INT32.size, _INT64.size) == (2, 4, 8)


class Writer:
    def __init__(self, *, flexible: bool = False) -> None:
        self._pieces: list[bytes] = []
        self._flexible = flexible

    def int16(self, value: int) -> None:
        self._pieces.append(_INT16.pack(value))

    def int32(self, value: int) -> None:
        self._pieces.append(_INT32.pack(value))

    def int64(self, value: int) -> None:
        self._pieces.append(_INT64.pack(value))

    def raw(self, octets: bytes) -> None:
        """Of a size that the schema knows, such as a UUID's."""
        self._pieces.append(octets)

    def string(self, value: str | None) -> None:
        """Raises InvalidRecord for one over 32,767 bytes where its size has no room."""
        encoded = None if value is None else value.encode()
        size = -1 if encoded is None else len(encoded)
        if self._flexible:
            self._pieces.append(encode_unsigned_varint(size + 1))
        elif size < 2**15:
            self._pieces.append(_INT16.pack(size))
        else:
            raise InvalidRecord(f"a string of {size} bytes; group metadata holds at most 32767")
        self._pieces.append(encoded or b"")

    def blob(self, value: bytes | None) -> None:
        self.count(-1 if value is None else len(value))
        self._pieces.append(value or b"")

    def count(self, count: int) -> None:
        self._pieces.append(encode_unsigned_varint(count + 1) if self._flexible else _INT32.pack(count))

    def int32_array(self, values: Sequence[int]) -> None:
        self.count(len(values))
        self._pieces.append(pack(f">{len(values)}i", *values))

    def tags(self, fields: Mapping[int, bytes]) -> None:
        """Tagged fields, by ascending tag; versions that are not flexible have none."""
        if self._flexible:
            self._pieces.append(encode_unsigned_varint(len(fields)))
            for tag, field in fields.items():
                self._pieces += (encode_unsigned_varint(tag), encode_unsigned_varint(len(field)), field)

    def finish(self) -> bytes:
        return b"".join(self._pieces)


class Reader:
    """Fields one after the other; ``flexible`` may be set once the version is known."""

    def __init__(self, buffer: Buffer, error: type[CorruptData] = CorruptData) -> None:
        self._view = memoryview(buffer)
        self._error = error
        self.flexible = False
        self.position = 0

    def int16(self) -> int:
        return self._unpack(_INT16)

    def int32(self) -> int:
        return self._unpack(_INT32)

    def int64(self) -> int:
        return self._unpack(_INT64)

    def raw(self, size: int) -> bytes:
        return bytes(self._take(size))

    def uuid(self) -> UUID:
        return UUID(bytes=self.raw(16))

    def nullable_string(self) -> str | None:
        start = self.position
        size = self._varint() - 1 if self.flexible else self.int16()
        if size == -1:
            return None
        try:
            return str(self._take(size), "utf-8")
        except UnicodeDecodeError as error:
            raise self._error("a string is not UTF-8", start) from error

    def string(self) -> str:
        start = self.position
        value = self.nullable_string()
        if value is None:
            raise self._error("a string is null where it cannot be", start)
        return value

    def nullable_blob(self) -> bytes | None:
        size = self._size()
        return None if size == -1 else bytes(self._take(size))

    def blob(self) -> bytes:
        return bytes(self._take(self.count()))

    def count(self) -> int:
        start = self.position
        count = self._size()
        if not 0 <= count <= len(self._view) - self.position:  # an item takes a byte at least
            raise self._error(f"{count} items in {len(self._view) - self.position} bytes", start)
        return count

    def int32_array(self) -> tuple[int, ...]:
        count = self.count()
        return unpack(f">{count}i", self._take(count * _INT32.size))

    def tags(self) -> Iterator[tuple[int, bytes]]:
        """Tagged fields; versions that are not flexible have none."""
        for _ in range(self._varint() if self.flexible else 0):
            yield self._varint(), bytes(self._take(self._varint()))

    def skip_tags(self) -> None:
        for _ in self.tags():
            pass

    def finish(self) -> None:
        """Nothing may follow."""
        if self.position != len(self._view):
            raise self._error(f"{len(self._view) - self.position} bytes follow the last field", self.position)

    def _size(self) -> int:
        return self._varint() - 1 if self.flexible else self.int32()

    def _varint(self) -> int:
        value, self.position = decode_unsigned_varint(self._view, self.position)
        return value

    def _take(self, size: int) -> memoryview:
        end = self.position + size
        if size < 0 or end > len(self._view):
            raise self._error(
                f"a field of {size} bytes where {len(self._view) - self.position} are left", self.position
            )
        field = self._view[self.position : end]
        self.position = end
        return field

    def _unpack(self, struct: Struct) -> int:
        value: int = struct.unpack(self._take(struct.size))[0]
        return value
