"""The small text files of a data directory, in Kafka's layouts (UTF-8, lines end with a line feed).

::

    *-offset-checkpoint      leader-epoch-checkpoint    offset-gap-checkpoint (ours)   partition.metadata
    0                        0                          0                              version: 0
    2                        2                          1                              topic_id: AAECAwQFRgeICQoLDA0ODw
    orders 0 4711            0 0                        100 199
    orders 1 815             3 4711

Three are a version, a count and as many rows: topic, partition and offset; leader epoch and its first offset; first
and last offset of records that salvage had to leave out. A topic id is 16 bytes in base64url.

Nothing is checksummed. The count and the last line feed show a file that was cut; what a file says beyond that must be
plausible to whoever reads it. Offset checkpoints can be rebuilt from the logs, leader epochs from the batches; gaps and
topic ids stand nowhere else. Damage raises CorruptCheckpoint, which names the line; ``position`` is where it starts.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from uuid import UUID

from logstore.errors import CorruptCheckpoint, InvalidTopicName
from logstore.format.filename import check_topic_name

VERSION = 0
_INT32_MAX = 2**31 - 1
# A log never gets here. What says so has a damaged digit, and room is left to count on from any offset that is read.
_OFFSET_MAX = 2**63 - 2**32

# --------------------------------------------------------------------------------------------------- offsets, by topic


def encode_offsets(offsets: Mapping[tuple[str, int], int]) -> bytes:
    """An offset a partition, given by (topic, partition)."""
    return _encode_rows(f"{topic} {partition} {offset}" for (topic, partition), offset in sorted(offsets.items()))


def decode_offsets(data: bytes) -> dict[tuple[str, int], int]:
    """Offsets by (topic, partition). Raises CorruptCheckpoint."""
    offsets: dict[tuple[str, int], int] = {}
    for row in _decode_rows(data, field_count=3):
        topic = row.fields[0]
        try:
            check_topic_name(topic)
        except InvalidTopicName as error:
            raise row.corrupt(error.message) from error
        key = (topic, row.number(1, _INT32_MAX))
        if key in offsets:
            raise row.corrupt(f"a second offset for {topic} {key[1]}")
        offsets[key] = row.number(2, _OFFSET_MAX)
    return offsets


# ------------------------------------------------------------------------------------------------------- leader epochs


def encode_epochs(epochs: Iterable[tuple[int, int]]) -> bytes:
    """Rows of (leader epoch, its first offset)."""
    return _encode_rows(f"{epoch} {start_offset}" for epoch, start_offset in epochs)


def decode_epochs(data: bytes) -> list[tuple[int, int]]:
    """Rows of (leader epoch, its first offset), as they stand. Raises CorruptCheckpoint."""
    return [(row.number(0, _INT32_MAX), row.number(1, _OFFSET_MAX)) for row in _decode_rows(data, field_count=2)]


# ---------------------------------------------------------------------------------------------------------------- gaps


def encode_gaps(gaps: Iterable[tuple[int, int]]) -> bytes:
    """Rows of (first offset, last offset) of what is missing."""
    return _encode_rows(f"{first_offset} {last_offset}" for first_offset, last_offset in gaps)


def decode_gaps(data: bytes) -> list[tuple[int, int]]:
    """Rows of (first offset, last offset) of what is missing, as they stand. Raises CorruptCheckpoint."""
    gaps = []
    for row in _decode_rows(data, field_count=2):
        first_offset, last_offset = row.number(0, _OFFSET_MAX), row.number(1, _OFFSET_MAX)
        if first_offset > last_offset:
            raise row.corrupt(f"a gap that ends before it starts: {first_offset} to {last_offset}")
        gaps.append((first_offset, last_offset))
    return gaps


# ------------------------------------------------------------------------------------------------- partition.metadata

_METADATA_VERSION = re.compile(r"version: ([0-9]{1,9})")
_METADATA_TOPIC_ID = re.compile(r"topic_id: ([A-Za-z0-9_-]{22})")


def encode_partition_metadata(topic_id: UUID) -> bytes:
    text = urlsafe_b64encode(topic_id.bytes).decode().rstrip("=")
    return f"version: {VERSION}\ntopic_id: {text}".encode()


def decode_partition_metadata(data: bytes) -> UUID:
    """The topic's id. A later version is read too: Kafka promises that it begins alike. Raises CorruptCheckpoint."""
    lines = [*_split_lines(data), _Line(2, len(data), "")]
    if not _METADATA_VERSION.fullmatch(lines[0].text):
        raise lines[0].corrupt(f"{lines[0].text[:80]!r} instead of a version")
    match = _METADATA_TOPIC_ID.fullmatch(lines[1].text)
    if match is None:
        raise lines[1].corrupt(f"{lines[1].text[:80]!r} instead of a topic_id of 22 characters")
    topic_id = UUID(bytes=urlsafe_b64decode(match[1] + "=="))
    if topic_id.int == 0:
        raise lines[1].corrupt("the topic_id is zero")
    return topic_id


# --------------------------------------------------------------------------------------------------------------- rows


class _Line(NamedTuple):
    line: int  # from 1
    position: int
    text: str

    @property
    def fields(self) -> list[str]:
        return self.text.split(" ")

    def number(self, field: int, highest: int) -> int:
        """The number in a field. Stricter than ``int``, which takes blanks, underscores and other scripts' digits."""
        text = self.fields[field]
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise self.corrupt(f"{text[:80]!r} is not a number from 0")
        if int(text) > highest:
            raise self.corrupt(f"{text} is over {highest}")
        return int(text)

    def corrupt(self, reason: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"line {self.line}: {reason}", self.position)


def _encode_rows(rows: Iterable[str]) -> bytes:
    lines = list(rows)
    return "\n".join((str(VERSION), str(len(lines)), *lines, "")).encode()


def _decode_rows(data: bytes, field_count: int) -> Iterator[_Line]:
    """The rows of a checkpoint, once version, count and the number of fields are right."""
    lines = _split_lines(data)
    end = lines.pop()
    if end.text:
        raise end.corrupt("the file ends within the line")
    if not lines or lines[0].number(0, _INT32_MAX) != VERSION:
        raise _Line(1, 0, "").corrupt(f"version {VERSION} is the only one known")
    if len(lines) < 2:
        raise end.corrupt("the file ends before its count")
    if lines[1].number(0, _INT32_MAX) != len(lines) - 2:
        raise lines[1].corrupt(f"the count is {lines[1].text}, but {len(lines) - 2} rows follow")
    for row in lines[2:]:
        if len(row.fields) != field_count:
            raise row.corrupt(f"{len(row.fields)} fields instead of {field_count}")
        yield row


def _split_lines(data: bytes) -> list[_Line]:
    """All lines, without their line feeds; the last is what follows the last line feed, mostly nothing."""
    if not data:
        raise CorruptCheckpoint("line 1: the file is empty")
    lines = []
    position = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            lines.append(_Line(number, position, line.decode()))
        except UnicodeDecodeError as error:
            raise CorruptCheckpoint(f"line {number}: not UTF-8", position + error.start) from error
        position += len(line) + 1
    return lines
