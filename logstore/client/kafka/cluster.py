"""What ``logstore.connect`` gives: a Kafka cluster with its topics, groups, producers and consumers.

What it has is as a Store has it, so that code that uses only this can use either: topics, groups, producers, consumers.
A Store has more: ``log`` with its appends and reads, queues, ``flush`` and ``damages``. A Cluster has besides
``topic_settings``, ``beginning_offsets`` and ``end_offsets``. The module settings says which of the clients' differ.
"""

import logging
import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self
from uuid import UUID
from weakref import WeakSet

from confluent_kafka import TopicPartition as LibPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from logstore.client.arguments import as_partitions, as_times
from logstore.client.consumer import Deserializer, Partitions, RebalanceListener
from logstore.client.kafka.admin import Admin
from logstore.client.kafka.consumer import ClusterConsumer
from logstore.client.kafka.errors import Facts
from logstore.client.kafka.groups import ClusterGroups
from logstore.client.kafka.producer import ClusterProducer
from logstore.client.kafka.settings import (
    admin_properties,
    connection_properties,
    consumer_properties,
    producer_properties,
)
from logstore.client.producer import Serializer
from logstore.config import TopicConfig
from logstore.errors import (
    InvalidArgument,
    InvalidSetting,
    LogstoreError,
    OffsetOutOfRange,
    UnknownTopic,
    Unsupported,
)
from logstore.format.filename import TopicPartition
from logstore.groups.offsets import check_group_id
from logstore.settings import as_text
from logstore.storage.arguments import as_integer
from logstore.storage.topics import TopicDescription

logger = logging.getLogger("logstore.client")


class Cluster:
    """A Kafka cluster, until it is closed. Safe to use from many threads. ``groups`` are its consumer groups."""

    def __init__(self, address: str, timeout_s: float, settings: Mapping[str, object]) -> None:
        self._shared = connection_properties(settings)
        self._admin = Admin(address, admin_properties(self._shared), timeout_s)
        self._clients: WeakSet[ClusterProducer | ClusterConsumer] = WeakSet()
        self._admin.connect()
        self.address = address
        self.groups = ClusterGroups(self._admin)

    # --------------------------------------------------------------------------------------------------------- topics

    def topics(self) -> list[TopicDescription]:
        """All topics, by name."""
        return self._described(self._admin.topic_names())

    def topic(self, name: str) -> TopicDescription:
        """Raises UnknownTopic."""
        return self._described([_checked(name)])[0]

    def topic_settings(self, name: str) -> dict[str, str]:
        """All settings of a topic as the cluster has them, also those that ``TopicConfig`` does not know."""
        self._admin.describe([_checked(name)])
        return self._admin.settings([name])[name]

    def create_topic(
        self, name: str, partitions: int | None = None, *, replication_factor: int | None = None, **settings: object
    ) -> TopicDescription:
        """Make a topic; what is not given is the brokers' default. ``settings`` are any of Kafka's.

        Raises InvalidTopicName, InvalidArgument, InvalidSetting, TopicAlreadyExists, ClusterFailure, TimedOut, Closed.
        """
        count = _checked_count("partitions", partitions)
        config = {name: value for name, value in _settings(settings).items() if value is not None}
        admin = self._admin
        new = admin.asking(
            "create a topic",
            lambda: NewTopic(
                _checked(name), count, _checked_count("replication_factor", replication_factor), config=config
            ),
        )
        what, facts = f"create topic {name!r}", _facts(name, count, config)
        futures = admin.asking(what, lambda: admin.client.create_topics([new], request_timeout=admin.timeout_s))
        admin.result(futures[name], what, facts)
        self._await(what, name, lambda found: found is not None)
        return self.topic(name)

    def alter_topic(
        self, name: str, settings: Mapping[str, object] | None = None, partitions: int | None = None
    ) -> TopicDescription:
        """Change settings (None stands for the default) or add partitions. Raises as ``create_topic``, UnknownTopic."""
        current = self._admin.partition_count(_checked(name))
        if settings:
            self._alter_settings(name, _settings(settings))
        if partitions is not None and partitions != current:
            self._add_partitions(name, _checked_count("partitions", partitions))
        return self.topic(name)

    def delete_topic(self, name: str) -> None:
        """Remove a topic and all its records. Raises UnknownTopic."""
        admin, what = self._admin, f"delete topic {_checked(name)!r}"
        futures = admin.asking(what, lambda: admin.client.delete_topics([name], request_timeout=admin.timeout_s))
        admin.result(futures[name], what, Facts(topic=name))
        self._await(what, name, lambda found: found is None)

    def advance_log_start(self, topic: str, partition: int, offset: int) -> int:
        """Delete the records before ``offset``; returns the log start offset. Raises OffsetOutOfRange."""
        place = TopicPartition(_checked(topic), partition)
        self._admin.check_partitions([place])
        begin, end = self.beginning_offsets([place])[place], self.end_offsets([place])[place]
        offset = as_integer("offset", offset)
        if 0 <= offset <= begin:
            return begin
        if not begin <= offset <= end:
            raise OffsetOutOfRange(f"{topic}-{partition}", offset, begin, end)
        admin, what = self._admin, f"delete records of {topic}-{partition}"
        asked = LibPartition(topic, partition, offset)
        futures = admin.asking(what, lambda: admin.client.delete_records([asked], request_timeout=admin.timeout_s))
        (future,) = futures.values()
        return int(admin.result(future, what, Facts(topic=topic, partition=partition)).low_watermark)

    def beginning_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]:
        """Raises UnknownTopic, UnknownPartition, InvalidArgument."""
        return self._admin.beginning_offsets(self._existing(partitions))

    def end_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]:
        """Raises UnknownTopic, UnknownPartition, InvalidArgument."""
        return self._admin.end_offsets(self._existing(partitions))

    def offsets_for_times(self, timestamps_ms: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int | None]:
        """The first offset at that time (ms since 1970) or later; None where there is none yet. Raises UnknownTopic,
        UnknownPartition, InvalidArgument."""
        wanted = as_times(timestamps_ms)
        self._admin.check_partitions(wanted)
        return self._admin.offsets_for_times(wanted)

    # -------------------------------------------------------------------------------------------------------- clients

    def producer(
        self,
        *,
        acks: str | int = "all",
        compression: str | None = None,
        key_serializer: Serializer | None = None,
        value_serializer: Serializer | None = None,
        **settings: object,
    ) -> ClusterProducer:
        """A producer, with the settings of ``ProducerConfig`` and any of librdkafka's: ``compression`` is short for
        compression.type.

        Serializers make bytes of keys and values; without, those are bytes. Raises InvalidSetting, Closed.
        """
        self._admin.check()
        given: dict[str, object] = {**settings, "acks": str(acks) if type(acks) is int else acks}
        if compression is not None:
            given["compression.type"] = compression
        config, properties = producer_properties(self._shared, given)
        producer = ClusterProducer(self._admin, config, properties, key_serializer, value_serializer)
        self._clients.add(producer)
        return producer

    def consumer(
        self,
        *topics: str,
        group: str | None = None,
        pattern: str | re.Pattern[str] | None = None,
        assignment: Partitions | None = None,
        key_deserializer: Deserializer | None = None,
        value_deserializer: Deserializer | None = None,
        listener: RebalanceListener | None = None,
        **settings: object,
    ) -> ClusterConsumer:
        """A consumer, with the settings of ``ConsumerConfig`` and any of librdkafka's, of these topics, or of all whose
        whole name matches ``pattern``, or of just the partitions of ``assignment``; or of nothing yet.

        With a ``group`` its members share the partitions of the topics; without one, the consumer reads all of them,
        those to come included. Deserializers make of bytes whatever you like; null stays None. Raises InvalidTopicName,
        InvalidGroupId, InvalidSetting, Unsupported, InvalidArgument, UnknownTopic, UnknownPartition, Closed.
        """
        self._admin.check()
        if group is not None:
            check_group_id(group)
        if assignment is not None and (topics or pattern is not None):
            raise InvalidArgument("assignment", assignment, "give an assignment, or else topics or a pattern")
        config, properties = consumer_properties(self._shared, settings, self._admin.timeout_s)
        consumer = ClusterConsumer(self._admin, group, config, properties, key_deserializer, value_deserializer)
        self._clients.add(consumer)
        try:
            if assignment is not None:
                consumer.assign(assignment)
            elif topics or pattern is not None:
                consumer.subscribe(topics, pattern=pattern, listener=listener)
        except BaseException:
            consumer.close()
            raise
        return consumer

    def queue(self, name: str, *arguments: object, **settings: object) -> NoReturn:
        """Raises Unsupported. Kafka's share groups come near, but have no delay, no extension of the time that a
        message is held, no dead letters and no order per key, and a consumer must settle all that it was given before
        it gets more: what a queue promises cannot be kept with them."""
        raise Unsupported(
            f"queue {name!r} on a Kafka cluster",
            "use a consumer group there: cluster.consumer(topic, group=...); or a queue in a directory: logstore.open",
        )

    def close(self) -> None:
        """Close the clients made of this, then let go. Closing twice is no error."""
        try:
            for client in list(self._clients):
                try:
                    client.close()
                except LogstoreError as error:
                    logger.error("cluster %s: a client was not closed cleanly: %s", self.address, error)
        finally:
            self._admin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ----------------------------------------------------------------------------------------------------- the requests

    def _described(self, names: list[str]) -> list[TopicDescription]:
        found = self._admin.describe(names)
        entries = self._admin.config_entries(names)
        return [
            TopicDescription(
                *(name, _uuid(found[name]), len(found[name].partitions)),
                _config({entry.name: entry.value for entry in entries[name]}),
                {
                    entry.name: entry.value
                    for entry in entries[name]
                    if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
                },
            )
            for name in names
        ]

    def _alter_settings(self, name: str, settings: Mapping[str, str | None]) -> None:
        changes = [
            ConfigEntry(
                setting,
                value or "",
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for setting, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes)
        admin, what = self._admin, f"alter topic {name!r}"
        futures = admin.asking(
            what, lambda: admin.client.incremental_alter_configs([resource], request_timeout=admin.timeout_s)
        )
        (future,) = futures.values()
        admin.result(future, what, _facts(name, -1, settings))
        wanted = {setting: value for setting, value in settings.items() if value is not None}
        admin.until(what, lambda: wanted.items() <= self._admin.settings([name])[name].items())

    def _add_partitions(self, name: str, count: int) -> None:
        admin, what = self._admin, f"add partitions to topic {name!r}"
        new = [NewPartitions(name, count)]
        futures = admin.asking(what, lambda: admin.client.create_partitions(new, request_timeout=admin.timeout_s))
        admin.result(futures[name], what, Facts(topic=name, partition_count=count))
        self._await(what, name, lambda found: found == count)

    def _await(self, what: str, name: str, is_so: Callable[[int | None], bool]) -> None:
        """Wait until the brokers have the topic as it was decided: ``is_so`` gets the count of partitions, or None."""

        def is_known() -> bool:
            try:
                return is_so(self._admin.partition_count(name))
            except UnknownTopic:
                return is_so(None)

        self._admin.until(what, is_known)

    def _existing(self, given: Partitions) -> list[TopicPartition]:
        partitions = as_partitions(given)
        self._admin.check_partitions(partitions)
        return partitions


def _checked(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise UnknownTopic(str(name))
    return name


def _checked_count(name: str, count: object) -> int:
    if count is None:
        return -1
    if type(count) is not int or not 0 < count <= 2**31 - 1:
        raise InvalidArgument(name, count, "it is an integer from 1 up")
    return count


def _settings(given: Mapping[str, object]) -> dict[str, str | None]:
    """By Kafka's names and as it writes the values; those of a topic that ours knows are checked."""
    rows = {row.name: row for row in TopicConfig.rows()}
    settings: dict[str, str | None] = {}
    for given_name, value in given.items():
        name = given_name.replace("_", ".")
        if value is None:
            settings[name] = None
        elif name in rows:
            settings[name] = as_text(rows[name].parse(value))
        elif isinstance(value, bool | int | float | str | tuple):
            settings[name] = as_text(value)
        else:
            raise InvalidSetting(given_name, value, "must be text, a number or a boolean")
    return settings


def _facts(name: str, partition_count: int, settings: Mapping[str, Any]) -> Facts:
    return Facts(topic=name, partition_count=partition_count, settings=settings)


def _config(settings: Mapping[str, str]) -> TopicConfig:
    """What ours knows of a topic's settings; the default stands where Kafka allows a value that it does not."""
    known: dict[str, object] = {}
    for row in TopicConfig.rows():
        if row.name in settings:
            try:
                known[row.name] = row.parse(settings[row.name])
            except InvalidSetting:
                continue
    return TopicConfig.parse(known)


def _uuid(found: Any) -> UUID:
    topic_id = found.topic_id
    high, low = topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits()
    return UUID(int=(high & 2**64 - 1) << 64 | low & 2**64 - 1)
