"""What a cluster's clients ask of it besides records: topics and their sizes, settings, offsets. One a Cluster, shared.

Every request is bounded in time, and what a request fails of is an error of ours. Safe to use from many threads. After
fork() a child must not use it: librdkafka's threads stayed with the parent.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as LibPartition
from confluent_kafka.admin import AdminClient, ConfigEntry, ConfigResource, OffsetSpec, ResourceType

from logstore.client.kafka.errors import Facts, refused_setting, translated
from logstore.client.kafka.settings import Properties
from logstore.errors import Closed, ForkedProcess, InvalidArgument, LogstoreError, TimedOut, UnknownPartition
from logstore.format.filename import TopicPartition

Result = TypeVar("Result")

logger = logging.getLogger("logstore.kafka")
logger.addHandler(logging.NullHandler())

_SLICE_S = 0.5
_RETRY_S = 0.05
# These do not go away by waiting, so nobody waits for the time-out.
_HOPELESS = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._RESOLVE}
)
# What a request meets while leaders are elected, brokers are away, or a topic has just been made.
PASSING = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._WAIT_COORD,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._NOENT,  # no leader is known, says list_offsets
    }
)


class Admin:
    """A connection to the cluster at ``address``; ``timeout_s`` bounds each request."""

    def __init__(self, address: str, properties: Properties, timeout_s: float) -> None:
        self.address, self.timeout_s = address, timeout_s
        self._pid = os.getpid()
        self._is_closed = False
        self._last_error: KafkaError | None = None
        self._mutex = threading.Lock()
        every = {**properties, "bootstrap.servers": address, "error_cb": self._note, "logger": logger}
        try:
            self._client = AdminClient(every)
        except (KafkaException, ValueError, TypeError) as error:
            raise refused_setting(error, properties) from None

    @property
    def client(self) -> AdminClient:
        """Raises Closed, ForkedProcess."""
        self.check()
        self._client.poll(0)  # what librdkafka has to say in between: logs, lost connections
        return self._client

    def check(self) -> None:
        """Raises Closed, ForkedProcess."""
        if self._is_closed:
            raise Closed(f"cluster {self.address}")
        if self.is_in_child:
            raise ForkedProcess(f"cluster {self.address}")

    @property
    def is_in_child(self) -> bool:
        return os.getpid() != self._pid

    def close(self) -> None:
        self._is_closed = True

    def _note(self, error: KafkaError) -> None:
        self._last_error = error

    # ----------------------------------------------------------------------------------------------------- connecting

    def connect(self) -> None:
        """Wait until a broker answers. Raises ClusterFailure where that is hopeless, TimedOut."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            remaining = deadline - time.monotonic()
            try:
                self.client.list_topics(topic=None, timeout=max(min(_SLICE_S, remaining), 0.01))
                return
            except KafkaException as error:
                self._client.poll(0)
                found = self._last_error or error.args[0]
                if found.code() in _HOPELESS:
                    raise translated(found, f"connect to {self.address}") from None
                if remaining <= 0:
                    remedy = f"{found.str()}; see that the address is right and a broker runs there"
                    raise TimedOut(f"a broker at {self.address} to answer", self.timeout_s, remedy) from None

    # ------------------------------------------------------------------------------------------------------- requests

    def result(self, future: "Future[Result]", what: str, facts: Facts | None = None) -> Result:
        """What a request came to. Raises ours."""
        facts = facts or Facts()
        facts.timeout_s = self.timeout_s
        try:
            return future.result(self.timeout_s + 5)
        except KafkaException as error:
            raise translated(error, what, facts) from None
        except TimeoutError:
            raise TimedOut(what, self.timeout_s) from None

    def asking(self, what: str, request: Callable[[], Result], facts: Facts | None = None) -> Result:
        """The same of a call that blocks; what passes is tried again until the time is over."""
        facts = facts or Facts()
        facts.timeout_s = self.timeout_s
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                return request()
            except KafkaException as error:
                if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                    raise translated(error, what, facts) from None
            except (ValueError, TypeError) as error:
                raise InvalidArgument(what, "", str(error)) from None
            time.sleep(_RETRY_S)

    def until(self, what: str, is_so: Callable[[], bool]) -> None:
        """Wait until the brokers know what the controller has decided. Raises TimedOut."""
        deadline = time.monotonic() + self.timeout_s
        while not is_so():
            if time.monotonic() > deadline:
                raise TimedOut(what, self.timeout_s)
            time.sleep(_RETRY_S)

    # --------------------------------------------------------------------------------------------------------- topics

    def topic_names(self) -> list[str]:
        metadata = self.asking("list the topics", lambda: self.client.list_topics(timeout=self.timeout_s))
        return sorted(metadata.topics)

    def describe(self, names: Iterable[str]) -> dict[str, Any]:
        """librdkafka's descriptions by topic. It asks in a way that never makes a topic. Raises UnknownTopic."""
        names = list(names)
        if not names:
            return {}
        futures = self.asking(
            "describe topics",
            lambda: self.client.describe_topics(TopicCollection(names), request_timeout=self.timeout_s),
        )
        return {name: self.result(futures[name], f"describe topic {name!r}", Facts(topic=name)) for name in names}

    def partition_count(self, topic: str) -> int:
        """Raises UnknownTopic."""
        return len(self.describe([topic])[topic].partitions)

    def check_partitions(self, partitions: Iterable[TopicPartition]) -> None:
        """Raises UnknownTopic, UnknownPartition."""
        partitions = list(partitions)
        found = self.describe({partition.topic for partition in partitions})
        for topic, number in partitions:
            count = len(found[topic].partitions)
            if type(number) is not int or not 0 <= number < count:
                raise UnknownPartition(topic, number, count)

    def settings(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """All settings of each topic, as Kafka writes them. Raises UnknownTopic."""
        return {
            name: {entry.name: entry.value for entry in entries} for name, entries in self.config_entries(names).items()
        }

    def config_entries(self, names: Iterable[str]) -> dict[str, list[ConfigEntry]]:
        """All settings of each topic that have a value, and where it comes from. Raises UnknownTopic."""
        resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in names}
        if not resources:
            return {}
        what, asked = "look up settings of topics", list(resources.values())
        futures = self.asking(what, lambda: self.client.describe_configs(asked, request_timeout=self.timeout_s))
        return {
            name: [
                entry
                for entry in self.result(futures[resource], what, Facts(topic=name)).values()
                if entry.value is not None
            ]
            for name, resource in resources.items()
        }

    def max_message_bytes(self, topic: str) -> int:
        return int(self.settings([topic])[topic]["max.message.bytes"])

    # -------------------------------------------------------------------------------------------------------- offsets

    def offsets(
        self, wanted: Mapping[TopicPartition, OffsetSpec], *, read_committed: bool = False
    ) -> dict[TopicPartition, int]:
        """The offset that each specification stands for; -1 where no record is as new as the time asked for.

        Raises UnknownTopic, TimedOut, ClusterFailure.
        """
        if not wanted:
            return {}
        isolation = IsolationLevel.READ_COMMITTED if read_committed else IsolationLevel.READ_UNCOMMITTED
        found: dict[TopicPartition, int] = {}
        remaining = dict(wanted)
        deadline = time.monotonic() + self.timeout_s
        while remaining:
            asked = {LibPartition(*partition): spec for partition, spec in remaining.items()}
            request = partial(
                self.client.list_offsets, asked, isolation_level=isolation, request_timeout=self.timeout_s
            )
            futures = self.asking("look up offsets", request)
            for asked_partition, future in futures.items():
                partition = TopicPartition(asked_partition.topic, asked_partition.partition)
                try:
                    found[partition] = future.result(self.timeout_s + 5).offset
                    del remaining[partition]
                except KafkaException as error:
                    if not self._may_pass(error, partition) or time.monotonic() > deadline:
                        facts = Facts(topic=partition.topic, partition=partition.partition, timeout_s=self.timeout_s)
                        raise translated(error, f"look up offsets of {'-'.join(map(str, partition))}", facts) from None
            if remaining:
                time.sleep(_RETRY_S)
        return found

    def _may_pass(self, error: KafkaException, partition: TopicPartition) -> bool:
        code = error.args[0].code()
        if code in PASSING:
            return True
        if code not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):
            return False
        # A topic just made may be unknown to the broker asked, while the one that described it knows it.
        try:
            return partition.partition < self.partition_count(partition.topic)
        except LogstoreError:
            return False

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return self.offsets(dict.fromkeys(partitions, OffsetSpec.earliest()))

    def end_offsets(
        self, partitions: Iterable[TopicPartition], *, read_committed: bool = False
    ) -> dict[TopicPartition, int]:
        """With ``read_committed``, where the first unfinished transaction begins."""
        return self.offsets(dict.fromkeys(partitions, OffsetSpec.latest()), read_committed=read_committed)

    def offsets_for_times(self, timestamps_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, int | None]:
        """The first record that is not older; None where all are."""
        wanted = {partition: OffsetSpec.for_timestamp(time_ms) for partition, time_ms in timestamps_ms.items()}
        return {partition: offset if offset >= 0 else None for partition, offset in self.offsets(wanted).items()}
