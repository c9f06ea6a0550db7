"""Which segments of a partition go, and for each that stays: why, and when it goes.

Owns the decisions, not the deeds: pure functions of facts and the time. Whoever acts on ``expired`` rolls the active
segment first if it is in the list. What a crash leaves undone, the next run decides again.

The rules, as in Kafka but for ``consumed``. Whole segments go, oldest first, up to the first that must stay:

- below the log start offset (after delete_records): the next segment begins at or before it;
- ``delete``, retention.bytes: what is left without the segment is still that much;
- ``delete``, retention.ms: the segment is older than that;
- ``consumed``: all of consumed.groups have committed past the segment, or it is older than unconsumed.retention.ms.

Nothing goes that is at or above the high watermark; the active segment goes only while it holds records, and is not
dropped for being consumed (it would be rolled at every check).

*A segment's age* counts from its largest timestamp. There may be none, or one that lies in the future by more than
message.timestamp.after.max.ms (a producer's clock, or our own before it was set back), which must not keep the log for
ever. Then the age counts from the last modification of its file or of any later segment's, whichever is the earliest:
a segment was complete before a later one was written, so a file time in the future is corrected by what follows it.

*A clock that jumps* back makes segments younger, and deletes nothing. One that jumps ahead would make all of them old;
from the segments alone that looks the same as a machine that was off for years, so ``RetentionClock`` watches for it
while the process runs. Across a restart nothing can tell, and the wall clock is believed, as it is by Kafka.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from typing import NamedTuple

from logstore.config import TopicConfig
from logstore.format.checksum import crc32c

NOTHING_COMMITTED: Mapping[str, int] = {}


class SegmentInfo(NamedTuple):
    """What the rules look at. Times are Unix milliseconds."""

    base_offset: int
    next_offset: int  # one past the last record
    size_bytes: int  # of the records, not of a preallocated file
    max_timestamp_ms: int  # -1: no record has one
    last_modified_ms: int  # of the file
    is_active: bool


class Reason(StrEnum):
    """Why a segment goes."""

    LOG_START = "log start offset"
    SIZE = "retention.bytes"
    AGE = "retention.ms"
    CONSUMED = "consumed"
    UNCONSUMED_AGE = "unconsumed.retention.ms"


class Expiry(NamedTuple):
    segment: SegmentInfo
    reason: Reason


class Explanation(NamedTuple):
    """``reason`` is set if the segment goes now, and only then. ``due_ms`` is when it goes if nothing else changes (no
    record, commit or setting): now, later by its age, or None as nothing but such a change makes it go."""

    segment: SegmentInfo
    reason: Reason | None
    due_ms: int | None
    why: str


def expired(
    segments: Sequence[SegmentInfo],
    config: TopicConfig,
    now_ms: int,
    *,
    log_start_offset: int,
    high_watermark: int,
    committed: Mapping[str, int] = NOTHING_COMMITTED,
) -> list[Expiry]:
    """The segments that go now: the first ones of ``segments``, which are in offset order, the active one last.

    ``high_watermark`` is the log end offset where there are no replicas; ``committed`` has for each of the
    consumed.groups that committed anything the offset that it reads next.
    """
    rules = _Rules(segments, config, now_ms, log_start_offset, high_watermark, committed)
    goes: list[Expiry] = []
    for index, segment in enumerate(segments):
        reason = rules.reason(index)
        if reason is None:
            break
        goes.append(Expiry(segment, reason))
    return goes


def explain(
    segments: Sequence[SegmentInfo],
    config: TopicConfig,
    now_ms: int,
    *,
    log_start_offset: int,
    high_watermark: int,
    committed: Mapping[str, int] = NOTHING_COMMITTED,
) -> list[Explanation]:
    """For every segment why it is still there and when it goes; the arguments are those of ``expired``."""
    rules = _Rules(segments, config, now_ms, log_start_offset, high_watermark, committed)
    explanations: list[Explanation] = []
    blocker: SegmentInfo | None = None  # of the segments so far, the one that goes last
    due_ms: int | None = now_ms  # when it goes
    for index, segment in enumerate(segments):
        reason = rules.reason(index)
        own_due_ms = rules.due_ms(index, now_ms if due_ms is None else due_ms)
        if blocker is not None and own_due_ms is not None and own_due_ms == due_ms:
            why = f"waits for the segment {blocker.base_offset} before it: the oldest go first"
            explanations.append(Explanation(segment, None, due_ms, why))
        elif blocker is None and reason is not None:
            explanations.append(Explanation(segment, reason, now_ms, rules.why_it_goes(index, reason)))
        else:
            # Behind a segment that time does not remove there is none that it does: what holds one holds all after it.
            assert due_ms is not None or own_due_ms is None
            blocker, due_ms = segment, own_due_ms
            explanations.append(Explanation(segment, None, due_ms, rules.why_it_stays(index)))
    return explanations


def age_limit_ms(config: TopicConfig) -> int:
    """The age at which segments go under this policy, for ``RetentionClock.now_ms``; -1 if age does not matter."""
    if config.deletes:
        return config.retention_ms
    return config.unconsumed_retention_ms if config.drops_consumed else -1


def should_roll_by_age(created_ms: int, now_ms: int, segment_ms: int) -> bool:
    """Whether a segment that holds records is due to be rolled by segment.ms.

    ``created_ms`` is by our clock, not a record's: one import of old records would roll a segment at every check. A
    creation this far in the future is of a clock set back since, and rolls as well: what follows dates the segment.
    """
    return abs(now_ms - created_ms) > segment_ms


def jitter_ms(config: TopicConfig, segment: str) -> int:
    """How long before segment.ms a segment is rolled: from 0 up to segment.jitter.ms, the same at each call, and
    another for each segment, so that those of many partitions that began together do not all end together."""
    share = crc32c(segment.encode()) / (1 << 32)
    return int(min(config.segment_jitter_ms, config.segment_ms) * share)


class RetentionClock:
    """The time to retain by, in a process whose wall clock may jump ahead: nothing goes early.

    A jump shows as wall time that passed without the monotonic clock. For a topic that keeps records for
    ``retention_ms``, the jumps of the last ``retention_ms`` are not counted. So records of before a jump reach their
    age when they really do, and when the jump is counted at last, they all have. Records of after it are on the new
    time, and reach their age when the jump already counts. Jumps back need no care: they make records younger.

    All times are milliseconds. The monotonic clock should count the time that the machine sleeps (CLOCK_BOOTTIME).
    """

    TOLERANCE_MS = 1_000  # two clocks are not read at the same moment
    JUMPS_REMEMBERED = 100

    def __init__(self, wall_ms: int, monotonic_ms: int) -> None:
        self._wall_ms, self._monotonic_ms = wall_ms, monotonic_ms
        self._jumps: list[tuple[int, int]] = []  # (monotonic time when seen, milliseconds ahead), oldest first

    def observe(self, wall_ms: int, monotonic_ms: int) -> None:
        """Read both clocks, at least before every check of retention."""
        jump_ms = (wall_ms - self._wall_ms) - (monotonic_ms - self._monotonic_ms)
        self._wall_ms, self._monotonic_ms = wall_ms, monotonic_ms
        if jump_ms > self.TOLERANCE_MS:
            self._jumps.append((monotonic_ms, jump_ms))
        if len(self._jumps) > self.JUMPS_REMEMBERED:  # two become one, at the later time: what errs keeps longer
            (_, first_ms), (seen_ms, second_ms) = self._jumps[:2]
            self._jumps[:2] = [(seen_ms, first_ms + second_ms)]

    def now_ms(self, retention_ms: int) -> int:
        """The time by which records that are to be kept for ``retention_ms`` may be judged."""
        since_ms = self._monotonic_ms - retention_ms
        return self._wall_ms - sum(ahead_ms for seen_ms, ahead_ms in self._jumps if seen_ms >= since_ms)


class _Rules:
    """The rules for one partition at one moment. Segments are named by their index."""

    def __init__(
        self,
        segments: Sequence[SegmentInfo],
        config: TopicConfig,
        now_ms: int,
        log_start_offset: int,
        high_watermark: int,
        committed: Mapping[str, int],
    ) -> None:
        self.segments, self.config, self.now_ms = segments, config, now_ms
        self.log_start_offset, self.high_watermark = log_start_offset, high_watermark
        self.committed = {group: committed.get(group, -1) for group in config.consumed_groups}
        self.age_limit_ms = age_limit_ms(config)
        # For each segment: the bytes from it to the end, and the earliest modification from it to the end.
        self.size_from = _from_the_end([segment.size_bytes for segment in segments], lambda a, b: a + b)
        self.modified_from = _from_the_end([segment.last_modified_ms for segment in segments], min)

    def reason(self, index: int) -> Reason | None:
        """Why the segment would go now, were it the oldest; None if it would stay."""
        if self._is_held(index):
            return None
        is_age_up = 0 <= self.age_limit_ms < self.now_ms - self._dated_ms(index, self.now_ms)
        if index + 1 < len(self.segments) and self.segments[index + 1].base_offset <= self.log_start_offset:
            return Reason.LOG_START
        if self.config.deletes:
            if 0 <= self.config.retention_bytes <= self._size_after(index):
                return Reason.SIZE
            return Reason.AGE if is_age_up else None
        if self.config.drops_consumed:
            if not self.segments[index].is_active and not self._lagging(index):
                return Reason.CONSUMED
            return Reason.UNCONSUMED_AGE if is_age_up else None
        return None

    def due_ms(self, index: int, from_ms: int) -> int | None:
        """When, at ``from_ms`` or later, the segment goes if nothing but the time changes; None if never."""
        if self._is_held(index):
            return None
        if self.reason(index) in (Reason.LOG_START, Reason.SIZE, Reason.CONSUMED):
            return from_ms
        if self.age_limit_ms < 0:
            return None
        due_ms = max(from_ms, self._dated_ms(index, from_ms) + self.age_limit_ms + 1)
        if self._has_plausible_timestamp(index, due_ms):  # perhaps one that at from_ms is still too far in the future
            due_ms = max(from_ms, self.segments[index].max_timestamp_ms + self.age_limit_ms + 1)
        return due_ms

    def _is_held(self, index: int) -> bool:
        """Whether no rule may touch the segment."""
        segment = self.segments[index]
        is_empty_active = segment.is_active and segment.next_offset == segment.base_offset
        return is_empty_active or segment.next_offset > self.high_watermark

    def _has_plausible_timestamp(self, index: int, now_ms: int) -> bool:
        return 0 <= self.segments[index].max_timestamp_ms <= now_ms + self.config.message_timestamp_after_max_ms

    def _dated_ms(self, index: int, now_ms: int) -> int:
        """The time from which the segment's age counts, as seen at ``now_ms``."""
        if self._has_plausible_timestamp(index, now_ms):
            return self.segments[index].max_timestamp_ms
        return self.modified_from[index]

    def _size_after(self, index: int) -> int:
        return self.size_from[index] - self.segments[index].size_bytes

    def _lagging(self, index: int) -> dict[str, int]:
        """The groups that have not committed all of the segment, and what they have; -1 for nothing."""
        next_offset = self.segments[index].next_offset
        return {group: offset for group, offset in self.committed.items() if offset < next_offset}

    # ------------------------------------------------------------------------------------------------- in plain words

    def why_it_goes(self, index: int, reason: Reason) -> str:
        match reason:
            case Reason.LOG_START:
                return f"all of it is below the log start offset {self.log_start_offset}"
            case Reason.SIZE:
                left, limit = self._size_after(index), self.config.retention_bytes
                return f"{left} bytes are left without it, and retention.bytes={limit}"
            case Reason.CONSUMED:
                return f"all of consumed.groups have committed it: {', '.join(self.committed)}"
            case Reason.AGE:
                return f"{self._age_in_words(index)}, past retention.ms={self.age_limit_ms}"
            case Reason.UNCONSUMED_AGE:
                return f"{self._age_in_words(index)}, past unconsumed.retention.ms={self.age_limit_ms}"

    def why_it_stays(self, index: int) -> str:
        segment, config = self.segments[index], self.config
        if self._is_held(index):
            if segment.next_offset > self.high_watermark:
                return f"it ends at offset {segment.next_offset}, and is replicated up to {self.high_watermark}"
            return "it is empty, and active: the next records go here"
        whys: list[str] = []
        if config.deletes:
            whys += self._why_age_keeps(index, "retention.ms")
            if config.retention_bytes >= 0:
                missing = config.retention_bytes - self._size_after(index)
                whys.append(f"retention.bytes={config.retention_bytes} takes {missing} bytes more behind it")
            return "; ".join(whys) or "retention.ms=-1 and retention.bytes=-1 keep everything"
        if config.drops_consumed:
            for group, offset in self._lagging(index).items():
                has = f"is at offset {offset}" if offset >= 0 else "has committed nothing"
                whys.append(f"group {group} {has}, the segment ends at {segment.next_offset}")
            whys = whys or ["it is consumed, but active: it goes after it is rolled"]
            return "; ".join(whys + self._why_age_keeps(index, "unconsumed.retention.ms"))
        return "cleanup.policy=compact replaces segments by smaller ones, and drops none"

    def _why_age_keeps(self, index: int, setting: str) -> list[str]:
        return [f"{self._age_in_words(index)}, within {setting}={self.age_limit_ms}"] if self.age_limit_ms >= 0 else []

    def _age_in_words(self, index: int) -> str:
        age_ms = self.now_ms - self._dated_ms(index, self.now_ms)
        age = f"{_span(age_ms)} ago" if age_ms >= 0 else f"{_span(-age_ms)} in the future"
        if self._has_plausible_timestamp(index, self.now_ms):
            return f"its newest record is of {age}"
        timestamp_ms = self.segments[index].max_timestamp_ms
        no_timestamp = (
            "no record has a timestamp" if timestamp_ms < 0 else f"its newest timestamp is {_date(timestamp_ms)}"
        )
        return f"{no_timestamp}, so its files' time counts, {age}"


def _from_the_end(values: list[int], combine: Callable[[int, int], int]) -> list[int]:
    return list(accumulate(reversed(values), combine))[::-1]


def _span(milliseconds: int) -> str:
    try:
        return str(timedelta(seconds=milliseconds // 1000))
    except OverflowError:
        return f"{milliseconds} ms"


def _date(timestamp_ms: int) -> str:
    try:
        return datetime.fromtimestamp(timestamp_ms // 1000, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{timestamp_ms} ms"
