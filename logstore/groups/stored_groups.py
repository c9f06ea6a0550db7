"""Consumer groups as ``__consumer_offsets`` has them, to look at without owning the directory.

It shows what was stored: a group with members is Stable here, though its owner may be in the middle of a rebalance, or
gone. The calls are those of the coordinator that only look.
"""

from collections.abc import Iterable, Mapping

from logstore.format.filename import TopicPartition
from logstore.format.offsets_topic import GroupMetadataValue
from logstore.groups.consumer.described import as_group_description
from logstore.groups.consumer.known_group import KnownGroup
from logstore.groups.group import GroupState
from logstore.groups.offsets import check_group_id, check_partitions, fetched
from logstore.groups.offsets_log import StoredGroup
from logstore.groups.requests import NO_GENERATION, GroupDescription, MemberDescription, OffsetAndMetadata


class StoredGroups:
    """All of it was read when this was made."""

    def __init__(self, groups: Mapping[str, StoredGroup]) -> None:
        self._groups = groups

    def groups(self) -> list[GroupDescription]:
        """All groups, by id."""
        return [self.describe(group) for group in sorted(self._groups)]

    def describe(self, group: str) -> GroupDescription:
        """A group that nobody knows is Dead, as in Kafka. Raises InvalidGroupId."""
        stored = self._groups.get(check_group_id(group))
        if stored is None:
            return GroupDescription(group, GroupState.DEAD.value, "", "", NO_GENERATION, ())
        if stored.records:
            known = KnownGroup(group)
            known.apply(sorted(stored.records, key=lambda record: record[0].kind))
            return as_group_description(known)
        if stored.metadata is None:
            return GroupDescription(group, GroupState.EMPTY.value, "", "", 0, ())
        return _described(group, stored.metadata)

    def committed(
        self, group: str, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What the group has committed, of ``partitions`` or all; those of which it has nothing are not in it."""
        stored = self._groups.get(check_group_id(group))
        commits = {} if stored is None else stored.commits
        keys = commits if partitions is None else check_partitions(partitions)
        return {key: fetched(commits[key]) for key in keys if key in commits}

    def committed_of(self, topic: str, partition: int) -> dict[str, int]:
        """What each group that committed anything of a partition has committed, by group."""
        key = TopicPartition(topic, partition)
        found = [(group, stored.commits.get(key)) for group, stored in self._groups.items()]
        return {group: value.offset for group, value in found if value is not None}


def _described(group: str, metadata: GroupMetadataValue) -> GroupDescription:
    members = tuple(
        [
            MemberDescription(
                member.member_id,
                member.group_instance_id,
                member.client_id,
                member.client_host,
                member.subscription,
                member.assignment,
            )
            for member in metadata.members
        ]
    )
    state = GroupState.STABLE if members else GroupState.EMPTY
    return GroupDescription(
        group, state.value, metadata.protocol_type, metadata.protocol or "", metadata.generation, members
    )
