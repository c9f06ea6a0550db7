from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.errors import CorruptBatch, CorruptData
from logstore.format.group_records import (
    CurrentAssignment,
    GroupKey,
    GroupValue,
    KnownTopic,
    MemberMetadata,
    MemberState,
    RecordKind,
    decode_group_key,
    decode_group_value,
    encode_group_key,
    encode_group_value,
)

KAFKA = Path(__file__).parent.parent / "data" / "kafka-4.1.1" / "group_records.hex"
GOLDEN = {name: bytes.fromhex(data) for name, data in map(str.split, KAFKA.read_text().splitlines())}
T1, T2 = UUID("00010203-0405-4607-8809-0a0b0c0d0e0f"), UUID("10010203-0405-4607-8809-0a0b0c0d0e0f")
NOTHING: frozenset[tuple[UUID, int]] = frozenset()

KEYS = [
    ("key.partition_metadata.4", GroupKey(RecordKind.TOPICS, "billing")),
    ("key.member_metadata.5", GroupKey(RecordKind.MEMBER, "billing", "m-1")),
    ("key.target_metadata.6", GroupKey(RecordKind.TARGET_EPOCH, "billing")),
    ("key.target_member.7", GroupKey(RecordKind.TARGET, "billing", "m-1")),
    ("key.current_member.8", GroupKey(RecordKind.CURRENT, "billing", "m-1")),
]
NOBODY = MemberMetadata(None, None, "", "", (), None, -1, None)
VALUES: list[tuple[str, RecordKind, GroupValue]] = [
    ("value.metadata.0", RecordKind.GROUP_EPOCH, 7),
    ("value.partition_metadata.0", RecordKind.TOPICS, (KnownTopic(T1, "orders", 4), KnownTopic(T2, "x", 1))),
    (
        "value.member_metadata.0",
        RecordKind.MEMBER,
        MemberMetadata("i", "r", "c", "/127.0.0.1", ("orders", "x"), "^x.*", 300_000, "range"),
    ),
    ("value.member_metadata.nulls.0", RecordKind.MEMBER, NOBODY),
    ("value.target_metadata.0", RecordKind.TARGET_EPOCH, 8),
    ("value.target_member.0", RecordKind.TARGET, frozenset({(T1, 0), (T1, 2), (T2, 1)})),
    (
        "value.current_member.0",
        RecordKind.CURRENT,
        CurrentAssignment(8, 7, MemberState.UNREVOKED_PARTITIONS, frozenset({(T1, 0)}), frozenset({(T2, 0), (T2, 1)})),
    ),
]


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_keys_are_kafkas(name: str, key: GroupKey) -> None:
    assert encode_group_key(key) == GOLDEN[name]
    assert decode_group_key(GOLDEN[name]) == key


@pytest.mark.parametrize(("name", "kind", "value"), VALUES)
def test_values_are_kafkas(name: str, kind: RecordKind, value: GroupValue) -> None:
    assert encode_group_value(value) == GOLDEN[name]
    assert decode_group_value(kind, GOLDEN[name]) == value


def test_what_kafka_says_besides_is_passed_over() -> None:
    racks = decode_group_value(RecordKind.TOPICS, GOLDEN["value.partition_metadata.racks.0"])
    assert racks == (KnownTopic(T1, "orders", 4),)
    assert decode_group_value(RecordKind.MEMBER, GOLDEN["value.member_metadata.classic.0"]) == NOBODY


def test_a_state_that_is_not_known_is_taken_for_the_first() -> None:
    current = decode_group_value(RecordKind.CURRENT, GOLDEN["value.current_member.unknown_state.0"])
    assert current == CurrentAssignment(8, 7, MemberState.STABLE, NOTHING, NOTHING)


@pytest.mark.parametrize(("name", "kind", "value"), VALUES)
def test_values_that_are_cut_off_or_too_long_are_corrupt(name: str, kind: RecordKind, value: GroupValue) -> None:
    golden = GOLDEN[name]
    for size in range(len(golden)):
        with pytest.raises(CorruptBatch):
            decode_group_value(kind, golden[:size])
    with pytest.raises(CorruptBatch):
        decode_group_value(kind, golden + b"\0")
    with pytest.raises(CorruptBatch):
        decode_group_value(kind, b"\0\1" + golden[2:])


@given(st.sampled_from(RecordKind), st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(kind: RecordKind, data: bytes) -> None:
    try:
        decode_group_value(kind, b"\0\0" + data)
    except CorruptData:
        pass
