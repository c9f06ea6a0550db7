import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import InvalidArgument, InvalidTopicName
from logstore.format.filename import (
    CLEANED,
    DELETED,
    SWAP,
    FileKind,
    SegmentFile,
    check_topic_name,
    deleted_dir,
    index_name,
    is_deleted_dir,
    log_name,
    parse_partition_dir,
    parse_segment_file,
    partition_dir,
    snapshot_name,
    time_index_name,
    txn_index_name,
)

LONGEST = "t" * 249
SEGMENT_FILES = [
    ("00000000000000000000.log", SegmentFile(0, FileKind.LOG)),
    ("00000000000000004711.index", SegmentFile(4711, FileKind.INDEX)),
    ("00000000000000004711.timeindex", SegmentFile(4711, FileKind.TIME_INDEX)),
    ("00000000000000004711.txnindex", SegmentFile(4711, FileKind.TXN_INDEX)),
    ("00000000000000004711.snapshot", SegmentFile(4711, FileKind.SNAPSHOT)),
    ("09223372036854775807.log", SegmentFile(2**63 - 1, FileKind.LOG)),
    ("00000000000000000001.log.deleted", SegmentFile(1, FileKind.LOG, DELETED)),
    ("00000000000000000001.index.cleaned", SegmentFile(1, FileKind.INDEX, CLEANED)),
    ("00000000000000000001.timeindex.swap", SegmentFile(1, FileKind.TIME_INDEX, SWAP)),
]


@pytest.mark.parametrize(("name", "file"), SEGMENT_FILES)
def test_a_segment_file_has_exactly_this_name(name: str, file: SegmentFile) -> None:
    assert parse_segment_file(name) == file
    assert file.name == name


def test_each_kind_is_named_by_its_function() -> None:
    named = {
        FileKind.LOG: log_name,
        FileKind.INDEX: index_name,
        FileKind.TIME_INDEX: time_index_name,
        FileKind.TXN_INDEX: txn_index_name,
        FileKind.SNAPSHOT: snapshot_name,
    }
    for kind in FileKind:
        assert named[kind](4711) == SegmentFile(4711, kind).name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "leader-epoch-checkpoint",
        "0.log",
        "0000000000000000000.log",
        "000000000000000000000.log",
        "00000000000000000000",
        "00000000000000000000.logs",
        "00000000000000000000.log.old",
        "00000000000000000000.log.deleted.deleted",
        "00000000000000000000.log\n",
        " 0000000000000000000.log",
        "-0000000000000000001.log",
        "0000000000000000000٣.log",
        "09223372036854775808.log",
        "99999999999999999999.log",
    ],
)
def test_what_is_no_segment_file_parses_to_none(name: str) -> None:
    assert parse_segment_file(name) is None


@pytest.mark.parametrize("topic", ["a", "A-Z_0.9", "...", "_", "-", "__consumer_offsets", ".lock", LONGEST])
def test_kafkas_topic_names_are_taken(topic: str) -> None:
    check_topic_name(topic)
    assert parse_partition_dir(partition_dir(topic, 0)) == (topic, 0)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        "/",
        "a b",
        "a\0",
        "a\n",
        "ä",
        "a:b",
        "t" * 250,
        "x" * 100_000,
        "٣",
        5,
        None,
        b"orders",
    ],
)
def test_other_topic_names_are_refused_wherever_a_path_is_made(topic: Any) -> None:
    with pytest.raises(InvalidTopicName) as caught:
        check_topic_name(topic)
    assert len(str(caught.value)) < 2000
    with pytest.raises(InvalidTopicName):
        partition_dir(topic, 0)


PARTITION_DIRS = [
    ("orders_0", ("orders", 0)),
    ("orders-0", ("orders", 0)),
    ("my_topic_3", ("my_topic", 3)),
    ("my-topic-3", ("my-topic", 3)),
    ("my_topic-3", ("my_topic", 3)),
    ("my-topic_3", ("my-topic", 3)),
    ("a_1-2", ("a_1", 2)),
    ("a-1_2", ("a-1", 2)),
    ("5_5", ("5", 5)),
    ("__0", ("_", 0)),
    ("-_0", ("-", 0)),
    ("x_2147483647", ("x", 2**31 - 1)),
    (f"{LONGEST}_99999", (LONGEST, 99999)),
]


@pytest.mark.parametrize(("name", "parsed"), PARTITION_DIRS)
def test_the_separator_before_the_final_digits_splits(name: str, parsed: tuple[str, int]) -> None:
    assert parse_partition_dir(name) == parsed


@pytest.mark.parametrize(
    "name",
    [
        "",
        "orders",
        "orders_",
        "_0",
        "-0",
        "orders_00",
        "orders_01",
        "orders_+1",
        "orders_2147483648",
        "orders_99999999999999",
        "orders_٣",
        "orders_1\n",
        "or ders_1",
        "lost+found",
        "._0x",
        ".._0/..",
        "..-0",
        "orders_0.5f0c-delete",
        "orders-0.8a30e1c2a7174c25a9e1f4eea5ef7d0e-stray",
        "orders-0.8a30e1c2a7174c25a9e1f4eea5ef7d0e-future",
        f"{LONGEST}t_0",
    ],
)
def test_what_is_no_partition_parses_to_none(name: str) -> None:
    assert parse_partition_dir(name) is None


def test_a_partition_that_cannot_be_named_is_refused() -> None:
    for partition in (-1, 2**31):
        with pytest.raises(InvalidArgument, match=str(partition)):
            partition_dir("orders", partition)
    assert len(partition_dir(LONGEST, 99_999)) == 255
    with pytest.raises(InvalidArgument, match="256 bytes"):
        partition_dir(LONGEST, 100_000)


def test_a_deleted_partition_has_a_name_that_no_partition_has() -> None:
    assert deleted_dir("orders", 3, "5f0c") == "orders_3.5f0c-delete"
    for name in ("orders_3.5f0c-delete", "orders-3.8a30e1c2a7174c25a9e1f4eea5ef7d0e-delete"):
        assert is_deleted_dir(name)
        assert parse_partition_dir(name) is None


def test_a_deleted_partitions_name_fits_whatever_the_topic() -> None:
    for partition in (0, 2**31 - 1):
        name = deleted_dir(LONGEST, partition, "f" * 32)
        assert len(name) == 255
        assert is_deleted_dir(name)


@pytest.mark.parametrize(
    "name", ["orders_0", "orders-delete", "orders_0-delete", "orders_0.xyz-delete", "a_0.5f-delete_1"]
)
def test_other_names_are_no_deleted_partitions(name: str) -> None:
    assert not is_deleted_dir(name)


TOPICS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=40).filter(
    lambda topic: topic not in {".", ".."}
)


@settings(max_examples=100, deadline=None)
@given(TOPICS, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_every_name_comes_back(topic: str, partition: int, offset: int) -> None:
    assert parse_partition_dir(partition_dir(topic, partition)) == (topic, partition)
    assert parse_partition_dir(f"{topic}-{partition}") == (topic, partition)
    assert parse_segment_file(snapshot_name(offset)) == SegmentFile(offset, FileKind.SNAPSHOT)


@settings(max_examples=200, deadline=None)
@given(st.text("ab01_-./ .\nlogindex", max_size=30))
def test_any_name_is_ours_or_none(name: str) -> None:
    partition = parse_partition_dir(name)
    if partition is not None:
        assert name in {partition_dir(*partition), "{}-{}".format(*partition)}
    file = parse_segment_file(name)
    assert file is None or file.name == name
    assert not (partition and is_deleted_dir(name))
