"""What a queue notes of its messages: the records of its state topic, which have a value only, big-endian.

::

    delivered   int8 1 | first int64 | last int64 | deliveries int32      handed out, each for the so-many-th time
    settled     int8 2 | first int64 | last int64 | outcome int8          never handed out again
    returned    int8 3 | offset int64 | visible_at int64                  ready again then (ms since 1970; 0: at once)
    buried      int8 4 | offset int64 | dead_offset int64                 settled: it is a dead letter, at that offset
    replaying   int8 5 | from int64                                       dead letters are being put back, at offsets
                                                                          from there on; -1: they all are
    settings    int8 6 | topic_id 16 bytes | settings                     of the topic whose messages these are
    snapshot    int8 7 | topic_id 16 bytes | cursor int64 | dead_end int64 | replaying_from int64
                | settings_size int32 | settings
                | lost_count int32 | lost_count x ( first int64 | last int64 )
                | pending_count int32 | pending_count x ( offset int64 | deliveries int32 | visible_at int64 )

Settings are lines of ``name=value``, UTF-8. A snapshot says all that the records before it have said, so that they can
go: messages below the cursor are settled, but for those that are pending; from the cursor on none has been handed out.
A pending message with visible_at 0 is ready, or has not been looked at; with -1, a worker has it.

Nothing is checksummed here: the records stand in batches. What is lost of them cannot be rebuilt, and costs messages
that are handed out once more, never one that is not handed out.
"""

from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from logstore.errors import CorruptBatch, InvalidRecord
from logstore.format.record import Buffer

_DELIVERED = Struct(">bqqi")
_SETTLED = Struct(">bqqb")
_RETURNED = Struct(">bqq")
_BURIED = Struct(">bqq")
_REPLAYING = Struct(">bq")
_SETTINGS = Struct(">b16s")
_SNAPSHOT = Struct(">b16sqqqi")
_COUNT = Struct(">i")
_RANGE = Struct(">qq")
_PENDING = Struct(">qiq")

assert (_DELIVERED.size, _SETTLED.size, _RETURNED.size, _BURIED.size, _REPLAYING.size) == (21, 18, 17, 17, 9)
assert (_SETTINGS.size, _SNAPSHOT.size, _COUNT.size, _RANGE.size, _PENDING.size) == (17, 45, 4, 16, 20)

NOT_REPLAYING = -1
WITH_WORKER = -1


class Outcome(IntEnum):
    """How messages were settled."""

    ACKED = 0
    PURGED = 1
    LOST = 2  # to damage: reads could not give them
    NO_MESSAGE = 3  # offsets that hold none, as a transaction's marker does


class Delivered(NamedTuple):
    """``last`` is inclusive, here and below."""

    first: int
    last: int
    deliveries: int


class Settled(NamedTuple):
    first: int
    last: int
    outcome: Outcome


class Returned(NamedTuple):
    offset: int
    visible_at_ms: int


class Buried(NamedTuple):
    offset: int
    dead_offset: int


class Replaying(NamedTuple):
    from_offset: int


class SettingsChanged(NamedTuple):
    topic_id: UUID
    settings: dict[str, str]


class PendingMessage(NamedTuple):
    offset: int
    deliveries: int
    visible_at_ms: int


class Snapshot(NamedTuple):
    topic_id: UUID
    cursor: int
    dead_end: int
    replaying_from: int
    settings: dict[str, str]
    lost: tuple[tuple[int, int], ...]
    pending: tuple[PendingMessage, ...]


Event = Delivered | Settled | Returned | Buried | Replaying | SettingsChanged | Snapshot

_TYPES: dict[type, int] = {
    kind: number
    for number, kind in enumerate((Delivered, Settled, Returned, Buried, Replaying, SettingsChanged, Snapshot), 1)
}


# ------------------------------------------------------------------------------------------------------------- encode


def encode_delivered(first: int, last: int, deliveries: int) -> bytes:
    return _DELIVERED.pack(1, first, last, deliveries)


def encode_settled(first: int, last: int, outcome: int = 0) -> bytes:
    return _SETTLED.pack(2, first, last, outcome)


def encode_event(event: Event) -> bytes:
    """Raises InvalidRecord for settings that lines cannot hold."""
    kind = _TYPES[type(event)]
    match event:
        case Delivered():
            return _DELIVERED.pack(kind, *event)
        case Settled():
            return _SETTLED.pack(kind, *event)
        case Returned():
            return _RETURNED.pack(kind, *event)
        case Buried():
            return _BURIED.pack(kind, *event)
        case Replaying():
            return _REPLAYING.pack(kind, *event)
        case SettingsChanged():
            return _SETTINGS.pack(kind, event.topic_id.bytes) + _encode_settings(event.settings)
        case Snapshot():
            return _encode_snapshot(kind, event)


def _encode_snapshot(kind: int, event: Snapshot) -> bytes:
    settings = _encode_settings(event.settings)
    fixed = event.topic_id.bytes, event.cursor, event.dead_end, event.replaying_from
    pieces = [_SNAPSHOT.pack(kind, *fixed, len(settings)), settings, _COUNT.pack(len(event.lost))]
    pieces += [_RANGE.pack(*lost) for lost in event.lost]
    pieces.append(_COUNT.pack(len(event.pending)))
    pieces += [_PENDING.pack(*message) for message in event.pending]
    return b"".join(pieces)


def _encode_settings(settings: dict[str, str]) -> bytes:
    for name, value in settings.items():
        if "\n" in name + value or "=" in name:
            raise InvalidRecord(f"the setting {name}={value!r} does not fit a line")
    return "".join(f"{name}={value}\n" for name, value in settings.items()).encode()


# ------------------------------------------------------------------------------------------------------------- decode


def decode_event(buffer: Buffer) -> Event:
    """Raises CorruptBatch."""
    kind = buffer[0] if len(buffer) else 0
    if kind in _FIXED:
        layout, make = _FIXED[kind]
        if len(buffer) != layout.size:
            raise CorruptBatch(f"a queue's record of type {kind} has {layout.size} bytes, not {len(buffer)}")
        try:
            return make(*layout.unpack(buffer)[1:])
        except ValueError as error:
            raise CorruptBatch(f"a queue's record of type {kind}: {error}") from None
    if kind == _TYPES[SettingsChanged] and len(buffer) >= _SETTINGS.size:
        topic_id = _SETTINGS.unpack_from(buffer)[1]
        return SettingsChanged(UUID(bytes=topic_id), _decode_settings(bytes(buffer[_SETTINGS.size :])))
    if kind == _TYPES[Snapshot]:
        return _decode_snapshot(bytes(buffer))
    raise CorruptBatch(f"a queue's record of {len(buffer)} bytes and type {kind} is not known")


def _settled(first: int, last: int, outcome: int) -> Settled:
    return Settled(first, last, Outcome(outcome))


_FIXED: dict[int, tuple[Struct, Callable[..., Event]]] = {
    1: (_DELIVERED, Delivered),
    2: (_SETTLED, _settled),
    3: (_RETURNED, Returned),
    4: (_BURIED, Buried),
    5: (_REPLAYING, Replaying),
}


def _decode_snapshot(data: bytes) -> Snapshot:
    if len(data) < _SNAPSHOT.size:
        raise CorruptBatch(f"a snapshot of {len(data)} bytes is too short")
    _, topic_id, cursor, dead_end, replaying_from, settings_size = _SNAPSHOT.unpack_from(data)
    at = _SNAPSHOT.size + settings_size
    if settings_size < 0 or at > len(data):
        raise CorruptBatch(f"settings of {settings_size} bytes do not fit the snapshot", _SNAPSHOT.size)
    settings = _decode_settings(data[_SNAPSHOT.size : at])
    lost, at = _decode_rows(data, at, _RANGE)
    pending, at = _decode_rows(data, at, _PENDING)
    if at != len(data):
        raise CorruptBatch(f"{len(data) - at} bytes follow a snapshot", at)
    return Snapshot(
        UUID(bytes=topic_id),
        cursor,
        dead_end,
        replaying_from,
        settings,
        tuple([(first, last) for first, last in lost]),
        tuple([PendingMessage(*row) for row in pending]),
    )


def _decode_rows(data: bytes, at: int, layout: Struct) -> tuple[list[tuple[int, ...]], int]:
    """The rows whose count stands at ``at``, and where they end."""
    start = at + _COUNT.size
    count = _COUNT.unpack_from(data, at)[0] if start <= len(data) else -1
    end = start + count * layout.size
    if count < 0 or end > len(data):
        raise CorruptBatch(f"{count} rows of {layout.size} bytes do not fit the snapshot", at)
    return list(layout.iter_unpack(data[start:end])), end


def _decode_settings(data: bytes) -> dict[str, str]:
    try:
        lines = [line.partition("=") for line in data.decode().split("\n")[:-1]]
    except UnicodeDecodeError as error:
        raise CorruptBatch(f"settings are not UTF-8: {error.reason}") from None
    if data and not data.endswith(b"\n"):
        raise CorruptBatch("settings end in the middle of a line")
    if not all(separator for _, separator, _ in lines):
        raise CorruptBatch("settings are lines of name=value")
    return {name: value for name, _, value in lines}
