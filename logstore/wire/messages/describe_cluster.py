"""The brokers, the controller and the id of a cluster, without its topics."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@message(api_key=60, versions=(0, 2), flexible_since=0)
class DescribeClusterRequest(Message):
    include_cluster_authorized_operations: bool = field("bool")
    endpoint_type: int = field("int8", since=1, default=1)
    include_fenced_brokers: bool = field("bool", since=2)


@struct
class DescribeClusterBroker:
    broker_id: int = field("int32")
    host: str = field("string")
    port: int = field("int32")
    rack: str | None = field("string", nullable_since=0, default=None)
    is_fenced: bool = field("bool", since=2)


@message(api_key=60, versions=(0, 2), flexible_since=0)
class DescribeClusterResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0, default=None)
    endpoint_type: int = field("int8", since=1, default=1)
    cluster_id: str = field("string")
    controller_id: int = field("int32", default=-1)
    brokers: Sequence[DescribeClusterBroker] = field([DescribeClusterBroker])
    cluster_authorized_operations: int = field("int32", default=-2147483648)
