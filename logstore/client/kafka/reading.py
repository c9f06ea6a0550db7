"""What a cluster's consumer reads: its partitions, where it is in each, and records on their way to who polls.

librdkafka is told where to read, and may be behind: it takes a seek only once it has begun with a partition, and none
after an offset that the log does not have. A partition is unsettled until librdkafka does what is wanted; what it
returns of one until then was fetched for nothing.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer as LibConsumer
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as LibPartition

from logstore.client.consumer import ConsumerRecord, Deserializer
from logstore.client.kafka.admin import Admin
from logstore.client.kafka.assigned import AssignedPartition, reset_offsets, starting_offsets
from logstore.client.kafka.errors import translated
from logstore.config import ConsumerConfig
from logstore.errors import NoCommittedOffset, SerializationFailed
from logstore.format.filename import TopicPartition


class Reading:
    """For the thread whose turn it is."""

    def __init__(
        self,
        admin: Admin,
        client: LibConsumer,
        group: str | None,
        config: ConsumerConfig,
        deserializers: Mapping[str, Deserializer | None],
    ) -> None:
        self._admin, self._client, self._group, self._config = admin, client, group, config
        self._deserializers = deserializers
        self.assigned: dict[TopicPartition, AssignedPartition] = {}
        self._unsettled: set[TopicPartition] = set()
        self._buffer: deque[Message] = deque()
        self._in_hand: TopicPartition | None = None  # of the record that an iteration gave last
        self._handed: dict[TopicPartition, int] = {}  # where what was handed out last begins
        self.must_assign = False  # librdkafka has to be given all partitions anew

    @property
    def has_records(self) -> bool:
        return bool(self._buffer)

    @property
    def is_settled(self) -> bool:
        return not self._unsettled

    # ----------------------------------------------------------------------------------------------------- partitions

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self.assigned[partition] = AssignedPartition()

    def remove(self, partitions: Iterable[TopicPartition]) -> None:
        gone = set(partitions)
        for partition in gone:
            self.assigned.pop(partition, None)
            self._handed.pop(partition, None)
        self._unsettled -= gone
        self._unbuffer(gone)
        if self._in_hand in gone:
            self._in_hand = None

    def clear(self) -> None:
        self.remove(list(self.assigned))

    def find_starts(self, partitions: Iterable[TopicPartition]) -> None:
        """Look up where to begin, where that is not known."""
        states = {partition: self.assigned[partition] for partition in partitions}
        unknown = [partition for partition, state in states.items() if state.next is None and not state.has_no_start]
        for partition, offset in starting_offsets(
            self._admin, self._client, self._group, self._config, unknown
        ).items():
            self._go_to(partition, offset)

    def starts(self, partitions: Iterable[TopicPartition]) -> list[LibPartition]:
        """The partitions as librdkafka is given them."""
        return [LibPartition(*partition, self.assigned[partition].next or 0) for partition in partitions]

    def mark_assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """librdkafka was given them, with their starts."""
        for partition in partitions:
            state = self.assigned[partition]
            state.must_seek = state.is_stopped = False
            if state.is_settled:
                self._unsettled.discard(partition)
            else:
                self._unsettled.add(partition)

    # -------------------------------------------------------------------------------------------------------- seeking

    def go_to(self, offsets: Mapping[TopicPartition, int]) -> None:
        for partition, offset in offsets.items():
            self._go_to(partition, offset)
        self._unbuffer(set(offsets))

    def _go_to(self, partition: TopicPartition, offset: int | None) -> None:
        self.assigned[partition].go_to(offset)
        self._unsettled.add(partition)
        self._handed.pop(partition, None)

    def pause(self, partitions: Iterable[TopicPartition], *, is_paused: bool) -> None:
        """What was fetched of them is fetched again when they go on."""
        chosen = set(partitions)
        for partition in chosen:
            self.assigned[partition].is_paused = is_paused
        self._unsettled |= chosen
        self._unbuffer(chosen)

    def _unbuffer(self, gone: set[TopicPartition]) -> None:
        self._buffer = deque(m for m in self._buffer if (m.topic(), m.partition()) not in gone)

    # ------------------------------------------------------------------------------------------------------- fetching

    def get_ready(self) -> None:
        """Have librdkafka fetch what is wanted, from where it is wanted. Raises NoCommittedOffset."""
        self.find_starts(self.assigned)
        if self.must_assign:
            self._client.assign(self.starts(self.assigned))
            self._client.resume([LibPartition(*partition) for partition in self.assigned])
            self.must_assign = False
            self.mark_assigned(self.assigned)
        for partition in list(self._unsettled):
            self._settle(partition, self.assigned[partition])
        for partition, state in self.assigned.items():
            if state.next is None:
                raise NoCommittedOffset(*partition, self._group)

    def _settle(self, partition: TopicPartition, state: AssignedPartition) -> None:
        try:
            if state.is_given_up and state.next is not None:
                self._begin_anew(partition, state)
            if state.must_stop and not state.is_stopped:
                self._client.pause([LibPartition(*partition)])
                state.is_stopped = state.must_seek = True
            elif state.is_stopped and not state.must_stop:
                self._client.resume([LibPartition(*partition)])
                state.is_stopped = False
            if state.must_seek and not state.must_stop:
                self._client.seek(LibPartition(*partition, state.next))
                state.must_seek = False
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise translated(error, f"seek in {partition.topic}-{partition.partition}") from None
            return  # it has not begun with the partition yet: the next slice tries again
        self._unsettled.discard(partition)

    def _begin_anew(self, partition: TopicPartition, state: AssignedPartition) -> None:
        """librdkafka lets go of a partition whose offset is not in the log, and takes no seek any more."""
        try:
            self._client.incremental_unassign([LibPartition(*partition)])
            self._client.incremental_assign([LibPartition(*partition, state.next)])
            self._client.resume([LibPartition(*partition)])
        except KafkaException:  # an eager member's assignment is changed as a whole
            self.must_assign = True
        state.is_given_up = state.must_seek = state.is_stopped = False

    def take_in(self, message: Message) -> None:
        state = self.assigned.get(TopicPartition(message.topic(), message.partition()))
        if state is None or state.next is None or state.is_paused or not state.is_settled:
            return  # fetched before it was known that it is not wanted
        if message.offset() >= state.next:
            self._buffer.append(message)

    def end_reached(self, partition: TopicPartition, offset: int) -> None:
        """Behind the last record there may be offsets without one, such as the end of a transaction."""
        state = self.assigned.get(partition)
        if state is None or state.next is None or state.is_paused or not state.is_settled:
            return
        is_next = partition != self._in_hand and not any((m.topic(), m.partition()) == partition for m in self._buffer)
        if is_next and offset > state.next:
            state.next = state.consumed = offset

    def out_of_range(self, partition: TopicPartition) -> None:
        """The offset is not in the log: go where auto.offset.reset says."""
        state = self.assigned.get(partition)
        if state is None:
            return
        state.is_given_up = True
        if state.must_seek:  # it is to go elsewhere already
            return
        self._go_to(partition, reset_offsets(self._admin, self._config, [partition])[partition])
        state.has_no_start = state.next is None

    def _fetch_again(self) -> None:
        """From where each partition is: an error came in the middle, and what librdkafka gave may not be here."""
        for state in self.assigned.values():
            state.must_seek = True
        self._unsettled.update(self.assigned)
        self._buffer.clear()

    # ----------------------------------------------------------------------------------------------------- handing out

    def taken(self, limit: int) -> Iterator[ConsumerRecord]:
        """Records off the buffer, decoded. One that cannot be is raised when it comes first, and stays."""
        count = 0
        while self._buffer and count < limit:
            message = self._buffer[0]
            try:
                record = self._decoded(message)
            except SerializationFailed:
                if count:
                    return
                raise
            partition = TopicPartition(*record[:2])
            state = self.assigned[partition]
            self._handed.setdefault(partition, record.offset if state.next is None else state.next)
            self._buffer.popleft()
            count += 1
            state.next = record.offset + 1
            yield record

    def finish(self, record: ConsumerRecord) -> None:
        """It counts as consumed."""
        self.assigned[TopicPartition(*record[:2])].consumed = record.offset + 1

    def hold(self, record: ConsumerRecord) -> None:
        """It counts as consumed when the next one is asked for."""
        self._in_hand = TopicPartition(*record[:2])

    @contextmanager
    def handing_out(self) -> Iterator[None]:
        """Around a poll: what was handed out before has been dealt with, and an error, such as a Ctrl-C, costs no
        record of this one."""
        self._settle_handed()
        try:
            yield
        except BaseException:
            self.take_back()
            self._fetch_again()
            raise

    def _settle_handed(self) -> None:
        self.keep()
        state = self.assigned.get(self._in_hand) if self._in_hand is not None else None
        if state is not None:
            state.consumed = state.next
        self._in_hand = None

    def keep(self) -> None:
        """What was returned last is not taken back any more."""
        self._handed.clear()

    def take_back(self) -> None:
        """What was handed out last was not dealt with: it is not consumed, and comes again."""
        self._in_hand = None
        self.go_to(dict(self._handed))

    def _decoded(self, message: Message) -> ConsumerRecord:
        return ConsumerRecord(
            message.topic(),
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            self._deserialized("key", message.key(), message),
            self._deserialized("value", message.value(), message),
            tuple(message.headers() or ()),
        )

    def _deserialized(self, what: str, content: Any, message: Message) -> Any:
        deserializer = self._deserializers[what]
        if deserializer is None or content is None:
            return content
        try:
            return deserializer(content)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            place = message.partition(), message.offset()
            raise SerializationFailed(f"{what} deserializer", message.topic(), reason, *place) from error
