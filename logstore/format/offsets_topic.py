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

Strings, bytes, arrays and tags are as in ``primitives``; version 4 is flexible.

A value of null (a tombstone) has no bytes and is not for this module. Nothing is checksummed here: the records stand in
batches. Group metadata cannot be rebuilt; a group that lost it starts anew from its committed offsets.

Keys and values of commits are read by the million on opening: those as they are written here have a short way.
"""

from struct import Struct
from struct import error as StructError
from typing import NamedTuple
from uuid import UUID

from logstore.errors import CorruptBatch
from logstore.format.primitives import Reader, Writer
from logstore.format.record import Buffer

OFFSET_COMMIT_KEY_VERSION = 1
GROUP_METADATA_KEY_VERSION = 2
VALUE_VERSION = 3  # what Kafka writes as long as no topic id is known; readers take 0 to 4
VALUE_VERSION_MAX = 4
EXPIRING_VALUE_VERSION = 1  # of a commit with a time of its own, which has no leader epoch then, as in Kafka

_TOPIC_ID_TAG = 0

_SIZE = Struct(">h")
_PARTITION = Struct(">i")
_COMMIT_HEAD = Struct(">hqih")  # of version 3: version, offset, leader epoch, size of the metadata
_COMMIT_END = Struct(">q")  # commit timestamp
assert (_SIZE.size, _PARTITION.size, _COMMIT_HEAD.size, _COMMIT_END.size) == (2, 4, 16, 8)


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
    writer = Writer()
    match key:
        case OffsetCommitKey():
            writer.int16(OFFSET_COMMIT_KEY_VERSION)
            writer.string(key.group)
            writer.string(key.topic)
            writer.int32(key.partition)
            return writer.finish()
        case GroupMetadataKey():
            writer.int16(GROUP_METADATA_KEY_VERSION)
            writer.string(key.group)
            return writer.finish()
        case UnknownKey():
            return key.raw


def decode_key(buffer: Buffer) -> Key:
    """Raises CorruptBatch; a key of another kind is an UnknownKey, not an error."""
    plain = _plain_commit_key(buffer) if type(buffer) is bytes and buffer[:2] == b"\0\1" else None
    if plain is not None:
        return plain
    reader = Reader(buffer, CorruptBatch)
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


def _plain_commit_key(buffer: bytes) -> OffsetCommitKey | None:
    """None for one that is not right, for the longer way to tell why."""
    try:
        group_end = 4 + _SIZE.unpack_from(buffer, 2)[0]
        topic_end = group_end + 2 + _SIZE.unpack_from(buffer, group_end)[0]
        if not 4 <= group_end <= topic_end - 2 or topic_end + 4 != len(buffer):
            return None
        group, topic = buffer[4:group_end].decode(), buffer[group_end + 2 : topic_end].decode()
        return OffsetCommitKey(group, topic, _PARTITION.unpack_from(buffer, topic_end)[0])
    except (StructError, UnicodeDecodeError):
        return None


# ------------------------------------------------------------------------------------------------------ offset commits


def encode_offset_commit(value: OffsetCommitValue, version: int = VALUE_VERSION) -> bytes:
    """What ``version`` (0 to 4) has no field for is left out. Raises InvalidRecord for a string over 32,767 bytes."""
    writer = _value_writer(version)
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
    plain = _plain_commit(buffer) if type(buffer) is bytes and buffer[:2] == b"\0\3" else None
    if plain is not None:
        return plain
    reader, version = _value_reader(buffer)
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


def _plain_commit(buffer: bytes) -> OffsetCommitValue | None:
    """As ``_plain_commit_key``, of version 3."""
    try:
        _, offset, leader_epoch, size = _COMMIT_HEAD.unpack_from(buffer)
        end = _COMMIT_HEAD.size + size
        if size < 0 or end + _COMMIT_END.size != len(buffer):
            return None
        metadata = buffer[_COMMIT_HEAD.size : end].decode()
        return OffsetCommitValue(offset, leader_epoch, metadata, _COMMIT_END.unpack_from(buffer, end)[0])
    except (StructError, UnicodeDecodeError):
        return None


# ----------------------------------------------------------------------------------------------------- group metadata


def encode_group_metadata(value: GroupMetadataValue, version: int = VALUE_VERSION) -> bytes:
    """What ``version`` (0 to 4) has no field for is left out. Raises InvalidRecord for a string over 32,767 bytes."""
    writer = _value_writer(version)
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
    reader, version = _value_reader(buffer)
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


def _decode_member(reader: Reader, version: int) -> GroupMember:
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


def _value_writer(version: int) -> Writer:
    assert 0 <= version <= VALUE_VERSION_MAX
    writer = Writer(flexible=version >= 4)
    writer.int16(version)
    return writer


def _value_reader(buffer: Buffer) -> tuple[Reader, int]:
    """And the value's version, which has been read."""
    reader = Reader(buffer, CorruptBatch)
    version = reader.int16()
    if not 0 <= version <= VALUE_VERSION_MAX:
        raise CorruptBatch(f"version {version} of a value in __consumer_offsets is not known")
    reader.flexible = version >= 4
    return reader, version
