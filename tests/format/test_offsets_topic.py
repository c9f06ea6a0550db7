from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import CorruptBatch, InvalidRecord
from logstore.format.offsets_topic import (
    VALUE_VERSION,
    GroupMember,
    GroupMetadataKey,
    GroupMetadataValue,
    Key,
    OffsetCommitKey,
    OffsetCommitValue,
    UnknownKey,
    decode_group_metadata,
    decode_key,
    decode_offset_commit,
    encode_group_metadata,
    encode_key,
    encode_offset_commit,
)

KAFKA = Path(__file__).parent.parent / "data" / "kafka-4.1.1" / "offsets_topic.hex"
GOLDEN = {name: bytes.fromhex(data) for name, data in map(str.split, KAFKA.read_text().splitlines())}
NOW = 1_700_000_000_123
TOPIC_ID = UUID("00010203-0405-4607-8809-0a0b0c0d0e0f")
VERSIONS = range(5)

KEYS: list[tuple[str, Key]] = [
    ("key.offset_commit.1", OffsetCommitKey("billing", "orders", 7)),
    ("key.group_metadata.2", GroupMetadataKey("billing")),
    ("key.consumer_group_metadata.3", UnknownKey(3, bytes.fromhex("0003000762696c6c696e67"))),
]
COMMIT = OffsetCommitValue(4711, 5, "café", NOW, NOW + 60_000, TOPIC_ID)
MEMBERS = (
    GroupMember("m-1", "static-1", "c", "/127.0.0.1", 300_000, 45_000, b"\0\1\2", b"\3\4"),
    GroupMember("m-2", None, "", "/::1", 60_000, 10_000, b"", b""),
)
GROUP = GroupMetadataValue("consumer", 3, "range", "m-1", NOW, MEMBERS)
EMPTY_GROUP = GroupMetadataValue("consumer", 0, None, None, NOW, ())


def commit_of(version: int, commit: OffsetCommitValue = COMMIT) -> OffsetCommitValue:
    """What a version keeps of it."""
    return commit._replace(
        leader_epoch=commit.leader_epoch if version >= 3 else -1,
        expire_timestamp=commit.expire_timestamp if version == 1 else -1,
        topic_id=commit.topic_id if version >= 4 else None,
    )


def group_of(version: int, group: GroupMetadataValue = GROUP) -> GroupMetadataValue:
    """What a version keeps of it."""
    return group._replace(
        current_state_timestamp=group.current_state_timestamp if version >= 2 else -1,
        members=tuple(
            member._replace(
                group_instance_id=member.group_instance_id if version >= 3 else None,
                rebalance_timeout=member.rebalance_timeout if version >= 1 else -1,
            )
            for member in group.members
        ),
    )


# ---------------------------------------------------------------------------------------------------- Kafka's bytes


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_a_key_has_exactly_kafkas_bytes(name: str, key: Key) -> None:
    assert encode_key(key) == GOLDEN[name]
    for kind in (bytes, bytearray, memoryview):
        assert decode_key(kind(GOLDEN[name])) == key


def test_an_offset_commit_key_of_version_0_is_the_same_key() -> None:
    assert decode_key(b"\0\0" + GOLDEN["key.offset_commit.1"][2:]) == OffsetCommitKey("billing", "orders", 7)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_offset_commit_has_exactly_kafkas_bytes(version: int) -> None:
    golden = GOLDEN[f"offset_commit.{version}"]
    without_id = COMMIT._replace(topic_id=None)
    assert encode_offset_commit(without_id, version) == golden
    assert decode_offset_commit(golden) == commit_of(version, without_id)


def test_an_offset_commit_of_version_4_may_carry_the_topic_id() -> None:
    golden = GOLDEN["offset_commit.4.topic_id"]
    assert encode_offset_commit(COMMIT, 4) == golden
    assert decode_offset_commit(golden) == commit_of(4)


@pytest.mark.parametrize("version", VERSIONS)
def test_group_metadata_has_exactly_kafkas_bytes(version: int) -> None:
    for golden, group in (
        (GOLDEN[f"group_metadata.{version}"], GROUP),
        (GOLDEN[f"group_metadata.{version}.empty"], EMPTY_GROUP),
    ):
        assert encode_group_metadata(group, version) == golden
        for kind in (bytes, bytearray, memoryview):
            assert decode_group_metadata(kind(golden)) == group_of(version, group)


def test_version_3_is_written_unless_another_is_asked_for() -> None:
    assert VALUE_VERSION == 3
    assert encode_offset_commit(COMMIT) == GOLDEN["offset_commit.3"]
    assert encode_group_metadata(GROUP) == GOLDEN["group_metadata.3"]


def test_unknown_tags_are_skipped() -> None:
    golden = GOLDEN["offset_commit.4"]
    assert decode_offset_commit(golden[:-1] + bytes.fromhex("020502abcd810100")) == commit_of(4)._replace(topic_id=None)
    empty = GOLDEN["group_metadata.4.empty"]
    assert decode_group_metadata(empty[:-1] + bytes.fromhex("010702abcd")) == EMPTY_GROUP


# ----------------------------------------------------------------------------------------------------------- damage


def decoder_of(name: str) -> Callable[[bytes], Any]:
    kind = name.split(".")[0]
    return {"key": decode_key, "offset_commit": decode_offset_commit, "group_metadata": decode_group_metadata}[kind]


READ = [name for name in GOLDEN if "consumer_group" not in name]


@pytest.mark.parametrize("name", READ)
def test_a_record_that_is_cut_anywhere_is_corrupt(name: str) -> None:
    decode, golden = decoder_of(name), GOLDEN[name]
    for size in range(len(golden)):
        with pytest.raises(CorruptBatch):
            decode(golden[:size])


@pytest.mark.parametrize("name", READ)
def test_a_record_that_goes_on_is_corrupt(name: str) -> None:
    with pytest.raises(CorruptBatch, match="1 bytes follow the last field") as caught:
        decoder_of(name)(GOLDEN[name] + b"\0")
    assert caught.value.position == len(GOLDEN[name])


@pytest.mark.parametrize("version", [-1, 5, 32767])
def test_a_value_of_an_unknown_version_is_refused(version: int) -> None:
    for name in ("offset_commit.3", "group_metadata.3"):
        data = version.to_bytes(2, "big", signed=True) + GOLDEN[name][2:]
        with pytest.raises(CorruptBatch, match=f"version {version}"):
            decoder_of(name)(data)


@pytest.mark.parametrize(
    ("decode", "data", "reason"),
    [
        (decode_key, "0002ffff", "null where it cannot be"),
        (decode_key, "0002fffe", "-2 bytes"),
        (decode_key, "0002000180", "not UTF-8"),
        (decode_key, "00027fff61", "32767 bytes where 1 are left"),
        (decode_offset_commit, "0004" + "00" * 12 + "00", "null where it cannot be"),
        (decode_offset_commit, GOLDEN["offset_commit.4"][:-1].hex() + "01000100", "a topic id of 1 bytes"),
        (decode_offset_commit, GOLDEN["offset_commit.4"][:-1].hex() + "ff" * 9 + "01", "end within a varint"),
        (decode_group_metadata, "0000000000000000ffffffffffffffff", "-1 items"),
        (decode_group_metadata, "0000000000000000ffffffff7fffffff", "2147483647 items in 0 bytes"),
        (decode_group_metadata, "000401" "00000000" "00" "00" + "00" * 8 + "ffffffff0f", "4294967294 items in 0"),
        (decode_group_metadata, "000401" "00000000" "00" "00" + "00" * 8 + "00", "-1 items"),
    ],
)  # fmt: skip
def test_impossible_fields_are_corrupt(decode: Callable[[bytes], Any], data: str, reason: str) -> None:
    with pytest.raises(CorruptBatch, match=reason):
        decode(bytes.fromhex(data))


def test_a_string_over_32767_bytes_is_refused_where_its_size_has_no_room() -> None:
    longest, longer = "é" * 16383 + "x", "é" * 16384
    assert decode_key(encode_key(GroupMetadataKey(longest))) == GroupMetadataKey(longest)
    with pytest.raises(InvalidRecord, match="32768 bytes"):
        encode_key(GroupMetadataKey(longer))
    with pytest.raises(InvalidRecord, match="32768 bytes"):
        encode_offset_commit(OffsetCommitValue(1, metadata=longer))
    assert decode_offset_commit(encode_offset_commit(OffsetCommitValue(1, metadata=longer), 4)).metadata == longer


# ------------------------------------------------------------------------------------------------------- properties

INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
TEXT, BLOB = st.text(max_size=20), st.binary(max_size=200)
COMMITS = st.builds(OffsetCommitValue, INT64, INT32, TEXT, INT64, INT64, st.none() | st.uuids())
GROUP_MEMBERS = st.builds(GroupMember, TEXT, st.none() | TEXT, TEXT, TEXT, INT32, INT32, BLOB, BLOB)
GROUPS = st.builds(
    GroupMetadataValue,
    TEXT,
    INT32,
    st.none() | TEXT,
    st.none() | TEXT,
    INT64,
    st.lists(GROUP_MEMBERS, max_size=3).map(tuple),
)
ANY_KEY = st.builds(OffsetCommitKey, TEXT, TEXT, INT32) | st.builds(GroupMetadataKey, TEXT)


@settings(max_examples=80, deadline=None)
@given(ANY_KEY, COMMITS, GROUPS, st.sampled_from(VERSIONS))
def test_every_record_comes_back(key: Key, commit: OffsetCommitValue, group: GroupMetadataValue, version: int) -> None:
    assert decode_key(encode_key(key)) == key
    assert decode_offset_commit(encode_offset_commit(commit, version)) == commit_of(version, commit)
    assert decode_group_metadata(encode_group_metadata(group, version)) == group_of(version, group)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(GOLDEN)), st.binary(max_size=20), st.integers(0, 200), st.integers(0, 20))
def test_any_bytes_are_a_record_or_corrupt(name: str, noise: bytes, at: int, cut: int) -> None:
    valid = GOLDEN[name]
    for data in (noise, valid[:2] + noise, valid[:at] + noise + valid[at + cut :]):
        for decode, encode in (
            (decode_key, encode_key),
            (decode_offset_commit, lambda value: encode_offset_commit(value, 4)),
            (decode_group_metadata, lambda value: encode_group_metadata(value, 4)),
        ):
            try:
                value = decode(data)
            except CorruptBatch:
                continue
            assert decode(encode(value))._replace(**forgotten(value)) == value


def forgotten(value: Any) -> dict[str, Any]:
    """The one field that version 4, which holds all others, leaves out."""
    return {"expire_timestamp": value.expire_timestamp} if isinstance(value, OffsetCommitValue) else {}
