"""How a member of a consumer group comes from the partitions it has to those it is to have: a pure function.

What is taken away from it must be given up first, which it shows by no longer naming it; only then does it go on to the
epoch of the target, and gets what is free. What others still hold it gets once they have given it up.

::

    Stable, of an older epoch --> UnrevokedPartitions, of its epoch, while it holds what is taken away
                     |                   | given up
                     v                   v
               Stable of the target's epoch, or UnreleasedPartitions, of it too, while others hold what it is to get
"""

from collections.abc import Callable
from uuid import UUID

from logstore.format.group_records import CurrentAssignment, MemberState, Partitions

NOTHING: Partitions = frozenset()


def is_reconciled(current: CurrentAssignment, target_epoch: int) -> bool:
    return current.state is MemberState.STABLE and current.epoch == target_epoch


def reconcile(
    current: CurrentAssignment,
    target_epoch: int,
    target: Partitions,
    is_held: Callable[[tuple[UUID, int]], bool],
    owned: Partitions | None,
) -> CurrentAssignment:
    """What the member has next. ``is_held``: whether any member has a partition, or is yet to give it up; ``owned``:
    what the member says it holds, None where it says nothing of that."""
    epoch = current.epoch
    if current.state is MemberState.UNREVOKED_PARTITIONS:
        if _still_holds(owned, current.revoking):
            return current
        epoch += 1
    elif is_reconciled(current, target_epoch):
        return current
    kept = current.assigned & target
    taken_away = current.assigned - kept
    if taken_away and _still_holds(owned, taken_away):
        return CurrentAssignment(epoch, current.epoch, MemberState.UNREVOKED_PARTITIONS, kept, taken_away)
    missing = target - kept
    held = frozenset([partition for partition in missing if is_held(partition)])
    state = MemberState.UNRELEASED_PARTITIONS if held else MemberState.STABLE
    after = CurrentAssignment(target_epoch, current.epoch, state, kept | (missing - held), NOTHING)
    is_same = after._replace(previous_epoch=current.previous_epoch) == current
    return current if is_same else after


def _still_holds(owned: Partitions | None, revoking: Partitions) -> bool:
    return owned is None or bool(owned & revoking)
