"""Random groups for the assignors, and what to ask of their assignments."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from logstore.format.consumer_protocol import decode_assignment
from logstore.format.filename import TopicPartition
from logstore.groups.assignors import Assignor
from logstore.groups.requests import JoinedMember

Share = dict[str, set[TopicPartition]]


class Joining(NamedTuple):
    """A member as a test has it, before an assignor encodes its subscription."""

    member_id: str
    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    generation: int = -1
    instance_id: str | None = None


class Group(NamedTuple):
    partition_counts: dict[str, int]
    members: list[Joining]

    @property
    def owned(self) -> Share:
        return {member.member_id: set(member.owned) for member in self.members}


def joined(assignor: Assignor, members: Iterable[Joining]) -> list[JoinedMember]:
    return [
        JoinedMember(
            member.member_id, member.instance_id, assignor.subscription(member.topics, member.owned, member.generation)
        )
        for member in members
    ]


def assign(assignor: Assignor, partition_counts: Mapping[str, int], members: Sequence[Joining]) -> Share:
    """Checks that none is given twice, nor to a member that does not subscribe."""
    encoded = assignor.assign(partition_counts, joined(assignor, members))
    lists = {member_id: decode_assignment(assignment).partitions for member_id, assignment in encoded.items()}
    assert lists.keys() == {member.member_id for member in members}
    given = [partition for partitions in lists.values() for partition in partitions]
    assert len(given) == len(set(given)) and set(given) <= subscribed(partition_counts, members)
    for member in members:
        assert {topic for topic, _ in lists[member.member_id]} <= set(member.topics)
    return {member_id: set(partitions) for member_id, partitions in lists.items()}


def subscribed(partition_counts: Mapping[str, int], members: Iterable[Joining]) -> set[TopicPartition]:
    topics = {topic for member in members for topic in member.topics}
    return {TopicPartition(t, p) for t in topics & partition_counts.keys() for p in range(partition_counts[t])}


def partitions_of(share: Share) -> set[TopicPartition]:
    return set[TopicPartition]().union(*share.values())


def unevenness(share: Share) -> int:
    """The smaller the more even."""
    return sum(len(partitions) ** 2 for partitions in share.values())


def kept(share: Share, before: Share) -> int:
    """How many partitions are still with who had them."""
    return sum(len(partitions & before.get(member_id, set())) for member_id, partitions in share.items())


def after(members: Iterable[Joining], share: Share, generation: int) -> list[Joining]:
    """The members as they join again with what they were given."""
    return [member._replace(owned=tuple(sorted(share[member.member_id])), generation=generation) for member in members]


@st.composite
def groups(draw: st.DrawFn, *, equal: bool = False, owning: bool = True) -> Group:
    """Of 1 to 6 members and 1 to 4 topics, also one that does not exist; ``equal``: all want the same topics;
    ``owning``: with claims to partitions, no two to the same in one generation."""
    names = ("a", "b", "c", "d")[: draw(st.integers(1, 4))]
    counts = {name: draw(st.integers(1, 7)) for name in names}
    topics = st.lists(st.sampled_from([*names, "gone"]), min_size=1, max_size=5, unique=True).map(tuple)
    common = draw(topics)
    ids = draw(st.lists(st.text("xyz", min_size=1, max_size=3), min_size=1, max_size=6, unique=True))
    instances = draw(st.lists(st.none() | st.text("pq", min_size=1, max_size=3), min_size=len(ids), max_size=len(ids)))
    known = [TopicPartition(name, partition) for name in names for partition in range(counts[name] + 1)]
    owners = {partition: draw(st.integers(-1, len(ids) - 1)) if owning else -1 for partition in known}
    seen = set[str]()
    members = []
    for index, (member_id, instance_id) in enumerate(zip(ids, instances)):
        owned = tuple(partition for partition, owner in owners.items() if owner == index)
        own = instance_id if instance_id not in seen else None
        seen |= {own} if own else set()
        generation = draw(st.integers(0, 2)) if owned else -1
        members.append(Joining(member_id, common if equal else draw(topics), owned, generation, own))
    return Group(counts, members)
