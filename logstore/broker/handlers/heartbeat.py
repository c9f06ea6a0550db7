"""Heartbeat: a member lives; it learns whether it is time to join again."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code
from logstore.errors import LogstoreError
from logstore.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


def handle(broker: Broker, request: HeartbeatRequest, context: RequestContext) -> HeartbeatResponse:
    try:
        broker.groups.heartbeat(request.group_id, request.member_id, request.generation_id, request.group_instance_id)
    except LogstoreError as error:
        return HeartbeatResponse(error_code=group_error_code(error))
    return HeartbeatResponse()
