"""Syncs, sessions, leaving; what is stored, loaded and told of a group."""

from group_driver import OTHER, REBALANCE_MS, SESSION_MS, GroupDriver, completing, stable, subscribed
from logstore.config import StoreConfig
from logstore.errors import (
    IllegalGeneration,
    InvalidRecord,
    RebalanceInProgress,
    UnknownMember,
)
from logstore.format.offsets_topic import decode_group_metadata, encode_group_metadata
from logstore.groups.group import Group, GroupState
from logstore.groups.member import NEW_MEMBER_JOIN_TIMEOUT_MS
from logstore.groups.requests import LeavingMember, SyncReply

EMPTY, PREPARING, COMPLETING, STABLE, *_ = GroupState


# ------------------------------------------------------------------------------------------------------- sync


def test_nobody_gets_an_assignment_before_it_is_stored() -> None:
    driver = completing("a", "b")
    driver.holds_stores = True
    asks = [driver.sync("b"), driver.sync("a", {"a": b"1", "b": b"2"})]
    driver.check()
    assert driver.state is COMPLETING and not any(ask.answers for ask in asks)
    driver.release()
    assert driver.state is STABLE
    assert [ask.answer.assignment for ask in asks] == [b"2", b"1"]
    assert {member.member_id: member.assignment for member in driver.stored[-1].members} == {
        driver.ids["a"]: b"1",
        driver.ids["b"]: b"2",
    }


def test_a_member_without_an_assignment_gets_an_empty_one_and_an_unknown_one_is_not_stored() -> None:
    driver = completing("a", "b")
    driver.ids["stranger"] = "stranger"
    driver.sync("a", {"a": b"1", "stranger": b"3"})
    assert driver.sync("b").answer.assignment == b""
    assert [member.assignment for member in driver.stored[-1].members] == [b"1", b""]


def test_a_rebalance_that_begins_while_assignments_are_stored_wins() -> None:
    driver = completing("a", "b")
    driver.holds_stores = True
    asks = [driver.sync("a"), driver.sync("b")]
    driver.join("c")
    assert all(isinstance(ask.answer, RebalanceInProgress) for ask in asks)
    driver.release()
    assert driver.state is PREPARING
    joins = [driver.join("a"), driver.join("b")]
    assert {ask.answer.generation for ask in joins} == {2}


def test_the_leader_that_syncs_twice_stores_once() -> None:
    driver = completing("a")
    driver.holds_stores = True
    first, second = driver.sync("a"), driver.sync("a")
    assert driver.held_count == 1
    driver.release()
    assert isinstance(first.answer, RebalanceInProgress) and isinstance(second.answer, SyncReply)


def test_assignments_that_cannot_be_stored_fail_all_and_the_next_generation_goes_well() -> None:
    driver = completing("a", "b")
    driver.store_error = InvalidRecord("it is too large")
    asks = [driver.sync("b"), driver.sync("a")]
    assert [ask.answer for ask in asks] == [driver.store_error, driver.store_error]
    assert driver.state is PREPARING
    driver.store_error = None
    for name in ("a", "b"):
        driver.join(name)
    assert driver.sync("a", {"a": b"1"}).answer.assignment == b"1"
    assert driver.group.generation == 2


def test_a_sync_may_come_late_but_not_later_than_the_rebalance_timeout() -> None:
    driver = completing("a", "b")
    driver.sync("a")
    assert driver.state is STABLE
    driver.live("a", "b", time_ms=REBALANCE_MS - 5_000)
    assert driver.sync("b").answer.assignment == driver.ids["b"].encode()
    driver.live("a", "b")
    assert driver.state is STABLE


def test_who_does_not_sync_within_the_rebalance_timeout_is_out() -> None:
    driver = completing("a", "b")
    driver.sync("a")
    driver.live("a", "b", time_ms=REBALANCE_MS - 5_000)
    assert driver.state is STABLE and driver.heartbeat("b") is None
    driver.live("a", "b", time_ms=5_000)
    assert driver.state is PREPARING
    assert isinstance(driver.heartbeat("a"), RebalanceInProgress)
    assert isinstance(driver.heartbeat("b"), UnknownMember)


def test_a_static_member_that_was_told_its_generation_must_sync_as_well() -> None:
    driver = completing("a", "s", instances=("s",))
    driver.sync("a")
    driver.live("a", "s")
    assert driver.state is PREPARING and isinstance(driver.heartbeat("s"), UnknownMember)


def test_a_sync_that_was_due_in_the_generation_before_is_not_asked_for_any_more() -> None:
    driver = completing("a", "s", instances=("s",))
    driver.sync("a")
    driver.join("a")
    driver.live("s")
    assert driver.state is COMPLETING
    driver.sync("a")
    generation = driver.generations["s"] = driver.group.generation  # as if it had found out by itself
    driver.live("a", "s", time_ms=2 * REBALANCE_MS)
    assert driver.state is STABLE and driver.group.generation == generation


def test_a_follower_that_waited_long_for_its_assignment_has_a_whole_session_afterwards() -> None:
    driver = completing("a", "b")
    ask = driver.sync("b")
    driver.live("a", time_ms=30_000)
    driver.sync("a")
    assert isinstance(ask.answer, SyncReply)
    driver.pass_ms(SESSION_MS - 1)
    assert driver.heartbeat("b") is None


# ----------------------------------------------------------------------------------------------------------- sessions


def test_a_session_ends_at_its_timeout_after_the_last_sign_of_life() -> None:
    driver = stable("a", "b")
    driver.pass_ms(SESSION_MS - 1)
    assert driver.heartbeat("a") is None and driver.commit("b") is None
    driver.pass_ms(SESSION_MS - 1)
    assert driver.state is STABLE and driver.heartbeat("a") is None
    driver.pass_ms(1)
    assert driver.state is PREPARING and isinstance(driver.heartbeat("b"), UnknownMember)


def test_who_waits_for_others_needs_no_heartbeats_and_has_a_whole_session_afterwards() -> None:
    driver = stable("a", "b")
    driver.join("b", OTHER)
    driver.live("a")
    assert driver.state is COMPLETING
    driver.pass_ms(SESSION_MS - 1)
    assert isinstance(driver.sync("b").answer, SyncReply)


def test_a_new_member_that_waits_too_long_for_its_first_answer_is_out() -> None:
    driver = stable("a")
    driver.join("a", rebalance_timeout_ms=2 * NEW_MEMBER_JOIN_TIMEOUT_MS)
    driver.sync("a")
    ask = driver.join("b")
    driver.live("a", time_ms=NEW_MEMBER_JOIN_TIMEOUT_MS - 5_000)
    assert not ask.answers
    driver.live("a", time_ms=5_000)
    assert isinstance(ask.answer, UnknownMember)
    assert driver.join("a").answer.generation == 3


def test_the_last_member_to_go_leaves_an_empty_generation_that_is_stored() -> None:
    driver = stable("a")
    driver.pass_ms(SESSION_MS)
    assert driver.state is EMPTY and driver.group.next_deadline_ms is None
    stored = driver.stored[-1]
    assert (stored.generation, stored.protocol_type, stored.protocol, stored.leader) == (2, "consumer", None, None)
    ask = driver.join("b")
    driver.pass_ms(1)
    assert ask.answer.generation == 3


def test_an_empty_generation_that_cannot_be_stored_is_empty_all_the_same() -> None:
    driver = stable("a")
    driver.store_error = InvalidRecord("it is too large")
    assert driver.leave("a") == [None]
    assert driver.state is EMPTY


# -------------------------------------------------------------------------------------------------------------- leaving


def test_of_several_that_leave_each_gets_its_answer_and_the_group_rebalances_once() -> None:
    driver = stable("a", "b", "s", instances=("s",))
    errors = driver.leave_by(
        LeavingMember(driver.ids["a"]),
        LeavingMember("stranger"),
        LeavingMember("", "instance of s"),
        LeavingMember("", "no instance"),
        LeavingMember(driver.ids["a"]),
        LeavingMember(""),
    )
    assert [type(error) for error in errors] == [
        type(None),
        UnknownMember,
        type(None),
        UnknownMember,
        UnknownMember,
        UnknownMember,
    ]
    assert driver.state is PREPARING and len(driver.group.members) == 1
    assert driver.join("b").answer.generation == 2


def test_whoever_waits_and_leaves_or_is_killed_is_answered() -> None:
    driver = completing("a", "b", "c")
    syncs = [driver.sync("b"), driver.sync("c")]
    driver.leave("b")
    assert isinstance(syncs[0].answer, UnknownMember) and isinstance(syncs[1].answer, RebalanceInProgress)
    joins = [driver.join("c"), driver.join("d")]
    driver.kill()
    assert all(isinstance(ask.answer, UnknownMember) for ask in joins)
    driver.kill()
    driver.check()


# -------------------------------------------------------------------------------------- what is told, stored, loaded


def test_a_stable_group_is_described_with_assignments_and_others_without() -> None:
    driver = stable("a", "s", instances=("s",))
    described = driver.group.describe()
    assert described[:5] == ("g", "Stable", "consumer", "range", 1)
    assert [member.assignment for member in described.members] == [driver.ids[name].encode() for name in ("a", "s")]
    assert [member.instance_id for member in described.members] == [None, "instance of s"]
    assert {member.client_id for member in described.members} == {"a", "s"}
    driver.join("a")
    described = driver.group.describe()
    assert described[:5] == ("g", "PreparingRebalance", "consumer", "", 1)
    assert {(member.subscription, member.assignment) for member in described.members} == {(b"", b"")}
    driver.kill()
    assert driver.group.describe()[1:6] == ("Dead", "consumer", "", 1, ())


def test_what_was_stored_is_loaded_and_members_go_on_with_fresh_sessions() -> None:
    before = stable("a", "s", instances=("s",))
    value = decode_group_metadata(encode_group_metadata(before.stored[-1]))
    driver = GroupDriver(value)
    driver.ids, driver.instances, driver.generations = before.ids, before.instances, before.generations
    assert driver.group.describe() == before.group.describe()
    assert driver.leader == "a"
    driver.pass_ms(SESSION_MS - 1)
    assert driver.heartbeat("a") is None and driver.commit("a") is None
    assert driver.sync("a").answer.assignment == driver.ids["a"].encode()
    driver.pass_ms(1)
    assert isinstance(driver.heartbeat("s"), UnknownMember)
    assert driver.join("a").answer.generation == 2


def test_an_empty_group_that_is_loaded_goes_on_counting() -> None:
    before = stable("a")
    before.leave("a")
    driver = GroupDriver(before.stored[-1])
    assert driver.state is EMPTY and driver.group.generation == 2 and driver.group.next_deadline_ms is None
    assert driver.commit("nobody") is None
    assert driver.join("b", protocol_type="connect").answer[:2] == (3, "connect")


def test_loaded_metadata_without_a_rebalance_timeout_takes_the_session_timeout() -> None:
    value = stable("a").stored[-1]
    member = value.members[0]._replace(rebalance_timeout=-1)
    group = Group.loaded("g", StoreConfig(), str, value._replace(members=(member,), leader="gone"), 0)
    assert [member.rebalance_timeout_ms for member in group.members] == [SESSION_MS]
    assert group.members.leader == member.member_id


def test_the_topics_are_those_of_all_members_in_the_current_generation() -> None:
    driver = GroupDriver()
    assert driver.group.subscribed_topics() is None
    driver.join("a", subscribed("x", "y"))
    driver.sync("a")
    driver.join("b", subscribed("z"))
    assert driver.group.subscribed_topics() == {"x", "y"}
    driver.join("a", subscribed("x", "y"))
    assert driver.group.subscribed_topics() == {"x", "y", "z"}
    driver.sync("a")
    assert GroupDriver(driver.stored[-1]).group.subscribed_topics() == {"x", "y", "z"}
    driver.leave("a", "b")
    assert driver.group.subscribed_topics() == frozenset()


def test_topics_are_not_known_of_other_protocols_or_of_bytes_that_are_no_subscription() -> None:
    driver = GroupDriver()
    driver.join("a", (("range", b"\x00"),))
    assert driver.group.subscribed_topics() is None
    driver = GroupDriver()
    driver.join("a", subscribed("x"), protocol_type="connect")
    assert driver.group.subscribed_topics() is None


def test_only_an_empty_group_takes_commits_from_outside() -> None:
    driver = GroupDriver()
    assert driver.commit("anyone") is None
    assert isinstance(driver.commit("anyone", generation=0), UnknownMember)
    driver.join("a")
    driver.sync("a")
    assert isinstance(driver.commit("anyone"), UnknownMember)
    assert isinstance(driver.commit("a", generation=-1), IllegalGeneration)
