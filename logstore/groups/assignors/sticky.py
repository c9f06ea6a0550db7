"""Balanced, and as it was where that can be: the two sticky strategies (the balancing itself is in ``balance``).

Members say what they held, and since which generation. Where several claim a partition, the one of the newest
generation has it; where two claim it in the same generation, it counts as nobody's. "sticky" sends it as user data: its
members have given up everything before they join. Members of "cooperative-sticky" still hold what they say, in Kafka's
field for that; so a partition that moves is withheld from its new member until its old one, told that it is no longer
its own, has given it up and joins again.
"""

from collections.abc import Iterable, Mapping

from logstore.errors import CorruptData
from logstore.format.consumer_protocol import (
    NO_GENERATION,
    Ownership,
    Subscription,
    decode_cooperative_user_data,
    decode_sticky_user_data,
    encode_cooperative_user_data,
    encode_sticky_user_data,
    encode_subscription,
)
from logstore.format.filename import TopicPartition
from logstore.groups.assignors.assignor import Assignor, Member, Shares
from logstore.groups.assignors.balance import balanced

NOTHING = Ownership(())


class StickyAssignor(Assignor):
    name = "sticky"

    def subscription(
        self,
        topics: Iterable[str],
        owned: Iterable[TopicPartition] = (),
        generation: int = NO_GENERATION,
        rack: str | None = None,
    ) -> bytes:
        previous = Ownership(tuple(owned), generation)
        user_data = None if previous == NOTHING else encode_sticky_user_data(previous)
        return encode_subscription(Subscription(tuple(topics), user_data, (), generation, rack))

    def share(self, partition_counts: Mapping[str, int], members: list[Member]) -> Shares:
        claims = {member.member_id: _previous(member.subscription) for member in members}
        return _balanced(partition_counts, members, owners_of(claims))


class CooperativeStickyAssignor(Assignor):
    name = "cooperative-sticky"
    is_cooperative = True

    def subscription(
        self,
        topics: Iterable[str],
        owned: Iterable[TopicPartition] = (),
        generation: int = NO_GENERATION,
        rack: str | None = None,
    ) -> bytes:
        user_data = encode_cooperative_user_data(generation)
        return encode_subscription(Subscription(tuple(topics), user_data, tuple(owned), generation, rack))

    def share(self, partition_counts: Mapping[str, int], members: list[Member]) -> Shares:
        claims = {member.member_id: _held(member.subscription) for member in members}
        owners = owners_of(claims)
        claimants: dict[TopicPartition, set[str]] = {}
        for member_id, claim in claims.items():
            for partition in claim.partitions:
                claimants.setdefault(partition, set()).add(member_id)

        def may_take(member_id: str, partition: TopicPartition) -> bool:
            return owners.get(partition) == member_id or claimants.get(partition, set()) <= {member_id}

        shares = _balanced(partition_counts, members, owners)
        return {
            member_id: [partition for partition in share if may_take(member_id, partition)]
            for member_id, share in shares.items()
        }


def owners_of(claims: Mapping[str, Ownership]) -> dict[TopicPartition, str]:
    """Whose each partition is, by the claims of members: of the newest generation, if only one says so."""
    newest: dict[TopicPartition, tuple[int, str | None]] = {}
    for member_id, claim in claims.items():
        for partition in dict.fromkeys(claim.partitions):  # named twice, it is claimed once
            generation, _ = newest.get(partition, (NO_GENERATION - 1, None))
            if claim.generation > generation:
                newest[partition] = claim.generation, member_id
            elif claim.generation == generation:
                newest[partition] = generation, None
    return {partition: owner for partition, (_, owner) in newest.items() if owner is not None}


def _balanced(
    partition_counts: Mapping[str, int], members: list[Member], owners: Mapping[TopicPartition, str]
) -> Shares:
    return balanced(partition_counts, {member.member_id: member.topics for member in members}, owners)


def _previous(subscription: Subscription) -> Ownership:
    """From the user data of "sticky"; nothing where there is none, or what cannot be read, as Kafka has it."""
    if not subscription.user_data:
        return NOTHING
    try:
        return decode_sticky_user_data(subscription.user_data)
    except CorruptData:
        return NOTHING


def _held(subscription: Subscription) -> Ownership:
    """Members of version 0 and 1 of the protocol say the generation in their user data."""
    generation = subscription.generation
    if generation == NO_GENERATION and subscription.user_data:
        try:
            generation = decode_cooperative_user_data(subscription.user_data)
        except CorruptData:
            generation = NO_GENERATION
    return Ownership(subscription.owned, generation)
