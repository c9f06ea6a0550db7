"""The records of ``__consumer_offsets``: Kafka's own schemas of their keys and values, big-endian.

::

    key      int16 0 or 1 | group string | topic string | partition int32             an offset commit
             int16 2 | group string                                                   a group's metadata
             int16 3 and more                                                         other kinds of groups: not read

    offset commit value       int16 version, then, with the versions that have the field:
             offset int64 | leader_epoch int32 (3+) | metadata string | commit_timestamp int64
             | expire_timestamp int64 (1) | tags (4+), tag 0: topic id, 16 bytes

    group metadata value      int16 version, then:
             protocol_type string | generation int32 | protocol string? | leader string?
             | current_state_timestamp int64 (2+) | members: an array of
               ( member_id string | group_instance_id string? (3+) | client_id string | client_host string
                 | rebalance_timeout int32 (1+) | session_timeout int32 | subscription bytes | assignment bytes
                 | tags (4+) ) | tags (4+)

    below version 4           string: size int16 (-1: null), UTF-8; bytes: size int32, bytes; array: count int32, items
    version 4, "flexible"     sizes and counts are unsigned varints, one higher than they are (0: null);
                              tags: count varint, then ( tag varint | size varint | bytes ), all of which may be skipped

A value of null (a tombstone) has no bytes and is not for this module. Nothing is checksummed here: the records stand in
batches. Group metadata cannot be rebuilt; a group that lost it starts anew from its committed offsets.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from logstore.errors import CorruptBatch, InvalidRecord
from logstore.format.record import Buffer
from logstore.format.varint import decode_unsigned_varint, encode_unsigned_varint

OFFSET_COMMIT_KEY_VERSION = 1
GROUP_METADATA_KEY_VERSION = 2
VALUE_VERSION = 3  # what Kafka writes as long as no topic id is known; readers take 0 to 4
VALUE_VERSION_MAX = 4

_INT16 = Struct(">h")
_INT32 = Struct(">i")
_INT64 = Struct(">q")
_TOPIC_ID_TAG = 0

assert (_INT16.size, _INT32.size, _INT64.size) == (2, 4, 8)


class OffsetCommitKey(NamedTuple):
    group: str
    topic: str
    partition: int


class GroupMetadataKey(NamedTuple):
    group: str


class UnknownKey(NamedTuple):
    """A key of another kind, say of the groups of KIP-848; ``raw`` is all of it."""

    version: int
    raw: bytes


Key = OffsetCommitKey | GroupMetadataKey | UnknownKey


class OffsetCommitValue(NamedTuple):
    offset: int
    leader_epoch: int = -1
    metadata: str = ""
    commit_timestamp: int = -1  # ms
    expire_timestamp: int = -1  # ms; only version 1 keeps it
    topic_id: UUID | None = None  # only version 4 keeps it


class GroupMember(NamedTuple):
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout: int  # ms; -1: unknown
    session_timeout: int  # ms
    subscription: bytes
    assignment: bytes


class GroupMetadataValue(NamedTuple):
    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    current_state_timestamp: int  # ms; -1: unknown
    members: tuple[GroupMember, ...]


# --------------------------------------------------------------------------------------------------------------- keys


def encode_key(key: Key) -> bytes:
    """Raises InvalidRecord for a string over 32,767 bytes."""
    match key:
        case OffsetCommitKey():
            writer = _Writer(OFFSET_COMMIT_KEY_VERSION, flexible=False)
            writer.string(key.group)
            writer.string(key.topic)
            writer.int32(key.partition)
            return writer.finish()
        case GroupMetadataKey():
            writer = _Writer(GROUP_METADATA_KEY_VERSION, flexible=False)
            writer.string(key.group)
            return writer.finish()
        case UnknownKey():
            return key.raw


def decode_key(buffer: Buffer) -> Key:
    """Raises CorruptBatch; a key of another kind is an UnknownKey, not an error."""
    reader = _Reader(buffer)
    version = reader.int16()
    key: Key
    if 0 <= version <= OFFSET_COMMIT_KEY_VERSION:
        key = OffsetCommitKey(reader.string(), reader.string(), reader.int32())
    elif version == GROUP_METADATA_KEY_VERSION:
        key = GroupMetadataKey(reader.string())
    else:
        return UnknownKey(version, bytes(buffer))
    reader.finish()
    return key


# ------------------------------------------------------------------------------------------------------ offset commits


def encode_offset_commit(value: OffsetCommitValue, version: int = VALUE_VERSION) -> bytes:
    """What ``version`` (0 to 4) has no field for is left out. Raises InvalidRecord for a string over 32,767 bytes."""
    assert 0 <= version <= VALUE_VERSION_MAX
    writer = _Writer(version, flexible=version >= 4)
    writer.int64(value.offset)
    if version >= 3:
        writer.int32(value.leader_epoch)
    writer.string(value.metadata)
    writer.int64(value.commit_timestamp)
    if version == 1:
        writer.int64(value.expire_timestamp)
    writer.tags({} if value.topic_id is None else {_TOPIC_ID_TAG: value.topic_id.bytes})
    return writer.finish()


def decode_offset_commit(buffer: Buffer) -> OffsetCommitValue:
    """Raises CorruptBatch."""
    reader = _Reader(buffer)
    version = reader.value_version()
    offset = reader.int64()
    leader_epoch = reader.int32() if version >= 3 else -1
    metadata = reader.string()
    commit_timestamp = reader.int64()
    expire_timestamp = reader.int64() if version == 1 else -1
    topic_id = None
    for tag, field in reader.tags():
        if tag == _TOPIC_ID_TAG:
            if len(field) != 16:
                raise CorruptBatch(f"a topic id of {len(field)} bytes", reader.position - len(field))
            topic_id = UUID(bytes=field)
    reader.finish()
    return OffsetCommitValue(offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id)


# ----------------------------------------------------------------------------------------------------- group metadata


def encode_group_metadata(value: GroupMetadataValue, version: int = VALUE_VERSION) -> bytes:
    """What ``version`` (0 to 4) has no field for is left out. Raises InvalidRecord for a string over 32,767 bytes."""
    assert 0 <= version <= VALUE_VERSION_MAX
    writer = _Writer(version, flexible=version >= 4)
    writer.string(value.protocol_type)
    writer.int32(value.generation)
    writer.string(value.protocol)
    writer.string(value.leader)
    if version >= 2:
        writer.int64(value.current_state_timestamp)
    writer.count(len(value.members))
    for member in value.members:
        writer.string(member.member_id)
        if version >= 3:
            writer.string(member.group_instance_id)
        writer.string(member.client_id)
        writer.string(member.client_host)
        if version >= 1:
            writer.int32(member.rebalance_timeout)
        writer.int32(member.session_timeout)
        writer.blob(member.subscription)
        writer.blob(member.assignment)
        writer.tags({})
    writer.tags({})
    return writer.finish()


def decode_group_metadata(buffer: Buffer) -> GroupMetadataValue:
    """Raises CorruptBatch."""
    reader = _Reader(buffer)
    version = reader.value_version()
    value = GroupMetadataValue(
        protocol_type=reader.string(),
        generation=reader.int32(),
        protocol=reader.nullable_string(),
        leader=reader.nullable_string(),
        current_state_timestamp=reader.int64() if version >= 2 else -1,
        members=tuple([_decode_member(reader, version) for _ in range(reader.count())]),
    )
    reader.skip_tags()
    reader.finish()
    return value


def _decode_member(reader: "_Reader", version: int) -> GroupMember:
    member = GroupMember(
        member_id=reader.string(),
        group_instance_id=reader.nullable_string() if version >= 3 else None,
        client_id=reader.string(),
        client_host=reader.string(),
        rebalance_timeout=reader.int32() if version >= 1 else -1,
        session_timeout=reader.int32(),
        subscription=reader.blob(),
        assignment=reader.blob(),
    )
    reader.skip_tags()
    return member


# ---------------------------------------------------------------------------------------------------------- primitives


class _Writer:
    def __init__(self, version: int, flexible: bool) -> None:
        self._pieces = [_INT16.pack(version)]
        self._flexible = flexible

    def int32(self, value: int) -> None:
        self._pieces.append(_INT32.pack(value))

    def int64(self, value: int) -> None:
        self._pieces.append(_INT64.pack(value))

    def string(self, value: str | None) -> None:
        encoded = None if value is None else value.encode()
        size = -1 if encoded is None else len(encoded)
        if self._flexible:
            self._pieces.append(encode_unsigned_varint(size + 1))
        elif size < 2**15:
            self._pieces.append(_INT16.pack(size))
        else:
            raise InvalidRecord(f"a string of {size} bytes; group metadata holds at most 32767")
        self._pieces.append(encoded or b"")

    def blob(self, value: bytes) -> None:
        self.count(len(value))
        self._pieces.append(value)

    def count(self, count: int) -> None:
        self._pieces.append(encode_unsigned_varint(count + 1) if self._flexible else _INT32.pack(count))

    def tags(self, fields: dict[int, bytes]) -> None:
        """Tagged fields, by ascending tag; versions that are not flexible have none."""
        if self._flexible:
            self._pieces.append(encode_unsigned_varint(len(fields)))
            for tag, field in fields.items():
                self._pieces += (encode_unsigned_varint(tag), encode_unsigned_varint(len(field)), field)

    def finish(self) -> bytes:
        return b"".join(self._pieces)


class _Reader:
    def __init__(self, buffer: Buffer) -> None:
        self._view = memoryview(buffer)
        self._flexible = False
        self.position = 0

    def value_version(self) -> int:
        version = self.int16()
        if not 0 <= version <= VALUE_VERSION_MAX:
            raise CorruptBatch(f"version {version} of a value in __consumer_offsets is not known")
        self._flexible = version >= 4
        return version

    def int16(self) -> int:
        return self._unpack(_INT16)

    def int32(self) -> int:
        return self._unpack(_INT32)

    def int64(self) -> int:
        return self._unpack(_INT64)

    def nullable_string(self) -> str | None:
        start = self.position
        size = self._varint() - 1 if self._flexible else self.int16()
        if size == -1:
            return None
        try:
            return str(self._take(size), "utf-8")
        except UnicodeDecodeError as error:
            raise CorruptBatch("a string is not UTF-8", start) from error

    def string(self) -> str:
        start = self.position
        value = self.nullable_string()
        if value is None:
            raise CorruptBatch("a string is null where it cannot be", start)
        return value

    def blob(self) -> bytes:
        return bytes(self._take(self.count()))

    def count(self) -> int:
        start = self.position
        count = self._varint() - 1 if self._flexible else self.int32()
        if not 0 <= count <= len(self._view) - self.position:  # an item takes a byte at least
            raise CorruptBatch(f"{count} items in {len(self._view) - self.position} bytes", start)
        return count

    def tags(self) -> Iterator[tuple[int, bytes]]:
        """Tagged fields; versions that are not flexible have none."""
        for _ in range(self._varint() if self._flexible else 0):
            yield self._varint(), bytes(self._take(self._varint()))

    def skip_tags(self) -> None:
        for _ in self.tags():
            pass

    def finish(self) -> None:
        if self.position != len(self._view):
            raise CorruptBatch(f"{len(self._view) - self.position} bytes follow the last field", self.position)

    def _varint(self) -> int:
        value, self.position = decode_unsigned_varint(self._view, self.position)
        return value

    def _take(self, size: int) -> memoryview:
        end = self.position + size
        if size < 0 or end > len(self._view):
            raise CorruptBatch(
                f"a field of {size} bytes where {len(self._view) - self.position} are left", self.position
            )
        field = self._view[self.position : end]
        self.position = end
        return field

    def _unpack(self, struct: Struct) -> int:
        value: int = struct.unpack(self._take(struct.size))[0]
        return value
