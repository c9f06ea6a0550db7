"""ConsumerGroupHeartbeat: a member of a group that this broker hands the partitions of out (KIP-848) joins, lives or
leaves, and is told what it is to hold."""

from collections.abc import Sequence
from uuid import uuid4

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import client_host_of, group_error_code, numbers_by_topic, ready_groups
from logstore.broker.refusal import told
from logstore.errors import LogstoreError
from logstore.format.group_records import Partitions
from logstore.groups.requests import JOINING_EPOCH, ConsumerHeartbeat, ConsumerReply
from logstore.wire.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

_FIRST_VERSION_WITH_ID_OF_MEMBER = 1


async def handle(
    broker: Broker, request: ConsumerGroupHeartbeatRequest, context: RequestContext
) -> ConsumerGroupHeartbeatResponse:
    try:
        groups = await ready_groups(broker)
        reply = groups.consumer_heartbeat(_heartbeat(request, context))
    except LogstoreError as error:
        return ConsumerGroupHeartbeatResponse(error_code=group_error_code(error), error_message=told(error))
    return _response(reply)


def _heartbeat(request: ConsumerGroupHeartbeatRequest, context: RequestContext) -> ConsumerHeartbeat:
    member_id = request.member_id
    makes_id = context.api_version < _FIRST_VERSION_WITH_ID_OF_MEMBER
    if not member_id and makes_id and request.member_epoch == JOINING_EPOCH:
        member_id = str(uuid4())
    topics = request.subscribed_topic_names
    return ConsumerHeartbeat(
        group=request.group_id,
        member_id=member_id,
        epoch=request.member_epoch,
        instance_id=request.instance_id,
        rack_id=request.rack_id,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        topics=None if topics is None else tuple(topics),
        regex=request.subscribed_topic_regex,
        assignor=request.server_assignor,
        owned=None if request.topic_partitions is None else _partitions(request.topic_partitions),
        client_id=context.client_id or "",
        client_host=client_host_of(context.client_host),
    )


def _partitions(topics: Sequence[TopicPartitions]) -> Partitions:
    return frozenset([(topic.topic_id, number) for topic in topics for number in topic.partitions])


def _response(reply: ConsumerReply) -> ConsumerGroupHeartbeatResponse:
    assignment = None
    if reply.assigned is not None:
        assignment = Assignment(
            topic_partitions=[
                TopicPartitions(topic_id=topic_id, partitions=numbers)
                for topic_id, numbers in numbers_by_topic(reply.assigned).items()
            ]
        )
    return ConsumerGroupHeartbeatResponse(
        error_message=None,
        member_id=reply.member_id,
        member_epoch=reply.epoch,
        heartbeat_interval_ms=reply.heartbeat_interval_ms,
        assignment=assignment,
    )
