"""How far a group is behind: what it has committed, against the ends of the logs. Looks only, at what the caller gives,
so it serves an open directory as well as one of another process."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from logstore.errors import CorruptData, UnknownPartition, UnknownTopic
from logstore.format.consumer_protocol import decode_assignment
from logstore.format.filename import TopicPartition
from logstore.groups.ends import PartitionEnds
from logstore.groups.offsets import CONSUMER_PROTOCOL
from logstore.groups.requests import GroupDescription, MemberDescription, OffsetAndMetadata

ViewOf = Callable[[str, int], PartitionEnds]  # raises UnknownTopic, UnknownPartition


class PartitionLag(NamedTuple):
    """``committed`` None: nothing was; ``log_end_offset`` None: there is no such partition (any more, or not here);
    ``lag``, in offsets, None: one of the two is not known; ``member``: who has the partition."""

    topic: str
    partition: int
    committed: OffsetAndMetadata | None
    log_end_offset: int | None
    lag: int | None
    member: MemberDescription | None


def lags(
    group: GroupDescription, committed: Mapping[TopicPartition, OffsetAndMetadata], view_of: ViewOf
) -> list[PartitionLag]:
    """Of each partition that the group has committed or that a member has, in order."""
    owners = {partition: member for member in group.members for partition in assigned(group, member) or ()}
    found = []
    for partition in sorted(committed.keys() | owners.keys()):
        commit = committed.get(partition)
        end = _end(view_of, partition)
        lag = None if commit is None or end is None else max(end - commit.offset, 0)
        found.append(PartitionLag(*partition, commit, end, lag, owners.get(partition)))
    return found


def assigned(group: GroupDescription, member: MemberDescription) -> tuple[TopicPartition, ...] | None:
    """The partitions of a consumer; None of a member of another kind, or where its assignment cannot be read."""
    if group.protocol_type != CONSUMER_PROTOCOL:
        return None
    try:
        return decode_assignment(member.assignment).partitions
    except CorruptData:
        return None


def _end(view_of: ViewOf, partition: TopicPartition) -> int | None:
    try:
        return view_of(*partition).log_end_offset
    except (UnknownTopic, UnknownPartition):
        return None
