"""Who gets into a group, how its first rebalance waits, what protocol is chosen, and who leads."""

import pytest

from group_driver import OTHER, RANGE, REBALANCE_MS, SESSION_MS, GroupDriver, completing, stable
from logstore.errors import (
    GroupFull,
    InconsistentProtocol,
    InvalidSessionTimeout,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownMember,
)
from logstore.groups.group import GroupState
from logstore.groups.requests import JoinedMember, JoinReply, LeavingMember, SyncReply

EMPTY, PREPARING, COMPLETING, STABLE, *_ = GroupState
DELAY = {"group_initial_rebalance_delay_ms": 3_000}
ROUNDROBIN = (("roundrobin", b"topics"),)
BOTH = (*RANGE, *ROUNDROBIN)


# ---------------------------------------------------------------------------------------------------------------- join


def test_a_lone_member_is_leader_of_generation_1_at_once() -> None:
    driver = GroupDriver()
    reply = driver.join("a").answer
    assert reply == JoinReply(1, "consumer", "range", "a-1", "a-1", (JoinedMember("a-1", None, b"topics"),))
    assert driver.sync("a", {"a": b"all"}).answer == SyncReply("consumer", "range", b"all")
    assert driver.state is STABLE


def test_only_the_leader_is_told_the_members() -> None:
    driver = completing("a", "b", "s", instances=("s",))
    replies = {ask.who: ask.answer for ask in driver.asks}
    assert {member.instance_id for member in replies["a.join"].members} == {None, "instance of s"}
    assert len(replies["a.join"].members) == 3
    assert replies["b.join"].members == replies["s.join"].members == ()
    assert {reply.leader for reply in replies.values()} == {driver.ids["a"]}


def test_a_member_that_asks_for_its_id_joins_with_it_and_its_instance_needs_none() -> None:
    driver = GroupDriver()
    told = driver.join("a", requires_known_member_id=True).answer
    assert isinstance(told, MemberIdRequired) and told.member_id == "a-1"
    assert driver.state is EMPTY and driver.group.next_deadline_ms == driver.now_ms + SESSION_MS
    assert driver.join("a", requires_known_member_id=True).answer.member_id == "a-1"
    static = driver.join("s", instance_id="i", requires_known_member_id=True)
    assert driver.join("a").answer.generation == static.answer.generation == 2


def test_a_pending_member_is_forgotten_at_the_end_of_its_own_session() -> None:
    driver = GroupDriver()
    driver.join("a", requires_known_member_id=True, session_timeout_ms=7_000)
    driver.pass_ms(6_999)
    assert driver.group.next_deadline_ms is not None
    driver.pass_ms(1)
    assert driver.group.next_deadline_ms is None
    assert isinstance(driver.join("a").answer, UnknownMember)


def test_a_rebalance_waits_for_a_pending_member_until_it_joins_or_is_forgotten() -> None:
    driver = stable("a", "b")
    driver.join("c", requires_known_member_id=True)
    driver.join("d", requires_known_member_id=True, session_timeout_ms=20_000)
    asks = [driver.join("a"), driver.join("b")]
    driver.join("c")
    assert driver.state is PREPARING
    driver.pass_ms(20_000)
    assert driver.state is COMPLETING and {ask.answer.generation for ask in asks} == {2}


def test_a_pending_member_that_leaves_rebalances_nothing_and_ends_the_wait_for_it() -> None:
    driver = stable("a")
    driver.join("b", requires_known_member_id=True)
    assert driver.leave("b") == [None] and driver.state is STABLE
    driver.join("c", requires_known_member_id=True)
    ask = driver.join("a")
    assert not ask.answers
    driver.leave("c")
    assert ask.answer.generation == 2


def test_a_group_whose_last_member_leaves_is_empty_though_one_is_pending() -> None:
    driver = stable("a")
    driver.join("b", requires_known_member_id=True)
    driver.leave("a")
    assert driver.state is EMPTY
    driver.join("b")
    driver.pass_ms(1)
    assert driver.state is COMPLETING


def test_a_pending_member_cannot_join_as_an_instance() -> None:
    driver = GroupDriver()
    driver.join("a", requires_known_member_id=True)
    assert isinstance(driver.join("a", instance_id="i").answer, UnknownMember)
    assert isinstance(driver.join("a").answer, JoinReply)


@pytest.mark.parametrize("timeout_ms", [-1, 0, 5_999, 1_800_001])
def test_a_session_timeout_out_of_bounds_is_refused(timeout_ms: int) -> None:
    driver = GroupDriver()
    error = driver.join("a", session_timeout_ms=timeout_ms).answer
    assert isinstance(error, InvalidSessionTimeout)
    assert error.args == ("g", timeout_ms, 6_000, 1_800_000)


@pytest.mark.parametrize("timeout_ms", [6_000, 1_800_000])
def test_the_bounds_of_the_session_timeout_are_allowed(timeout_ms: int) -> None:
    assert isinstance(GroupDriver().join("a", session_timeout_ms=timeout_ms).answer, JoinReply)


def test_a_waiting_join_that_is_repeated_is_answered_and_the_new_one_counts() -> None:
    driver = stable("a", "b")
    first, second = driver.join("a"), driver.join("a", OTHER)
    assert isinstance(first.answer, RebalanceInProgress)
    reply = driver.join("b").answer
    assert second.answer.generation == reply.generation == 2
    assert [member.subscription for member in second.answer.members] == [b"other topics", b"topics"]


def test_a_member_that_missed_the_reply_is_told_again_what_the_leader_was_told() -> None:
    driver = completing("a", "b")
    again = {name: driver.join(name).answer for name in ("a", "b")}
    assert [len(reply.members) for reply in again.values()] == [2, 0]
    assert driver.state is COMPLETING


def test_a_negative_rebalance_timeout_is_the_session_timeout() -> None:
    driver = GroupDriver()
    driver.join("a", rebalance_timeout_ms=-1)
    driver.sync("a")
    ask = driver.join("b")
    driver.pass_ms(SESSION_MS)
    assert ask.answer.generation == 2 and ask.answer.leader == driver.ids["b"]


def test_a_rebalance_timeout_of_0_still_lets_the_clock_go_on() -> None:
    driver = stable("a", "s", instances=("s",))
    for name in ("a", "s"):
        driver.join(name, rebalance_timeout_ms=0)
    driver.leave("a")
    driver.pass_ms(SESSION_MS)
    driver.check()


# ----------------------------------------------------------------------------------------------- the initial rebalance


def test_a_new_group_waits_for_more_members() -> None:
    driver = GroupDriver(**DELAY)
    asks = [driver.join("a")]
    driver.pass_ms(2_999)
    assert driver.state is PREPARING
    driver.pass_ms(1)
    assert driver.state is COMPLETING and asks[0].answer.generation == 1


def test_each_that_joins_prolongs_the_first_wait_up_to_the_rebalance_timeout() -> None:
    driver = GroupDriver(**DELAY)
    asks, ends_ms = [], set()
    for number in range(7):
        asks.append(driver.join(f"member {number}", rebalance_timeout_ms=10_000))
        ends_ms.add((driver.group.next_deadline_ms or 0) - 1_000)
        driver.pass_ms(1_500)
    assert ends_ms == {3_000, 6_000, 9_000, 10_000}
    assert {ask.answer.generation for ask in asks} == {1}


def test_the_first_wait_is_over_when_nobody_came_since_it_was_prolonged() -> None:
    driver = GroupDriver(**DELAY)
    driver.join("a")
    driver.pass_ms(1_000)
    driver.join("b")
    driver.pass_ms(4_999)
    assert driver.state is PREPARING
    driver.pass_ms(1)
    assert driver.state is COMPLETING


def test_a_group_whose_first_members_leave_before_it_begins_is_empty_again() -> None:
    driver = GroupDriver(**DELAY)
    ask = driver.join("a")
    assert driver.leave_by(LeavingMember("a-1")) == [None]
    assert isinstance(ask.answer, UnknownMember)
    driver.pass_ms(3_000)
    assert driver.state is EMPTY and driver.group.generation == 1
    assert driver.stored[-1].members == ()


# ---------------------------------------------------------------------------------------------------------- the vote


@pytest.mark.parametrize(
    ("protocols", "chosen"),
    [
        pytest.param(["range sticky", "sticky range", "sticky range"], "sticky", id="the most wanted"),
        pytest.param(["range sticky", "sticky range"], "range", id="of equals, the one that came first"),
        pytest.param(["range sticky", "sticky"], "sticky", id="what all support, though one wants another more"),
        pytest.param(["a b c", "b c a", "c b", "c b"], "b", id="votes go to what all support only"),
    ],
)
def test_the_protocol_is_voted_for(protocols: list[str], chosen: str) -> None:
    driver = GroupDriver(**DELAY)
    asks = [
        driver.join(f"member {number}", tuple([(name, name.encode()) for name in names.split()]))
        for number, names in enumerate(protocols)
    ]
    driver.pass_ms(6_000)
    assert {ask.answer.protocol for ask in asks} == {chosen}
    assert {member.subscription for member in asks[0].answer.members} == {chosen.encode()}


def test_all_members_must_have_a_protocol_in_common_and_the_refused_leaves_no_trace() -> None:
    driver = stable("a")
    refused = driver.join("b", (("roundrobin", b""), ("sticky", b""))).answer
    assert isinstance(refused, InconsistentProtocol)
    assert refused.args == ("g", "consumer: roundrobin, sticky")
    assert driver.state is STABLE and len(driver.group.members) == 1


def test_a_member_may_exchange_its_protocols_for_what_the_others_support() -> None:
    driver = GroupDriver()
    driver.join("a")
    assert driver.join("a", ROUNDROBIN).answer.protocol == "roundrobin"
    driver.sync("a")
    ask = driver.join("b", BOTH)
    assert isinstance(driver.join("a", (("sticky", b""),)).answer, InconsistentProtocol)
    assert driver.join("a", RANGE).answer.protocol == ask.answer.protocol == "range"


# ------------------------------------------------------------------------------------------------------- too many


def test_a_full_group_refuses_new_members_and_not_its_own() -> None:
    driver = stable("a", "s", instances=("s",), group_max_size=2)
    assert isinstance(driver.join("c").answer, GroupFull)
    assert isinstance(driver.join("s", member_id="").answer, JoinReply)  # back under a new id
    driver.join("a")
    assert driver.state is PREPARING
    assert driver.join("s").answer.generation == 2
    assert isinstance(driver.join("c").answer, GroupFull)


def test_while_a_full_group_rebalances_the_first_to_join_stay() -> None:
    driver = stable("a", "b", group_max_size=2)
    asks = [driver.join("a"), driver.join("c"), driver.join("b")]
    assert isinstance(asks[2].answer, GroupFull)
    assert asks[0].answer.generation == asks[1].answer.generation == 2
    assert isinstance(driver.heartbeat("b"), UnknownMember)


def test_one_that_already_waits_may_join_a_full_group_again() -> None:
    driver = stable("a", "b", "c", group_max_size=3)
    driver.join("a")
    driver.join("b")
    driver.join("d")
    ask = driver.join("a")
    assert not ask.answers
    assert isinstance(driver.join("c").answer, GroupFull)
    assert isinstance(ask.answer, JoinReply)


def test_a_group_that_is_over_a_lowered_limit_rebalances_once_loaded() -> None:
    before = stable("a", "b", "c")
    driver = GroupDriver(before.stored[-1], group_max_size=2)
    driver.ids = before.ids
    assert driver.state is PREPARING
    answers = [driver.join(name) for name in ("c", "a", "b")]
    assert isinstance(answers[2].answer, GroupFull)
    assert {answers[0].answer.generation, answers[1].answer.generation} == {2}


# ------------------------------------------------------------------------------------------------------------- leading


def test_the_first_to_join_again_leads_when_the_leader_does_not() -> None:
    driver = stable("a", "b", "c")
    driver.join("c", OTHER)
    driver.pass_ms(5_000)
    driver.join("b")
    driver.live("a", time_ms=REBALANCE_MS - 5_000)
    assert driver.state is COMPLETING and driver.leader == "b"
    assert isinstance(driver.heartbeat("a"), UnknownMember)


def test_when_the_leader_leaves_another_member_leads() -> None:
    driver = stable("a", "b", "c")
    driver.leave("a")
    asks = [driver.join("c"), driver.join("b")]
    assert {ask.answer.leader for ask in asks} == {driver.ids["b"]}
    assert len(asks[1].answer.members) == 2
