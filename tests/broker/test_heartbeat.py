"""Heartbeats over the wire."""

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.heartbeat import HeartbeatRequest
from waits import wait_until
from wire_members import GroupBroker


@pytest.mark.parametrize("version", range(5))
def test_a_member_is_heard(group_broker: GroupBroker, version: int) -> None:
    member = group_broker.member().enter()
    assert member.heartbeat(version) == ErrorCode.NONE


def test_every_error_has_its_code(group_broker: GroupBroker) -> None:
    member = group_broker.member(instance_id="i").enter()

    def ask(
        group: str = "g", generation: int = 1, member_id: str = member.member_id, instance: str | None = "i"
    ) -> int:
        code: int = member.client.ask(HeartbeatRequest(group, generation, member_id, instance), 4).error_code
        return code

    assert ask() == ErrorCode.NONE
    assert ask(group="") == ErrorCode.INVALID_GROUP_ID
    assert ask(group="never heard of") == ErrorCode.UNKNOWN_MEMBER_ID
    assert ask(generation=0) == ErrorCode.ILLEGAL_GENERATION
    assert ask(member_id="a stranger", instance=None) == ErrorCode.UNKNOWN_MEMBER_ID
    assert ask(member_id="a stranger") == ErrorCode.FENCED_INSTANCE_ID
    assert ask(instance="another") == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_member_that_is_not_heard_of_within_its_session_is_taken_out(group_broker: GroupBroker) -> None:
    silent = group_broker.member(session_timeout_ms=100).enter()
    groups = group_broker.broker.groups
    wait_until(lambda: groups.describe("g").state == "Empty")
    assert silent.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID
