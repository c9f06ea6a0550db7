"""What a queue knows of its messages: which are settled, which are with a worker, and which are ready, when. Pure.

A message is known by its offset. Those from the ``cursor`` on have never been looked at and cost no memory, however
many they are. Those below it are settled, but for the ``pending`` ones: delayed, with a worker, to be handed out again,
or behind another one of their key. So what is settled needs no memory either, and ``low_water``, below which nothing is
pending, says what the log need not keep.

Every change is a method named as the event that is noted of it (see format/queue_state); a queue notes it first and
makes it then, and after a crash the noted events are made again, in order: ``apply``. What workers had in their hands
is ready at once then, with its count. Moving the cursor over messages that are not handed out is noted nowhere: what is
noted of a later one tells. No files, no clocks: ``wall_ms`` is the time since 1970, by which messages are delayed,
``now_ms`` a monotonic one, by which workers hold them.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from uuid import UUID

from logstore.client.queue.chains import Chains
from logstore.config import QueueConfig
from logstore.format.queue_state import (
    NOT_REPLAYING,
    WITH_WORKER,
    Buried,
    Delivered,
    Event,
    Outcome,
    PendingMessage,
    Replaying,
    Returned,
    SettingsChanged,
    Settled,
    Snapshot,
)

READY, WAITING, IN_FLIGHT, BLOCKED, LEAVING = range(5)
"""Of a pending message: to be handed out; not before a time; with a worker; behind another one of its key; on its way
to the dead letters."""

_STALE_MIN = 64  # timers of messages that are settled: so many are kept before they are looked for
BLOCKED_MAX = 100_000
"""So many messages are kept in memory because another one of their key comes first; then nothing behind them is looked
at until one is settled."""


class Pending:
    """A message below the cursor that is not settled. ``until_ms``: while it waits, the wall clock's time; with a
    worker, the monotonic clock's; of a blocked one, the time before which it is not wanted anyway; else 0."""

    __slots__ = ("deliveries", "key", "offset", "status", "until_ms")

    def __init__(self, offset: int, deliveries: int, status: int, until_ms: int, key: bytes | None = None) -> None:
        self.offset, self.deliveries, self.status, self.until_ms, self.key = offset, deliveries, status, until_ms, key


class QueueState:
    """See the module. Not thread-safe: its queue is."""

    def __init__(self, topic_id: UUID, start_offset: int = 0) -> None:
        self.topic_id = topic_id
        self.config = QueueConfig()
        self.cursor = start_offset
        self.low_water = start_offset
        self.pending: dict[int, Pending] = {}
        self.in_flight_count = 0
        self.leaving_count = 0
        self.lost: list[tuple[int, int]] = []
        self.dead_end = 0  # of the dead letters' log: what is below it has been settled here
        self.replaying_from = NOT_REPLAYING
        self.is_foreign = False
        self._ready: list[int] = []
        self._waiting: list[tuple[int, int]] = []
        self._held: list[tuple[int, int]] = []
        self._chains = Chains()

    # ------------------------------------------------------------------------------------------- what has been noted

    def apply(self, event: Event) -> None:
        """Make a noted event again. Messages stay as the events left them until ``resume``. What was noted of another
        topic, which had the same name before, is passed over."""
        if isinstance(event, SettingsChanged | Snapshot):
            self.is_foreign = event.topic_id != self.topic_id
        if self.is_foreign:
            return
        match event:
            case Delivered(first, last, deliveries):
                self._look_at(last + 1)
                for offset in range(max(first, self.low_water), last + 1):
                    if offset in self.pending:
                        message = self.pending[offset]
                        message.deliveries, message.until_ms = max(message.deliveries, deliveries), WITH_WORKER
            case Settled(first, last, outcome):
                self._look_at(first)
                self.settled(first, last)
                if outcome is Outcome.LOST:
                    self.lost.append((first, last))
                elif outcome is Outcome.PURGED:
                    self.lost.clear()
            case Returned(offset, visible_at_ms):
                if offset in self.pending:
                    self.pending[offset].until_ms = visible_at_ms
            case Buried(offset, dead_offset):
                self._look_at(offset)
                self.settled(offset, offset)
                self.dead_end = max(self.dead_end, dead_offset + 1)
            case Replaying(from_offset):
                self.replaying_from = from_offset
            case SettingsChanged(_, settings):
                self.config = QueueConfig.parse(settings)
            case Snapshot():
                self._restore(event)

    def _look_at(self, end_offset: int) -> None:
        """Nothing is known of what the cursor passes but that it is there."""
        for offset in range(self.cursor, end_offset):
            self.pending[offset] = Pending(offset, 0, READY, 0)
        self.cursor = max(self.cursor, end_offset)

    def _restore(self, snapshot: Snapshot) -> None:
        self.config = QueueConfig.parse(snapshot.settings)
        self.cursor, self.dead_end, self.replaying_from = snapshot.cursor, snapshot.dead_end, snapshot.replaying_from
        self.lost = list(snapshot.lost)
        self.pending = {
            offset: Pending(offset, deliveries, READY, visible_at_ms)
            for offset, deliveries, visible_at_ms in sorted(snapshot.pending)
            if offset < snapshot.cursor
        }
        self.low_water = next(iter(self.pending), self.cursor)

    def clamp(self, start_offset: int, end_offset: int) -> bool:
        """Forget what is noted of messages that the log does not hold (any more): those before ``start_offset`` are
        settled. Whether any were from ``end_offset`` on: the end of power took them before it took the notes, and their
        offsets are given anew, to messages that nothing is noted of."""
        is_beyond = self.cursor > end_offset
        self.cursor = min(max(self.cursor, start_offset), end_offset)
        self.pending = {o: message for o, message in self.pending.items() if start_offset <= o < end_offset}
        self.low_water = next(iter(self.pending), self.cursor)
        self.lost = [(first, last) for first, last in self.lost if first < end_offset]
        return is_beyond

    def handed_out(self) -> list[int]:
        """Of what was noted, before it is resumed: the messages that workers had."""
        return [offset for offset, message in self.pending.items() if message.until_ms == WITH_WORKER]

    def unknown(self) -> list[Pending]:
        """The messages that must be read again, by offset, before they are resumed: for their keys, where messages of
        a key follow each other; and those that have not been handed out, for the time that they were put with."""
        if self.config.ordered:
            return list(self.pending.values())
        return [message for message in self.pending.values() if not (message.deliveries or message.until_ms)]

    def resume(self, keys: dict[int, bytes | None], visible_at_ms: dict[int, int]) -> None:
        """After a restart, make ready what was pending: what was read of the ``unknown`` ones, by offset."""
        for offset, message in self.pending.items():
            until_ms = message.until_ms
            if not message.deliveries:
                until_ms = visible_at_ms.get(offset, until_ms)
            self._place(message, keys.get(offset), until_ms)

    def snapshot(self) -> Snapshot:
        pending = [
            PendingMessage(m.offset, m.deliveries, WITH_WORKER if m.status == IN_FLIGHT else m.until_ms)
            for m in self.pending.values()
        ]
        return Snapshot(
            self.topic_id,
            self.cursor,
            self.dead_end,
            self.replaying_from,
            self.config.overrides(),
            tuple(self.lost),
            tuple(pending),
        )

    # ------------------------------------------------------------------------------------------------ what may be next

    def take_ready(self, wall_ms: int, now_ms: int) -> Pending | None:
        """The pending message that is to be handed out first, None where there is none; see ``delivered`` and
        ``leave``, one of which must follow."""
        self.pass_time(wall_ms, now_ms)
        while self._ready:
            message = self.pending.get(self._ready[0])
            if message is not None and message.status == READY:
                return message
            heappop(self._ready)
        return None

    def look(self, key: bytes | None, visible_at_ms: int, wall_ms: int) -> None:
        """Look at the message at the cursor, which has this key and is not wanted before ``visible_at_ms`` (0: any
        time). It is pending from now on."""
        message = self.pending[self.cursor] = Pending(self.cursor, 0, READY, 0)
        self.cursor += 1
        self._place(message, key, visible_at_ms if visible_at_ms > wall_ms else 0)

    @property
    def blocked_count(self) -> int:
        """Of messages behind another one of their key."""
        return self._chains.blocked_count

    @property
    def may_look(self) -> bool:
        """Whether there is room for what comes at the cursor, should it be blocked."""
        return self.blocked_count < BLOCKED_MAX

    def next_due_ms(self, wall_ms: int, now_ms: int) -> int | None:
        """How long it is until a message becomes ready by itself; None where none does."""
        due_ms = [heap[0][0] - now for heap, now in ((self._waiting, wall_ms), (self._held, now_ms)) if heap]
        return max(0, min(due_ms)) if due_ms else None

    def has_other(self, now_ms: int, wall_clock: Callable[[], int]) -> bool:
        """Whether anything may be ready but what is at the cursor."""
        return bool(
            self._ready
            or (self._held and self._held[0][0] <= now_ms)
            or (self._waiting and self._waiting[0][0] <= wall_clock())
        )

    def pass_time(self, wall_ms: int, now_ms: int) -> None:
        """What has waited, or was held, for long enough is ready."""
        for heap, status, time_ms in ((self._waiting, WAITING, wall_ms), (self._held, IN_FLIGHT, now_ms)):
            while heap and heap[0][0] <= time_ms:
                until_ms, offset = heappop(heap)
                message = self.pending.get(offset)
                if message is not None and message.status == status and message.until_ms == until_ms:
                    if status == IN_FLIGHT:
                        self.in_flight_count -= 1
                    self._make_ready(message)

    def _place(self, message: Pending, key: bytes | None, until_ms: int) -> None:
        """Ready, waiting, or behind another one of its key."""
        if key is not None and self.config.ordered:
            message.key = key
            if not self._chains.join(key, message.offset):
                message.status, message.until_ms = BLOCKED, until_ms
                return
        self._make_waiting(message, until_ms)

    def _make_waiting(self, message: Pending, until_ms: int) -> None:
        if until_ms > 0:
            message.status, message.until_ms = WAITING, until_ms
            heappush(self._waiting, (until_ms, message.offset))
        else:
            self._make_ready(message)

    def _make_ready(self, message: Pending) -> None:
        message.status, message.until_ms = READY, 0
        heappush(self._ready, message.offset)

    # ------------------------------------------------------------------------------------------------------- changes

    def delivered(self, message: Pending, until_ms: int) -> None:
        """It is with a worker until the monotonic clock says ``until_ms``."""
        if self._ready and self._ready[0] == message.offset:
            heappop(self._ready)
        message.deliveries += 1
        self.held(message, until_ms)

    def deliver_fresh(self, until_ms: int) -> Pending:
        """The message at the cursor, which has no key that matters and is ready, is with a worker: ``look`` and
        ``delivered`` in one."""
        offset = self.cursor
        message = self.pending[offset] = Pending(offset, 1, IN_FLIGHT, until_ms)
        self.cursor = offset + 1
        self.in_flight_count += 1
        heappush(self._held, (until_ms, offset))
        if len(self._held) > _STALE_MIN + 2 * len(self.pending):
            self._drop_stale()
        return message

    def held(self, message: Pending, until_ms: int) -> None:
        """It stays with its worker, or is back there, until then."""
        if message.status != IN_FLIGHT:
            message.status = IN_FLIGHT
            self.in_flight_count += 1
        message.until_ms = until_ms
        heappush(self._held, (until_ms, message.offset))
        if len(self._held) > _STALE_MIN + 2 * len(self.pending):
            self._drop_stale()

    def _drop_stale(self) -> None:
        """Most timers never run out."""
        pending = self.pending
        self._held = [
            (until_ms, offset)
            for until_ms, offset in self._held
            if offset in pending and pending[offset].until_ms == until_ms and pending[offset].status == IN_FLIGHT
        ]
        heapify(self._held)

    def returned(self, message: Pending, visible_at_ms: int) -> None:
        """It is ready again at ``visible_at_ms``, 0 for at once."""
        if message.status == IN_FLIGHT:
            self.in_flight_count -= 1
        self._make_waiting(message, visible_at_ms)

    def leave(self, message: Pending) -> None:
        """It is on its way to the dead letters: handed out to nobody until it is settled, or ``returned``."""
        if message.status == IN_FLIGHT:
            self.in_flight_count -= 1
        message.status, message.until_ms = LEAVING, 0
        self.leaving_count += 1

    def stay(self, message: Pending) -> None:
        """It could not leave."""
        if self.pending.get(message.offset) is message and message.status == LEAVING:
            self.leaving_count -= 1
            self._make_ready(message)

    def is_spent(self, message: Pending) -> bool:
        """Whether it has been handed out as often as it may be."""
        return 0 < self.config.max_deliveries <= message.deliveries

    def is_held(self, offset: int, deliveries: int) -> bool:
        """Whether the worker to whom this was the so-many-th delivery may still settle it: also when its time is over,
        as long as nobody else has got it."""
        message = self.pending.get(offset)
        return message is not None and message.deliveries == deliveries and message.status in (IN_FLIGHT, READY)

    def settle(self, offset: int) -> None:
        """A pending message is settled."""
        message = self.pending.pop(offset)
        if message.status == IN_FLIGHT:
            self.in_flight_count -= 1
        elif message.status == LEAVING:
            self.leaving_count -= 1
        if message.key is not None:
            self._unblock(message.key, message)
        if offset == self.low_water:
            self._advance_low_water()

    def settled(self, first: int, last: int) -> None:
        """Whatever is pending of these offsets is settled; and where the cursor is among them, what is behind it."""
        offsets: Iterable[int] = range(first, min(last + 1, self.cursor))
        if last - first > len(self.pending):
            offsets = [offset for offset in self.pending if first <= offset <= last]
        for offset in offsets:
            if offset in self.pending:
                self.settle(offset)
        if first <= self.cursor <= last:
            self.cursor = last + 1
        self._advance_low_water()

    def purged(self, end_offset: int) -> None:
        """Everything before ``end_offset``, which is the log's end, is settled."""
        self.pending.clear()
        self._chains.clear()
        self._ready.clear()
        self._waiting.clear()
        self._held.clear()
        self.lost.clear()
        self.in_flight_count = self.leaving_count = 0
        self.cursor = self.low_water = end_offset

    def _unblock(self, key: bytes, message: Pending) -> None:
        """The next one of its key may be handed out."""
        if message.status == BLOCKED:
            self._chains.leave(key, message.offset)
            return
        offset = self._chains.next(key)
        if offset is not None:
            following = self.pending[offset]
            self._make_waiting(following, following.until_ms)

    def _advance_low_water(self) -> None:
        offset, cursor, pending = self.low_water, self.cursor, self.pending
        if not pending:
            offset = cursor
        while offset < cursor and offset not in pending:
            offset += 1
        self.low_water = offset

    # -------------------------------------------------------------------------------------------------------- counts

    def unsettled_count(self, end_offset: int) -> int:
        """Of the messages before ``end_offset``, the log's end."""
        return max(0, end_offset - self.cursor) + len(self.pending)

    def ready_messages(self) -> list[Pending]:
        """Those of the pending ones, in the order in which they are handed out."""
        return [self.pending[offset] for offset in sorted(self.pending) if self.pending[offset].status == READY]

    def is_busy(self, key: bytes | None) -> bool:
        """Whether another message of this key comes first."""
        return self.config.ordered and key in self._chains

    def waiting_count(self) -> int:
        """Of the messages that were looked at, those whose time is yet to come."""
        return sum(m.status == WAITING or (m.status == BLOCKED and m.until_ms > 0) for m in self.pending.values())
