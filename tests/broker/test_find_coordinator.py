"""Who coordinates a group: this broker, by every version."""

import pytest

from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.find_coordinator import FindCoordinatorRequest
from wire_client import WireClient
from wire_members import GroupBroker


@pytest.mark.parametrize("version", range(4))
def test_one_group_is_asked_for_before_version_4(group_broker: GroupBroker, version: int) -> None:
    with WireClient(group_broker.address) as client:
        found = client.ask(FindCoordinatorRequest(key="g"), version)
    broker = group_broker.broker
    assert (found.error_code, found.node_id, found.host, found.port) == (0, broker.node_id, broker.host, broker.port)
    assert broker.store.topic(OFFSETS_TOPIC).partitions == 3


@pytest.mark.parametrize("version", [4, 5, 6])
def test_several_groups_are_asked_for_from_version_4_on(group_broker: GroupBroker, version: int) -> None:
    with WireClient(group_broker.address) as client:
        found = client.ask(FindCoordinatorRequest(coordinator_keys=["a", "b"]), version)
    broker = group_broker.broker
    assert [(one.key, one.error_code, one.node_id, one.host, one.port) for one in found.coordinators] == [
        (key, 0, broker.node_id, broker.host, broker.port) for key in ("a", "b")
    ]


@pytest.mark.parametrize("key_type", [2, 3, -1])
def test_a_kind_of_coordinator_that_there_is_none_of_is_an_invalid_request(
    group_broker: GroupBroker, key_type: int
) -> None:
    with WireClient(group_broker.address) as client:
        found = client.ask(FindCoordinatorRequest(key="g", key_type=key_type), 3)
        assert (found.error_code, found.node_id, found.host, found.port) == (ErrorCode.INVALID_REQUEST, -1, "", -1)
        [batched] = client.ask(FindCoordinatorRequest(coordinator_keys=["g"], key_type=key_type), 6).coordinators
        assert (batched.error_code, batched.node_id, batched.key) == (ErrorCode.INVALID_REQUEST, -1, "g")
