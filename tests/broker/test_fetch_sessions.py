"""Fetch sessions: what a client need not say again, and when it must begin anew."""

from uuid import uuid4

import pytest

from logstore.broker import fetch_sessions
from logstore.broker.fetch_sessions import (
    EVICTION_S,
    FINAL_EPOCH,
    INITIAL_EPOCH,
    NO_SESSION,
    FetchKey,
    FetchPartition,
    FetchPlan,
    FetchSessions,
)
from logstore.wire.error_codes import ErrorCode


def asked(*partitions: tuple[str, int], offset: int = 0) -> dict[FetchKey, FetchPartition]:
    return {key: FetchPartition(*key, offset, 100) for key in partitions}


def begin(sessions: FetchSessions, *partitions: tuple[str, int], now_s: float = 0.0) -> int:
    return sessions.plan(NO_SESSION, INITIAL_EPOCH, asked(*partitions), (), now_s).session_id


def go_on(sessions: FetchSessions, session_id: int, epoch: int, **changes: object) -> FetchPlan:
    return sessions.plan(session_id, epoch, changes.get("asked", {}), changes.get("forgotten", ()), 0.0)  # type: ignore[arg-type]


def test_a_client_that_wants_none_gets_none() -> None:
    sessions = FetchSessions(10)
    plan = sessions.plan(NO_SESSION, FINAL_EPOCH, asked(("t", 0)), (), 0.0)
    assert (plan.session_id, list(plan.partitions), len(sessions)) == (NO_SESSION, [("t", 0)], 0)


def test_a_session_remembers_what_was_asked_for() -> None:
    sessions = FetchSessions(10)
    session_id = begin(sessions, ("t", 0), ("t", 1))
    for epoch in (1, 2, 3):
        plan = go_on(sessions, session_id, epoch)
        assert (plan.session_id, plan.is_incremental, list(plan.partitions)) == (
            session_id,
            True,
            [("t", 0), ("t", 1)],
        )


def test_partitions_are_added_changed_and_forgotten() -> None:
    sessions = FetchSessions(10)
    session_id = begin(sessions, ("t", 0), ("t", 1))
    changes = asked(("t", 1), ("u", 0), offset=5)
    plan = go_on(sessions, session_id, 1, asked=changes, forgotten=[("t", 0)])
    assert {key: partition.fetch_offset for key, partition in plan.partitions.items()} == {("t", 1): 5, ("u", 0): 5}


def test_what_was_forgotten_while_it_was_read_stays_forgotten() -> None:
    sessions = FetchSessions(10)
    plan = go_on(sessions, begin(sessions, ("t", 0), ("t", 1)), 1)
    assert plan.session is not None
    read = plan.partitions["t", 0]
    go_on(sessions, plan.session.id, 2, forgotten=[("t", 0)])  # by another connection
    plan.session.move_to_end(read)
    assert list(plan.partitions) == [("t", 1)]


def test_those_that_had_records_go_to_the_end() -> None:
    sessions = FetchSessions(10)
    session_id = begin(sessions, ("t", 0), ("t", 1), ("t", 2))
    plan = go_on(sessions, session_id, 1)
    assert plan.session is not None
    plan.session.move_to_end(plan.partitions["t", 0])
    assert list(go_on(sessions, session_id, 2).partitions) == [("t", 1), ("t", 2), ("t", 0)]


@pytest.mark.parametrize("epoch", [0 + 2, 3, 2**31 - 1, -2])
def test_an_epoch_that_does_not_come_next_is_refused(epoch: int) -> None:
    sessions = FetchSessions(10)
    plan = go_on(sessions, begin(sessions, ("t", 0)), epoch)
    assert (plan.error, plan.session_id) == (ErrorCode.INVALID_FETCH_SESSION_EPOCH, NO_SESSION)


def test_a_session_that_there_is_not_is_told() -> None:
    sessions = FetchSessions(10)
    assert go_on(sessions, 4711, 1).error == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_one_that_began_with_names_does_not_go_on_with_ids() -> None:
    sessions = FetchSessions(10)
    session_id = begin(sessions, ("t", 0))
    key = (uuid4(), 0)
    plan = sessions.plan(session_id, 1, {key: FetchPartition(*key, 0, 1)}, (), 0.0, uses_topic_ids=True)
    assert plan.error == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_the_epoch_after_the_largest_is_1() -> None:
    sessions = FetchSessions(10)
    session_id = begin(sessions, ("t", 0))
    session = go_on(sessions, session_id, 1).session
    assert session is not None
    session.epoch = 2**31 - 1
    assert not go_on(sessions, session_id, 2**31 - 1).error
    assert not go_on(sessions, session_id, 1).error


def test_a_client_that_begins_anew_or_ends_its_session_leaves_none_behind() -> None:
    sessions = FetchSessions(10)
    first = begin(sessions, ("t", 0))
    second = sessions.plan(first, INITIAL_EPOCH, asked(("t", 0)), (), 0.0).session_id
    assert second not in (NO_SESSION, first) and len(sessions) == 1
    sessions.plan(second, FINAL_EPOCH, asked(("t", 0)), (), 0.0)
    assert not len(sessions)


def test_one_with_nothing_left_to_fetch_ends() -> None:
    sessions = FetchSessions(10)
    plan = go_on(sessions, begin(sessions, ("t", 0)), 1, forgotten=[("t", 0)])
    assert (plan.session_id, len(sessions)) == (NO_SESSION, 0)


def test_with_all_slots_taken_a_client_does_without_until_one_was_idle_for_long() -> None:
    sessions = FetchSessions(2)
    first, second = begin(sessions, ("t", 0)), begin(sessions, ("t", 1), now_s=1.0)
    assert begin(sessions, ("t", 2), now_s=EVICTION_S - 1) == NO_SESSION
    third = begin(sessions, ("t", 2), now_s=EVICTION_S)
    assert third != NO_SESSION
    assert go_on(sessions, first, 1).error == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert not go_on(sessions, second, 1).error


def test_without_slots_there_are_no_sessions() -> None:
    assert begin(FetchSessions(0), ("t", 0)) == NO_SESSION


def test_where_sessions_have_too_many_partitions_a_client_does_without_until_one_was_idle_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch_sessions, "PARTITIONS_MAX", 3)
    sessions = FetchSessions(10)
    first = begin(sessions, ("t", 0), ("t", 1))
    assert begin(sessions, ("t", 2), ("t", 3)) == NO_SESSION
    second = begin(sessions, ("t", 2), now_s=1.0)
    assert second != NO_SESSION
    assert begin(sessions, ("t", 3), ("t", 4), now_s=EVICTION_S) != NO_SESSION
    assert go_on(sessions, first, 1).error == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert not go_on(sessions, second, 1).error


def test_a_session_that_grows_beyond_all_bounds_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_sessions, "PARTITIONS_MAX", 3)
    sessions = FetchSessions(10)
    session_id = begin(sessions, ("t", 0))
    assert not go_on(sessions, session_id, 1, asked=asked(("t", 1), ("t", 2))).error
    for number in range(10):  # what it forgets makes room
        changes = {"asked": asked(("u", number)), "forgotten": [("t", 0), ("u", number - 1)]}
        assert not go_on(sessions, session_id, 2 + number, **changes).error
    plan = go_on(sessions, session_id, 12, asked=asked(("t", 3)))
    assert (plan.error, dict(plan.partitions), len(sessions)) == (ErrorCode.FETCH_SESSION_ID_NOT_FOUND, {}, 0)
    assert begin(sessions, ("t", 0), ("t", 1), ("t", 2)) != NO_SESSION


def test_a_session_has_no_more_partitions_than_a_request_could_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_sessions, "REQUEST_ELEMENTS_MAX", 3)
    sessions = FetchSessions(10)
    session_id = begin(sessions, ("t", 0), ("t", 1))
    assert not go_on(sessions, session_id, 1, asked=asked(("t", 2))).error
    plan = go_on(sessions, session_id, 2, asked=asked(("t", 3)))
    assert (plan.error, dict(plan.partitions), len(sessions)) == (ErrorCode.FETCH_SESSION_ID_NOT_FOUND, {}, 0)
