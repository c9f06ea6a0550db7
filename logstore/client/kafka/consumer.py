"""A cluster's consumer: librdkafka fetches and keeps up the membership; positions and commits are kept here.

A record counts as consumed when the poll that returned it is over, or, iterating, when the next one is asked for; only
what is consumed is committed, automatically at a later poll. So after a crash of this process records come again, and
none is left out. librdkafka cannot be woken: a poll waits in slices of a tenth of a second, and looks for ``wakeup``
and ``close`` in between.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from types import TracebackType
from uuid import uuid4

from confluent_kafka import Consumer as LibConsumer
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as LibPartition

from logstore.client.arguments import (
    as_commits,
    as_offset,
    as_partition,
    as_partitions,
    as_subscription,
    as_time,
    as_timeout,
    as_times,
)
from logstore.client.consumer import Consumer, ConsumerRecord, Deserializer, Partitions, RebalanceListener
from logstore.client.kafka.admin import PASSING, Admin
from logstore.client.kafka.admin import logger as library_logger
from logstore.client.kafka.assigned import committed_offsets
from logstore.client.kafka.commits import Commits, note_commit
from logstore.client.kafka.errors import refused_setting, translated
from logstore.client.kafka.groups import as_committed
from logstore.client.kafka.membership import Alone, Membership
from logstore.client.kafka.reading import Reading
from logstore.client.kafka.settings import Properties, is_cooperative
from logstore.client.turns import TakesTurns, in_turn, last_turn
from logstore.config import ConsumerConfig
from logstore.errors import Closed, InvalidArgument, LogstoreError, NoCommittedOffset, NotAssigned
from logstore.format.filename import TopicPartition
from logstore.groups.requests import OffsetAndMetadata
from logstore.threads import start_thread

_SLICE_S = 0.1
_SHORT_SLICE_S = 0.01
_CLOSING_S = 1.0


class ClusterConsumer(TakesTurns, Consumer):
    """See the module."""

    def __init__(
        self,
        admin: Admin,
        group: str | None,
        config: ConsumerConfig,
        properties: Properties,
        key_deserializer: Deserializer | None,
        value_deserializer: Deserializer | None,
    ) -> None:
        super().__init__("the consumer" if group is None else f"the consumer of group {group!r}")
        self._admin, self._group, self.config = admin, group, config
        every = {**properties, "bootstrap.servers": admin.address, "logger": library_logger, "on_commit": note_commit}
        every["group.id"] = group or f"logstore-{uuid4()}"  # librdkafka wants one of everybody
        try:
            self._client = LibConsumer(every)
        except (KafkaException, ValueError, TypeError) as error:
            raise refused_setting(error, properties) from None
        deserializers = {"key": key_deserializer, "value": value_deserializer}
        self._reading = Reading(admin, self._client, group, config, deserializers)
        self._membership: Membership | Alone
        if group is None:
            self._membership = Alone(self, config.metadata_max_age_ms / 1000)
        else:
            self._membership = Membership(self, self._client, is_cooperative(config), config.metadata_max_age_ms / 1000)
        self._errors: deque[BaseException] = deque()
        self._is_woken = False
        self._commits = Commits(admin, self._client, group, config, self._reading)

    # -------------------------------------------------------------------------------------------------- what is read

    @in_turn
    def subscribe(
        self,
        topics: Iterable[str] | str = (),
        *,
        pattern: str | re.Pattern[str] | None = None,
        listener: RebalanceListener | None = None,
    ) -> None:
        names, compiled = as_subscription(topics, pattern)
        if self._reading.assigned and not self._membership.is_member:
            self._unsubscribe()
        self._membership.subscribe(names, compiled, listener)
        if self._group is None:
            self._membership.refresh(self._admin)

    @in_turn
    def assign(self, partitions: Partitions) -> None:
        wanted = self._existing(partitions)
        if self._membership.is_member:
            self._unsubscribe()
        held = self._reading.assigned
        self._reading.remove([partition for partition in held if partition not in wanted])
        self._reading.add([partition for partition in wanted if partition not in held])
        self._reading.must_assign = True

    @in_turn
    def unsubscribe(self) -> None:
        self._unsubscribe()
        self._raise_found()

    def _unsubscribe(self) -> None:
        if self._membership.is_member:
            self._membership.leave(self._admin.timeout_s)
        else:
            self._commits.now_if_automatic()
        self._client.unassign()
        self._reading.clear()
        self._reading.must_assign = False

    @in_turn
    def subscription(self) -> frozenset[str]:
        return self._membership.topics

    @in_turn
    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._reading.assigned)

    # ------------------------------------------------------------------------------------------------------- reading

    @in_turn
    def poll(self, timeout: float | None = None, *, max_records: int | None = None) -> list[ConsumerRecord]:
        limit = self.config.max_poll_records if max_records is None else max_records
        if type(limit) is not int or limit < 1:
            raise InvalidArgument("max_records", max_records, "it is an integer from 1 up")
        timeout_s = as_timeout(timeout)
        with self._reading.handing_out():
            self._fill(inf if timeout_s < 0 else timeout_s, limit)
            records = list(self._reading.taken(limit))
            for record in records:
                self._reading.finish(record)
            return records

    def __iter__(self) -> Iterator[ConsumerRecord]:
        self._check_usable()
        while True:
            try:
                record = self._next_record()
            except Closed:
                return
            if record is None:
                return
            yield record

    @in_turn
    def _next_record(self) -> ConsumerRecord | None:
        with self._reading.handing_out():
            self._fill(inf, self.config.max_poll_records)
            for record in self._reading.taken(1):
                self._reading.hold(record)
                return record
            return None

    def _fill(self, timeout_s: float, limit: int) -> None:
        """Wait until there are records; ends early when woken. Raises what was found wrong."""
        deadline = time.monotonic() + timeout_s
        self._commits.if_due()
        while not self._is_woken and not self._is_closing:
            self._raise_found()
            if self._reading.has_records:
                return
            self._membership.refresh(self._admin)
            self._reading.get_ready()
            remaining = max(deadline - time.monotonic(), 0)
            message = self._client.poll(min(_SLICE_S if self._reading.is_settled else _SHORT_SLICE_S, remaining))
            if message is not None:
                self._take_in(message)
                for more in self._client.consume(limit - 1, 0) if limit > 1 else ():
                    self._take_in(more)
            if remaining == 0:
                self._raise_found()
                return
        self._is_woken = False

    def _take_in(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._reading.take_in(message)
            return
        partition = TopicPartition(message.topic() or "", -1 if message.partition() is None else message.partition())
        match error.code():
            case KafkaError._PARTITION_EOF:
                self._reading.end_reached(partition, message.offset())
            case KafkaError._AUTO_OFFSET_RESET:
                self._reading.out_of_range(partition)
            case KafkaError.UNKNOWN_TOPIC_OR_PART | KafkaError._UNKNOWN_TOPIC if self._membership.is_member:
                pass  # it is waited for
            case code if code in PASSING or error.retriable():
                library_logger.warning("%s: %s", self._what, error.str())  # librdkafka tries again
            case _:
                facts = self._commits.facts()
                facts.topic, facts.partition = partition
                self._errors.append(translated(error, "poll", facts))

    def wakeup(self) -> None:
        self._is_woken = True

    # ----------------------------------------------------------------------------------------------------- positions

    @in_turn
    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._reading.go_to({self._assigned((topic, partition), "seek in"): as_offset(offset)})

    @in_turn
    def seek_to_beginning(self, partitions: Partitions = ()) -> None:
        self._reading.go_to(self._admin.beginning_offsets(self._chosen(partitions, "seek in")))

    @in_turn
    def seek_to_end(self, partitions: Partitions = ()) -> None:
        self._reading.go_to(self._ends(self._chosen(partitions, "seek in")))

    @in_turn
    def seek_to_time(self, timestamp_ms: int, partitions: Partitions = ()) -> None:
        chosen = self._chosen(partitions, "seek in")
        found = self._admin.offsets_for_times(dict.fromkeys(chosen, as_time(timestamp_ms)))
        ends = self._ends([partition for partition, offset in found.items() if offset is None])
        self._reading.go_to({partition: ends.get(partition, offset or 0) for partition, offset in found.items()})

    @in_turn
    def pause(self, partitions: Partitions = ()) -> None:
        self._reading.pause(self._chosen(partitions, "pause"), is_paused=True)

    @in_turn
    def resume(self, partitions: Partitions = ()) -> None:
        self._reading.pause(self._chosen(partitions, "resume"), is_paused=False)

    @in_turn
    def paused(self) -> frozenset[TopicPartition]:
        return frozenset(partition for partition, state in self._reading.assigned.items() if state.is_paused)

    @in_turn
    def position(self, topic: str, partition: int) -> int:
        key = self._assigned((topic, partition), "tell the position of")
        self._reading.find_starts([key])
        position = self._reading.assigned[key].next
        if position is None:
            raise NoCommittedOffset(topic, partition, self._group)
        return position

    @in_turn
    def lag(self) -> dict[TopicPartition, int]:
        assigned = self._reading.assigned
        self._reading.find_starts(assigned)
        ends = self._ends(assigned)
        known = {partition: state.next for partition, state in assigned.items() if state.next is not None}
        return {partition: max(ends[partition] - position, 0) for partition, position in known.items()}

    @in_turn
    def beginning_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]:
        return self._admin.beginning_offsets(self._existing(partitions))

    @in_turn
    def end_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]:
        return self._ends(self._existing(partitions))

    @in_turn
    def offsets_for_times(self, timestamps_ms: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int | None]:
        wanted = as_times(timestamps_ms)
        self._admin.check_partitions(wanted)
        return self._admin.offsets_for_times(wanted)

    def _ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return self._admin.end_offsets(partitions, read_committed=self.config.isolation_level == "read_committed")

    def _existing(self, given: Partitions) -> list[TopicPartition]:
        partitions = as_partitions(given)
        self._admin.check_partitions(partitions)
        return partitions

    def _assigned(self, given: tuple[str, int], what: str) -> TopicPartition:
        partition = as_partition(given)
        if partition not in self._reading.assigned:
            raise NotAssigned(*partition, what)
        return partition

    def _chosen(self, partitions: Partitions, what: str) -> list[TopicPartition]:
        """Those given, or all."""
        return [self._assigned(each, what) for each in as_partitions(partitions)] or list(self._reading.assigned)

    # ----------------------------------------------------------------------------------------------------- committing

    @in_turn
    def committed(self, topic: str, partition: int) -> OffsetAndMetadata | None:
        wanted = as_partition((topic, partition))
        if self._group is None:
            raise _no_group()
        found = committed_offsets(self._admin, self._client, [wanted]).get(wanted)
        return None if found is None else as_committed(found)

    @in_turn
    def commit(self, offsets: Mapping[tuple[str, int], int | OffsetAndMetadata] | None = None) -> None:
        if self._group is None:
            raise _no_group()
        if offsets is None:
            self._reading.find_starts(self._reading.assigned)
            self._commits.wait_for(self._commits.consumed())
            self._reading.keep()
            return
        commits = as_commits(offsets)
        for partition in commits:
            self._assigned(partition, "commit")
        self._commits.wait_for(commits)

    # ----------------------------------------------------------------------------- what the membership calls, in a poll

    def partitions_assigned(self, partitions: list[TopicPartition]) -> None:
        self._reading.add(partitions)

    def partitions_started(self, partitions: list[TopicPartition]) -> list[LibPartition]:
        """Where to begin, now that the listener has had its say."""
        if self._is_closing:
            return []
        self._reading.find_starts(partitions)
        return self._reading.starts(partitions)

    def partitions_given(self, partitions: list[TopicPartition]) -> None:
        self._reading.mark_assigned(partitions)

    def partitions_revoked(self, partitions: list[TopicPartition]) -> None:
        """They may still be committed; ``close`` has done that: who leaves is not told what is committed."""
        if not self._is_closing:
            self._commits.now_if_automatic()

    def partitions_gone(self, partitions: list[TopicPartition]) -> None:
        self._reading.remove(partitions)

    def partitions_are(self, partitions: dict[TopicPartition, int | None]) -> None:
        """Without a group: read just these from now on, new ones from an offset, where one is given."""
        self._reading.remove([partition for partition in self._reading.assigned if partition not in partitions])
        new = [partition for partition in partitions if partition not in self._reading.assigned]
        self._reading.add(new)
        starts = {partition: partitions[partition] for partition in new}
        self._reading.go_to({partition: start for partition, start in starts.items() if start is not None})
        self._reading.must_assign = True

    def failed(self, error: BaseException) -> None:
        """A listener, or finding a start, raised: it comes out of the poll."""
        self._errors.append(error)

    # --------------------------------------------------------------------------------------------------------- ending

    @last_turn
    def close(self) -> None:
        try:
            if self._commits.now_if_automatic():
                self._client.close()
            else:
                self._close_in_background()
        finally:
            self._closed = Closed(self._what)
            self._reading.clear()
        self._raise_found()

    def _close_in_background(self) -> None:
        """With commits under way to a broker that is gone, librdkafka closes only after session.timeout.ms."""
        if self._membership.is_member:
            self._membership.leave(self._admin.timeout_s)  # the listener is told in this thread
        thread = threading.Thread(target=self._client.close, name="logstore consumer closing", daemon=True)
        start_thread(thread)
        thread.join(_CLOSING_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """After an error, what the last poll returned may not have been dealt with: it is not committed."""
        if kind is not None:
            try:
                self._take_back()
            except LogstoreError:
                pass  # another thread has the consumer, or has closed it
        self.close()

    @in_turn
    def _take_back(self) -> None:
        self._reading.take_back()

    def _raise_found(self) -> None:
        if self._errors:
            raise self._errors.popleft()


def _no_group() -> InvalidArgument:
    return InvalidArgument("group", None, "without a group there are no committed offsets: give the consumer one")
