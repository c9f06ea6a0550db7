"""What a caller gives of a record, made what a log takes: one that cannot be is refused before anything is done.

Pure, and the same for all producers. Buffers that their owner may still change are copied.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import index
from typing import Any

from logstore.errors import InvalidArgument, InvalidRecord, InvalidTimestamp, SerializationFailed
from logstore.format.record import Headers
from logstore.settings import LONG_MAX

Serializer = Callable[[Any], Any]

_FOR_EVER_S = 1e9  # an int may be too large for a float, or a lock


def as_bytes(name: str, value: object) -> bytes | None:
    """A key's or value's bytes. Raises InvalidRecord for what has none."""
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    remedy = f"encode it, as in {name}.encode(), or give" if isinstance(value, str) else "give"
    raise InvalidRecord(
        f"a {name} is bytes or None, not {type(value).__name__}: {remedy} the producer a {name}_serializer"
    )


def serialized(name: str, value: object, serializer: Serializer, topic: str) -> bytes | None:
    """What ``serializer`` makes of ``value``; None stays None, and is not given to it. Raises SerializationFailed."""
    if value is None:
        return None
    what = f"{name} serializer"
    try:
        made = serializer(value)
    except Exception as error:
        raise SerializationFailed(what, topic, f"{type(error).__name__}: {error}") from error
    if made is None or isinstance(made, bytes | bytearray | memoryview):
        return as_bytes(name, made)
    raise SerializationFailed(what, topic, f"it gave a {type(made).__name__}, not bytes")


def as_headers(headers: Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None) -> Headers:
    """Pairs, in order, of a mapping or of pairs. Raises InvalidRecord."""
    if headers is None:
        return ()
    if isinstance(headers, str | bytes | bytearray | memoryview) or not isinstance(headers, Iterable):
        raise InvalidRecord(f"headers are a mapping or pairs, not a {type(headers).__name__}")
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    try:
        return tuple([(_as_header_key(key), as_bytes("header", value)) for key, value in pairs])
    except (TypeError, ValueError) as error:
        reason = error.reason if isinstance(error, InvalidRecord) else str(error)
        raise InvalidRecord(f"headers are pairs of a str and bytes or None: {reason}") from None


def _as_header_key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidRecord(f"a header's key is a str, not {type(key).__name__}")
    key.encode()  # a lone surrogate has no UTF-8
    return key


def as_timestamp(timestamp_ms: object) -> int:
    """Milliseconds since 1970. Raises InvalidTimestamp."""
    try:
        timestamp = index(timestamp_ms)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        raise InvalidTimestamp(
            f"a timestamp is an integer, in milliseconds, not a {type(timestamp_ms).__name__}"
        ) from None
    if not 0 <= timestamp <= LONG_MAX:
        raise InvalidTimestamp(f"timestamp {timestamp} is not between 0 and {LONG_MAX} ms since 1970")
    return timestamp


def as_timeout(name: str, timeout_s: object) -> float:
    """Seconds as a lock takes them: None, which is for ever, becomes -1. Raises InvalidArgument."""
    if timeout_s is None:
        return -1
    if not isinstance(timeout_s, int | float) or timeout_s != timeout_s:
        raise InvalidArgument(name, timeout_s, "it is a number of seconds, or None to wait for ever")
    return max(0.0, min(timeout_s, _FOR_EVER_S))


def as_seconds(timeout: object) -> float:
    """Raises InvalidArgument."""
    if isinstance(timeout, int | float) and timeout == timeout and not isinstance(timeout, bool):
        return float(max(0, min(timeout, _FOR_EVER_S)))
    raise InvalidArgument("timeout", timeout, "it is a number of seconds, or None to wait for ever")
