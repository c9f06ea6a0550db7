from collections.abc import Mapping, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logstore.config import TopicConfig
from logstore.settings import LONG_MAX
from logstore.storage.retention import (
    Explanation,
    Reason,
    RetentionClock,
    SegmentInfo,
    age_limit_ms,
    expired,
    explain,
    should_roll_by_age,
)

HOUR, DAY, YEAR = 3_600_000, 86_400_000, 365 * 86_400_000
WEEK = 7 * DAY
NOW = 1_700_000_000_000


def segment(
    base_offset: int, age_ms: int = 0, *, size: int = 100, timestamp: int | None = None, written: int | None = None
) -> SegmentInfo:
    """A segment of 100 offsets, by default with records and a file that were written ``age_ms`` ago."""
    timestamp = NOW - age_ms if timestamp is None else timestamp
    written = NOW - age_ms if written is None else written
    return SegmentInfo(base_offset, base_offset + 100, size, timestamp, written, is_active=False)


def log(*segments: SegmentInfo) -> list[SegmentInfo]:
    """The segments, of which the last is active."""
    return [*segments[:-1], segments[-1]._replace(is_active=True)]


def decide(
    segments: Sequence[SegmentInfo],
    now_ms: int = NOW,
    log_start_offset: int = 0,
    high_watermark: int | None = None,
    committed: Mapping[str, int] | None = None,
    **settings: object,
) -> list[tuple[int, Reason]]:
    """What ``expired`` names, as (base offset, reason), after a look that ``explain`` says the same."""
    config = TopicConfig.parse(settings)
    hw = segments[-1].next_offset if high_watermark is None else high_watermark
    position = {"log_start_offset": log_start_offset, "high_watermark": hw}
    goes = expired(segments, config, now_ms, **position, committed=committed or {})
    explanations = explain(segments, config, now_ms, **position, committed=committed or {})
    assert [e.segment for e in explanations] == list(segments)
    assert [(e.segment, e.reason) for e in explanations if e.reason] == goes
    assert all(e.why for e in explanations)
    return [(expiry.segment.base_offset, expiry.reason) for expiry in goes]


def why(segments: Sequence[SegmentInfo], **settings: object) -> list[Explanation]:
    config = TopicConfig.parse(settings)
    return explain(segments, config, NOW, log_start_offset=0, high_watermark=segments[-1].next_offset)


# -------------------------------------------------------------------------------------------------------------- by age


def test_segments_older_than_retention_ms_go_oldest_first():
    segments = log(segment(0, 9 * DAY), segment(100, 8 * DAY), segment(200, 6 * DAY), segment(300, DAY))
    assert decide(segments) == [(0, Reason.AGE), (100, Reason.AGE)]


def test_a_segment_of_exactly_the_retention_time_stays_one_millisecond_more():
    segments = log(segment(0, WEEK), segment(100))
    assert decide(segments) == []
    assert decide(segments, now_ms=NOW + 1) == [(0, Reason.AGE)]


def test_an_old_segment_behind_a_young_one_waits():
    segments = log(segment(0, DAY), segment(100, 20 * DAY), segment(200))
    assert decide(segments) == []


def test_retention_ms_of_minus_one_keeps_for_ever():
    assert decide(log(segment(0, 50 * YEAR), segment(100)), retention_ms=-1) == []


def test_the_active_segment_goes_too_when_it_is_old():
    assert decide(log(segment(0, 9 * DAY), segment(100, 8 * DAY))) == [(0, Reason.AGE), (100, Reason.AGE)]


def test_an_empty_active_segment_never_goes():
    empty = SegmentInfo(100, 100, 0, -1, NOW - YEAR, is_active=True)
    assert decide([segment(0, YEAR), empty]) == [(0, Reason.AGE)]
    assert decide([empty]) == []
    assert decide([empty], retention_bytes=0) == []


def test_an_empty_partition_has_nothing_to_delete():
    assert expired([], TopicConfig(), NOW, log_start_offset=0, high_watermark=0) == []
    assert explain([], TopicConfig(), NOW, log_start_offset=0, high_watermark=0) == []


@pytest.mark.parametrize(
    ("timestamp", "written", "goes"),
    [
        pytest.param(-1, NOW - 8 * DAY, True, id="no timestamp: the file's time counts, old"),
        pytest.param(-1, NOW - DAY, False, id="no timestamp: the file's time counts, young"),
        pytest.param(NOW + HOUR, NOW - 8 * DAY, False, id="a timestamp as far ahead as is accepted counts"),
        pytest.param(NOW + HOUR + 1, NOW - 8 * DAY, True, id="a timestamp further ahead does not, and the file is old"),
        pytest.param(NOW + 10 * YEAR, NOW - DAY, False, id="a timestamp further ahead does not, and the file is young"),
        pytest.param(NOW - 8 * DAY, NOW, True, id="old records in a file copied today are old"),
        pytest.param(NOW - DAY, NOW - YEAR, False, id="young records in a file with an old time are young"),
    ],
)
def test_the_age_counts_from_the_timestamp_if_it_is_plausible(timestamp: int, written: int, goes: bool):
    segments = log(segment(0, timestamp=timestamp, written=written), segment(100))
    assert decide(segments) == ([(0, Reason.AGE)] if goes else [])


def test_timestamps_far_ahead_count_if_the_topic_takes_them():
    segments = log(segment(0, timestamp=NOW + YEAR, written=NOW - YEAR), segment(100))
    assert decide(segments, message_timestamp_after_max_ms=LONG_MAX) == []


# -------------------------------------------------------------------------------------------------------- clock jumps


def test_a_clock_that_jumped_ten_years_back_deletes_nothing():
    segments = log(segment(0, 6 * DAY), segment(100, 3 * DAY), segment(200))
    assert decide(segments, now_ms=NOW - 10 * YEAR) == []


def test_segments_written_while_the_clock_was_ahead_go_by_the_time_of_what_follows():
    ahead = NOW + 10 * YEAR
    segments = log(
        segment(0, timestamp=ahead, written=ahead),
        segment(100, timestamp=ahead + 1, written=ahead + 1),
        segment(200, 6 * DAY),
        segment(300),
    )
    assert decide(segments) == []
    assert decide(segments, now_ms=NOW + DAY + 1) == [(0, Reason.AGE), (100, Reason.AGE), (200, Reason.AGE)]


def test_a_log_written_only_while_the_clock_was_ahead_is_kept():
    ahead = NOW + 10 * YEAR
    assert decide(log(segment(0, timestamp=ahead, written=ahead), segment(100, timestamp=ahead, written=ahead))) == []


def test_a_clock_that_jumps_ahead_makes_nothing_old():
    clock = RetentionClock(wall_ms=NOW, monotonic_ms=0)
    clock.observe(NOW + HOUR + 10 * YEAR, HOUR)
    assert clock.now_ms(WEEK) == NOW + HOUR


def test_a_jump_ahead_counts_once_records_of_before_it_are_old():
    clock = RetentionClock(wall_ms=NOW, monotonic_ms=0)
    clock.observe(NOW + HOUR + 10 * YEAR, HOUR)
    clock.observe(NOW + HOUR + WEEK + 10 * YEAR, HOUR + WEEK)
    assert clock.now_ms(WEEK) == NOW + HOUR + WEEK
    clock.observe(NOW + HOUR + WEEK + 1 + 10 * YEAR, HOUR + WEEK + 1)
    assert clock.now_ms(WEEK) == NOW + HOUR + WEEK + 1 + 10 * YEAR
    assert clock.now_ms(2 * WEEK) == NOW + HOUR + WEEK + 1  # other topics keep longer


def test_a_wall_clock_that_runs_true_is_believed():
    clock = RetentionClock(wall_ms=NOW, monotonic_ms=0)
    for hours in range(1, 200):
        clock.observe(NOW + hours * HOUR + hours % 7, hours * HOUR)
    assert clock.now_ms(WEEK) == NOW + 199 * HOUR + 199 % 7


@given(
    st.lists(st.tuples(st.integers(0, 3 * DAY), st.integers(-10 * YEAR, 10 * YEAR), st.booleans()), max_size=150),
    st.integers(0, WEEK),
)
@example([(HOUR, YEAR, True)] * 150, WEEK)
def test_no_jumps_of_the_clock_make_a_record_older_than_it_is(steps: list[tuple[int, int, bool]], retention_ms: int):
    wall = true = 0
    clock = RetentionClock(wall, true)
    written: list[tuple[int, int]] = []  # (wall time on the record, true time)
    for elapsed, jump, does_jump in steps:
        written.append((wall, true))
        wall, true = wall + elapsed + jump * does_jump, true + elapsed
        clock.observe(wall, true)
        now = clock.now_ms(retention_ms)
        slack = clock.TOLERANCE_MS * len(steps)  # jumps too small to be told from the reading of two clocks
        for wall_time, true_time in written:
            if true - true_time <= retention_ms:
                assert now - wall_time <= retention_ms + slack


@given(st.integers(0, YEAR), st.integers(0, YEAR), st.integers(1_001, 10 * YEAR))
def test_a_single_jump_ahead_deletes_on_time_what_was_written_before_and_after(first: int, second: int, jump: int):
    clock = RetentionClock(0, 0)
    clock.observe(first + jump, first)
    clock.observe(first + second + jump, first + second)
    now = clock.now_ms(WEEK)
    assert (now - 0 > WEEK) == (first + second > WEEK)
    assert (now - (first + jump) > WEEK) == (second > WEEK)


# ------------------------------------------------------------------------------------------------------------- by size


@pytest.mark.parametrize(
    ("retention_bytes", "goes"),
    [(401, []), (301, []), (300, [0]), (201, [0]), (200, [0, 100]), (100, [0, 100, 200]), (0, [0, 100, 200, 300])],
)
def test_the_oldest_go_while_retention_bytes_are_left_without_them(retention_bytes: int, goes: list[int]):
    segments = log(segment(0), segment(100), segment(200), segment(300))
    assert decide(segments, retention_bytes=retention_bytes) == [(base, Reason.SIZE) for base in goes]


def test_what_goes_by_age_counts_no_more_for_the_size():
    segments = log(segment(0, 8 * DAY, size=1000), segment(100, size=10), segment(200, size=10))
    assert decide(segments, retention_bytes=50) == [(0, Reason.AGE)]


# ----------------------------------------------------------------------------------- log start offset, high watermark


@pytest.mark.parametrize(
    ("log_start_offset", "goes"), [(0, []), (99, []), (100, [0]), (199, [0]), (200, [0, 100]), (300, [0, 100])]
)
@pytest.mark.parametrize("policy", ["delete", "compact", "compact,delete", "consumed"])
def test_segments_below_the_log_start_offset_go_under_every_policy(policy: str, log_start_offset: int, goes: list[int]):
    settings = {"cleanup_policy": policy, "consumed_groups": "a"}
    segments = log(segment(0), segment(100), segment(200))
    assert decide(segments, log_start_offset=log_start_offset, **settings) == [
        (base, Reason.LOG_START) for base in goes
    ]


def test_what_is_not_replicated_yet_stays():
    segments = log(segment(0, YEAR), segment(100, YEAR), segment(200, YEAR))
    assert decide(segments, high_watermark=199) == [(0, Reason.AGE)]
    assert decide(segments, high_watermark=200) == [(0, Reason.AGE), (100, Reason.AGE)]


def test_a_compacted_log_is_not_cut_by_age_or_size():
    segments = log(segment(0, YEAR), segment(100))
    assert decide(segments, cleanup_policy="compact", retention_bytes=1) == []
    assert decide(segments, cleanup_policy="compact,delete", retention_bytes=1) == [(0, Reason.SIZE)]


# ------------------------------------------------------------------------------------------------------------ consumed


@pytest.mark.parametrize(
    ("committed", "goes"),
    [
        ({}, []),
        ({"a": 300}, []),
        ({"a": 300, "b": -1}, []),
        ({"a": 300, "b": 99}, []),
        ({"a": 300, "b": 100}, [0]),
        ({"a": 199, "b": 300}, [0]),
        ({"a": 200, "b": 200}, [0, 100]),
        ({"a": 300, "b": 300, "other": 5}, [0, 100]),
    ],
)
def test_segments_go_once_all_named_groups_have_committed_past_them(committed: dict[str, int], goes: list[int]):
    segments = log(segment(0), segment(100), segment(200))
    settings = {"cleanup_policy": "consumed", "consumed_groups": "a,b"}
    assert decide(segments, committed=committed, **settings) == [(base, Reason.CONSUMED) for base in goes]


def test_unconsumed_segments_go_at_their_own_age_limit_only():
    segments = log(segment(0, 40 * DAY), segment(100, 20 * DAY), segment(200, 20 * DAY))
    settings = {"cleanup_policy": "consumed", "consumed_groups": "a", "retention_bytes": 0}
    assert decide(segments, **settings) == []
    assert decide(segments, unconsumed_retention_ms=30 * DAY, **settings) == [(0, Reason.UNCONSUMED_AGE)]
    committed = {"a": 100}
    goes = [(0, Reason.CONSUMED), (100, Reason.UNCONSUMED_AGE), (200, Reason.UNCONSUMED_AGE)]
    assert decide(segments, committed=committed, unconsumed_retention_ms=10 * DAY, **settings) == goes


# ------------------------------------------------------------------------------------------------------------- explain


def test_each_segment_says_why_it_stays_and_when_it_goes():
    first, second, third = why(log(segment(0, 8 * DAY), segment(100, 6 * DAY), segment(200)))
    assert (first.reason, first.due_ms) == (Reason.AGE, NOW)
    assert first.why == "its newest record is of 8 days, 0:00:00 ago, past retention.ms=604800000"
    assert (second.reason, second.due_ms) == (None, NOW + DAY + 1)
    assert second.why == "its newest record is of 6 days, 0:00:00 ago, within retention.ms=604800000"
    assert (third.reason, third.due_ms) == (None, NOW + WEEK + 1)


def test_a_segment_that_waits_for_an_older_one_says_so():
    first, second, third = why(log(segment(0, DAY), segment(100, 8 * DAY), segment(200)))
    assert second == Explanation(
        second.segment, None, first.due_ms, "waits for the segment 0 before it: the oldest go first"
    )
    assert third.due_ms == NOW + WEEK + 1


def test_a_timestamp_that_becomes_plausible_while_its_segment_waits_counts_from_then():
    in_three_days = segment(100, timestamp=NOW + 3 * DAY, written=NOW - 8 * DAY)
    first, second, _ = why(log(segment(0), in_three_days, segment(200)))
    assert (first.due_ms, second.due_ms) == (NOW + WEEK + 1, NOW + 3 * DAY + WEEK + 1)
    assert second.reason is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"retention_ms": -1}, "retention.ms=-1 and retention.bytes=-1 keep everything"),
        ({"retention_ms": -1, "retention_bytes": 250}, "retention.bytes=250 takes 150 bytes more behind it"),
        ({"cleanup_policy": "compact"}, "cleanup.policy=compact replaces segments by smaller ones, and drops none"),
        (
            {"cleanup_policy": "consumed", "consumed_groups": "mail"},
            "group mail has committed nothing, the segment ends at 100",
        ),
    ],
)
def test_a_segment_that_no_passing_of_time_removes_has_no_due_time(settings: dict[str, object], reason: str):
    explanation = why(log(segment(0, YEAR), segment(100, YEAR)), **settings)[0]
    assert (explanation.reason, explanation.due_ms, explanation.why) == (None, None, reason)


def test_timestamps_beyond_the_calendar_are_explained_too():
    first, _ = why(log(segment(0, timestamp=LONG_MAX, written=LONG_MAX), segment(100, written=-LONG_MAX)))
    assert first.why.startswith(f"its newest timestamp is {LONG_MAX} ms, so its files' time counts")


# -------------------------------------------------------------------------------------------------- against the rules

times = st.one_of(st.integers(0, 60), st.just(-1), st.integers(900, 1000))


@st.composite
def logs(draw: st.DrawFn) -> list[SegmentInfo]:
    """Small logs: the numbers are so small that equal ones are common."""
    segments: list[SegmentInfo] = []
    next_offset = draw(st.integers(0, 3))
    for _ in range(draw(st.integers(1, 6))):
        base_offset = next_offset
        next_offset = base_offset + draw(st.integers(1, 3))
        size = draw(st.integers(0, 5))
        written = draw(st.integers(0, 60) | st.integers(900, 1000))
        segments.append(SegmentInfo(base_offset, next_offset, size, draw(times), written, is_active=False))
    if draw(st.booleans()):
        return [*segments, SegmentInfo(next_offset, next_offset, 0, -1, draw(st.integers(0, 60)), is_active=True)]
    return log(*segments)


configs = st.builds(
    TopicConfig,
    cleanup_policy=st.sampled_from(["delete", "compact", "compact,delete", "consumed"]),
    retention_ms=st.integers(-1, 40),
    retention_bytes=st.integers(-1, 20),
    consumed_groups=st.sampled_from(["a", "a,b"]),
    unconsumed_retention_ms=st.integers(-1, 40),
    message_timestamp_after_max_ms=st.integers(0, 20),
)
positions = st.fixed_dictionaries(
    {
        "log_start_offset": st.integers(0, 15),
        "high_watermark": st.integers(0, 20) | st.just(1000),
        "committed": st.dictionaries(st.sampled_from("abc"), st.integers(0, 20)),
    }
)


def naive_expired(
    segments: list[SegmentInfo],
    config: TopicConfig,
    now_ms: int,
    log_start_offset: int,
    high_watermark: int,
    committed: Mapping[str, int],
) -> list[tuple[int, Reason]]:
    """The rules once more, as Kafka runs them: one pass a rule, each over what the last one left."""
    left = list(segments)
    gone: list[tuple[int, Reason]] = []

    def take(reason: Reason) -> None:
        gone.append((left.pop(0).base_offset, reason))

    def may_go() -> bool:
        return (
            bool(left)
            and left[0].next_offset <= high_watermark
            and not (left[0].is_active and left[0].base_offset == left[0].next_offset)
        )

    def is_older_than(limit: int) -> bool:
        date = left[0].max_timestamp_ms
        if date == -1 or date - now_ms > config.message_timestamp_after_max_ms:
            date = min(segment.last_modified_ms for segment in left)
        return limit != -1 and now_ms - date > limit

    while may_go() and len(left) > 1 and left[1].base_offset <= log_start_offset:
        take(Reason.LOG_START)
    if config.deletes:
        while (
            may_go()
            and config.retention_bytes != -1
            and sum(segment.size_bytes for segment in left) - left[0].size_bytes >= config.retention_bytes
        ):
            take(Reason.SIZE)
        while may_go() and is_older_than(config.retention_ms):
            take(Reason.AGE)
    elif config.drops_consumed:
        while may_go():
            if not left[0].is_active and all(
                group in committed and committed[group] >= left[0].next_offset for group in config.consumed_groups
            ):
                take(Reason.CONSUMED)
            elif is_older_than(config.unconsumed_retention_ms):
                take(Reason.UNCONSUMED_AGE)
            else:
                break
    return gone


@given(logs(), configs, st.integers(0, 100), positions)
def test_what_goes_is_what_kafkas_passes_delete(segments, config, now_ms, position):
    goes = expired(segments, config, now_ms, **position)
    assert [(e.segment.base_offset, e.reason) for e in goes] == naive_expired(segments, config, now_ms, **position)


@given(logs(), configs, st.integers(0, 100), positions)
def test_explanations_name_as_going_exactly_what_goes(segments, config, now_ms, position):
    explanations = explain(segments, config, now_ms, **position)
    assert [e.segment for e in explanations] == segments
    goes = [(e.segment, e.reason) for e in explanations if e.reason]
    assert goes == expired(segments, config, now_ms, **position)
    assert all((e.due_ms == now_ms) == (e.reason is not None) for e in explanations)


@given(logs(), configs, st.integers(0, 100), positions)
def test_segments_go_when_their_explanations_say_and_not_before(segments, config, now_ms, position):
    went: dict[int, int] = {}
    left = list(segments)
    for at in range(now_ms, 1100):
        for expiry in expired(left, config, at, **position):
            went[expiry.segment.base_offset] = at
            left.remove(expiry.segment)
        if not left:
            break
    for explanation in explain(segments, config, now_ms, **position):
        assert explanation.due_ms == went.get(explanation.segment.base_offset), explanation


# ------------------------------------------------------------------------------------------------- settings, rolling


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"retention_ms": 5}, 5),
        ({"retention_ms": 5, "cleanup_policy": "compact,delete"}, 5),
        ({"retention_ms": 5, "cleanup_policy": "compact"}, -1),
        ({"retention_ms": 5, "cleanup_policy": "consumed", "consumed_groups": "a"}, -1),
        ({"cleanup_policy": "consumed", "consumed_groups": "a", "unconsumed_retention_ms": 6}, 6),
    ],
)
def test_the_age_limit_is_the_policys(settings: dict[str, object], limit: int):
    assert age_limit_ms(TopicConfig.parse(settings)) == limit


@pytest.mark.parametrize(
    ("created_ms", "rolls"),
    [
        pytest.param(NOW, False, id="new"),
        pytest.param(NOW - WEEK, False, id="as old as segment.ms"),
        pytest.param(NOW - WEEK - 1, True, id="older"),
        pytest.param(NOW + HOUR, False, id="the clock was set back a little"),
        pytest.param(NOW + 10 * YEAR, True, id="the clock was set back by years"),
    ],
)
def test_a_segment_rolls_by_its_age(created_ms: int, rolls: bool):
    assert should_roll_by_age(created_ms, NOW, WEEK) is rolls
