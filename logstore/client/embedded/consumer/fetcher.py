"""The records of all partitions that a consumer reads: each in its turn, and a wait for those that have none.

A poll looks only at partitions that may have records. One whose end was reached is left out until an append wakes it,
so it costs nothing; one whose turn is over, after ``max.partition.fetch.bytes``, goes behind the others. Only the
partition whose turn it is keeps decoded records, those of one batch.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from logstore.client.consumer import ConsumerRecord, Deserializer
from logstore.client.embedded.consumer.bell import Bell
from logstore.client.embedded.consumer.feed import Feed, nothing
from logstore.config import ConsumerConfig
from logstore.errors import (
    DamagedLog,
    LogstoreError,
    OffsetGap,
    OffsetOutOfRange,
    SerializationFailed,
    UnknownTopic,
)
from logstore.format.filename import TopicPartition


class Handed(NamedTuple):
    """What the last poll returned of one partition: from which offset on."""

    feed: Feed
    first_offset: int


class Fetcher:
    """See the module. ``reset`` gives the position of a feed that has none, or one that is not in its log, or raises.
    For the thread whose turn it is."""

    def __init__(
        self,
        config: ConsumerConfig,
        bell: Bell,
        key_deserializer: Deserializer | None,
        value_deserializer: Deserializer | None,
        reset: Callable[[Feed, OffsetOutOfRange | None], int],
    ) -> None:
        self.feeds: dict[TopicPartition, Feed] = {}
        self.has_deserializers = key_deserializer is not None or value_deserializer is not None
        self.reports_deleted = False
        """Whether a topic that was deleted raises, once; else it is left to whoever hands out the partitions."""
        self._config = config
        self._bell = bell
        self._key_deserializer = key_deserializer
        self._value_deserializer = value_deserializer
        self._reset = reset
        self.handed: list[Handed] = []  # by the last take; a new list each time
        self._ready: deque[Feed] = deque()
        self._woken: deque[Feed] = deque()  # by appends, in whose threads
        self._whose_turn: Feed | None = None
        self._turn_end = 0

    # ------------------------------------------------------------------------------------------------- which partitions

    def add(self, feed: Feed) -> None:
        self.feeds[feed.partition] = feed
        self._queue(feed)

    def remove(self, partitions: Iterable[TopicPartition]) -> None:
        for key in partitions:
            if (feed := self.feeds.pop(key, None)) is not None:
                feed.remove()

    def seek(self, feed: Feed, offset: int | None) -> None:
        self.handed = [handed for handed in self.handed if handed.feed is not feed]
        feed.seek(offset)
        self._queue(feed)

    def pause(self, feed: Feed, is_paused: bool) -> None:
        feed.is_paused = is_paused
        self._queue(feed)

    def _queue(self, feed: Feed) -> None:
        feed.stop_waiting()
        feed.stop_waiting = nothing
        if not feed.is_queued and not feed.is_gone:
            self._ready.append(feed)  # in this order: twice does no harm, should Ctrl-C come between
            feed.is_queued = True

    def look_at_all(self) -> None:
        """Whatever was under way when Ctrl-C came, no partition is forgotten."""
        for feed in self.feeds.values():
            feed.is_queued = False
            self._queue(feed)

    # ------------------------------------------------------------------------------------------------------- records

    def take(self, max_records: int) -> list[ConsumerRecord]:
        """Up to so many records, of about ``fetch.max.bytes`` at most. What goes wrong behind the first of them is
        raised by the next call."""
        self.handed = []
        feed = self.next_feed()
        if feed is None:
            return []
        taken = self._take_of(feed, max_records)
        size_left = self._config.fetch_max_bytes - feed.row_size * len(taken)
        try:
            while len(taken) < max_records and size_left > 0 and (feed := self._ready_feed()) is not None:
                rows = self._take_of(feed, max_records - len(taken))
                size_left -= feed.row_size * len(rows)
                taken += rows
        except LogstoreError:
            pass
        return taken

    def _take_of(self, feed: Feed, max_count: int) -> list[ConsumerRecord]:
        assert feed.position is not None
        rows = feed.rows[feed.at : feed.at + max_count]
        if self.has_deserializers:
            rows = self._deserialized(rows)
        self.handed.append(Handed(feed, feed.position))
        feed.move_to(feed.at + len(rows))
        return rows

    def settle(self) -> None:
        """What the last ``take`` returned has been dealt with."""
        self.handed = []

    def take_back(self) -> None:
        """What the last ``take`` returned was not consumed."""
        for feed, first_offset in reversed(self.handed):
            if not feed.is_gone:
                feed.seek(first_offset)
                self._queue(feed)
        self.handed = []

    def next_feed(self) -> Feed | None:
        """The feed whose turn it is, with a row that is not consumed; None where no partition has one.

        Raises what keeps it from being read: DamagedLog and OffsetGap once, then it goes on behind.
        """
        try:
            return self._ready_feed()
        except (DamagedLog, OffsetGap) as error:
            self._ready[0].go_on_behind(error)
            raise
        except UnknownTopic:
            self.remove([self._ready[0].partition])
            raise

    def _ready_feed(self) -> Feed | None:
        while self._woken:
            self._queue(self._woken[0])
            self._woken.popleft()
        while self._ready:
            feed = self._ready[0]
            if feed.is_gone or feed.is_paused:
                feed.seek(feed.position)  # lets go of what it has read ahead
                self._leave_out(feed)
            elif self._is_turn_over(feed):
                self._ready.rotate(-1)
                self._whose_turn = None
                if len(self._ready) > 1:
                    feed.seek(feed.position)
            elif self._fill(feed):
                return feed
            else:
                if not feed.is_gone:
                    wake = partial(_wake, feed, self._woken, self._bell)
                    feed.stop_waiting = feed.log.call_when_beyond(feed.awaited, wake)
                self._leave_out(feed)
        return None

    def _is_turn_over(self, feed: Feed) -> bool:
        if feed is not self._whose_turn:
            self._whose_turn = feed
            self._turn_end = feed.read_size + self._config.max_partition_fetch_bytes
        return feed.read_size >= self._turn_end and feed.at >= len(feed.rows)

    def _leave_out(self, feed: Feed) -> None:
        self._ready.popleft()
        feed.is_queued = False

    def _fill(self, feed: Feed) -> bool:
        if feed.position is None:
            feed.seek(self._reset(feed, None))
        try:
            return feed.fill()
        except OffsetOutOfRange as error:
            feed.seek(self._reset(feed, error))
            return feed.fill()
        except UnknownTopic:
            if self.reports_deleted:
                raise
            feed.remove()  # it is let go of when the deletion is told of
            return False

    # ----------------------------------------------------------------------------------------------- deserializers

    def _deserialized(self, rows: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """Up to the first that fails, which raises SerializationFailed where it is the first of all."""
        done: list[ConsumerRecord] = []
        try:
            done.extend(map(self.deserialize, rows))
        except SerializationFailed:
            if not done:
                raise
        return done

    def deserialize(self, row: ConsumerRecord) -> ConsumerRecord:
        """Raises SerializationFailed."""
        key = _apply("key deserializer", self._key_deserializer, row, row.key)
        value = _apply("value deserializer", self._value_deserializer, row, row.value)
        return ConsumerRecord(row.topic, row.partition, row.offset, row.timestamp_ms, key, value, row.headers)


def _apply(what: str, deserializer: Deserializer | None, row: ConsumerRecord, field: bytes | None) -> Any:
    if deserializer is None or field is None:
        return field
    try:
        return deserializer(field)
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise SerializationFailed(what, row.topic, reason, row.partition, row.offset) from error


def _wake(feed: Feed, woken: deque[Feed], bell: Bell) -> None:
    """In the thread that appends. It holds on to no consumer: one that nobody has any more must be let go."""
    woken.append(feed)
    bell.set()
