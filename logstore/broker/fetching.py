"""What a fetch is answered with: the records of its partitions, as slices of files, within its limits.

The limits are Kafka's: a response has at most ``max_bytes`` and a partition of it at most its own, but the first
partition that has records gives at least one batch, so that a batch larger than both can be read.
"""

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from logstore.broker.leader_epochs import check_leader_epoch
from logstore.errors import LogstoreError, OffsetGap, OffsetOutOfRange, UnknownTopic
from logstore.format.batch import batches
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


class Cold(Exception):
    """To read from an offset of a log would take a wait for the disk."""

    def __init__(self, log: PartitionLog, offset: int) -> None:
        super().__init__(log.name, offset)
        self.log, self.offset = log, offset

    def warm(self) -> None:
        """Have in memory what it takes, in a thread that may wait. What fails will fail again where it is told."""
        with contextlib.suppress(LogstoreError):
            self.log.read(self.offset, 1)


class Fetch(NamedTuple):
    """``size``: of all records together; ``cold``: what kept records from being read."""

    fetched: list[Fetched]
    size: int
    has_error: bool
    cold: list[Cold]


def fetch(
    broker: "Broker",
    partitions: Iterable["FetchPartition"],
    max_bytes: int,
    *,
    reads_committed: bool,
    may_wait: bool,
) -> Fetch:
    """Read what there is. Unless it ``may_wait`` for the disk, what would take that is left out."""
    fetched: list[Fetched] = []
    cold: list[Cold] = []
    total = 0
    has_error = False
    for partition in partitions:
        limit = min(partition.max_bytes, max_bytes - total)
        try:
            found = _fetch_one(broker, partition, limit, not total, reads_committed, may_wait)
        except Cold as error:
            cold.append(error)
            continue
        except LogstoreError as error:
            found = _refused(partition, _code(partition, error))
        if found.read.records is not None:
            total += found.read.records.size
        elif found.read.error_code:
            has_error = True
            broker.metrics.error(ApiKey.FETCH, found.read.error_code)
        fetched.append(found)
    return Fetch(fetched, total, has_error, cold)


def _fetch_one(
    broker: "Broker", partition: "FetchPartition", limit: int, is_first: bool, reads_committed: bool, may_wait: bool
) -> Fetched:
    if partition.topic_id is not None:
        partition.topic = broker.topic_name(partition.topic_id)
    log = broker.store.opened_log(partition.topic, partition.partition)
    refusal = check_leader_epoch(log, partition.current_leader_epoch)
    if refusal:
        return _refused(partition, refusal)
    end_offset = log.log_end_offset
    stable_offset = min(log.last_stable_offset, end_offset)
    readable_offset = stable_offset if reads_committed else end_offset
    offset, log_start_offset = partition.fetch_offset, log.log_start_offset
    if not log_start_offset <= offset <= end_offset:
        raise OffsetOutOfRange(log.name, offset, log_start_offset, end_offset)
    records = None
    if offset < readable_offset and (limit > 0 or is_first):
        max_offset = readable_offset if readable_offset < end_offset else None
        records = _read(log, offset, max(limit, 1), max_offset, may_wait)
        if records is not None and records.size > limit and not is_first:
            records = None
    aborted = () if reads_committed else None
    read = Read(partition.partition, 0, end_offset, stable_offset, log_start_offset, records, aborted)
    return Fetched(partition, read, log)


def _read(log: PartitionLog, offset: int, max_bytes: int, max_offset: int | None, may_wait: bool) -> FileSlice | None:
    """Records that were lost for good are passed over: a client that asks for them goes on behind them, as it does in a
    compacted log. Damage that was not looked at yet is an error."""
    view = log.view
    while offset < view.log_end_offset:
        try:
            if not (may_wait or view.is_cached(offset)):
                raise Cold(log, offset)
            records = view.read(offset, max_bytes, max_offset=max_offset)
        except OffsetGap as gap:
            offset = gap.last_offset + 1
            continue
        return records if records.size else None
    return None


def needs_aborted(found: Fetched) -> bool:
    """Whether there may be records of aborted transactions among these: ``with_aborted`` tells which."""
    log, read = found.log, found.read
    return (
        log is not None
        and read.records is not None
        and log.aborted.may_be(found.partition.fetch_offset, read.last_stable_offset)
    )


def with_aborted(found: Fetched) -> Fetched:
    """With the transactions whose records are to be left out by who reads committed ones. It may wait for the disk."""
    log, read = found.log, found.read
    assert log is not None and read.records is not None
    try:
        ends = [batch.header.next_offset for batch in batches(read.records.read())]
        aborted = log.aborted_transactions(found.partition.fetch_offset, max(ends, default=0))
    except LogstoreError as error:
        return _refused(found.partition, error_code(error))
    return found._replace(read=read._replace(aborted_transactions=[(each[0], each[1]) for each in aborted]))


def _refused(partition: "FetchPartition", code: ErrorCode) -> Fetched:
    return Fetched(partition, Read(partition.partition, code, _NONE, _NONE, _NONE, None))


def _code(partition: "FetchPartition", error: LogstoreError) -> ErrorCode:
    if isinstance(error, UnknownTopic) and partition.topic_id is not None:
        return ErrorCode.UNKNOWN_TOPIC_ID
    return error_code(error)
