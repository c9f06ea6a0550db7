"""SyncGroup: answered when the leader has brought the assignments of the generation."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code, reply_of
from logstore.errors import LogstoreError
from logstore.groups.requests import SyncRequest
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

_FIRST_VERSION_WITH_PROTOCOL = 5


async def handle(broker: Broker, request: SyncGroupRequest, context: RequestContext) -> SyncGroupResponse:
    says_protocol = request.protocol_type is not None and request.protocol_name is not None
    if context.api_version >= _FIRST_VERSION_WITH_PROTOCOL and not says_protocol:
        return SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    asked = SyncRequest(
        group=request.group_id,
        member_id=request.member_id,
        generation=request.generation_id,
        assignments=tuple([(given.member_id, bytes(given.assignment)) for given in request.assignments]),
        instance_id=request.group_instance_id,
        protocol_type=request.protocol_type,
        protocol=request.protocol_name,
    )
    del request  # it may be large, and the wait long
    reply = await reply_of(broker.groups.sync, asked)
    if isinstance(reply, LogstoreError):
        return SyncGroupResponse(error_code=group_error_code(reply))
    return SyncGroupResponse(
        protocol_type=reply.protocol_type, protocol_name=reply.protocol, assignment=reply.assignment
    )
