import string
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import CorruptCheckpoint
from logstore.format.checkpoint import (
    decode_epochs,
    decode_gaps,
    decode_offsets,
    decode_partition_metadata,
    encode_epochs,
    encode_gaps,
    encode_offsets,
    encode_partition_metadata,
)

KAFKA = Path(__file__).parent.parent / "data" / "kafka-4.1.1"
TOPIC_ID = UUID("00010203-0405-4607-8809-0a0b0c0d0e0f")
Encode, Decode = Callable[[Any], bytes], Callable[[bytes], Any]

GOLDEN = [
    (
        encode_offsets,
        decode_offsets,
        {("__consumer_offsets", 49): 0, ("orders", 0): 4711, ("orders", 10): 2**63 - 2**32},
        (KAFKA / "replication-offset-checkpoint").read_bytes().replace(b"9223372036854775807", b"9223372032559808512"),
    ),
    (encode_offsets, decode_offsets, {}, b"0\n0\n"),
    (encode_offsets, decode_offsets, {("a-b_c.d", 2**31 - 1): 7}, b"0\n1\na-b_c.d 2147483647 7\n"),
    (encode_epochs, decode_epochs, [(0, 0), (3, 4711)], (KAFKA / "leader-epoch-checkpoint").read_bytes()),
    (encode_epochs, decode_epochs, [], b"0\n0\n"),
    (encode_gaps, decode_gaps, [(100, 199), (300, 300)], b"0\n2\n100 199\n300 300\n"),
    (encode_gaps, decode_gaps, [], b"0\n0\n"),
    (
        encode_partition_metadata,
        decode_partition_metadata,
        TOPIC_ID,
        (KAFKA / "partition.metadata").read_bytes(),
    ),
]


def test_an_offset_that_no_log_can_have_reached_is_corrupt() -> None:
    data = (KAFKA / "replication-offset-checkpoint").read_bytes()
    with pytest.raises(CorruptCheckpoint, match="line 5: 9223372036854775807 is over 9223372032559808512"):
        decode_offsets(data)


@pytest.mark.parametrize(("encode", "decode", "value", "golden"), GOLDEN)
def test_a_file_has_exactly_these_bytes(encode: Encode, decode: Decode, value: Any, golden: bytes) -> None:
    assert encode(value) == golden
    assert decode(golden) == value


def test_offsets_are_written_in_order_of_topic_and_partition() -> None:
    assert encode_offsets({("b", 10): 1, ("b", 9): 2, ("a", 0): 3}) == b"0\n3\na 0 3\nb 9 2\nb 10 1\n"


@pytest.mark.parametrize("decode", [decode_offsets, decode_epochs, decode_gaps, decode_partition_metadata])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "line 1: the file is empty"),
        (b"\n", "line 1"),
        (b"\n\n\n", "line 1"),
        (b"\0" * 30, "line 1"),
        (b"1\n0\n", "line 1"),
        (b"-1\n0\n", "line 1"),
        (b"zero\n0\n", "line 1"),
        (b"\xff\n0\n", "line 1: not UTF-8"),
    ],
)
def test_a_file_that_is_nothing_of_the_kind_is_corrupt(decode: Decode, data: bytes, reason: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=reason):
        decode(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"0", "line 1: the file ends within the line"),
        (b"0\n", "line 2: the file ends before its count"),
        (b"0\n2", "line 2: the file ends within the line"),
        (b"0\n2\n", "line 2: the count is 2, but 0 rows follow"),
        (b"0\n2\n1 2\n", "line 2: the count is 2, but 1 rows follow"),
        (b"0\n2\n1 2\n3 4", "line 4: the file ends within the line"),
        (b"0\n1\n1 2\n3 4\n", "line 2: the count is 1, but 2 rows follow"),
        (b"0\n-1\n", "line 2: '-1' is not a number"),
        (b"0\n9999999999999999999999\n", "line 2"),
        (b"0\n1\n\n", "line 3: 1 fields instead of 2"),
        (b"0\n1\n12\n", "line 3: 1 fields instead of 2"),
        (b"0\n1\n1 2 3\n", "line 3: 3 fields instead of 2"),
        (b"0\n1\n1  2\n", "line 3: 3 fields instead of 2"),
        (b"0\n1\n1 -2\n", "line 3: '-2' is not a number"),
        (b"0\n1\n1 +2\n", "line 3"),
        (b"0\n1\n1 2_0\n", "line 3"),
        (b"0\n1\n1 2\r\n", "line 3"),
        (b"0\n1\n1 2.0\n", "line 3"),
        (b"0\n2\n1 2\n1 \xd9\xa3\n", "line 4"),
        (b"0\n2\n1 2\n1 \xff\n", "line 4: not UTF-8"),
        (b"0\n1\n0 9223372036854775808\n", "line 3: 9223372036854775808 is over 9223372032559808512"),
        (b"0\n1\n0 9223372032559808513\n", "line 3: 9223372032559808513 is over 9223372032559808512"),
        (b"0\n1\n0 9000000000000000000\n0 1\n", "the count is 1"),
    ],
)
def test_damaged_rows_are_corrupt_at_their_line(data: bytes, reason: str) -> None:
    for decode in (decode_epochs, decode_gaps):
        with pytest.raises(CorruptCheckpoint) as caught:
            decode(data)
        assert reason in caught.value.reason


def test_a_position_is_where_the_line_starts() -> None:
    with pytest.raises(CorruptCheckpoint) as caught:
        decode_epochs(b"0\n2\n1 2\n1 x\n")
    assert caught.value.position == 8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"0\n1\norders 0\n", "line 3: 2 fields instead of 3"),
        (b"0\n1\norders 2147483648 0\n", "line 3: 2147483648 is over 2147483647"),
        (b"0\n2\norders 0 5\norders 0 6\n", "line 4: a second offset for orders 0"),
        (b"0\n1\n.. 0 5\n", "line 3: '..' is not a topic name"),
        (b"0\n1\na/b 0 5\n", "line 3: 'a/b' is not a topic name"),
        (b"0\n1\n 0 5\n", "line 3: '' is not a topic name"),
    ],
)
def test_damaged_offsets_are_corrupt_at_their_line(data: bytes, reason: str) -> None:
    with pytest.raises(CorruptCheckpoint) as caught:
        decode_offsets(data)
    assert reason in caught.value.reason


def test_a_leader_epoch_over_32_bits_is_corrupt() -> None:
    with pytest.raises(CorruptCheckpoint, match="line 3: 2147483648"):
        decode_epochs(b"0\n1\n2147483648 0\n")


def test_a_gap_that_ends_before_it_starts_is_corrupt() -> None:
    with pytest.raises(CorruptCheckpoint, match="line 4: a gap that ends before it starts: 6 to 5"):
        decode_gaps(b"0\n2\n1 2\n6 5\n")


@pytest.mark.parametrize("golden", [golden for *_, golden in GOLDEN])
def test_a_file_that_is_cut_anywhere_is_corrupt(golden: bytes) -> None:
    decoders = [decode for _, decode, _, data in GOLDEN if data == golden]
    for size in range(len(golden)):
        for decode in decoders:
            with pytest.raises(CorruptCheckpoint, match=r"line [1-5]: "):
                decode(golden[:size])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"version: 0", "line 2"),
        (b"version: 0\n", "line 2"),
        (b"version: x\ntopic_id: AAECAwQFRgeICQoLDA0ODw", "line 1"),
        (b"version: 0\ntopic_id: AAECAwQFRgeICQoLDA0OD", "line 2"),
        (b"version: 0\ntopic_id: AAECAwQFRgeICQoLDA0OD+", "line 2"),
        (b"version: 0\ntopic_id: AAECAwQFRgeICQoLDA0ODw==", "line 2"),
        (b"version: 0\nid: AAECAwQFRgeICQoLDA0ODw", "line 2"),
        (b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA", "line 2: the topic_id is zero"),
    ],
)
def test_damaged_partition_metadata_is_corrupt_at_its_line(data: bytes, reason: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=reason):
        decode_partition_metadata(data)


@pytest.mark.parametrize(
    "data",
    [b"version: 0\ntopic_id: AAECAwQFRgeICQoLDA0ODw\n", b"version: 1\ntopic_id: AAECAwQFRgeICQoLDA0ODw\nmore: 1"],
)
def test_partition_metadata_may_go_on(data: bytes) -> None:
    assert decode_partition_metadata(data) == TOPIC_ID


TOPICS = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=30)
INT32, OFFSET = st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 2**32)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.tuples(TOPICS, INT32), OFFSET, max_size=10),
    st.lists(st.tuples(INT32, OFFSET), max_size=10),
    st.lists(st.tuples(OFFSET, OFFSET).map(lambda gap: (min(gap), max(gap))), max_size=10),
    st.uuids(),
)
def test_every_value_comes_back(
    offsets: dict[tuple[str, int], int], epochs: list[tuple[int, int]], gaps: list[tuple[int, int]], topic_id: UUID
) -> None:
    assert decode_offsets(encode_offsets(offsets)) == offsets
    assert decode_epochs(encode_epochs(epochs)) == epochs
    assert decode_gaps(encode_gaps(gaps)) == gaps
    assert decode_partition_metadata(encode_partition_metadata(topic_id)) == topic_id


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(GOLDEN), st.binary(max_size=12), st.integers(0, 80), st.integers(0, 3))
def test_any_bytes_are_a_value_or_corrupt(
    golden: tuple[Encode, Decode, Any, bytes], noise: bytes, at: int, cut: int
) -> None:
    encode, decode, _, valid = golden
    for data in (noise, valid[:at] + noise + valid[at + cut :]):
        try:
            value = decode(data)
        except CorruptCheckpoint:
            continue
        assert decode(encode(value)) == value
