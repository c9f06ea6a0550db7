"""The golden files agree with what Apache Kafka itself sees in them: they, and the oracle, can be trusted."""

from itertools import chain

import pytest

from kafka_golden import GOLDEN, golden_partitions
from kafka_oracle import KafkaOracle

pytestmark = pytest.mark.kafka


def test_kafka_reads_in_the_golden_logs_what_its_consumer_read(kafka: KafkaOracle) -> None:
    logs = {partition.directory: sorted(partition.directory.glob("*.log")) for partition in golden_partitions()}
    everything = kafka.dump_log_segments(*chain.from_iterable(logs.values()))
    for partition in golden_partitions():
        dump = everything.only(*logs[partition.directory])
        control = {int(batch["baseOffset"]) for batch in dump.batches() if batch["isControl"] == "true"}
        dumped = [record for record in dump.records() if record.offset not in control]
        expected = [record for record in partition.records if record.offset >= partition.log_start_offset]
        seen = [record for record in dumped if record.offset >= partition.log_start_offset]
        assert [record.offset for record in seen] == [record.offset for record in expected]
        for record, (_, timestamp_ms, key, value, headers) in zip(seen, expected, strict=True):
            assert record.timestamp_ms == timestamp_ms
            assert record.key_size == (-1 if key is None else len(key))
            assert record.value_size == (-1 if value is None else len(value))
            assert record.header_keys == [name for name, _ in headers]


def test_kafka_complains_about_nothing_but_the_gaps_that_compaction_left(kafka: KafkaOracle) -> None:
    logs = sorted((GOLDEN / "data").glob("*/*.log"))
    indexes = sorted(path for path in (GOLDEN / "data").glob("*/*index") if path.stat().st_size)
    problems = kafka.dump_log_segments(*logs, records=False).problems + kafka.verify_indexes(*indexes).problems
    assert not [line for line in problems if "is followed by" not in line and "compacted-0" not in line]


def test_kafka_sees_the_old_message_formats(kafka: KafkaOracle) -> None:
    logs = sorted((GOLDEN / "legacy").glob("*/*.log"))
    dump = kafka.dump_log_segments(*logs)
    assert not dump.problems
    assert [batch["magic"] for log in logs for batch in dump.only(log).batches()] == ["0"] * 6 + ["1"] * 6


def test_kafka_complains_about_a_flipped_bit_a_torn_tail_and_a_wrong_index_entry(
    kafka: KafkaOracle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = GOLDEN / "data" / "none-0"
    target = tmp_path_factory.mktemp("none-0")
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    flipped, torn, index = target / f"{0:020}.log", target / f"{66:020}.log", target / f"{24:020}.index"
    bits = bytearray(flipped.read_bytes())
    bits[100] ^= 1
    flipped.write_bytes(bits)
    torn.write_bytes(torn.read_bytes()[:-7])
    index.write_bytes(b"\0\0\0\5" + index.read_bytes()[4:])

    assert "isvalid: false" in kafka.dump_log_segments(flipped, records=False).problems[0]
    assert kafka.dump_log_segments(torn).problems == [f"Found 1604 invalid bytes at the end of {torn.name}"]
    assert kafka.verify_indexes(index).problems
    assert not kafka.check_indexes(index).problems
