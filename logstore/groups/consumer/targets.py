"""The strategies by which the coordinator hands out the partitions of a consumer group: pure functions.

They go by the names that Kafka's coordinator has for them: "uniform" gives everyone as many as the others and moves as
few as it can; "range" gives each a run of every topic's partitions, the same numbers of topics of one size.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from logstore.format.consumer_protocol import Subscription
from logstore.format.filename import TopicPartition
from logstore.format.group_records import KnownTopic, Partitions
from logstore.groups.assignors.assignor import Member
from logstore.groups.assignors.balance import balanced
from logstore.groups.assignors.range import RangeAssignor

DEFAULT_TARGET_ASSIGNOR = "uniform"


class Candidate(NamedTuple):
    """A member that wants partitions of ``topics``; ``target``: what it was to have so far."""

    instance_id: str | None
    topics: frozenset[str]
    target: Partitions


Shares = Mapping[str, list[TopicPartition]]  # by member id
_Strategy = Callable[[Mapping[str, int], Mapping[str, Candidate], Mapping[UUID, str]], Shares]


def targets(
    assignor: str, topics: Mapping[str, KnownTopic], candidates: Mapping[str, Candidate]
) -> dict[str, Partitions]:
    """What each member is to have, by its id: each partition of a topic that anybody wants is one member's."""
    counts = {topic.name: topic.partition_count for topic in topics.values() if topic.partition_count > 0}
    names = {topic.topic_id: topic.name for topic in topics.values()}
    shares = TARGET_ASSIGNORS[assignor](counts, candidates, names)
    return {
        member_id: frozenset([(topics[topic].topic_id, number) for topic, number in share])
        for member_id, share in shares.items()
    }


def preferred_assignor(assignors: Iterable[str | None]) -> str:
    """What most members ask for, of those that ask."""
    votes = Counter(assignor for assignor in assignors if assignor is not None)
    return votes.most_common(1)[0][0] if votes else DEFAULT_TARGET_ASSIGNOR


def _uniform(counts: Mapping[str, int], candidates: Mapping[str, Candidate], names: Mapping[UUID, str]) -> Shares:
    owners = {
        TopicPartition(names[topic_id], number): member_id
        for member_id, candidate in candidates.items()
        for topic_id, number in candidate.target
        if topic_id in names
    }
    wanted = {member_id: candidate.topics for member_id, candidate in candidates.items()}
    return balanced(counts, wanted, owners)


def _range(counts: Mapping[str, int], candidates: Mapping[str, Candidate], names: Mapping[UUID, str]) -> Shares:
    members = [
        Member(member_id, candidate.instance_id, Subscription(()), candidate.topics)
        for member_id, candidate in candidates.items()
    ]
    return RangeAssignor().share(counts, sorted(members, key=lambda member: member.rank))


TARGET_ASSIGNORS: Mapping[str, _Strategy] = MappingProxyType({"uniform": _uniform, "range": _range})
