"""Leaving a group over the wire, by oneself or through an administrator."""

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from wire_client import WireClient
from wire_members import GroupBroker


@pytest.mark.parametrize("version", range(3))
def test_before_version_3_one_member_leaves_and_the_error_is_the_responses(
    group_broker: GroupBroker, version: int
) -> None:
    member = group_broker.member().enter()
    request = LeaveGroupRequest("g", member_id=member.member_id)
    assert member.client.ask(request, version).error_code == ErrorCode.NONE
    assert member.client.ask(request, version).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert member.client.ask(LeaveGroupRequest("", member_id="m"), version).error_code == ErrorCode.INVALID_GROUP_ID
    assert member.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("version", [3, 4, 5])
def test_from_version_3_on_each_member_has_an_error_of_its_own(group_broker: GroupBroker, version: int) -> None:
    member = group_broker.member(instance_id="i").enter()
    leaving = [
        MemberIdentity("a stranger"),
        MemberIdentity("a stranger", "i"),
        MemberIdentity("", "j"),
        MemberIdentity("", "i", reason="an administrator says so"),
        MemberIdentity(member.member_id),
    ]
    with WireClient(group_broker.address) as client:
        left = client.ask(LeaveGroupRequest("g", members=leaving), version)
        assert left.error_code == ErrorCode.NONE
        assert [(one.member_id, one.group_instance_id, one.error_code) for one in left.members] == [
            ("a stranger", None, ErrorCode.UNKNOWN_MEMBER_ID),
            ("a stranger", "i", ErrorCode.FENCED_INSTANCE_ID),
            ("", "j", ErrorCode.UNKNOWN_MEMBER_ID),
            ("", "i", ErrorCode.NONE),
            (member.member_id, None, ErrorCode.UNKNOWN_MEMBER_ID),
        ]
        unknown = client.ask(LeaveGroupRequest("never heard of", members=leaving[:1]), version)
        assert (unknown.error_code, unknown.members[0].error_code) == (0, ErrorCode.UNKNOWN_MEMBER_ID)
        refused = client.ask(LeaveGroupRequest("", members=leaving[:1]), version)
        assert (refused.error_code, refused.members) == (ErrorCode.INVALID_GROUP_ID, ())
    assert group_broker.broker.groups.describe("g").state == "Empty"
