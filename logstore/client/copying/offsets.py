"""Carrying over what groups have committed: each offset becomes the one behind as many records in the target.

A group's offset in the target is set where it has none, or one that an earlier copy has set, which is older; it is left
alone where the group has members there, or has gone on by itself. What is about to be committed is noted first, so that
after a crash it is known for ours.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from logstore.client.copying.ends import SourceGroups, Target
from logstore.client.copying.notes import Notes
from logstore.client.copying.planning import Job
from logstore.errors import UnknownGroup
from logstore.format.filename import TopicPartition
from logstore.groups.requests import OffsetAndMetadata

Committed = Mapping[str, Mapping[TopicPartition, OffsetAndMetadata]]


class Carried(NamedTuple):
    """``target_offset`` is what the source's offset stands for; ``left``: why it was not committed, empty where the
    group goes on there now."""

    group: str
    partition: TopicPartition
    source_offset: int
    target_offset: int
    left: str = ""


def find_committed(groups: SourceGroups, topics: Collection[str], names: Collection[str] | None) -> Committed:
    """What these groups, or all, have committed of the topics, by group. Raises UnknownGroup."""
    known = [group.group for group in groups.groups()]
    for name in names or ():
        if name not in known:
            raise UnknownGroup(name)
    found = {
        name: {key: value for key, value in groups.committed(name).items() if key.topic in topics}
        for name in (known if names is None else names)
    }
    return {name: offsets for name, offsets in found.items() if offsets}


def carry_over(target: Target, notes: Notes, jobs: Iterable[Job], committed: Committed) -> Iterator[Carried]:
    """Commit for each group in the target, where that is right. The records are there, and safe."""
    by_partition = {job.partition: job for job in jobs}
    groups = target.groups()
    for group, offsets in sorted(committed.items()):
        has_members = bool(groups.describe(group).members)
        there = groups.committed(group)
        wanted: dict[tuple[str, int], OffsetAndMetadata] = {}
        for partition, value in sorted(offsets.items()):
            if (job := by_partition.get(partition)) is None:
                continue
            offset = job.target_offset(value.offset)
            current = there.get(partition)
            ours = notes.committed(job.source_id, partition, group)
            left = "the group has members there" if has_members else _why_left(current, ours, offset)
            if not left and (current is None or current[:2] != (offset, value.metadata)):
                before = [] if current is None else [current.offset]
                notes.set_committed(job.source_id, partition, group, [*before, offset])
                wanted[partition] = OffsetAndMetadata(offset, value.metadata)
            yield Carried(group, partition, value.offset, offset, left)
        if wanted:
            groups.commit(group, wanted)


def _why_left(current: OffsetAndMetadata | None, ours: Collection[int], offset: int) -> str:
    if current is None or current.offset == offset:
        return ""
    if current.offset not in ours:
        return f"it has committed offset {current.offset} there by itself"
    return f"it was at offset {current.offset} before" if current.offset > offset else ""
