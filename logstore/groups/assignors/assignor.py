"""What an assignment strategy is: from who wants which topics, to who gets which partitions.

Pure and without state: what a member held before travels in its subscription. The leader of a group calls ``assign``
in its own thread; the others only call ``subscription``. The bytes are Kafka's, so that members of other makes and
these may be in one group.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from logstore.errors import CorruptData
from logstore.format.consumer_protocol import (
    NO_GENERATION,
    Assignment,
    Subscription,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from logstore.format.filename import TopicPartition
from logstore.groups.requests import JoinedMember


class Member(NamedTuple):
    member_id: str
    instance_id: str | None
    subscription: Subscription
    topics: frozenset[str]

    @property
    def rank(self) -> tuple[bool, str, str]:
        """Static members come first, by their instance ids, so that they get the same again after a restart."""
        return self.instance_id is None, self.instance_id or "", self.member_id


Shares = dict[str, list[TopicPartition]]  # by member id


class Assignor(ABC):
    name: str
    is_cooperative: bool = False  # members keep what they hold during a rebalance, and give up only what is taken away

    def subscription(
        self,
        topics: Iterable[str],
        owned: Iterable[TopicPartition] = (),
        generation: int = NO_GENERATION,
        rack: str | None = None,
    ) -> bytes:
        """What a member that joins says of itself. ``owned``: all that it was last assigned, in ``generation``, whether
        it has given that up for the rebalance or not; the strategy tells what of it the others need to know."""
        return encode_subscription(Subscription(tuple(topics), generation=generation, rack=rack))

    def assign(self, partition_counts: Mapping[str, int], members: Iterable[JoinedMember]) -> dict[str, bytes]:
        """An encoded Assignment for each member, by its id; an empty one for who gets nothing.

        Every partition of a topic that somebody subscribes to is given to one of these subscribers, but for those that
        a cooperative strategy withholds until they were given up. Topics that ``partition_counts`` does not name do not
        exist. Raises CorruptData where a subscription cannot be read.
        """
        counts = {topic: count for topic, count in partition_counts.items() if count > 0}
        shares = self.share(counts, sorted(map(_decoded, members), key=lambda member: member.rank))
        return {member_id: encode_assignment(Assignment(tuple(share))) for member_id, share in shares.items()}

    @abstractmethod
    def share(self, partition_counts: Mapping[str, int], members: list[Member]) -> Shares:
        """``members`` by rank; every count is 1 or more. All members are in what it returns."""


def subscribed_topics(members: Iterable[JoinedMember]) -> frozenset[str]:
    """All that somebody subscribes to: the topics whose partitions ``assign`` needs to be told the count of.

    Raises CorruptData where a subscription cannot be read.
    """
    return frozenset(topic for member in members for topic in _decoded(member).subscription.topics)


def _decoded(member: JoinedMember) -> Member:
    try:
        subscription = decode_subscription(member.subscription)
    except CorruptData as error:
        reason = f"the subscription of member {member.member_id!r} cannot be read: {error.reason}"
        raise CorruptData(reason, error.position) from error
    return Member(member.member_id, member.instance_id, subscription, frozenset(subscription.topics))
