"""The codec that is compiled from declarations: each type at its borders, versions, tags; what hostile bytes meet."""

import struct as structs
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import InvalidArgument, MalformedMessage
from logstore.format.record import Buffer
from logstore.wire.messages.metadata import MetadataRequest
from logstore.wire.primitives import ELEMENTS_MAX, REQUEST_ELEMENTS_MAX
from logstore.wire.schema import Message, field, message, struct

PLAIN, FLEXIBLE = 0, 1
MANY = list(range(200))


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Bool(Message):
    value: bool = field("bool")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Int8(Message):
    value: int = field("int8")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Int16(Message):
    value: int = field("int16")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Int32(Message):
    value: int = field("int32")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Int64(Message):
    value: int = field("int64")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Uint16(Message):
    value: int = field("uint16")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Uint32(Message):
    value: int = field("uint32")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Float64(Message):
    value: float = field("float64")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Uuid(Message):
    value: UUID = field("uuid")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class String(Message):
    value: str = field("string")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class NullableString(Message):
    value: str | None = field("string", nullable_since=0)


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Bytes(Message):
    value: Buffer = field("bytes")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class NullableBytes(Message):
    value: Buffer | None = field("bytes", nullable_since=0)


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Records(Message):
    value: Buffer | None = field("records", nullable_since=0)


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Int32s(Message):
    value: Sequence[int] = field(["int32"])


@message(api_key=0, versions=(0, 1), flexible_since=1)
class NullableInt64s(Message):
    value: Sequence[int] | None = field(["int64"], nullable_since=0)


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Strings(Message):
    value: Sequence[str] = field(["string"])


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Uuids(Message):
    value: Sequence[UUID] = field(["uuid"])


@struct
class Pair:
    key: int = field("int8")
    name: str = field("string")


@message(api_key=0, versions=(0, 1), flexible_since=1)
class Pairs(Message):
    value: Sequence[Pair] = field([Pair])


@message(api_key=0, versions=(0, 1), flexible_since=1)
class NullablePair(Message):
    value: Pair | None = field(Pair, nullable_since=0)


ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
# Message, value, its bytes in a version that is not flexible, and (without the tags at the end) in one that is.
CASES: list[tuple[type[Any], Any, bytes, bytes]] = [
    (Bool, False, b"\0", b"\0"),
    (Bool, True, b"\1", b"\1"),
    *((Int8, value, (code := structs.pack(">b", value)), code) for value in (-128, -1, 0, 127)),
    *((Int16, value, (code := structs.pack(">h", value)), code) for value in (-(2**15), -1, 0, 2**15 - 1)),
    *((Int32, value, (code := structs.pack(">i", value)), code) for value in (-(2**31), -1, 0, 2**31 - 1)),
    *((Int64, value, (code := structs.pack(">q", value)), code) for value in (-(2**63), -1, 0, 2**63 - 1)),
    *((Uint16, value, (code := structs.pack(">H", value)), code) for value in (0, 2**16 - 1)),
    *((Uint32, value, (code := structs.pack(">I", value)), code) for value in (0, 2**32 - 1)),
    *((Float64, value, (code := structs.pack(">d", value)), code) for value in (0.0, -1.5, 1e300, float("inf"))),
    (Uuid, UUID(int=0), bytes(16), bytes(16)),
    (Uuid, ID, ID.bytes, ID.bytes),
    (String, "", b"\0\0", b"\1"),
    (String, "größe", b"\0\7gr\xc3\xb6\xc3\x9fe", b"\x08gr\xc3\xb6\xc3\x9fe"),
    (String, "x" * 126, b"\0\x7e" + b"x" * 126, b"\x7f" + b"x" * 126),
    (String, "x" * 127, b"\0\x7f" + b"x" * 127, b"\x80\1" + b"x" * 127),
    (String, "x" * 16382, b"\x3f\xfe" + b"x" * 16382, b"\xff\x7f" + b"x" * 16382),
    (String, "x" * 16383, b"\x3f\xff" + b"x" * 16383, b"\x80\x80\1" + b"x" * 16383),
    (String, "x" * 32767, b"\x7f\xff" + b"x" * 32767, b"\x80\x80\2" + b"x" * 32767),
    (NullableString, None, b"\xff\xff", b"\0"),
    (NullableString, "", b"\0\0", b"\1"),
    (NullableString, "a", b"\0\1a", b"\2a"),
    (Bytes, b"", b"\0\0\0\0", b"\1"),
    (Bytes, b"\0\xff", b"\0\0\0\2\0\xff", b"\3\0\xff"),
    (Bytes, b"z" * 70000, b"\0\1\x11\x70" + b"z" * 70000, b"\xf1\xa2\4" + b"z" * 70000),
    (NullableBytes, None, b"\xff\xff\xff\xff", b"\0"),
    (NullableBytes, b"a", b"\0\0\0\1a", b"\2a"),
    (Records, None, b"\xff\xff\xff\xff", b"\0"),
    (Records, b"", b"\0\0\0\0", b"\1"),
    (Records, b"batch", b"\0\0\0\5batch", b"\6batch"),
    (Int32s, (), b"\0\0\0\0", b"\1"),
    (Int32s, (1, -1), b"\0\0\0\2\0\0\0\1\xff\xff\xff\xff", b"\3\0\0\0\1\xff\xff\xff\xff"),
    (Int32s, tuple(MANY), b"\0\0\0\xc8" + structs.pack(">200i", *MANY), b"\xc9\1" + structs.pack(">200i", *MANY)),
    (NullableInt64s, None, b"\xff\xff\xff\xff", b"\0"),
    (NullableInt64s, (2**40,), b"\0\0\0\1\0\0\1\0\0\0\0\0", b"\2\0\0\1\0\0\0\0\0"),
    (Strings, ("a", ""), b"\0\0\0\2\0\1a\0\0", b"\3\2a\1"),
    (Uuids, (ID, ID), b"\0\0\0\2" + ID.bytes * 2, b"\3" + ID.bytes * 2),
    (Pairs, (Pair(1, "a"), Pair(-1, "")), b"\0\0\0\2\1\0\1a\xff\0\0", b"\3\1\2a\0\xff\1\0"),
    (NullablePair, None, b"\xff", b"\xff"),
    (NullablePair, Pair(5, "b"), b"\1\5\0\1b", b"\1\5\2b\0"),
]
IDS = [f"{kind.__name__} {str(value)[:20]} {len(plain)}" for kind, value, plain, _ in CASES]


@pytest.mark.parametrize(("kind", "value", "plain", "flexible"), CASES, ids=IDS)
def test_a_value_and_its_bytes(kind: type[Any], value: Any, plain: bytes, flexible: bytes) -> None:
    for version, encoded in ((PLAIN, plain), (FLEXIBLE, flexible + b"\0")):
        assert kind(value).encode(version) == encoded
        assert kind.decode(encoded, version) == kind(value)
        assert kind.decode(memoryview(b"head" + encoded), version, 4) == kind(value)


@pytest.mark.parametrize(("kind", "value", "plain", "flexible"), CASES, ids=IDS)
def test_every_prefix_is_malformed_and_so_is_a_byte_more(
    kind: type[Any], value: Any, plain: bytes, flexible: bytes
) -> None:
    for version, encoded in ((PLAIN, plain), (FLEXIBLE, flexible + b"\0")):
        sizes = {*range(min(len(encoded), 300)), *range(max(len(encoded) - 300, 0), len(encoded))}
        for size in sizes:
            for decode in (kind.decode, kind.decode_request):
                with pytest.raises(MalformedMessage):
                    decode(encoded[:size], version)
        with pytest.raises(MalformedMessage, match="1 bytes follow"):
            kind.decode(encoded + b"\0", version)
        assert kind.decode_request(encoded + b"\0", version) == kind(value)


def test_bytes_are_views_of_what_was_decoded() -> None:
    frame = bytearray(b"\0\0\0\3abc")
    decoded = Bytes.decode(frame, PLAIN)
    assert isinstance(decoded.value, memoryview)
    frame[4] = ord("z")
    assert decoded.value == b"zbc"


@pytest.mark.parametrize(
    ("kind", "version", "encoded", "reason"),
    [
        (String, PLAIN, b"\xff\xff", "null"),
        (String, FLEXIBLE, b"\0\0", "null"),
        (Bytes, PLAIN, b"\xff\xff\xff\xff", "null"),
        (Bytes, FLEXIBLE, b"\0\0", "null"),
        (Int32s, PLAIN, b"\xff\xff\xff\xff", "null"),
        (Int32s, FLEXIBLE, b"\0\0", "null"),
        (Strings, FLEXIBLE, b"\2\0\0", "null"),
        (NullableString, PLAIN, b"\xff\xfe", "-2 bytes"),
        (NullableBytes, PLAIN, b"\x80\0\0\0", "-2147483648 bytes"),
        (NullableInt64s, PLAIN, b"\xff\xff\xff\xfe", "-2 elements"),
        (Pairs, PLAIN, b"\x80\0\0\0", "-2147483648 elements"),
        (NullablePair, PLAIN, b"\0", "neither there nor null"),
        (NullablePair, FLEXIBLE, b"\2\5\2b\0\0", "neither there nor null"),
        (String, PLAIN, b"\0\2\xc3\x28", "UTF-8"),
        (String, PLAIN, b"\0\3\xed\xa0\x80", "UTF-8"),
        (String, FLEXIBLE, b"\2\xff\0", "UTF-8"),
        (String, FLEXIBLE, b"\xff\xff\xff\xff\x1f", "varint"),
        (String, FLEXIBLE, b"\x80\x80\x80\x80\x80\0", "varint"),
        (String, FLEXIBLE, b"\xff\xff\xff\xff\x0f", "4294967294 bytes"),
        (Pairs, FLEXIBLE, b"\xff\xff\xff\xff\x0f", "4294967294 elements"),
        (Int32s, PLAIN, b"\x7f\xff\xff\xff", "2147483647 elements"),
        (Int32s, PLAIN, b"\0\0\0\2\0\0\0\1\0\0\0", "2 elements where 7 bytes"),
        (Bool, FLEXIBLE, b"\0\1", "end within"),
        (Bool, FLEXIBLE, b"\0\2\5\0\5\0", "tag 5 comes twice"),
        (Bool, FLEXIBLE, b"\0\2\5\0\4\0", "out of order"),
        (Bool, FLEXIBLE, b"\0\1\5\4abc", "end within"),
        (Bool, FLEXIBLE, b"\0\xff\xff\xff\xff\x0f", "4294967295 elements"),
    ],
)
def test_what_is_refused(kind: type[Message], version: int, encoded: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        kind.decode(encoded, version)


def test_a_padded_varint_is_read_as_kafka_reads_it() -> None:
    assert String.decode(b"\x82\x80\x80\x80\0a\0", FLEXIBLE) == String("a")


def test_unknown_tags_are_skipped() -> None:
    assert Bool.decode(b"\1\3\0\0\5\3abc\xff\xff\xff\xff\x0f\1z", FLEXIBLE) == Bool(True)
    assert Pairs.decode(b"\2\1\2a\1\x09\1x\0", FLEXIBLE) == Pairs((Pair(1, "a"),))


@struct
class Leader:
    node_id: int = field("int32", default=-1)
    epoch: int = field("int32", default=-1)


@message(api_key=3, versions=(0, 4), flexible_since=2)
class Everything(Message):
    until_1: int = field("int8", until=1, default=7)
    name: str | None = field("string", nullable_since=1, default=None)
    since_1: bool = field("bool", since=1, default=True)
    rack: str | None = field("string", since=3, nullable_since=3, tag=4, default=None)
    leader: Leader = field(Leader, since=2, tag=1)
    epoch: int = field("int64", since=1, tag=0, tagged_since=2, default=-1)
    nodes: Sequence[Leader] = field([Leader], since=2, tag=300)
    ids: Sequence[int] | None = field(["int32"], since=2, nullable_since=3, tag=2, default=())


def test_versions_have_the_fields_that_they_have() -> None:
    sent = Everything(1, "n", False, "r", Leader(1, 2), 3, [Leader(4, 5)], [6])
    assert sent.encode(0) == b"\1\0\1n"
    assert Everything.decode(b"\1\0\1n", 0) == Everything(until_1=1, name="n")
    assert sent.encode(1) == b"\1\0\1n\0\0\0\0\0\0\0\0\3"
    assert Everything.decode(sent.encode(1), 1) == Everything(1, "n", False, epoch=3)
    assert Everything.decode(sent.encode(2), 2) == Everything(
        7, "n", False, None, Leader(1, 2), 3, (Leader(4, 5),), (6,)
    )
    assert Everything.decode(sent.encode(3), 3).rack == "r"


def test_null_is_allowed_from_its_version_on() -> None:
    assert Everything.decode(Everything(name=None).encode(1), 1).name is None
    with pytest.raises(MalformedMessage, match="null"):
        Everything.decode(b"\1\xff\xff", 0)
    with pytest.raises(AttributeError):
        Everything(name=None).encode(0)


def test_tags_go_up_and_those_with_their_default_are_left_out() -> None:
    assert Everything().encode(4) == b"\0\1\0"
    assert Everything(leader=Leader(-1, 0)).encode(4) == b"\0\1\1" + b"\1\x09\xff\xff\xff\xff\0\0\0\0\0"
    assert Everything(epoch=0, ids=[1], rack="").encode(4) == (
        b"\0\1\3" + b"\0\x08" + bytes(8) + b"\2\5\2\0\0\0\1" + b"\4\1\1"
    )
    assert Everything(nodes=[Leader()]).encode(4) == b"\0\1\1" + b"\xac\2\x0a\2" + b"\xff" * 8 + b"\0"
    assert Everything(ids=None).encode(4) == b"\0\1\1" + b"\2\1\0"
    for sent in (Everything(), Everything(epoch=0, ids=None), Everything(nodes=(Leader(1, 2), Leader()), rack="x")):
        assert Everything.decode(sent.encode(4), 4) == sent


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (b"\2\0\x08" + bytes(8) + b"\0\x08" + bytes(8), "tag 0 comes twice"),
        (b"\2\1\x09" + bytes(9) + b"\0\x08" + bytes(8), "out of order"),
        (b"\1\0\x09" + bytes(9), "size of tag 0"),
        (b"\1\0\x07" + bytes(8), "size of tag 0"),
        (b"\1\1\x0a" + bytes(10), "size of tag 1"),
        (b"\1\0\x08" + bytes(7), "end within"),
        (b"\1\x09\x08" + bytes(7), "end within"),
        (b"\xff\xff\xff\x7f", "elements"),
    ],
)
def test_tags_that_are_refused(tags: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        Everything.decode(b"\0\1" + tags, 4)


def test_a_metadata_request_of_librdkafka_for_all_topics_is_read_as_kafka_reads_it() -> None:
    """It writes the count of topics as an int32 where it is a varint: null topics, and three bytes too many."""
    body = bytes.fromhex("00 00 00 00 01 00 00")
    assert MetadataRequest.decode_request(body, 13) == MetadataRequest(None, allow_auto_topic_creation=False)


def test_known_and_unknown_tags_may_come_together() -> None:
    tags = b"\4" + b"\0\x08" + bytes(8) + b"\3\2xx" + b"\4\2\2r" + b"\x05\0"
    assert Everything.decode(b"\0\1" + tags, 4) == Everything(epoch=0, rack="r")


@pytest.mark.parametrize(
    ("decode", "count_max"), [(Pairs.decode, ELEMENTS_MAX), (Pairs.decode_request, REQUEST_ELEMENTS_MAX)]
)
def test_elements_are_capped_over_all_arrays_of_a_message(decode: Callable[..., Any], count_max: int) -> None:
    def pairs(count: int) -> bytes:
        return structs.pack(">i", count) + b"\1\0\0" * count

    assert len(decode(pairs(count_max), PLAIN).value) == count_max
    with pytest.raises(MalformedMessage, match=f"{count_max + 1} elements .* more than a message may have"):
        decode(pairs(count_max + 1), PLAIN)


def test_tags_count_as_elements() -> None:
    with pytest.raises(MalformedMessage, match="1048577 elements"):
        Bool.decode(b"\0\x81\x80\x40" + b"\1\0\2\0", FLEXIBLE)


def test_an_announced_array_costs_nothing() -> None:
    Pairs.decode(b"\0\0\0\0", PLAIN)
    tracemalloc.start()
    for encoded in (b"\0\3\xff\xff" + b"\1" * 100, b"\x7f\xff\xff\xff"):
        with pytest.raises(MalformedMessage):
            Pairs.decode(encoded, PLAIN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_version_that_is_not_known_is_an_argument_that_is_wrong() -> None:
    for version in (-1, 5):
        with pytest.raises(InvalidArgument, match="Everything has versions 0 to 4"):
            Everything().encode(version)
        with pytest.raises(InvalidArgument, match="Everything has versions 0 to 4"):
            Everything.decode(b"", version)


def test_messages_are_classes_with_slots_that_show_and_compare_their_fields() -> None:
    assert repr(Pair(1, "a")) == "Pair(key=1, name='a')"
    assert Pair(1, "a") == Pair(key=1, name="a") != Pair(2, "a")
    assert Pair() != Leader()
    with pytest.raises(AttributeError):
        Pair().other = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="other"):
        Pair(other=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unhashable"):
        hash(Pair())


def test_a_struct_of_defaults_is_not_shared() -> None:
    first, second = Everything(), Everything()
    first.leader.node_id = 5
    assert second.leader == Everything.decode(b"\0\1\0", 4).leader == Leader()


@settings(max_examples=500)
@given(st.binary(max_size=200), st.sampled_from([kind for kind, *_ in CASES]), st.sampled_from([PLAIN, FLEXIBLE]))
def test_any_bytes_are_a_message_or_malformed(encoded: bytes, kind: type[Message], version: int) -> None:
    try:
        decoded = kind.decode(encoded, version)
    except MalformedMessage as error:
        assert 0 <= error.position
        return
    assert kind.decode(decoded.encode(version), version).encode(version) == decoded.encode(version)


@settings(max_examples=500)
@given(st.binary(max_size=100), st.integers(0, 4))
def test_any_bytes_are_everything_or_malformed(encoded: bytes, version: int) -> None:
    try:
        decoded = Everything.decode(encoded, version)
    except MalformedMessage:
        return
    assert Everything.decode(decoded.encode(version), version) == decoded


@given(st.data())
def test_a_message_with_one_byte_changed_is_a_message_or_malformed(data: st.DataObject) -> None:
    sent = Everything(1, "größe", False, "r", Leader(1, 2), 3, [Leader(4, 5)] * 3, [6])
    version = data.draw(st.integers(0, 4))
    encoded = bytearray(sent.encode(version))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        Everything.decode(encoded, version)
    except MalformedMessage:
        pass


LEADERS = st.builds(Leader, st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))


@given(
    st.builds(
        Everything,
        st.just(7),
        st.none() | st.text(max_size=300),
        st.booleans(),
        st.none() | st.text(max_size=10),
        LEADERS,
        st.integers(-(2**63), 2**63 - 1),
        st.lists(LEADERS, max_size=5).map(tuple),
        st.none() | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=100).map(tuple),
    ),
    st.integers(3, 4),
)
def test_what_is_encoded_is_decoded(sent: Everything, version: int) -> None:
    assert Everything.decode(sent.encode(version), version) == sent
