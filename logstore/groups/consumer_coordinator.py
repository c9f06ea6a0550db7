"""What members of consumer groups whose partitions the coordinator hands out (KIP-848) ask of it; the part of the
coordinator between its base, which knows offsets, and the classic protocol.

Owns the picture of all topics that such groups are shared out by: a heartbeat after a topic has changed sees it.
"""

from collections.abc import Sequence
from functools import partial

from logstore.errors import LogstoreError, UnknownGroup
from logstore.format.group_records import KnownTopic
from logstore.groups.consumer.consumer_group import ConsumerGroup
from logstore.groups.consumer.known_group import Topics
from logstore.groups.deadlines import Deadlines
from logstore.groups.group import Group
from logstore.groups.group_table import Entry
from logstore.groups.offset_coordinator import OffsetCoordinator
from logstore.groups.offsets_log import OffsetsLog
from logstore.groups.requests import (
    JOINING_EPOCH,
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerReply,
    LeavingMember,
)
from logstore.storage.data_dir import DataDir


class ConsumerCoordinator(OffsetCoordinator):
    """See the module."""

    _deadlines: Deadlines

    def __init__(self, data_dir: DataDir, log: OffsetsLog) -> None:
        super().__init__(data_dir, log)
        self._all_topics: Topics = {}
        self._are_topics_stale = True
        data_dir.topic_listeners.append(self._topic_has_changed)

    def consumer_heartbeat(self, request: ConsumerHeartbeat) -> ConsumerReply:
        """A member joins, lives, or leaves, and is told what it is to hold. Raises InvalidArgument,
        UnsupportedAssignor, InvalidTopicPattern, GroupFull, UnknownGroup, UnknownMember, FencedMemberEpoch,
        FencedInstance, UnreleasedInstance, StorageFailure."""
        self._table.check_open()
        self._log.make()
        is_joining = request.epoch == JOINING_EPOCH
        return self._table.enter(request.group, partial(self._consumer_heartbeat, request), creates=is_joining)

    def _consumer_heartbeat(self, request: ConsumerHeartbeat, entry: Entry | None) -> ConsumerReply:
        group = None if entry is None else entry.group
        if isinstance(group, Group) and request.epoch == JOINING_EPOCH and entry is not None and entry.is_idle:
            group = ConsumerGroup(request.group, self._config)
        if entry is None or not isinstance(group, ConsumerGroup):
            raise UnknownGroup(request.group)
        reply, records = group.heartbeat(request, self._topics_now())
        self._table.store_records(entry, group, records)
        self._deadlines.set(request.group, group.heard(reply.member_id, self._clock_ms()))
        return reply

    def _remove(
        self, entry: Entry, group: ConsumerGroup, members: Sequence[LeavingMember]
    ) -> list[LogstoreError | None]:
        """Have members go whom an administrator takes out, though their protocol has no such request."""
        errors: list[LogstoreError | None] = []
        gone: dict[str, None] = {}
        for leaving in members:
            try:
                gone[group.removed(leaving)] = None
                errors.append(None)
            except LogstoreError as error:
                errors.append(error)
        if gone:
            self._table.store_records(entry, group, group.without(gone, self._topics_now()))
            self._deadlines.set(group.group_id, group.next_deadline_ms)
        return errors

    def _tick_consumer_group(self, entry: Entry, group: ConsumerGroup) -> None:
        late = group.late(self._clock_ms())
        if late:
            self._table.store_records(entry, group, group.without(late, self._topics_now()))
        self._deadlines.set(group.group_id, group.next_deadline_ms)

    def describe_consumer_group(self, group: str) -> ConsumerGroupDescription:
        """Raises UnknownGroup, also for one of the classic kind."""

        def act(entry: Entry | None) -> ConsumerGroupDescription:
            if entry is None or not isinstance(entry.group, ConsumerGroup):
                raise UnknownGroup(group)
            return entry.group.describe()

        return self._table.enter(group, act)

    def _topic_has_changed(self, name: str) -> None:
        self._are_topics_stale = True

    def _topics_now(self) -> Topics:
        """The same object until a topic changes."""
        if self._are_topics_stale:
            self._are_topics_stale = False  # before the look: what changes during it is seen by the next
            self._all_topics = {
                topic.name: KnownTopic(topic.topic_id, topic.name, topic.partitions)
                for topic in self._data_dir.topics()
            }
        return self._all_topics
