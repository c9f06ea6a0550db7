"""A member of a group, and the roster: who is in, who leads, what all of them support.

Owns no rule of the group's life, that is group.py's, its only caller; knows no clock. Nothing here is kept across a
crash but what group.py stores.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from logstore.format.offsets_topic import GroupMember
from logstore.groups.requests import JoinCallback, JoinRequest, MemberDescription, SyncCallback

# A member that waits for its first join to be answered cannot send heartbeats: it has this long instead, in ms.
NEW_MEMBER_JOIN_TIMEOUT_MS = 300_000


@dataclass(slots=True, eq=False)
class Member:
    """``protocols``: what it supports, the best first: (name, subscription). ``join_reply`` and ``sync_reply`` are
    there while it waits for one. ``is_new``: no join of it was answered yet. ``must_sync``: it was told a generation
    and has not asked for its assignment."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    protocols: tuple[tuple[str, bytes], ...]
    session_timeout_ms: int
    rebalance_timeout_ms: int
    assignment: bytes = b""
    session_end_ms: int = 0
    join_reply: JoinCallback | None = None
    sync_reply: SyncCallback | None = None
    is_new: bool = False
    must_sync: bool = False

    @classmethod
    def joining(cls, member_id: str, request: JoinRequest) -> "Member":
        timeout_ms = rebalance_timeout_ms(request)
        return cls(
            member_id,
            request.instance_id,
            request.client_id,
            request.client_host,
            request.protocols,
            request.session_timeout_ms,
            timeout_ms,
            is_new=True,
        )

    @classmethod
    def loaded(cls, stored: GroupMember, protocol: str) -> "Member":
        """Of what it supports, only the group's protocol was stored."""
        timeout_ms = stored.session_timeout if stored.rebalance_timeout == -1 else stored.rebalance_timeout
        return cls(
            stored.member_id,
            stored.group_instance_id,
            stored.client_id,
            stored.client_host,
            ((protocol, stored.subscription),),
            stored.session_timeout,
            timeout_ms,
            stored.assignment,
        )

    def succeeded_by(self, member_id: str, request: JoinRequest) -> "Member":
        """The same instance come back under a new id: it has this one's assignment, and is waited for by nobody."""
        return replace(
            self,
            member_id=member_id,
            client_id=request.client_id,
            client_host=request.client_host,
            join_reply=None,
            sync_reply=None,
            is_new=False,
            must_sync=False,
        )

    def update(self, request: JoinRequest) -> None:
        self.protocols = request.protocols
        self.session_timeout_ms = request.session_timeout_ms
        self.rebalance_timeout_ms = rebalance_timeout_ms(request)

    def seen(self, now_ms: int) -> None:
        """Its session starts anew."""
        self.session_end_ms = now_ms + (NEW_MEMBER_JOIN_TIMEOUT_MS if self.is_new else self.session_timeout_ms)

    @property
    def protocol_names(self) -> frozenset[str]:
        return frozenset([name for name, _ in self.protocols])

    @property
    def is_static(self) -> bool:
        return self.instance_id is not None

    @property
    def is_joining(self) -> bool:
        return self.join_reply is not None

    @property
    def deadline_ms(self) -> int | None:
        """The end of its session; none while the group lets it wait, except at first: it may be gone unnoticed."""
        is_waiting = self.join_reply is not None or self.sync_reply is not None
        return None if is_waiting and not self.is_new else self.session_end_ms

    def subscription(self, protocol: str | None) -> bytes:
        """Its subscription under ``protocol``; empty where it has none."""
        return next((subscription for name, subscription in self.protocols if name == protocol), b"")

    def stored(self, protocol: str | None, assignment: bytes) -> GroupMember:
        return GroupMember(
            self.member_id,
            self.instance_id,
            self.client_id,
            self.client_host,
            self.rebalance_timeout_ms,
            self.session_timeout_ms,
            self.subscription(protocol),
            assignment,
        )

    def described(self, protocol: str | None) -> MemberDescription:
        """``protocol`` None: the group is between two generations, so what was assigned says nothing."""
        return MemberDescription(
            self.member_id,
            self.instance_id,
            self.client_id,
            self.client_host,
            self.subscription(protocol),
            b"" if protocol is None else self.assignment,
        )


def rebalance_timeout_ms(request: JoinRequest) -> int:
    """JoinGroup v0 has none (-1): there the session timeout stands for it."""
    return request.session_timeout_ms if request.rebalance_timeout_ms < 0 else request.rebalance_timeout_ms


class Roster:
    """The members in the order they came, found by member id or instance id; one of them leads, if there are any."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._member_ids: dict[str, str] = {}  # by instance id
        self._supporters: Counter[str] = Counter()  # how many members support a protocol
        self.joining_count = 0
        self.leader: str | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members.values()))  # so that a loop may remove

    def __contains__(self, member_id: object) -> bool:
        return member_id in self._members

    def get(self, member_id: str) -> Member | None:
        return self._members.get(member_id)

    def of_instance(self, instance_id: str | None) -> Member | None:
        return None if instance_id is None else self._members.get(self._member_ids.get(instance_id, ""))

    def add(self, member: Member) -> None:
        """The first to come leads."""
        self._members[member.member_id] = member
        self._supporters.update(member.protocol_names)
        self.joining_count += member.is_joining
        if member.instance_id is not None:
            self._member_ids[member.instance_id] = member.member_id
        if self.leader is None:
            self.leader = member.member_id

    def remove(self, member: Member) -> None:
        """If it led, the one that came first of the others leads."""
        del self._members[member.member_id]
        self._supporters.subtract(member.protocol_names)
        self.joining_count -= member.is_joining
        if member.instance_id is not None:
            self._member_ids.pop(member.instance_id, None)
        if self.leader == member.member_id:
            self.leader = next(iter(self._members), None)

    def put_in_place_of(self, old: Member, new: Member) -> None:
        """``new`` is the same static instance; it leads if ``old`` did."""
        led = self.leader == old.member_id
        self.remove(old)
        self.add(new)
        if led:
            self.leader = new.member_id

    def elect_joining_leader(self) -> bool:
        """Whether one leads now who is here to do it: the leader, or the first that has joined in its stead."""
        if self.leader is None or not self._members[self.leader].is_joining:
            joining = next((member.member_id for member in self if member.is_joining), None)
            if joining is None:
                return False
            self.leader = joining
        return True

    def update(self, member: Member, request: JoinRequest) -> None:
        """It joins again, and may support other protocols."""
        self._supporters.subtract(member.protocol_names)
        member.update(request)
        self._supporters.update(member.protocol_names)

    def let_wait(self, member: Member, reply: JoinCallback) -> None:
        """Until its join is answered."""
        self.joining_count += not member.is_joining
        member.join_reply = reply

    def let_go(self, member: Member) -> JoinCallback | None:
        """What its join is to be answered by, which is done by the caller; None where it waits for nothing."""
        reply, member.join_reply = member.join_reply, None
        self.joining_count -= reply is not None
        return reply

    @property
    def rebalance_timeout_ms(self) -> int:
        """The slowest member's; 1 at least, so that a time-out always lies ahead."""
        return max((member.rebalance_timeout_ms for member in self._members.values()), default=0) or 1

    def common_protocols(self, but: Member | None = None) -> set[str] | None:
        """The protocols that all members support, ``but``, one of them, not asked; None: there is nobody to ask."""
        own = frozenset() if but is None else but.protocol_names
        others_count = len(self._members) - (but is not None)
        if not others_count:
            return None
        return {name for name, count in self._supporters.items() if count - (name in own) == others_count}

    def vote(self) -> str:
        """The protocol, of those that all support, that is most members' best; of equals, the earliest member's."""
        common = self.common_protocols() or set()
        votes = Counter(next(name for name, _ in member.protocols if name in common) for member in self)
        return votes.most_common(1)[0][0]
