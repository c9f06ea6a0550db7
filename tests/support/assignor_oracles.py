"""Other makes' assignors: Apache Kafka's (what they made of some groups is on file), kafka-python's and aiokafka's."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

from assignments import Group, Joining, Share
from logstore.format.filename import TopicPartition
from logstore.groups.assignors import Assignor

KAFKA = Path(__file__).parent.parent / "data" / "kafka-4.1.1" / "assignments.json"


class Cluster(NamedTuple):
    """As much of kafka-python's and aiokafka's metadata as their assignors ask for."""

    partition_counts: Mapping[str, int]

    def topics(self) -> set[str]:
        return set(self.partition_counts)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        count = self.partition_counts.get(topic)
        return None if count is None else set(range(count))


class KafkaPythonMember(NamedTuple):
    member_id: str
    group_instance_id: str | None
    metadata: ConsumerProtocolSubscription


def kafka_python(theirs: Any, ours: Assignor, group: Group) -> Share:
    """What kafka-python's assignor makes of the subscriptions that ours encoded. Static members come first: it sorts
    them only where they do."""
    members = [
        KafkaPythonMember(
            member.member_id,
            member.instance_id,
            ConsumerProtocolSubscription.decode(ours.subscription(member.topics, member.owned, member.generation)),
        )
        for member in sorted(group.members, key=lambda member: member.instance_id is None)
    ]
    return shares_of(theirs.assign(Cluster(group.partition_counts), members))


def shares_of(assignments: Mapping[str, Any]) -> Share:
    return {
        member_id: {TopicPartition(*partition) for partition in assignment.partitions()}
        for member_id, assignment in assignments.items()
    }


@cache
def kafka_assignments() -> list[tuple[Group, dict[str, Share]]]:
    cases = json.loads(KAFKA.read_text(encoding="utf-8"))
    return [(_group(case), {name: _share(share) for name, share in case["kafka"].items()}) for case in cases]


def _group(case: dict[str, Any]) -> Group:
    return Group(
        case["partition_counts"],
        [
            Joining(
                member["member_id"],
                tuple(member["topics"]),
                tuple(TopicPartition(*partition) for partition in member["owned"]),
                member["generation"],
                member["instance_id"],
            )
            for member in case["members"]
        ],
    )


def _share(share: dict[str, list[tuple[str, int]]]) -> Share:
    return {member_id: {TopicPartition(*each) for each in partitions} for member_id, partitions in share.items()}
