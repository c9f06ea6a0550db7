"""Metadata over the wire: the broker, topics by name and id, and those that are made because they are asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from loop_broker import LoopBroker, loop_broker

VERSIONS = range(14)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    with loop_broker(tmp_path_factory.mktemp("metadata") / "data", broker_rack="r1") as broker:
        broker.store.create_topic("orders", 3)
        yield broker


def ask(broker: LoopBroker, *topics: str | UUID, version: int = 12, creates: bool = False) -> list[Any]:
    asked = [
        MetadataRequestTopic(name=topic) if isinstance(topic, str) else MetadataRequestTopic(topic_id=topic, name=None)
        for topic in topics
    ]
    found: list[Any] = broker.ask(MetadataRequest(topics=asked, allow_auto_topic_creation=creates), version).topics
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_the_broker_says_where_it_is_and_that_it_leads_everything(broker: LoopBroker, version: int) -> None:
    response = broker.ask(MetadataRequest(topics=[MetadataRequestTopic(name="orders")]), version)
    [node] = response.brokers
    assert f"{node.host}:{node.port}" == broker.address
    assert node.rack == ("r1" if version >= 1 else None)
    assert response.cluster_id == (broker.broker.cluster_id if version >= 2 else None)
    assert response.controller_id == (node.node_id if version >= 1 else -1)
    [topic] = response.topics
    assert (topic.error_code, topic.name, topic.is_internal) == (0, "orders", False)
    assert topic.topic_id == (broker.store.topic("orders").topic_id if version >= 10 else UUID(int=0))
    assert [
        (each.error_code, each.partition_index, each.leader_id, list(each.replica_nodes), list(each.isr_nodes))
        for each in topic.partitions
    ] == [(0, number, node.node_id, [node.node_id], [node.node_id]) for number in range(3)]


@pytest.mark.parametrize("version", VERSIONS)
def test_all_topics_are_told_to_who_asks_for_none_in_particular(broker: LoopBroker, version: int) -> None:
    response = broker.ask(MetadataRequest(topics=None if version else []), version)
    assert {"orders"} <= {topic.name for topic in response.topics}
    if version:
        assert not broker.ask(MetadataRequest(topics=[]), version).topics


@pytest.mark.parametrize("version", [10, 11, 12, 13])
def test_topics_are_found_by_their_ids(broker: LoopBroker, version: int) -> None:
    found, missing = ask(broker, broker.store.topic("orders").topic_id, unknown := uuid4(), version=version)
    assert (found.name, found.error_code) == ("orders", 0)
    assert (missing.topic_id, missing.error_code) == (unknown, ErrorCode.UNKNOWN_TOPIC_ID)


def test_an_id_is_not_found_once_its_topic_is_deleted(broker: LoopBroker) -> None:
    first_id = broker.store.create_topic("short-lived").topic_id
    assert ask(broker, first_id)[0].error_code == 0
    broker.store.delete_topic("short-lived")
    second_id = broker.store.create_topic("short-lived").topic_id
    assert [topic.error_code for topic in ask(broker, first_id, second_id)] == [ErrorCode.UNKNOWN_TOPIC_ID, 0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topic_that_is_missing_is_made_if_the_client_wants_it(broker: LoopBroker, version: int) -> None:
    name = f"made-in-{version}"
    if version >= 4:
        assert ask(broker, name, version=version)[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    [topic] = ask(broker, name, version=version, creates=True)
    assert (topic.error_code, topic.name, len(topic.partitions)) == (0, name, 1)
    assert broker.store.topic(name).partitions == 1


def test_it_has_as_many_partitions_as_the_settings_say(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", {"num.partitions": 5}) as broker:
        assert len(ask(broker, "t", creates=True)[0].partitions) == 5


def test_it_is_not_made_where_the_settings_forbid_it(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", auto_create_topics_enable=False) as broker:
        assert ask(broker, "t", creates=True)[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert not broker.store.topics()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "a b", "ä", "x" * 250])
def test_a_name_that_no_topic_can_have_is_told_and_made_nowhere(broker: LoopBroker, name: str) -> None:
    [topic] = ask(broker, name, creates=True)
    assert (topic.error_code, topic.name) == (ErrorCode.INVALID_TOPIC_EXCEPTION, name)


def test_a_name_that_a_metric_could_not_tell_from_another_is_not_made(broker: LoopBroker) -> None:
    broker.store.create_topic("a.b")
    assert ask(broker, "a_b", creates=True)[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_the_groups_topic_is_not_made_like_any_other(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data") as broker:
        assert ask(broker, "__consumer_offsets", creates=True)[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        broker.store.groups.commit("g", {(broker.store.create_topic("t").name, 0): 0})
        [topic] = ask(broker, "__consumer_offsets")
        assert (topic.error_code, topic.is_internal) == (0, True)


def test_two_clients_that_ask_for_the_same_new_topic_at_once_both_get_it(broker: LoopBroker) -> None:
    request = MetadataRequest(topics=[MetadataRequestTopic(name="wanted-twice")])
    with broker.client() as first, broker.client() as second:
        for client in (first, second):
            client.send(request, 12)
        assert [client.receive().topics[0].error_code for client in (first, second)] == [0, 0]


def test_what_may_be_done_is_told_to_who_asks(broker: LoopBroker) -> None:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name="orders")],
        include_topic_authorized_operations=True,
        include_cluster_authorized_operations=True,
    )
    response = broker.ask(request, 9)
    assert response.topics[0].topic_authorized_operations > 0 and response.cluster_authorized_operations > 0
    request = MetadataRequest(topics=[MetadataRequestTopic(name="orders")])
    response = broker.ask(request, 9)
    assert response.topics[0].topic_authorized_operations == response.cluster_authorized_operations == -(2**31)


def test_a_topic_is_asked_for_by_its_id_also_with_an_empty_name_as_java_does(broker: LoopBroker) -> None:
    asked = MetadataRequestTopic(topic_id=broker.store.topic("orders").topic_id, name="")
    [found] = broker.ask(MetadataRequest(topics=[asked]), 13).topics
    assert (found.error_code, found.name) == (0, "orders")
