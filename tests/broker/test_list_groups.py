"""The list of groups, and its filters."""

import pytest

from logstore.wire.messages.list_groups import ListGroupsRequest
from wire_client import WireClient
from wire_members import GroupBroker, commit


@pytest.mark.parametrize("version", range(6))
def test_all_groups_are_told_also_those_that_only_keep_offsets(group_broker: GroupBroker, version: int) -> None:
    group_broker.member("b").enter()
    with WireClient(group_broker.address) as client:
        commit(client, "a", {("orders", 0): 1})
        listed = client.ask(ListGroupsRequest(), version)
    assert listed.error_code == 0
    assert [(one.group_id, one.protocol_type) for one in listed.groups] == [("a", ""), ("b", "consumer")]
    assert [one.group_state for one in listed.groups] == (["Empty", "Stable"] if version >= 4 else ["", ""])
    assert {one.group_type for one in listed.groups} == {"classic" if version >= 5 else ""}


def test_states_and_types_are_asked_for_in_any_case(group_broker: GroupBroker) -> None:
    group_broker.member("stable").enter()
    group_broker.member("completing").join()
    with WireClient(group_broker.address) as client:
        commit(client, "empty", {("orders", 0): 1})

        def listed(states: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> set[str]:
            return {one.group_id for one in client.ask(ListGroupsRequest(states, types), 5).groups}

        assert listed() == {"stable", "completing", "empty"}
        assert listed(("STABLE", "empty")) == {"stable", "empty"}
        assert listed(("CompletingRebalance",), ("Classic",)) == {"completing"}
        assert listed(("no such state",)) == listed((), ("no such type",)) == set()
