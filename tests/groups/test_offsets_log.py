"""The topic __consumer_offsets, read back: what counts, what does not, and what is said of what cannot be read."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import logstore
from kafka_golden import GOLDEN, golden_groups
from kafka_oracle import KafkaOracle
from logstore.config import TopicConfig
from logstore.format.batch import BODY_HEADER, CONTROL, CRC_START, TRANSACTIONAL, encode_batch
from logstore.format.checksum import crc32c
from logstore.format.control_record import encode_marker
from logstore.format.filename import TopicPartition
from logstore.format.offsets_topic import (
    GroupMember,
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
    encode_group_metadata,
    encode_key,
    encode_offset_commit,
)
from logstore.groups.offsets_log import (
    OFFSETS_TOPIC,
    KeyAndValue,
    StoredGroup,
    commit_record,
    load,
    metadata_record,
    partition_of,
)
from logstore.groups.requests import OffsetAndMetadata
from logstore.storage.partition import PartitionLog

T0 = 1_700_000_000_000
ABORT, COMMIT = 0, 1
P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)
MEMBER = GroupMember("m-1", None, "client", "/127.0.0.1", 300_000, 45_000, b"subscription", b"assignment")
METADATA = GroupMetadataValue("consumer", 3, "range", "m-1", T0, (MEMBER,))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PartitionLog]:
    opened = PartitionLog(tmp_path, TopicConfig(cleanup_policy=("compact",)), now_ms=lambda: T0)
    yield opened
    opened.close()


def append(log: PartitionLog, *records: KeyAndValue) -> None:
    log.append([value for _, value in records], keys=[key for key, _ in records])


def append_transactional(log: PartitionLog, producer_id: int, *records: KeyAndValue, sequence: int = 0) -> None:
    keys, values = [key for key, _ in records], [value for _, value in records]
    producer = {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": sequence}
    log.append_batches(encode_batch(values, keys=keys, timestamps_ms=T0, attributes=TRANSACTIONAL, **producer))


def end_transaction(log: PartitionLog, producer_id: int, control_type: int) -> None:
    key, value = encode_marker(control_type, 0)
    log.append_batches(
        encode_batch(
            [value],
            keys=[key],
            timestamps_ms=T0,
            attributes=TRANSACTIONAL | CONTROL,
            producer_id=producer_id,
            producer_epoch=0,
        )
    )


def at(offset: int, metadata: str = "") -> OffsetCommitValue:
    return OffsetCommitValue(offset, 0, metadata, T0)


def offsets(groups: dict[str, StoredGroup]) -> dict[str, dict[TopicPartition, int]]:
    return {name: {key: value.offset for key, value in group.commits.items()} for name, group in groups.items()}


# ---------------------------------------------------------------------------------------------------- where groups live


@pytest.mark.parametrize(
    ("group", "java_hash"),
    [
        ("a", 97),
        ("hello", 99162322),
        ("Aa", 2112),
        ("BB", 2112),
        ("The quick brown fox jumps over the lazy dog", -609428141),
        ("polygenelubricants", -(2**31)),  # whose absolute value Java cannot represent: Kafka takes 0
        ("ä", 228),
        ("\N{GRINNING FACE}", 0xD83D * 31 + 0xDE00),
    ],
)
def test_a_group_lives_where_kafkas_hash_of_its_id_says(group: str, java_hash: int) -> None:
    for count in (1, 3, 50):
        assert partition_of(group, count) == (0 if java_hash == -(2**31) else abs(java_hash) % count)


# ---------------------------------------------------------------------------------------------------------- what counts


def test_of_each_key_the_last_record_counts_and_a_tombstone_takes_it_away(log: PartitionLog) -> None:
    append(log, commit_record("g", P0, at(1)), commit_record("g", P1, at(2)), metadata_record("g", METADATA))
    append(log, commit_record("h", P0, at(9, "nine")), metadata_record("h", METADATA))
    append(log, commit_record("g", P0, at(5)), commit_record("g", P1, None), metadata_record("h", None))
    assert load([log]) == {"g": StoredGroup({P0: at(5)}, METADATA), "h": StoredGroup({P0: at(9, "nine")})}


def test_a_group_that_was_deleted_is_not_there(log: PartitionLog) -> None:
    append(log, commit_record("g", P0, at(1)), metadata_record("g", METADATA))
    append(log, commit_record("g", P0, None), metadata_record("g", None))
    assert load([log]) == {}


def test_large_batches_compressed_ones_and_many_small_ones_are_read_alike(log: PartitionLog) -> None:
    for number in range(2_100):
        append(log, commit_record(f"g{number % 7}", P0, at(number)))
    records = [commit_record("big", TopicPartition("orders", number), at(number)) for number in range(2_000)]
    log.append([value for _, value in records], keys=[key for key, _ in records], compression="zstd")
    append(log, commit_record("g0", P1, at(77)))
    found = offsets(load([log]))
    assert {name: found[name][P0] for name in found if name != "big"} == {f"g{n % 7}": n for n in range(2_093, 2_100)}
    assert found["big"] == {TopicPartition("orders", number): number for number in range(2_000)}
    assert found["g0"][P1] == 77


@pytest.mark.parametrize("version", range(5))
def test_values_of_all_of_kafkas_versions_are_read(version: int, log: PartitionLog) -> None:
    append(log, (encode_key(OffsetCommitKey("g", *P0)), encode_offset_commit(at(7, "text"), version)))
    append(log, (encode_key(GroupMetadataKey("g")), encode_group_metadata(METADATA, version)))
    group = load([log])["g"]
    assert (group.commits[P0].offset, group.commits[P0].metadata) == (7, "text")
    assert group.metadata is not None
    assert (group.metadata.generation, group.metadata.members[0].member_id) == (3, "m-1")


# --------------------------------------------------------------------------------------------------------- transactions


@pytest.mark.parametrize(("ends", "offset"), [([COMMIT], 8), ([ABORT], 1), ([], 1)], ids=["commit", "abort", "open"])
def test_offsets_of_a_transaction_count_when_it_is_committed(ends: list[int], offset: int, log: PartitionLog) -> None:
    append(log, commit_record("g", P0, at(1)))
    append_transactional(log, 7, commit_record("g", P0, at(8)))
    for control_type in ends:
        end_transaction(log, 7, control_type)
    assert offsets(load([log])) == {"g": {P0: offset}}


def test_the_end_of_one_producers_transaction_is_nothing_to_anothers(log: PartitionLog) -> None:
    append_transactional(log, 7, commit_record("g", P0, at(8)))
    append_transactional(log, 8, commit_record("g", P1, at(9)))
    end_transaction(log, 7, ABORT)
    end_transaction(log, 8, COMMIT)
    append_transactional(log, 7, commit_record("g", P0, at(10)), sequence=1)
    assert offsets(load([log])) == {"g": {P1: 9}}


def test_a_commit_that_came_after_those_of_a_transaction_and_before_its_end_stands(log: PartitionLog) -> None:
    append_transactional(log, 7, commit_record("g", P0, at(8)), commit_record("g", P1, at(8)))
    append(log, commit_record("g", P0, at(20)))
    end_transaction(log, 7, COMMIT)
    assert offsets(load([log])) == {"g": {P0: 20, P1: 8}}


# -------------------------------------------------------------------------------------------------- what cannot be read


def damage_batch(log: PartitionLog, offset: int) -> None:
    segment = log.view.segments[0]
    located = segment.find(offset)
    assert located is not None
    position = located.position + located.header.size - 1
    with segment.path.open("r+b") as file:
        file.seek(position)
        octet = file.read(1)
        file.seek(position)
        file.write(bytes([octet[0] ^ 0xFF]))


def test_a_damaged_batch_is_told_and_passed_over(log: PartitionLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        append(log, commit_record("g", TopicPartition("orders", number), at(number)))
    damage_batch(log, 2)
    found = offsets(load([log]))
    assert found == {"g": {TopicPartition("orders", number): number for number in (0, 1, 3, 4)}}
    assert "cannot be read, and is passed over" in caplog.text and "CRC" in caplog.text


def test_what_is_behind_damage_without_an_end_is_told_to_be_lost(
    log: PartitionLog, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        append(log, commit_record("g", TopicPartition("orders", number), at(number)))
    damage_batch(log, 2)
    assert len(load([log])["g"].commits) == 2
    assert "nothing can be read behind it" in caplog.text


def test_records_that_make_no_sense_are_told_and_the_others_of_their_batch_count(
    log: PartitionLog, caplog: pytest.LogCaptureFixture
) -> None:
    good = commit_record("g", P0, at(3))
    key = encode_key(OffsetCommitKey("g", *P1))
    log.config = TopicConfig()  # which lets in what has no key, as somebody else may have written it
    no_key = encode_offset_commit(at(1))
    log.append([b"\0\3short", good[1], b"\0\7\0", no_key], keys=[key, good[0], encode_key(GroupMetadataKey("g")), None])
    append(log, (b"\0\1\0\xff", no_key), (b"", no_key))
    assert load([log]) == {"g": StoredGroup({P0: at(3)})}
    assert caplog.text.count("cannot be read, and is passed over") == 5


def test_many_problems_are_counted_not_listed(log: PartitionLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(50):
        append(log, (encode_key(OffsetCommitKey("g", "orders", number)), b"\0\3"))
    assert load([log]) == {}
    assert caplog.text.count("is passed over") == 10
    assert "50 places in all cannot be read" in caplog.text


def test_a_batch_whose_records_do_not_add_up_costs_no_other(
    log: PartitionLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Two neighbours that are wrong in ways that would cancel out where both are decoded as one."""
    append(log, commit_record("g", P0, at(1)))
    body = encode_batch([b"v"], keys=[b"k"], timestamps_ms=T0)
    for count in (2, 1):  # a record less than was said, and what is left of it behind
        batch = bytearray(body)
        batch[57:61] = count.to_bytes(4, "big")
        batch[23:27] = (count - 1).to_bytes(4, "big")
        _append_unchecked(log, bytes(batch))
    append(log, commit_record("g", P1, at(2)))
    assert offsets(load([log])) == {"g": {P0: 1, P1: 2}}
    assert "cannot be read" in caplog.text


def _append_unchecked(log: PartitionLog, batch: bytes) -> None:
    """As somebody wrote it whose CRC is right: the log itself would refuse it."""
    sealed = bytearray(batch)
    sealed[17:21] = crc32c(memoryview(batch)[CRC_START:]).to_bytes(4, "big")
    delta = BODY_HEADER.unpack_from(batch, CRC_START)[1]
    with log._lock:
        log._write((bytes(sealed[16:]),), len(sealed), delta, T0, T0)


def test_keys_of_other_kinds_of_groups_are_left_alone(log: PartitionLog, caplog: pytest.LogCaptureFixture) -> None:
    append(log, (b"\0\x0b\0\1g", b"\0\0\0\0\0\5"), commit_record("g", P0, at(1)))
    with caplog.at_level(logging.DEBUG):
        assert offsets(load([log])) == {"g": {P0: 1}}
    assert caplog.text == ""


# ---------------------------------------------------------------------------------------------------------- with Kafka


@pytest.mark.parametrize("state", ["data", "live"])
def test_what_kafka_stored_of_its_groups_is_what_its_consumers_were_told(state: str) -> None:
    with logstore.open(GOLDEN / state, read_only=True) as store:
        groups = store.groups
        committed = {
            group: {key: (value.offset, value.metadata) for key, value in groups.committed(group).items()}
            for group in golden_groups()
        }
        assert committed == golden_groups()
        assert [description.group for description in groups.groups()] == sorted(golden_groups())
        assert groups.describe("billing").state == "Empty"
        assert groups.describe("billing").protocol_type == "consumer"
        assert groups.committed_of("gzip", 0) == {"billing": 12}


@pytest.mark.kafka
def test_kafkas_tool_reads_commits_metadata_and_tombstones_of_ours(kafka: KafkaOracle, log: PartitionLog) -> None:
    append(log, commit_record("billing", P0, at(5, "half way")), commit_record("billing", P1, at(6)))
    append(log, metadata_record("billing", METADATA))
    append(log, commit_record("billing", P1, None), metadata_record("billing", None))
    log.flush()
    dump = kafka.dump_log_segments(*log.directory.glob("*.log"), decoder="offsets")
    assert dump.problems == []
    keys = [record.key for record in dump.records()]
    values = [record.value for record in dump.records()]
    assert '{"type":"1","data":{"group":"billing","topic":"orders","partition":0}}' in keys
    assert '"offset":5' in str(values[0]) and '"metadata":"half way"' in str(values[0])
    assert f'"commitTimestamp":{T0}' in str(values[0])
    assert keys[2] == '{"type":"2","data":{"group":"billing"}}'
    assert '"protocolType":"consumer"' in str(values[2]) and '"memberId":"m-1"' in str(values[2])
    assert [record.value_size for record in dump.records()[3:]] == [-1, -1]


def test_the_topics_name_and_settings_are_kafkas(tmp_path: Path) -> None:
    with logstore.open(tmp_path, offsets_topic_num_partitions=5) as store:
        store.create_topic("orders")
        assert [topic.name for topic in store.topics()] == ["orders"]  # it is made when there is something to store
        store.groups.commit("g", {P0: OffsetAndMetadata(1)})
        topic = store.topic(OFFSETS_TOPIC)
        assert topic.partitions == 5
        assert topic.config.cleanup_policy == ("compact",)
        assert topic.config.segment_bytes == 104_857_600
        number = partition_of("g", 5)
        assert [store.log(OFFSETS_TOPIC, n).log_end_offset for n in range(5)] == [int(n == number) for n in range(5)]
        batch = next(store.log(OFFSETS_TOPIC, number).batches(0))
        assert batch.header.compression is logstore.Compression.NONE
