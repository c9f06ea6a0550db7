"""A consumer group whose partitions the coordinator hands out (KIP-848), as a state machine without thread, clock, lock
or file of its own.

Each change of what is subscribed to, of members or of topics begins a new epoch of the group, and for it a *target* is
made: who is to have what. A member learns of it by its next heartbeat, gives up what it is to lose, and only then goes
on to the group's epoch and gets what is free (``reconciling``). Nobody waits for anybody who need not.

The state is what the group's records say. A call is judged against it and gives the records that it leads to; the
caller stores them and then has them taken up by ``apply``, which is also how a stored group is loaded: what could not
be stored has not happened. Only two things are not stored, and begin anew after a crash: the time until which each
member's session lasts, and by which one must have given up what is taken away (its rebalance timeout). Who is late is
fenced: taken out, and refused until it joins anew with nothing in its hands.

::

    Empty --a member joins--> Assigning --the target is made--> Reconciling --all have what they are to have--> Stable
      ^                           ^                                                                                |
      +------ the last leaves ----+----------------- a member comes, changes, leaves or is fenced, topics change --+

A member whose answer with a new epoch was lost comes with the one before, and is let go on. A static member that leaves
for a while (epoch -2) keeps its partitions until its session ends, and comes back under another member id.
"""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from logstore.errors import (
    FencedInstance,
    FencedMemberEpoch,
    GroupFull,
    StaleMemberEpoch,
    UnknownMember,
    UnreleasedInstance,
)
from logstore.format.group_records import GroupRecord, MemberMetadata, Partitions, RecordKind
from logstore.groups.consumer.heartbeats import check_heartbeat, says_all, updated
from logstore.groups.consumer.known_group import NEW_MEMBER, ConsumerMember, KnownGroup, Topics
from logstore.groups.consumer.reconciling import NOTHING, reconcile
from logstore.groups.consumer.subscriptions import known_topics, wanted_topics
from logstore.groups.consumer.targets import Candidate, preferred_assignor, targets
from logstore.groups.requests import (
    JOINING_EPOCH,
    LEAVING_EPOCH,
    NO_MEMBER_ID,
    STATIC_LEAVING_EPOCH,
    ConsumerHeartbeat,
    ConsumerReply,
    LeavingMember,
)


class _Coming(NamedTuple):
    """A member that heartbeats, as it was before; ``former_id``: of the member whose static instance it takes over."""

    member_id: str
    before: ConsumerMember
    former_id: str | None = None


class ConsumerGroup(KnownGroup):
    """See the module."""

    # ------------------------------------------------------------------------------------------------------ heartbeats

    def heartbeat(self, request: ConsumerHeartbeat, topics: Topics) -> tuple[ConsumerReply, list[GroupRecord]]:
        """What the member is told once the records are stored and taken up. Raises InvalidArgument,
        UnsupportedAssignor, InvalidTopicPattern, GroupFull, UnknownMember, FencedMemberEpoch, FencedInstance,
        UnreleasedInstance."""
        check_heartbeat(request)
        if request.epoch in (LEAVING_EPOCH, STATIC_LEAVING_EPOCH):
            return ConsumerReply(request.member_id, request.epoch), self._leave(request, topics)
        if request.member_id not in self.members and len(self.members) >= self._config.group_consumer_max_size:
            raise GroupFull(self.group_id, self._config.group_consumer_max_size)
        coming = self._coming(request)
        metadata = updated(coming.before.metadata, request)
        records = self._taking_over(coming)
        if metadata != coming.before.metadata:
            records.append((self._key(RecordKind.MEMBER, coming.member_id), metadata))
        members = {member_id: member for member_id, member in self.members.items() if member_id != coming.former_id}
        members[coming.member_id] = coming.before._replace(metadata=metadata)
        epoch, known = self._next_epoch(coming, metadata, members, topics, records)
        target_epoch, target = self.target_epoch, self._target_of(coming.member_id, coming.former_id)
        if epoch > target_epoch:
            target_epoch, target = epoch, self._retarget(coming, epoch, members, known, records)

        def is_held(partition: tuple[UUID, int]) -> bool:
            return self._holders.get(partition) not in (None, coming.member_id, coming.former_id)

        before = coming.before.current
        after = reconcile(before, target_epoch, target, is_held, request.owned)
        if after != before:
            records.append((self._key(RecordKind.CURRENT, coming.member_id), after))
        is_news = says_all(request) or after.assigned != before.assigned
        interval_ms = self._config.group_consumer_heartbeat_interval_ms
        reply = ConsumerReply(coming.member_id, after.epoch, after.assigned if is_news else None, interval_ms)
        return reply, records

    def _coming(self, request: ConsumerHeartbeat) -> _Coming:
        member_id, instance_id = request.member_id, request.instance_id
        member = self.members.get(member_id)
        if request.epoch == JOINING_EPOCH:
            former_id = None if instance_id is None else self._instances.get(instance_id)
            if former_id is not None and former_id != member_id:
                former = self.members[former_id]
                if former.current.epoch != STATIC_LEAVING_EPOCH:
                    raise UnreleasedInstance(self.group_id, instance_id or "", former_id)
                back = former.current._replace(epoch=JOINING_EPOCH, previous_epoch=JOINING_EPOCH)
                return _Coming(member_id, former._replace(current=back), former_id)
            if member is None:
                return _Coming(member_id, NEW_MEMBER)
            # It holds nothing: it was fenced, or its first answer was lost.
            return _Coming(member_id, member._replace(current=NEW_MEMBER.current))
        if instance_id is not None:
            self._check_instance(instance_id, member_id)
        if member is None:
            raise UnknownMember(self.group_id, member_id)
        current = member.current
        missed_one = request.epoch == current.previous_epoch and request.owned is not None
        if request.epoch != current.epoch and not (missed_one and (request.owned or NOTHING) <= current.assigned):
            raise FencedMemberEpoch(self.group_id, member_id, request.epoch, current.epoch)
        return _Coming(member_id, member)

    def _taking_over(self, coming: _Coming) -> list[GroupRecord]:
        """A static member is back under another id: what was the former's is its own."""
        if coming.former_id is None:
            return []
        return [
            *self._tombstones_of(coming.former_id),
            (self._key(RecordKind.MEMBER, coming.member_id), coming.before.metadata),
            (self._key(RecordKind.TARGET, coming.member_id), self._target_of(coming.former_id)),
            (self._key(RecordKind.CURRENT, coming.member_id), coming.before.current),
        ]

    def _next_epoch(
        self,
        coming: _Coming,
        metadata: MemberMetadata,
        members: dict[str, ConsumerMember],
        topics: Topics,
        records: list[GroupRecord],
    ) -> tuple[int, Topics]:
        """The group's epoch, a new one if what is subscribed to has changed, or the topics have; and these."""
        old = coming.before.metadata
        is_new = coming.before is NEW_MEMBER or (metadata.topics, metadata.regex) != (old.topics, old.regex)
        known = self._known_topics
        if is_new or topics is not self._seen_topics:
            known = known_topics([member.metadata for member in members.values()], topics)
            if known == self._known_topics:
                self._seen_topics = topics
            else:  # seen only once that is stored
                records.append((self._key(RecordKind.TOPICS), tuple(known.values())))
                is_new = True
        if is_new:
            records.append((self._key(RecordKind.GROUP_EPOCH), self.epoch + 1))
        return self.epoch + is_new, known

    def _retarget(
        self,
        coming: _Coming,
        epoch: int,
        members: dict[str, ConsumerMember],
        known: Topics,
        records: list[GroupRecord],
    ) -> Partitions:
        """Share out anew; what the coming member is to have."""
        candidates = {
            member_id: Candidate(
                member.metadata.instance_id,
                wanted_topics(member.metadata, known),
                self._target_of(member_id, coming.former_id if member_id == coming.member_id else None),
            )
            for member_id, member in members.items()
        }
        assignor = preferred_assignor(member.metadata.assignor for member in members.values())
        found = targets(assignor, known, candidates)
        for member_id, target in found.items():
            if target != candidates[member_id].target:
                records.append((self._key(RecordKind.TARGET, member_id), target))
        records.append((self._key(RecordKind.TARGET_EPOCH), epoch))
        return found[coming.member_id]

    def _target_of(self, member_id: str, former_id: str | None = None) -> Partitions:
        return self._targets.get(former_id or member_id, NOTHING)

    def _leave(self, request: ConsumerHeartbeat, topics: Topics) -> list[GroupRecord]:
        member_id = request.member_id
        if request.instance_id is not None:
            self._check_instance(request.instance_id, member_id)
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMember(self.group_id, member_id)
        if request.epoch == LEAVING_EPOCH:
            return self.without([member_id], topics)
        away = member.current._replace(epoch=STATIC_LEAVING_EPOCH, revoking=NOTHING)
        return [(self._key(RecordKind.CURRENT, member_id), away)]

    def removed(self, leaving: LeavingMember) -> str:
        """The id of the member whom an administrator takes out. Raises UnknownMember, FencedInstance."""
        member_id, instance_id = leaving.member_id, leaving.instance_id
        if instance_id is not None:
            if member_id == NO_MEMBER_ID:
                member_id = self._instances.get(instance_id, NO_MEMBER_ID)
            else:
                self._check_instance(instance_id, member_id)
        if member_id not in self.members:
            raise UnknownMember(self.group_id, member_id or instance_id or NO_MEMBER_ID)
        return member_id

    def _check_instance(self, instance_id: str, member_id: str) -> None:
        owner = self._instances.get(instance_id)
        if owner is None:
            raise UnknownMember(self.group_id, member_id)
        if owner != member_id:
            raise FencedInstance(self.group_id, instance_id, member_id)

    def without(self, member_ids: Iterable[str], topics: Topics) -> list[GroupRecord]:
        """The records by which members go: who left, or is fenced."""
        gone = set(member_ids)
        records = [record for member_id in gone for record in self._tombstones_of(member_id)]
        rest = {member_id: member for member_id, member in self.members.items() if member_id not in gone}
        known = known_topics([member.metadata for member in rest.values()], topics)
        if known != self._known_topics:
            records.append((self._key(RecordKind.TOPICS), tuple(known.values())))
        records.append((self._key(RecordKind.GROUP_EPOCH), self.epoch + 1))
        return records

    def check_commit(self, member_id: str, epoch: int, instance_id: str | None, now_ms: int) -> None:
        """Whether offsets may be committed: by a member in its epoch; by anyone with epoch -1 while there is no member.
        Raises UnknownMember, StaleMemberEpoch."""
        if epoch < 0 and not self.members:
            return
        self.check_epoch(member_id, epoch)

    def check_epoch(self, member_id: str, epoch: int) -> None:
        """Raises UnknownMember, StaleMemberEpoch."""
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMember(self.group_id, member_id)
        if member.current.epoch != epoch:
            raise StaleMemberEpoch(self.group_id, member_id, epoch, member.current.epoch)
