"""The broker's process is killed under load, again and again, and comes back on the same port: clients go on by
themselves, nothing that was acknowledged is lost, nothing is there twice or out of order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from history import explain
from kafka_brokers import ServedBroker, Start, fresh_name
from kafka_clients.agent import Agent, Member, Stream, wait_until
from kafka_clients.judging import history_of
from kafka_clients.programs import PROGRAMS
from kafka_cluster import kafka_node

PARTITIONS = 3
PATIENCE_S = 60
Killable = Any  # a ServedBroker, or a node of Kafka
ON_KAFKA = (pytest.mark.kafka, pytest.mark.slow)  # which takes five seconds to come back


@pytest.fixture
def broker(kind: str, tmp_path: Path) -> Iterator[Killable]:
    broker = ServedBroker(tmp_path) if kind == "logstore" else kafka_node(tmp_path)
    broker.start()
    yield broker
    broker.stop()


# A member that a killed broker has told no id joins as another, and the group waits for the first one's session to end.
SETTINGS_OF_MEMBERS: dict[str, Any] = {"commit_each": True, "session_timeout_ms": 6_000}


@pytest.fixture
def start(broker: Killable) -> Iterator[Start]:
    """Agents end before their broker does."""
    started: dict[str, Agent] = {}

    def start(name: str) -> Agent:
        if name not in started:
            started[name] = PROGRAMS[name].start(broker.address)
        return started[name]

    yield start
    for agent in started.values():
        agent.close()


def kill_under_load(broker: Killable, times: int, streams: list[Stream], members: list[Member]) -> None:
    """Each time once all of them have moved on since the last."""
    for _ in range(times):
        wait_for_progress(streams, members)
        broker.kill()
        broker.start()
    wait_for_progress(streams, members)


def wait_for_progress(streams: list[Stream], members: list[Member]) -> None:
    acked = [len(stream.acked) for stream in streams]
    read = sum(len(member.records) for member in members)
    for stream, before in zip(streams, acked, strict=True):
        wait_until(lambda: len(stream.acked) > before + 50, f"{stream.agent.name} {stream.name} moving on", PATIENCE_S)  # noqa: B023  # now
    wait_until(lambda: sum(len(member.records) for member in members) > read + 50, "the group moving on", PATIENCE_S)


def check(topic: str, reader: Agent, streams: list[Stream], members: list[Member]) -> None:
    """Let all come to its end, and judge it."""
    counts = [stream.stop(PATIENCE_S) for stream in streams]
    assert [stream.failures[:3] for stream in streams] == [[] for _ in streams]
    assert [len(stream.acked) for stream in streams] == counts
    ends = [reader.call("ends", topic=topic, partition=number)[1] for number in range(PARTITIONS)]
    assert sum(ends) == sum(counts)
    logs = {number: reader.read(topic, number, 0, end) for number, end in enumerate(ends)}
    stored = {(number, offset) for number, end in enumerate(ends) for offset in range(end)}

    def have_read_all() -> bool:
        return {(record.partition, record.offset) for member in members for record in member.records} == stored

    wait_until(have_read_all, "the group has read all", PATIENCE_S)
    found = history_of(list(zip(streams, counts, strict=True)), members, logs).anomalies()
    assert not found, explain(found)
    for member in members:
        member.leave()
        for commit in member.commits:
            assert all(offset <= ends[number] for (_, number), offset in commit.items())


@pytest.mark.parametrize(
    ("kind", "client"),
    [
        *(
            pytest.param("logstore", client, marks=() if client in {"confluent", "kafkajs"} else pytest.mark.slow)
            for client in PROGRAMS
        ),
        pytest.param("kafka", "confluent", marks=ON_KAFKA),
    ],
)
def test_a_client_goes_on_when_the_broker_is_killed_and_comes_back(broker: Killable, start: Start, client: str) -> None:
    agent, topic, group = start(client), fresh_name(), fresh_name("group")
    agent.call("create_topic", name=topic, partitions=PARTITIONS, configs={})
    members = [agent.join(fresh_name("member"), group, [topic], **SETTINGS_OF_MEMBERS) for _ in range(2)]
    streams = [agent.stream(fresh_name("stream"), topic, PARTITIONS)]
    kill_under_load(broker, 3, streams, members)
    check(topic, agent, streams, members)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["logstore", pytest.param("kafka", marks=ON_KAFKA)])
def test_clients_of_all_kinds_go_on_together_when_the_broker_is_killed(broker: Killable, start: Start) -> None:
    topic, group = fresh_name(), fresh_name("group")
    start("confluent").call("create_topic", name=topic, partitions=PARTITIONS, configs={})
    members = [
        start(client).join(fresh_name("member"), group, [topic], assignor="range", **SETTINGS_OF_MEMBERS)
        for client, program in PROGRAMS.items()
        if "range" in program.assignors
    ]
    streams = [start(client).stream(fresh_name("stream"), topic, PARTITIONS, codec="gzip") for client in PROGRAMS]
    kill_under_load(broker, 5, streams, members)
    check(topic, start("confluent"), streams, members)
