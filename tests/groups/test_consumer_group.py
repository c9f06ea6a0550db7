"""The rules of a consumer group whose partitions the coordinator hands out."""

from typing import Any

import pytest

from consumer_group_driver import REBALANCE_MS, SESSION_MS, Client, ConsumerGroupDriver
from logstore.errors import (
    FencedInstance,
    FencedMemberEpoch,
    GroupFull,
    InvalidArgument,
    InvalidTopicPattern,
    StaleMemberEpoch,
    UnknownMember,
    UnreleasedInstance,
    UnsupportedAssignor,
)
from logstore.format.group_records import MemberState
from logstore.groups.consumer.known_group import ConsumerGroupState
from logstore.groups.requests import ConsumerHeartbeat

EMPTY, ASSIGNING, RECONCILING, STABLE, DEAD = ConsumerGroupState


def joined(*names: str, **topics: int) -> ConsumerGroupDriver:
    driver = ConsumerGroupDriver(topics or None)
    for name in names:
        driver.join(name)
        driver.settle()
    return driver


# ----------------------------------------------------------------------------------------------------- joining, sharing


def test_the_first_member_gets_everything_at_once() -> None:
    driver = ConsumerGroupDriver()
    assert driver.group.state is EMPTY
    reply = driver.join("a")
    assert (reply.member_id, reply.epoch, reply.assigned) == ("id of a", 1, driver.part(0, 1, 2, 3))
    assert reply.heartbeat_interval_ms == 5_000
    assert driver.group.state is STABLE
    assert driver.beat("a").assigned is None
    assert len(driver.batches) == 1


def test_a_partition_is_given_up_before_another_member_gets_it() -> None:
    driver = joined("a")
    second = driver.join("b")
    assert (second.epoch, second.assigned) == (2, frozenset())
    assert driver.group.state is RECONCILING
    asked = driver.beat("a")
    assert asked.epoch == 1 and asked.assigned is not None and len(asked.assigned) == 2
    assert driver.beat("b").assigned is None  # "a" has not said yet that it has given up
    given_up = driver.beat("a")
    assert given_up.epoch == 2
    assert driver.beat("b").assigned == driver.part(0, 1, 2, 3) - asked.assigned
    assert driver.group.state is STABLE


def test_who_still_holds_what_it_is_to_give_up_keeps_its_epoch() -> None:
    driver = joined("a")
    driver.join("b")
    driver.clients["a"].is_slow = True
    for _ in range(3):
        assert driver.beat("a").epoch == 1
        driver.beat("b")
    assert driver.clients["b"].holds == frozenset()
    assert driver.beat("a", owned=None).epoch == 1  # it says nothing of it
    driver.clients["a"].is_slow = False
    driver.settle()
    assert [len(held) for held in driver.held().values()] == [2, 2]


def test_members_come_and_go_and_everything_is_somebodys() -> None:
    driver = joined("a", "b", "c", orders=7)
    assert sorted(len(held) for held in driver.held().values()) == [2, 2, 3]
    driver.leave("a")
    assert driver.group.state is ASSIGNING
    driver.settle()
    assert sorted(len(held) for held in driver.held().values()) == [3, 4]
    driver.leave("b")
    driver.leave("c")
    assert driver.group.state is EMPTY
    assert driver.group.epoch == 6


def test_uniform_moves_no_more_than_it_must() -> None:
    driver = joined("a", "b", orders=6)
    before = driver.held()
    driver.join("c")
    driver.settle()
    after = driver.held()
    assert all(after[name] <= before[name] for name in "ab")
    assert {len(held) for held in after.values()} == {2}


def test_range_gives_the_same_numbers_of_all_topics_to_one_member() -> None:
    driver = ConsumerGroupDriver({"left": 4, "right": 4})
    for name in ("a", "b"):
        driver.join(name, "left", "right", assignor="range")
    driver.settle()
    assert driver.group.assignor == "range"
    assert driver.held() == {
        "a": driver.part(0, 1, topic="left") | driver.part(0, 1, topic="right"),
        "b": driver.part(2, 3, topic="left") | driver.part(2, 3, topic="right"),
    }


def test_the_strategy_that_most_members_ask_for_is_taken() -> None:
    driver = ConsumerGroupDriver()
    driver.join("a", assignor="range")
    assert driver.group.assignor == "range"
    driver.join("b", assignor="uniform")
    driver.join("c", assignor="uniform")
    driver.join("d")
    assert driver.group.assignor == "uniform"


def test_members_of_different_topics_get_what_they_read() -> None:
    driver = ConsumerGroupDriver({"left": 2, "right": 2, "none": 0})
    driver.join("a", "left")
    driver.join("b", "right", "not there yet", "none")
    driver.settle()
    assert driver.held() == {"a": driver.part(0, 1, topic="left"), "b": driver.part(0, 1, topic="right")}
    assert driver.group.subscribed_topics() == {"left", "right", "not there yet", "none"}
    driver.set_topic("not there yet", 1)
    driver.settle()
    assert driver.clients["b"].holds == driver.part(0, 1, topic="right") | driver.part(0, topic="not there yet")


def test_a_pattern_finds_topics_also_those_that_come_later_but_internal_ones() -> None:
    driver = ConsumerGroupDriver({"orders.eu": 1, "invoices": 1, "__consumer_offsets": 1})
    driver.join("a", topics=(), regex=".*orders.*|__.*")
    assert driver.clients["a"].holds == driver.part(0, topic="orders.eu")
    driver.set_topic("orders.us", 2)
    driver.settle()
    assert driver.clients["a"].holds == driver.part(0, topic="orders.eu") | driver.part(0, 1, topic="orders.us")
    driver.beat("a", regex="invoices")
    driver.settle()
    assert driver.clients["a"].holds == driver.part(0, topic="invoices")
    driver.beat("a", regex="")
    driver.settle()
    assert driver.clients["a"].holds == frozenset()


def test_more_partitions_and_deleted_topics_are_seen_by_the_next_heartbeat() -> None:
    driver = ConsumerGroupDriver({"orders": 2, "other": 1})
    driver.join("a", "orders", "other")
    driver.set_topic("orders", 3)
    driver.settle()
    assert driver.clients["a"].holds == driver.part(0, 1, 2) | driver.part(0, topic="other")
    gone = driver.part(0, topic="other")
    driver.delete_topic("other")
    driver.settle()
    assert driver.clients["a"].holds == driver.part(0, 1, 2)
    driver.set_topic("other", 1)  # another one of the same name
    driver.settle()
    assert driver.clients["a"].holds == driver.part(0, 1, 2) | driver.part(0, topic="other")
    assert not driver.clients["a"].holds & gone


def test_a_member_that_reads_nothing_is_a_member_without_partitions() -> None:
    driver = joined("a")
    reply = driver.join("b", topics=())
    assert (reply.epoch, reply.assigned) == (2, frozenset())
    driver.settle()
    assert len(driver.clients["a"].holds) == 4 and driver.group.state is STABLE


def test_another_subscription_is_a_new_epoch_and_the_same_one_is_not() -> None:
    driver = ConsumerGroupDriver({"orders": 1, "other": 1})
    driver.join("a")
    driver.beat("a", topics=("orders",))
    assert driver.group.epoch == 1
    driver.beat("a", topics=("other", "orders"))
    driver.settle()
    assert driver.group.epoch == 2 and len(driver.clients["a"].holds) == 2


# ------------------------------------------------------------------------------------------------------ epochs, fencing


def test_whoever_says_everything_is_told_everything() -> None:
    driver = joined("a")
    everything: dict[str, Any] = {"rebalance_timeout_ms": 1, "topics": ("orders",)}
    assert driver.beat("a", **everything).assigned == driver.part(0, 1, 2, 3)
    assert driver.beat("a", **everything, owned=None).assigned is None


def test_a_member_whose_answer_was_lost_is_let_go_on_with_the_epoch_before() -> None:
    driver = joined("a", "b")
    driver.leave("b")
    driver.beat("a", is_lost=True)
    assert driver.group.state is STABLE
    reply = driver.beat("a", rebalance_timeout_ms=1, topics=("orders",))
    assert (reply.epoch, reply.assigned) == (4 - 1, driver.part(0, 1, 2, 3))


def test_other_epochs_are_fenced() -> None:
    driver = joined("a", "b", "c")
    client = driver.clients["a"]
    current = client.epoch
    for epoch in (current - 2, current + 1):
        client.epoch = epoch
        assert driver.refused(lambda: driver.beat("a")) is FencedMemberEpoch
    client.epoch = current - 1
    assert driver.refused(lambda: driver.beat("a", owned=driver.part(0, 1, 2, 3))) is FencedMemberEpoch
    assert driver.refused(lambda: driver.beat("a", owned=None)) is FencedMemberEpoch


def test_a_fenced_member_joins_again_with_nothing_and_gets_what_it_had() -> None:
    driver = joined("a", "b")
    before = driver.clients["a"].holds
    assert driver.join("a").assigned == before
    driver.settle()
    assert driver.group.state is STABLE and driver.group.epoch == 2


def test_a_member_that_is_not_heard_of_is_taken_out_after_its_session() -> None:
    driver = joined("a", "b")
    driver.pass_ms(SESSION_MS - 1)
    driver.beat("a")
    assert len(driver.group.members) == 2
    driver.pass_ms(1)
    assert set(driver.group.members) == {"id of a"}
    driver.settle("a")
    assert len(driver.clients["a"].holds) == 4
    assert driver.refused(lambda: driver.beat("b")) is UnknownMember


def test_a_member_that_does_not_give_up_in_time_is_taken_out() -> None:
    driver = joined("a")
    driver.join("b")
    driver.clients["a"].is_slow = True
    for _ in range(REBALANCE_MS // 20_000):
        driver.beat("a")
        driver.beat("b")
        driver.pass_ms(20_000)
    assert set(driver.group.members) == {"id of b"}
    driver.settle("b")
    assert driver.clients["b"].holds == driver.part(0, 1, 2, 3)
    assert driver.refused(lambda: driver.beat("a")) is UnknownMember


def test_offsets_are_committed_in_the_members_epoch_and_by_anyone_while_there_is_none() -> None:
    driver = ConsumerGroupDriver()
    check = driver.group.check_commit
    check("", -1, None, 0)
    assert driver.refused(lambda: check("id of a", 1, None, 0)) is UnknownMember
    driver.join("a")
    check("id of a", 1, None, 0)
    assert driver.refused(lambda: check("", -1, None, 0)) is UnknownMember
    assert driver.refused(lambda: check("id of a", 0, None, 0)) is StaleMemberEpoch
    assert driver.refused(lambda: check("id of a", 2, None, 0)) is StaleMemberEpoch


# ------------------------------------------------------------------------------------------------------ static members


def test_a_static_member_that_leaves_for_a_while_comes_back_to_what_it_had() -> None:
    driver = ConsumerGroupDriver()
    driver.join("a", instance_id="i")
    driver.join("b")
    driver.settle()
    before = driver.clients["a"].holds
    driver.leave("a", for_a_while=True)
    driver.settle()
    assert driver.group.epoch == 2 and not driver.clients["b"].holds & before
    reply = driver.join("a again", instance_id="i")
    assert (reply.epoch, reply.assigned) == (2, before)
    assert driver.group.state is STABLE and driver.group.epoch == 2
    assert set(driver.group.members) == {"id of a again", "id of b"}


def test_a_static_member_that_does_not_come_back_is_taken_out_after_its_session() -> None:
    driver = ConsumerGroupDriver()
    driver.join("a", instance_id="i")
    driver.leave("a", for_a_while=True)
    driver.pass_ms(SESSION_MS)
    assert driver.group.state is EMPTY


def test_an_instance_is_one_members_at_a_time() -> None:
    driver = ConsumerGroupDriver()
    driver.join("a", instance_id="i")
    assert driver.refused(lambda: driver.join("b", instance_id="i")) is UnreleasedInstance
    thief = ConsumerHeartbeat("g", "id of b", 1, "i")
    assert driver.refused(lambda: driver.send(thief)) is FencedInstance
    assert driver.refused(lambda: driver.send(thief._replace(epoch=-1))) is FencedInstance
    assert driver.refused(lambda: driver.send(thief._replace(instance_id="j"))) is UnknownMember
    assert driver.refused(lambda: driver.send(thief._replace(instance_id="j", epoch=-2))) is UnknownMember
    driver.leave("a")
    assert driver.join("b", instance_id="i").epoch == 3


# ------------------------------------------------------------------------------------------------ requests, and records


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"member_id": ""}, InvalidArgument),
        ({"instance_id": ""}, InvalidArgument),
        ({"rack_id": ""}, InvalidArgument),
        ({"epoch": -3}, InvalidArgument),
        ({"epoch": -2}, InvalidArgument),
        ({"rebalance_timeout_ms": -1}, InvalidArgument),
        ({"owned": None}, InvalidArgument),
        ({"topics": None}, InvalidArgument),
        ({"assignor": "sticky"}, UnsupportedAssignor),
        ({"regex": "(?=a)"}, InvalidTopicPattern),
        ({"epoch": 1}, UnknownMember),
        ({"epoch": -1}, UnknownMember),
    ],
)
def test_a_request_that_cannot_be_is_refused_and_changes_nothing(fields: dict[str, object], error: type) -> None:
    driver = ConsumerGroupDriver()
    whole = ConsumerHeartbeat("g", "m", 0, None, None, 1_000, ("orders",), None, None, frozenset())
    assert driver.refused(lambda: driver.send(whole._replace(**fields))) is error  # type: ignore[arg-type]
    assert driver.batches == [] and driver.group.members == {}


def test_a_member_that_joins_holds_nothing() -> None:
    driver = ConsumerGroupDriver()
    driver.clients["a"] = Client("id of a", None, ("orders",))
    assert driver.refused(lambda: driver.beat("a", owned=driver.part(0))) is InvalidArgument


def test_a_full_group_takes_nobody_in() -> None:
    driver = ConsumerGroupDriver(group_consumer_max_size=1)
    driver.join("a")
    assert driver.refused(lambda: driver.join("b")) is GroupFull
    driver.beat("a")


def test_what_was_stored_is_loaded_also_in_the_middle_of_a_change() -> None:
    driver = joined("a")
    driver.join("b", instance_id="i")
    driver.beat("a")
    driver.reload()
    assert {member.current.state for member in driver.group.describe().members} == {
        MemberState.UNREVOKED_PARTITIONS,
        MemberState.UNRELEASED_PARTITIONS,
    }
    driver.settle()
    assert [len(held) for held in driver.held().values()] == [2, 2]
    driver.leave("b", for_a_while=True)
    driver.reload()
    driver.pass_ms(SESSION_MS - 1)
    driver.beat("a")
    assert driver.join("b again", instance_id="i").epoch == 2


def test_what_was_not_stored_has_not_happened() -> None:
    driver = joined("a")
    before = driver.group.describe()
    request = ConsumerHeartbeat("g", "b", 0, None, None, 1_000, ("orders",), None, None, frozenset())
    _, records = driver.group.heartbeat(request, driver.topics)
    assert records and driver.group.describe() == before
    driver.set_topic("orders", 8)
    driver.group.heartbeat(ConsumerHeartbeat("g", "id of a", 1, owned=driver.part(0, 1, 2, 3)), driver.topics)
    driver.settle()
    assert len(driver.clients["a"].holds) == 8


def test_by_tombstones_nothing_is_left() -> None:
    driver = joined("a", "b")
    driver.leave("a")
    driver.store(driver.group.tombstones())
    assert driver.log == {}
    driver.group.kill()
    assert driver.group.state is DEAD
