"""Writes tests/data/kafka: directories that a real Apache Kafka wrote, and what an independent consumer read in them.

Usage: make_kafka_golden.py JARS_DIRECTORY TARGET_DIRECTORY (tools/make-kafka-golden finds the first).

A single node (KRaft, loopback, temporary directory) is started twice, so that leader epochs change. kafka-python
writes; aiokafka reads back for expected.json, and what it read is compared with what was sent. Kafka itself compresses:
each topic's compression.type makes the broker rewrite the batches with its Java codecs. Every wait is bounded.
"""

import asyncio
import base64
import json
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaTopicPartition
from kafka.admin import NewTopic
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.structs import OffsetAndMetadata

from kafka_node import Broker, wait_for

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
EPOCHS_TOPIC = "orders_eu-1.v2"  # each character that a topic's name may hold besides letters and digits
BASE_TIMESTAMP_MS = 1_700_000_000_000
SMALL_SEGMENTS = {
    "internal.segment.bytes": "2048",  # segment.bytes itself may not be under 1 MiB since Kafka 4.0
    "index.interval.bytes": "256",
    "segment.index.bytes": "1024",
    "retention.ms": "-1",  # the records' timestamps are years old
}
TOPICS: dict[str, tuple[int, dict[str, str]]] = {  # name: partitions, settings
    "none": (2, {"compression.type": "uncompressed"}),
    **{name: (1, {"compression.type": name}) for name in COMPRESSIONS[1:]},
    "append_time": (1, {"message.timestamp.type": "LogAppendTime", "compression.type": "lz4"}),
    "trimmed": (1, {}),
    "idempotent": (1, {}),
    "transactions": (1, {}),
    "compacted": (1, {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.001"}),
    EPOCHS_TOPIC: (1, {}),
}
Sent = dict[tuple[str, int, int], tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]


class Writer:
    """Sends through one producer and remembers what went where. A flush ends a batch."""

    def __init__(self, broker: Broker, sent: Sent, **settings: Any) -> None:
        self._sent = sent
        self.producer = KafkaProducer(
            bootstrap_servers=broker.address, acks="all", linger_ms=200, **{"enable_idempotence": False, **settings}
        )

    def batch(
        self, topic: str, records: list[tuple[bytes | None, bytes | None]], partition: int = 0, **extra: Any
    ) -> None:
        """One batch: ``extra`` may hold headers; the timestamps rise by a second a record over the whole run."""
        headers = extra.get("headers", [])
        futures: list[Any] = []
        for key, value in records:
            timestamp_ms = BASE_TIMESTAMP_MS + 1000 * len(self._sent) + 1000 * len(futures)
            futures.append(
                self.producer.send(
                    topic, value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp_ms
                )
            )
        self.producer.flush(20)
        for future, (key, value) in zip(futures, records, strict=True):
            self._sent[topic, partition, future.get(20).offset] = key, value, headers

    def close(self) -> None:
        self.producer.close(timeout=10)


def numbered(topic: str, first: int, count: int) -> list[tuple[bytes | None, bytes | None]]:
    return [
        (b"key-%d" % n, f"{topic} record {n}: ".encode() + b"abcdefgh" * (n % 12)) for n in range(first, first + count)
    ]


def write_first_run(broker: Broker, sent: Sent) -> None:
    plain = Writer(broker, sent)
    for compression in COMPRESSIONS:
        for partition in range(TOPICS[compression][0]):
            for first in range(0, 60, 6):
                plain.batch(compression, numbered(compression, first, 6), partition)
            plain.batch(compression, [(None, b"null key"), (b"null value", None), (b"", b""), (None, b"")], partition)
            headers = [("trace", b"\x00\xff binary"), ("trace", b"twice"), ("empty", b""), ("clé", "é".encode())]
            plain.batch(compression, [(b"headers", b"four headers"), (b"more", b"headers")], partition, headers=headers)
            plain.batch(compression, [(b"large", bytes(range(256)) * 6)], partition)
    for topic in ("append_time", "trimmed"):
        for first in range(0, 40, 5):
            plain.batch(topic, numbered(topic, first, 5))
    plain.batch(EPOCHS_TOPIC, numbered(EPOCHS_TOPIC, 0, 5))
    plain.close()

    for _ in range(2):
        idempotent = Writer(broker, sent, enable_idempotence=True)
        for first in range(0, 40, 5):
            idempotent.batch("idempotent", numbered("idempotent", first, 5))
        idempotent.close()

    compacted = Writer(broker, sent, enable_idempotence=True)
    for turn in range(6):
        compacted.batch("compacted", [(b"key-%d" % n, b"turn %d " % turn * 12) for n in range(10)])
    compacted.batch("compacted", [(b"key-3", None), (b"key-7", None)])
    compacted.batch("compacted", [(b"last", b"keeps the batches before it out of the active segment " * 30)])
    compacted.close()

    transactions = Writer(broker, sent, transactional_id="payments", enable_idempotence=True)
    transactions.producer.init_transactions()
    for number in range(6):
        transactions.producer.begin_transaction()
        transactions.batch("transactions", numbered("transactions", number * 5, 5))
        if number % 3 == 1:
            transactions.producer.abort_transaction()
        else:
            transactions.producer.commit_transaction()
    transactions.close()


def commit_offsets(broker: Broker) -> dict[str, Any]:
    """Of four kinds: an ordinary group, a lone committer, a deleted group, and one of Kafka 4's new protocol."""
    member = KafkaConsumer(
        "gzip",
        "zstd",
        bootstrap_servers=broker.address,
        group_id="billing",
        client_id="biller",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    wait_for("the group to be assigned its partitions", lambda: bool(member.poll(500)), 30)
    billing = {("gzip", 0): (12, "half way"), ("zstd", 0): (30, "")}
    member.commit({KafkaTopicPartition(*where): OffsetAndMetadata(*what, -1) for where, what in billing.items()})

    for group in ("lone", "deleted"):
        lone = KafkaConsumer(bootstrap_servers=broker.address, group_id=group, enable_auto_commit=False)
        lone.assign([KafkaTopicPartition("none", 1)])
        lone.commit({KafkaTopicPartition("none", 1): OffsetAndMetadata(7, "by hand", 0)})
        lone.close()
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.delete_groups(["deleted"])
    admin.close()

    properties = [f"--consumer-property=group.{setting}" for setting in ("protocol=consumer", "id=modern")]
    broker.run(
        "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", broker.address, "--topic", "lz4",
        "--from-beginning", "--max-messages", "20", "--timeout-ms", "20000", *properties,
    )  # fmt: skip
    member.close(autocommit=False)
    return {
        "billing": [[topic, partition, *what] for (topic, partition), what in billing.items()],
        "lone": [["none", 1, 7, "by hand"]],
        "modern": [["lz4", 0, 20, ""]],
    }


def wait_for_cleaner(broker: Broker, topic: str) -> None:
    """Until the cleaner has passed every segment of the topic but the active one."""
    active = max(int(path.stem) for path in (broker.data / f"{topic}-0").glob("*.log"))
    checkpoint = broker.data / "cleaner-offset-checkpoint"

    def cleaned() -> bool:
        lines = checkpoint.read_text().splitlines()[2:] if checkpoint.exists() else []
        return any(line.startswith(f"{topic} 0 ") and int(line.split()[2]) >= active for line in lines)

    wait_for("the cleaner", cleaned, 60)


def make_topics(broker: Broker) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.create_topics(
        [
            NewTopic(name, partitions, 1, topic_configs=SMALL_SEGMENTS | settings)
            for name, (partitions, settings) in TOPICS.items()
        ]
    )
    admin.close()


def delete_records(broker: Broker, topic: str, before_offset: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.delete_records({KafkaTopicPartition(topic, 0): before_offset})
    admin.close()


async def read_back(broker: Broker, isolation_level: str) -> dict[tuple[str, int], dict[str, Any]]:
    """What a consumer gets from every partition: its range of offsets and each record with its bytes."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for topic, (partitions, _) in TOPICS.items():
        for number in range(partitions):
            partition = TopicPartition(topic, number)
            consumer = AIOKafkaConsumer(
                bootstrap_servers=broker.address, auto_offset_reset="earliest", isolation_level=isolation_level
            )
            await consumer.start()
            try:
                consumer.assign([partition])
                start = (await consumer.beginning_offsets([partition]))[partition]
                end = (await consumer.end_offsets([partition]))[partition]
                records: list[Any] = []
                async with asyncio.timeout(20):
                    while await consumer.position(partition) < end:
                        for batch in (await consumer.getmany(timeout_ms=200)).values():
                            records.extend(batch)
            finally:
                await consumer.stop()
            found[topic, number] = {"log_start_offset": start, "end_offset": end, "records": records}
    return found


def check_against_sent(found: dict[tuple[str, int], dict[str, Any]], sent: Sent) -> None:
    """Everything sent was read, but for what compaction and delete_records took; nothing was changed."""
    for (topic, partition), log in found.items():
        mine = {offset: rest for (t, p, offset), rest in sent.items() if (t, p) == (topic, partition)}
        for record in log["records"]:
            key, value, headers = mine.pop(record.offset)
            assert (record.key, record.value, list(record.headers)) == (key, value, headers), record
        if topic != "compacted":
            assert all(offset < log["log_start_offset"] for offset in mine), (topic, partition, sorted(mine))


def as_base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def write_manifest(path: Path, everything: dict[Any, Any], committed: dict[Any, Any], groups: dict[str, Any]) -> None:
    """expected.json: one line a record, [offset, timestamp_ms, key, value, [[header key, header value]...]], base64."""
    partitions = []
    for (topic, partition), log in everything.items():
        lines = [
            json.dumps(
                [
                    record.offset,
                    record.timestamp,
                    as_base64(record.key),
                    as_base64(record.value),
                    [[key, as_base64(value)] for key, value in record.headers],
                ]
            )
            for record in log["records"]
        ]
        facts = {
            "topic": topic,
            "partition": partition,
            "log_start_offset": log["log_start_offset"],
            "high_watermark": log["end_offset"],
            "last_stable_offset": committed[topic, partition]["end_offset"],
            "timestamp_type": "LogAppendTime" if topic == "append_time" else "CreateTime",
            "committed_offsets": [record.offset for record in committed[topic, partition]["records"]]
            if topic == "transactions"
            else None,
        }
        partitions.append(json.dumps(facts)[:-1] + ', "records": [\n' + ",\n".join(lines) + "\n]}")
    path.write_text(
        f'{{"groups": {json.dumps(groups)},\n"partitions": [\n' + ",\n".join(partitions) + "\n]}\n", encoding="utf-8"
    )
    json.loads(path.read_text(encoding="utf-8"))


def write_legacy(directory: Path) -> None:
    """Message sets of the formats before record batches: kafka-python still writes them."""
    for magic in (0, 1):
        for name, compression in (("none", 0), ("gzip", 1)):
            builder = LegacyRecordBatchBuilder(magic=magic, compression_type=compression, batch_size=1 << 20)
            for offset in range(5):
                builder.append(offset, BASE_TIMESTAMP_MS + offset, b"key-%d" % offset, b"a message of old")
            partition = directory / f"v{magic}_{name}-0"
            partition.mkdir(parents=True)
            (partition / f"{0:020}.log").write_bytes(builder.build())


README = """\
# Files that Apache Kafka wrote

Made by `tools/make-kafka-golden` with Apache Kafka {kafka}, written to by kafka-python {kafka_python} and read back by
aiokafka {aiokafka}. Never edited by hand. `tests/support/kafka_golden.py` reads the manifest.

- `data/`: the data directory after a clean shutdown. The node ran twice (leader epochs), with segments of 2048 bytes
  and an index entry every 256 bytes. Kafka's own codecs compressed the batches.
- `live/`: the data directory copied while the node was running, as a crash leaves it: no clean-shutdown file,
  checkpoints behind, the active segment's `.index` and `.timeindex` still as large as they may grow (1024 and 1020
  bytes; 4096 and 4092 in Kafka's own topics) with zeros after the entries, and the `.deleted` files of compaction and
  retention.
- `legacy/`: a segment each of message formats v0 and v1, plain and gzip, five messages each, from kafka-python's
  builder: to be refused by name.
- `expected.json`: what the consumer read: `partitions`, each with `topic`, `partition`, `log_start_offset`,
  `high_watermark`, `last_stable_offset`, `timestamp_type`, `records` (`[offset, timestamp_ms, key, value, headers]`,
  bytes in base64, null for null) and `committed_offsets` (the offsets that read_committed shows; null: all); and
  `groups`: the committed offsets, `[topic, partition, offset, metadata]`.

| topic | what is special |
|---|---|
| none (2 partitions), gzip, snappy, lz4, zstd | null and empty keys and values; headers; a value of 1.5 KiB |
| append_time | LogAppendTime, lz4 |
| trimmed | the first 23 records deleted: whole segments are gone, the log starts inside a batch |
| idempotent | two idempotent producers; `.snapshot` files |
| compacted | cleaned: gaps in the offsets, tombstones in batches with a delete horizon |
| transactions | committed, aborted and one open transaction; control batches; `.txnindex` |
| {epochs} | written in both runs: two leader epochs |
| `__consumer_offsets` | an ordinary group, a lone committer, a deleted group, a group of Kafka 4's new protocol |
| `__transaction_state`, `__cluster_metadata` | Kafka's own |
"""


def main(jars: Path, target: Path) -> None:
    sent: Sent = {}
    with tempfile.TemporaryDirectory(prefix="kafka-golden-") as scratch:
        directory = Path(scratch)
        fresh = directory / "fresh"
        fresh.mkdir()
        broker = Broker(jars, directory)
        with broker.running():
            make_topics(broker)
            write_first_run(broker, sent)
            groups = commit_offsets(broker)
            delete_records(broker, "trimmed", 23)
            wait_for_cleaner(broker, "compacted")
            old = broker.data / "trimmed-0" / f"{0:020}.log"
            wait_for("deletion of the trimmed segment", lambda: not old.exists(), 30)
            # The cluster's own log preallocates 10 MiB of index.
            shutil.copytree(broker.data, fresh / "live", ignore=shutil.ignore_patterns(".lock", "__cluster_metadata-0"))
        with broker.running():
            plain = Writer(broker, sent)
            plain.batch(EPOCHS_TOPIC, numbered(EPOCHS_TOPIC, 5, 5))
            plain.close()
            open_transaction = Writer(broker, sent, transactional_id="open", enable_idempotence=True)
            open_transaction.producer.init_transactions()
            open_transaction.producer.begin_transaction()
            open_transaction.batch("transactions", numbered("transactions", 90, 3))
            everything = asyncio.run(read_back(broker, "read_uncommitted"))
            committed = asyncio.run(read_back(broker, "read_committed"))
        open_transaction.producer.close(timeout=0)
        check_against_sent(everything, sent)
        shutil.copytree(broker.data, fresh / "data", ignore=shutil.ignore_patterns(".lock"))
        write_legacy(fresh / "legacy")
        write_manifest(fresh / "expected.json", everything, committed, groups)
        kafka = next(path.stem.removeprefix("kafka-clients-") for path in jars.glob("kafka-clients-*.jar"))
        (fresh / "README.md").write_text(
            README.format(
                kafka=kafka, kafka_python=version("kafka-python"), aiokafka=version("aiokafka"), epochs=EPOCHS_TOPIC
            )
        )
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(fresh, target)
    print(f"{target}: {sum(path.stat().st_size for path in target.rglob('*') if path.is_file()):,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
