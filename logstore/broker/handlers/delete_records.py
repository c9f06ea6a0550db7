"""DeleteRecords: a partition's records before an offset can no longer be read, for good, when it is answered."""

from functools import partial

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.refusal import Refusal, Refused, attempt, outcome
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

_HIGH_WATERMARK = -1
_NO_LOW_WATERMARK = -1


async def handle(broker: Broker, request: DeleteRecordsRequest, context: RequestContext) -> DeleteRecordsResponse:
    return DeleteRecordsResponse(topics=await broker.run(_delete_all, broker, request))


def _delete_all(broker: Broker, request: DeleteRecordsRequest) -> list[DeleteRecordsTopicResult]:
    done = {
        (topic.name, asked.partition_index): attempt(
            f"deleting records of {topic.name}-{asked.partition_index}",
            partial(_delete, broker, topic.name, asked.partition_index, asked.offset),
        )
        for topic in request.topics
        for asked in topic.partitions
    }
    deleted = [key for key, found in done.items() if not isinstance(found, Refusal)]
    if deleted and (saved := outcome("saving where logs start", broker.store.save_log_starts)).code:
        done |= dict.fromkeys(deleted, saved)
    return [
        DeleteRecordsTopicResult(
            name=topic.name,
            partitions=[
                _result(asked.partition_index, done[topic.name, asked.partition_index]) for asked in topic.partitions
            ],
        )
        for topic in request.topics
    ]


def _delete(broker: Broker, topic: str, partition: int, offset: int) -> int:
    """The low watermark, which is yet to be saved."""
    log = broker.store.opened_log(topic, partition)
    if topic == OFFSETS_TOPIC:
        raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot delete records of internal topic {topic}")
    if log.config.compacts and not log.config.deletes:
        raise Refused(ErrorCode.POLICY_VIOLATION, f"{log.name}: cleanup.policy=compact keeps the last of each key")
    return log.advance_log_start(log.log_end_offset if offset == _HIGH_WATERMARK else offset)


def _result(partition: int, done: int | Refusal) -> DeleteRecordsPartitionResult:
    if isinstance(done, Refusal):
        return DeleteRecordsPartitionResult(
            partition_index=partition, low_watermark=_NO_LOW_WATERMARK, error_code=done.code
        )
    return DeleteRecordsPartitionResult(partition_index=partition, low_watermark=done)
