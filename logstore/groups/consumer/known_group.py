"""What is known of a consumer group: what its records say, and the times that its members have. The base of
``ConsumerGroup``, where the rules are, and what a crash leaves is told.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from logstore.config import StoreConfig
from logstore.format.group_records import (
    CurrentAssignment,
    GroupKey,
    GroupRecord,
    GroupValue,
    KnownTopic,
    MemberMetadata,
    MemberState,
    Partitions,
    RecordKind,
)
from logstore.groups.consumer.reconciling import NOTHING, is_reconciled
from logstore.groups.consumer.subscriptions import wanted_topics
from logstore.groups.consumer.targets import preferred_assignor
from logstore.groups.requests import CONSUMER, JOINING_EPOCH, ConsumerGroupDescription, ConsumerMemberDescription

Topics = Mapping[str, KnownTopic]  # by name


class ConsumerGroupState(Enum):
    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"
    DEAD = "Dead"


class ConsumerMember(NamedTuple):
    metadata: MemberMetadata
    current: CurrentAssignment


NEW_MEMBER = ConsumerMember(
    MemberMetadata(None, None, "", "", (), None, -1, None),
    CurrentAssignment(JOINING_EPOCH, -1, MemberState.STABLE, NOTHING, NOTHING),
)


class KnownGroup:
    """See the module."""

    protocol_type = CONSUMER

    def __init__(self, group_id: str, config: StoreConfig | None = None) -> None:
        self.group_id = group_id
        self.epoch = self.target_epoch = 0
        self.members: dict[str, ConsumerMember] = {}
        self._config = config or StoreConfig()
        self._targets: dict[str, Partitions] = {}
        self._known_topics: Topics = {}
        self._seen_topics: Topics | None = None  # that the known ones were found among
        self._holders: dict[tuple[UUID, int], str] = {}  # of what is assigned, or yet to be given up
        self._instances: dict[str, str] = {}  # member ids by instance ids
        self._session_ends_ms: dict[str, int] = {}
        self._revocation_ends_ms: dict[str, tuple[int, int]] = {}  # the epoch that is to be left, and by when
        self._is_dead = False

    # ---------------------------------------------------------------------------------------------------- what it says

    @property
    def state(self) -> ConsumerGroupState:
        if self._is_dead:
            return ConsumerGroupState.DEAD
        if not self.members:
            return ConsumerGroupState.EMPTY
        if self.epoch > self.target_epoch:
            return ConsumerGroupState.ASSIGNING
        if all(is_reconciled(member.current, self.target_epoch) for member in self.members.values()):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    @property
    def assignor(self) -> str:
        return preferred_assignor(member.metadata.assignor for member in self.members.values())

    def subscribed_topics(self) -> frozenset[str]:
        return frozenset(self._known_topics).union(*(member.metadata.topics for member in self.members.values()))

    def describe(self) -> ConsumerGroupDescription:
        members = [
            ConsumerMemberDescription(member_id, *member, self._targets.get(member_id, NOTHING))
            for member_id, member in self.members.items()
        ]
        return ConsumerGroupDescription(
            self.group_id, self.state.value, self.epoch, self.target_epoch, self.assignor, tuple(members)
        )

    def topics_of(self, member_id: str) -> frozenset[str]:
        """What a member reads: what it names, and of the known topics those that its pattern finds."""
        metadata = self.members[member_id].metadata
        return wanted_topics(metadata, self._known_topics).union(metadata.topics)

    def names_of(self, partitions: Partitions) -> list[tuple[str, int]]:
        """Those whose topics were there when the last target was made."""
        names = {topic.topic_id: topic.name for topic in self._known_topics.values()}
        return sorted((names[topic_id], number) for topic_id, number in partitions if topic_id in names)

    # ----------------------------------------------------------------------------------------------------------- time

    def heard(self, member_id: str, now_ms: int) -> int | None:
        """A member was answered: its session begins anew. When ``late`` may have something to say of it at the
        earliest; None where it is gone."""
        member = self.members.get(member_id)
        if member is None:
            self._session_ends_ms.pop(member_id, None)
            self._revocation_ends_ms.pop(member_id, None)
            return None
        end_ms = self._session_ends_ms[member_id] = now_ms + self._config.group_consumer_session_timeout_ms
        current = member.current
        if current.state is not MemberState.UNREVOKED_PARTITIONS:
            self._revocation_ends_ms.pop(member_id, None)
            return end_ms
        epoch, revocation_end_ms = self._revocation_ends_ms.get(member_id, (current.epoch - 1, 0))
        if epoch != current.epoch:
            revocation_end_ms = now_ms + max(member.metadata.rebalance_timeout_ms, 0)
            self._revocation_ends_ms[member_id] = current.epoch, revocation_end_ms
        return min(end_ms, revocation_end_ms)

    def begin_sessions(self, now_ms: int) -> None:
        """Of all members, as when they are loaded."""
        for member_id in self.members:
            self.heard(member_id, now_ms)

    def late(self, now_ms: int) -> list[str]:
        """The members whose time is over: they are to be taken out by ``without``."""
        return [member_id for member_id in self.members if self._deadline_ms(member_id) <= now_ms]

    @property
    def next_deadline_ms(self) -> int | None:
        return min(map(self._deadline_ms, self.members), default=None)

    def _deadline_ms(self, member_id: str) -> int:
        session_end_ms = self._session_ends_ms[member_id]
        return min(session_end_ms, self._revocation_ends_ms.get(member_id, (0, session_end_ms))[1])

    # --------------------------------------------------------------------------------------------------- what is stored

    def apply(self, records: Iterable[GroupRecord]) -> None:
        """Take up what is stored by now; of loaded ones, those of a lower kind come first."""
        for key, value in records:
            match key.kind, value:
                case RecordKind.GROUP_EPOCH, int():
                    self.epoch = value
                case RecordKind.TARGET_EPOCH, int():
                    self.target_epoch = value
                case RecordKind.TOPICS, tuple():
                    self._known_topics = {topic.name: topic for topic in value if isinstance(topic, KnownTopic)}
                case RecordKind.MEMBER | RecordKind.TARGET | RecordKind.CURRENT, _:
                    self._apply_to_member(key, value)

    def _apply_to_member(self, key: GroupKey, value: GroupValue | None) -> None:
        member_id = key.member_id
        member = self.members.get(member_id)
        match key.kind, value:
            case RecordKind.MEMBER, MemberMetadata():
                self.members[member_id] = ConsumerMember(value, (member or NEW_MEMBER).current)
                if value.instance_id is not None:
                    self._instances[value.instance_id] = member_id
            case RecordKind.MEMBER, None:
                self._drop(member_id)
            case RecordKind.TARGET, frozenset():
                self._targets[member_id] = value
            case RecordKind.TARGET, None:
                self._targets.pop(member_id, None)
            case RecordKind.CURRENT, _ if member is not None:
                current = value if isinstance(value, CurrentAssignment) else NEW_MEMBER.current
                self._release(member_id, member.current)
                self._holders.update(dict.fromkeys(current.assigned | current.revoking, member_id))
                self.members[member_id] = member._replace(current=current)

    def _drop(self, member_id: str) -> None:
        member = self.members.pop(member_id, None)
        if member is None:
            return
        self._release(member_id, member.current)
        self._session_ends_ms.pop(member_id, None)
        self._revocation_ends_ms.pop(member_id, None)
        instance_id = member.metadata.instance_id
        if instance_id is not None and self._instances.get(instance_id) == member_id:
            del self._instances[instance_id]

    def _release(self, member_id: str, current: CurrentAssignment) -> None:
        for partition in current.assigned | current.revoking:
            if self._holders.get(partition) == member_id:
                del self._holders[partition]

    def tombstones(self) -> list[GroupRecord]:
        """By which all of the group is forgotten."""
        records = [record for member_id in self.members for record in self._tombstones_of(member_id)]
        kinds = (RecordKind.TARGET_EPOCH, RecordKind.TOPICS, RecordKind.GROUP_EPOCH)
        return [*records, *((self._key(kind), None) for kind in kinds)]

    def _tombstones_of(self, member_id: str) -> list[GroupRecord]:
        kinds = (RecordKind.CURRENT, RecordKind.TARGET, RecordKind.MEMBER)
        return [(self._key(kind, member_id), None) for kind in kinds]

    def _key(self, kind: RecordKind, member_id: str = "") -> GroupKey:
        return GroupKey(kind, self.group_id, member_id)

    def kill(self) -> None:
        """Dead, for good."""
        self._is_dead = True
        self.members.clear()
