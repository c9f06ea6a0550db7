"""The states of a group, what moves it from one to the next, and the time it has for that: the base of ``Group``.

Owns the roster, the generation and the deadlines. Nobody is asked here who he is: requests are judged in group.py. What
a call leads to is gathered (``_replies``, ``_to_store``) and handed out as one Outcome at its end. What a crash leaves
is told in group.py.
"""

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from logstore.config import StoreConfig
from logstore.errors import CorruptData, LogstoreError, RebalanceInProgress, UnknownMember
from logstore.format.consumer_protocol import decode_subscription
from logstore.format.offsets_topic import GroupMetadataValue
from logstore.groups.member import Member, Roster
from logstore.groups.requests import JoinedMember, JoinReply

CONSUMER_PROTOCOL_TYPE = "consumer"


class GroupState(Enum):
    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


EMPTY, PREPARING, COMPLETING, STABLE, DEAD = GroupState

TRANSITIONS: Mapping[GroupState, frozenset[GroupState]] = {
    EMPTY: frozenset({PREPARING, DEAD}),  # a member joined | deleted, or its coordinator closed, as below
    PREPARING: frozenset({COMPLETING, EMPTY, DEAD}),  # members joined | none did
    COMPLETING: frozenset({STABLE, PREPARING, DEAD}),  # assignments are stored | a member came, changed or went
    STABLE: frozenset({PREPARING, DEAD}),  # a member came, changed or went
    DEAD: frozenset(),
}


class Outcome(NamedTuple):
    """``replies``: (callback, its argument), to be called in order once ``to_store``, if any, is stored. The metadata's
    timestamp is left unknown (-1): whoever stores it has a clock for that. ``due_ms``: a time at which ``tick`` may now
    have something to do, unless it had before that anyway."""

    replies: list[tuple[Callable[[Any], None], Any]]
    to_store: GroupMetadataValue | None = None
    due_ms: int | None = None


class Lifecycle:
    """``new_member_id``: makes a unique member id of a client id or an instance id."""

    def __init__(self, group_id: str, config: StoreConfig, new_member_id: Callable[[str], str]) -> None:
        self.group_id = group_id
        self.state = EMPTY
        self.generation = 0
        self.members = Roster()
        self.protocol_type: str | None = None  # None: nobody has ever joined; the group only commits offsets
        self.protocol: str | None = None
        self._config = config
        self._new_member_id = new_member_id
        self._pending: dict[str, int] = {}  # member ids told by MemberIdRequired: the end of their sessions, ms
        self._join_end_ms: int | None = None  # PreparingRebalance: when it goes on with those who are there
        self._initial_end_ms: int | None = None  # the rebalance of an empty group: as long it may wait for more
        self._grew = False  # since that wait began, or was extended
        self._sync_end_ms: int | None = None  # who must sync has done so by then
        self._assigned_generation = -1  # the last one whose assignments went to be stored
        self._topics: frozenset[str] | None = None
        self._storing: deque[Callable[[LogstoreError | None, int], None]] = deque()  # what ``stored`` goes on with
        self._replies: list[tuple[Callable[[Any], None], Any]] = []  # of the call under way
        self._to_store: GroupMetadataValue | None = None
        self._due_ms: int | None = None

    # ------------------------------------------------------------------------------------------------------ rebalance

    def _rebalance(self, now_ms: int) -> None:
        """Someone came or changed."""
        if PREPARING in TRANSITIONS[self.state]:
            self._prepare(now_ms)
        else:
            self._complete_if_all_joined(now_ms)

    def _shrunk(self, size_before: int, now_ms: int) -> None:
        """Members or pending ones may have gone."""
        if len(self.members) < size_before and self.state in (COMPLETING, STABLE):
            self._prepare(now_ms)
        else:
            self._complete_if_all_joined(now_ms)

    def _prepare(self, now_ms: int, error: LogstoreError | None = None) -> None:
        """A rebalance begins; those who wait for an assignment are told so, by ``error`` if it is the reason."""
        for member in self.members:
            member.must_sync = False
            if member.sync_reply is not None:
                self._replies.append((member.sync_reply, error or RebalanceInProgress(self.group_id)))
                member.sync_reply = None
                self._seen(member, now_ms)
        self._sync_end_ms = None
        is_initial = self.state is EMPTY
        self._become(PREPARING)
        self._join_end_ms = now_ms + self.members.rebalance_timeout_ms
        if is_initial:  # the others of a new group are likely to come soon
            self._grew, self._initial_end_ms = False, self._join_end_ms
            self._join_end_ms = now_ms + self._config.group_initial_rebalance_delay_ms
            self._go_on_without_the_missing(now_ms)
        else:
            self._complete_if_all_joined(now_ms)

    def _go_on_without_the_missing(self, now_ms: int) -> None:
        """If the time to join is up; an empty group's first rebalance is put off again while members keep coming."""
        if self._join_end_ms is None or now_ms < self._join_end_ms:
            return
        if self._initial_end_ms is not None and self._grew and now_ms < self._initial_end_ms:
            self._grew = False
            self._join_end_ms = min(now_ms + self._config.group_initial_rebalance_delay_ms, self._initial_end_ms)
        else:
            self._complete_join(now_ms)

    def _complete_if_all_joined(self, now_ms: int) -> None:
        if self.state is not PREPARING or self._initial_end_ms is not None:
            return
        if not len(self.members) or (self.members.joining_count == len(self.members) and not self._pending):
            self._complete_join(now_ms)

    def _complete_join(self, now_ms: int) -> None:
        """The next generation: those who have joined, and the static members."""
        self._join_end_ms = self._initial_end_ms = None
        for member in self.members:
            if not member.is_joining and not member.is_static:
                self._remove(member)
        if not len(self.members):
            self.generation += 1
            self.protocol = None
            self._become(EMPTY)
            self._topics = self._read_topics()
            self._store(lambda error, now_ms: None)  # if it fails: what was stored last is taken up, and expires
        elif not self.members.elect_joining_leader():
            self._join_end_ms = now_ms + self.members.rebalance_timeout_ms  # static ones only, and none is back yet
        else:
            self.generation += 1
            self.protocol = self.members.vote()
            self._become(COMPLETING)
            self._topics = self._read_topics()
            self._sync_end_ms = now_ms + self.members.rebalance_timeout_ms
            for member in self.members:
                reply = self.members.let_go(member)
                if reply is not None:
                    self._replies.append((reply, self._join_reply(member)))
                    member.is_new = False
                    member.must_sync = True
                    self._seen(member, now_ms)

    def _join_reply(self, member: Member) -> JoinReply:
        leader = self.members.leader or ""
        members = [
            JoinedMember(other.member_id, other.instance_id, other.subscription(self.protocol))
            for other in (self.members if member.member_id == leader else ())
        ]
        return JoinReply(
            self.generation, self.protocol_type or "", self.protocol or "", leader, member.member_id, tuple(members)
        )

    def _become(self, state: GroupState) -> None:
        assert state in TRANSITIONS[self.state], (self.state, state)
        self.state = state

    # ----------------------------------------------------------------------------------------------------------- time

    @property
    def next_deadline_ms(self) -> int | None:
        """When ``tick`` has something to do; None: not until another call. It looks at all members."""
        ends = [*(member.deadline_ms for member in self.members), *self._pending.values()]
        return min((end for end in (*ends, self._join_end_ms, self._sync_end_ms) if end is not None), default=None)

    def tick(self, now_ms: int) -> Outcome:
        """Whatever is due: sessions end, a rebalance goes on without those who are missing."""
        for member_id in [member_id for member_id, end_ms in self._pending.items() if end_ms <= now_ms]:
            del self._pending[member_id]
        size = len(self.members)
        for member in self.members:
            if member.deadline_ms is not None and member.deadline_ms <= now_ms:
                self._remove(member)
        self._shrunk(size, now_ms)
        self._go_on_without_the_missing(now_ms)
        if self._sync_end_ms is not None and self._sync_end_ms <= now_ms:
            size = len(self.members)
            for member in self.members:
                if member.must_sync:
                    self._remove(member)
            self._sync_end_ms = None
            self._shrunk(size, now_ms)
        return self._outcome()

    def stored(self, error: LogstoreError | None, now_ms: int) -> Outcome:
        """The oldest ``to_store`` not yet answered for is stored, or could not be."""
        self._storing.popleft()(error, now_ms)
        return self._outcome()

    def kill(self) -> Outcome:
        """Dead, for good: the group was deleted, or its coordinator goes. All who wait are told UnknownMember."""
        if self.state is not DEAD:
            self._become(DEAD)
        for member in self.members:
            self._remove(member)
        self._pending.clear()
        self._join_end_ms = self._initial_end_ms = self._sync_end_ms = None
        return self._outcome()

    # ------------------------------------------------------------------------------------------------------ the members

    def _read_topics(self) -> frozenset[str] | None:
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        topics: set[str] = set()
        for member in self.members:
            theirs = self._topics_of(member)
            if theirs is None:
                return None
            topics |= theirs
        return frozenset(topics)

    def _topics_of(self, member: Member) -> frozenset[str] | None:
        """None: it is no consumer, or its subscription cannot be read."""
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        try:
            return frozenset(decode_subscription(member.subscription(self.protocol)).topics)
        except CorruptData:
            return None

    def _same_topics(self, one: Member, other: Member) -> bool:
        """Where topics cannot be read, whether the subscriptions are the same, byte by byte."""
        if one.subscription(self.protocol) == other.subscription(self.protocol):
            return True
        topics = self._topics_of(one)
        return topics is not None and topics == self._topics_of(other)

    def _remove(self, member: Member) -> None:
        self._answer_waiting(member, UnknownMember(self.group_id, member.member_id))
        self.members.remove(member)

    def _answer_waiting(self, member: Member, error: LogstoreError) -> None:
        for reply in (self.members.let_go(member), member.sync_reply):
            if reply is not None:
                self._replies.append((reply, error))
        member.sync_reply = None

    def _seen(self, member: Member, now_ms: int) -> None:
        member.seen(now_ms)
        self._is_due(member.session_end_ms)

    # ----------------------------------------------------------------------------------------------- what comes of it

    def _is_due(self, end_ms: int) -> None:
        if self._due_ms is None or end_ms < self._due_ms:
            self._due_ms = end_ms

    def _store(
        self, go_on: Callable[[LogstoreError | None, int], None], assignments: Mapping[str, bytes] | None = None
    ) -> None:
        """What is stored is the group as it is, with ``assignments`` instead of the members' if they are given."""
        members = [
            member.stored(
                self.protocol, member.assignment if assignments is None else assignments.get(member.member_id, b"")
            )
            for member in self.members
        ]
        assert self._to_store is None
        self._to_store = GroupMetadataValue(
            self.protocol_type or "", self.generation, self.protocol, self.members.leader, -1, tuple(members)
        )
        self._storing.append(go_on)

    def _outcome(self) -> Outcome:
        for end_ms in (self._join_end_ms, self._sync_end_ms):
            if end_ms is not None:
                self._is_due(end_ms)
        outcome = Outcome(self._replies, self._to_store, self._due_ms)
        self._replies, self._to_store, self._due_ms = [], None, None
        return outcome
