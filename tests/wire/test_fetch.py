"""Fetch's short ways say the same as its declarations, of every request and response."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.errors import MalformedMessage
from logstore.wire.messages import fetch
from logstore.wire.messages.fetch import (
    AbortedTransaction,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
    Read,
    ReplicaState,
    Wanted,
    Wants,
    decode_request,
    encode_response,
)
from wire_messages import broken

VERSIONS = range(4, 19)
FIRST_FLEXIBLE, FIRST_WITH_TOPIC_ID = 12, 13
ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
NAMES = ["orders", "", "größe", "x" * 126, "y" * 127, "z" * 249]
INT32S, INT64S = st.integers(-1, 2**31 - 1), st.integers(-1, 2**63 - 1)


def by_declarations(encoded: bytes, version: int) -> tuple[object, ...]:
    found = FetchRequest.decode_request(encoded, version)
    has_ids = version >= FIRST_WITH_TOPIC_ID
    wanted = [
        (
            topic.topic_id if has_ids else topic.topic,
            *(asked.partition, asked.current_leader_epoch, asked.fetch_offset, asked.last_fetched_epoch),
            *(asked.log_start_offset, asked.partition_max_bytes),
        )
        for topic in found.topics
        for asked in topic.partitions
    ]
    forgotten = [
        (topic.topic_id if has_ids else topic.topic, partition)
        for topic in found.forgotten_topics_data
        for partition in topic.partitions
    ]
    return (
        found.replica_state.replica_id if version >= 15 else found.replica_id,
        *(found.max_wait_ms, found.min_bytes, found.max_bytes, found.isolation_level),
        *(found.session_id, found.session_epoch, wanted, forgotten, found.rack_id),
    )


def decoded(encoded: bytes, version: int) -> tuple[object, ...]:
    found = decode_request(b"head" + encoded, version, 4)
    return *found[:7], [tuple(wanted) for wanted in found.wanted], list(found.forgotten), found.rack_id


ASKED = st.builds(FetchPartition, INT32S, INT32S, INT64S, INT32S, INT64S, INT32S)


@pytest.mark.parametrize("version", range(FIRST_FLEXIBLE, 19))
def test_one_partition_or_none_takes_the_short_way(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lone = FetchRequest(
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=1 << 20,
        isolation_level=1,
        session_id=2,
        session_epoch=3,
        topics=[FetchTopic("orders", ID, [FetchPartition(4, 5, 6, 7, 8, 9)])],
    )
    monkeypatch.delattr(fetch, "_decode_any")
    wanted = Wanted(ID if version >= FIRST_WITH_TOPIC_ID else "orders", 4, 5, 6, 7, 8, 9)
    expected = Wants(-1, 500, 1, 1 << 20, 1, 2, 3, (wanted,), (), "")
    assert decode_request(lone.encode(version), version, 0) == expected
    lone.topics = ()
    assert decode_request(lone.encode(version), version, 0) == expected._replace(wanted=())


@given(
    st.builds(
        FetchRequest,
        replica_id=INT32S,
        replica_state=st.just(ReplicaState()) | st.builds(ReplicaState, INT32S, INT64S),
        max_wait_ms=INT32S,
        min_bytes=INT32S,
        max_bytes=INT32S,
        isolation_level=st.integers(0, 1),
        session_id=INT32S,
        session_epoch=INT32S,
        topics=st.lists(
            st.builds(FetchTopic, st.sampled_from(NAMES), st.just(ID), st.lists(ASKED, max_size=3)), max_size=2
        ),
        forgotten_topics_data=st.just([]) | st.just([ForgottenTopic("a", ID, [1, 2])]),
        rack_id=st.sampled_from(["", "", "rack"]),
    ),
    st.sampled_from(VERSIONS),
)
def test_requests_of_any_structure(sent: FetchRequest, version: int) -> None:
    encoded = sent.encode(version)
    assert decoded(encoded, version) == by_declarations(encoded, version)


@pytest.mark.parametrize("version", [11, 12, 13, 16])
@pytest.mark.parametrize("topics", [[], [FetchTopic("orders", ID, [FetchPartition(4, 5, 6, 7, 8, 9)])]])
def test_what_the_declarations_refuse_the_short_way_refuses(version: int, topics: list[FetchTopic]) -> None:
    """And it takes nothing for something else: each byte in turn is another one, and the frame's end is elsewhere."""
    for changed in broken(FetchRequest(topics=topics).encode(version)):
        try:
            expected = by_declarations(changed, version)
        except MalformedMessage:
            with pytest.raises(MalformedMessage):
                decode_request(changed, version, 0)
        else:
            assert decoded(changed, version) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_every_prefix_is_malformed(version: int) -> None:
    encoded = FetchRequest(topics=[FetchTopic("orders", ID, [FetchPartition()])]).encode(version)
    for size in range(len(encoded)):
        with pytest.raises(MalformedMessage):
            decode_request(encoded[:size], version, 0)


@given(st.binary(max_size=100), st.sampled_from(VERSIONS))
def test_any_bytes_are_a_request_or_malformed(encoded: bytes, version: int) -> None:
    try:
        decode_request(encoded, version, 0)
    except MalformedMessage:
        pass


class Somewhere(NamedTuple):
    """Records that are not here."""

    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)


READS = st.lists(
    st.builds(
        Read,
        INT32S,
        st.integers(-1, 100),
        INT64S,
        INT64S,
        INT64S,
        st.none() | st.builds(Somewhere, st.binary(max_size=20) | st.integers(120, 20_000).map(bytes)),
        st.none() | st.lists(st.tuples(INT64S, INT64S), max_size=3),
    ),
    max_size=4,
)


def declared(reads: Sequence[Read[Any]]) -> list[PartitionData]:
    return [
        PartitionData(
            *read[:5],
            aborted_transactions=None
            if read.aborted_transactions is None
            else [AbortedTransaction(*transaction) for transaction in read.aborted_transactions],
            records=b"" if read.records is None else read.records.content,
        )
        for read in reads
    ]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), READS), max_size=3),
    st.sampled_from(VERSIONS),
    st.integers(-1, 100),
    INT32S,
    INT32S,
)
def test_a_response_in_pieces_has_the_bytes_of_the_response(
    topics: list[tuple[str, list[Read[Any]]]], version: int, error_code: int, session_id: int, throttle_time_ms: int
) -> None:
    responses = [FetchableTopicResponse(name, ID, declared(reads)) for name, reads in topics]
    expected = FetchResponse(throttle_time_ms, error_code, session_id, responses).encode(version)
    keyed = [(ID if version >= FIRST_WITH_TOPIC_ID else name, reads) for name, reads in topics]
    pieces, size = encode_response(
        keyed, version, error_code=error_code, session_id=session_id, throttle_time_ms=throttle_time_ms
    )
    assert b"".join(piece.content if isinstance(piece, Somewhere) else piece for piece in pieces) == expected
    assert size == len(expected)


def test_bytes_between_records_are_one_piece() -> None:
    reads = [Read(partition, 0, 1, 1, 0, Somewhere(b"batch") if partition % 2 else None) for partition in range(6)]
    pieces, _ = encode_response({"a": reads, "b": reads}.items(), FIRST_FLEXIBLE)
    assert [type(piece) for piece in pieces] == [bytes, Somewhere] * 6 + [bytes]
