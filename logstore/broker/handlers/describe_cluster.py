"""DescribeCluster: this broker, which is all of it."""

from logstore.broker.authorized_operations import CLUSTER_OPERATIONS
from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

_BROKERS, _CONTROLLERS = 1, 2  # endpoint types


def handle(broker: Broker, request: DescribeClusterRequest, context: RequestContext) -> DescribeClusterResponse:
    response = DescribeClusterResponse(
        cluster_id=broker.cluster_id, controller_id=broker.node_id, endpoint_type=_BROKERS
    )
    if request.endpoint_type != _BROKERS:
        is_known = request.endpoint_type == _CONTROLLERS
        response.error_code = ErrorCode.MISMATCHED_ENDPOINT_TYPE if is_known else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
        response.error_message = f"this is an endpoint of brokers, and was asked for type {request.endpoint_type}"
        return response
    rack = broker.config.broker_rack or None
    response.brokers = [DescribeClusterBroker(broker_id=broker.node_id, host=broker.host, port=broker.port, rack=rack)]
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response
