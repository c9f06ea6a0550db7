"""Members of a group in one process: who gets which partitions, when they change hands, and who is told of that."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import logstore
from logstore.client.consumer import ConsumerRecord, RebalanceListener
from logstore.client.embedded.consumer.consumer import EmbeddedConsumer
from logstore.client.embedded.store import Store
from logstore.errors import (
    Closed,
    FencedInstance,
    InconsistentProtocol,
    InvalidArgument,
    InvalidSessionTimeout,
    PollIntervalExceeded,
    UnknownMember,
)
from logstore.format.filename import TopicPartition
from logstore.groups.requests import LeavingMember, OffsetAndMetadata

LONG_S = 20.0  # what never takes that long
EAGER, COOPERATIVE = "range", "cooperative-sticky"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path / "data", group_min_session_timeout_ms=1) as opened:
        opened.create_topic("orders", partitions=4)
        yield opened


def parts(*numbers: int, topic: str = "orders") -> set[TopicPartition]:
    return {TopicPartition(topic, number) for number in numbers}


class Calls(RebalanceListener):
    """Takes down what a listener is told: "+" assigned, "-" revoked, "!" lost."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []

    def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
        self.calls.append(("+", [partition.partition for partition in partitions]))

    def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
        self.calls.append(("-", [partition.partition for partition in partitions]))

    def on_partitions_lost(self, partitions: list[TopicPartition]) -> None:
        self.calls.append(("!", [partition.partition for partition in partitions]))


def until(is_so: Callable[[], Any], *consumers: EmbeddedConsumer) -> list[ConsumerRecord]:
    """Poll them by turns, all in this thread, until it is so."""
    records: list[ConsumerRecord] = []
    deadline_s = time.monotonic() + LONG_S
    while not is_so():
        assert time.monotonic() < deadline_s, [consumer.assignment() for consumer in consumers]
        for consumer in consumers:
            records += consumer.poll(0.005)
        if not consumers:
            time.sleep(0.005)
    return records


def are_shared_out(
    *consumers: EmbeddedConsumer, partitions: set[TopicPartition], evenly: bool = True
) -> Callable[[], bool]:
    """Whether all partitions are somebody's, and none two's; unless told otherwise, all members have about as many."""

    def is_so() -> bool:
        held = [partition for consumer in consumers for partition in consumer.assignment()]
        counts = [len(consumer.assignment()) for consumer in consumers]
        return sorted(held) == sorted(partitions) and (not evenly or max(counts) - min(counts) <= 1)

    return is_so


class Worker:
    """A member in a thread of its own, that polls until it is told to stop."""

    def __init__(self, consumer: EmbeddedConsumer) -> None:
        self.consumer = consumer
        self.records: list[ConsumerRecord] = []
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self.records += self.consumer.poll()
        except Closed:
            pass
        except BaseException as failure:  # noqa: BLE001  # the test looks at it
            self.failure = failure

    def close(self) -> None:
        self.consumer.close()
        self._thread.join()
        assert self.failure is None


# ----------------------------------------------------------------------------------------------------------- rebalances


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "sticky", "cooperative-sticky"])
def test_partitions_are_shared_by_those_who_are_there(store: Store, strategy: str) -> None:
    def member() -> EmbeddedConsumer:
        return store.consumer("orders", group="g", partition_assignment_strategy=strategy)

    first = member()
    until(lambda: first.assignment() == parts(0, 1, 2, 3), first)
    second = member()
    until(are_shared_out(first, second, partitions=parts(0, 1, 2, 3)), first, second)
    assert len(first.assignment()) == len(second.assignment()) == 2
    third = member()
    until(lambda: third.assignment(), first, second, third)
    until(are_shared_out(first, second, third, partitions=parts(0, 1, 2, 3)), first, second, third)
    first.close()
    until(are_shared_out(second, third, partitions=parts(0, 1, 2, 3)), second, third)
    second.close()
    until(lambda: third.assignment() == parts(0, 1, 2, 3), third)
    third.close()
    assert store.groups.describe("g").state == "Empty"


def test_surplus_members_are_idle_and_take_over_when_another_leaves(store: Store) -> None:
    members = [store.consumer("orders", group="g") for _ in range(6)]
    until(are_shared_out(*members, partitions=parts(0, 1, 2, 3)), *members)
    idle = [member for member in members if not member.assignment()]
    busy = [member for member in members if member.assignment()]
    assert len(idle) == 2
    busy[0].close()
    until(lambda: len([member for member in idle if member.assignment()]) == 1, *idle, *busy[1:])


def test_a_waiting_poll_hears_of_a_rebalance_long_before_its_next_heartbeat(store: Store) -> None:
    settings = {"heartbeat_interval_ms": 30_000, "session_timeout_ms": 60_000}
    workers = [Worker(store.consumer("orders", group="g", **settings))]
    until(lambda: len(store.groups.describe("g").members) == 1)
    start_s = time.monotonic()
    workers += [Worker(store.consumer("orders", group="g", **settings)) for _ in range(3)]
    until(lambda: all(len(worker.consumer._fetcher.feeds) == 1 for worker in workers))
    workers.pop().close()
    until(lambda: sum(len(worker.consumer._fetcher.feeds) for worker in workers) == 4)
    assert time.monotonic() - start_s < 10
    for worker in workers:
        worker.close()


@pytest.mark.parametrize("strategy", [EAGER, COOPERATIVE])
def test_many_members_are_a_group_within_seconds_and_few_generations(store: Store, strategy: str) -> None:
    store.create_topic("wide", partitions=60)
    consumers = [store.consumer("wide", group="g", partition_assignment_strategy=strategy) for _ in range(60)]
    workers = [Worker(consumer) for consumer in consumers]
    until(lambda: all(len(consumer._fetcher.feeds) == 1 for consumer in consumers))
    assert store.groups.describe("g").generation <= 30
    store.close()
    for worker in workers:
        worker.close()


def test_new_partitions_are_shared_out(store: Store) -> None:
    members = [store.consumer("orders", group="g") for _ in range(2)]
    until(are_shared_out(*members, partitions=parts(0, 1, 2, 3)), *members)
    store.alter_topic("orders", partitions=6)
    until(are_shared_out(*members, partitions=parts(0, 1, 2, 3, 4, 5)), *members)


def test_records_that_come_into_a_new_partition_before_it_is_assigned_are_read(store: Store) -> None:
    with store.consumer("orders", group="g") as member:
        until(lambda: member.assignment(), member)
        store.alter_topic("orders", partitions=6)
        store.log("orders", 5).append([b"early"])
        assert [record.value for record in member.poll(LONG_S)] == [b"early"]


def test_a_topic_subscribed_to_is_shared_out_once_it_exists_and_no_longer_once_it_does_not(store: Store) -> None:
    members = [store.consumer("orders", "later", group="g") for _ in range(2)]
    until(are_shared_out(*members, partitions=parts(0, 1, 2, 3)), *members)
    store.create_topic("later", partitions=2)
    until(are_shared_out(*members, partitions=parts(0, 1, 2, 3) | parts(0, 1, topic="later")), *members)
    store.delete_topic("later")
    until(are_shared_out(*members, partitions=parts(0, 1, 2, 3)), *members)
    store.create_topic("later", partitions=1)
    until(are_shared_out(*members, partitions=parts(0, 1, 2, 3) | parts(0, topic="later")), *members)


@pytest.mark.parametrize("strategy", [EAGER, COOPERATIVE])
def test_topics_that_match_a_pattern_are_shared_out_as_they_come_and_go(store: Store, strategy: str) -> None:
    members = [store.consumer(pattern="x.*", group="g", partition_assignment_strategy=strategy) for _ in range(2)]
    until(lambda: len(store.groups.describe("g").members) == 2, *members)
    store.create_topic("x1", partitions=2)
    until(are_shared_out(*members, partitions=parts(0, 1, topic="x1")), *members)
    store.create_topic("x2", partitions=2)
    until(are_shared_out(*members, partitions=parts(0, 1, topic="x1") | parts(0, 1, topic="x2")), *members)
    store.delete_topic("x1")
    until(are_shared_out(*members, partitions=parts(0, 1, topic="x2")), *members)


def test_a_topic_that_is_made_again_is_read_from_its_beginning(store: Store) -> None:
    with store.consumer("orders", group="g", auto_offset_reset="earliest") as member:
        store.log("orders", 1).append([b"old"] * 5)
        assert len(member.poll(LONG_S)) == 5
        member.commit()
        store.delete_topic("orders")
        store.create_topic("orders", partitions=4)
        store.log("orders", 1).append([b"new"])
        assert [(record.offset, record.value) for record in member.poll(LONG_S)] == [(0, b"new")]


def test_members_may_subscribe_to_different_topics_and_change_their_minds(store: Store) -> None:
    store.create_topic("other", partitions=2)
    first, second = store.consumer("orders", group="g"), store.consumer("orders", "other", group="g")
    everything = parts(0, 1, 2, 3) | parts(0, 1, topic="other")
    until(are_shared_out(first, second, partitions=everything, evenly=False), first, second)
    until(lambda: first.assignment(), first, second)
    assert {partition.topic for partition in first.assignment()} == {"orders"}
    first.subscribe("other")
    until(lambda: second.assignment() >= parts(0, 1, 2, 3), first, second)
    first.unsubscribe()
    assert first.assignment() == frozenset()
    until(lambda: second.assignment() == everything, first, second)


# --------------------------------------------------------------------------------------------------------- the listener


def test_an_eager_member_gives_up_everything_before_it_joins_again(store: Store) -> None:
    calls = Calls()
    first = store.consumer("orders", group="g", listener=calls, partition_assignment_strategy=EAGER)
    until(lambda: first.assignment(), first)
    second = store.consumer("orders", group="g", partition_assignment_strategy=EAGER)
    until(lambda: second.assignment(), first, second)
    first.close()
    half = calls.calls[-1][1]
    assert half in ([0, 1], [2, 3])
    assert calls.calls == [("+", [0, 1, 2, 3]), ("-", [0, 1, 2, 3]), ("+", half), ("-", half)]


def test_a_cooperative_member_gives_up_only_what_others_get(store: Store) -> None:
    calls = Calls()
    first = store.consumer("orders", group="g", listener=calls, partition_assignment_strategy=COOPERATIVE)
    until(lambda: first.assignment(), first)
    second = store.consumer("orders", group="g", partition_assignment_strategy=COOPERATIVE)
    until(lambda: len(second.assignment()) == 2, first, second)
    kept = sorted(partition.partition for partition in first.assignment())
    gone = sorted({0, 1, 2, 3} - set(kept))
    assert calls.calls == [("+", [0, 1, 2, 3]), ("-", gone)]
    second.close()
    until(lambda: len(first.assignment()) == 4, first)
    assert calls.calls[2:] == [("+", gone)]


def test_a_cooperative_member_goes_on_reading_while_others_are_waited_for(store: Store) -> None:
    settings: dict[str, Any] = {"group": "g", "partition_assignment_strategy": COOPERATIVE}
    first = store.consumer("orders", **settings)
    until(lambda: first.assignment(), first)
    second = store.consumer("orders", **settings)
    until(lambda: len(second.assignment()) == 2, first, second)
    third = store.consumer("orders", **settings)
    third.poll(0)  # begins a rebalance; second does not poll, so it lasts
    until(lambda: store.groups.describe("g").state == "PreparingRebalance", first, third)
    topic, partition = min(first.assignment())
    store.log(topic, partition).append([b"meanwhile"])
    assert [record.value for record in first.poll(LONG_S)] == [b"meanwhile"]
    assert store.groups.describe("g").state == "PreparingRebalance"


@pytest.mark.parametrize("strategy", [EAGER, COOPERATIVE])
def test_what_a_listener_raises_comes_out_of_poll_and_the_consumer_goes_on(store: Store, strategy: str) -> None:
    class Angry(Calls):
        def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
            super().on_partitions_assigned(partitions)
            raise ZeroDivisionError("assigned")

        def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
            super().on_partitions_revoked(partitions)
            raise ZeroDivisionError("revoked")

    first = store.consumer("orders", group="g", listener=Angry(), partition_assignment_strategy=strategy)
    second = store.consumer("orders", group="g", partition_assignment_strategy=strategy)
    raised = []
    deadline_s = time.monotonic() + LONG_S
    while len(first.assignment()) != 2 or len(second.assignment()) != 2:
        assert time.monotonic() < deadline_s
        try:
            first.poll(0.005)
            if raised:
                second.poll(0.005)
        except ZeroDivisionError as error:
            raised.append(str(error))
    assert set(raised) == {"assigned", "revoked"}
    store.log(*min(first.assignment())).append([b"x"])
    assert len(first.poll(LONG_S)) == 1
    with pytest.raises(ZeroDivisionError):
        first.close()
    with pytest.raises(Closed):
        first.poll(0)
    until(lambda: len(second.assignment()) == 4, second)


def test_a_listener_may_seek_in_what_it_was_assigned(store: Store) -> None:
    class Rewind(RebalanceListener):
        def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
            for topic, partition in partitions:
                member.seek(topic, partition, 1)

    store.log("orders", 3).append([b"0", b"1", b"2"])
    member = store.consumer("orders", group="g", auto_offset_reset="earliest")
    for partition in range(3):
        store.log("orders", partition).append([b"x"])
    member.subscribe("orders", listener=Rewind())
    assert [record.value for record in member.poll(LONG_S)] == [b"1", b"2"]
    member.close()


# ---------------------------------------------------------------------------------------- members that are not heard of


def test_a_member_that_nobody_has_any_more_leaves_its_group_at_once(store: Store) -> None:
    dropped, other = (store.consumer("orders", group="g") for _ in range(2))
    until(are_shared_out(dropped, other, partitions=parts(0, 1, 2, 3)), dropped, other)
    began_s = time.monotonic()
    del dropped
    gc.collect()
    until(lambda: len(other.assignment()) == 4, other)
    assert time.monotonic() - began_s < LONG_S  # its session is 45 s
    assert len(store.groups.describe("g").members) == 1
    other.close()


def test_a_static_member_that_nobody_has_any_more_keeps_its_partitions_for_its_session(store: Store) -> None:
    dropped = store.consumer("orders", group="g", group_instance_id="one")
    until(are_shared_out(dropped, partitions=parts(0, 1, 2, 3)), dropped)
    del dropped
    gc.collect()
    time.sleep(0.2)
    (member,) = store.groups.describe("g").members
    assert member.instance_id == "one"


def test_a_member_that_waits_in_poll_or_works_longer_than_its_session_stays_a_member(store: Store) -> None:
    member = store.consumer("orders", group="g", session_timeout_ms=300, heartbeat_interval_ms=50)
    until(lambda: member.assignment(), member)
    generation = store.groups.describe("g").generation
    member.poll(0.5)
    time.sleep(0.5)
    member.poll(0)
    assert store.groups.describe("g").generation == generation
    assert len(member.assignment()) == 4
    member.close()


def test_a_member_that_does_not_poll_for_max_poll_interval_loses_its_partitions_and_may_join_again(
    store: Store,
) -> None:
    calls = Calls()
    settings = {"max_poll_interval_ms": 300, "heartbeat_interval_ms": 50}
    slow = store.consumer("orders", group="g", listener=calls, **settings)
    until(lambda: slow.assignment(), slow)
    quick = store.consumer("orders", group="g")
    until(lambda: len(slow.assignment()) == len(quick.assignment()) == 2, slow, quick)
    held = sorted(partition.partition for partition in slow.assignment())
    del calls.calls[:]
    until(lambda: len(quick.assignment()) == 4, quick)
    with pytest.raises(UnknownMember):
        slow.commit()
    with pytest.raises(PollIntervalExceeded, match="300 ms"):
        slow.poll(0)
    assert calls.calls == [("!", held)]
    assert slow.assignment() == frozenset()
    until(lambda: len(slow.assignment()) == len(quick.assignment()) == 2, slow, quick)


def test_an_iteration_counts_as_polling_with_each_record(store: Store) -> None:
    store.log("orders", 0).append([b"x"] * 12)
    with store.consumer(
        "orders", group="g", auto_offset_reset="earliest", max_poll_interval_ms=400, heartbeat_interval_ms=20
    ) as member:
        for record in member:
            time.sleep(0.06)
            if record.offset == 11:
                break
        assert len(member.assignment()) == 4


def test_a_stale_member_can_commit_nothing(store: Store) -> None:
    first = store.consumer("orders", group="g", partition_assignment_strategy=EAGER)
    until(lambda: first.assignment(), first)
    first.seek("orders", 0, 0)
    second = store.consumer("orders", group="g", partition_assignment_strategy=EAGER)
    store.log("orders", 0).append([b"x"])
    second.poll(0)
    until(lambda: store.groups.describe("g").state == "PreparingRebalance", second)
    first.commit({("orders", 0): 1})  # what it read before may still be committed
    store.groups.leave("g", [LeavingMember(first._offsets.identity.member_id)])
    with pytest.raises(UnknownMember):
        first.commit({("orders", 0): 0})
    assert store.groups.committed("g")[TopicPartition("orders", 0)].offset == 1
    until(lambda: len(first.assignment()) == 2, first, second)


def test_static_members_that_come_back_in_time_keep_their_partitions_without_a_rebalance(store: Store) -> None:
    def member(name: str) -> EmbeddedConsumer:
        return store.consumer("orders", group="g", group_instance_id=name)

    members = {name: member(name) for name in "ab"}
    until(are_shared_out(*members.values(), partitions=parts(0, 1, 2, 3)), *members.values())
    generation = store.groups.describe("g").generation
    for name in "ab":
        held = members[name].assignment()
        members[name].close()
        members[name] = member(name)
        until(members[name].assignment, *members.values())
        assert members[name].assignment() == held
    assert store.groups.describe("g").generation == generation


def test_a_static_leader_that_comes_back_sees_what_has_changed_meanwhile(store: Store) -> None:
    settings: dict[str, Any] = {"group": "g", "group_instance_id": "a"}
    member = store.consumer("orders", **settings)
    until(lambda: member.assignment() == parts(0, 1, 2, 3), member)
    member.close()
    store.alter_topic("orders", partitions=6)
    member = store.consumer("orders", **settings)
    until(lambda: member.assignment() == parts(0, 1, 2, 3, 4, 5), member)


def test_a_static_member_that_does_not_come_back_loses_its_partitions_with_its_session(store: Store) -> None:
    settings = {"session_timeout_ms": 400, "heartbeat_interval_ms": 50}
    first = store.consumer("orders", group="g", group_instance_id="a", **settings)
    second = store.consumer("orders", group="g", group_instance_id="b", **settings)
    until(are_shared_out(first, second, partitions=parts(0, 1, 2, 3)), first, second)
    first.close()
    until(lambda: len(second.assignment()) == 4, second)


def test_a_second_member_of_the_same_instance_fences_the_first(store: Store) -> None:
    first = store.consumer("orders", group="g", group_instance_id="a", heartbeat_interval_ms=20)
    until(lambda: first.assignment(), first)
    second = store.consumer("orders", group="g", group_instance_id="a")
    until(lambda: len(second.assignment()) == 4, second)
    with pytest.raises(FencedInstance):
        until(lambda: False, first)
    with pytest.raises(FencedInstance):
        first.poll(0)
    assert first.assignment() == frozenset()
    first.close()
    second.poll(0)
    assert len(second.assignment()) == 4


# --------------------------------------------------------------------------------------------------- strategies, errors


def test_a_group_goes_from_an_eager_to_a_cooperative_strategy_member_by_member(store: Store) -> None:
    def member(*strategies: str) -> EmbeddedConsumer:
        return store.consumer("orders", group="g", partition_assignment_strategy=strategies)

    members = [member("range") for _ in range(2)]
    until(are_shared_out(*members, partitions=parts(0, 1, 2, 3)), *members)
    for strategies in (("cooperative-sticky", "range"), ("cooperative-sticky",)):
        for index in range(2):
            members[index].close()
            members[index] = member(*strategies)
            until(lambda index=index: members[index].assignment(), *members)
            until(are_shared_out(*members, partitions=parts(0, 1, 2, 3)), *members)
    assert store.groups.describe("g").protocol == "cooperative-sticky"


def test_a_member_without_a_strategy_in_common_is_refused_and_may_try_again(store: Store) -> None:
    first = store.consumer("orders", group="g", partition_assignment_strategy="range")
    until(lambda: first.assignment(), first)
    other = store.consumer("orders", group="g", partition_assignment_strategy="sticky")
    for _ in range(2):
        with pytest.raises(InconsistentProtocol):
            other.poll(1)
    first.close()
    until(lambda: len(other.assignment()) == 4, other)


def test_a_session_timeout_out_of_bounds_is_refused(tmp_path: Path) -> None:
    with (
        logstore.open(tmp_path / "other") as store,
        store.consumer("t", group="g", session_timeout_ms=100, heartbeat_interval_ms=10) as member,
    ):
        with pytest.raises(InvalidSessionTimeout):
            member.poll(1)


def test_there_is_one_heartbeat_thread_while_there_are_members(store: Store) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if "heartbeats" in thread.name]

    assert threads() == []
    members = [store.consumer("orders", group=f"g{number}") for number in range(3)]
    for member in members:
        member.poll(0)
    assert len(threads()) == 1
    for member in members:
        member.close()
    until(lambda: threads() == [])
    members[0] = store.consumer("orders", group="g")
    until(lambda: members[0].assignment(), members[0])
    assert len(threads()) == 1
    store.close()
    assert threads() == []


def test_a_consumer_that_is_closed_in_the_middle_of_a_rebalance_does_not_hold_it_up(store: Store) -> None:
    first, second = store.consumer("orders", group="g"), store.consumer("orders", group="g")
    until(lambda: first.assignment(), first)
    second.poll(0)
    second.close()
    until(lambda: store.groups.describe("g").state == "Stable", first)
    until(lambda: len(first.assignment()) == 4, first)


def test_closing_in_the_listener_ends_the_poll_with_closed(store: Store) -> None:
    class Closing(RebalanceListener):
        def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
            member.close()

    member = store.consumer("orders", group="g", listener=Closing())
    with pytest.raises(Closed):
        until(lambda: False, member)
    assert store.groups.describe("g").state == "Empty"


def test_a_listener_may_close_the_consumer_while_it_gives_its_partitions_up(store: Store) -> None:
    class Closing(RebalanceListener):
        def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
            member.close()

    member = store.consumer("orders", group="g", listener=Closing())
    until(member.assignment, member)
    member.unsubscribe()
    with pytest.raises(Closed):
        member.poll(0)
    assert store.groups.describe("g").state == "Empty"


def test_a_member_whose_heartbeats_cannot_be_started_joins_when_they_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    store.groups.commit("g", {("orders", 0): OffsetAndMetadata(0)})
    member = store.consumer("orders", group="g")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            member.poll(0)
    until(member.assignment, member)


def test_a_listener_that_polls_does_no_harm(store: Store) -> None:
    class Polling(RebalanceListener):
        def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
            member.poll(0)

    member = store.consumer("orders", group="g", listener=Polling())
    until(member.assignment, member)
    assert member.assignment() == parts(0, 1, 2, 3)
    assert store.groups.describe("g").state == "Stable"


def test_what_is_no_listener_is_refused_at_once(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="on_partitions_assigned"):
        store.consumer("orders", group="g", listener=print)  # type: ignore[arg-type]
    assert store.groups.describe("g").state == "Dead"


def test_what_a_listener_raises_when_the_store_closes_keeps_no_other_consumer_open(store: Store) -> None:
    class Angry(RebalanceListener):
        def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
            raise ZeroDivisionError

    members = [store.consumer("orders", group=f"g{number}", listener=Angry()) for number in range(3)]
    for member in members:
        until(member.assignment, member)
    store.close()
    for member in members:
        with pytest.raises(Closed):
            member.poll(0)
