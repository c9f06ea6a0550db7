"""The records in ``__consumer_offsets`` of the newer consumer groups (KIP-848), whose partitions the coordinator hands
out: Kafka's own schemas of their keys and values, big-endian.

::

    key      int16 3 | group string                            ConsumerGroupMetadata
             int16 4 | group string                            ConsumerGroupPartitionMetadata
             int16 5 | group string | member string            ConsumerGroupMemberMetadata
             int16 6 | group string                            ConsumerGroupTargetAssignmentMetadata
             int16 7 | group string | member string            ConsumerGroupTargetAssignmentMember
             int16 8 | group string | member string            ConsumerGroupCurrentMemberAssignment

    value    int16 0, then flexible fields (see ``primitives``) and tags:
      3      group epoch int32
      4      topics: an array of ( id 16 bytes | name string | partition count int32
             | racks: an array of ( partition int32 | racks: an array of string | tags ), empty here | tags )
      5      instance string? | rack string? | client id string | client host string | topics: an array of string
             | regex string? | rebalance_timeout int32, ms | assignor string? | tags, 0: of a classic member, not kept
      6      assignment epoch int32
      7      partitions: an array of ( topic id 16 bytes | numbers: an array of int32 | tags )
      8      member epoch int32 | epoch before int32 | state int8 | partitions, as in 7 | those to be revoked, as in 7

Nothing is checksummed here: the records stand in batches. A group that lost them begins anew; its offsets are others.
"""

from collections.abc import Iterable
from enum import IntEnum
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from logstore.errors import CorruptBatch
from logstore.format.primitives import Reader, Writer
from logstore.format.record import Buffer

FIRST_KEY_VERSION, LAST_KEY_VERSION = 3, 8

_VALUE_VERSION = 0
_INT8 = Struct(">b")
assert _INT8.size == 1

# Partitions of topics by the topics' ids: (id, number).
Partitions = frozenset[tuple[UUID, int]]


class RecordKind(IntEnum):
    """By the version of its key."""

    GROUP_EPOCH = 3
    TOPICS = 4
    MEMBER = 5
    TARGET_EPOCH = 6
    TARGET = 7
    CURRENT = 8


class GroupKey(NamedTuple):
    """``member_id`` is empty where the record is of the whole group."""

    kind: RecordKind
    group: str
    member_id: str = ""


class KnownTopic(NamedTuple):
    """A topic that members read, as it was when partitions were last handed out."""

    topic_id: UUID
    name: str
    partition_count: int


class MemberMetadata(NamedTuple):
    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    topics: tuple[str, ...]
    regex: str | None
    rebalance_timeout_ms: int
    assignor: str | None


class MemberState(IntEnum):
    STABLE = 0
    UNREVOKED_PARTITIONS = 1  # it is to give up partitions first
    UNRELEASED_PARTITIONS = 2  # it waits for partitions that others are to give up


class CurrentAssignment(NamedTuple):
    epoch: int
    previous_epoch: int
    state: MemberState
    assigned: Partitions
    revoking: Partitions


GroupValue = int | tuple[KnownTopic, ...] | MemberMetadata | Partitions | CurrentAssignment
GroupRecord = tuple[GroupKey, GroupValue | None]  # None: a tombstone

_OF_MEMBERS = (RecordKind.MEMBER, RecordKind.TARGET, RecordKind.CURRENT)


# --------------------------------------------------------------------------------------------------------------- keys


def encode_group_key(key: GroupKey) -> bytes:
    """Raises InvalidRecord for a string over 32,767 bytes."""
    writer = Writer()
    writer.int16(key.kind)
    writer.string(key.group)
    if key.kind in _OF_MEMBERS:
        writer.string(key.member_id)
    return writer.finish()


def decode_group_key(buffer: Buffer) -> GroupKey:
    """Of a key whose version is one of the above. Raises CorruptBatch."""
    reader = Reader(buffer, CorruptBatch)
    kind = RecordKind(reader.int16())
    key = GroupKey(kind, reader.string(), reader.string() if kind in _OF_MEMBERS else "")
    reader.finish()
    return key


# ------------------------------------------------------------------------------------------------------------- values


def encode_group_value(value: GroupValue) -> bytes:
    writer = Writer(flexible=True)
    writer.int16(_VALUE_VERSION)
    match value:
        case int():
            writer.int32(value)
        case MemberMetadata():
            _write_member(writer, value)
        case CurrentAssignment():
            writer.int32(value.epoch)
            writer.int32(value.previous_epoch)
            writer.raw(_INT8.pack(value.state))
            _write_partitions(writer, value.assigned)
            _write_partitions(writer, value.revoking)
        case frozenset():
            _write_partitions(writer, value)
        case _:
            _write_topics(writer, value)
    writer.tags({})
    return writer.finish()


def decode_group_value(kind: RecordKind, buffer: Buffer) -> GroupValue:
    """Raises CorruptBatch."""
    reader = Reader(buffer, CorruptBatch)
    version = reader.int16()
    if version != _VALUE_VERSION:
        raise CorruptBatch(f"version {version} of a value in __consumer_offsets is not known")
    reader.flexible = True
    value: GroupValue
    match kind:
        case RecordKind.GROUP_EPOCH | RecordKind.TARGET_EPOCH:
            value = reader.int32()
        case RecordKind.TOPICS:
            value = tuple([_read_topic(reader) for _ in range(reader.count())])
        case RecordKind.MEMBER:
            value = _read_member(reader)
        case RecordKind.TARGET:
            value = _read_partitions(reader)
        case RecordKind.CURRENT:
            epochs = reader.int32(), reader.int32()
            state = _read_state(reader)
            value = CurrentAssignment(*epochs, state, _read_partitions(reader), _read_partitions(reader))
    reader.skip_tags()
    reader.finish()
    return value


def _write_member(writer: Writer, member: MemberMetadata) -> None:
    writer.string(member.instance_id)
    writer.string(member.rack_id)
    writer.string(member.client_id)
    writer.string(member.client_host)
    writer.count(len(member.topics))
    for topic in member.topics:
        writer.string(topic)
    writer.string(member.regex)
    writer.int32(member.rebalance_timeout_ms)
    writer.string(member.assignor)


def _read_member(reader: Reader) -> MemberMetadata:
    return MemberMetadata(
        instance_id=reader.nullable_string(),
        rack_id=reader.nullable_string(),
        client_id=reader.string(),
        client_host=reader.string(),
        topics=tuple([reader.string() for _ in range(reader.count())]),
        regex=reader.nullable_string(),
        rebalance_timeout_ms=reader.int32(),
        assignor=reader.nullable_string(),
    )


def _write_topics(writer: Writer, topics: Iterable[KnownTopic]) -> None:
    ordered = sorted(topics, key=lambda topic: topic.name)
    writer.count(len(ordered))
    for topic in ordered:
        writer.raw(topic.topic_id.bytes)
        writer.string(topic.name)
        writer.int32(topic.partition_count)
        writer.count(0)
        writer.tags({})


def _read_topic(reader: Reader) -> KnownTopic:
    topic = KnownTopic(reader.uuid(), reader.string(), reader.int32())
    for _ in range(reader.count()):
        reader.int32()
        for _ in range(reader.count()):
            reader.string()
        reader.skip_tags()
    reader.skip_tags()
    return topic


def _write_partitions(writer: Writer, partitions: Partitions) -> None:
    by_topic: dict[UUID, list[int]] = {}
    for topic_id, number in sorted(partitions):
        by_topic.setdefault(topic_id, []).append(number)
    writer.count(len(by_topic))
    for topic_id, numbers in by_topic.items():
        writer.raw(topic_id.bytes)
        writer.int32_array(numbers)
        writer.tags({})


def _read_partitions(reader: Reader) -> Partitions:
    partitions: set[tuple[UUID, int]] = set()
    for _ in range(reader.count()):
        topic_id = reader.uuid()
        partitions.update([(topic_id, number) for number in reader.int32_array()])
        reader.skip_tags()
    return frozenset(partitions)


def _read_state(reader: Reader) -> MemberState:
    """One that is not known is taken for the first: the next heartbeat brings the member on."""
    [state] = _INT8.unpack(reader.raw(_INT8.size))
    return MemberState(state) if state in tuple(MemberState) else MemberState.STABLE
