"""A consumer's membership in its group: joining, getting partitions, giving them up; the client's side of the protocol.

::

    OUT --join--> JOINING --told the generation; the leader hands out--> SYNCING --told its partitions--> STABLE
     ^               |                                                      |                               |
     +---------------+--- an error, or the group rebalances: what must be given up is, before joining again +

The consumer's thread moves it, in ``step``, and calls the listener. What others have to say (replies of the
coordinator, in any thread; a heartbeat that was refused) goes to an inbox, and rings. What the inbox holds is taken out
when it has been dealt with: a Ctrl-C between leaves it there, and to deal with it again does no harm.

Eager strategies give everything up before they join again; where all of them are cooperative, a member keeps what it
has, goes on reading, gives up what it is no longer assigned, and joins once more so that this is given to others.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import NamedTuple

from logstore.client.embedded.consumer.bell import Bell
from logstore.client.embedded.consumer.heartbeats import Beating, Heartbeats, Seat
from logstore.client.embedded.consumer.holdings import Holdings
from logstore.client.embedded.consumer.offsets import Identity, Offsets
from logstore.client.embedded.consumer.subscription import Subscription
from logstore.config import ConsumerConfig
from logstore.errors import (
    Closed,
    FencedInstance,
    IllegalGeneration,
    LogstoreError,
    MemberIdRequired,
    PollIntervalExceeded,
    RebalanceInProgress,
    StorageFailure,
    UnknownMember,
)
from logstore.format.consumer_protocol import decode_assignment
from logstore.format.filename import TopicPartition
from logstore.groups.assignors import ASSIGNORS, subscribed_topics
from logstore.groups.coordinator import GroupCoordinator
from logstore.groups.requests import (
    NO_GENERATION,
    NO_MEMBER_ID,
    JoinReply,
    JoinRequest,
    LeavingMember,
    SyncReply,
    SyncRequest,
)

PROTOCOL_TYPE = "consumer"
CLIENT_HOST = "in-process"

MemberState = Enum("MemberState", ["OUT", "JOINING", "SYNCING", "STABLE"])
OUT, JOINING, SYNCING, STABLE = MemberState


@dataclass(eq=False)
class _Attempt:
    """A join and what comes of it, up to the next one: what is said of an older one does not matter any more."""

    topics: frozenset[str] = frozenset()
    gives_up: bool = False  # it has led to less than there was before
    is_told_to_rejoin: bool = False
    is_silent: bool = False  # the heartbeats have nothing more to tell
    all_topics: frozenset[str] = frozenset()  # the leader's: what all members together are subscribed to
    handed_out: dict[str, int] | None = None  # the leader's: partitions by topic, when it handed them out


class _News(NamedTuple):
    attempt: _Attempt
    value: JoinReply | SyncReply | LogstoreError


class Membership(Beating):
    """See the module. ``polled_s`` is when the consumer polled last, infinity while it does."""

    def __init__(
        self,
        group: str,
        config: ConsumerConfig,
        groups: Callable[[], GroupCoordinator],
        subscription: Subscription,
        holdings: Holdings,
        offsets: Offsets,
        bell: Bell,
        heartbeats: Heartbeats,
    ) -> None:
        self.seat = Seat(group, partial(_leave, groups, group, config.group_instance_id))
        self.subscription = subscription
        self.polled_s = time.monotonic()
        self.due_s = self.polled_s + config.heartbeat_interval_ms / 1000
        self._config = config
        self._groups = groups
        self._holdings = holdings
        self._offsets = offsets
        self._bell = bell
        self._heartbeats = heartbeats
        self._assignors = [ASSIGNORS[name] for name in config.partition_assignment_strategy]
        self._is_cooperative = all(assignor.is_cooperative for assignor in self._assignors)
        self._instance_id = config.group_instance_id or None
        self._state = OUT
        self._inbox: deque[_News] = deque()
        self._attempt = _Attempt()
        self._must_tell_others = True  # that the next join begins a rebalance
        self._fenced: FencedInstance | None = None
        self._last_assigned: tuple[TopicPartition, ...] = ()
        self._last_generation = NO_GENERATION

    # ------------------------------------------------------------------------------------- in the consumer's thread

    def step(self) -> None:
        """Do what can be done without waiting. Raises what the consumer must be told, and what its listener raises."""
        if self._fenced is not None:
            raise self._fenced.with_traceback(None)
        while True:
            self._read_inbox()
            if self.subscription.has_changed:
                self.subscription.has_changed = False
                self._look_at_topics()
            if self._state is not OUT:
                return
            self._join()
            if not self._inbox:
                return

    def _read_inbox(self) -> None:
        while self._inbox:
            news = self._inbox[0]
            try:
                self._take_note(news)
            except Exception:
                self._take_out(news)
                raise
            self._take_out(news)

    def _take_out(self, news: _News) -> None:
        if self._inbox and self._inbox[0] is news:  # else a listener has polled, and that has dealt with it
            self._inbox.popleft()

    def resubscribe(self, subscription: Subscription) -> None:
        """From now on these topics."""
        self.subscription = subscription
        self._rejoin()

    def leave(self, patience_s: float) -> None:
        """Give up all partitions and let the others have them at once, having waited, if need be and so long at most,
        until it ``may_leave``. A static member is expected back within its session, and keeps its partitions until that
        is over."""
        deadline_s = time.monotonic() + patience_s
        try:
            try:
                while not self.may_leave() and self._bell.wait(deadline_s - time.monotonic()):
                    pass
            finally:
                self._holdings.revoke(self._holdings.partitions)
        finally:
            self._state = OUT
            self._attempt = _Attempt()
            self._offsets.is_joining = False
            if self.seat.member_id and self._instance_id is None:
                self._leave_group("the consumer is closed")
            self.seat.member_id = NO_MEMBER_ID
            self._offsets.identity = Identity()
            self._heartbeats.discard(self)

    def _leave_group(self, reason: str) -> None:
        leaving = LeavingMember(self.seat.member_id, reason=reason)
        self._heartbeats.begin(partial(self._groups().leave, self.seat.group, [leaving])).wait()
        self._heartbeats.notify_others(self.seat)

    def may_leave(self) -> bool:
        """Commit what was read, if that is automatic: False where the bell is to be waited for, to try again. For a
        cooperative member may hold partitions in the middle of a rebalance, when the group takes no commits."""
        while not self._holdings.commit_if_automatic() and self._state in (JOINING, SYNCING):
            if not self._inbox:
                return False
            self._read_inbox()
        return True

    def heed(self, error: LogstoreError) -> None:
        """What a commit was refused with may say that the group has gone on."""
        if self._state is STABLE and isinstance(error, RebalanceInProgress):
            self._tell(self._attempt, error)
        if isinstance(error, UnknownMember | IllegalGeneration | FencedInstance):
            self._tell(self._attempt, error)

    def _take_note(self, news: _News) -> None:
        attempt, value = news
        if attempt is not self._attempt:
            return
        if isinstance(value, JoinReply):
            if self._state is JOINING:
                self._joined(value)
        elif isinstance(value, SyncReply):
            if self._state is SYNCING:
                self._synced(value)
        else:
            self._refused(value)

    def _refused(self, error: LogstoreError) -> None:
        """A join, a sync, a heartbeat or a commit was."""
        match error:
            case RebalanceInProgress():
                self._rejoin(tells_others=False)
            case MemberIdRequired():
                self.seat.member_id = error.member_id
                self._state = OUT
            case UnknownMember() | IllegalGeneration():
                self._lose(keeps_id=isinstance(error, IllegalGeneration))
            case PollIntervalExceeded() | FencedInstance():
                if isinstance(error, FencedInstance):
                    self._fenced = error
                    self._heartbeats.discard(self)
                try:
                    self._lose()
                finally:
                    raise error
            case _:  # GroupFull, InconsistentProtocol, StorageFailure, Closed, …: the next poll tries again
                self._rejoin()
                raise error

    def _rejoin(self, tells_others: bool = True) -> None:
        """Join again at the next step, having given up what must be given up for that."""
        self._state = OUT
        self._must_tell_others = tells_others
        if not self._is_cooperative:
            self._holdings.revoke(self._holdings.partitions)

    def _lose(self, keeps_id: bool = False) -> None:
        self._state = OUT
        self._must_tell_others = True
        if not keeps_id:
            self.seat.member_id = NO_MEMBER_ID
        self._last_assigned, self._last_generation = (), NO_GENERATION
        self._holdings.lose()

    def _look_at_topics(self) -> None:
        """A topic has come, gone, or grown. Members say so that are subscribed to other topics now, and the leader."""
        self._holdings.let_go_of_deleted()
        if self._state is OUT:
            return
        if self._state is STABLE:  # a topic was deleted and made again
            again = set(self._last_assigned) - self._holdings.partitions
            self._holdings.take_on(again, self.subscription.is_younger)
        attempt = self._attempt
        if self.subscription.topics() != attempt.topics:
            self._rejoin()
        elif attempt.handed_out is not None and self._state is STABLE:
            if attempt.handed_out != self.subscription.counts(attempt.all_topics):
                self._rejoin()
        elif self._state is not STABLE:
            self.subscription.has_changed = True  # once it is stable, it will be clear whether that matters

    # ---- joining

    def _join(self) -> None:
        topics = self.subscription.topics()
        protocols = []
        for assignor in self._assignors:
            # In an eager group of cooperative strategies everything was given up: nothing is to be withheld.
            owned = self._last_assigned if self._is_cooperative or not assignor.is_cooperative else ()
            subscription = assignor.subscription(sorted(topics), owned, self._last_generation)
            protocols.append((assignor.name, subscription))
        self._attempt = _Attempt(topics)
        request = JoinRequest(
            self.seat.group,
            self.seat.member_id,
            PROTOCOL_TYPE,
            tuple(protocols),
            self._config.session_timeout_ms,
            self._config.max_poll_interval_ms,
            self._instance_id,
            self._config.client_id,
            CLIENT_HOST,
            requires_known_member_id=True,  # so that a join that Ctrl-C interrupts leaves no member behind
        )
        self._heartbeats.add(self)
        self._offsets.is_joining = True
        errand = self._heartbeats.begin(partial(self._groups().join, request, partial(self._tell, self._attempt)))
        self._state = JOINING
        errand.wait()
        if self._must_tell_others and (self.seat.member_id or self._instance_id):
            self._heartbeats.notify_others(self.seat)

    def _joined(self, reply: JoinReply) -> None:
        self.seat.member_id = reply.member_id
        self._offsets.identity = Identity(reply.member_id, reply.generation, self._instance_id)
        self._offsets.is_joining = False
        self._must_tell_others = False
        shares: dict[str, bytes] = {}
        if reply.leader == reply.member_id:
            try:
                shares = self._hand_out(reply)
            except LogstoreError:
                self._rejoin()
                raise
        request = SyncRequest(
            self.seat.group,
            reply.member_id,
            reply.generation,
            tuple(shares.items()),
            self._instance_id,
            reply.protocol_type,
            reply.protocol,
        )
        self.due_s = time.monotonic() + self._config.heartbeat_interval_ms / 1000
        errand = self._heartbeats.begin(partial(self._groups().sync, request, partial(self._tell, self._attempt)))
        self._state = SYNCING
        errand.wait()

    def _hand_out(self, reply: JoinReply) -> dict[str, bytes]:
        """The leader's part: who gets what. Raises CorruptData for a subscription that cannot be read."""
        attempt = self._attempt
        attempt.all_topics = subscribed_topics(reply.members)
        attempt.handed_out = self.subscription.counts(attempt.all_topics)
        if reply.skip_assignment:
            attempt.handed_out = self._counts_assigned()
            self.subscription.has_changed = True  # a look is due: topics may have changed while this member was away
            return {}
        assignor = ASSIGNORS[reply.protocol]
        return assignor.assign(attempt.handed_out, reply.members)

    def _counts_assigned(self) -> dict[str, int]:
        """How many partitions of each topic the members have."""
        counts: dict[str, int] = {}
        for member in self._groups().describe(self.seat.group).members:
            for partition in decode_assignment(member.assignment).partitions:
                counts[partition.topic] = counts.get(partition.topic, 0) + 1
        return counts

    def _synced(self, reply: SyncReply) -> None:
        assigned = decode_assignment(reply.assignment).partitions
        self._last_assigned, self._last_generation = assigned, self._offsets.identity.generation
        held = self._holdings.partitions
        gone = held.difference(assigned)
        self._attempt.gives_up |= bool(gone)
        try:
            try:
                self._holdings.revoke(gone)
            finally:
                self._holdings.take_on(set(assigned) - held, self.subscription.is_younger)
        except StorageFailure:
            self._rejoin()
            raise
        except Exception:
            self._settle()
            raise
        self._settle()

    def _settle(self) -> None:
        """Only now: had Ctrl-C come before, the reply would be dealt with again."""
        self._state = STABLE
        if self._attempt.gives_up:
            self._rejoin()  # so that others get it

    # --------------------------------------------------------------------------------------------------- in any thread

    def _tell(self, attempt: _Attempt, value: JoinReply | SyncReply | LogstoreError) -> None:
        self._inbox.append(_News(attempt, value))
        self._bell.tell()

    def beat(self, now_s: float) -> None:
        """Be heard of by the group, and hear what it has to say; leave it if the consumer does not poll any more."""
        self.due_s = now_s + self._config.heartbeat_interval_ms / 1000
        attempt, state, identity = self._attempt, self._state, self._offsets.identity
        if state is OUT or attempt.is_silent:
            return
        if now_s - self.polled_s > self._config.max_poll_interval_ms / 1000:
            self._expire(attempt)
            return
        self.due_s = min(self.due_s, self.polled_s + self._config.max_poll_interval_ms / 1000 + 0.001)
        if state is JOINING:
            return  # its join is being waited for, or is about to be answered
        try:
            self._groups().heartbeat(self.seat.group, *identity)
        except RebalanceInProgress as error:
            if not attempt.is_told_to_rejoin:
                attempt.is_told_to_rejoin = True
                self._tell(attempt, error)
        except LogstoreError as error:
            attempt.is_silent = True
            self._tell(attempt, error)

    def _expire(self, attempt: _Attempt) -> None:
        """The consumer has not polled for too long. A static member stays until its session is over."""
        attempt.is_silent = True
        try:
            if self._instance_id is None and self.seat.member_id:
                self._leave_group("max.poll.interval.ms is over")
        except Closed as error:
            self._tell(attempt, error)
            return
        self._tell(attempt, PollIntervalExceeded(self.seat.group, self._config.max_poll_interval_ms))


def _leave(groups: Callable[[], GroupCoordinator], group: str, instance_id: str, member_id: str) -> None:
    """What is left to do for a member that nobody has any more. A static one is expected back."""
    if not instance_id:
        groups().leave(group, [LeavingMember(member_id, reason="nobody has the consumer any more")])
