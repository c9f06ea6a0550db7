"""OffsetFetch: what groups have committed. A group that nobody knows has committed nothing, which is no error.

No transaction commits offsets here yet, so all that there are are stable.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code
from logstore.errors import InvalidGroupId, LogstoreError
from logstore.format.filename import TopicPartition
from logstore.groups.requests import NO_GENERATION, OffsetAndMetadata
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

_FIRST_BATCHED_VERSION = 8
_FIRST_VERSION_WITH_ERROR_CODE = 2

_Topic = TypeVar("_Topic")

_NOTHING = OffsetAndMetadata(-1)
_AskedTopics = Sequence[OffsetFetchRequestTopic] | Sequence[OffsetFetchRequestTopics] | None


class _Fetched(NamedTuple):
    """``topics``: of each its partitions and what was committed of them; none at all with an error."""

    code: ErrorCode
    topics: Mapping[str, Sequence[tuple[int, OffsetAndMetadata]]]


def handle(broker: Broker, request: OffsetFetchRequest, context: RequestContext) -> OffsetFetchResponse:
    if context.api_version >= _FIRST_BATCHED_VERSION:
        groups = {asked.group_id: asked for asked in request.groups}.values()
        return OffsetFetchResponse(groups=[_group(broker, asked) for asked in groups])
    fetched = _fetch(broker, request.group_id, request.topics)
    if fetched.code and context.api_version < _FIRST_VERSION_WITH_ERROR_CODE:
        return _all_refused(request, fetched.code)
    return OffsetFetchResponse(
        error_code=fetched.code,
        topics=_topics(fetched, OffsetFetchResponseTopic, OffsetFetchResponsePartition),
    )


def _group(broker: Broker, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup:
    fetched = _fetch(broker, asked.group_id, asked.topics, asked.member_id, asked.member_epoch)
    return OffsetFetchResponseGroup(
        group_id=asked.group_id,
        error_code=fetched.code,
        topics=_topics(fetched, OffsetFetchResponseTopics, OffsetFetchResponsePartitions),
    )


def _topics(fetched: _Fetched, topic_type: Callable[..., _Topic], partition_type: Callable[..., Any]) -> list[_Topic]:
    """The types of older and of newer versions have the same fields."""
    return [
        topic_type(
            name=topic,
            partitions=[
                partition_type(
                    partition_index=number,
                    committed_offset=committed.offset,
                    committed_leader_epoch=committed.leader_epoch,
                    metadata=committed.metadata,
                )
                for number, committed in partitions
            ],
        )
        for topic, partitions in fetched.topics.items()
    ]


def _fetch(
    broker: Broker, group: str, asked: _AskedTopics, member_id: str | None = None, epoch: int = NO_GENERATION
) -> _Fetched:
    wanted = (
        None
        if asked is None
        else dict.fromkeys(TopicPartition(topic.name, number) for topic in asked for number in topic.partition_indexes)
    )
    try:
        committed = broker.groups.committed(group, wanted, member_id=member_id, epoch=epoch)
    except InvalidGroupId:  # of no group, or of none that there could be
        committed = {}
    except LogstoreError as error:
        return _Fetched(group_error_code(error), {})
    names = () if asked is None else [topic.name for topic in asked]
    return _Fetched(ErrorCode.NONE, _by_topic(names, committed if wanted is None else wanted, committed))


def _by_topic(
    names: Iterable[str],
    partitions: Iterable[TopicPartition],
    committed: Mapping[TopicPartition, OffsetAndMetadata],
) -> Mapping[str, Sequence[tuple[int, OffsetAndMetadata]]]:
    """``names``: of topics that are answered with or without partitions."""
    topics: dict[str, list[tuple[int, OffsetAndMetadata]]] = {name: [] for name in names}
    for partition in partitions:
        topics.setdefault(partition.topic, []).append((partition.partition, committed.get(partition, _NOTHING)))
    return topics


def _all_refused(request: OffsetFetchRequest, code: ErrorCode) -> OffsetFetchResponse:
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=number, committed_offset=-1, metadata="", error_code=code
                    )
                    for number in topic.partition_indexes
                ],
            )
            for topic in request.topics or ()
        ]
    )
