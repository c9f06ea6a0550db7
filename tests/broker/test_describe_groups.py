"""Looking at groups over the wire."""

import pytest

from logstore.wire.messages.describe_groups import DescribeGroupsRequest
from wire_client import WireClient
from wire_members import GroupBroker, protocol

NOT_ASKED = -2147483648


@pytest.mark.parametrize("version", range(6))
def test_a_stable_group_tells_what_each_member_reads_and_has(group_broker: GroupBroker, version: int) -> None:
    member = group_broker.member(instance_id="i").enter()
    with WireClient(group_broker.address) as client:
        [group] = client.ask(DescribeGroupsRequest(["g"]), version).groups
    assert (group.error_code, group.group_id, group.group_state) == (0, "g", "Stable")
    assert (group.protocol_type, group.protocol_data) == ("consumer", "range")
    assert group.authorized_operations == NOT_ASKED
    [told] = group.members
    assert (told.member_id, told.client_id, told.client_host) == (member.member_id, "a member", "/127.0.0.1")
    assert told.group_instance_id == ("i" if version >= 4 else None)
    assert (bytes(told.member_metadata), bytes(told.member_assignment)) == (bytes(protocol().metadata), b"all")


def test_between_generations_only_the_members_are_told(group_broker: GroupBroker) -> None:
    group_broker.member().join()
    with WireClient(group_broker.address) as client:
        [group] = client.ask(DescribeGroupsRequest(["g"]), 5).groups
    assert (group.group_state, group.protocol_data) == ("CompletingRebalance", "")
    assert [(bytes(one.member_metadata), bytes(one.member_assignment)) for one in group.members] == [(b"", b"")]


@pytest.mark.parametrize("version", range(6))
def test_a_group_that_nobody_knows_is_dead(group_broker: GroupBroker, version: int) -> None:
    with WireClient(group_broker.address) as client:
        found = client.ask(DescribeGroupsRequest(["never heard of", ""], True), version)
    operations = 0b1101_0100_1000 if version >= 3 else NOT_ASKED
    assert [(one.group_id, one.error_code, one.group_state, one.members) for one in found.groups] == [
        ("never heard of", 0, "Dead", ()),
        ("", 0, "Dead", ()),
    ]
    assert {one.authorized_operations for one in found.groups} == {operations}
