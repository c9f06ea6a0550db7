"""Records on their way out.

Most requests ask for one partition, or, within a session, for what they asked for before. Such a request is a few
fields of fixed size, so one ``struct`` call takes it apart (``decode_request``); whatever looks different goes by the
declarations, with the same result. A response is made in pieces (``encode_response``): the records in it need not be
bytes, so a broker can send them from their file.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from struct import Struct
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from logstore.format.record import Buffer
from logstore.wire.primitives import COMPACT_SIZE_MAX, INT16, INT32, VARINTS, ByNameSize, Counts, uuid_of
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


# --------------------------------------------------------------------------------------------------- for the hot path

_FIRST_WITH_LOG_START, _FIRST_WITH_SESSIONS, _FIRST_WITH_PREFERRED_REPLICA = 5, 7, 11
_FIRST_FLEXIBLE, _FIRST_WITH_TOPIC_ID, _FIRST_WITHOUT_REPLICA_ID = 12, 13, 15
_CONSUMER = -1  # as a replica's id


class Wanted(NamedTuple):
    """A partition to read."""

    topic: str | UUID  # its id from version 13 on
    partition: int
    current_leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    log_start_offset: int
    max_bytes: int


class Wants(NamedTuple):
    """A request. ``forgotten``: topics (ids from version 13 on) and partitions that leave the session."""

    replica_id: int
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    isolation_level: int
    session_id: int
    session_epoch: int
    wanted: Sequence[Wanted]
    forgotten: Sequence[tuple[str | UUID, int]]
    rack_id: str


_new_wanted: Callable[[tuple[Any, ...]], Wanted] = partial(tuple.__new__, Wanted)
_new_wants: Callable[[tuple[Any, ...]], Wants] = partial(tuple.__new__, Wants)

# From version 12 on. The fields of Wants up to wanted, and of Wanted behind topic; counts and sizes are one higher.
_HEAD, _HEAD_WITHOUT_REPLICA_ID, _WANTED = "iiiibii", "iiibii", "iiqiqi"
_END = (1, 1, 0)  # nothing forgotten, no rack, no tags
_LONE_END = (0, 0, *_END)  # no tags of the partition and of the topic
_NONE_WANTED = {False: Struct(f">{_HEAD_WITHOUT_REPLICA_ID}BBBB"), True: Struct(f">{_HEAD}BBBB")}
_LONE_BY_ID = {
    False: Struct(f">{_HEAD_WITHOUT_REPLICA_ID}B16sB{_WANTED}BBBBB"),
    True: Struct(f">{_HEAD}B16sB{_WANTED}BBBBB"),
}
_LONE_BY_NAME = ByNameSize(f">{_HEAD}BB{{}}sB{_WANTED}BBBBB")
_LONE_BY_NAME_SIZE_MIN = _LONE_BY_NAME[0].size


def decode_request(frame: Buffer, version: int, position: int) -> Wants:
    """What a request asks for; its topics without partitions are left out. Raises MalformedMessage."""
    view = memoryview(frame)
    if version >= _FIRST_FLEXIBLE:
        has_replica_id = version < _FIRST_WITHOUT_REPLICA_ID
        if len(view) - position == _NONE_WANTED[has_replica_id].size:
            found = _decode_none(view, position, has_replica_id)
        elif version >= _FIRST_WITH_TOPIC_ID:
            found = _decode_lone_by_id(view, position, has_replica_id)
        else:
            found = _decode_lone_by_name(view, position)
        if found is not None:
            return found
    return _decode_any(view, version, position)


def _decode_none(view: memoryview, position: int, has_replica_id: bool) -> Wants | None:
    """A session goes on as it was; None: look closer."""
    fields = _NONE_WANTED[has_replica_id].unpack_from(view, position)
    if fields[-4:] != (1, *_END):
        return None
    return _new_wants((*(fields[:7] if has_replica_id else (_CONSUMER, *fields[:6])), (), (), ""))


def _decode_lone_by_id(view: memoryview, position: int, has_replica_id: bool) -> Wants | None:
    """One partition is asked for; None: look closer."""
    layout = _LONE_BY_ID[has_replica_id]
    if len(view) - position != layout.size:
        return None
    fields = layout.unpack_from(view, position)
    if fields[-5:] != _LONE_END or fields[-14] != 2 or fields[-12] != 2:
        return None
    wanted = _new_wanted((uuid_of(fields[-13]), *fields[-11:-5]))
    return _new_wants((*(fields[:7] if has_replica_id else (_CONSUMER, *fields[:6])), (wanted,), (), ""))


def _decode_lone_by_name(view: memoryview, position: int) -> Wants | None:
    """One partition is asked for, in version 12; None: look closer."""
    size = len(view) - position - _LONE_BY_NAME_SIZE_MIN
    if not 0 <= size <= COMPACT_SIZE_MAX:
        return None
    fields = _LONE_BY_NAME[size].unpack_from(view, position)
    name = fields[9]
    if fields[-5:] != _LONE_END or fields[7] != 2 or fields[8] != size + 1 or fields[10] != 2 or not name.isascii():
        return None
    return _new_wants((*fields[:7], (_new_wanted((name.decode(), *fields[11:17])),), (), ""))


def _decode_any(view: memoryview, version: int, position: int) -> Wants:
    request = FetchRequest.decode_request(view, version, position)
    has_ids = version >= _FIRST_WITH_TOPIC_ID
    wanted = [
        Wanted(
            topic.topic_id if has_ids else topic.topic,
            asked.partition,
            asked.current_leader_epoch,
            asked.fetch_offset,
            asked.last_fetched_epoch,
            asked.log_start_offset,
            asked.partition_max_bytes,
        )
        for topic in request.topics
        for asked in topic.partitions
    ]
    forgotten = [
        (topic.topic_id if has_ids else topic.topic, partition)
        for topic in request.forgotten_topics_data
        for partition in topic.partitions
    ]
    return Wants(
        request.replica_id if version < _FIRST_WITHOUT_REPLICA_ID else request.replica_state.replica_id,
        request.max_wait_ms,
        request.min_bytes,
        request.max_bytes,
        request.isolation_level,
        request.session_id,
        request.session_epoch,
        wanted,
        forgotten,
        request.rack_id,
    )


class Records(Protocol):
    """Bytes of ``size`` that stand somewhere else."""

    @property
    def size(self) -> int: ...


R = TypeVar("R", bound=Records)


class Read(NamedTuple, Generic[R]):
    """What was read of a partition. ``aborted_transactions``: producer ids and first offsets; None for who reads
    uncommitted."""

    partition: int
    error_code: int
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    records: R | None
    aborted_transactions: Sequence[tuple[int, int]] | None = None


class _Layout(NamedTuple):
    """Of a version's responses. ``pack``: a partition up to the records, with the count of its aborted transactions, of
    which it has none, and the preferred replica where there is one."""

    pack: Callable[..., bytes]
    aborted_position: int
    aborted: Struct  # a transaction
    counts: Counts
    no_aborted: int  # as a count; null is one less
    tags: bytes


@cache
def _layout(version: int) -> _Layout:
    fixed = ">ihqqq" if version >= _FIRST_WITH_LOG_START else ">ihqq"
    replica = "i" if version >= _FIRST_WITH_PREFERRED_REPLICA else ""
    position = Struct(fixed).size
    if version < _FIRST_FLEXIBLE:
        return _Layout(Struct(f"{fixed}i{replica}").pack, position, Struct(">qq"), Counts(is_flexible=False), 0, b"")
    return _Layout(Struct(f"{fixed}B{replica}").pack, position, Struct(">qqx"), Counts(is_flexible=True), 1, b"\0")


_RESPONSE_HEAD = Struct(">ihi")  # throttle time, error code, session id
_NO_REPLICA = -1


def encode_response(
    topics: Collection[tuple[str | UUID, Collection[Read[R]]]],
    version: int,
    *,
    error_code: int = 0,
    session_id: int = 0,
    throttle_time_ms: int = 0,
) -> tuple[list[bytes | R], int]:
    """The response in pieces, and its size; topics go by their ids from version 13 on."""
    layout = _layout(version)
    _, _, _, counts, _, tags = layout
    size = 0
    pieces: list[bytes | R] = []
    if version >= _FIRST_WITH_SESSIONS:
        begun = [_RESPONSE_HEAD.pack(throttle_time_ms, error_code, session_id), counts[len(topics)]]
    else:
        begun = [INT32.pack(throttle_time_ms), counts[len(topics)]]
    for topic, reads in topics:
        begun += (topic.bytes if isinstance(topic, UUID) else _encoded_name(topic, version), counts[len(reads)])
        for read in reads:
            records = read.records
            if records is None:
                begun += (_encoded_partition(read, version, layout), counts[0], tags)
            else:
                records_size = records.size
                begun += (_encoded_partition(read, version, layout), counts[records_size])
                piece = b"".join(begun)
                pieces += (piece, records)
                size += len(piece) + records_size
                begun = [tags]
        begun.append(tags)
    begun.append(tags)
    piece = b"".join(begun)
    if piece:
        pieces.append(piece)
    return pieces, size + len(piece)


def _encoded_name(topic: str, version: int) -> bytes:
    name = topic.encode()
    return (VARINTS[len(name) + 1] if version >= _FIRST_FLEXIBLE else INT16.pack(len(name))) + name


def _encoded_partition(read: Read[Any], version: int, layout: _Layout) -> bytes:
    """All but the records."""
    partition, error_code, high_watermark, last_stable_offset, log_start_offset, _, aborted = read
    pack, position, transaction, counts, none, _ = layout
    if aborted is None:
        none -= 1
    if version >= _FIRST_WITH_PREFERRED_REPLICA:
        encoded = pack(partition, error_code, high_watermark, last_stable_offset, log_start_offset, none, _NO_REPLICA)
    elif version >= _FIRST_WITH_LOG_START:
        encoded = pack(partition, error_code, high_watermark, last_stable_offset, log_start_offset, none)
    else:
        encoded = pack(partition, error_code, high_watermark, last_stable_offset, none)
    if not aborted:
        return encoded
    transactions = b"".join([transaction.pack(*each) for each in aborted])
    return encoded[:position] + counts[len(aborted)] + transactions + encoded[position + len(counts[0]) :]
