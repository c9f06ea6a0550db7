"""Settings, records and directories as the admin clients of Python, and Kafka's tool, ask for them: of ours, and of a
real Kafka alike."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource as AioResource
from aiokafka.admin.config_resource import ConfigResourceType as AioResourceType
from aiokafka.structs import TopicPartition as AioPartition
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as LibPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ResourceType,
)
from kafka import TopicPartition
from kafka.admin import ConfigResource as PythonResource
from kafka.admin import ConfigResourceType as PythonResourceType
from kafka.admin import KafkaAdminClient

from kafka_brokers import MakeTopic, Start
from kafka_clients.java_tools import CONFIGS, run_tool
from kafka_clients.records import Sent
from waits import comes_to
from wire_admin import WireAdmin


def produced(agents: Start, name: str, count: int = 10) -> None:
    agents("confluent").produce([Sent(name, 0, b"%d" % number) for number in range(count)])


# ---------------------------------------------------------------------------------------------------- confluent-kafka


@pytest.fixture
def confluent(broker_address: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker_address})


def result(futures: dict[Any, Any]) -> Any:
    (future,) = futures.values()
    return future.result(30)


def change(name: str, value: str | None) -> ConfigEntry:
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    return ConfigEntry(name, value or "", incremental_operation=operation)


def test_confluent_changes_a_topics_settings(confluent: AdminClient, topic: MakeTopic) -> None:
    name = topic(1, **{"segment.ms": "5000"})
    asked = ConfigResource(
        ResourceType.TOPIC, name, incremental_configs=[change("retention.ms", "1000"), change("segment.ms", None)]
    )
    result(confluent.incremental_alter_configs([asked]))

    def own() -> dict[str, str]:
        entries = result(confluent.describe_configs([ConfigResource(ResourceType.TOPIC, name)]))
        return {
            setting: entry.value
            for setting, entry in entries.items()
            if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        }

    comes_to({"retention.ms": "1000"}, own)
    wrong = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[change("retention.ms", "soon")])
    with pytest.raises(KafkaException) as raised:
        result(confluent.incremental_alter_configs([wrong]))
    assert raised.value.args[0].name() == "INVALID_CONFIG"


def test_confluent_changes_what_topics_have_by_default(
    confluent: AdminClient, topic: MakeTopic, broker_address: str
) -> None:
    name, admin = topic(1), WireAdmin(broker_address)
    number = str(admin.node_id)
    admin.close()

    def in_effect(kind: ResourceType, resource: str, setting: str) -> str:
        return str(result(confluent.describe_configs([ConfigResource(kind, resource)]))[setting].value)

    def set_to(value: str | None) -> None:
        asked = [change("log.flush.interval.messages", value)]
        result(
            confluent.incremental_alter_configs(
                [ConfigResource(ResourceType.BROKER, number, incremental_configs=asked)]
            )
        )

    try:
        set_to("12345")
        comes_to("12345", lambda: in_effect(ResourceType.TOPIC, name, "flush.messages"))
        comes_to("12345", lambda: in_effect(ResourceType.BROKER, number, "log.flush.interval.messages"))
    finally:  # the broker is others' too
        set_to(None)
    comes_to("9223372036854775807", lambda: in_effect(ResourceType.TOPIC, name, "flush.messages"))
    comes_to("9223372036854775807", lambda: in_effect(ResourceType.BROKER, number, "log.flush.interval.messages"))


def test_confluent_deletes_records_and_describes_the_cluster(
    confluent: AdminClient, topic: MakeTopic, agents: Start
) -> None:
    name = topic(1)
    produced(agents, name)
    assert result(confluent.delete_records([LibPartition(name, 0, 4)])).low_watermark == 4
    with pytest.raises(KafkaException) as raised:
        result(confluent.delete_records([LibPartition(name, 0, 11)]))
    assert raised.value.args[0].name() == "OFFSET_OUT_OF_RANGE"
    found = confluent.describe_cluster(include_authorized_operations=True).result(30)
    assert [node.id for node in found.nodes] == [found.controller.id]
    assert {operation.name for operation in found.authorized_operations} >= {"CREATE", "ALTER_CONFIGS"}


# ------------------------------------------------------------------------------------------------------- kafka-python


@pytest.fixture
def python(broker_address: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=broker_address)
    yield client
    client.close()


def test_kafka_python_changes_a_topics_settings(python: KafkaAdminClient, topic: MakeTopic) -> None:
    name = topic(1, **{"segment.ms": "5000"})
    python.alter_configs([PythonResource(PythonResourceType.TOPIC, name, configs={"retention.ms": "1000"})])

    def own() -> dict[str, str]:
        found = python.describe_configs([PythonResource(PythonResourceType.TOPIC, name)])
        return {setting: entry["value"] for setting, entry in found["topic"][name].items()}

    comes_to({"retention.ms": "1000", "segment.ms": "5000"}, own)


def test_kafka_python_sees_what_there_is(python: KafkaAdminClient, topic: MakeTopic, agents: Start) -> None:
    name = topic(2)
    produced(agents, name)
    assert python.delete_records({TopicPartition(name, 0): 4})[TopicPartition(name, 0)]["low_watermark"] == 4
    (node,) = python.describe_cluster()["brokers"]
    described = python.describe_topic_partitions([name])
    assert [one["partition_index"] for one in described["topics"][0]["partitions"]] == [0, 1]
    (own,) = python.describe_log_dirs()
    sizes = {
        (found["name"], one["partition_index"]): one["partition_size"]
        for directory in own["log_dirs"]
        for found in directory["topics"]
        for one in found["partitions"]
    }
    assert sizes[name, 0] > sizes[name, 1] == 0
    assert python.list_config_resources(["BROKER"]) == {"broker": [str(node["broker_id"])]}


# ----------------------------------------------------------------------------------------------------------- aiokafka


def test_aiokafka_changes_topics(broker_address: str, topic: MakeTopic, agents: Start) -> None:
    name = topic(1, **{"segment.ms": "5000"})
    produced(agents, name)

    async def administer() -> dict[str, str]:
        client = AIOKafkaAdminClient(bootstrap_servers=broker_address)
        await client.start()
        try:
            await client.create_partitions({name: NewPartitions(3)})
            asked = AioResource(AioResourceType.TOPIC, name, {"retention.ms": "1000"})
            (altered,) = await client.alter_configs([asked])  # the older way: what is not given is taken away
            assert altered.resources[0][0] == 0
            low = await client.delete_records({AioPartition(name, 0): RecordsToDelete(before_offset=4)})
            assert low == {AioPartition(name, 0): 4}
            (found,) = await client.describe_topics([name])
            assert len(found["partitions"]) == 3
            (described,) = await client.describe_configs([AioResource(AioResourceType.TOPIC, name)])
            return {entry[0]: entry[1] for entry in described.resources[0][4]}
        finally:
            await client.close()

    settings = asyncio.run(administer())
    assert settings["segment.ms"] == "604800000"


# ------------------------------------------------------------------------------------------------------- Kafka's tool


@pytest.mark.slow
@pytest.mark.kafka
def test_the_tool_changes_what_topics_have_by_default(broker_address: str) -> None:
    at = ("--bootstrap-server", broker_address, "--entity-type", "brokers", "--entity-default")
    run_tool(CONFIGS, *at, "--alter", "--add-config", "log.flush.interval.messages=777")
    assert "log.flush.interval.messages=777" in run_tool(CONFIGS, *at, "--describe")
    run_tool(CONFIGS, *at, "--alter", "--delete-config", "log.flush.interval.messages")
    assert "777" not in run_tool(CONFIGS, *at, "--describe")
