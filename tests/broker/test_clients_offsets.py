"""Where real clients read on: commits by hand and by themselves, resets, seeks by offset and by time, pauses."""

import time

import pytest

from kafka_brokers import MakeTopic, Start, fresh_name
from kafka_clients.agent import Agent, Member, wait_for_shares, wait_until
from kafka_clients.kcat import Kcat
from kafka_clients.records import Sent

START_MS = 1_700_000_000_000


def fill(agent: Agent, topic: str, count: int, first: int = 0, partition: int = 0) -> None:
    agent.produce([Sent(topic, partition, b"%d" % number) for number in range(first, first + count)])


def numbers(member: Member) -> list[int]:
    return [int(record.value or b"-1") for record in member.records]


def wait_for_records(member: Member, count: int) -> None:
    wait_until(lambda: len(member.records) >= count, f"{count} records of {member.name}")
    assert len(member.records) == count, numbers(member)


def saw_soon(member: Member, number: int) -> bool:
    try:
        wait_until(lambda: number in numbers(member), "the newest", timeout_s=1)
    except AssertionError:
        return False
    return True


def test_a_group_goes_on_where_it_committed(agent: Agent, topic: MakeTopic) -> None:
    name, group = topic(2), fresh_name("group")
    fill(agent, name, 10)
    fill(agent, name, 5, partition=1)
    first = agent.join(fresh_name("member"), group, [name])
    wait_for_records(first, 15)
    assert agent.call("committed", group=group, topic=name, partitions=2) == [-1, -1]
    first.commit()
    assert first.commits[-1].items() >= {(name, 0): 10, (name, 1): 5}.items()
    assert agent.call("committed", group=group, topic=name, partitions=2) == [10, 5]
    fill(agent, name, 3, first=10)
    wait_for_records(first, 18)
    first.leave()  # what it did not commit is read again
    second = agent.join(fresh_name("member"), group, [name])
    wait_for_records(second, 3)
    assert numbers(second) == [10, 11, 12]
    second.leave()


def test_commits_happen_by_themselves(agent: Agent, topic: MakeTopic) -> None:
    name, group = topic(1), fresh_name("group")
    fill(agent, name, 10)
    member = agent.join(fresh_name("member"), group, [name], auto_commit=True)
    wait_for_records(member, 10)
    deadline = time.monotonic() + 30
    while agent.call("committed", group=group, topic=name, partitions=1) != [10]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    member.leave()


@pytest.mark.parametrize(("reset", "expected"), [("earliest", [0, 1, 2, 3]), ("latest", [3])])
def test_a_group_without_commits_begins_where_its_reset_says(
    agent: Agent, topic: MakeTopic, reset: str, expected: list[int]
) -> None:
    name = topic(1)
    fill(agent, name, 3)
    member = agent.join(fresh_name("member"), fresh_name("group"), [name], reset=reset)
    wait_for_shares([member], {(name, 0)})
    # It does not say when it has asked for the end: it has, once it sees what was sent after that.
    sent = 3
    while sent == 3 or not saw_soon(member, sent - 1):
        assert sent < 20
        fill(agent, name, 1, first=sent)
        sent += 1
    member.leave()
    found = numbers(member)
    assert found == list(range(found[0], sent))
    assert found[0] == expected[0] or (reset == "latest" and found[0] > 3)


def test_an_offset_is_found_by_time(agent: Agent, topic: MakeTopic) -> None:
    name = topic(1)
    times = [START_MS, START_MS + 1000, START_MS + 500, START_MS + 2000]
    for time_ms in times:  # a batch each
        agent.produce([Sent(name, 0, b"x", timestamp_ms=time_ms)])
    found = [
        agent.call("offset_at", topic=name, partition=0, timestamp_ms=time_ms)
        for time_ms in (0, START_MS, START_MS + 1, START_MS + 1000, START_MS + 1001, START_MS + 2000)
    ]
    assert found == [0, 0, 1, 1, 3, 3]
    assert agent.call("offset_at", topic=name, partition=0, timestamp_ms=START_MS + 2001) == -1


def test_kcat_finds_an_offset_by_time(agents: Start, broker_address: str, topic: MakeTopic) -> None:
    name = topic(1)
    agents("confluent").produce([Sent(name, 0, b"x", timestamp_ms=START_MS + number) for number in range(10)])
    assert Kcat(broker_address).offset_at(name, 0, START_MS + 4) == 4


def test_a_member_that_seeks_reads_again(agent: Agent, topic: MakeTopic) -> None:
    name = topic(1)
    fill(agent, name, 10)
    member = agent.join(fresh_name("member"), fresh_name("group"), [name])
    wait_for_records(member, 10)
    member.seek(name, 0, 4)
    wait_for_records(member, 16)
    assert numbers(member)[10:] == [4, 5, 6, 7, 8, 9]
    member.leave()


def test_a_paused_partition_gives_nothing_and_goes_on_where_it_was(agent: Agent, topic: MakeTopic) -> None:
    name = topic(2)
    fill(agent, name, 3)
    member = agent.join(fresh_name("member"), fresh_name("group"), [name])
    wait_for_records(member, 3)
    member.pause(name, 0)
    fill(agent, name, 3, first=3)
    fill(agent, name, 3, partition=1)  # these come, and by then the others would have
    wait_for_records(member, 6)
    fill(agent, name, 3, first=3, partition=1)
    wait_for_records(member, 9)
    assert {record.partition for record in member.records[3:]} == {1}
    member.resume(name, 0)
    wait_for_records(member, 12)
    assert [(record.partition, record.value) for record in member.records[9:]] == [(0, b"3"), (0, b"4"), (0, b"5")]
    member.leave()


def test_reading_from_an_offset_that_is_gone_follows_the_reset(agent: Agent, topic: MakeTopic) -> None:
    name, group = topic(1), fresh_name("group")
    fill(agent, name, 5)
    first = agent.join(fresh_name("member"), group, [name])
    wait_for_records(first, 5)
    first.seek(name, 0, 1000)
    wait_for_records(first, 10)
    assert numbers(first) == [0, 1, 2, 3, 4] * 2
    first.leave()
