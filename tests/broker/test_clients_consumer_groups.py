"""Real members of groups whose partitions the broker hands out: librdkafka with group.protocol=consumer."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kafka_clients.agent import wait_for_shares as wait_for_all_shares
from kafka_clients.programs import PROGRAMS
from logstore.groups.requests import ConsumerHeartbeat
from waits import wait_until
from wire_members import GroupBroker

confluent_kafka = pytest.importorskip("confluent_kafka")

pytestmark = pytest.mark.parametrize(
    "group_settings",
    [{"group_consumer_heartbeat_interval_ms": 50, "group_consumer_session_timeout_ms": 1_000}],
    ids=[""],
)


class Reader:
    """A consumer that polls in a thread of its own: what it has now, and what it has read and given up."""

    def __init__(self, address: str, topics: list[str], **settings: Any) -> None:
        self.has: set[tuple[str, int]] = set()
        self.read: list[tuple[str, int, int]] = []
        self.moved: list[tuple[str, list[tuple[str, int]]]] = []
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": address,
                "group.id": "g",
                "group.protocol": "consumer",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                **settings,
            }
        )
        self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        self.has |= self._told("assigned", partitions)

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        self.has -= self._told("revoked", partitions)

    def _told(self, what: str, partitions: list[Any]) -> set[tuple[str, int]]:
        places = [(one.topic, one.partition) for one in partitions]
        self.moved.append((what, places))
        return set(places)

    def _run(self) -> None:
        while not self._is_over.is_set():
            message = self._consumer.poll(0.05)
            if message is not None and message.error() is None:
                self.read.append((message.topic(), message.partition(), message.offset()))
                self._consumer.commit(asynchronous=False)
        self._consumer.close()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.fixture
def readers(group_broker: GroupBroker) -> Iterator[Callable[..., Reader]]:
    made: list[Reader] = []

    def start(*topics: str, **settings: Any) -> Reader:
        made.append(Reader(group_broker.address, list(topics or ("orders",)), **settings))
        return made[-1]

    yield start
    for reader in made:
        reader.stop()


def wait_for_shares(*readers: Reader, partitions: int = 3) -> None:
    """Until all partitions are shared out evenly, each to one."""

    def are_shared() -> bool:
        counts = [len(reader.has) for reader in readers]
        everything = set().union(*(reader.has for reader in readers))
        return sum(counts) == len(everything) == partitions and max(counts) - min(counts) <= 1

    wait_until(are_shared)


def produce(broker: GroupBroker, count: int, topic: str = "orders", partitions: int = 3) -> None:
    for partition in range(partitions):
        broker.broker.store.log(topic, partition).append([b"%d" % number for number in range(count)])


def test_members_share_the_partitions_and_read_each_record_once(
    group_broker: GroupBroker, readers: Callable[..., Reader]
) -> None:
    produce(group_broker, 10)
    first = readers()
    wait_until(lambda: len(first.read) == 30)
    second, third = readers(), readers()
    wait_for_shares(first, second, third)
    produce(group_broker, 10)
    wait_until(lambda: len(first.read) + len(second.read) + len(third.read) == 60)
    everything = [*first.read, *second.read, *third.read]
    assert len(set(everything)) == 60
    assert sum(len(places) for what, places in first.moved if what == "revoked") == 2  # it kept what it could
    second.stop()
    wait_for_shares(first, third)
    groups = group_broker.broker.groups
    wait_until(lambda: groups.describe_consumer_group("g").state == "Stable")
    assert len(groups.describe_consumer_group("g").members) == 2


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_members_of_both_strategies_share_and_see_new_partitions(
    group_broker: GroupBroker, readers: Callable[..., Reader], assignor: str
) -> None:
    settings = {"group.remote.assignor": assignor}
    members = [readers(**settings), readers(**settings)]
    wait_for_shares(*members)
    assert group_broker.broker.groups.describe_consumer_group("g").assignor == assignor
    group_broker.broker.store.alter_topic("orders", partitions=6)
    wait_for_shares(*members, partitions=6)


def test_a_pattern_finds_topics_that_come_later(group_broker: GroupBroker, readers: Callable[..., Reader]) -> None:
    reader = readers("^ord.*")
    wait_for_shares(reader)
    group_broker.broker.store.create_topic("ordinary", partitions=2)
    wait_for_shares(reader, partitions=5)


def test_what_a_crashed_member_had_goes_to_the_others_after_its_session(
    group_broker: GroupBroker, readers: Callable[..., Reader]
) -> None:
    produce(group_broker, 5)
    doomed = ConsumerHeartbeat("g", "doomed", 0, rebalance_timeout_ms=1_000, topics=("orders",), owned=frozenset())
    joined = group_broker.broker.groups.consumer_heartbeat(doomed)  # and is never heard of again
    assert len(joined.assigned or ()) == 3
    survivor = readers()
    wait_until(lambda: len(survivor.read) == 15)
    wait_for_shares(survivor)


def test_a_static_member_comes_back_to_its_partitions_without_a_new_epoch(
    group_broker: GroupBroker, readers: Callable[..., Reader]
) -> None:
    static, other = readers(**{"group.instance.id": "i"}), readers()
    wait_for_shares(static, other)
    groups = group_broker.broker.groups
    wait_until(lambda: groups.describe_consumer_group("g").state == "Stable")
    epoch, had = groups.describe_consumer_group("g").epoch, set(static.has)
    static.stop()
    back = readers(**{"group.instance.id": "i"})
    wait_until(lambda: back.has == had)
    assert groups.describe_consumer_group("g").epoch == epoch


def test_a_group_goes_on_where_it_committed(group_broker: GroupBroker, readers: Callable[..., Reader]) -> None:
    produce(group_broker, 5)
    reader = readers()
    wait_until(lambda: len(reader.read) == 15)
    reader.stop()
    again = readers()
    wait_for_shares(again)
    produce(group_broker, 1)
    wait_until(lambda: len(again.read) == 3)
    assert {offset for _, _, offset in again.read} == {5}


def test_java_and_librdkafka_are_one_group(group_broker: GroupBroker) -> None:
    produce(group_broker, 4)
    agents = [PROGRAMS[name].start(group_broker.address) for name in ("java", "confluent")]
    try:
        members = [agent.join(agent.name, "g", ["orders"], group_protocol="consumer") for agent in agents]
        wait_until(lambda: all(member.assignment for member in members))
        shares = wait_for_all_shares(members, {("orders", number) for number in range(3)})
        assert sorted(map(len, shares)) == [1, 2]
        groups = group_broker.broker.groups
        wait_until(lambda: groups.describe_consumer_group("g").state == "Stable")
        read = {("orders", number, offset) for number in range(3) for offset in range(4)}
        wait_until(lambda: {(r.topic, r.partition, r.offset) for one in members for r in one.records} == read)
        for member in members:
            member.commit()
            member.leave()
        assert {committed.offset for committed in groups.committed("g").values()} == {4}
        wait_until(lambda: groups.describe("g").state == "Empty")
    finally:
        for agent in agents:
            agent.close()


def test_members_of_the_classic_protocol_have_groups_beside_it(
    group_broker: GroupBroker, readers: Callable[..., Reader]
) -> None:
    modern, classic = readers(), readers(**{"group.protocol": "classic", "group.id": "classic"})
    wait_for_shares(modern)
    wait_for_shares(classic)
    kinds = {group.group: group.kind for group in group_broker.broker.groups.groups()}
    assert kinds == {"g": "consumer", "classic": "classic"}
