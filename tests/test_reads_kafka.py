"""We read what Apache Kafka wrote: tests/data/kafka, as its own consumer read it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import logstore
from kafka_golden import GOLDEN, GoldenPartition, GoldenRecord, golden_partitions
from logstore import Compression, PartitionLog, ReadOnlyLog
from logstore.config import TopicConfig
from logstore.format import checkpoint, filename, producer_snapshot, properties
from logstore.format.batch import RecordBatch
from logstore.format.record import Record
from logstore.storage.cache import Caches
from logstore.storage.log_view import LogView
from logstore.storage.segment import Segment

PARTITIONS = golden_partitions()
IDS = [f"{partition.topic}-{partition.partition}" for partition in PARTITIONS]
each_partition = pytest.mark.parametrize("partition", PARTITIONS, ids=IDS)
each_directory = pytest.mark.parametrize("state", ["data", "live"])
INDEX_INTERVAL = 256


def expected(partition: GoldenPartition, end_offset: int) -> list[GoldenRecord]:
    return [record for record in partition.records if partition.log_start_offset <= record.offset < end_offset]


def directory_of(partition: GoldenPartition, state: str) -> Path:
    return partition.directory if state == "data" else partition.live_directory


def assert_same(records: list[Record], golden: list[GoldenRecord]) -> None:
    assert [record.offset for record in records] == [record.offset for record in golden]
    for record, wanted in zip(records, golden, strict=True):
        assert record.timestamp_ms == wanted.timestamp_ms
        assert (record.key, record.value) == (wanted.key, wanted.value)
        assert list(record.headers) == wanted.headers


def view_of(partition: GoldenPartition, state: str) -> LogView:
    return logstore.open(GOLDEN / state, read_only=True).log(partition.topic, partition.partition).view


@each_directory
@each_partition
def test_every_record_is_what_kafkas_consumer_read(partition: GoldenPartition, state: str) -> None:
    view = view_of(partition, state)
    assert list(view.segments)
    assert view.log_end_offset == partition.high_watermark or state == "live"
    # The live copy of "trimmed" was made before its log start offset was recorded: it shows a few records more.
    start_offset = max(view.log_start_offset, partition.log_start_offset)
    assert_same(list(view.records(start_offset)), expected(partition, view.log_end_offset))


@each_partition
def test_the_log_start_offset_is_the_one_that_kafka_recorded(partition: GoldenPartition) -> None:
    view = view_of(partition, "data")
    assert view.log_start_offset == max(partition.log_start_offset, view.segments[0].base_offset)
    if partition.log_start_offset:
        with pytest.raises(logstore.OffsetOutOfRange):
            view.read(partition.log_start_offset - 1)


def test_the_live_copy_ends_where_kafkas_checkpoint_of_the_time_says_or_later() -> None:
    ends = checkpoint.decode_offsets((GOLDEN / "live" / filename.REPLICATION_OFFSET_CHECKPOINT).read_bytes())
    for partition in PARTITIONS:
        assert view_of(partition, "live").log_end_offset >= ends[partition.topic, partition.partition] > 0


@each_partition
def test_reading_may_begin_at_any_offset(partition: GoldenPartition) -> None:
    view = view_of(partition, "data")
    golden = expected(partition, view.log_end_offset)
    for offset in range(view.log_start_offset, view.log_end_offset + 1):
        assert_same(list(view.records(offset)), [record for record in golden if record.offset >= offset])


@each_partition
def test_slices_joined_end_to_end_are_the_log(partition: GoldenPartition) -> None:
    """As a fetch does: whole batches out of slices of a hundred bytes or so."""
    view = view_of(partition, "data")
    offset, records = view.log_start_offset, []
    while piece := view.read(offset, 100).read():
        batch = RecordBatch.at(piece)
        batch.check_crc()
        if not batch.header.is_control:
            records += [record for record in batch.records() if record.offset >= offset]
        offset = batch.header.next_offset
    assert offset == view.log_end_offset
    assert_same(records, expected(partition, view.log_end_offset))


@each_partition
def test_a_bound_between_batches_ends_the_read_there(partition: GoldenPartition) -> None:
    view = view_of(partition, "data")
    bound = partition.last_stable_offset
    assert_same(list(view.records(view.log_start_offset, max_offset=bound)), expected(partition, bound))


@each_directory
@each_partition
def test_the_offset_for_a_time_is_what_a_naive_search_finds(partition: GoldenPartition, state: str) -> None:
    view = view_of(partition, state)
    # Markers of transactions have timestamps too, and a look-up by time lands on them as on any record: as in Kafka.
    everything = [record for batch in view.batches(view.log_start_offset) for record in batch.records()]
    candidates = [
        (record.timestamp_ms, record.offset) for record in everything if record.offset >= view.log_start_offset
    ]
    times = {timestamp for timestamp, _ in candidates}
    assert times
    for time_ms in sorted({time_ms + step for time_ms in times for step in (-1, 0, 1)} | {0, 2**62}):
        naive = next(((stamp, offset) for stamp, offset in candidates if stamp >= time_ms), None)
        assert view.offset_for_time(time_ms) == naive


def test_the_compressed_topics_are_stored_as_their_names_say() -> None:
    for name in ("none", "gzip", "snappy", "lz4", "zstd"):
        log = logstore.open(GOLDEN / "data", read_only=True).log(name)
        assert {batch.header.compression for batch in log.batches(0)} == {Compression[name.upper()]}


def test_append_time_is_the_time_of_every_record_in_a_batch() -> None:
    for batch in logstore.open(GOLDEN / "data", read_only=True).log("append_time").batches(0):
        assert batch.header.has_append_time
        assert {record.timestamp_ms for record in batch.records()} == {batch.header.max_timestamp}


def test_the_compacted_topic_has_delete_horizons_gaps_and_empty_segments() -> None:
    view = logstore.open(GOLDEN / "data", read_only=True).log("compacted").view
    assert not view.segments[0].size
    assert any(batch.header.delete_horizon_ms for batch in view.batches(0))
    offsets = [record.offset for record in view.records(0)]
    assert len(offsets) < offsets[-1] - offsets[0] + 1
    assert any(record.value is None for record in view.records(0))


def test_markers_are_in_the_batches_and_not_among_the_records() -> None:
    log = logstore.open(GOLDEN / "data", read_only=True).log("transactions")
    control = {batch.header.base_offset for batch in log.batches(0) if batch.header.is_control}
    assert control
    assert control.isdisjoint(record.offset for record in log.records(0))
    assert any(batch.header.is_transactional and not batch.header.is_control for batch in log.batches(0))


def test_kafkas_own_topics_are_listed_and_read() -> None:
    store = logstore.open(GOLDEN / "data", read_only=True)
    names = [topic.name for topic in store.topics()]
    assert {"__consumer_offsets", "__transaction_state", "__cluster_metadata", "orders_eu-1.v2"} <= set(names)
    assert store.topic("none").partitions == 2
    metadata = (GOLDEN / "data" / "none-0" / filename.PARTITION_METADATA).read_bytes()
    assert store.topic("none").topic_id == checkpoint.decode_partition_metadata(metadata)
    for name in ("__consumer_offsets", "__transaction_state", "__cluster_metadata"):
        assert list(store.log(name).records(0))


# ------------------------------------------------------------------------------------------------------------ indexes


def sealed_segments(state: str) -> Iterator[Segment]:
    for partition in PARTITIONS:
        directory = directory_of(partition, state)
        for path in sorted(directory.glob("*.log")):
            segment = Segment(directory, int(path.stem), Caches(), size=path.stat().st_size, read_only=True)
            if segment.size:
                yield segment


@each_directory
def test_every_index_entry_of_kafka_leads_to_its_batch(state: str) -> None:
    count = 0
    for segment in sealed_segments(state):
        for relative_offset, position in zip(*segment.offset_index.columns, strict=True):
            found = segment.find(segment.base_offset + relative_offset)
            assert found is not None
            assert found.position == position
            assert found.header.base_offset <= segment.base_offset + relative_offset <= found.header.last_offset
            count += 1
    assert count > 30


@each_directory
def test_an_offset_found_through_kafkas_index_is_found_without_it_too(state: str) -> None:
    for segment in sealed_segments(state):
        located = list(segment.headers())
        for offset in range(segment.base_offset, located[-1].header.next_offset + 1):
            naive = next((found for found in located if found.header.last_offset >= offset), None)
            assert segment.find(offset) == naive


def test_indexes_made_by_us_have_the_entries_that_kafka_made(tmp_path: Path) -> None:
    """Where the log was not compacted since, and not continued by a second run, which counts the interval anew."""
    compared = 0
    for partition in PARTITIONS:
        if partition.topic in ("compacted", "orders_eu-1.v2"):
            continue
        for path in sorted(partition.directory.glob("*.log")):
            target = tmp_path / f"{partition.topic}-{partition.partition}"
            target.mkdir(exist_ok=True)
            shutil.copy(path, target)
            caches = Caches()
            ours = Segment(target, int(path.stem), caches, size=path.stat().st_size, index_interval=INDEX_INTERVAL)
            assert ours.rebuild_indexes() == []
            kafkas = path.with_suffix(".index").read_bytes()
            assert ours.offset_index.path.read_bytes() == kafkas, path
            times = path.with_suffix(".timeindex").read_bytes()
            assert ours.time_index.path.read_bytes() == times, path
            compared += len(kafkas) // 8
    assert compared > 30


# -------------------------------------------------------------------------------------------- checkpoints, snapshots


@each_directory
def test_every_checkpoint_snapshot_and_properties_file_of_kafka_is_read(state: str) -> None:
    root = GOLDEN / state
    for path in root.glob("*-offset-checkpoint"):
        assert all(offset >= 0 for offset in checkpoint.decode_offsets(path.read_bytes()).values())
    for path in root.glob("*/leader-epoch-checkpoint"):
        epochs = checkpoint.decode_epochs(path.read_bytes())
        assert epochs == sorted(epochs)
        assert epochs
    snapshots = [producer_snapshot.decode(path.read_bytes()) for path in root.glob("*/*.snapshot")]
    assert any(snapshots)
    assert properties.decode_properties((root / filename.META_PROPERTIES).read_bytes())["version"] == "1"


# --------------------------------------------------------------------------------------------------- taking it over


@each_partition
def test_a_crash_image_is_taken_over_and_appended_to(partition: GoldenPartition, tmp_path: Path) -> None:
    directory = tmp_path / f"{partition.topic}-{partition.partition}"
    shutil.copytree(partition.live_directory, directory)
    start = partition.log_start_offset
    compacted = partition.topic in {"compacted", "__consumer_offsets", "__transaction_state"}
    config = TopicConfig(cleanup_policy=("compact",) if compacted else ("delete",))
    log = PartitionLog(directory, config, log_start_offset=start)
    golden = expected(partition, log.log_end_offset)
    end = log.log_end_offset
    assert end == view_of(partition, "live").log_end_offset
    assert log.damages == ()
    assert_same(list(log.records(log.log_start_offset)), golden)
    receipt = log.append([b"ours", b"too"], keys=[b"k", b"l"])
    assert (receipt.base_offset, receipt.last_offset) == (end, end + 1)
    log.close()
    assert not list(directory.glob("*.deleted"))

    again = PartitionLog(directory, config, log_start_offset=start, recovery_point=end + 2, is_clean=True)
    assert_same(list(again.records(again.log_start_offset))[:-2], golden)
    assert [record.value for record in again.records(end)] == [b"ours", b"too"]
    again.close()


def test_the_state_of_producers_after_a_takeover_is_kafkas_own_snapshot(tmp_path: Path) -> None:
    """Made anew from the batches alone, at the offset where Kafka took its last one."""
    compared = 0
    for partition in PARTITIONS:
        if partition.topic not in ("idempotent", "transactions"):
            continue
        newest = max(partition.directory.glob("*.snapshot"))
        kafkas = {entry.producer_id: entry for entry in producer_snapshot.decode(newest.read_bytes())}
        directory = tmp_path / partition.directory.name
        shutil.copytree(partition.directory, directory)
        for path in directory.glob("*.snapshot"):
            path.unlink()
        log = PartitionLog(directory)
        assert log.log_end_offset == int(newest.stem)
        ours = {entry.producer_id: entry for entry in log.producers.snapshot_entries()}
        assert ours == kafkas
        compared += len(ours)
        log.close()
    assert compared >= 3


def test_the_leader_epochs_after_a_takeover_are_kafkas_own(tmp_path: Path) -> None:
    for partition in PARTITIONS:
        path = partition.directory / filename.LEADER_EPOCH_CHECKPOINT
        kafkas = checkpoint.decode_epochs(path.read_bytes())
        directory = tmp_path / partition.directory.name
        shutil.copytree(partition.directory, directory)
        log = PartitionLog(directory, log_start_offset=partition.log_start_offset)
        assert [tuple(entry) for entry in log.leader_epochs.entries] == kafkas
        log.close()


# ------------------------------------------------------------------------------------------------------ old formats


@pytest.mark.parametrize("name", ["v0_none", "v0_gzip", "v1_none", "v1_gzip"])
def test_the_old_message_formats_are_refused_by_name_and_never_cut(name: str, tmp_path: Path) -> None:
    source = GOLDEN / "legacy" / f"{name}-0"
    version = f"message format {name[:2]}"
    path = next(source.glob("*.log"))
    with pytest.raises(logstore.UnsupportedMagic, match=version):
        RecordBatch.at(path.read_bytes())
    assert list(ReadOnlyLog(source).records(0)) == []

    directory = tmp_path / source.name
    shutil.copytree(source, directory)
    log = PartitionLog(directory)
    assert [version in damage.damage.reason for damage in log.damages] == [True]
    log.close()
    assert (directory / path.name).read_bytes() == path.read_bytes()
