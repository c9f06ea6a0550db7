"""Where the epochs of leaders end, by which a client finds out that what it has read was cut off."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.leader_epochs import check_leader_epoch
from logstore.errors import LogstoreError
from logstore.wire.error_codes import error_code
from logstore.wire.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)


def handle(
    broker: Broker, request: OffsetForLeaderEpochRequest, context: RequestContext
) -> OffsetForLeaderEpochResponse:
    topics = [
        OffsetForLeaderTopicResult(
            topic=topic.topic, partitions=[_end_offset(broker, topic.topic, asked) for asked in topic.partitions]
        )
        for topic in request.topics
    ]
    return OffsetForLeaderEpochResponse(topics=topics)


def _end_offset(broker: Broker, topic: str, asked: OffsetForLeaderPartition) -> EpochEndOffset:
    try:
        log = broker.store.opened_log(topic, asked.partition)
    except LogstoreError as error:
        return EpochEndOffset(partition=asked.partition, error_code=error_code(error))
    refusal = check_leader_epoch(log, asked.current_leader_epoch)
    if refusal:
        return EpochEndOffset(partition=asked.partition, error_code=refusal)
    if asked.leader_epoch == log.leader_epoch:  # also where it has not written anything yet
        return EpochEndOffset(partition=asked.partition, leader_epoch=log.leader_epoch, end_offset=log.log_end_offset)
    epoch, end_offset = log.leader_epochs.end_offset_for(asked.leader_epoch, log.log_end_offset)
    return EpochEndOffset(partition=asked.partition, leader_epoch=epoch, end_offset=end_offset)
