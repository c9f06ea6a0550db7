"""What there is of the cluster, over the wire. What is said of ``admin`` holds for Kafka too."""

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.describe_cluster import DescribeClusterRequest
from wire_admin import OwnBroker, WireAdmin

BROKERS, CONTROLLERS = 1, 2
NOT_ASKED, EVERYTHING = -(2**31), 0b1_1111_1010_0000  # create, alter, describe, ... of the cluster


@pytest.mark.parametrize("version", range(3))
def test_the_broker_is_told_by_its_number_and_address(admin: WireAdmin, version: int) -> None:
    found = admin.ask(DescribeClusterRequest(), version)
    assert (found.error_code, bool(found.cluster_id)) == (ErrorCode.NONE, True)
    (broker,) = found.brokers
    assert (f"{broker.host}:{broker.port}", broker.rack, broker.is_fenced) == (admin.address, None, False)
    assert found.controller_id == broker.broker_id
    assert found.cluster_authorized_operations == NOT_ASKED


def test_a_client_may_do_everything_with_the_cluster(admin: WireAdmin) -> None:
    found = admin.ask(DescribeClusterRequest(include_cluster_authorized_operations=True), 2)
    assert found.cluster_authorized_operations == EVERYTHING


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [(CONTROLLERS, ErrorCode.MISMATCHED_ENDPOINT_TYPE), (7, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE)],
)
def test_controllers_are_not_to_be_had_here(admin: WireAdmin, endpoint: int, code: ErrorCode) -> None:
    found = admin.ask(DescribeClusterRequest(endpoint_type=endpoint), 1)
    assert (found.error_code, bool(found.error_message), found.brokers) == (code, True, ())


def test_the_rack_and_the_number_are_the_settings(own: OwnBroker) -> None:
    own.restart(broker_rack="east", node_id=7)
    (broker,) = own.ask(DescribeClusterRequest(), 2).brokers
    assert (broker.broker_id, broker.rack) == (7, "east")
