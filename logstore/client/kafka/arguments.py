"""What a caller gives a cluster's clients, made what they take: one that cannot be is refused before anything is done.

Pure. A directory's clients refuse the same.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from logstore.errors import InvalidArgument
from logstore.format.filename import TopicPartition, check_topic_name
from logstore.groups.offsets import refusal
from logstore.groups.requests import OffsetAndMetadata
from logstore.settings import INT_MAX, LONG_MAX
from logstore.storage.arguments import as_integer


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


def as_subscription(topics: object, pattern: object) -> tuple[frozenset[str], re.Pattern[str] | None]:
    """Names, or else a pattern. Raises InvalidArgument, InvalidTopicName."""
    names, compiled = _as_names(topics), None if pattern is None else _as_pattern(pattern)
    if bool(names) == (compiled is not None):
        raise InvalidArgument("topics", topics, "name the topics, or else give a pattern")
    return names, compiled


def _keyed(name: str, given: Any) -> dict[TopicPartition, Any]:
    if not isinstance(given, Mapping):
        raise InvalidArgument(name, given, 'it is a mapping whose keys are pairs such as ("orders", 0)')
    return {as_partition(partition): value for partition, value in given.items()}


def _as_commit(offset: object) -> OffsetAndMetadata:
    return offset if isinstance(offset, OffsetAndMetadata) else OffsetAndMetadata(as_integer("offset", offset))


def _as_names(topics: Any) -> frozenset[str]:
    try:
        names = frozenset([topics] if isinstance(topics, str) else topics)
    except TypeError:
        raise InvalidArgument("topics", topics, "it is a topic's name, or several") from None
    for name in names:
        check_topic_name(name)
    return names


def _as_pattern(pattern: Any) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise InvalidArgument("pattern", pattern, f"it is no regular expression: {error}") from None
    if not isinstance(compiled.pattern, str):
        raise InvalidArgument("pattern", pattern, "it is a regular expression of str, not of bytes")
    return compiled
