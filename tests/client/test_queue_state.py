"""What a queue knows, without a queue: what events make of it, and that snapshots say all that they have said."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.client.queue.ranges import ranges
from logstore.client.queue.state import BLOCKED_MAX, IN_FLIGHT, QueueState
from logstore.config import QueueConfig
from logstore.format.queue_state import (
    WITH_WORKER,
    Buried,
    Delivered,
    Event,
    Outcome,
    Replaying,
    Returned,
    SettingsChanged,
    Settled,
    decode_event,
    encode_event,
)

ID, OTHER_ID = UUID(int=1), UUID(int=2)
OTHER = SettingsChanged(OTHER_ID, {})
OFFSETS = st.integers(0, 12)
MORE = st.integers(0, 3)
EVENTS = st.one_of(
    st.builds(
        lambda first, more, count: Delivered(first, first + more, count), OFFSETS, st.integers(0, 3), st.integers(1, 4)
    ),
    st.builds(
        lambda first, more, how: Settled(first, first + more, how), OFFSETS, st.integers(0, 3), st.sampled_from(Outcome)
    ),
    st.builds(Returned, OFFSETS, st.sampled_from([0, 500])),
    st.builds(Buried, OFFSETS, OFFSETS),
    st.builds(Replaying, st.integers(-1, 5)),
    st.builds(lambda days: SettingsChanged(ID, {"max.deliveries": str(days)}), st.integers(1, 9)),
)


def state_of(*events: Event, start_offset: int = 0) -> QueueState:
    state = QueueState(ID, start_offset)
    for event in events:
        state.apply(event)
    return state


def known(state: QueueState) -> dict[int, tuple[int, int]]:
    return {offset: (message.deliveries, message.until_ms) for offset, message in state.pending.items()}


@pytest.mark.parametrize(
    ("events", "cursor", "low_water", "pending"),
    [
        ((), 0, 0, {}),
        ((Delivered(0, 0, 1),), 1, 0, {0: (1, WITH_WORKER)}),
        ((Delivered(0, 2, 1), Settled(1, 1, Outcome.ACKED)), 3, 0, {0: (1, WITH_WORKER), 2: (1, WITH_WORKER)}),
        ((Delivered(0, 2, 1), Settled(0, 1, Outcome.ACKED)), 3, 2, {2: (1, WITH_WORKER)}),
        # The cursor passed 0 and 1, as they were delayed: they are there.
        ((Delivered(2, 2, 1),), 3, 0, {0: (0, 0), 1: (0, 0), 2: (1, WITH_WORKER)}),
        ((Delivered(0, 0, 1), Returned(0, 77)), 1, 0, {0: (1, 77)}),
        ((Delivered(0, 0, 1), Returned(0, 0), Delivered(0, 0, 2)), 1, 0, {0: (2, WITH_WORKER)}),
        ((Settled(0, 4, Outcome.PURGED),), 5, 5, {}),
        # A note before these is lost: nothing is settled by mistake.
        ((Settled(3, 3, Outcome.ACKED),), 4, 0, {0: (0, 0), 1: (0, 0), 2: (0, 0)}),
        ((Buried(1, 0),), 2, 0, {0: (0, 0)}),
        ((Delivered(0, 0, 1), Settled(0, 0, Outcome.ACKED), Delivered(0, 0, 2)), 1, 1, {}),
        ((OTHER, Delivered(0, 5, 1)), 0, 0, {}),
        (
            (SettingsChanged(OTHER_ID, {}), Delivered(0, 5, 1), SettingsChanged(ID, {}), Delivered(0, 0, 1)),
            1,
            0,
            {0: (1, -1)},
        ),
    ],
)
def test_events_make_this_state(
    events: tuple[Event, ...], cursor: int, low_water: int, pending: dict[int, tuple[int, int]]
) -> None:
    state = state_of(*events)
    assert (state.cursor, state.low_water, known(state)) == (cursor, low_water, pending)


@given(st.lists(EVENTS, max_size=20), st.lists(EVENTS, max_size=10))
def test_a_snapshot_says_all_that_the_events_before_it_said(before: list[Event], after: list[Event]) -> None:
    whole = state_of(*before)
    restored = state_of(decode_event(encode_event(whole.snapshot())))
    for state in (whole, restored):
        for event in after:
            state.apply(event)
    assert known(restored) == known(whole)
    for name in ("cursor", "low_water", "lost", "dead_end", "replaying_from", "config"):
        assert getattr(restored, name) == getattr(whole, name)


@given(st.lists(EVENTS, max_size=20), st.integers(0, 16), st.integers(0, 16))
def test_nothing_is_known_of_what_the_log_does_not_hold(events: list[Event], start: int, more: int) -> None:
    state = state_of(*events)
    cursor = state.cursor
    assert state.clamp(start, start + more) == (cursor > start + more)
    assert all(start <= offset < start + more for offset in state.pending)
    assert start <= state.cursor <= start + more
    assert start <= state.low_water <= state.cursor


@given(st.lists(EVENTS, max_size=25))
def test_the_low_water_mark_is_the_first_that_is_pending(events: list[Event]) -> None:
    state = state_of(*events)
    assert state.low_water == min(state.pending, default=state.cursor)


def test_timers_of_settled_messages_take_no_memory() -> None:
    state = QueueState(ID)
    for offset in range(10_000):
        state.deliver_fresh(30_000 + offset)
        state.settle(offset)
    assert len(state._held) < 100
    assert (state.low_water, state.in_flight_count, state.pending) == (10_000, 0, {})


def test_the_next_deadline_is_the_earliest_of_both_clocks() -> None:
    state = QueueState(ID)
    assert state.next_due_ms(0, 0) is None
    state.look(None, 1_700, 1_000)
    assert state.next_due_ms(1_000, 50) == 700
    state.delivered(state.deliver_fresh(450), 450)
    assert state.next_due_ms(1_000, 50) == 400
    assert state.take_ready(1_000, 449) is None
    found = state.take_ready(1_000, 450)
    assert found is not None and found.offset == 1
    state.delivered(found, 900)
    assert found.status == IN_FLIGHT
    delayed = state.take_ready(1_700, 450)
    assert delayed is not None and delayed.offset == 0


def test_a_key_that_holds_up_all_messages_does_not_take_all_memory() -> None:
    state = QueueState(ID)
    state.config = QueueConfig(ordered=True)
    while state.may_look:
        state.look(b"k", 0, 0)
    assert state.cursor == BLOCKED_MAX + 1
    state.settle(0)
    assert state.may_look


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [([], []), ([1], [(1, 1)]), ([1, 2, 3], [(1, 3)]), ([1, 3, 4, 9], [(1, 1), (3, 4), (9, 9)])],
)
def test_ranges_are_the_runs_of_offsets(offsets: list[int], expected: list[tuple[int, int]]) -> None:
    assert list(ranges(offsets)) == expected
