"""DescribeGroups: the members of groups, and what each has. A group that nobody knows is Dead, which is no error; so is
one that is not of the classic kind: ConsumerGroupDescribe is for those."""

from logstore.broker.authorized_operations import GROUP_OPERATIONS, NOT_ASKED
from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code
from logstore.errors import InvalidGroupId, LogstoreError
from logstore.groups.group import GroupState
from logstore.groups.requests import CLASSIC, GroupDescription
from logstore.wire.messages.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)


def handle(broker: Broker, request: DescribeGroupsRequest, context: RequestContext) -> DescribeGroupsResponse:
    operations = GROUP_OPERATIONS if request.include_authorized_operations else NOT_ASKED
    return DescribeGroupsResponse(
        groups=[_describe(broker, group, operations) for group in dict.fromkeys(request.groups)]
    )


def _describe(broker: Broker, group: str, operations: int) -> DescribedGroup:
    try:
        described = broker.groups.describe(group)
    except InvalidGroupId:
        described = None
    except LogstoreError as error:
        return DescribedGroup(error_code=group_error_code(error), group_id=group)
    if described is None or described.kind != CLASSIC:
        return DescribedGroup(group_id=group, group_state=GroupState.DEAD.value, authorized_operations=operations)
    return DescribedGroup(
        group_id=group,
        group_state=described.state,
        protocol_type=described.protocol_type,
        protocol_data=described.protocol,
        members=_members(described),
        authorized_operations=operations,
    )


def _members(described: GroupDescription) -> list[DescribedGroupMember]:
    return [
        DescribedGroupMember(
            member_id=member.member_id,
            group_instance_id=member.instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            member_metadata=member.subscription,
            member_assignment=member.assignment,
        )
        for member in described.members
    ]
