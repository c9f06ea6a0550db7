"""What a fetch is answered with: the records of its partitions, as slices of files, within its limits.

The limits are Kafka's: a response has at most ``max_bytes`` and a partition of it at most its own, but the first
partition that has records gives at least one batch, so that a batch larger than both can be read.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from logstore.broker.leader_epochs import check_leader_epoch
from logstore.errors import LogstoreError, OffsetGap, OffsetOutOfRange, UnknownTopic
from logstore.storage.file_slice import FileSlice
from logstore.storage.partition import PartitionLog
from logstore.wire.api import ApiKey
from logstore.wire.error_codes import ErrorCode, error_code
from logstore.wire.messages.fetch import Read

if TYPE_CHECKING:
    from logstore.broker.broker import Broker
    from logstore.broker.fetch_sessions import FetchPartition

_NONE = -1


class Fetched(NamedTuple):
    """A partition's part of a response; ``log`` is None where the error says why nothing was looked at."""

    partition: "FetchPartition"
    read: Read[FileSlice]
    log: PartitionLog | None = None


class Fetch(NamedTuple):
    """``size``: of all records together."""

    fetched: list[Fetched]
    size: int
    has_error: bool


def fetch(broker: "Broker", partitions: Iterable["FetchPartition"], max_bytes: int, reads_committed: bool) -> Fetch:
    """Read what there is."""
    fetched: list[Fetched] = []
    total = 0
    has_error = False
    for partition in partitions:
        limit = min(partition.max_bytes, max_bytes - total)
        try:
            found = _fetch_one(broker, partition, limit, not total, reads_committed)
        except LogstoreError as error:
            found = _refused(partition, _code(partition, error))
        if found.read.records is not None:
            total += found.read.records.size
        elif found.read.error_code:
            has_error = True
            broker.metrics.error(ApiKey.FETCH, found.read.error_code)
        fetched.append(found)
    return Fetch(fetched, total, has_error)


def _fetch_one(
    broker: "Broker", partition: "FetchPartition", limit: int, is_first: bool, reads_committed: bool
) -> Fetched:
    if partition.topic_id is not None:
        partition.topic = broker.topic_name(partition.topic_id)
    log = broker.store.log(partition.topic, partition.partition)
    refusal = check_leader_epoch(log, partition.current_leader_epoch)
    if refusal:
        return _refused(partition, refusal)
    unstable_offset = log.producers.first_unstable_offset()
    end_offset = log.log_end_offset
    stable_offset = end_offset if unstable_offset is None else min(unstable_offset, end_offset)
    readable_offset = stable_offset if reads_committed else end_offset
    offset, log_start_offset = partition.fetch_offset, log.log_start_offset
    if not log_start_offset <= offset <= end_offset:
        raise OffsetOutOfRange(log.name, offset, log_start_offset, end_offset)
    records = None
    if offset < readable_offset and (limit > 0 or is_first):
        records = _read(log, offset, max(limit, 1), readable_offset if readable_offset < end_offset else None)
        if records is not None and records.size > limit and not is_first:
            records = None
    aborted = () if reads_committed else None
    read = Read(partition.partition, 0, end_offset, stable_offset, log_start_offset, records, aborted)
    return Fetched(partition, read, log)


def _read(log: PartitionLog, offset: int, max_bytes: int, max_offset: int | None) -> FileSlice | None:
    """Records that were lost for good are passed over: a client that asks for them goes on behind them, as it does in a
    compacted log. Damage that was not looked at yet is an error."""
    view = log.view
    while offset < view.log_end_offset:
        try:
            records = view.read(offset, max_bytes, max_offset=max_offset)
        except OffsetGap as gap:
            offset = gap.last_offset + 1
            continue
        return records if records.size else None
    return None


def _refused(partition: "FetchPartition", code: ErrorCode) -> Fetched:
    return Fetched(partition, Read(partition.partition, code, _NONE, _NONE, _NONE, None))


def _code(partition: "FetchPartition", error: LogstoreError) -> ErrorCode:
    if isinstance(error, UnknownTopic) and partition.topic_id is not None:
        return ErrorCode.UNKNOWN_TOPIC_ID
    return error_code(error)
