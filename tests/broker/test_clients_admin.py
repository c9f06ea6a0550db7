"""What real clients ask of a broker about topics, settings and groups."""

import pytest

from kafka_brokers import MakeTopic, Start, fresh_name
from kafka_clients.agent import Agent, AgentFailed, wait_for_shares
from kafka_clients.kcat import Kcat
from kafka_clients.programs import PROGRAMS
from kafka_clients.records import Sent
from waits import comes_to


def test_a_topic_is_made_described_and_deleted(agent: Agent) -> None:
    name = fresh_name()
    agent.call("create_topic", name=name, partitions=4, configs={"retention.ms": "7200000"})
    comes_to(4, lambda: agent.call("topics").get(name))
    assert agent.call("configs", topic=name)["retention.ms"] == "7200000"
    agent.produce([Sent(name, 3, b"x")])
    agent.call("delete_topic", name=name)
    comes_to(None, lambda: agent.call("topics").get(name))
    agent.call("create_topic", name=name, partitions=1, configs={})
    comes_to(1, lambda: agent.call("topics").get(name))
    assert agent.call("ends", topic=name, partition=0) == [0, 0]


def test_a_topic_that_exists_is_not_made_again(agent: Agent, topic: MakeTopic) -> None:
    name = topic(2)
    with pytest.raises(AgentFailed, match=r"(?i)exists|error 36|already"):
        agent.call("create_topic", name=name, partitions=1, configs={})
    assert agent.call("topics")[name] == 2


@pytest.mark.parametrize("name", ["no spaces", "x" * 250, ".."])
def test_a_topic_with_a_name_that_cannot_be_is_refused(agent: Agent, name: str) -> None:
    with pytest.raises(AgentFailed, match=r"(?i)invalid|illegal|error 17|TOPIC_EXCEPTION"):
        agent.call("create_topic", name=name, partitions=1, configs={})
    assert name not in agent.call("topics")


def test_a_setting_that_cannot_be_is_refused(agent: Agent) -> None:
    name = fresh_name()
    with pytest.raises(AgentFailed, match=r"(?i)config|error 40"):
        agent.call("create_topic", name=name, partitions=1, configs={"retention.ms": "soon"})
    assert name not in agent.call("topics")


def test_a_setting_is_changed_and_the_others_stay(agent: Agent, topic: MakeTopic) -> None:
    name = topic(1)
    before = agent.call("configs", topic=name)
    assert before["cleanup.policy"] == "delete" and before["compression.type"] == "producer"
    agent.call("set_config", topic=name, name="max.message.bytes", value="54321")
    after = agent.call("configs", topic=name)
    assert after == before | {"max.message.bytes": "54321"}


def test_partitions_are_added(agent: Agent, topic: MakeTopic) -> None:
    name = topic(2)
    agent.produce([Sent(name, 1, b"x")])
    agent.call("create_partitions", topic=name, count=5)
    assert agent.call("topics")[name] == 5
    assert agent.produce([Sent(name, 4, b"y"), Sent(name, 1, b"z")]) == [0, 1]
    with pytest.raises(AgentFailed, match=r"(?i)partition|error 37"):
        agent.call("create_partitions", topic=name, count=3)


def test_a_group_is_listed_described_and_deleted(agent: Agent, topic: MakeTopic) -> None:
    name, group = topic(2), fresh_name("group")
    member = agent.join(fresh_name("member"), group, [name])
    wait_for_shares([member], {(name, 0), (name, 1)})
    assert group in agent.call("groups")
    assert agent.call("group_state", group=group) == ["stable", 1]
    member.leave()
    assert agent.call("group_state", group=group)[0] == "empty"
    if PROGRAMS[agent.name].deletes_groups:
        agent.call("delete_group", group=group)
        assert group not in agent.call("groups")


def test_kcat_lists_topics(agents: Start, broker_address: str, topic: MakeTopic) -> None:
    name = topic(3)
    assert Kcat(broker_address).topics()[name] == 3
