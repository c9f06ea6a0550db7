"""DeleteTopics: a topic is gone when it is answered; its files follow after file.delete.delay.ms."""

from collections.abc import Collection, Sequence
from functools import partial
from uuid import UUID

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.refusal import Refusal, Refused, attempt, repeated
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)

_NO_ID = UUID(int=0)
_FIRST_WITH_DELETION_DISABLED = 3  # the version from which a client knows this code


async def handle(broker: Broker, request: DeleteTopicsRequest, context: RequestContext) -> DeleteTopicsResponse:
    asked = request.topics or [DeleteTopicState(name=name) for name in request.topic_names]
    if not broker.config.delete_topic_enable:
        is_known = context.api_version >= _FIRST_WITH_DELETION_DISABLED
        code = ErrorCode.TOPIC_DELETION_DISABLED if is_known else ErrorCode.INVALID_REQUEST
        return DeleteTopicsResponse(
            responses=[_result(topic, Refusal(code, "Topic deletion is disabled.")) for topic in asked]
        )
    return DeleteTopicsResponse(responses=await broker.run(_delete_all, broker, asked))


def _delete_all(broker: Broker, asked: Sequence[DeleteTopicState]) -> list[DeletableTopicResult]:
    by_id = {topic.topic_id: topic.name for topic in broker.store.topics()}
    duplicates = repeated(_name(topic, by_id) or topic.topic_id for topic in asked)
    results = {}
    for topic in asked:
        name = _name(topic, by_id)
        done = attempt(f"deleting topic {name}", partial(_delete, broker, topic, name, duplicates))
        results[topic.name, topic.topic_id] = _result(topic, done) if isinstance(done, Refusal) else done
    return list(results.values())


def _delete(
    broker: Broker, asked: DeleteTopicState, name: str | None, duplicates: Collection[object]
) -> DeletableTopicResult:
    if asked.name is not None and asked.topic_id != _NO_ID:
        raise Refused(ErrorCode.INVALID_REQUEST, "You may not specify both topic name and topic id.")
    if asked.name is None and asked.topic_id == _NO_ID:
        raise Refused(ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
    if (name or asked.topic_id) in duplicates:
        raise Refused(ErrorCode.INVALID_REQUEST, "Duplicate topic name or id.")
    if name is None:
        raise Refused(ErrorCode.UNKNOWN_TOPIC_ID, f"there is no topic with the id {asked.topic_id}")
    topic_id = broker.store.topic(name).topic_id
    broker.store.delete_topic(name)
    broker.metrics.forget_topic(name)
    return DeletableTopicResult(name=name, topic_id=topic_id)


def _name(topic: DeleteTopicState, by_id: dict[UUID, str]) -> str | None:
    return topic.name if topic.name is not None else by_id.get(topic.topic_id)


def _result(topic: DeleteTopicState, refusal: Refusal) -> DeletableTopicResult:
    return DeletableTopicResult(
        name=topic.name, topic_id=topic.topic_id, error_code=refusal.code, error_message=refusal.message
    )
