"""Every request and every passing of time in every state: what state follows, and who is answered what."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from group_driver import OTHER, REBALANCE_MS, SESSION_MS, GroupDriver, completing, stable
from logstore.errors import (
    FencedInstance,
    IllegalGeneration,
    InconsistentProtocol,
    MemberIdRequired,
    RebalanceInProgress,
    StorageFailure,
    UnknownMember,
)
from logstore.groups.group import TRANSITIONS, GroupState
from logstore.groups.requests import JoinReply, SyncReply

EMPTY, PREPARING, COMPLETING, STABLE, DEAD = GroupState
OK = type(None)

# ---- the groups that the events come upon: a leads, b follows, s is a static follower; "new" is not in


def empty() -> GroupDriver:
    """All have left."""
    driver = stable("a", "b", "s", instances=("s",))
    driver.leave("a", "b", "s")
    assert driver.state is EMPTY
    return driver


def preparing() -> GroupDriver:
    """Since b has other topics: it waits, a and s do not know yet."""
    driver = stable("a", "b", "s", instances=("s",))
    driver.join("b", OTHER)
    assert driver.state is PREPARING
    return driver


def completed() -> GroupDriver:
    """b has synced, and waits for the leader a; s has not."""
    driver = completing("a", "b", "s", instances=("s",))
    driver.sync("b")
    assert driver.state is COMPLETING
    return driver


def settled() -> GroupDriver:
    return stable("a", "b", "s", instances=("s",))


def dead() -> GroupDriver:
    driver = settled()
    driver.kill()
    assert driver.state is DEAD
    return driver


GIVEN: dict[GroupState, Callable[[], GroupDriver]] = {
    EMPTY: empty,
    PREPARING: preparing,
    COMPLETING: completed,
    STABLE: settled,
    DEAD: dead,
}


def _sync_without_a_disk(driver: GroupDriver) -> None:
    driver.store_error = StorageFailure("/disk/log", "append", 5, "input/output error")
    driver.sync("a")


def _heartbeats(driver: GroupDriver) -> None:
    for _ in range(REBALANCE_MS // 5_000):
        for member in driver.group.members:
            driver.heartbeat(driver.name_of(member.member_id))
        driver.pass_ms(5_000)
    driver.log[:] = [entry for entry in driver.log if not entry[0].endswith(".heartbeat")]


EVENTS: dict[str, Callable[[GroupDriver], Any]] = {
    "a new member joins": lambda d: d.join("new"),
    "a new member that can be told its id joins": lambda d: d.join("new", requires_known_member_id=True),
    "a new static member joins": lambda d: d.join("new", instance_id="instance of new"),
    "a new member with no protocol in common joins": lambda d: d.join("new", (("roundrobin", b"topics"),)),
    "a new member of another protocol type joins": lambda d: d.join("new", protocol_type="connect"),
    "a new member without protocols joins": lambda d: d.join("new", ()),
    "a member with an id that is not in joins": lambda d: d.join("new", member_id="gone"),
    "the leader joins again": lambda d: d.join("a"),
    "a follower joins again": lambda d: d.join("b"),
    "a follower joins again with other topics": lambda d: d.join("b", (("range", b"more topics"),)),
    "a static member joins again": lambda d: d.join("s"),
    "a static member comes back": lambda d: d.join("s", member_id=""),
    "a static member comes back with other topics": lambda d: d.join("s", OTHER, member_id=""),
    "a static member joins under an id that is not its own": lambda d: d.join("s", member_id=d.ids["b"]),
    "a member joins as an instance that is not in": lambda d: d.join("b", instance_id="no instance"),
    "the leader syncs": lambda d: d.sync("a"),
    "the leader syncs and it cannot be stored": _sync_without_a_disk,
    "a follower syncs": lambda d: d.sync("s"),
    "a follower syncs again": lambda d: d.sync("b"),
    "one that is not in syncs": lambda d: d.sync("a", member_id="gone"),
    "a member syncs for an old generation": lambda d: d.sync("b", generation=0),
    "a member syncs with another protocol": lambda d: d.sync("b", protocol="sticky"),
    "a member syncs with another protocol type": lambda d: d.sync("b", protocol_type="connect"),
    "a static member syncs under an id that is not its own": lambda d: d.sync("s", member_id=d.ids["b"]),
    "a member heartbeats": lambda d: d.heartbeat("b"),
    "a member heartbeats in an old generation": lambda d: d.heartbeat("b", generation=0),
    "one that is not in heartbeats": lambda d: d.heartbeat("b", member_id="gone"),
    "a static member heartbeats under an id that is not its own": lambda d: d.heartbeat("s", member_id=d.ids["b"]),
    "a member commits": lambda d: d.commit("b"),
    "a member commits in an old generation": lambda d: d.commit("b", generation=0),
    "one that is not in commits": lambda d: d.commit("b", member_id="gone"),
    "a static member commits under an id that is not its own": lambda d: d.commit("s", member_id=d.ids["b"]),
    "one without a group commits": lambda d: d.commit("new", generation=-1),
    "the leader leaves": lambda d: d.leave("a"),
    "a follower leaves": lambda d: d.leave("b"),
    "a static member leaves": lambda d: d.leave("s"),
    "a static member is taken out": lambda d: d.leave("s", by_instance=True),
    "one that is not in leaves": lambda d: d.leave("gone"),
    "all leave": lambda d: d.leave("a", "b", "s"),
    "sessions end": lambda d: d.pass_ms(SESSION_MS),
    "the rebalance times out, and all are heard of": _heartbeats,
    "it is killed": lambda d: d.kill(),
}


# What a request leads to: the state that follows, and (who asked what): what was answered. Who else waits, waits on.
TABLE: dict[GroupState, dict[str, tuple[GroupState, dict[str, type]]]] = {
    EMPTY: {
        "a new member joins": (PREPARING, {}),
        "a new member that can be told its id joins": (EMPTY, {"new.join": MemberIdRequired}),
        "a new static member joins": (PREPARING, {}),
        "a new member with no protocol in common joins": (PREPARING, {}),
        "a new member of another protocol type joins": (PREPARING, {}),
        "a new member without protocols joins": (EMPTY, {"new.join": InconsistentProtocol}),
        "a member with an id that is not in joins": (EMPTY, {"new.join": UnknownMember}),
        "the leader joins again": (EMPTY, {"a.join": UnknownMember}),
        "a follower joins again": (EMPTY, {"b.join": UnknownMember}),
        "a follower joins again with other topics": (EMPTY, {"b.join": UnknownMember}),
        "a static member joins again": (EMPTY, {"s.join": UnknownMember}),
        "a static member comes back": (PREPARING, {}),
        "a static member comes back with other topics": (PREPARING, {}),
        "a static member joins under an id that is not its own": (EMPTY, {"s.join": UnknownMember}),
        "a member joins as an instance that is not in": (EMPTY, {"b.join": UnknownMember}),
        "the leader syncs": (EMPTY, {"a.sync": UnknownMember}),
        "the leader syncs and it cannot be stored": (EMPTY, {"a.sync": UnknownMember}),
        "a follower syncs": (EMPTY, {"s.sync": UnknownMember}),
        "a follower syncs again": (EMPTY, {"b.sync": UnknownMember}),
        "one that is not in syncs": (EMPTY, {"a.sync": UnknownMember}),
        "a member syncs for an old generation": (EMPTY, {"b.sync": UnknownMember}),
        "a member syncs with another protocol": (EMPTY, {"b.sync": UnknownMember}),
        "a member syncs with another protocol type": (EMPTY, {"b.sync": UnknownMember}),
        "a static member syncs under an id that is not its own": (EMPTY, {"s.sync": UnknownMember}),
        "a member heartbeats": (EMPTY, {"b.heartbeat": UnknownMember}),
        "a member heartbeats in an old generation": (EMPTY, {"b.heartbeat": UnknownMember}),
        "one that is not in heartbeats": (EMPTY, {"b.heartbeat": UnknownMember}),
        "a static member heartbeats under an id that is not its own": (EMPTY, {"s.heartbeat": UnknownMember}),
        "a member commits": (EMPTY, {"b.commit": UnknownMember}),
        "a member commits in an old generation": (EMPTY, {"b.commit": UnknownMember}),
        "one that is not in commits": (EMPTY, {"b.commit": UnknownMember}),
        "a static member commits under an id that is not its own": (EMPTY, {"s.commit": UnknownMember}),
        "one without a group commits": (EMPTY, {"new.commit": OK}),
        "the leader leaves": (EMPTY, {"a.leave": UnknownMember}),
        "a follower leaves": (EMPTY, {"b.leave": UnknownMember}),
        "a static member leaves": (EMPTY, {"s.leave": UnknownMember}),
        "a static member is taken out": (EMPTY, {"s.leave": UnknownMember}),
        "one that is not in leaves": (EMPTY, {"gone.leave": UnknownMember}),
        "all leave": (EMPTY, {"a.leave": UnknownMember, "b.leave": UnknownMember, "s.leave": UnknownMember}),
        "sessions end": (EMPTY, {}),
        "the rebalance times out, and all are heard of": (EMPTY, {}),
        "it is killed": (DEAD, {}),
    },
    PREPARING: {
        "a new member joins": (PREPARING, {}),
        "a new member that can be told its id joins": (PREPARING, {"new.join": MemberIdRequired}),
        "a new static member joins": (PREPARING, {}),
        "a new member with no protocol in common joins": (PREPARING, {"new.join": InconsistentProtocol}),
        "a new member of another protocol type joins": (PREPARING, {"new.join": InconsistentProtocol}),
        "a new member without protocols joins": (PREPARING, {"new.join": InconsistentProtocol}),
        "a member with an id that is not in joins": (PREPARING, {"new.join": UnknownMember}),
        "the leader joins again": (PREPARING, {}),
        "a follower joins again": (PREPARING, {"b.join": RebalanceInProgress}),
        "a follower joins again with other topics": (PREPARING, {"b.join": RebalanceInProgress}),
        "a static member joins again": (PREPARING, {}),
        "a static member comes back": (PREPARING, {}),
        "a static member comes back with other topics": (PREPARING, {}),
        "a static member joins under an id that is not its own": (PREPARING, {"s.join": FencedInstance}),
        "a member joins as an instance that is not in": (PREPARING, {"b.join": UnknownMember}),
        "the leader syncs": (PREPARING, {"a.sync": RebalanceInProgress}),
        "the leader syncs and it cannot be stored": (PREPARING, {"a.sync": RebalanceInProgress}),
        "a follower syncs": (PREPARING, {"s.sync": RebalanceInProgress}),
        "a follower syncs again": (PREPARING, {"b.sync": RebalanceInProgress}),
        "one that is not in syncs": (PREPARING, {"a.sync": UnknownMember}),
        "a member syncs for an old generation": (PREPARING, {"b.sync": IllegalGeneration}),
        "a member syncs with another protocol": (PREPARING, {"b.sync": InconsistentProtocol}),
        "a member syncs with another protocol type": (PREPARING, {"b.sync": InconsistentProtocol}),
        "a static member syncs under an id that is not its own": (PREPARING, {"s.sync": FencedInstance}),
        "a member heartbeats": (PREPARING, {"b.heartbeat": RebalanceInProgress}),
        "a member heartbeats in an old generation": (PREPARING, {"b.heartbeat": IllegalGeneration}),
        "one that is not in heartbeats": (PREPARING, {"b.heartbeat": UnknownMember}),
        "a static member heartbeats under an id that is not its own": (PREPARING, {"s.heartbeat": FencedInstance}),
        "a member commits": (PREPARING, {"b.commit": OK}),
        "a member commits in an old generation": (PREPARING, {"b.commit": IllegalGeneration}),
        "one that is not in commits": (PREPARING, {"b.commit": UnknownMember}),
        "a static member commits under an id that is not its own": (PREPARING, {"s.commit": FencedInstance}),
        "one without a group commits": (PREPARING, {"new.commit": UnknownMember}),
        "the leader leaves": (PREPARING, {"a.leave": OK}),
        "a follower leaves": (PREPARING, {"b.join": UnknownMember, "b.leave": OK}),
        "a static member leaves": (PREPARING, {"s.leave": OK}),
        "a static member is taken out": (PREPARING, {"s.leave": OK}),
        "one that is not in leaves": (PREPARING, {"gone.leave": UnknownMember}),
        "all leave": (EMPTY, {"b.join": UnknownMember, "a.leave": OK, "b.leave": OK, "s.leave": OK}),
        "sessions end": (COMPLETING, {"b.join": JoinReply}),
        "the rebalance times out, and all are heard of": (COMPLETING, {"b.join": JoinReply}),
        "it is killed": (DEAD, {"b.join": UnknownMember}),
    },
    COMPLETING: {
        "a new member joins": (PREPARING, {"b.sync": RebalanceInProgress}),
        "a new member that can be told its id joins": (COMPLETING, {"new.join": MemberIdRequired}),
        "a new static member joins": (PREPARING, {"b.sync": RebalanceInProgress}),
        "a new member with no protocol in common joins": (COMPLETING, {"new.join": InconsistentProtocol}),
        "a new member of another protocol type joins": (COMPLETING, {"new.join": InconsistentProtocol}),
        "a new member without protocols joins": (COMPLETING, {"new.join": InconsistentProtocol}),
        "a member with an id that is not in joins": (COMPLETING, {"new.join": UnknownMember}),
        "the leader joins again": (COMPLETING, {"a.join": JoinReply}),
        "a follower joins again": (COMPLETING, {"b.join": JoinReply}),
        "a follower joins again with other topics": (PREPARING, {"b.sync": RebalanceInProgress}),
        "a static member joins again": (COMPLETING, {"s.join": JoinReply}),
        "a static member comes back": (PREPARING, {"b.sync": RebalanceInProgress}),
        "a static member comes back with other topics": (PREPARING, {"b.sync": RebalanceInProgress}),
        "a static member joins under an id that is not its own": (COMPLETING, {"s.join": FencedInstance}),
        "a member joins as an instance that is not in": (COMPLETING, {"b.join": UnknownMember}),
        "the leader syncs": (STABLE, {"a.sync": SyncReply, "b.sync": SyncReply}),
        "the leader syncs and it cannot be stored": (PREPARING, {"a.sync": StorageFailure, "b.sync": StorageFailure}),
        "a follower syncs": (COMPLETING, {}),
        "a follower syncs again": (COMPLETING, {"b.sync": RebalanceInProgress}),
        "one that is not in syncs": (COMPLETING, {"a.sync": UnknownMember}),
        "a member syncs for an old generation": (COMPLETING, {"b.sync": IllegalGeneration}),
        "a member syncs with another protocol": (COMPLETING, {"b.sync": InconsistentProtocol}),
        "a member syncs with another protocol type": (COMPLETING, {"b.sync": InconsistentProtocol}),
        "a static member syncs under an id that is not its own": (COMPLETING, {"s.sync": FencedInstance}),
        "a member heartbeats": (COMPLETING, {"b.heartbeat": OK}),
        "a member heartbeats in an old generation": (COMPLETING, {"b.heartbeat": IllegalGeneration}),
        "one that is not in heartbeats": (COMPLETING, {"b.heartbeat": UnknownMember}),
        "a static member heartbeats under an id that is not its own": (COMPLETING, {"s.heartbeat": FencedInstance}),
        "a member commits": (COMPLETING, {"b.commit": RebalanceInProgress}),
        "a member commits in an old generation": (COMPLETING, {"b.commit": IllegalGeneration}),
        "one that is not in commits": (COMPLETING, {"b.commit": UnknownMember}),
        "a static member commits under an id that is not its own": (COMPLETING, {"s.commit": FencedInstance}),
        "one without a group commits": (COMPLETING, {"new.commit": UnknownMember}),
        "the leader leaves": (PREPARING, {"b.sync": RebalanceInProgress, "a.leave": OK}),
        "a follower leaves": (PREPARING, {"b.sync": UnknownMember, "b.leave": OK}),
        "a static member leaves": (PREPARING, {"b.sync": RebalanceInProgress, "s.leave": OK}),
        "a static member is taken out": (PREPARING, {"b.sync": RebalanceInProgress, "s.leave": OK}),
        "one that is not in leaves": (COMPLETING, {"gone.leave": UnknownMember}),
        "all leave": (EMPTY, {"b.sync": UnknownMember, "a.leave": OK, "b.leave": OK, "s.leave": OK}),
        "sessions end": (PREPARING, {"b.sync": RebalanceInProgress}),
        "the rebalance times out, and all are heard of": (PREPARING, {"b.sync": RebalanceInProgress}),
        "it is killed": (DEAD, {"b.sync": UnknownMember}),
    },
    STABLE: {
        "a new member joins": (PREPARING, {}),
        "a new member that can be told its id joins": (STABLE, {"new.join": MemberIdRequired}),
        "a new static member joins": (PREPARING, {}),
        "a new member with no protocol in common joins": (STABLE, {"new.join": InconsistentProtocol}),
        "a new member of another protocol type joins": (STABLE, {"new.join": InconsistentProtocol}),
        "a new member without protocols joins": (STABLE, {"new.join": InconsistentProtocol}),
        "a member with an id that is not in joins": (STABLE, {"new.join": UnknownMember}),
        "the leader joins again": (PREPARING, {}),
        "a follower joins again": (STABLE, {"b.join": JoinReply}),
        "a follower joins again with other topics": (PREPARING, {}),
        "a static member joins again": (STABLE, {"s.join": JoinReply}),
        "a static member comes back": (STABLE, {"s.join": JoinReply}),
        "a static member comes back with other topics": (PREPARING, {}),
        "a static member joins under an id that is not its own": (STABLE, {"s.join": FencedInstance}),
        "a member joins as an instance that is not in": (STABLE, {"b.join": UnknownMember}),
        "the leader syncs": (STABLE, {"a.sync": SyncReply}),
        "the leader syncs and it cannot be stored": (STABLE, {"a.sync": SyncReply}),
        "a follower syncs": (STABLE, {"s.sync": SyncReply}),
        "a follower syncs again": (STABLE, {"b.sync": SyncReply}),
        "one that is not in syncs": (STABLE, {"a.sync": UnknownMember}),
        "a member syncs for an old generation": (STABLE, {"b.sync": IllegalGeneration}),
        "a member syncs with another protocol": (STABLE, {"b.sync": InconsistentProtocol}),
        "a member syncs with another protocol type": (STABLE, {"b.sync": InconsistentProtocol}),
        "a static member syncs under an id that is not its own": (STABLE, {"s.sync": FencedInstance}),
        "a member heartbeats": (STABLE, {"b.heartbeat": OK}),
        "a member heartbeats in an old generation": (STABLE, {"b.heartbeat": IllegalGeneration}),
        "one that is not in heartbeats": (STABLE, {"b.heartbeat": UnknownMember}),
        "a static member heartbeats under an id that is not its own": (STABLE, {"s.heartbeat": FencedInstance}),
        "a member commits": (STABLE, {"b.commit": OK}),
        "a member commits in an old generation": (STABLE, {"b.commit": IllegalGeneration}),
        "one that is not in commits": (STABLE, {"b.commit": UnknownMember}),
        "a static member commits under an id that is not its own": (STABLE, {"s.commit": FencedInstance}),
        "one without a group commits": (STABLE, {"new.commit": UnknownMember}),
        "the leader leaves": (PREPARING, {"a.leave": OK}),
        "a follower leaves": (PREPARING, {"b.leave": OK}),
        "a static member leaves": (PREPARING, {"s.leave": OK}),
        "a static member is taken out": (PREPARING, {"s.leave": OK}),
        "one that is not in leaves": (STABLE, {"gone.leave": UnknownMember}),
        "all leave": (EMPTY, {"a.leave": OK, "b.leave": OK, "s.leave": OK}),
        "sessions end": (EMPTY, {}),
        "the rebalance times out, and all are heard of": (STABLE, {}),
        "it is killed": (DEAD, {}),
    },
}


@pytest.mark.parametrize(
    ("state", "event"),
    [pytest.param(state, event, id=f"{state.value}: {event}") for state, rows in TABLE.items() for event in rows],
)
def test_what_follows_in_the_table_follows(state: GroupState, event: str) -> None:
    driver = GIVEN[state]()
    generation = driver.group.generation
    driver.log.clear()
    EVENTS[event](driver)
    then, answers = TABLE[state][event]
    assert driver.state is then
    assert dict(driver.log) == answers and len(driver.log) == len(answers)
    driver.check()
    entered = {COMPLETING: 1, EMPTY: 1}.get(then, 0) if then is not state else 0
    assert driver.group.generation == generation + entered


@pytest.mark.parametrize("event", EVENTS)
def test_a_dead_group_knows_no_member_and_stays_dead(event: str) -> None:
    driver = dead()
    driver.log.clear()
    EVENTS[event](driver)
    assert driver.state is DEAD
    assert {answer for _, answer in driver.log} <= {UnknownMember}
    driver.check()
    assert not driver.waiting() and driver.group.next_deadline_ms is None


def test_the_table_has_every_event_in_every_state_that_is_not_dead() -> None:
    assert {(state, event) for state, rows in TABLE.items() for event in rows} == set(
        product([state for state in GroupState if state is not DEAD], EVENTS)
    )


def test_the_transitions_are_kafkas() -> None:
    assert {(before.value, after.value) for before, afters in TRANSITIONS.items() for after in afters} == {
        ("Empty", "PreparingRebalance"),
        ("PreparingRebalance", "CompletingRebalance"),
        ("PreparingRebalance", "Empty"),
        ("CompletingRebalance", "Stable"),
        ("CompletingRebalance", "PreparingRebalance"),
        ("Stable", "PreparingRebalance"),
        *((state.value, "Dead") for state in GroupState if state is not DEAD),
    }


@pytest.mark.parametrize(("before", "after"), list(product(GroupState, GroupState)))
def test_a_group_goes_nowhere_but_where_the_transitions_lead(before: GroupState, after: GroupState) -> None:
    driver = GIVEN[before]()
    if after in TRANSITIONS[before]:
        driver.group._become(after)
        assert driver.state is after
    else:
        with pytest.raises(AssertionError):
            driver.group._become(after)
