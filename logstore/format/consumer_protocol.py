"""What a consumer tells its group, and is told: Kafka's ConsumerProtocolSubscription and ConsumerProtocolAssignment.

Opaque bytes to the coordinator; the members encode and decode them. Big-endian, none of it flexible (``primitives``).

::

    subscription   version int16 | topics: count int32 ( string ) | user_data bytes?
                   | owned: count int32 ( topic string | partitions: count int32 ( int32 ) )       1+
                   | generation int32                                                              2+
                   | rack string?                                                                  3+

    assignment     version int16 | partitions: count int32 ( topic string | partitions: count int32 ( int32 ) )
                   | user_data bytes?                                                              the same in 0 to 3

    user data      of "sticky":  previous: count int32 ( topic string | partitions: count int32 ( int32 ) )
                   | generation int32 (left out by old members)
                   of "cooperative-sticky":  generation int32 (for members of version 0 and 1)

A version above 3 is read as 3, since fields are only ever added at the end; so whatever follows the last known field is
skipped, as Kafka does. Nothing is checksummed: the bytes stand in requests, and in records of ``__consumer_offsets``.
"""

from collections.abc import Iterable
from typing import NamedTuple

from logstore.errors import CorruptData
from logstore.format.filename import TopicPartition
from logstore.format.primitives import Reader, Writer
from logstore.format.record import Buffer

VERSION_MAX = 3
NO_GENERATION = -1


class Subscription(NamedTuple):
    """``owned``: the partitions that the member holds since ``generation``, which is -1 where it holds none."""

    topics: tuple[str, ...]
    user_data: bytes | None = None
    owned: tuple[TopicPartition, ...] = ()
    generation: int = NO_GENERATION
    rack: str | None = None


class Assignment(NamedTuple):
    partitions: tuple[TopicPartition, ...]
    user_data: bytes | None = None


class Ownership(NamedTuple):
    """What a member held, and since which generation of its group."""

    partitions: tuple[TopicPartition, ...]
    generation: int = NO_GENERATION


def encode_subscription(subscription: Subscription, version: int = VERSION_MAX) -> bytes:
    """Topics and owned partitions in order, as Kafka does; what ``version`` (0 to 3) has no field for is left out.

    Raises InvalidRecord for a string over 32,767 bytes.
    """
    assert 0 <= version <= VERSION_MAX
    writer = Writer()
    writer.int16(version)
    writer.count(len(subscription.topics))
    for topic in sorted(subscription.topics):
        writer.string(topic)
    writer.blob(subscription.user_data)
    if version >= 1:
        _write_partitions(writer, sorted(subscription.owned))
    if version >= 2:
        writer.int32(subscription.generation)
    if version >= 3:
        writer.string(subscription.rack)
    return writer.finish()


def decode_subscription(buffer: Buffer) -> Subscription:
    """Raises CorruptData."""
    reader = Reader(buffer)
    version = _read_version(reader)
    return Subscription(
        topics=tuple([reader.string() for _ in range(reader.count())]),
        user_data=reader.nullable_blob(),
        owned=_read_partitions(reader) if version >= 1 else (),
        generation=reader.int32() if version >= 2 else NO_GENERATION,
        rack=(reader.nullable_string() or None) if version >= 3 else None,
    )


def encode_assignment(assignment: Assignment, version: int = VERSION_MAX) -> bytes:
    """Raises InvalidRecord for a string over 32,767 bytes."""
    assert 0 <= version <= VERSION_MAX
    writer = Writer()
    writer.int16(version)
    _write_partitions(writer, assignment.partitions)
    writer.blob(assignment.user_data)
    return writer.finish()


def decode_assignment(buffer: Buffer) -> Assignment:
    """Raises CorruptData. No bytes at all are what a member is sent whom the leader gave nothing: no partitions."""
    if not len(buffer):
        return Assignment(())
    reader = Reader(buffer)
    _read_version(reader)
    return Assignment(_read_partitions(reader), reader.nullable_blob())


def encode_sticky_user_data(previous: Ownership) -> bytes:
    """Raises InvalidRecord for a string over 32,767 bytes."""
    writer = Writer()
    _write_partitions(writer, previous.partitions)
    writer.int32(previous.generation)
    return writer.finish()


def decode_sticky_user_data(buffer: Buffer) -> Ownership:
    """Raises CorruptData."""
    reader = Reader(buffer)
    partitions = _read_partitions(reader)
    return Ownership(partitions, NO_GENERATION if reader.position == len(buffer) else reader.int32())


def encode_cooperative_user_data(generation: int) -> bytes:
    writer = Writer()
    writer.int32(generation)
    return writer.finish()


def decode_cooperative_user_data(buffer: Buffer) -> int:
    """Raises CorruptData."""
    return Reader(buffer).int32()


def _read_version(reader: Reader) -> int:
    version = reader.int16()
    if version < 0:
        raise CorruptData(f"version {version} of the consumer protocol is not known")
    return version


def _write_partitions(writer: Writer, partitions: Iterable[TopicPartition]) -> None:
    """By topic, in the order in which the topics first come."""
    by_topic: dict[str, list[int]] = {}
    for topic, partition in partitions:
        by_topic.setdefault(topic, []).append(partition)
    writer.count(len(by_topic))
    for topic, indexes in by_topic.items():
        writer.string(topic)
        writer.int32_array(indexes)


def _read_partitions(reader: Reader) -> tuple[TopicPartition, ...]:
    partitions: list[TopicPartition] = []
    for _ in range(reader.count()):
        topic = reader.string()
        partitions += [TopicPartition(topic, partition) for partition in reader.int32_array()]
    return tuple(partitions)
