"""Where a group is to go on: a plan of offsets to commit for it, partition by partition. Pure but for the logs that it
looks at; who commits it is another."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from logstore.errors import InvalidArgument
from logstore.format.filename import TopicPartition
from logstore.groups.ends import PartitionEnds
from logstore.groups.requests import OffsetAndMetadata

Target = Callable[[PartitionEnds, int | None], int]  # a log and what is committed of it, to the offset that is wanted


class Reset(NamedTuple):
    """``committed`` is what the group has now; ``offset`` what was ``wanted``, or the nearest that the log holds."""

    topic: str
    partition: int
    committed: int | None
    wanted: int
    offset: int


def plan(
    views: Mapping[TopicPartition, PartitionEnds], committed: Mapping[TopicPartition, OffsetAndMetadata], target: Target
) -> list[Reset]:
    """Raises what ``target`` does: InvalidArgument, CorruptBatch."""
    resets = []
    for partition, view in views.items():
        commit = committed.get(partition)
        now = None if commit is None else commit.offset
        wanted = target(view, now)
        offset = min(max(wanted, view.log_start_offset), view.log_end_offset)
        resets.append(Reset(*partition, now, wanted, offset))
    return resets


def to_earliest(view: PartitionEnds, committed: int | None) -> int:
    return view.log_start_offset


def to_latest(view: PartitionEnds, committed: int | None) -> int:
    return view.log_end_offset


def to_offset(offset: int) -> Target:
    return lambda view, committed: offset


def to_time(timestamp_ms: int) -> Target:
    """The first record that is not older; the end where all are."""

    def target(view: PartitionEnds, committed: int | None) -> int:
        found = view.offset_for_time(timestamp_ms)
        return view.log_end_offset if found is None else found.offset

    return target


def shift_by(count: int) -> Target:
    """``count`` offsets on, or back where it is negative, from what is committed."""

    def target(view: PartitionEnds, committed: int | None) -> int:
        if committed is None:
            raise InvalidArgument("shift_by", count, f"the group has committed no offset of {view.name} to go from")
        return committed + count

    return target
