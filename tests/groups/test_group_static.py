"""Static members: they come back, are fenced, stay away, and are taken out."""

from group_driver import OTHER, RANGE, REBALANCE_MS, SESSION_MS, GroupDriver, completing, stable, subscribed
from logstore.errors import (
    FencedInstance,
    IllegalGeneration,
    InvalidRecord,
)
from logstore.format.consumer_protocol import Subscription, encode_subscription
from logstore.groups.group import GroupState
from logstore.groups.requests import LeavingMember

EMPTY, PREPARING, COMPLETING, STABLE, *_ = GroupState
ROUNDROBIN = (("roundrobin", b"topics"),)
BOTH = (*RANGE, *ROUNDROBIN)


def test_a_static_member_comes_back_without_a_rebalance_and_its_old_self_is_fenced() -> None:
    driver = stable("a", "s", instances=("s",))
    old_id, assignment = driver.ids["s"], driver.ids["s"].encode()
    reply = driver.join("s", member_id="").answer
    assert reply.member_id != old_id and reply.generation == 1 and not reply.skip_assignment and reply.members == ()
    assert driver.sync("s").answer.assignment == assignment
    assert driver.state is STABLE
    assert driver.stored[-1].members[1].member_id == reply.member_id
    assert isinstance(driver.heartbeat("s", member_id=old_id), FencedInstance)
    assert isinstance(driver.commit("s", member_id=old_id), FencedInstance)
    assert isinstance(driver.sync("s", member_id=old_id).answer, FencedInstance)
    assert isinstance(driver.join("s", member_id=old_id).answer, FencedInstance)
    assert driver.leave_by(LeavingMember(old_id, "instance of s"))[0].__class__ is FencedInstance


def test_a_static_leader_that_comes_back_leads_and_need_not_assign() -> None:
    driver = stable("s", "b", instances=("s",))
    old_id = driver.ids["s"]
    reply = driver.join("s", member_id="").answer
    assert reply.skip_assignment and reply.leader == reply.member_id and len(reply.members) == 2
    assert driver.sync("s", {}).answer.assignment == old_id.encode()
    assert driver.state is STABLE


def test_a_static_leader_that_knows_no_skipping_is_told_that_its_old_self_leads_so_that_it_does_not_assign() -> None:
    driver = stable("s", "b", instances=("s",))
    old_id = driver.ids["s"]
    reply = driver.join("s", member_id="", knows_skip_assignment=False).answer
    assert not reply.skip_assignment and reply.leader == old_id and reply.members == ()
    assert driver.leader == "s" and driver.state is STABLE
    assert driver.sync("s", {}).answer.assignment == old_id.encode()
    again = driver.join("s", OTHER, knows_skip_assignment=False)
    driver.join("b")
    assert again.answer.leader == again.answer.member_id == driver.ids["s"] and len(again.answer.members) == 2


def test_the_old_self_that_waits_for_its_join_is_told_that_it_is_fenced() -> None:
    driver = stable("a", "s", instances=("s",))
    old = driver.join("s", OTHER)
    new = driver.join("s", OTHER, member_id="")
    assert isinstance(old.answer, FencedInstance) and not new.answers
    assert driver.join("a").answer.generation == new.answer.generation == 2


def test_a_static_member_that_comes_back_while_the_others_sync_rebalances_them() -> None:
    driver = completing("a", "s", instances=("s",))
    waiting = driver.sync("s")
    back = driver.join("s", member_id="")
    assert isinstance(waiting.answer, FencedInstance)
    assert driver.state is PREPARING
    assert driver.join("a").answer.generation == back.answer.generation == 2


def test_a_static_member_comes_back_with_the_same_topics_in_other_bytes() -> None:
    driver = GroupDriver()
    driver.instances["s"] = "i"
    owning = Subscription(("x", "y"), user_data=b"what it had")
    driver.join("s", (("range", encode_subscription(owning)),))
    driver.sync("s")
    assert driver.join("s", subscribed("y", "x"), member_id="").answer.generation == 1
    assert driver.join("s", subscribed("x"), member_id="").answer.generation == 2
    assert driver.group.subscribed_topics() == {"x"}


def test_a_static_member_that_comes_back_so_that_the_vote_changes_causes_a_rebalance() -> None:
    driver = GroupDriver()
    driver.instances["s"] = "i"
    driver.join("s", BOTH)
    driver.sync("s")
    reply = driver.join("s", tuple(reversed(BOTH)), member_id="").answer
    assert (reply.generation, reply.protocol) == (2, "roundrobin")


def test_a_return_that_cannot_be_stored_did_not_happen() -> None:
    driver = stable("s", "b", instances=("s",))
    old_id = driver.ids["s"]
    driver.store_error = InvalidRecord("it is too large")
    assert driver.join("s", member_id="").answer is driver.store_error
    assert driver.heartbeat("s", member_id=old_id) is None
    assert driver.group.members.leader == old_id and driver.state is STABLE


def test_a_return_whose_store_ends_after_a_rebalance_began_is_part_of_the_rebalance() -> None:
    driver = stable("a", "s", instances=("s",))
    driver.holds_stores = True
    back = driver.join("s", member_id="")
    driver.join("a")
    assert back.answer.generation == 2
    driver.release()
    driver.check()


def test_a_return_whose_store_ends_during_a_rebalance_waits_for_its_end() -> None:
    driver = stable("a", "b", "s", instances=("s",))
    driver.holds_stores = True
    back = driver.join("s", member_id="")
    driver.join("a")
    driver.release()
    assert driver.state is PREPARING and not back.answers
    driver.join("b")
    assert back.answer.generation == 2


def test_a_return_that_fails_late_gives_the_old_self_a_whole_session() -> None:
    driver = stable("a", "s", instances=("s",))
    driver.holds_stores = True
    old_id = driver.ids["s"]
    back = driver.join("s", member_id="")
    driver.live("a", time_ms=3 * SESSION_MS)
    driver.release(InvalidRecord("it is too large"))
    assert isinstance(back.answer, InvalidRecord)
    driver.live("a", time_ms=SESSION_MS - 5_000)
    assert driver.heartbeat("s", member_id=old_id) is None


def test_of_two_returns_the_second_counts() -> None:
    driver = stable("a", "s", instances=("s",))
    driver.holds_stores = True
    first, second = driver.join("s", member_id=""), driver.join("s", member_id="")
    driver.release()
    assert not second.answers
    driver.release()
    assert isinstance(first.answer, FencedInstance)
    assert second.answer.generation == 1


def test_a_static_member_that_is_away_keeps_its_place_until_its_session_ends() -> None:
    driver = stable("a", "s", instances=("s",), group_max_session_timeout_ms=1_800_000)
    driver.join("s", session_timeout_ms=4 * REBALANCE_MS)
    driver.join("s", OTHER, session_timeout_ms=4 * REBALANCE_MS)
    driver.join("a")
    driver.sync("s")
    driver.sync("a")
    assert driver.state is STABLE
    away_since_ms = driver.now_ms
    driver.join("a")
    driver.pass_ms(REBALANCE_MS)
    assert driver.state is COMPLETING and len(driver.group.members) == 2  # without it, and for it
    driver.sync("a")
    driver.live("a", time_ms=2 * REBALANCE_MS)
    assert driver.state is STABLE
    driver.pass_ms(away_since_ms + 4 * REBALANCE_MS - driver.now_ms - 1)
    assert driver.ids["s"] in driver.group.members
    driver.pass_ms(1)
    assert driver.ids["s"] not in driver.group.members


def test_a_static_member_that_was_away_catches_up_without_a_rebalance() -> None:
    driver = stable("a", "s", instances=("s",))
    driver.join("s", OTHER, session_timeout_ms=4 * REBALANCE_MS)
    driver.join("a")
    driver.sync("s")
    driver.sync("a")
    driver.join("a")
    driver.pass_ms(REBALANCE_MS)
    driver.sync("a")
    assert isinstance(driver.heartbeat("s"), IllegalGeneration)
    assert driver.join("s", OTHER).answer.generation == driver.group.generation
    assert driver.sync("s").answer.assignment == driver.ids["s"].encode()
    assert driver.state is STABLE


def test_where_only_static_members_are_left_and_all_are_away_the_rebalance_waits_for_them() -> None:
    driver = stable("a", "s", "t", instances=("s", "t"))
    for name in ("s", "t"):
        driver.join(name, OTHER, session_timeout_ms=10 * REBALANCE_MS)
    driver.join("a")
    assert driver.group.generation == 2
    driver.leave("a")
    driver.pass_ms(5 * REBALANCE_MS)
    assert driver.state is PREPARING and driver.group.generation == 2
    ask = driver.join("t", OTHER)
    driver.pass_ms(REBALANCE_MS)
    assert ask.answer.leader == driver.ids["t"] and len(ask.answer.members) == 2
    driver.pass_ms(10 * REBALANCE_MS)
    assert driver.state is EMPTY
