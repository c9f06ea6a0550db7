"""A consumer group: Kafka's classic group protocol as a state machine, with no thread, clock, lock or file of its own.

::

    Empty --join--> PreparingRebalance --all have joined, or the time is up--> CompletingRebalance
                       ^     |                                                         |
                       |     +--nobody joined--> Empty                    the leader's assignments are stored
                       |                                                               v
                       +------- a member comes, changes, leaves or expires ------- Stable

A member joins and is told the generation; the leader among them is told all members and their subscriptions as well.
Then all sync: the leader brings everyone's assignment, the others wait for it. Members heartbeat, and learn from the
answer that it is time to join again. Whoever is not heard of within its session is taken out.

The caller (coordinator.py) holds its lock for the group during a call, and gives ``now_ms`` of a monotonic clock. What
a call leads to comes back as an Outcome: replies to give, each exactly once, and metadata to store before that; the
caller answers ``to_store`` by calling ``stored``, once for each, in their order. Between the two other calls may come.
``tick`` is due at ``next_deadline_ms``.

After a crash the group is what was stored last (``loaded``): its Stable or Empty generation. Its members go on, if they
are heard of within their sessions; a rebalance that was under way is over, and its members find out and join again.

Where Kafka's coordinator would leave a request unanswered or a rule of its own unkept, this one differs:

- A join or sync that the same member repeats while it waits is answered RebalanceInProgress; a waiting sync of a member
  that leaves or expires, UnknownMember. Kafka drops them.
- A static member that did not rejoin in time stays until its session ends: no generation that it has no part in
  prolongs the session, nor is a sync waited for.
- A static member that comes back with other topics causes a rebalance, and it comes back into a full group.
- A member may exchange its protocols for others that all the *other* members support.
- A pending member (one that was told its id and has not joined with it) that leaves causes no rebalance.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from logstore.config import StoreConfig
from logstore.errors import (
    FencedInstance,
    GroupFull,
    IllegalGeneration,
    InconsistentProtocol,
    InvalidSessionTimeout,
    LogstoreError,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownMember,
)
from logstore.format.offsets_topic import GroupMetadataValue
from logstore.groups.lifecycle import (
    COMPLETING,
    DEAD,
    EMPTY,
    PREPARING,
    STABLE,
    TRANSITIONS,
    GroupState,
    Lifecycle,
    Outcome,
)
from logstore.groups.member import Member
from logstore.groups.requests import (
    NO_MEMBER_ID,
    GroupDescription,
    JoinCallback,
    JoinRequest,
    LeavingMember,
    SyncCallback,
    SyncReply,
    SyncRequest,
)

__all__ = ["TRANSITIONS", "Group", "GroupState", "Outcome"]


class Group(Lifecycle):
    """What its members ask of the group; each request gets exactly one answer."""

    @classmethod
    def loaded(
        cls,
        group_id: str,
        config: StoreConfig,
        new_member_id: Callable[[str], str],
        value: GroupMetadataValue,
        now_ms: int,
    ) -> "Group":
        """The group as it was stored: Stable, or Empty without members; every session begins now."""
        group = cls(group_id, config, new_member_id)
        group.state = STABLE if value.members else EMPTY
        group.generation = value.generation
        group.protocol_type = value.protocol_type or None
        group.protocol = value.protocol
        for stored in value.members:
            member = Member.loaded(stored, value.protocol or "")
            member.seen(now_ms)
            group.members.add(member)
        if value.leader is not None and value.leader in group.members:
            group.members.leader = value.leader
        group._topics = group._read_topics()
        if len(group.members) > config.group_max_size:
            group._prepare(now_ms)  # the limit was lowered: those who join first stay
        return group

    # ----------------------------------------------------------------------------------------------------------- join

    def join(self, request: JoinRequest, reply: JoinCallback, now_ms: int) -> Outcome:
        """``reply`` gets a JoinReply once the rebalance's members are known, or one of these at once:
        InvalidSessionTimeout, GroupFull, InconsistentProtocol, MemberIdRequired, UnknownMember, FencedInstance."""
        try:
            self._join(request, reply, now_ms)
        except LogstoreError as error:
            self._replies.append((reply, error))
        return self._outcome()

    def _join(self, request: JoinRequest, reply: JoinCallback, now_ms: int) -> None:
        self._check_session_timeout(request.session_timeout_ms)
        if self.state is DEAD:
            raise UnknownMember(self.group_id, request.member_id)
        is_unknown = request.member_id == NO_MEMBER_ID
        known = self.members.of_instance(request.instance_id) if is_unknown else self.members.get(request.member_id)
        self._check_room(request.member_id, known, now_ms)
        self._check_protocols(request, known)
        if not is_unknown:
            self._join_by_id(request, reply, now_ms)
        elif known is not None:
            self._replace_static(known, request, reply, now_ms)
        else:
            member_id = self._new_member_id(request.instance_id or request.client_id)
            if request.requires_known_member_id and request.instance_id is None:
                self._pending[member_id] = now_ms + request.session_timeout_ms
                self._is_due(self._pending[member_id])
                raise MemberIdRequired(self.group_id, member_id)
            self._add(member_id, request, reply, now_ms)

    def _join_by_id(self, request: JoinRequest, reply: JoinCallback, now_ms: int) -> None:
        if request.instance_id is None and self._pending.pop(request.member_id, None) is not None:
            self._add(request.member_id, request, reply, now_ms)
            return
        member = self._checked_member(request.member_id, request.instance_id)
        self._seen(member, now_ms)
        is_leader_of_stable = self.state is STABLE and member.member_id == self.members.leader
        if self.state is PREPARING or is_leader_of_stable or member.protocols != request.protocols:
            # A leader may have seen what no member's subscription shows, such as new partitions.
            self.members.update(member, request)
            self._let_join(member, reply)
            self._rebalance(now_ms)
        else:  # it may have missed the reply
            self._replies.append((reply, self._join_reply(member)))

    def _add(self, member_id: str, request: JoinRequest, reply: JoinCallback, now_ms: int) -> None:
        if not len(self.members):
            self.protocol_type = request.protocol_type
        self._grew = self._initial_end_ms is not None
        member = Member.joining(member_id, request)
        self._seen(member, now_ms)
        member.join_reply = reply
        self.members.add(member)
        self._rebalance(now_ms)

    def _replace_static(self, old: Member, request: JoinRequest, reply: JoinCallback, now_ms: int) -> None:
        """The instance is back without its id: its new one counts. A Stable group need not notice more of it."""
        assert request.instance_id is not None
        new = old.succeeded_by(self._new_member_id(request.instance_id), request)
        self._answer_waiting(old, FencedInstance(self.group_id, request.instance_id, old.member_id))
        self.members.put_in_place_of(old, new)
        self.members.update(new, request)
        self._let_join(new, reply)
        if self.state is STABLE and self.members.vote() == self.protocol and self._same_topics(old, new):
            self._store(partial(self._replacement_stored, old, new, request.knows_skip_assignment))
        else:
            self._rebalance(now_ms)  # also while completing: the leader's assignments would be for the old id

    def _replacement_stored(
        self, old: Member, new: Member, knows_skip_assignment: bool, error: LogstoreError | None, now_ms: int
    ) -> None:
        reply = self.members.let_go(new) if self.state is STABLE else None
        if reply is None:
            return  # it was answered, or waits for the rebalance that has begun since
        self._seen(new, now_ms)
        if error is None:
            told = self._join_reply(new)
            if new.member_id == self.members.leader:
                skips = {"skip_assignment": True} if knows_skip_assignment else {"leader": old.member_id, "members": ()}
                told = told._replace(**skips)
            self._replies.append((reply, told))
        else:
            self._replies.append((reply, error))
            self.members.put_in_place_of(new, old)
            self._seen(old, now_ms)

    def _let_join(self, member: Member, reply: JoinCallback) -> None:
        if member.join_reply is not None:  # it sent another join: nobody waits for the first one's answer
            self._replies.append((member.join_reply, RebalanceInProgress(self.group_id)))
        self.members.let_wait(member, reply)

    # ----------------------------------------------------------------------------------------------------------- sync

    def sync(self, request: SyncRequest, reply: SyncCallback, now_ms: int) -> Outcome:
        """``reply`` gets a SyncReply once the leader's assignments are stored, or one of these at once: UnknownMember,
        FencedInstance, IllegalGeneration, InconsistentProtocol, RebalanceInProgress."""
        try:
            self._sync(request, reply, now_ms)
        except LogstoreError as error:
            self._replies.append((reply, error))
        return self._outcome()

    def _sync(self, request: SyncRequest, reply: SyncCallback, now_ms: int) -> None:
        member = self._checked_member(request.member_id, request.instance_id)
        self._check_generation(request.generation)
        for given, ours in ((request.protocol_type, self.protocol_type), (request.protocol, self.protocol)):
            if given is not None and ours is not None and given != ours:
                raise InconsistentProtocol(self.group_id, given)
        if self.state is PREPARING:
            raise RebalanceInProgress(self.group_id)
        self._seen(member, now_ms)
        member.must_sync = False
        if not any(other.must_sync for other in self.members):
            self._sync_end_ms = None
        if self.state is STABLE:
            self._replies.append((reply, self._sync_reply(member)))
            return
        if member.sync_reply is not None:
            self._replies.append((member.sync_reply, RebalanceInProgress(self.group_id)))
        member.sync_reply = reply
        if member.member_id == self.members.leader and self._assigned_generation != self.generation:
            self._assigned_generation = self.generation
            assignments = dict(request.assignments)
            self._store(partial(self._assignments_stored, assignments, self.generation), assignments)

    def _assignments_stored(
        self, assignments: Mapping[str, bytes], generation: int, error: LogstoreError | None, now_ms: int
    ) -> None:
        if self.state is not COMPLETING or self.generation != generation:
            return  # another rebalance has begun, and the waiting were told so
        if error is not None:
            self._prepare(now_ms, error)
            return
        self._become(STABLE)
        for member in self.members:
            member.assignment = assignments.get(member.member_id, b"")
            if member.sync_reply is not None:
                self._replies.append((member.sync_reply, self._sync_reply(member)))
                member.sync_reply = None
                self._seen(member, now_ms)

    def _sync_reply(self, member: Member) -> SyncReply:
        return SyncReply(self.protocol_type or "", self.protocol or "", member.assignment)

    # ---------------------------------------------------------------------------- heartbeats, commits, leaving

    def heartbeat(self, member_id: str, generation: int, instance_id: str | None, now_ms: int) -> None:
        """Raises UnknownMember, FencedInstance, IllegalGeneration; RebalanceInProgress: heard, and join again."""
        member = self._checked_member(member_id, instance_id)
        self._check_generation(generation)
        member.seen(now_ms)
        if self.state is PREPARING:
            raise RebalanceInProgress(self.group_id)

    def check_commit(self, member_id: str, generation: int, instance_id: str | None, now_ms: int) -> None:
        """Whether offsets may be committed: by a member in its generation, until the next has begun; by anyone with
        generation -1 while the group has no members. A member's commit counts as its heartbeat.

        Raises UnknownMember, FencedInstance, IllegalGeneration, RebalanceInProgress.
        """
        if self.state is EMPTY and generation < 0:
            return
        member = self._checked_member(member_id, instance_id)
        self._check_generation(generation)
        if self.state is COMPLETING:
            raise RebalanceInProgress(self.group_id)
        member.seen(now_ms)

    def leave(self, members: Sequence[LeavingMember], now_ms: int) -> tuple[list[LogstoreError | None], Outcome]:
        """For each, in order, None or why it could not leave: UnknownMember, FencedInstance."""
        size = len(self.members)
        errors = [self._leave(leaving) for leaving in members]
        self._shrunk(size, now_ms)
        return errors, self._outcome()

    def _leave(self, leaving: LeavingMember) -> LogstoreError | None:
        if self._pending.pop(leaving.member_id, None) is not None:
            return None
        try:
            if leaving.member_id == NO_MEMBER_ID:  # an administrator takes a static member out
                member = self.members.of_instance(leaving.instance_id)
                if member is None:
                    raise UnknownMember(self.group_id, leaving.instance_id or NO_MEMBER_ID)
            else:
                member = self._checked_member(leaving.member_id, leaving.instance_id)
        except LogstoreError as error:
            return error
        self._remove(member)
        return None

    # --------------------------------------------------------------------------------------------------------- checks

    def _checked_member(self, member_id: str, instance_id: str | None) -> Member:
        """Raises UnknownMember; FencedInstance where the instance is known by another id."""
        if instance_id is not None:
            owner = self.members.of_instance(instance_id)
            if owner is not None and owner.member_id != member_id:
                raise FencedInstance(self.group_id, instance_id, member_id)
        member = self.members.get(member_id)
        if member is None or (instance_id is not None and member.instance_id != instance_id):
            raise UnknownMember(self.group_id, member_id)
        return member

    def _check_generation(self, generation: int) -> None:
        if generation != self.generation:
            raise IllegalGeneration(self.group_id, generation, self.generation)

    def _check_session_timeout(self, timeout_ms: int) -> None:
        low_ms, high_ms = self._config.group_min_session_timeout_ms, self._config.group_max_session_timeout_ms
        if not low_ms <= timeout_ms <= high_ms:
            raise InvalidSessionTimeout(self.group_id, timeout_ms, low_ms, high_ms)

    def _check_room(self, member_id: str, known: Member | None, now_ms: int) -> None:
        """Raises GroupFull. While a group over its limit rebalances, those who join first stay, and others go."""
        limit = self._config.group_max_size
        if self.state is PREPARING:
            has_room = self.members.joining_count < limit or (known is not None and known.is_joining)
        else:
            has_room = self.state is EMPTY or known is not None or len(self.members) < limit
        if has_room:
            return
        self._pending.pop(member_id, None)
        if known is not None:
            self._remove(known)
        self._complete_if_all_joined(now_ms)
        raise GroupFull(self.group_id, limit)

    def _check_protocols(self, request: JoinRequest, known: Member | None) -> None:
        common = self.members.common_protocols(but=known)
        names = {name for name, _ in request.protocols}
        fits_type = self.state is EMPTY or request.protocol_type == self.protocol_type
        if not request.protocol_type or not fits_type or not (names if common is None else names & common):
            offered = ", ".join(name for name, _ in request.protocols)
            raise InconsistentProtocol(self.group_id, f"{request.protocol_type}: {offered}")

    # -------------------------------------------------------------------------------------------------------- the rest

    def describe(self) -> GroupDescription:
        """Subscriptions and assignments are told of a Stable group only, as in Kafka."""
        protocol = self.protocol if self.state is STABLE else None
        members = tuple([member.described(protocol) for member in self.members])
        return GroupDescription(
            self.group_id, self.state.value, self.protocol_type or "", protocol or "", self.generation, members
        )

    def subscribed_topics(self) -> frozenset[str] | None:
        """All that the members of the current generation read; None: that is not known, for the group is not one of
        consumers, or a subscription of its cannot be read."""
        return self._topics
