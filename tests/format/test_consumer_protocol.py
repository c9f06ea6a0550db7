import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription
from kio.schema.consumer_protocol_assignment.v3 import data as kio_assignment
from kio.schema.consumer_protocol_subscription.v3 import data as kio_subscription
from kio.serial import entity_reader, entity_writer
from kio.static.primitive import i32

from logstore.errors import CorruptData, InvalidRecord
from logstore.format.consumer_protocol import (
    Assignment,
    Ownership,
    Subscription,
    decode_assignment,
    decode_cooperative_user_data,
    decode_sticky_user_data,
    decode_subscription,
    encode_assignment,
    encode_cooperative_user_data,
    encode_sticky_user_data,
    encode_subscription,
)
from logstore.format.filename import TopicPartition

KAFKA = Path(__file__).parent.parent / "data" / "kafka-4.1.1" / "consumer_protocol.hex"
GOLDEN = {name: bytes.fromhex(data) for name, data in map(str.split, KAFKA.read_text().splitlines())}
VERSIONS = range(4)

OWNED = TopicPartition("orders", 1), TopicPartition("orders", 0), TopicPartition("café", 2)
SUBSCRIPTION = Subscription(("orders", "café"), b"\1\2\3", OWNED, 7, "rack-a")
EMPTY = Subscription(())


def subscription_of(version: int, subscription: Subscription = SUBSCRIPTION) -> Subscription:
    """What a version keeps of it, in Kafka's order."""
    return subscription._replace(
        topics=tuple(sorted(subscription.topics)),
        owned=tuple(sorted(subscription.owned)) if version >= 1 else (),
        generation=subscription.generation if version >= 2 else -1,
        rack=subscription.rack if version >= 3 else None,
    )


# ---------------------------------------------------------------------------------------------------- Kafka's bytes


@pytest.mark.parametrize("version", VERSIONS)
def test_a_subscription_has_exactly_kafkas_bytes(version: int) -> None:
    for golden, subscription in (
        (GOLDEN[f"subscription.{version}"], SUBSCRIPTION),
        (GOLDEN[f"subscription.{version}.empty"], EMPTY),
    ):
        assert encode_subscription(subscription, version) == golden
        for kind in (bytes, bytearray, memoryview):
            assert decode_subscription(kind(golden)) == subscription_of(version, subscription)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_assignment_has_exactly_kafkas_bytes(version: int) -> None:
    for golden, assignment in (
        (GOLDEN[f"assignment.{version}"], Assignment(OWNED, b"\4\5")),
        (GOLDEN[f"assignment.{version}.empty"], Assignment(())),
    ):
        assert encode_assignment(assignment, version) == golden
        for kind in (bytes, bytearray, memoryview):
            assert decode_assignment(kind(golden)) == assignment


def test_the_user_data_of_the_sticky_assignors_has_exactly_kafkas_bytes() -> None:
    golden = GOLDEN["user_data.sticky"]
    assert encode_sticky_user_data(Ownership(OWNED, 7)) == golden
    assert decode_sticky_user_data(golden) == Ownership(OWNED, 7)
    assert decode_sticky_user_data(golden[:-4]) == Ownership(OWNED, -1)  # of members before the generation was added
    golden = GOLDEN["user_data.cooperative-sticky"]
    assert encode_cooperative_user_data(7) == golden
    assert decode_cooperative_user_data(golden) == 7


def test_version_3_is_written_unless_another_is_asked_for() -> None:
    assert encode_subscription(SUBSCRIPTION) == GOLDEN["subscription.3"]
    assert encode_assignment(Assignment(OWNED, b"\4\5")) == GOLDEN["assignment.3"]


@pytest.mark.parametrize("version", [4, 32767])
def test_a_later_version_is_read_as_the_last_known_one(version: int) -> None:
    later = version.to_bytes(2, "big")
    for extra in (b"", b"\0\1\2"):
        assert decode_subscription(later + GOLDEN["subscription.3"][2:] + extra) == subscription_of(3)
        assert decode_assignment(later + GOLDEN["assignment.3"][2:] + extra) == Assignment(OWNED, b"\4\5")


def test_an_empty_rack_is_none() -> None:
    assert decode_subscription(encode_subscription(SUBSCRIPTION._replace(rack=""))).rack is None


def test_no_assignment_at_all_is_one_without_partitions() -> None:
    assert decode_assignment(b"") == Assignment(())


# ----------------------------------------------------------------------------------------------------------- damage

CUT = [name for name in GOLDEN if name != "user_data.sticky"]


def decoded(name: str, data: bytes) -> Any:
    match name.split("."):
        case ["subscription", *_]:
            return decode_subscription(data)
        case ["assignment", *_]:
            return decode_assignment(data)
        case [_, "sticky"]:
            return decode_sticky_user_data(data)
    return decode_cooperative_user_data(data)


@pytest.mark.parametrize("name", CUT)
def test_bytes_that_are_cut_anywhere_are_corrupt(name: str) -> None:
    for size in range(name.startswith("assignment"), len(GOLDEN[name])):
        with pytest.raises(CorruptData):
            decoded(name, GOLDEN[name][:size])


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("subscription", "ffff 0000000000000000", "version -1"),
        ("assignment", "8000 0000000000000000", "version -32768"),
        ("subscription", "0003ffffffff", "-1 items"),
        ("subscription", "00037fffffff00", "2147483647 items in 1 bytes"),
        ("subscription", "000000000001ffff", "null where it cannot be"),
        ("subscription", "00000000000100017f fffffffe", "-2 bytes"),
        ("subscription", "000000000001000180 ffffffff", "not UTF-8"),
        ("assignment", "0000 00000001 000161 00000003 00000000 00000001", "12 bytes where 8 are left"),
        ("assignment", "0000 00000001 000161 ffffffff", "-1 items"),
        ("user_data.sticky", "7fffffff", "2147483647 items in 0 bytes"),
    ],
)
def test_impossible_fields_are_corrupt(name: str, data: str, reason: str) -> None:
    with pytest.raises(CorruptData, match=reason):
        decoded(name, bytes.fromhex(data))


def test_a_string_over_32767_bytes_is_refused() -> None:
    for encode in (
        lambda topic: encode_subscription(Subscription((topic,))),
        lambda topic: encode_assignment(Assignment((TopicPartition(topic, 0),))),
    ):
        encode("x" * 32767)
        with pytest.raises(InvalidRecord, match="32768 bytes"):
            encode("x" * 32768)


def test_a_count_that_the_bytes_cannot_hold_takes_no_memory() -> None:
    noise = b"\0\3" + (2**31 - 1).to_bytes(4, "big") + b"\0" * 100
    fitting = b"\0\3" + (10_000).to_bytes(4, "big") + b"\xff" * 10_000  # a count that may be, then a null string
    tracemalloc.start()
    try:
        for data in (noise, fitting):
            for decode in (decode_subscription, decode_assignment):
                with pytest.raises(CorruptData):
                    decode(data)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------------------------- properties

INT32 = st.integers(-(2**31), 2**31 - 1)
TOPICS = st.sampled_from(["a", "b", "orders", "café", "x" * 249])
PARTITIONS = st.lists(st.builds(TopicPartition, TOPICS, INT32), max_size=8, unique=True).map(tuple)
USER_DATA = st.none() | st.binary(max_size=20)
SUBSCRIPTIONS = st.builds(
    Subscription,
    st.lists(TOPICS, max_size=4, unique=True).map(tuple),
    USER_DATA,
    PARTITIONS,
    INT32,
    st.none() | st.text(min_size=1, max_size=9),
)


def by_topic(partitions: tuple[TopicPartition, ...]) -> list[tuple[str, list[int]]]:
    indexes: dict[str, list[int]] = {}
    for topic, partition in partitions:
        indexes.setdefault(topic, []).append(partition)
    return list(indexes.items())


@settings(max_examples=60)
@given(SUBSCRIPTIONS, st.sampled_from(VERSIONS))
def test_kafka_python_reads_and_writes_the_same_subscriptions(subscription: Subscription, version: int) -> None:
    kept = subscription_of(version, subscription)
    data = encode_subscription(subscription, version)
    assert decode_subscription(data) == kept
    read = ConsumerProtocolSubscription.decode(data)
    assert (list(kept.topics), kept.user_data) == (read.topics, read.user_data)
    if version >= 1:
        assert [(owned.topic, owned.partitions) for owned in read.owned_partitions] == by_topic(kept.owned)
    assert (read.generation_id, read.rack_id) == (kept.generation, kept.rack)
    assert read.encode(version=version) == data


@settings(max_examples=60)
@given(PARTITIONS, USER_DATA, st.sampled_from(VERSIONS))
def test_kafka_python_reads_and_writes_the_same_assignments(
    partitions: tuple[TopicPartition, ...], user_data: bytes | None, version: int
) -> None:
    grouped = by_topic(partitions)
    assignment = Assignment(tuple(TopicPartition(t, p) for t, indexes in grouped for p in indexes), user_data)
    data = encode_assignment(Assignment(partitions, user_data), version)
    assert decode_assignment(data) == assignment
    read = ConsumerProtocolAssignment.decode(data)
    assert [(each.topic, each.partitions) for each in read.assigned_partitions] == grouped
    assert read.user_data == user_data
    assert read.encode(version=version) == data


@settings(max_examples=40)
@given(SUBSCRIPTIONS)
def test_kio_reads_and_writes_the_same(subscription: Subscription) -> None:
    kept, grouped = subscription_of(3, subscription), by_topic(tuple(sorted(subscription.owned)))
    theirs = kio_subscription.ConsumerProtocolSubscription(
        topics=kept.topics,
        user_data=kept.user_data,
        owned_partitions=tuple(
            kio_subscription.TopicPartition(topic=t, partitions=tuple(map(i32, indexes))) for t, indexes in grouped
        ),
        generation_id=i32(kept.generation),
        rack_id=kept.rack,
    )
    buffer = BytesIO()
    entity_writer(kio_subscription.ConsumerProtocolSubscription)(buffer, theirs)
    data = encode_subscription(subscription)
    assert data == b"\0\3" + buffer.getvalue()
    assert entity_reader(kio_subscription.ConsumerProtocolSubscription)(data, 2)[0] == theirs

    assignment = kio_assignment.ConsumerProtocolAssignment(
        assigned_partitions=tuple(
            kio_assignment.TopicPartition(topic=t, partitions=tuple(map(i32, indexes))) for t, indexes in grouped
        ),
        user_data=kept.user_data,
    )
    buffer = BytesIO()
    entity_writer(kio_assignment.ConsumerProtocolAssignment)(buffer, assignment)
    assert encode_assignment(Assignment(kept.owned, kept.user_data)) == b"\0\3" + buffer.getvalue()


@settings(max_examples=40)
@given(SUBSCRIPTIONS)
def test_aiokafka_which_knows_version_0_reads_and_writes_the_same(subscription: Subscription) -> None:
    kept = subscription_of(0, subscription)
    theirs = ConsumerProtocolMemberMetadata(0, list(kept.topics), kept.user_data)
    assert encode_subscription(subscription, 0) == theirs.encode()
    assert (
        ConsumerProtocolMemberMetadata.decode(encode_subscription(subscription, 3)).subscription == theirs.subscription
    )
    assignment = ConsumerProtocolMemberAssignment(0, by_topic(subscription.owned), kept.user_data)
    assert encode_assignment(Assignment(subscription.owned, kept.user_data), 0) == assignment.encode()


@settings(max_examples=200)
@given(st.sampled_from(sorted(GOLDEN)), st.binary(max_size=20), st.integers(0, 100), st.integers(0, 20))
def test_any_bytes_are_read_or_corrupt(name: str, noise: bytes, at: int, cut: int) -> None:
    valid = GOLDEN[name]
    for data in (noise, valid[:2] + noise, valid[:at] + noise + valid[at + cut :]):
        try:
            value = decoded(name, data)
        except CorruptData:
            continue
        if isinstance(value, Subscription):
            assert decode_subscription(encode_subscription(value)) == subscription_of(3, value)
