"""JoinGroup: answered when the rebalance that it takes part in has its members."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import client_host_of, group_error_code, ready_groups, reply_of
from logstore.errors import GroupFull, LogstoreError, MemberIdRequired, RecordTooLarge
from logstore.groups.requests import NO_MEMBER_ID, JoinReply, JoinRequest
from logstore.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember

_FIRST_VERSION_TOLD_MEMBER_ID = 4
_FIRST_VERSION_WITH_NULL_PROTOCOL = 7
_FIRST_VERSION_WITH_SKIP_ASSIGNMENT = 9


async def handle(broker: Broker, request: JoinGroupRequest, context: RequestContext) -> JoinGroupResponse:
    member_id = request.member_id
    try:
        groups = await ready_groups(broker)
        _check_size(broker, request)
        asked = _join_request(request, context)
        del request  # it may be large, and the wait long
        reply = await reply_of(groups.join, asked)
    except LogstoreError as error:
        reply = error
    no_protocol = None if context.api_version >= _FIRST_VERSION_WITH_NULL_PROTOCOL else ""
    if isinstance(reply, LogstoreError):
        return JoinGroupResponse(
            error_code=group_error_code(reply), protocol_name=no_protocol, member_id=_member_id_told(reply, member_id)
        )
    return _joined(reply, no_protocol)


def _check_size(broker: Broker, request: JoinGroupRequest) -> None:
    """Refuse what could never be stored, when all members have joined, but would be kept until then. Raises
    RecordTooLarge."""
    size = sum(len(protocol.metadata) for protocol in request.protocols)
    limit = broker.store.settings.config.message_max_bytes
    if size > limit:
        raise RecordTooLarge(size, limit)


def _join_request(request: JoinGroupRequest, context: RequestContext) -> JoinRequest:
    return JoinRequest(
        group=request.group_id,
        member_id=request.member_id,
        protocol_type=request.protocol_type,
        protocols=tuple([(protocol.name, bytes(protocol.metadata)) for protocol in request.protocols]),
        session_timeout_ms=request.session_timeout_ms,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        instance_id=request.group_instance_id,
        client_id=context.client_id or "",
        client_host=client_host_of(context.client_host),
        requires_known_member_id=context.api_version >= _FIRST_VERSION_TOLD_MEMBER_ID,
        reason=request.reason or "",
        knows_skip_assignment=context.api_version >= _FIRST_VERSION_WITH_SKIP_ASSIGNMENT,
    )


def _member_id_told(error: LogstoreError, sent: str) -> str:
    if isinstance(error, MemberIdRequired):
        return error.member_id
    return NO_MEMBER_ID if isinstance(error, GroupFull) else sent


def _joined(reply: JoinReply, no_protocol: str | None) -> JoinGroupResponse:
    return JoinGroupResponse(
        generation_id=reply.generation,
        protocol_type=reply.protocol_type,
        protocol_name=reply.protocol or no_protocol,
        leader=reply.leader,
        skip_assignment=reply.skip_assignment,
        member_id=reply.member_id,
        members=[
            JoinGroupResponseMember(
                member_id=member.member_id, group_instance_id=member.instance_id, metadata=member.subscription
            )
            for member in reply.members
        ],
    )
