"""LeaveGroup: members go by themselves, or are taken out by an administrator."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code
from logstore.errors import LogstoreError
from logstore.groups.requests import LeavingMember
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse

_FIRST_BATCHED_VERSION = 3


def handle(broker: Broker, request: LeaveGroupRequest, context: RequestContext) -> LeaveGroupResponse:
    is_batched = context.api_version >= _FIRST_BATCHED_VERSION
    leaving = [LeavingMember(request.member_id)]
    if is_batched:
        leaving = [
            LeavingMember(member.member_id, member.group_instance_id, member.reason or "") for member in request.members
        ]
    try:
        errors = broker.groups.leave(request.group_id, leaving)
    except LogstoreError as error:
        return LeaveGroupResponse(error_code=group_error_code(error))
    codes = [ErrorCode.NONE if error is None else group_error_code(error) for error in errors]
    if not is_batched:
        return LeaveGroupResponse(error_code=codes[0])
    return LeaveGroupResponse(
        members=[
            MemberResponse(member_id=member.member_id, group_instance_id=member.instance_id, error_code=code)
            for member, code in zip(leaving, codes, strict=True)
        ]
    )
