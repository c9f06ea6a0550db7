"""Batches that no producer writes: what compaction leaves of one."""

from collections.abc import Sequence
from itertools import repeat

from logstore.format.batch import NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, assemble_batch
from logstore.format.record import encode_records


def compacted_batch(
    values: Sequence[bytes | None],
    offset_deltas: Sequence[int],
    *,
    last_offset_delta: int,
    timestamps_ms: Sequence[int],
    keys: Sequence[bytes] | None = None,
    base_timestamp: int = 0,
    base_offset: int = 0,
    leader_epoch: int = NO_LEADER_EPOCH,
    attributes: int = 0,
) -> bytes:
    """A batch whose records, at these offsets from ``base_offset`` on, are not all of those that it once had."""
    deltas = [timestamp - base_timestamp for timestamp in timestamps_ms]
    rows = zip(offset_deltas, deltas, keys or repeat(None), values, repeat(()), strict=False)
    return assemble_batch(
        encode_records(rows),
        base_offset=base_offset,
        partition_leader_epoch=leader_epoch,
        attributes=attributes,
        last_offset_delta=last_offset_delta,
        base_timestamp=base_timestamp,
        max_timestamp=max(timestamps_ms, default=-1),
        producer_id=NO_PRODUCER_ID,
        producer_epoch=NO_PRODUCER_EPOCH,
        base_sequence=NO_SEQUENCE,
        record_count=len(values),
    )
