"""An administrator on a broker's wire: requests as short calls, topics of its own. Fixtures for tests/broker.

``admin`` talks to the broker that all tests of a run share, and where slow tests run to a real Kafka too: what a test
says of it is a fact of Kafka. ``own`` is a broker in this process, of one test.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from kafka_brokers import fresh_name
from logstore.broker.running import RunningBroker
from logstore.config import BrokerConfig, StoreConfig
from logstore.format.batch import encode_batch
from logstore.storage.topics import TopicDescription
from logstore.store import TopicStore
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreatableTopicResult,
    CreateTopicsRequest,
)
from logstore.wire.messages.describe_cluster import DescribeClusterRequest
from logstore.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResult,
)
from logstore.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from logstore.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from logstore.wire.schema import Message
from waits import comes_to
from wire_client import WireClient

TOPIC, BROKER = 2, 4  # types of resources
Configs = Mapping[str, str | None]


def new_topic(
    name: str,
    partitions: int = 1,
    replicas: int = 1,
    configs: Configs | None = None,
    assignments: Mapping[int, list[int]] | None = None,
) -> CreatableTopic:
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        assignments=[CreatableReplicaAssignment(number, ids) for number, ids in (assignments or {}).items()],
        configs=[CreatableTopicConfig(*config) for config in (configs or {}).items()],
    )


class WireAdmin:
    def __init__(self, address: str) -> None:
        self.address = address
        self._client = WireClient(address)

    def ask(self, request: Message, version: int) -> Any:
        return self._client.ask(request, version)

    def close(self) -> None:
        self._client.close()

    @property
    def node_id(self) -> int:
        (broker,) = self.ask(DescribeClusterRequest(), 0).brokers
        return int(broker.broker_id)

    def create(
        self, *topics: CreatableTopic, version: int = 7, validate_only: bool = False
    ) -> dict[str, CreatableTopicResult]:
        """What became of each, by name."""
        request = CreateTopicsRequest(topics=topics, timeout_ms=30_000, validate_only=validate_only)
        return {result.name: result for result in self.ask(request, version).topics}

    def topic(self, partitions: int = 1, **configs: str) -> str:
        """The name of a new topic."""
        name = fresh_name("admin")
        result = self.create(new_topic(name, partitions, configs=configs))[name]
        assert result.error_code == ErrorCode.NONE, result
        self.wait_for(name, partitions)
        return name

    def wait_for(self, name: str, partitions: int) -> None:
        """A topic may be made before all of a broker knows it."""
        comes_to(partitions, lambda: self.partitions(name))

    def wait_for_overrides(self, topic: str, overrides: dict[str, str]) -> None:
        """So may a change."""
        comes_to(overrides, lambda: self.overrides(topic))

    def partitions(self, name: str) -> int:
        """0 where there is no such topic."""
        request = MetadataRequest([MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        return len(self.ask(request, 12).topics[0].partitions)

    def topic_id(self, name: str) -> UUID:
        found: UUID = self.ask(MetadataRequest([MetadataRequestTopic(name=name)]), 12).topics[0].topic_id
        return found

    def produce(self, topic: str, count: int, partition: int = 0) -> None:
        """So many records, with a key."""
        values = [b"%d" % number for number in range(count)]
        self.send(topic, partition, encode_batch(values, keys=[b"k"] * count, timestamps_ms=1_000))

    def send(self, topic: str, partition: int, batch: bytes) -> None:
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=partition, records=batch)])
        request = ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[data])
        code = ErrorCode.NOT_LEADER_OR_FOLLOWER
        while code == ErrorCode.NOT_LEADER_OR_FOLLOWER:  # a partition may be made before it has a leader
            code = self.ask(request, 9).responses[0].partition_responses[0].error_code
        assert code == ErrorCode.NONE

    def describe(self, kind: int, name: str, *keys: str, version: int = 4) -> DescribeConfigsResult:
        resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys or None)
        request = DescribeConfigsRequest([resource], include_synonyms=True, include_documentation=True)
        (result,) = self.ask(request, version).results
        assert isinstance(result, DescribeConfigsResult)
        return result

    def entries(self, kind: int, name: str, *keys: str) -> dict[str, DescribeConfigsResourceResult]:
        result = self.describe(kind, name, *keys)
        assert result.error_code == ErrorCode.NONE, result
        return {entry.name: entry for entry in result.configs}

    def overrides(self, topic: str) -> dict[str, str | None]:
        """What the topic sets itself."""
        return {entry.name: entry.value for entry in self.entries(TOPIC, topic).values() if entry.config_source == 1}


class OwnBroker(WireAdmin):
    """Of one test, in this process; ``settings`` are of either config. It can be started again with others."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self._path = path
        self._start(settings)

    def _start(self, settings: dict[str, Any]) -> None:
        own = {row.field for row in BrokerConfig.rows()}
        self._running = RunningBroker(
            self._path,
            BrokerConfig.parse(
                {"listeners": "PLAINTEXT://127.0.0.1:0"} | {k: v for k, v in settings.items() if k in own}
            ),
            StoreConfig.parse({k: v for k, v in settings.items() if k not in own}),
        )
        super().__init__(str(self._running.start()))

    def restart(self, **settings: Any) -> None:
        self.stop()
        self._start(settings)

    @property
    def store(self) -> TopicStore:
        return self._running.store

    def described(self, topic: str) -> TopicDescription:
        return self.store.topic(topic)

    def stop(self) -> None:
        self.close()
        self._running.stop()


@pytest.fixture
def admin(broker_address: str) -> Iterator[WireAdmin]:
    client = WireAdmin(broker_address)
    yield client
    client.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnBroker]:
    broker = OwnBroker(tmp_path / "data")
    yield broker
    broker.stop()
