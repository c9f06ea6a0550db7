"""A queue's messages: records of its topic, with what the queue has to say of each in headers of its own.

::

    logstore.visible-at          not before this time (ms since 1970): it was put with a delay
    logstore.expires-at          not after it: it was put with a time to live
    logstore.dead-reason         of a dead letter: "max.deliveries" or "expired"
    logstore.dead-queue          whose message it was, …
    logstore.dead-topic-id       … with the id of that queue's topic, …
    logstore.dead-offset         … at which offset, …
    logstore.dead-timestamp      … put when, …
    logstore.dead-deliveries     … and how often it had been handed out
    logstore.dead-at             when it became a dead letter
    logstore.replayed-from       of a message that was one: the id of the dead letters' topic, ":", its offset there

Values are text: numbers as decimal digits, ids as 32 hexadecimal ones. Other clients may set the first two as well.
"""

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import UUID

from logstore.errors import InvalidArgument, InvalidRecord, LogstoreError, NotInFlight, SerializationFailed
from logstore.format.record import Headers, Record
from logstore.settings import LONG_MAX

if TYPE_CHECKING:
    from logstore.client.queue.queue import Queue

Deserializer = Callable[[bytes], Any]

_OURS = "logstore."
_VISIBLE_AT = "logstore.visible-at"
_EXPIRES_AT = "logstore.expires-at"
_REPLAYED_FROM = "logstore.replayed-from"
_DEAD = "logstore.dead-"


class DeadLetter(NamedTuple):
    """What became of a message. Times are in ms since 1970; ``timestamp_ms`` is when it was put."""

    reason: str
    queue: str
    topic_id: UUID
    offset: int
    timestamp_ms: int
    deliveries: int
    at_ms: int


# ------------------------------------------------------------------------------------------------------------ headers


def checked_headers(headers: Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None) -> Headers:
    """As a record has them. Raises InvalidRecord for names that begin with ``logstore.``, which are the queue's."""
    if headers is None:
        return ()
    try:
        pairs = tuple([(name, value) for name, value in (headers.items() if isinstance(headers, Mapping) else headers)])
    except (TypeError, ValueError) as error:
        raise InvalidRecord(f"headers are pairs of a str and bytes or None: {error}") from None
    for name, _ in pairs:
        if isinstance(name, str) and name.startswith(_OURS):
            raise InvalidRecord(f"the header {name!r} is for the queue to set: choose another name")
    return pairs


def timing_headers(delay: float | None, ttl: float | None, now_ms: int) -> Headers:
    """For a message that is put with a delay or a time to live, in seconds. Raises InvalidArgument."""
    headers: Headers = ()
    if delay is not None and delay != 0:
        headers += ((_VISIBLE_AT, b"%d" % (now_ms + as_ms("delay", delay))),)
    if ttl is not None:
        headers += ((_EXPIRES_AT, b"%d" % (now_ms + as_ms("ttl", ttl))),)
    return headers


def as_ms(name: str, seconds: object) -> int:
    """Seconds, from zero to those of a thousand years. Raises InvalidArgument."""
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= 3.2e10:
        return round(seconds * 1000)
    raise InvalidArgument(name, seconds, "it is a number of seconds, from 0 on")


def visible_at_ms(headers: Headers) -> int:
    """0 where it is visible at once."""
    return _number(headers, _VISIBLE_AT) or 0 if headers else 0


def expires_at_ms(headers: Headers) -> int | None:
    return _number(headers, _EXPIRES_AT) if headers else None


def _number(headers: Headers, name: str) -> int | None:
    """The last header of this name, where it is a number: a header that is none of ours is not believed."""
    for key, value in reversed(headers):
        if key == name and value is not None and value.isdigit() and int(value[:20]) <= LONG_MAX:
            return int(value[:20])
    return None


def dead_headers(headers: Headers, letter: DeadLetter) -> Headers:
    """A message's headers as a dead letter."""
    numbers = letter.offset, letter.timestamp_ms, letter.deliveries, letter.at_ms
    names = "offset", "timestamp", "deliveries", "at"
    return (
        *without_ours(headers),
        (_DEAD + "reason", letter.reason.encode()),
        (_DEAD + "queue", letter.queue.encode()),
        (_DEAD + "topic-id", letter.topic_id.hex.encode()),
        *[(_DEAD + name, b"%d" % number) for name, number in zip(names, numbers)],
    )


def read_dead_letter(headers: Headers) -> DeadLetter | None:
    """None where a record is no dead letter."""
    fields = {name.removeprefix(_DEAD): value or b"" for name, value in headers if name.startswith(_DEAD)}
    try:
        return DeadLetter(
            fields["reason"].decode(),
            fields["queue"].decode(),
            UUID(fields["topic-id"].decode()),
            int(fields["offset"]),
            int(fields["timestamp"]),
            int(fields["deliveries"]),
            int(fields["at"]),
        )
    except (KeyError, ValueError):
        return None


def replayed_headers(headers: Headers, topic_id: UUID, offset: int) -> Headers:
    """A dead letter's headers as a message that is put back."""
    return (*without_ours(headers), (_REPLAYED_FROM, f"{topic_id.hex}:{offset}".encode()))


def read_replayed(headers: Headers, topic_id: UUID) -> int | None:
    """Which dead letter of the topic a message was; None where it was none."""
    for name, value in headers:
        if name == _REPLAYED_FROM:
            found_id, _, offset = (value or b"").partition(b":")
            return int(offset[:20]) if found_id == topic_id.hex.encode() and offset.isdigit() else None
    return None


def without_ours(headers: Headers) -> Headers:
    return tuple([header for header in headers if not header[0].startswith(_OURS)])


# ----------------------------------------------------------------------------------------------------------- messages

_UNSET = object()


class Message:
    """A message as it was put. ``deliveries`` counts how often it has been handed out, this time included."""

    __slots__ = ("_deserializer", "_value", "deliveries", "record")

    def __init__(self, record: Record, deliveries: int, deserializer: Deserializer | None = None) -> None:
        self.record = record
        self.deliveries = deliveries
        self._deserializer = deserializer
        self._value: Any = _UNSET

    @property
    def offset(self) -> int:
        return self.record.offset

    @property
    def timestamp_ms(self) -> int:
        """When it was put, in ms since 1970."""
        return self.record.timestamp_ms

    @property
    def key(self) -> bytes | None:
        return self.record.key

    @property
    def headers(self) -> Headers:
        """Without the queue's own."""
        return without_ours(self.record.headers) if self.record.headers else ()

    @property
    def value(self) -> Any:
        """What the queue's deserializer makes of it, or bytes. Raises SerializationFailed: the message can then still
        be acked, nacked, and read as ``record.value``."""
        if self._value is _UNSET:
            stored = self.record.value
            self._value = stored if self._deserializer is None or stored is None else self._deserialize(stored)
        return self._value

    def _deserialize(self, stored: bytes) -> Any:
        assert self._deserializer is not None
        try:
            return self._deserializer(stored)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise SerializationFailed("deserializer", self._queue_name, reason, 0, self.offset) from error

    @property
    def _queue_name(self) -> str:
        return "queue"

    @property
    def expires_at_ms(self) -> int | None:
        """After this it is not handed out, by the time to live that it was put with; ms since 1970."""
        return expires_at_ms(self.record.headers)

    @property
    def visible_at_ms(self) -> int | None:
        """It was put with a delay, until then; ms since 1970."""
        return visible_at_ms(self.record.headers) or None

    @property
    def dead_letter(self) -> DeadLetter | None:
        """Of a dead letter: why, and what it was."""
        return read_dead_letter(self.record.headers)

    def __repr__(self) -> str:
        size = len(self.record.value or b"")
        return f"<{type(self).__name__} {self.offset}: {size} bytes, delivery {self.deliveries}>"


class Job(Message):
    """A message that was got, and is this worker's until it is acked or nacked, or its visibility timeout is over.

    As a context manager it is acked at the end, or nacked where an exception ends it, unless it was settled before.
    """

    __slots__ = ("_queue", "is_settled")

    def __init__(self, queue: "Queue", record: Record, deliveries: int) -> None:
        self.record = record
        self.deliveries = deliveries
        self._deserializer = queue.deserializer
        self._value = _UNSET
        self._queue = queue
        self.is_settled = False

    @property
    def queue(self) -> "Queue":
        return self._queue

    @property
    def _queue_name(self) -> str:
        return self._queue.name

    def ack(self) -> None:
        """It is done: never handed out again, once this returns. Raises NotInFlight, StorageFailure, Closed."""
        self._queue.settling.ack(self)

    def nack(self, delay: float = 0.0) -> None:
        """It is not done: ready again after ``delay`` seconds, or a dead letter where max.deliveries is reached. Raises
        as ``ack`` does."""
        self._queue.settling.nack(self, delay)

    def extend(self, seconds: float) -> None:
        """Keep it for ``seconds`` from now on. Raises NotInFlight, Closed."""
        self._queue.settling.extend(self, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_settled:
            return
        if error is None:
            self.ack()
            return
        try:
            self.nack()
        except NotInFlight:
            pass  # its time is over, and it was handed out again anyway
        except LogstoreError as failure:
            error.add_note(f"and it could not be nacked, so it comes back after its visibility timeout: {failure}")
