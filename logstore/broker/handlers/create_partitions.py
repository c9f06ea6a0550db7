"""CreatePartitions: the new partitions are there, and on the disk, when it is answered."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.refusal import Refused, outcome, repeated
from logstore.broker.topic_arguments import check_goes_on, check_replicas, too_many
from logstore.errors import LogstoreError
from logstore.storage.topics import PARTITIONS_MAX
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)


async def handle(broker: Broker, request: CreatePartitionsRequest, context: RequestContext) -> CreatePartitionsResponse:
    return CreatePartitionsResponse(results=await broker.run(_create_all, broker, request))


def _create_all(broker: Broker, request: CreatePartitionsRequest) -> list[CreatePartitionsTopicResult]:
    duplicates = repeated(topic.name for topic in request.topics)
    by_name = {topic.name: topic for topic in request.topics}
    too_many_refusal = too_many(sum(_added(broker, topic) for topic in by_name.values()))
    results = []
    for name, topic in by_name.items():

        def create(name: str = name, topic: CreatePartitionsTopic = topic) -> None:
            if name in duplicates:
                raise Refused(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            if too_many_refusal is not None:
                raise Refused(*too_many_refusal)
            _create(broker, topic, request.validate_only)

        refusal = outcome(f"creating partitions of {name}", create)
        results.append(CreatePartitionsTopicResult(name=name, error_code=refusal.code, error_message=refusal.message))
    return results


def _added(broker: Broker, asked: CreatePartitionsTopic) -> int:
    """How many there would be more, of a topic that is there and may have so many."""
    try:
        current = broker.store.topic(asked.name).partitions
    except LogstoreError:
        return 0
    return asked.count - current if current < asked.count <= PARTITIONS_MAX else 0


def _create(broker: Broker, asked: CreatePartitionsTopic, validate_only: bool) -> None:
    check_goes_on(broker)
    current = broker.store.topic(asked.name).partitions
    if asked.count == current:
        raise Refused(ErrorCode.INVALID_PARTITIONS, f"Topic already has {current} partition(s).")
    if asked.count < current:
        message = (
            f"The topic {asked.name} currently has {current} partition(s); {asked.count} would not be an increase."
        )
        raise Refused(ErrorCode.INVALID_PARTITIONS, message)
    if asked.assignments is not None:
        added = asked.count - current
        if len(asked.assignments) != added:
            message = (
                f"Attempted to add {added} additional partition(s), but only {len(asked.assignments)} assignment(s) "
                "were specified."
            )
            raise Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)
        for assignment in asked.assignments:
            check_replicas(broker, assignment.broker_ids)
    if asked.count > PARTITIONS_MAX:
        raise Refused(ErrorCode.INVALID_PARTITIONS, f"a topic has at most {PARTITIONS_MAX} partitions")
    broker.store.alter_topic(asked.name, partitions=asked.count, validate_only=validate_only)
