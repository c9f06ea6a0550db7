"""Looking at a queue without taking anything: its counts, and what comes next. For its owner, and for those who look at
the directory beside the owner."""

from collections.abc import Iterator
from typing import NamedTuple

from logstore.client.queue.burial import doom
from logstore.client.queue.messages import visible_at_ms
from logstore.client.queue.reader import Missing, Reader
from logstore.client.queue.state import READY, Pending, QueueState
from logstore.errors import CorruptData, InvalidArgument, OffsetGap
from logstore.format.record import Record
from logstore.settings import LONG_MAX
from logstore.storage.log_view import LogView, ReadableLog


class QueueStats(NamedTuple):
    """Counts of messages: ``ready`` to be got; ``delayed`` until a time; ``in_flight`` with a worker; ``blocked``
    behind one of their key; ``dead`` letters. ``lost``: offsets, (first, last), of messages that damage has taken.

    All below ``low_water_offset`` is settled, and the log keeps nothing before ``log_start_offset``. ``oldest_age_s``:
    of the oldest message that is not settled. ``damages``: notes of the queue that could not be read.
    """

    ready: int
    delayed: int
    in_flight: int
    blocked: int
    dead: int
    lost: tuple[tuple[int, int], ...]
    oldest_age_s: float | None
    log_start_offset: int
    low_water_offset: int
    log_end_offset: int
    disk_bytes: int
    damages: tuple[str, ...]


def check_count(count: int | None) -> None:
    """How many messages to look at. Raises InvalidArgument."""
    if count is not None and not (type(count) is int and 1 <= count <= LONG_MAX):
        raise InvalidArgument("count", count, "it is at least 1, or None for all")


def make_stats(
    state: QueueState, view: LogView, wall_ms: int, dead_count: int, damages: list[str], notes_size: int
) -> QueueStats:
    delayed = state.waiting_count()
    blocked = state.blocked_count
    away = state.in_flight_count + state.leaving_count
    return QueueStats(
        ready=state.unsettled_count(view.log_end_offset) - delayed - blocked - away,
        delayed=delayed,
        in_flight=state.in_flight_count,
        blocked=blocked,
        dead=dead_count,
        lost=tuple(state.lost),
        oldest_age_s=_oldest_age_s(state, view, wall_ms),
        log_start_offset=view.log_start_offset,
        low_water_offset=state.low_water,
        log_end_offset=view.log_end_offset,
        disk_bytes=view.size + notes_size,
        damages=tuple(damages),
    )


def _oldest_age_s(state: QueueState, view: LogView, wall_ms: int) -> float | None:
    offset = max(state.low_water, view.log_start_offset)  # somebody else may have moved that
    if offset >= view.log_end_offset:
        return None
    try:
        oldest = next(view.records(offset), None)
    except (CorruptData, OffsetGap):
        return None
    return None if oldest is None else max(0, wall_ms - oldest.timestamp_ms) / 1000


def look_ahead(state: QueueState, log: ReadableLog, wall_ms: int) -> Iterator[tuple[Record, int]]:
    """The messages that are ready, in the order in which they are handed out, each with its deliveries so far."""
    reader = Reader(log)
    for message in state.ready_messages():
        record = reader.one(message.offset)
        if not isinstance(record, Missing) and doom(state, message, record, wall_ms) is None:
            yield record, message.deliveries
    offset, end_offset = state.cursor, log.view.log_end_offset
    while offset < end_offset:
        record = reader.next(offset)
        if isinstance(record, Missing):
            offset = record.next_offset
            continue
        offset += 1
        if visible_at_ms(record.headers) > wall_ms or state.is_busy(record.key):
            continue
        if doom(state, Pending(record.offset, 0, READY, 0), record, wall_ms) is None:
            yield record, 0
