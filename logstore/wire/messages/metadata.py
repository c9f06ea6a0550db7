"""Where everything is: the brokers, and for topics their ids, partitions and leaders. Every client asks this first."""

from collections.abc import Sequence
from uuid import UUID

from logstore.wire.schema import Message, field, message, struct


@struct
class MetadataRequestTopic:
    topic_id: UUID = field("uuid", since=10)
    name: str | None = field("string", nullable_since=10)


@message(api_key=3, versions=(0, 13), flexible_since=9)
class MetadataRequest(Message):
    topics: Sequence[MetadataRequestTopic] | None = field([MetadataRequestTopic], nullable_since=1)
    allow_auto_topic_creation: bool = field("bool", since=4, default=True)
    include_cluster_authorized_operations: bool = field("bool", since=8, until=10)
    include_topic_authorized_operations: bool = field("bool", since=8)


@struct
class MetadataResponseBroker:
    node_id: int = field("int32")
    host: str = field("string")
    port: int = field("int32")
    rack: str | None = field("string", since=1, nullable_since=1, default=None)


@struct
class MetadataResponsePartition:
    error_code: int = field("int16")
    partition_index: int = field("int32")
    leader_id: int = field("int32")
    leader_epoch: int = field("int32", since=7, default=-1)
    replica_nodes: Sequence[int] = field(["int32"])
    isr_nodes: Sequence[int] = field(["int32"])
    offline_replicas: Sequence[int] = field(["int32"], since=5)


@struct
class MetadataResponseTopic:
    error_code: int = field("int16")
    name: str | None = field("string", nullable_since=12)
    topic_id: UUID = field("uuid", since=10)
    is_internal: bool = field("bool", since=1)
    partitions: Sequence[MetadataResponsePartition] = field([MetadataResponsePartition])
    topic_authorized_operations: int = field("int32", since=8, default=-2147483648)


@message(api_key=3, versions=(0, 13), flexible_since=9)
class MetadataResponse(Message):
    throttle_time_ms: int = field("int32", since=3)
    brokers: Sequence[MetadataResponseBroker] = field([MetadataResponseBroker])
    cluster_id: str | None = field("string", since=2, nullable_since=2, default=None)
    controller_id: int = field("int32", since=1, default=-1)
    topics: Sequence[MetadataResponseTopic] = field([MetadataResponseTopic])
    cluster_authorized_operations: int = field("int32", since=8, until=10, default=-2147483648)
    error_code: int = field("int16", since=13)
