"""Leaders of partitions are elected: the preferred replica, or whichever there is."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class TopicPartitions:
    topic: str = field("string")
    partitions: Sequence[int] = field(["int32"])


@message(api_key=43, versions=(0, 2), flexible_since=2)
class ElectLeadersRequest(Message):
    election_type: int = field("int8", since=1)
    topic_partitions: Sequence[TopicPartitions] | None = field([TopicPartitions], nullable_since=0)
    timeout_ms: int = field("int32", default=60000)


@struct
class PartitionResult:
    partition_id: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)


@struct
class ReplicaElectionResult:
    topic: str = field("string")
    partition_result: Sequence[PartitionResult] = field([PartitionResult])


@message(api_key=43, versions=(0, 2), flexible_since=2)
class ElectLeadersResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16", since=1)
    replica_election_results: Sequence[ReplicaElectionResult] = field([ReplicaElectionResult])
