"""The broker, and the topics that a client asks for: their ids, partitions, and this broker as the leader of them all.

A topic that is asked for and is not there is made, if the settings and the client want that: some for one request. It
is answered when they are there, and who asked for more is told UNKNOWN_TOPIC_OR_PARTITION of the rest, and asks again.
(Kafka answers so at once, of all of them, and makes thousands.)
"""

from collections.abc import Coroutine, Sequence
from typing import Any

from logstore.broker.authorized_operations import CLUSTER_OPERATIONS, NOT_ASKED, TOPIC_OPERATIONS
from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.refusal import Refused
from logstore.broker.topic_arguments import check_no_collision
from logstore.errors import DamagedTopic, LogstoreError, TopicAlreadyExists, UnknownTopic
from logstore.format.filename import check_topic_name
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.storage.topics import TopicDescription
from logstore.wire.error_codes import ErrorCode, error_code
from logstore.wire.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

_FIRST_WITH_NULL = 1  # before it, no topic at all stands for all of them
_FIRST_WITHOUT_NAME = 12  # where a topic's name may be null
_CREATED_MAX = 100  # topics of one request: a few bytes must not cost thousands of directories


def handle(
    broker: Broker, request: MetadataRequest, context: RequestContext
) -> MetadataResponse | Coroutine[Any, Any, MetadataResponse]:
    if request.topics is None or (not request.topics and context.api_version < _FIRST_WITH_NULL):
        found = [_found(broker, request, topic) for topic in broker.store.topics()]
        return _response(broker, request, found)
    # What is asked for twice is answered once: the answer may be large.
    asked = list({(topic.name, topic.topic_id): topic for topic in request.topics}.values())
    answers = [_look_up(broker, request, topic, context.api_version) for topic in asked]
    may_create = request.allow_auto_topic_creation and broker.config.auto_create_topics_enable
    if may_create and any(answer is None for answer in answers):
        return _create_missing(broker, request, asked, answers)
    return _response(broker, request, _without_missing(asked, answers))


def _look_up(
    broker: Broker, request: MetadataRequest, asked: MetadataRequestTopic, version: int
) -> MetadataResponseTopic | None:
    """None for a topic that could be made."""
    name = None if asked.topic_id.int else asked.name  # of one that it asks for by its id Java leaves the name empty
    try:
        if name is None:
            return _found(broker, request, broker.store.topic(broker.topic_name(asked.topic_id)))
        check_topic_name(name)
        return _found(broker, request, broker.store.topic(name))
    except UnknownTopic:
        if name is None:
            missing = _missing(asked, ErrorCode.UNKNOWN_TOPIC_ID)
            missing.name = None if version >= _FIRST_WITHOUT_NAME else ""
            return missing
        return _missing(asked, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) if name == OFFSETS_TOPIC else None
    except DamagedTopic:  # clients ask again, until somebody has mended it
        return _missing(asked, ErrorCode.LEADER_NOT_AVAILABLE)
    except LogstoreError as error:
        return _missing(asked, error_code(error))


async def _create_missing(
    broker: Broker,
    request: MetadataRequest,
    asked: Sequence[MetadataRequestTopic],
    answers: list[MetadataResponseTopic | None],
) -> MetadataResponse:
    missing = [number for number, answer in enumerate(answers) if answer is None]
    for number in missing[:_CREATED_MAX]:
        answers[number] = await _create(broker, request, asked[number])
    return _response(broker, request, _without_missing(asked, answers))


async def _create(broker: Broker, request: MetadataRequest, asked: MetadataRequestTopic) -> MetadataResponseTopic:
    assert asked.name is not None
    try:
        check_no_collision(asked.name, (topic.name for topic in broker.store.topics()))
        created = await broker.run(broker.store.create_topic, asked.name)
    except Refused as refused:
        return _missing(asked, refused.refusal.code)
    except TopicAlreadyExists:  # another client was faster
        return _look_up(broker, request, asked, 0) or _missing(asked, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    except LogstoreError as error:
        return _missing(asked, error_code(error))
    return _found(broker, request, created)


def _without_missing(
    asked: Sequence[MetadataRequestTopic], answers: Sequence[MetadataResponseTopic | None]
) -> list[MetadataResponseTopic]:
    return [
        answer or _missing(topic, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        for topic, answer in zip(asked, answers, strict=True)
    ]


def _missing(asked: MetadataRequestTopic, code: ErrorCode) -> MetadataResponseTopic:
    return MetadataResponseTopic(error_code=code, name=asked.name, topic_id=asked.topic_id, partitions=[])


def _found(broker: Broker, request: MetadataRequest, topic: TopicDescription) -> MetadataResponseTopic:
    nodes = [broker.node_id]
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.name == OFFSETS_TOPIC,
        partitions=[
            MetadataResponsePartition(
                partition_index=number,
                leader_id=broker.node_id,
                leader_epoch=_leader_epoch(broker, topic.name, number),
                replica_nodes=nodes,
                isr_nodes=nodes,
            )
            for number in range(topic.partitions)
        ],
        topic_authorized_operations=TOPIC_OPERATIONS if request.include_topic_authorized_operations else NOT_ASKED,
    )


def _leader_epoch(broker: Broker, topic: str, partition: int) -> int:
    try:
        return broker.store.opened_log(topic, partition).leader_epoch
    except LogstoreError:  # it cannot be opened now: what asks for its records is told why
        return 0


def _response(broker: Broker, request: MetadataRequest, topics: list[MetadataResponseTopic]) -> MetadataResponse:
    operations = CLUSTER_OPERATIONS if request.include_cluster_authorized_operations else NOT_ASKED
    return MetadataResponse(
        brokers=[
            MetadataResponseBroker(
                node_id=broker.node_id, host=broker.host, port=broker.port, rack=broker.config.broker_rack or None
            )
        ],
        cluster_id=broker.cluster_id,
        controller_id=broker.node_id,
        topics=topics,
        cluster_authorized_operations=operations,
    )
