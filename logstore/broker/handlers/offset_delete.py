"""OffsetDelete: a group forgets what it has committed of partitions that none of its members reads."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code
from logstore.errors import LogstoreError, UnknownPartition
from logstore.format.filename import TopicPartition
from logstore.store import TopicStore
from logstore.wire.error_codes import error_code
from logstore.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)


async def handle(broker: Broker, request: OffsetDeleteRequest, context: RequestContext) -> OffsetDeleteResponse:
    asked = [
        TopicPartition(topic.name, partition.partition_index)
        for topic in request.topics
        for partition in topic.partitions
    ]
    errors = {partition: error for partition in asked if (error := _unknown(broker.store, partition)) is not None}
    known = [partition for partition in asked if partition not in errors]
    try:
        errors |= await broker.run(broker.groups.delete_offsets_each, request.group_id, known)
    except LogstoreError as error:
        return OffsetDeleteResponse(error_code=group_error_code(error))
    return OffsetDeleteResponse(
        topics=[
            OffsetDeleteResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetDeleteResponsePartition(
                        partition_index=partition.partition_index,
                        error_code=_code(errors.get(TopicPartition(topic.name, partition.partition_index))),
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _unknown(store: TopicStore, partition: TopicPartition) -> LogstoreError | None:
    try:
        count = store.topic(partition.topic).partitions
    except LogstoreError as error:
        return error
    return None if 0 <= partition.partition < count else UnknownPartition(*partition, count)


def _code(error: LogstoreError | None) -> int:
    return 0 if error is None else error_code(error)
