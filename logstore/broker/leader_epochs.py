"""Whether a client speaks of the leader that this broker is for a partition."""

from logstore.storage.partition import PartitionLog
from logstore.wire.error_codes import ErrorCode


def check_leader_epoch(log: PartitionLog, epoch: int) -> ErrorCode:
    """``epoch``: what the client takes for the leader's; negative where it does not say."""
    if epoch < 0 or epoch == log.leader_epoch:
        return ErrorCode.NONE
    return ErrorCode.FENCED_LEADER_EPOCH if epoch < log.leader_epoch else ErrorCode.UNKNOWN_LEADER_EPOCH
