"""What a caller gives a client, made what a log takes: what cannot be is refused before anything is done.

Pure, and the same for a directory's clients and a cluster's. Buffers that their owner may still change are copied.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from operator import index
from typing import Any

from logstore.errors import InvalidArgument, InvalidRecord, InvalidTimestamp, SerializationFailed
from logstore.format.filename import TopicPartition, check_topic_name
from logstore.format.record import Headers
from logstore.groups.offsets import refusal
from logstore.groups.requests import OffsetAndMetadata
from logstore.settings import INT_MAX, LONG_MAX
from logstore.storage.arguments import as_integer

Serializer = Callable[[Any], Any]

_FOR_EVER_S = 1e9  # an int may be too large for a float, or a lock


def as_timeout(timeout_s: object) -> float:
    """Seconds as a lock takes them: None, which is for ever, becomes -1. Raises InvalidArgument."""
    if timeout_s is None:
        return -1
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or timeout_s != timeout_s:
        raise InvalidArgument("timeout", timeout_s, "it is a number of seconds, or None to wait for ever")
    return max(0.0, min(timeout_s, _FOR_EVER_S))


# ------------------------------------------------------------------------------------------------------------ records


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


# --------------------------------------------------------------------------------------------- partitions, offsets


def as_partition(given: Any) -> TopicPartition:
    """Raises InvalidArgument."""
    try:
        topic, number = given
    except (TypeError, ValueError):
        topic, number = "", -1
    if not isinstance(topic, str) or not topic or type(number) is not int or number < 0:
        raise InvalidArgument("partition", given, 'it is a pair such as ("orders", 0)')
    return TopicPartition(topic, number)


def as_partitions(given: Any) -> list[TopicPartition]:
    """Each once. Raises InvalidArgument."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidArgument("partitions", given, 'they are pairs such as ("orders", 0)')
    return list(dict.fromkeys(map(as_partition, given)))


def as_offset(offset: object) -> int:
    """Raises InvalidArgument."""
    number = as_integer("offset", offset)
    if not 0 <= number <= LONG_MAX:
        raise InvalidArgument("offset", offset, f"it is an integer from 0 to {LONG_MAX}")
    return number


def as_commits(offsets: Mapping[tuple[str, int], int | OffsetAndMetadata]) -> dict[TopicPartition, OffsetAndMetadata]:
    """How long the metadata may be is the brokers' affair. Raises InvalidArgument."""
    commits = {partition: _as_commit(offset) for partition, offset in _keyed("offsets", offsets).items()}
    for committed in commits.values():
        if (refused := refusal(committed, INT_MAX)) is not None:
            raise refused
    return commits


def as_times(timestamps_ms: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int]:
    """Raises InvalidArgument."""
    return {partition: as_time(time_ms) for partition, time_ms in _keyed("timestamps_ms", timestamps_ms).items()}


def as_time(timestamp_ms: object) -> int:
    """Raises InvalidArgument."""
    return max(as_integer("timestamp_ms", timestamp_ms), 0)  # below, librdkafka takes it for one of its own signs


def _keyed(name: str, given: Any) -> dict[TopicPartition, Any]:
    if not isinstance(given, Mapping):
        raise InvalidArgument(name, given, 'it is a mapping whose keys are pairs such as ("orders", 0)')
    return {as_partition(partition): value for partition, value in given.items()}


def _as_commit(offset: object) -> OffsetAndMetadata:
    return offset if isinstance(offset, OffsetAndMetadata) else OffsetAndMetadata(as_integer("offset", offset))


# ------------------------------------------------------------------------------------------------------------ topics


def as_subscription(topics: object, pattern: object) -> tuple[frozenset[str], re.Pattern[str] | None]:
    """Names, or else a pattern. Raises InvalidArgument, InvalidTopicName."""
    names, compiled = _as_names(topics), None if pattern is None else _as_pattern(pattern)
    if bool(names) == (compiled is not None):
        raise InvalidArgument("topics", topics, "name the topics, or else give a pattern")
    return names, compiled


def _as_names(topics: Any) -> frozenset[str]:
    try:
        names = frozenset([topics] if isinstance(topics, str) else topics)
    except (TypeError, ValueError):  # some memoryviews have no hash, and say so by the latter
        raise InvalidArgument("topics", topics, "it is a topic's name, or several") from None
    for name in names:
        check_topic_name(name)
    return names


def _as_pattern(pattern: Any) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (TypeError, ValueError, re.error) as error:
        raise InvalidArgument("pattern", pattern, f"it is no regular expression: {error}") from None
    if not isinstance(compiled.pattern, str):
        raise InvalidArgument("pattern", pattern, "it is a regular expression of str, not of bytes")
    return compiled
