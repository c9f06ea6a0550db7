"""Records on their way out."""

from collections.abc import Sequence
from uuid import UUID

from logstore.format.record import Buffer
from logstore.wire.schema import Message, field, message, struct


@struct
class ReplicaState:
    replica_id: int = field("int32", since=15, default=-1)
    replica_epoch: int = field("int64", since=15, default=-1)


@struct
class FetchPartition:
    partition: int = field("int32")
    current_leader_epoch: int = field("int32", since=9, default=-1)
    fetch_offset: int = field("int64")
    last_fetched_epoch: int = field("int32", since=12, default=-1)
    log_start_offset: int = field("int64", since=5, default=-1)
    partition_max_bytes: int = field("int32")
    replica_directory_id: UUID = field("uuid", since=17, tag=0)
    high_watermark: int = field("int64", since=18, tag=1, default=0x7FFFFFFFFFFFFFFF)


@struct
class FetchTopic:
    topic: str = field("string", until=12)
    topic_id: UUID = field("uuid", since=13)
    partitions: Sequence[FetchPartition] = field([FetchPartition])


@struct
class ForgottenTopic:
    topic: str = field("string", since=7, until=12)
    topic_id: UUID = field("uuid", since=13)
    partitions: Sequence[int] = field(["int32"], since=7)


@message(api_key=1, versions=(4, 18), flexible_since=12)
class FetchRequest(Message):
    cluster_id: str | None = field("string", since=12, nullable_since=12, tag=0, default=None)
    replica_id: int = field("int32", until=14, default=-1)
    replica_state: ReplicaState = field(ReplicaState, since=15, tag=1)
    max_wait_ms: int = field("int32")
    min_bytes: int = field("int32")
    max_bytes: int = field("int32", since=3, default=0x7FFFFFFF)
    isolation_level: int = field("int8", since=4)
    session_id: int = field("int32", since=7)
    session_epoch: int = field("int32", since=7, default=-1)
    topics: Sequence[FetchTopic] = field([FetchTopic])
    forgotten_topics_data: Sequence[ForgottenTopic] = field([ForgottenTopic], since=7)
    rack_id: str = field("string", since=11)


@struct
class EpochEndOffset:
    epoch: int = field("int32", since=12, default=-1)
    end_offset: int = field("int64", since=12, default=-1)


@struct
class LeaderIdAndEpoch:
    leader_id: int = field("int32", since=12, default=-1)
    leader_epoch: int = field("int32", since=12, default=-1)


@struct
class SnapshotId:
    end_offset: int = field("int64", default=-1)
    epoch: int = field("int32", default=-1)


@struct
class AbortedTransaction:
    producer_id: int = field("int64", since=4)
    first_offset: int = field("int64", since=4)


@struct
class PartitionData:
    partition_index: int = field("int32")
    error_code: int = field("int16")
    high_watermark: int = field("int64")
    last_stable_offset: int = field("int64", since=4, default=-1)
    log_start_offset: int = field("int64", since=5, default=-1)
    diverging_epoch: EpochEndOffset = field(EpochEndOffset, since=12, tag=0)
    current_leader: LeaderIdAndEpoch = field(LeaderIdAndEpoch, since=12, tag=1)
    snapshot_id: SnapshotId = field(SnapshotId, since=12, tag=2)
    aborted_transactions: Sequence[AbortedTransaction] | None = field([AbortedTransaction], since=4, nullable_since=4)
    preferred_read_replica: int = field("int32", since=11, default=-1)
    records: Buffer | None = field("records", nullable_since=0)


@struct
class FetchableTopicResponse:
    topic: str = field("string", until=12)
    topic_id: UUID = field("uuid", since=13)
    partitions: Sequence[PartitionData] = field([PartitionData])


@struct
class NodeEndpoint:
    node_id: int = field("int32", since=16)
    host: str = field("string", since=16)
    port: int = field("int32", since=16)
    rack: str | None = field("string", since=16, nullable_since=16, default=None)


@message(api_key=1, versions=(4, 18), flexible_since=12)
class FetchResponse(Message):
    throttle_time_ms: int = field("int32", since=1)
    error_code: int = field("int16", since=7)
    session_id: int = field("int32", since=7)
    responses: Sequence[FetchableTopicResponse] = field([FetchableTopicResponse])
    node_endpoints: Sequence[NodeEndpoint] = field([NodeEndpoint], since=16, tag=0)
