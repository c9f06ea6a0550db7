"""What members ask of a group and are told: the fields of Kafka's two group protocols, as values.

A request carries its group's id; a reply that is an error is raised, or given to the reply's callback, as the exception
that says so. Times are in milliseconds.
"""

from collections.abc import Callable
from typing import NamedTuple

from logstore.errors import LogstoreError
from logstore.format.group_records import CurrentAssignment, MemberMetadata, Partitions

NO_GENERATION = -1
NO_MEMBER_ID = ""
CLASSIC, CONSUMER = "classic", "consumer"  # the kinds of groups


class JoinRequest(NamedTuple):
    """``protocols``: what the member supports, the best first: (name of an assignor, its subscription).

    ``member_id`` is empty on the first join. ``requires_known_member_id``: one that comes without an id is told one
    by MemberIdRequired, and joins again with it (KIP-394; JoinGroup v4 and later); else it is taken in at once.
    ``knows_skip_assignment``: it understands that field of the reply (KIP-814; JoinGroup v9 and later).
    """

    group: str
    member_id: str
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    session_timeout_ms: int
    rebalance_timeout_ms: int
    instance_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    requires_known_member_id: bool = False
    reason: str = ""
    knows_skip_assignment: bool = True


class JoinedMember(NamedTuple):
    member_id: str
    instance_id: str | None
    subscription: bytes


class JoinReply(NamedTuple):
    """``members`` is filled for the leader only, who hands out the partitions; ``skip_assignment``: it need not, since
    a static leader came back and the group goes on as it was (KIP-814). One that does not know the field is told that
    its former self leads."""

    generation: int
    protocol_type: str
    protocol: str
    leader: str
    member_id: str
    members: tuple[JoinedMember, ...] = ()
    skip_assignment: bool = False


class SyncRequest(NamedTuple):
    """``assignments``: from the leader only: member id and assignment. ``protocol_type`` and ``protocol`` are checked
    where they are given (SyncGroup v5)."""

    group: str
    member_id: str
    generation: int
    assignments: tuple[tuple[str, bytes], ...] = ()
    instance_id: str | None = None
    protocol_type: str | None = None
    protocol: str | None = None


class SyncReply(NamedTuple):
    protocol_type: str
    protocol: str
    assignment: bytes


class LeavingMember(NamedTuple):
    """By its id, or a static one by its instance id with an empty member id."""

    member_id: str
    instance_id: str | None = None
    reason: str = ""


class OffsetAndMetadata(NamedTuple):
    """A committed offset: the one to go on at. ``leader_epoch`` -1: not known."""

    offset: int
    metadata: str = ""
    leader_epoch: int = -1


class MemberDescription(NamedTuple):
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    subscription: bytes
    assignment: bytes


class GroupDescription(NamedTuple):
    """``state`` is Kafka's name: Empty, PreparingRebalance, CompletingRebalance, Stable or Dead; of a ``kind`` that is
    "consumer" and not "classic", Empty, Assigning, Reconciling, Stable or Dead."""

    group: str
    state: str
    protocol_type: str
    protocol: str
    generation: int
    members: tuple[MemberDescription, ...]
    kind: str = CLASSIC


class GroupSummary(NamedTuple):
    """What is known of a group without a look at what its members have; the fields of ``GroupDescription``."""

    group: str
    state: str
    protocol_type: str
    kind: str
    member_count: int


JoinCallback = Callable[[JoinReply | LogstoreError], None]
SyncCallback = Callable[[SyncReply | LogstoreError], None]


# ------------------------------------------------------------------------------------------ consumer groups (KIP-848)

JOINING_EPOCH, LEAVING_EPOCH, STATIC_LEAVING_EPOCH = 0, -1, -2
NO_REBALANCE_TIMEOUT_MS = -1


class ConsumerHeartbeat(NamedTuple):
    """What a member of a consumer group says; what it leaves None is as it said before. ``epoch`` is the one it was
    told last, or one of the three above; ``owned``: the partitions that it holds."""

    group: str
    member_id: str
    epoch: int
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = NO_REBALANCE_TIMEOUT_MS
    topics: tuple[str, ...] | None = None
    regex: str | None = None
    assignor: str | None = None
    owned: Partitions | None = None
    client_id: str = ""
    client_host: str = ""


class ConsumerReply(NamedTuple):
    """``assigned``: all that the member is to hold; None: as it was told before. The next heartbeat is due after
    ``heartbeat_interval_ms``; 0: none is."""

    member_id: str
    epoch: int
    assigned: Partitions | None = None
    heartbeat_interval_ms: int = 0


class ConsumerMemberDescription(NamedTuple):
    member_id: str
    metadata: MemberMetadata
    current: CurrentAssignment
    target: Partitions


class ConsumerGroupDescription(NamedTuple):
    """``state`` is Kafka's name: Empty, Assigning, Reconciling, Stable or Dead."""

    group: str
    state: str
    epoch: int
    assignment_epoch: int
    assignor: str
    members: tuple[ConsumerMemberDescription, ...]
