"""The consumer of a data directory that this process owns."""

import re
import time
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TypeVar

from logstore.client.arguments import as_commits, as_partition, as_partitions, as_timeout
from logstore.client.consumer import ConsumerRecord, Deserializer, Partitions, RebalanceListener
from logstore.client.embedded.consumer.bell import Bell
from logstore.client.embedded.consumer.feed import Feed, offset_of
from logstore.client.embedded.consumer.fetcher import Fetcher
from logstore.client.embedded.consumer.heartbeats import Heartbeats
from logstore.client.embedded.consumer.holdings import Holdings, checked_listener
from logstore.client.embedded.consumer.membership import Membership
from logstore.client.embedded.consumer.offsets import Identity, Offsets
from logstore.client.embedded.consumer.positions import Positions
from logstore.client.embedded.consumer.subscription import Subscription
from logstore.client.turns import in_turn, last_turn
from logstore.config import ConsumerConfig
from logstore.errors import Closed, InvalidArgument, LogstoreError, SerializationFailed
from logstore.format.filename import TopicPartition
from logstore.groups.coordinator import GroupCoordinator
from logstore.groups.offsets import check_group_id
from logstore.groups.requests import OffsetAndMetadata
from logstore.storage.arguments import as_integer
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability

Found = TypeVar("Found")

LEAVE_S = 5.0


class EmbeddedConsumer(Positions):
    """See Consumer. ``groups`` gives the coordinator; nothing is asked of it without a group."""

    def __init__(
        self,
        data_dir: DataDir,
        groups: Callable[[], GroupCoordinator],
        heartbeats: Heartbeats,
        config: ConsumerConfig,
        *,
        group: str | None = None,
        key_deserializer: Deserializer | None = None,
        value_deserializer: Deserializer | None = None,
    ) -> None:
        if group is not None:
            check_group_id(group)
        bell = Bell()
        offsets = Offsets(group, config, groups)
        fetcher = Fetcher(config, bell, key_deserializer, value_deserializer, offsets.reset)
        what = "the consumer" if group is None else f"the consumer of group {group!r}"
        super().__init__(what, data_dir, bell, offsets, fetcher)
        self._groups = groups
        self._heartbeats = heartbeats
        self._config = config
        self._holdings = Holdings(data_dir, config, fetcher, offsets)
        self._subscription: Subscription | None = None
        self._stop_listening: weakref.finalize[[], EmbeddedConsumer] | None = None
        self._membership: Membership | None = None
        self._is_woken = False
        self._run: tuple[Feed, list[ConsumerRecord]] | None = None  # what an iteration hands out, and
        self._row: ConsumerRecord | None = None  # the last that it has
        self.leave_s = LEAVE_S
        """How long who leaves its group waits for a rebalance to be over, to commit what it has read."""

    # ------------------------------------------------------------------------------------------------- which partitions

    @in_turn
    def subscribe(
        self,
        topics: Iterable[str] | str = (),
        *,
        pattern: str | re.Pattern[str] | None = None,
        listener: RebalanceListener | None = None,
    ) -> None:
        subscription = Subscription(self._data_dir, topics, pattern, self._bell.tell)
        listener = checked_listener(listener)
        group = self._offsets.group
        if self._membership is None:
            self._unsubscribe()
        self._holdings.listener = listener
        self._fetcher.reports_deleted = False
        self._listen(subscription)
        if group is None:
            self._take_on_all(subscription)
        elif self._membership is None:
            self._membership = Membership(
                group,
                self._config,
                self._groups,
                subscription,
                self._holdings,
                self._offsets,
                self._bell,
                self._heartbeats,
            )
        else:
            self._membership.resubscribe(subscription)

    def _listen(self, subscription: Subscription | None) -> None:
        """Hear of topics that come and go, for as long as anybody has this consumer."""
        if self._stop_listening is not None:
            self._stop_listening()
        self._stop_listening = None
        self._subscription = subscription
        if subscription is not None:
            subscription.listen()
            self._stop_listening = weakref.finalize(self, subscription.stop)

    def _take_on_all(self, subscription: Subscription) -> None:
        """Without a group: all partitions of the topics subscribed to."""
        subscription.has_changed = False
        self._holdings.let_go_of_deleted()
        wanted, held = subscription.partitions(), self._holdings.partitions
        self._holdings.revoke(held - wanted)
        self._holdings.take_on(wanted - held, subscription.is_younger)

    @in_turn
    def assign(self, partitions: Partitions) -> None:
        wanted = as_partitions(partitions)
        for topic, number in wanted:
            self._data_dir.log(topic, number)  # raises before anything has changed
        if self._subscription is not None:
            self._unsubscribe()
        held = self._holdings.partitions
        self._offsets.commit_if_automatic(self._fetcher.feeds.values())
        self._fetcher.remove(held.difference(wanted))
        self._fetcher.reports_deleted = True
        self._holdings.take_on(set(wanted) - held)
        self._bell.tell()

    @in_turn
    def unsubscribe(self) -> None:
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        """A member that a Ctrl-C keeps from leaving is still one: it may leave again, or joins again at a poll."""
        try:
            if self._membership is not None:
                self._membership.leave(self.leave_s)
            else:
                self._holdings.revoke(self._holdings.partitions)
        except Exception:
            self._forget_subscription()
            raise
        self._forget_subscription()

    def _forget_subscription(self) -> None:
        self._listen(None)
        self._membership = None
        self._offsets.identity = Identity()
        self._bell.tell()

    @in_turn
    def subscription(self) -> frozenset[str]:
        return frozenset() if self._subscription is None else self._subscription.topics()

    @in_turn
    def assignment(self) -> frozenset[TopicPartition]:
        return self._holdings.partitions

    # ---------------------------------------------------------------------------------------------------------- records

    def poll(self, timeout: float | None = None, *, max_records: int | None = None) -> list[ConsumerRecord]:
        handed_before = self._fetcher.handed
        try:
            return self._poll(timeout, max_records)
        except Exception:
            raise
        except BaseException:  # Ctrl-C, on the way out too: nobody has got what was taken
            if self._fetcher.handed is not handed_before:
                self.take_back()
            raise

    @in_turn
    def _poll(self, timeout: float | None, max_records: int | None) -> list[ConsumerRecord]:
        limit = self._config.max_poll_records if max_records is None else as_integer("max_records", max_records)
        if limit < 1:
            raise InvalidArgument("max_records", max_records, "must be at least 1")
        deadline_s = None if timeout is None else time.monotonic() + as_timeout(timeout)
        return self._wait_for(partial(self._fetcher.take, limit), deadline_s) or []

    def __iter__(self) -> Iterator[ConsumerRecord]:
        self._check_usable()
        return self._iterate()

    def _iterate(self) -> Iterator[ConsumerRecord]:
        while (run := self.next_run(None)) is not None:
            yield from run

    def next_run(self, timeout_s: float | None) -> Iterator[ConsumerRecord] | None:
        """What an iteration hands out next, up to where something else is to be seen to; None at the time-out, after
        ``wakeup`` and ``close``."""
        try:
            feed = self._next_feed(timeout_s)
        except Closed:
            if self._is_closing:
                return None
            raise
        return None if feed is None else self._hand_out(feed)

    def _hand_out(self, feed: Feed) -> Iterator[ConsumerRecord]:
        fetcher, bell, offsets, membership = self._fetcher, self._bell, self._offsets, self._membership
        rows = feed.rows
        self._run, self._row = (feed, rows), None
        for row in rows[feed.at :]:
            record = self._deserialized(row) if fetcher.has_deserializers else row
            self._row = row
            yield record
            now_s = time.monotonic()
            if membership is not None:
                membership.polled_s = now_s
            if feed.rows is not rows or feed.is_paused or bell.has_news or now_s >= offsets.due_s:
                break

    def _deserialized(self, row: ConsumerRecord) -> ConsumerRecord:
        """Raises SerializationFailed: the row stays the next one, and those before it are consumed."""
        try:
            return self._fetcher.deserialize(row)
        except SerializationFailed:
            self._finish()
            raise

    @in_turn
    def _next_feed(self, timeout_s: float | None) -> Feed | None:
        return self._wait_for(self._fetcher.next_feed, None if timeout_s is None else time.monotonic() + timeout_s)

    def _wait_for(self, take: Callable[[], Found | None], deadline_s: float | None) -> Found | None:
        """What ``take`` finds; None at the deadline, and after ``wakeup``. Whoever comes here has finished with what
        was returned before."""
        self._finish()
        self._fetcher.settle()
        membership = self._membership
        if membership is not None:
            membership.polled_s = float("inf")
        try:
            while True:
                self._bell.has_news = False
                self._attend()
                if self._is_woken:
                    self._is_woken = False
                    return None
                found = take()
                if found:
                    self._offsets.is_dirty = True
                    return found
                now_s = time.monotonic()
                if deadline_s is not None and now_s >= deadline_s:
                    return None
                until_s = min(self._offsets.due_s, float("inf") if deadline_s is None else deadline_s)
                self._bell.wait(None if until_s == float("inf") else until_s - now_s)
        except Exception:
            raise
        except BaseException:  # Ctrl-C, in the middle of anything
            self._fetcher.look_at_all()
            raise
        finally:
            if membership is not None:
                membership.polled_s = time.monotonic()

    def _attend(self) -> None:
        """See to whatever is to be seen to between records."""
        if self._is_closing:
            raise Closed(self._what)
        if self._membership is not None:
            self._membership.step()
        elif self._subscription is not None and self._subscription.has_changed:
            self._take_on_all(self._subscription)
        if self._offsets.due_s != float("inf"):
            self._offsets.commit_if_due(self._fetcher.feeds.values())

    def _begin_turn(self) -> None:
        """An iteration takes no note of each record: its place is noted when somebody asks."""
        self._note_place(0)

    def _finish(self) -> None:
        """Whatever an iteration has handed out is consumed: the next is asked for."""
        self._note_place(1)
        self._run = None

    def _note_place(self, count: int) -> None:
        """Have an iteration's rows consumed up to the last that it handed out, and ``count`` more; unless the position
        was moved meanwhile."""
        if self._run is not None and self._row is not None:
            feed, rows = self._run
            if feed.rows is rows:
                feed.move_to(bisect_left(rows, self._row.offset, key=offset_of) + count)
                self._offsets.is_dirty = True

    def wakeup(self) -> None:
        self._is_woken = True
        self._bell.tell()

    # ---------------------------------------------------------------------------------------------------------- commits

    @in_turn
    def committed(self, topic: str, partition: int) -> OffsetAndMetadata | None:
        key = as_partition((topic, partition))
        return self._offsets.committed([key]).get(key)

    @in_turn
    def commit(
        self,
        offsets: Mapping[tuple[str, int], int | OffsetAndMetadata] | None = None,
        *,
        durability: Durability = Durability.FSYNC,
    ) -> None:
        """See Consumer. With another ``durability``, ``sync_commits`` is what has it on the disk."""
        try:
            if offsets is None:
                self._offsets.commit_positions(self._fetcher.feeds.values(), durability)
            else:
                given = as_commits(offsets).items()
                self._offsets.commit({self._feed(*key, "commit").partition: one for key, one in given}, durability)
        except LogstoreError as error:
            if self._membership is not None:
                self._membership.heed(error)
            raise

    def sync_commits(self) -> None:
        """Wait until what was committed is on the disk; in any thread. Raises StorageFailure, PartitionOffline."""
        self._offsets.sync()

    # ------------------------------------------------------------------------------------- for who waits in another way

    @property
    def bell(self) -> Bell:
        """Rings when another poll may find something."""
        return self._bell

    @property
    def config(self) -> ConsumerConfig:
        return self._config

    @property
    def due_s(self) -> float:
        """When, by time.monotonic, another poll has something to do though the bell has not rung."""
        return self._offsets.due_s

    def get_ready(self) -> None:
        """What its group needs of the disk before a first poll, read and made ahead of that; in any thread."""
        if self._offsets.group is not None:
            self._groups().get_ready()

    @in_turn
    def may_leave(self) -> bool:
        """Commit, if that is automatic, for ``close`` or ``unsubscribe`` to follow; False: not yet, once the bell has
        rung."""
        return self._membership is None or self._membership.may_leave()

    # ---------------------------------------------------------------------------------------------------------- the end

    def _end_turn(self) -> None:
        self._bell.tell()

    @last_turn
    def close(self) -> None:
        """See Consumer. One that a Ctrl-C ended in the middle is to be called again, as closing the store does."""
        self._begin_turn()
        try:
            self._unsubscribe()
        except Closed:
            pass  # the store was closed first: there is no group to leave
        except Exception:
            self._let_go()
            raise
        self._let_go()

    def _let_go(self) -> None:
        self._holdings.drop()
        self._closed = Closed(self._what)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """After an error, what the last poll returned may not have been dealt with: it is not committed."""
        if kind is not None:
            self.take_back()
        self.close()

    def take_back(self) -> None:
        """What was returned last was not consumed; unless another thread has the consumer now, or has closed it."""
        try:
            self._take_back_in_turn()
        except LogstoreError:
            pass

    @in_turn
    def _take_back_in_turn(self) -> None:
        self._run = None
        self._fetcher.take_back()
