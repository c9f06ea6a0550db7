"""CreateTopics: each topic is there, and on the disk, when it is answered."""

from functools import partial

from logstore.broker.broker import Broker
from logstore.broker.config_entries import default_entries, topic_entries
from logstore.broker.context import RequestContext
from logstore.broker.refusal import Refusal, Refused, attempt, repeated
from logstore.broker.topic_arguments import (
    USE_DEFAULT,
    check_goes_on,
    check_no_collision,
    check_replicas,
    check_replication_factor,
    partition_count,
    too_many,
    topic_settings,
    with_own_defaults,
)
from logstore.errors import InvalidArgument, TopicAlreadyExists
from logstore.storage.topics import TopicDescription
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

_CLUSTER_METADATA = "__cluster_metadata"  # the log of Kafka's controllers


async def handle(broker: Broker, request: CreateTopicsRequest, context: RequestContext) -> CreateTopicsResponse:
    return CreateTopicsResponse(topics=await broker.run(_create_all, broker, request))


def _create_all(broker: Broker, request: CreateTopicsRequest) -> list[CreatableTopicResult]:
    duplicates = repeated(topic.name for topic in request.topics)
    asked = {topic.name: topic for topic in request.topics}
    default_count = broker.store.settings.config.num_partitions
    counts = [len(topic.assignments) or max(topic.num_partitions, 0) or default_count for topic in asked.values()]
    if refusal := too_many(sum(counts)):
        return [_result(broker, name, refusal) for name in asked]
    results = []
    for name, topic in asked.items():
        if name in duplicates:
            made: TopicDescription | Refusal = Refusal(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
        else:
            made = attempt(f"creating topic {name}", partial(_create, broker, topic, request.validate_only))
        results.append(_result(broker, name, made))
    return results


def _create(broker: Broker, asked: CreatableTopic, validate_only: bool) -> TopicDescription:
    name, store = asked.name, broker.store
    check_goes_on(broker)
    if name == _CLUSTER_METADATA:
        raise Refused(ErrorCode.INVALID_REQUEST, f"Creation of internal topic {name} is prohibited.")
    count = _count(broker, asked)
    settings = topic_settings((config.name, config.value) for config in asked.configs)
    count, settings = with_own_defaults(broker, name, count, settings)
    try:
        planned = store.planned_topic(name, count, settings)
        check_no_collision(name, (topic.name for topic in store.topics()))
        return planned if validate_only else store.create_topic(name, count, **settings)
    except TopicAlreadyExists:
        raise Refused(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.") from None
    except InvalidArgument as error:
        code = ErrorCode.INVALID_PARTITIONS if error.name == "partitions" else ErrorCode.INVALID_REQUEST
        raise Refused(code, str(error)) from None


def _count(broker: Broker, asked: CreatableTopic) -> int | None:
    """How many partitions; None for the default. Raises Refused."""
    if not asked.assignments:
        check_replication_factor(asked.replication_factor)
        return partition_count(asked.num_partitions)
    for value, what in ((asked.replication_factor, "replication factor"), (asked.num_partitions, "numPartitions")):
        if value != USE_DEFAULT:
            message = f"A manual partition assignment was specified, but {what} was not set to -1."
            raise Refused(ErrorCode.INVALID_REQUEST, message)
    numbers = [assignment.partition_index for assignment in asked.assignments]
    if duplicates := repeated(numbers):
        message = f"Found multiple manual partition assignments for partition {duplicates.pop()}"
        raise Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)
    for assignment in asked.assignments:
        check_replicas(broker, assignment.broker_ids)
    if sorted(numbers) != list(range(len(numbers))):
        message = "partitions should be a consecutive 0-based integer sequence"
        raise Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)
    return len(numbers)


def _result(broker: Broker, name: str, made: TopicDescription | Refusal) -> CreatableTopicResult:
    if isinstance(made, Refusal):
        return CreatableTopicResult(name=name, error_code=made.code, error_message=made.message)
    return CreatableTopicResult(
        name=name,
        topic_id=made.topic_id,
        error_message=None,
        num_partitions=made.partitions,
        replication_factor=1,
        configs=[
            CreatableTopicConfigs(
                name=entry.row.name, value=entry.value, read_only=entry.is_read_only, config_source=entry.source
            )
            for entry in topic_entries(made, default_entries(broker.store.settings))
        ],
    )
