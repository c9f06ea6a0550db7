"""What a Kafka cluster, or librdkafka, says is wrong, as exceptions of ours: one table.

What the table does not hold, or holds without the facts that its exception needs, becomes a ClusterFailure with Kafka's
name of the error and Kafka's words.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from logstore.config import ConsumerConfig, ProducerConfig
from logstore.errors import (
    ClusterFailure,
    FencedInstance,
    GroupNotEmpty,
    InvalidArgument,
    InvalidGroupId,
    InvalidRecord,
    InvalidSetting,
    InvalidTimestamp,
    InvalidTopicName,
    LogstoreError,
    OffsetMetadataTooLarge,
    OutOfOrderSequence,
    PollIntervalExceeded,
    ProducerFenced,
    RebalanceInProgress,
    RecordTooLarge,
    SubscribedToTopic,
    TimedOut,
    TopicAlreadyExists,
    UnknownGroup,
    UnknownMember,
    UnknownPartition,
    UnknownTopic,
)

UNKNOWN = -1  # a number that the cluster does not tell
METADATA_SIZE_MAX = 4096  # offset.metadata.max.bytes, unless the brokers were given another


@dataclass(slots=True)
class Facts:
    """What is known where an error came up; ``reason`` is Kafka's own text."""

    topic: str = ""
    partition: int = UNKNOWN
    partition_count: int = UNKNOWN
    group: str = ""
    member_id: str = ""
    member_count: int = UNKNOWN
    instance_id: str = ""
    size: int = UNKNOWN
    size_limit: int = UNKNOWN
    timeout_s: float = UNKNOWN
    interval_ms: int = UNKNOWN
    settings: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    def note_metadata(self, texts: Iterable[str]) -> None:
        """What goes with offsets that are to be committed: the longest is the one that may be too long."""
        self.size = max((len(text.encode()) for text in texts), default=UNKNOWN)
        self.size_limit = METADATA_SIZE_MAX


def _invalid_setting(facts: Facts) -> InvalidSetting:
    """Kafka names the one at fault in its text, or says nothing of which it was."""
    named = [name for name in facts.settings if name in facts.reason] or list(facts.settings)
    return InvalidSetting(named[0], facts.settings[named[0]], facts.reason)


# Error -> (the facts that must be known, the exception that they make).
_Row = tuple[tuple[str, ...], Callable[[Facts], LogstoreError]]

_UNKNOWN_TOPIC: _Row = (("topic",), lambda facts: UnknownTopic(facts.topic))
_UNKNOWN_PARTITION: _Row = (
    ("topic", "partition", "partition_count"),
    lambda facts: UnknownPartition(facts.topic, facts.partition, facts.partition_count),
)
_TOO_LARGE: _Row = (
    ("size", "size_limit"),
    lambda facts: RecordTooLarge(facts.size, facts.size_limit),
)
_FENCED: _Row = (("topic",), lambda facts: ProducerFenced(f"{facts.topic}-{facts.partition}", -1, -1, -1))
_OUT_OF_ORDER: _Row = (("topic",), lambda facts: OutOfOrderSequence(f"{facts.topic}-{facts.partition}", -1, -1, -1))

_TABLE: dict[int, _Row] = {
    # ---- topics and partitions
    KafkaError.UNKNOWN_TOPIC_OR_PART: _UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_TOPIC: _UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION: _UNKNOWN_PARTITION,
    KafkaError.TOPIC_EXCEPTION: (("topic",), lambda facts: InvalidTopicName(facts.topic, facts.reason)),
    KafkaError.TOPIC_ALREADY_EXISTS: (("topic",), lambda facts: TopicAlreadyExists(facts.topic)),
    KafkaError.INVALID_PARTITIONS: (
        ("partition_count",),
        lambda facts: InvalidArgument("partitions", facts.partition_count, facts.reason),
    ),
    KafkaError.INVALID_CONFIG: (("settings",), lambda facts: _invalid_setting(facts)),
    # ---- records
    KafkaError.MSG_SIZE_TOO_LARGE: _TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE: _TOO_LARGE,
    KafkaError.INVALID_RECORD: ((), lambda facts: InvalidRecord(facts.reason)),
    KafkaError.INVALID_TIMESTAMP: ((), lambda facts: InvalidTimestamp(facts.reason)),
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER: _OUT_OF_ORDER,
    KafkaError.INVALID_PRODUCER_EPOCH: _FENCED,
    KafkaError.PRODUCER_FENCED: _FENCED,
    KafkaError._FENCED: _FENCED,
    # ---- groups
    KafkaError.INVALID_GROUP_ID: ((), lambda facts: InvalidGroupId(facts.group, facts.reason)),
    KafkaError.GROUP_ID_NOT_FOUND: (("group",), lambda facts: UnknownGroup(facts.group)),
    KafkaError.NON_EMPTY_GROUP: (("group",), lambda facts: GroupNotEmpty(facts.group, facts.member_count)),
    KafkaError.GROUP_SUBSCRIBED_TO_TOPIC: (
        ("group", "topic"),
        lambda facts: SubscribedToTopic(facts.group, facts.topic),
    ),
    KafkaError.UNKNOWN_MEMBER_ID: (("group",), lambda facts: UnknownMember(facts.group, facts.member_id)),
    KafkaError.ILLEGAL_GENERATION: (("group",), lambda facts: RebalanceInProgress(facts.group)),
    KafkaError.REBALANCE_IN_PROGRESS: (("group",), lambda facts: RebalanceInProgress(facts.group)),
    KafkaError.FENCED_INSTANCE_ID: (
        ("group",),
        lambda facts: FencedInstance(facts.group, facts.instance_id, facts.member_id),
    ),
    KafkaError.OFFSET_METADATA_TOO_LARGE: (
        ("size", "size_limit"),
        lambda facts: OffsetMetadataTooLarge(facts.size, facts.size_limit),
    ),
    KafkaError._MAX_POLL_EXCEEDED: (
        ("group", "interval_ms"),
        lambda facts: PollIntervalExceeded(facts.group, facts.interval_ms),
    ),
}
_TIMEOUTS = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._WAIT_COORD,
    }
)
_NAMES = [row.name for config in (ProducerConfig, ConsumerConfig) for row in config.rows()]
_SETTING = re.compile(r"property \"([^\"]+)\"")


def translated(error: KafkaError | KafkaException, what: str, facts: Facts | None = None) -> LogstoreError:
    """The exception of ours for ``error``, which came up in ``what``, as in "delete topic 'orders'"."""
    if isinstance(error, KafkaException):
        error = error.args[0]
    facts = facts or Facts()
    facts.reason = _text(error)
    code = error.code()
    if code in _TIMEOUTS and facts.timeout_s != UNKNOWN:
        return TimedOut(what, facts.timeout_s, facts.reason)
    needed, made = _TABLE.get(code, ((), None))
    empty = Facts()
    if made is None or any(getattr(facts, name) == getattr(empty, name) for name in needed):
        return ClusterFailure(what, error.name(), facts.reason, error.retriable())
    return made(facts)


def refused_setting(error: Exception, properties: dict[str, Any]) -> InvalidSetting:
    """Why librdkafka takes no client with these ``properties``, as what it says of one of them."""
    reason = _text(error.args[0]) if isinstance(error, KafkaException) else str(error)
    named = _SETTING.search(reason)
    name = named[1] if named else next((name for name in properties if name in reason), "")
    closest = get_close_matches(name, _NAMES, n=1) if reason.startswith("No such") else []
    hint = f"; did you mean {closest[0]}?" if closest else ""
    return InvalidSetting(name, properties.get(name, ""), reason + hint)


def _text(error: KafkaError) -> str:
    return str(error.str()).strip()
