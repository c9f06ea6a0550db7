"""Produce's short ways say the same as its declarations, of every request and response."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.errors import MalformedMessage
from logstore.wire.messages import produce
from logstore.wire.messages.produce import (
    Batch,
    Batches,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
    decode_batches,
    encode_appended,
)
from wire_messages import broken

VERSIONS = range(3, 14)
ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
NAMES = ["orders", "", "größe", "x" * 126, "y" * 127, "z" * 249]
RECORD_SIZES = [0, 1, 2, 100, 126, 127, 128, 16382, 16383, 16384, (1 << 21) - 2, (1 << 21) - 1, 1 << 21]


def request(name: str, partitions: list[PartitionProduceData], acks: int = -1) -> ProduceRequest:
    return ProduceRequest(None, acks, 30_000, [TopicProduceData(name, ID, partitions)])


def by_declarations(encoded: bytes, version: int) -> tuple[object, ...]:
    decoded = ProduceRequest.decode_request(encoded, version)
    batches = [
        (topic.topic_id if version >= 13 else topic.name, data.index, data.records)
        for topic in decoded.topic_data
        for data in topic.partition_data
    ]
    return decoded.transactional_id, decoded.acks, decoded.timeout_ms, batches


def decoded(encoded: bytes, version: int) -> tuple[object, ...]:
    found = decode_batches(b"head" + encoded, version, 4)
    return *found[:3], [tuple(batch) for batch in found.batches]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_lone_batch_takes_the_short_way(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (100, 127, 16384):
        encoded = request("orders", [PartitionProduceData(5, bytes(size))]).encode(version)
        with monkeypatch.context() as patched:
            patched.delattr(produce, "_decode_any")
            found = decode_batches(encoded, version, 0)
        topic = ID if version >= 13 else "orders"
        assert found == Batches(None, -1, 30_000, (Batch(topic, 5, bytes(size)),))  # type: ignore[arg-type]
        assert isinstance(found.batches[0].records, memoryview)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_lone_batches_of_any_size(version: int, name: str) -> None:
    for size in RECORD_SIZES:
        encoded = request(name, [PartitionProduceData(5, bytes(size))], acks=1).encode(version)
        assert decoded(encoded, version) == by_declarations(encoded, version)


STRUCTURES = st.builds(
    ProduceRequest,
    st.sampled_from([None, None, "", "t"]),
    st.integers(-1, 1),
    st.sampled_from([0, -1, 2**31 - 1]),
    st.lists(
        st.builds(
            TopicProduceData,
            st.sampled_from(NAMES),
            st.just(ID),
            st.lists(st.builds(PartitionProduceData, st.integers(0, 9), st.none() | st.binary(max_size=9)), max_size=3),
        ),
        max_size=3,
    ),
)


@given(STRUCTURES, st.sampled_from(VERSIONS))
def test_requests_of_any_structure(sent: ProduceRequest, version: int) -> None:
    encoded = sent.encode(version)
    assert decoded(encoded, version) == by_declarations(encoded, version)


@pytest.mark.parametrize("version", [7, 9, 13])
@pytest.mark.parametrize("size", [None, 0, 5, 130])
def test_what_the_declarations_refuse_the_short_way_refuses(version: int, size: int | None) -> None:
    """And it takes nothing for something else: each byte in turn is another one, and the frame's end is elsewhere."""
    records = None if size is None else bytes(size)
    encoded = request("orders", [PartitionProduceData(5, records)]).encode(version)
    for changed in broken(encoded):
        try:
            expected = by_declarations(changed, version)
        except MalformedMessage:
            with pytest.raises(MalformedMessage):
                decode_batches(changed, version, 0)
        else:
            assert decoded(changed, version) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_every_prefix_is_malformed(version: int) -> None:
    encoded = request("orders", [PartitionProduceData(5, b"batch")]).encode(version)
    for size in range(len(encoded)):
        with pytest.raises(MalformedMessage):
            decode_batches(encoded[:size], version, 0)


@given(st.binary(max_size=80), st.sampled_from(VERSIONS))
def test_any_bytes_are_a_request_or_malformed(encoded: bytes, version: int) -> None:
    try:
        decode_batches(encoded, version, 0)
    except MalformedMessage:
        pass


@given(
    st.sampled_from(VERSIONS),
    st.sampled_from(NAMES),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(-1, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**31 - 1),
)
def test_the_response_of_a_lone_batch(
    version: int,
    name: str,
    partition: int,
    base_offset: int,
    log_append_time_ms: int,
    log_start_offset: int,
    throttle_time_ms: int,
) -> None:
    appended = PartitionProduceResponse(partition, 0, base_offset, log_append_time_ms, log_start_offset)
    response = ProduceResponse([TopicProduceResponse(name, ID, [appended])], throttle_time_ms)
    topic = ID if version >= 13 else name
    assert response.encode(version) == encode_appended(
        version, topic, partition, base_offset, log_append_time_ms, log_start_offset, throttle_time_ms
    )
