"""Consumer groups: what members read together, and how long a rebalance of many takes. The peers have none."""

import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest

import logstore
from bench.conftest import Contest
from logstore.client.consumer import Consumer, RebalanceListener
from logstore.format.filename import TopicPartition

_PARTITIONS = 8
_COUNT = 30_000  # in each partition


@pytest.fixture
def store(place: Path) -> Iterator[logstore.Store]:
    with logstore.open(place / "groups") as opened:
        yield opened


# ------------------------------------------------------------------------------------------------------- throughput


def _is_complete(store: logstore.Store, group: str, member_count: int) -> bool:
    """Whether all have joined, and nobody needs to join again."""
    description = store.groups.describe(group)
    return description.state == "Stable" and len(description.members) == member_count


def _consume_rate(store: logstore.Store, group: str, member_count: int) -> float:
    """Messages a second, by one thread for each member, from when all have their share until all have read it."""
    started = 0.0

    def start_clock() -> None:
        nonlocal started
        started = perf_counter()

    start = threading.Barrier(member_count, start_clock)

    def work() -> None:
        with store.consumer("bench", group=group, auto_offset_reset="latest") as consumer:
            share = _PARTITIONS // member_count
            while not _is_complete(store, group, member_count) or len(consumer.assignment()) != share:
                consumer.poll(0.02)
            start.wait()
            consumer.seek_to_beginning()
            left = share * _COUNT
            while left:
                left -= len(consumer.poll())
            finish.wait()

    finish = threading.Barrier(member_count + 1)
    threads = [threading.Thread(target=work) for _ in range(member_count)]
    for thread in threads:
        thread.start()
    finish.wait()
    seconds = perf_counter() - started
    for thread in threads:
        thread.join()
    return _PARTITIONS * _COUNT / seconds


@pytest.mark.parametrize("member_count", [1, 2, 4, 8])
def test_g1_consume_in_a_group(store: logstore.Store, contest: Contest, member_count: int) -> None:
    store.create_topic("bench", _PARTITIONS)
    for partition in range(_PARTITIONS):
        for _ in range(_COUNT // 1000):
            store.log("bench", partition).append([b"m" * 100] * 1000)
    measures = {"logstore": lambda: _consume_rate(store, f"of-{member_count}", member_count)}
    if member_count > 1:
        measures["1 member"] = lambda: _consume_rate(store, "of-1", 1)
    title = f"G1 read {_PARTITIONS} partitions in a group, {member_count} member{'s' * (member_count > 1)}"
    contest(title, "messages/s", measures, rounds=9)


# -------------------------------------------------------------------------------------------------------- rebalance


class _Roll:
    """Who has which partitions, by what the listeners are told."""

    def __init__(self, partition_count: int) -> None:
        self._partition_count = partition_count
        self._held: dict[Consumer, set[TopicPartition]] = {}
        self._changed = threading.Condition()

    def change(self, consumer: Consumer, gained: list[TopicPartition], lost: list[TopicPartition]) -> None:
        with self._changed:
            held = self._held.setdefault(consumer, set())
            held.update(gained)
            held.difference_update(lost)
            self._changed.notify_all()

    def wait_for(self, members: list[Consumer]) -> None:
        """Until these have a partition each, and all partitions between them."""

        def is_settled() -> bool:
            held = [self._held.get(member, set()) for member in members]
            return all(held) and sum(map(len, held)) == self._partition_count

        with self._changed:
            assert self._changed.wait_for(is_settled, 60)


class _Member(RebalanceListener):
    """A consumer and the thread that polls it."""

    def __init__(self, store: logstore.Store, roll: _Roll) -> None:
        self._roll = roll
        self.consumer = store.consumer(group="many")
        self.is_leaving = False
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self.consumer:
            self.consumer.subscribe("bench", listener=self)
            while not self.is_leaving:
                self.consumer.poll()

    def leave(self) -> None:
        self.is_leaving = True
        self.consumer.wakeup()

    def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
        self._roll.change(self.consumer, partitions, [])

    def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
        self._roll.change(self.consumer, [], partitions)


@pytest.mark.parametrize("what", ["joins", "leaves"])
def test_g2_rebalance_of_100_members(store: logstore.Store, contest: Contest, what: str) -> None:
    """Over 100 partitions, in a thread each: from the moment in which one more member comes, or one goes, until every
    member has partitions and every partition a member."""
    count = 100
    store.create_topic("bench", count)
    roll = _Roll(count)
    members = [_Member(store, roll) for _ in range(count - 1)]
    for member in members:
        member.thread.start()
    roll.wait_for([member.consumer for member in members])

    def measure() -> float:
        times = {}
        one_more = _Member(store, roll)
        started = perf_counter()
        one_more.thread.start()
        roll.wait_for([member.consumer for member in (*members, one_more)])
        times["joins"] = perf_counter() - started
        started = perf_counter()
        one_more.leave()
        roll.wait_for([member.consumer for member in members])
        times["leaves"] = perf_counter() - started
        one_more.thread.join()
        return times[what] * 1000

    contest(f"G2 rebalance of 100 members, one {what}", "ms", {"logstore": measure}, rounds=5)
    for member in members:
        member.leave()
    for member in members:
        member.thread.join()
