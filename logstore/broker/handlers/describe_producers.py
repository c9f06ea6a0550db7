"""DescribeProducers: what partitions know of their idempotent and transactional producers."""

from functools import partial

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.refusal import Refusal, attempt
from logstore.format.filename import check_topic_name
from logstore.format.producer_snapshot import ProducerSnapshotEntry
from logstore.wire.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)


async def handle(
    broker: Broker, request: DescribeProducersRequest, context: RequestContext
) -> DescribeProducersResponse:
    return DescribeProducersResponse(topics=await broker.run(_described, broker, request))


def _described(broker: Broker, request: DescribeProducersRequest) -> list[TopicResponse]:
    wanted: dict[str, dict[int, None]] = {}
    for topic in request.topics:
        wanted.setdefault(topic.name, {}).update(dict.fromkeys(topic.partition_indexes))
    return [
        TopicResponse(name=topic, partitions=[_partition(broker, topic, number) for number in numbers])
        for topic, numbers in wanted.items()
    ]


def _partition(broker: Broker, topic: str, number: int) -> PartitionResponse:
    found = attempt(f"describing producers of {topic}-{number}", partial(_producers, broker, topic, number))
    if isinstance(found, Refusal):
        return PartitionResponse(partition_index=number, error_code=found.code, error_message=found.message)
    return PartitionResponse(partition_index=number, active_producers=[_state(entry) for entry in found])


def _producers(broker: Broker, topic: str, number: int) -> list[ProducerSnapshotEntry]:
    check_topic_name(topic)
    return broker.store.opened_log(topic, number).producer_entries()


def _state(entry: ProducerSnapshotEntry) -> ProducerState:
    return ProducerState(
        producer_id=entry.producer_id,
        producer_epoch=entry.producer_epoch,
        last_sequence=entry.last_sequence,
        last_timestamp=entry.timestamp,
        coordinator_epoch=entry.coordinator_epoch,
        current_txn_start_offset=entry.current_txn_first_offset,
    )
