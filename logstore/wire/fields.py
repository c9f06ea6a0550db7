"""What a field of a message is: its type, and the versions in which it is there, may be null, or is tagged.

Pure facts: ``schema`` makes them from declarations, ``compiler`` makes code from them.
"""

from typing import Any, NamedTuple
from uuid import UUID

ZERO_UUID = UUID(int=0)

# The types of one fixed size, each with its letter for ``struct`` (big-endian).
FIXED_LETTERS = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint16": "H",
    "uint32": "I",
    "float64": "d",
    "uuid": "16s",
}
SIZED_TYPES = ("string", "bytes", "records")  # a size, then so many bytes; records are nullable bytes to the protocol
ZEROS: dict[str, Any] = {
    **dict.fromkeys(FIXED_LETTERS, 0),
    "bool": False,
    "float64": 0.0,
    "uuid": ZERO_UUID,
    "string": "",
    "bytes": b"",
    "records": b"",
}


class ArrayOf(NamedTuple):
    element: str | type


FieldType = str | type | ArrayOf


class Field(NamedTuple):
    """``until`` is the last version that has it. A tagged field is an ordinary one before ``tagged_since``."""

    name: str
    type: FieldType
    since: int
    until: int | None
    nullable_since: int | None
    tag: int | None
    tagged_since: int | None
    default: Any  # of a struct that is not null: the class

    def is_in(self, version: int) -> bool:
        return self.since <= version and (self.until is None or version <= self.until)

    def is_nullable(self, version: int) -> bool:
        return self.nullable_since is not None and version >= self.nullable_since

    def is_tagged(self, version: int) -> bool:
        return self.tag is not None and version >= (self.since if self.tagged_since is None else self.tagged_since)
