"""Deleting groups over the wire."""

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.delete_groups import DeleteGroupsRequest
from wire_client import WireClient
from wire_members import GroupBroker, commit


@pytest.mark.parametrize("version", range(3))
def test_each_group_is_deleted_or_has_its_error(group_broker: GroupBroker, version: int) -> None:
    group_broker.member("with members").enter()
    with WireClient(group_broker.address) as client:
        commit(client, "empty", {("orders", 0): 1})
        deleted = client.ask(DeleteGroupsRequest(["empty", "with members", "never heard of", "", "empty"]), version)
    assert {one.group_id: one.error_code for one in deleted.results} == {
        "empty": ErrorCode.NONE,
        "with members": ErrorCode.NON_EMPTY_GROUP,
        "never heard of": ErrorCode.GROUP_ID_NOT_FOUND,
        "": ErrorCode.GROUP_ID_NOT_FOUND,
    }
    groups = group_broker.broker.groups
    log = groups.log_of("empty")
    assert groups.committed("empty") == {} and log.synced_offset == log.log_end_offset
