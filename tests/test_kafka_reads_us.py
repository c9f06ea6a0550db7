"""Others read what we wrote: Apache Kafka's own DumpLogSegments, kafka-python and aiokafka."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka.record.memory_records import MemoryRecords as AiokafkaRecords
from kafka.record import MemoryRecords as KafkaPythonRecords

import logstore
from kafka_oracle import Dump, KafkaOracle
from logstore import Compression, PartitionLog, TopicConfig
from logstore.format.batch import CONTROL, TRANSACTIONAL, encode_batch
from logstore.format.control_record import encode_marker
from logstore.format.filename import index_name, log_name, time_index_name
from logstore.format.record import Record
from logstore.storage import upkeep
from logstore.storage.segment import Segment

T0 = 1_700_000_000_000
SMALL = {"segment_bytes": 3_000, "index_interval_bytes": 256}
COMMIT = 1


class Written(NamedTuple):
    """A partition that we wrote and closed, and the records that must be read in it."""

    directory: Path
    records: list[Record]

    @property
    def logs(self) -> list[Path]:
        return sorted(self.directory.glob("*.log"))

    @property
    def indexes(self) -> list[Path]:
        """Without the time indexes of segments in which compaction has left a batch without records: Kafka's log takes
        the time of such a batch into its index as ours does, Kafka's tool looks for a record of that time."""
        logs = logstore.ReadOnlyLog(self.directory)
        emptied = {log_name(segment.base_offset) for segment in logs.view.segments if has_emptied_batch(segment)}
        return [
            path
            for path in self.files("*index")
            if path.suffix == ".index" or path.with_suffix(".log").name not in emptied
        ]

    def files(self, pattern: str) -> list[Path]:
        """Without empty ones, of which there is nothing to say."""
        return sorted(path for path in self.directory.glob(pattern) if path.stat().st_size)


def has_emptied_batch(segment: Segment) -> bool:
    return any(not located.header.record_count for located in segment.headers())


def open_log(directory: Path, **settings: Any) -> PartitionLog:
    directory.mkdir(exist_ok=True)
    return PartitionLog(directory, TopicConfig(**{**SMALL, **settings}), now_ms=lambda: T0)


def append_some(log: PartitionLog, first: int, count: int, compression: Compression = Compression.NONE) -> None:
    """Batches of 1, 2 and 3 records with null, empty and long keys and values, headers, and times that go back."""
    numbers = iter(range(first, first + count))
    size = 1
    while batch := [number for number, _ in zip(numbers, range(size), strict=False)]:
        log.append(
            [None if n % 7 == 3 else b"" if n % 7 == 5 else f"value {n} ".encode() * (n % 11) for n in batch],
            keys=[None if n % 5 == 1 else b"" if n % 5 == 2 else f"key {n % 13}".encode() for n in batch],
            headers=[[(f"h{i}", None if i else f"{n}".encode()) for i in range(n % 3)] for n in batch],
            timestamps_ms=[T0 + 10 * n - 45 * (n % 4) for n in batch],
            compression=compression,
        )
        size = size % 3 + 1


def close(log: PartitionLog) -> Written:
    records = list(log.records(log.log_start_offset))
    log.close()
    return Written(log.directory, records)


def compressed(root: Path, compression: Compression) -> Written:
    log = open_log(root / f"{compression.name.lower()}_0")
    append_some(log, 0, 150, compression)
    return close(log)


def append_time(root: Path) -> Written:
    log = open_log(root / "append_time_0", message_timestamp_type="LogAppendTime")
    append_some(log, 0, 40, Compression.LZ4)
    return close(log)


def preallocated(root: Path) -> Written:
    log = open_log(root / "preallocated_0", preallocate=True)
    append_some(log, 0, 80)
    return close(log)


def idempotent(root: Path) -> Written:
    log = open_log(root / "idempotent_0")
    for sequence in range(0, 60, 3):
        log.append([b"a", b"b", b"c"], producer_id=7, producer_epoch=1, base_sequence=sequence, timestamps_ms=T0)
        log.append(
            [b"d" * 100], producer_id=8, producer_epoch=0, base_sequence=sequence // 3, timestamps_ms=T0 + sequence
        )
    return close(log)


def transactional(root: Path) -> Written:
    """A committed and an aborted transaction, with their markers, and one that is open."""
    log = open_log(root / "transactional_0")
    for sequence, ending in enumerate([COMMIT, 0, None]):
        producer = {"producer_id": 9, "producer_epoch": 3, "timestamps_ms": T0 + sequence}
        log.append_batches(encode_batch([b"x", b"y"], attributes=TRANSACTIONAL, base_sequence=2 * sequence, **producer))
        if ending is not None:
            key, value = encode_marker(ending, coordinator_epoch=4)
            log.append_batches(encode_batch([value], keys=[key], attributes=TRANSACTIONAL | CONTROL, **producer))
    return close(log)


def recovered(root: Path) -> Written:
    """Left without a close, its tail torn and its indexes gone; opened, continued."""
    log = open_log(root / "recovered_0")
    append_some(log, 0, 100)
    last = log.view.segments[-1]
    with last.path.open("r+b") as file:
        file.truncate(last.size - 5)
    for path in chain(log.directory.glob("*.index"), log.directory.glob("*.timeindex")):
        path.unlink()
    again = open_log(log.directory)
    assert 0 < again.log_end_offset < log.log_end_offset
    append_some(again, again.log_end_offset, 50, Compression.ZSTD)
    return close(again)


def truncated(root: Path) -> Written:
    log = open_log(root / "truncated_0")
    append_some(log, 0, 120)
    log.truncate_to(61)
    log.leader_epoch = 5
    append_some(log, log.log_end_offset, 60, Compression.GZIP)
    log.truncate_to(log.log_end_offset - 2)
    append_some(log, log.log_end_offset, 5)
    return close(log)


def reopened(root: Path) -> Written:
    for start in range(0, 60, 20):
        log = open_log(root / "reopened_0")
        append_some(log, start, 20, Compression.SNAPPY)
        written = close(log)
    return written


def expired(root: Path) -> Written:
    """Whole segments gone at the beginning."""
    log = open_log(root / "expired_0", retention_bytes=5_000, retention_ms=-1)
    append_some(log, 0, 150)
    assert log.delete_expired()
    return close(log)


def compacted(root: Path) -> Written:
    with logstore.open(root / "store") as store:
        store.create_topic("compacted", cleanup_policy="compact", min_cleanable_dirty_ratio=0, **SMALL)
        log = store.log("compacted")
        for n in range(200):
            log.append([f"value {n}".encode() * 5], keys=[f"key {n % 17}".encode()], timestamps_ms=T0 + n)
        upkeep.compact(store._data_dir)
        records = list(log.records(0))
        assert len(records) < 200
    return Written(log.directory, records)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    root = tmp_path_factory.mktemp("written")
    made = {compression.name.lower(): compressed(root, compression) for compression in Compression}
    makers = (append_time, preallocated, idempotent, transactional, recovered, truncated, reopened, expired, compacted)
    return made | {make.__name__: make(root) for make in makers}


@pytest.fixture(scope="module")
def dump(written: dict[str, Written], kafka: KafkaOracle) -> Dump:
    """One run of Kafka's tool over all log files, since it takes its time to start."""
    return kafka.dump_log_segments(*chain.from_iterable(partition.logs for partition in written.values()))


def test_the_partitions_have_many_segments_each(written: dict[str, Written]) -> None:
    for name in ("none", "gzip", "snappy", "lz4", "zstd", "recovered", "truncated", "preallocated", "expired"):
        assert len(written[name].logs) > 1, name
    assert all(partition.records for partition in written.values())


@pytest.mark.kafka
def test_kafka_finds_nothing_wrong_in_our_logs_but_the_gaps_of_compaction(
    written: dict[str, Written], dump: Dump
) -> None:
    """Where offsets do not follow each other it names the file and the two: only compaction makes that."""
    gaps = {log.name for log in written["compacted"].logs}
    problems = [line for line in dump.problems if "is followed by" not in line]
    assert [line for line in problems if not any(name in line for name in gaps)] == []


@pytest.mark.kafka
def test_kafka_finds_nothing_at_all_in_the_logs_that_were_not_compacted(
    written: dict[str, Written], kafka: KafkaOracle
) -> None:
    logs = [log for name, partition in written.items() if name != "compacted" for log in partition.logs]
    assert kafka.dump_log_segments(*logs, records=False).problems == []


@pytest.mark.kafka
def test_kafka_reads_in_our_logs_the_records_that_we_appended(written: dict[str, Written], dump: Dump) -> None:
    for name, partition in written.items():
        ours = dump.only(*partition.logs)
        control = {int(batch["baseOffset"]) for batch in ours.batches() if batch["isControl"] == "true"}
        dumped = [record for record in ours.records() if record.offset not in control]
        assert [record.offset for record in dumped] == [record.offset for record in partition.records], name
        for found, (offset, timestamp_ms, key, value, headers) in zip(dumped, partition.records, strict=True):
            assert (found.offset, found.timestamp_ms) == (offset, timestamp_ms)
            assert found.key_size == (-1 if key is None else len(key))
            assert found.value_size == (-1 if value is None else len(value))
            assert (found.key or "") == (key or b"").decode()
            assert (found.value or "") == (value or b"").decode()
            assert found.header_keys == [header for header, _ in headers]


@pytest.mark.kafka
def test_kafka_sees_the_compression_producers_markers_and_epochs_that_we_wrote(
    written: dict[str, Written], dump: Dump
) -> None:
    for compression in Compression:
        name = compression.name.lower()
        assert {batch["compresscodec"] for batch in dump.only(*written[name].logs).batches()} == {name}
    batches = dump.only(*written["idempotent"].logs).batches()
    assert [batch["baseSequence"] for batch in batches if batch["producerId"] == "7"] == [str(3 * n) for n in range(20)]
    batches = dump.only(*written["transactional"].logs).batches()
    assert [batch["isControl"] for batch in batches] == ["false", "true", "false", "true", "false"]
    assert {(batch["producerId"], batch["producerEpoch"], batch["isTransactional"]) for batch in batches} == {
        ("9", "3", "true")
    }
    output = dump.only(*written["transactional"].logs).output
    assert output.index("endTxnMarker: COMMIT coordinatorEpoch: 4") < output.index("endTxnMarker: ABORT")
    epochs = [int(batch["partitionLeaderEpoch"]) for batch in dump.only(*written["truncated"].logs).batches()]
    assert set(epochs) == {0, 5}
    assert epochs == sorted(epochs)


@pytest.mark.kafka
def test_kafka_verifies_every_entry_of_our_indexes(written: dict[str, Written], kafka: KafkaOracle) -> None:
    indexes = [path for partition in written.values() for path in partition.indexes]
    assert len(indexes) > 60
    assert kafka.verify_indexes(*indexes).problems == []
    assert kafka.check_indexes(*indexes).problems == []


@pytest.mark.kafka
def test_kafka_sees_the_entries_in_our_indexes_that_we_see(written: dict[str, Written], kafka: KafkaOracle) -> None:
    indexes = [path for partition in written.values() for path in partition.indexes]
    dump = kafka.dump_log_segments(*indexes, records=False)
    assert dump.problems == []
    for partition in written.values():
        log = logstore.ReadOnlyLog(partition.directory)
        for segment in log.view.segments:
            base = segment.base_offset
            if has_emptied_batch(segment):
                continue
            offsets = dump.only(partition.directory / index_name(base)).index_entries()
            assert offsets == [(base + o, p) for o, p in zip(*segment.offset_index.columns, strict=True)]
            times = dump.only(partition.directory / time_index_name(base)).index_entries()
            assert times == [(t, base + o) for t, o in zip(*segment.time_index.columns, strict=True)]


@pytest.mark.kafka
def test_kafka_reads_our_producer_snapshots(written: dict[str, Written], kafka: KafkaOracle) -> None:
    newest = [partition.files("*.snapshot")[-1] for partition in (written["idempotent"], written["transactional"])]
    dump = kafka.dump_log_segments(*newest)
    assert dump.problems == []
    idempotent, transactional = (dump.only(path).output for path in newest)
    assert "producerId: 7 producerEpoch: 1" in idempotent
    assert "producerId: 8 producerEpoch: 0" in idempotent
    assert "lastSequence: 59" in idempotent
    assert "producerId: 9 producerEpoch: 3" in transactional
    assert "currentTxnFirstOffset: OptionalLong[6]" in transactional


def read_with_kafka_python(data: bytes) -> Iterator[Any]:
    records = KafkaPythonRecords(data)
    while (batch := records.next_batch()) is not None:
        assert batch.validate_crc()
        if not batch.is_control_batch:
            yield from batch


def read_with_aiokafka(data: bytes) -> Iterator[Any]:
    records = AiokafkaRecords(data)
    while (batch := records.next_batch()) is not None:
        assert batch.validate_crc()
        if not batch.is_control_batch:
            yield from batch


@pytest.mark.parametrize("read", [read_with_kafka_python, read_with_aiokafka], ids=["kafka-python", "aiokafka"])
def test_pythons_clients_read_our_log_files_whole(read: Any, written: dict[str, Written]) -> None:
    for name, partition in written.items():
        found = [record for log in partition.logs for record in read(log.read_bytes())]
        assert [seen(record) for record in found] == [seen(record) for record in partition.records], name


def seen(record: Any) -> tuple[Any, ...]:
    timestamp = record.timestamp_ms if isinstance(record, Record) else record.timestamp
    return record.offset, timestamp, record.key, record.value, headers_of(record.headers)


def headers_of(headers: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    return [(name, value) for name, value in headers]


def test_log_files_are_named_by_their_first_offset(written: dict[str, Written]) -> None:
    for partition in written.values():
        for log in partition.logs:
            first = next(iter(logstore.ReadOnlyLog(partition.directory).batches(int(log.stem))), None)
            assert log.name == log_name(int(log.stem))
            assert first is None or first.header.base_offset >= int(log.stem)
