"""Which offset is a partition's first or last, has the largest timestamp, or comes first from a time on."""

from collections.abc import Coroutine
from functools import partial
from typing import Any

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.leader_epochs import check_leader_epoch
from logstore.broker.refusal import repeated
from logstore.errors import LogstoreError
from logstore.storage.partition import PartitionLog
from logstore.wire.error_codes import ErrorCode, error_code
from logstore.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

# Timestamps that stand for something else. Of tiered logs, which there are none of here, everything is local.
LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5
_FIRST_VERSION_WITH = {LATEST: 1, EARLIEST: 1, MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9}
_READ_COMMITTED = 1
_NONE = -1


def handle(
    broker: Broker, request: ListOffsetsRequest, context: RequestContext
) -> ListOffsetsResponse | Coroutine[Any, Any, ListOffsetsResponse]:
    if any(_is_search(asked.timestamp) for topic in request.topics for asked in topic.partitions):
        return _search(broker, request, context.api_version)
    return _answer(broker, request, context.api_version)


async def _search(broker: Broker, request: ListOffsetsRequest, version: int) -> ListOffsetsResponse:
    return await broker.read(_answer, broker, request, version)


def _is_known(timestamp: int, version: int) -> bool:
    return timestamp >= 0 or version >= _FIRST_VERSION_WITH.get(timestamp, version + 1)


def _is_search(timestamp: int) -> bool:
    """Whether it takes a look into the log, which may have to wait for the disk."""
    return timestamp >= 0 or timestamp == MAX_TIMESTAMP


def _answer(broker: Broker, request: ListOffsetsRequest, version: int) -> ListOffsetsResponse:
    find = partial(_find, broker, reads_committed=request.isolation_level == _READ_COMMITTED)
    twice = repeated((topic.name, asked.partition_index) for topic in request.topics for asked in topic.partitions)
    topics = [
        ListOffsetsTopicResponse(
            name=topic.name,
            partitions=[
                _refused(asked, ErrorCode.INVALID_REQUEST)
                if (topic.name, asked.partition_index) in twice
                else _refused(asked, ErrorCode.UNSUPPORTED_VERSION)
                if not _is_known(asked.timestamp, version)
                else find(topic.name, asked)
                for asked in topic.partitions
            ],
        )
        for topic in request.topics
    ]
    return ListOffsetsResponse(topics=topics)


def _find(
    broker: Broker, topic: str, asked: ListOffsetsPartition, *, reads_committed: bool
) -> ListOffsetsPartitionResponse:
    try:
        log = broker.store.opened_log(topic, asked.partition_index)
        refusal = check_leader_epoch(log, asked.current_leader_epoch)
        if refusal:
            return _refused(asked, refusal)
        timestamp, offset = _offset_of(log, asked.timestamp, reads_committed)
    except LogstoreError as error:
        return _refused(asked, error_code(error))
    return ListOffsetsPartitionResponse(
        partition_index=asked.partition_index,
        timestamp=timestamp,
        offset=offset,
        leader_epoch=_NONE if offset < 0 else _epoch_of(log, offset),
    )


def _refused(asked: ListOffsetsPartition, code: ErrorCode) -> ListOffsetsPartitionResponse:
    return ListOffsetsPartitionResponse(partition_index=asked.partition_index, error_code=code)


def _offset_of(log: PartitionLog, timestamp: int, reads_committed: bool) -> tuple[int, int]:
    """A record's timestamp, where one was looked for, and the offset; -1 each where there is none."""
    # Before the view: what is appended meanwhile may be newer.
    wanted = log.view.largest_timestamp() if timestamp == MAX_TIMESTAMP else timestamp
    view = log.view
    end_offset = min(log.last_stable_offset, view.log_end_offset) if reads_committed else view.log_end_offset
    if timestamp == LATEST:
        return _NONE, end_offset
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return _NONE, view.log_start_offset
    found = view.offset_for_time(wanted) if wanted >= 0 else None
    return (_NONE, _NONE) if found is None or found.offset >= end_offset else (found.timestamp_ms, found.offset)


def _epoch_of(log: PartitionLog, offset: int) -> int:
    epoch = log.leader_epochs.epoch_for(offset)
    return log.leader_epoch if epoch is None else epoch
