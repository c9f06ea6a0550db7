"""Syncing over the wire: its errors, and what old versions get."""

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.sync_group import SyncGroupRequest
from waits import wait_until
from wire_client import WireClient
from wire_members import GroupBroker


@pytest.mark.parametrize("version", range(6))
def test_the_leader_brings_the_assignments(group_broker: GroupBroker, version: int) -> None:
    member = group_broker.member()
    member.join()
    synced = member.sync({member.member_id: b"mine", "a stranger": b"nothing"}, version)
    assert (synced.error_code, bytes(synced.assignment)) == (0, b"mine")
    assert (synced.protocol_type, synced.protocol_name) == (("consumer", "range") if version >= 5 else (None, None))
    assert bytes(member.sync(version=version).assignment) == b"mine"


def test_every_error_has_its_code(group_broker: GroupBroker) -> None:
    member = group_broker.member().enter()
    own = {"group_id": "g", "generation_id": 1, "member_id": member.member_id, "protocol_type": "consumer"}

    def ask(version: int = 5, **fields: object) -> int:
        request = {**own, "protocol_name": "range", **fields}
        with WireClient(group_broker.address) as client:
            code: int = client.ask(SyncGroupRequest(**request), version).error_code  # type: ignore[arg-type]
        return code

    assert ask() == ErrorCode.NONE
    assert ask(group_id="") == ErrorCode.INVALID_GROUP_ID
    assert ask(group_id="never heard of") == ErrorCode.UNKNOWN_MEMBER_ID
    assert ask(member_id="a stranger") == ErrorCode.UNKNOWN_MEMBER_ID
    assert ask(generation_id=2) == ErrorCode.ILLEGAL_GENERATION
    assert ask(protocol_name="roundrobin") == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert ask(protocol_type="connect") == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert ask(protocol_name=None) == ask(protocol_type=None) == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert ask(4, protocol_name=None, protocol_type=None) == ErrorCode.NONE
    assert ask(group_instance_id="i") == ErrorCode.UNKNOWN_MEMBER_ID


def test_who_syncs_in_a_rebalance_is_told_to_join_again(group_broker: GroupBroker) -> None:
    first = group_broker.member()
    first.join()
    second = group_broker.member()
    second.ask_to_join()
    wait_until(lambda: first.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS)
    assert first.sync().error_code == ErrorCode.REBALANCE_IN_PROGRESS
