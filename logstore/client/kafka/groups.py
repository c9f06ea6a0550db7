"""The consumer groups of a cluster, to look at and to change from outside: as a store's ``groups``, over the wire."""

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as LibPartition

from logstore.client.arguments import as_commits, as_partitions
from logstore.client.kafka.admin import Admin
from logstore.client.kafka.errors import UNKNOWN, Facts, translated
from logstore.errors import GroupNotEmpty, UnknownGroup, UnknownMember, Unsupported
from logstore.format.consumer_protocol import Assignment, encode_assignment
from logstore.format.filename import TopicPartition
from logstore.groups.offsets import check_group_id
from logstore.groups.requests import NO_GENERATION, GroupDescription, MemberDescription, OffsetAndMetadata


class ClusterGroups:
    """See the module. Methods raise InvalidGroupId, InvalidArgument, TimedOut, ClusterFailure, Closed, ForkedProcess
    besides what they name."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def groups(self) -> list[GroupDescription]:
        """All groups, by id."""
        admin, what = self._admin, "list groups"
        future = admin.asking(what, lambda: admin.client.list_consumer_groups(request_timeout=admin.timeout_s))
        found = admin.result(future, what)
        for error in found.errors:
            raise translated(error, what, Facts(timeout_s=admin.timeout_s))
        return [self.describe(group) for group in sorted(listed.group_id for listed in found.valid)]

    def describe(self, group: str) -> GroupDescription:
        """The group; Dead where there is none, as Kafka says it.

        The cluster does not tell the ``generation``: -1, nor what members are subscribed to: empty.
        """
        admin, what = self._admin, f"describe group {check_group_id(group)!r}"
        futures = admin.asking(
            what, lambda: admin.client.describe_consumer_groups([group], request_timeout=admin.timeout_s)
        )
        try:
            found = admin.result(futures[group], what, Facts(group=group))
        except UnknownGroup:
            return GroupDescription(group, "Dead", "", "", NO_GENERATION, ())
        state = _STATES.get(found.state, found.state.name.title())
        members = tuple(_described(member) for member in found.members)
        is_dead = state == "Dead"
        protocol = found.partition_assignor or ""
        return GroupDescription(group, state, "" if is_dead else "consumer", protocol, NO_GENERATION, members)

    def delete(self, group: str) -> None:
        """Forget a group that has no members, with its offsets. Raises UnknownGroup, GroupNotEmpty."""
        admin, what = self._admin, f"delete group {check_group_id(group)!r}"
        futures = admin.asking(
            what, lambda: admin.client.delete_consumer_groups([group], request_timeout=admin.timeout_s)
        )
        try:
            admin.result(futures[group], what, Facts(group=group, member_count=0))
        except GroupNotEmpty:
            raise GroupNotEmpty(group, len(self.describe(group).members)) from None

    def committed(
        self, group: str, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What the group has committed, of these partitions or of all; an unknown group has committed nothing."""
        wanted = None if partitions is None else [LibPartition(*partition) for partition in as_partitions(partitions)]
        if wanted == []:
            return {}
        futures = self._admin.asking(
            f"look up the offsets of group {check_group_id(group)!r}",
            lambda: self._admin.client.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, wanted)], request_timeout=self._admin.timeout_s
            ),
        )
        found = self._admin.result(futures[group], f"look up the offsets of group {group!r}", Facts(group=group))
        offsets = {}
        for place in found.topic_partitions:
            if place.error is not None:
                raise translated(
                    place.error, f"look up the offsets of group {group!r}", Facts(group=group, topic=place.topic)
                )
            if place.offset >= 0:
                offsets[TopicPartition(place.topic, place.partition)] = as_committed(place)
        return offsets

    def commit(self, group: str, offsets: Mapping[tuple[str, int], int | OffsetAndMetadata]) -> None:
        """Set offsets of a group that has no members. Raises GroupNotEmpty, UnknownTopic, OffsetMetadataTooLarge."""
        what, commits = f"set offsets of group {check_group_id(group)!r}", as_commits(offsets)
        if not commits:
            return
        places = [as_place(partition, committed) for partition, committed in commits.items()]
        futures = self._admin.asking(
            what,
            lambda: self._admin.client.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, places)], request_timeout=self._admin.timeout_s
            ),
        )
        (future,) = futures.values()
        facts = Facts(group=group)
        facts.note_metadata(committed.metadata for committed in commits.values())
        try:
            check_committed(self._admin.result(future, what, facts).topic_partitions, what, facts)
        except (UnknownMember, GroupNotEmpty):  # so Kafka says that members own the group
            raise GroupNotEmpty(group, len(self.describe(group).members)) from None

    def delete_offsets(self, group: str, partitions: Iterable[tuple[str, int]]) -> None:
        """Raises Unsupported: confluent-kafka has no such request."""
        raise Unsupported(
            f"with a cluster, deleting single offsets (of group {group!r})",
            "delete the group, or use Kafka's own kafka-consumer-groups.sh --delete-offsets",
        )


_STATES = {
    ConsumerGroupState.PREPARING_REBALANCING: "PreparingRebalance",
    ConsumerGroupState.COMPLETING_REBALANCING: "CompletingRebalance",
}


def _described(member: Any) -> MemberDescription:
    held = () if member.assignment is None else member.assignment.topic_partitions
    assignment = Assignment(tuple(TopicPartition(place.topic, place.partition) for place in held))
    return MemberDescription(
        member.member_id,
        member.group_instance_id or None,
        member.client_id,
        member.host,
        b"",
        encode_assignment(assignment),
    )


def as_place(partition: TopicPartition, committed: OffsetAndMetadata) -> LibPartition:
    """librdkafka's form of an offset to commit."""
    epoch = {} if committed.leader_epoch < 0 else {"leader_epoch": committed.leader_epoch}
    return LibPartition(*partition, committed.offset, metadata=committed.metadata, **epoch)


def as_committed(place: LibPartition) -> OffsetAndMetadata:
    epoch = place.leader_epoch
    return OffsetAndMetadata(place.offset, place.metadata or "", UNKNOWN if epoch is None else epoch)


def check_committed(places: Iterable[LibPartition], what: str, facts: Facts) -> None:
    """Raise for the first partition that was refused."""
    for place in places:
        if place.error is not None:
            facts.topic, facts.partition = place.topic, place.partition
            raise translated(place.error, what, facts)
