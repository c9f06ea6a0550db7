"""Records on their way in: each partition's as one batch.

Most requests carry one batch for one partition of one topic, with no transaction. Such a request is, but for the batch,
a few fields of fixed size around the topic's name, so one ``struct`` call takes it apart (``decode_batches``), and
another makes its answer (``encode_appended``). Whatever looks different goes by the declarations, with the same result.
"""

from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import Any, NamedTuple
from uuid import UUID

from logstore.format.record import Buffer
from logstore.wire.primitives import COMPACT_SIZE_MAX, ByNameSize, uuid_of
from logstore.wire.schema import Message, field, message, struct


@struct
class PartitionProduceData:
    index: int = field("int32")
    records: Buffer | None = field("records", nullable_since=0)


@struct
class TopicProduceData:
    name: str = field("string", until=12)
    topic_id: UUID = field("uuid", since=13)
    partition_data: Sequence[PartitionProduceData] = field([PartitionProduceData])


@message(api_key=0, versions=(3, 13), flexible_since=9)
class ProduceRequest(Message):
    transactional_id: str | None = field("string", nullable_since=3, default=None)
    acks: int = field("int16")
    timeout_ms: int = field("int32")
    topic_data: Sequence[TopicProduceData] = field([TopicProduceData])


@struct
class BatchIndexAndErrorMessage:
    batch_index: int = field("int32", since=8)
    batch_index_error_message: str | None = field("string", since=8, nullable_since=8, default=None)


@struct
class LeaderIdAndEpoch:
    leader_id: int = field("int32", since=10, default=-1)
    leader_epoch: int = field("int32", since=10, default=-1)


@struct
class PartitionProduceResponse:
    index: int = field("int32")
    error_code: int = field("int16")
    base_offset: int = field("int64")
    log_append_time_ms: int = field("int64", since=2, default=-1)
    log_start_offset: int = field("int64", since=5, default=-1)
    record_errors: Sequence[BatchIndexAndErrorMessage] = field([BatchIndexAndErrorMessage], since=8)
    error_message: str | None = field("string", since=8, nullable_since=8, default=None)
    current_leader: LeaderIdAndEpoch = field(LeaderIdAndEpoch, since=10, tag=0)


@struct
class TopicProduceResponse:
    name: str = field("string", until=12)
    topic_id: UUID = field("uuid", since=13)
    partition_responses: Sequence[PartitionProduceResponse] = field([PartitionProduceResponse])


@struct
class NodeEndpoint:
    node_id: int = field("int32", since=10)
    host: str = field("string", since=10)
    port: int = field("int32", since=10)
    rack: str | None = field("string", since=10, nullable_since=10, default=None)


@message(api_key=0, versions=(3, 13), flexible_since=9)
class ProduceResponse(Message):
    responses: Sequence[TopicProduceResponse] = field([TopicProduceResponse])
    throttle_time_ms: int = field("int32", since=1)
    node_endpoints: Sequence[NodeEndpoint] = field([NodeEndpoint], since=10, tag=0)


# --------------------------------------------------------------------------------------------------- for the hot path


class Batch(NamedTuple):
    """``records`` is a view of the frame."""

    topic: str | UUID  # its id from version 13 on
    partition: int
    records: Buffer | None


class Batches(NamedTuple):
    transactional_id: str | None
    acks: int
    timeout_ms: int
    batches: Sequence[Batch]


_new_batch: Callable[[tuple[Any, ...]], Batch] = partial(tuple.__new__, Batch)
_new_batches: Callable[[tuple[Any, ...]], Batches] = partial(tuple.__new__, Batches)

_FIRST_FLEXIBLE, _FIRST_WITH_TOPIC_ID = 9, 13
_NO_TAGS = b"\0\0\0"  # of the partition, the topic and the request


# Size of transactional_id, acks, timeout_ms, topics, size of the name, name, partitions, index, and the size of the
# records or the bytes that it may take.
_PLAIN_REQUEST = ByNameSize(">hhiih{}siii")
_PLAIN_NAME_POSITION = 14
_FLEXIBLE_REQUEST = ByNameSize(">BhiBB{}sBiBBB")
_FLEXIBLE_NAME_POSITION = 9
_TOPIC_ID_REQUEST = Struct(">BhiB16sBiBBB")


def decode_batches(frame: Buffer, version: int, position: int) -> Batches:
    """What a request asks for; its topics without partitions are left out. Raises MalformedMessage."""
    view = memoryview(frame)
    decode_lone = _decode_lone if version >= _FIRST_FLEXIBLE else _decode_lone_plain
    return decode_lone(view, version, position) or _decode_any(view, version, position)


def _decode_lone_plain(view: memoryview, version: int, position: int) -> Batches | None:
    """A request of one batch before version 9; None: look closer."""
    end = len(view)
    if end < position + _PLAIN_NAME_POSITION:
        return None
    layout = _PLAIN_REQUEST[view[position + _PLAIN_NAME_POSITION - 1]]
    start = position + layout.size
    if start > end:
        return None
    id_size, acks, timeout_ms, topics, name_size, name, partitions, index, size = layout.unpack_from(view, position)
    if (
        (id_size, topics, partitions) != (-1, 1, 1)
        or name_size != len(name)
        or start + size != end
        or not name.isascii()
    ):
        return None
    return _new_batches((None, acks, timeout_ms, (_new_batch((name.decode(), index, view[start:])),)))


def _decode_lone(view: memoryview, version: int, position: int) -> Batches | None:
    """A request of one batch from version 9 on; None: look closer."""
    end = len(view)
    if end < position + _FLEXIBLE_NAME_POSITION:
        return None
    topic: str | UUID
    if version < _FIRST_WITH_TOPIC_ID:
        name_size = view[position + _FLEXIBLE_NAME_POSITION - 1] - 1
        if not 0 <= name_size <= COMPACT_SIZE_MAX:
            return None
        layout = _FLEXIBLE_REQUEST[name_size]
        start = position + layout.size
        if start > end:
            return None
        id_size, acks, timeout_ms, topics, _, name, partitions, index, low, middle, high = layout.unpack_from(
            view, position
        )
        if not name.isascii():
            return None
        topic = name.decode()
    else:
        start = position + _TOPIC_ID_REQUEST.size
        if start > end:
            return None
        id_size, acks, timeout_ms, topics, encoded_id, partitions, index, low, middle, high = (
            _TOPIC_ID_REQUEST.unpack_from(view, position)
        )
        topic = uuid_of(encoded_id)
    if id_size or topics != 2 or partitions != 2 or (high > 0x7F and middle > 0x7F and low > 0x7F):
        return None
    if low <= 0x7F:
        size = low - 1
        start -= 2
    elif middle <= 0x7F:
        size = (low & 0x7F | middle << 7) - 1
        start -= 1
    else:
        size = (low & 0x7F | (middle & 0x7F) << 7 | high << 14) - 1
    stop = start + size
    if size < 0 or view[stop:] != _NO_TAGS:
        return None
    return _new_batches((None, acks, timeout_ms, (_new_batch((topic, index, view[start:stop])),)))


def _decode_any(view: memoryview, version: int, position: int) -> Batches:
    request = ProduceRequest.decode_request(view, version, position)
    has_ids = version >= _FIRST_WITH_TOPIC_ID
    batches = [
        Batch(topic.topic_id if has_ids else topic.name, data.index, data.records)
        for topic in request.topic_data
        for data in topic.partition_data
    ]
    return Batches(request.transactional_id, request.acks, request.timeout_ms, batches)


# Topics, size of the name, name, partitions, index, error code, base offset, log append time, log start offset, in
# flexible versions no record errors and no error message, throttle time.
_PLAIN_RESPONSE = ByNameSize(">ih{}siihqqqi")
_PLAIN_RESPONSE_VERSIONS = (5, 6, 7)
_FLEXIBLE_RESPONSE = ByNameSize(">BB{}sBihqqqBxxxix")
_TOPIC_ID_RESPONSE = Struct(">B16sBihqqqBxxxix")


def encode_appended(
    version: int,
    topic: str | UUID,
    partition: int,
    base_offset: int,
    log_append_time_ms: int,
    log_start_offset: int,
    throttle_time_ms: int = 0,
) -> bytes:
    """The response to a request of one batch which was appended; ``topic`` is its id from version 13 on."""
    if isinstance(topic, UUID):
        return _TOPIC_ID_RESPONSE.pack(
            *(2, topic.bytes, 2, partition, 0, base_offset, log_append_time_ms, log_start_offset, 1, throttle_time_ms)
        )
    name = topic.encode()
    size = len(name)
    if version in _PLAIN_RESPONSE_VERSIONS:
        return _PLAIN_RESPONSE[size].pack(
            *(1, size, name, 1, partition, 0, base_offset, log_append_time_ms, log_start_offset, throttle_time_ms)
        )
    if version >= _FIRST_FLEXIBLE and size <= COMPACT_SIZE_MAX:
        return _FLEXIBLE_RESPONSE[size].pack(
            *(2, size + 1, name, 2, partition, 0, base_offset, log_append_time_ms, log_start_offset, 1),
            throttle_time_ms,
        )
    appended = PartitionProduceResponse(partition, 0, base_offset, log_append_time_ms, log_start_offset)
    response = TopicProduceResponse(name=topic, partition_responses=(appended,))
    return ProduceResponse((response,), throttle_time_ms).encode(version)
