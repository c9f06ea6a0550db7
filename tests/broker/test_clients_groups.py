"""Groups of real clients: members come, leave and crash, and each partition has one owner, whatever the assignor."""

from collections import Counter

import pytest

from kafka_brokers import MakeTopic, Start, fresh_name
from kafka_clients.agent import Agent, Member, Partition, wait_for_shares, wait_until
from kafka_clients.kcat import Kcat
from kafka_clients.programs import PROGRAMS
from kafka_clients.records import Sent

PARTITIONS = 6
WITH_ASSIGNORS = [
    pytest.param(name, assignor, marks=pytest.mark.slow if place else ())
    for name, program in PROGRAMS.items()
    for place, assignor in enumerate(program.assignors)
]
CRASHING = {"session_timeout_ms": 2_000}


def partitions_of(topic: str, count: int = PARTITIONS) -> set[Partition]:
    return {(topic, number) for number in range(count)}


def fill(agent: Agent, topic: str, first: int, count: int) -> None:
    agent.produce([Sent(topic, number % PARTITIONS, b"%d" % number) for number in range(first, first + count)])


def read_by(*members: Member) -> list[int]:
    return [int(record.value or b"-1") for member in members for record in member.records]


def test_a_member_alone_has_all_partitions_of_all_topics(agent: Agent, topic: MakeTopic) -> None:
    topics = [topic(3), topic(2)]
    member = agent.join(fresh_name("member"), fresh_name("group"), topics)
    wait_for_shares([member], partitions_of(topics[0], 3) | partitions_of(topics[1], 2))
    member.leave()


@pytest.mark.parametrize(("client", "assignor"), WITH_ASSIGNORS)
def test_members_share_the_partitions_as_they_come_and_go(
    agents: Start, topic: MakeTopic, client: str, assignor: str
) -> None:
    agent, name, group = agents(client), topic(PARTITIONS), fresh_name("group")
    settings = {} if client == "kafkajs" else {"assignor": assignor}
    fill(agent, name, 0, 60)
    members = [agent.join(fresh_name("member"), group, [name], commit_each=True, **settings)]
    wait_for_shares(members, partitions_of(name))
    # kafkajs starts anew after 30 s if Kafka's leaders do not know of themselves yet.
    wait_until(lambda: set(read_by(*members)) == set(range(60)), "the first 60 records", timeout_s=80)
    for count in (2, 5):
        members += [
            agent.join(fresh_name("member"), group, [name], commit_each=True, **settings)
            for _ in range(count - len(members))
        ]
        wait_for_even_shares(members, partitions_of(name))
    fill(agent, name, 60, 60)
    wait_until(lambda: set(read_by(*members)) == set(range(120)), "all records")
    for member in members[:3]:
        member.leave()
    wait_for_even_shares(members[3:], partitions_of(name))
    fill(agent, name, 120, 60)
    wait_until(lambda: set(read_by(*members)) == set(range(180)), "all records")
    for member in members[3:]:
        member.leave()
    check_order(*members)


def wait_for_even_shares(members: list[Member], partitions: set[Partition]) -> None:
    """As even as numbers allow; members that came late may take a second rebalance to get theirs."""
    fewest = len(partitions) // len(members)

    def is_even() -> bool:
        counts = [len(member.assignment) for member in members]
        is_shared_out = sum(counts) == len(partitions) and set().union(*(m.assignment for m in members)) == partitions
        return is_shared_out and min(counts) >= fewest and max(counts) <= fewest + 1

    wait_until(is_even, f"even shares of {len(partitions)} partitions among {len(members)} members")


def check_order(*members: Member) -> None:
    """Each member saw each partition in order, but for what it read again after a rebalance: no gap, ever."""
    for member in members:
        following: dict[int, int] = {}
        for record in member.records:
            following.setdefault(record.partition, record.offset)
            assert record.offset <= following[record.partition], (member.name, record)
            following[record.partition] = record.offset + 1


def test_a_member_more_than_partitions_stays_idle(agent: Agent, topic: MakeTopic) -> None:
    name, group = topic(2), fresh_name("group")
    members = [agent.join(fresh_name("member"), group, [name]) for _ in range(3)]
    wait_until(lambda: sorted(len(member.assignment) for member in members) == [0, 1, 1], "one, one and none")
    for member in members:
        member.leave()


@pytest.mark.parametrize(
    ("client", "count"),
    [
        pytest.param(
            client, count, marks=() if (client, count) in {("confluent", 2), ("kafkajs", 2)} else pytest.mark.slow
        )
        for client in PROGRAMS
        for count in (2, 5)
    ],
)
def test_what_a_crashed_member_had_goes_to_the_others(
    agents: Start, more_agents: Start, topic: MakeTopic, client: str, count: int
) -> None:
    agent, name, group = agents(client), topic(PARTITIONS), fresh_name("group")
    doomed = more_agents(client)
    fill(agent, name, 0, 30)
    victims = [
        doomed.join(fresh_name("member"), group, [name], commit_each=True, **CRASHING) for _ in range(count // 2)
    ]
    wait_for_shares(victims, partitions_of(name))
    wait_until(lambda: len(set(read_by(*victims))) == 30, "the first 30 records")
    others = [
        agent.join(fresh_name("member"), group, [name], commit_each=True, **CRASHING)
        for _ in range(count - len(victims))
    ]
    wait_for_even_shares([*victims, *others], partitions_of(name))
    doomed.crash()
    wait_for_shares(others, partitions_of(name))
    fill(agent, name, 30, 30)
    wait_until(lambda: set(read_by(*others)) >= set(range(30, 60)), "the other 30 records")
    for member in others:
        member.leave()
    check_order(*victims, *others)


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(name, marks=() if name == "confluent" else pytest.mark.slow)
        for name, program in PROGRAMS.items()
        if program.has_static_members
    ],
)
def test_a_static_member_that_comes_back_has_its_partitions_without_a_rebalance(
    agents: Start, more_agents: Start, topic: MakeTopic, client: str
) -> None:
    agent, name, group = agents(client), topic(PARTITIONS), fresh_name("group")
    doomed = more_agents(client)
    first = doomed.join(fresh_name("member"), group, [name], instance_id="one")
    second = agent.join(fresh_name("member"), group, [name], instance_id="two")
    wait_for_even_shares([first, second], partitions_of(name))
    had, seen = first.assignment, len(second.assignments)
    doomed.crash()
    again = agent.join(fresh_name("member"), group, [name], instance_id="one")
    wait_until(lambda: again.assignment == had, "what it had")
    assert len(second.assignments) == seen
    for member in (again, second):
        member.leave()


def test_new_partitions_are_shared_out(agent: Agent, topic: MakeTopic) -> None:
    name, group = topic(1), fresh_name("group")
    member = agent.join(fresh_name("member"), group, [name])
    wait_for_shares([member], partitions_of(name, 1))
    agent.call("create_partitions", topic=name, count=3)
    second = agent.join(fresh_name("member"), group, [name])  # a rebalance: all look anew
    wait_for_shares([member, second], partitions_of(name, 3))
    for each in (member, second):
        each.leave()


def test_clients_of_all_kinds_are_one_group(agents: Start, topic: MakeTopic) -> None:
    """Those that know the range assignor: kafkajs does not."""
    name, group = topic(PARTITIONS), fresh_name("group")
    clients = [client for client, program in PROGRAMS.items() if "range" in program.assignors]
    members: list[Member] = []
    for client in clients:
        members.append(agents(client).join(fresh_name("member"), group, [name], assignor="range", commit_each=True))
        wait_for_even_shares(members, partitions_of(name))
    fill(agents("confluent"), name, 0, 120)
    wait_until(lambda: len(read_by(*members)) >= 120, "all records")
    assert Counter(read_by(*members)) == Counter(range(120))
    for member in members:
        member.leave()


def test_kcat_is_a_group(agents: Start, broker_address: str, topic: MakeTopic) -> None:
    name, group = topic(PARTITIONS), fresh_name("group")
    fill(agents("confluent"), name, 0, 60)
    records = Kcat(broker_address).read_group(group, [name], 60)
    assert sorted(int(record.value or b"-1") for record in records) == list(range(60))
    committed = agents("confluent").call("committed", group=group, topic=name, partitions=PARTITIONS)
    assert committed == [10] * PARTITIONS
