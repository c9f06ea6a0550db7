"""OffsetCommit: appended at once, answered when it is on the disk."""

from collections.abc import Callable

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code, ready_groups
from logstore.errors import IllegalGeneration, LogstoreError, RecordTooLarge
from logstore.format.filename import TopicPartition
from logstore.groups.requests import NO_GENERATION, OffsetAndMetadata
from logstore.storage.durability import Durability
from logstore.wire.error_codes import ErrorCode, error_code
from logstore.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

_FIRST_VERSION_TOLD_OF_UNKNOWN_GROUP = 9


async def handle(broker: Broker, request: OffsetCommitRequest, context: RequestContext) -> OffsetCommitResponse:
    try:
        refused = await _commit(broker, request)
    except LogstoreError as error:
        code = _code_for_all(error, context.api_version)
        return _response(request, lambda partition: code)
    return _response(request, lambda partition: error_code(refused[partition]) if partition in refused else 0)


async def _commit(broker: Broker, request: OffsetCommitRequest) -> dict[TopicPartition, LogstoreError]:
    groups = await ready_groups(broker)
    offsets: dict[tuple[str, int], int | OffsetAndMetadata] = {
        TopicPartition(topic.name, partition.partition_index): OffsetAndMetadata(
            partition.committed_offset, partition.committed_metadata or "", partition.committed_leader_epoch
        )
        for topic in request.topics
        for partition in topic.partitions
    }
    refused = groups.commit_each(
        request.group_id,
        offsets,
        member_id=request.member_id,
        generation=request.generation_id_or_member_epoch,
        instance_id=request.group_instance_id,
        durability=Durability.OS,
        retention_ms=None if request.retention_time_ms < 0 else request.retention_time_ms,
    )
    if len(refused) < len(offsets):
        log = groups.log_of(request.group_id)
        if broker.waits_for_disk or log.is_flush_due:
            await broker.syncs.wait(log, log.log_end_offset)
    return refused


def _code_for_all(error: LogstoreError, api_version: int) -> ErrorCode:
    if isinstance(error, RecordTooLarge):
        return ErrorCode.INVALID_COMMIT_OFFSET_SIZE
    is_of_no_group = isinstance(error, IllegalGeneration) and error.current_generation == NO_GENERATION
    if is_of_no_group and api_version >= _FIRST_VERSION_TOLD_OF_UNKNOWN_GROUP:
        return ErrorCode.GROUP_ID_NOT_FOUND
    return group_error_code(error)


def _response(request: OffsetCommitRequest, code_of: Callable[[TopicPartition], int]) -> OffsetCommitResponse:
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetCommitResponsePartition(
                        partition_index=partition.partition_index,
                        error_code=code_of(TopicPartition(topic.name, partition.partition_index)),
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
