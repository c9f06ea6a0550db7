"""``logstore copy`` as it is typed: between directories, and to and from a real Kafka."""

import itertools
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import logstore
from cli import command, environment, run
from kafka_cluster import kafka_address, kafka_node_in  # noqa: F401
from logstore.format.record import Record
from logstore.groups.requests import OffsetAndMetadata

in_kafka = pytest.mark.kafka
_numbers = itertools.count()
_START_MS = 1_700_000_000_000


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def topic() -> str:
    return f"copied{next(_numbers)}"


@pytest.fixture
def cluster(kafka_address: str) -> Iterator[Any]:  # noqa: F811
    with logstore.connect(kafka_address) as opened:
        yield opened


def fill(path: Path, topic: str = "t", count: int = 100, codec: str = "gzip") -> None:
    """Records of all kinds in two partitions, and a group in the middle."""
    with logstore.open(path) as store:
        store.create_topic(topic, 2, retention_ms=-1, max_message_bytes=500_000)
        for number in range(count):
            store.log(topic, number % 2).append(
                [b"%d" % number, None, b""],
                keys=[None, b"k%d" % number, b""],
                headers=[[("a", b"1"), ("a", None)], [], [("", b"")]],
                timestamps_ms=[_START_MS + number, _START_MS, _START_MS - 1],
                compression=codec,
            )
        store.groups.commit(topic + "-g", {(topic, 0): OffsetAndMetadata(20, "here"), (topic, 1): OffsetAndMetadata(0)})


def in_directory(path: Path, topic: str, partition: int) -> list[Record]:
    with logstore.open(path, read_only=True) as store:
        return list(store.log(topic, partition).records(0))


def in_cluster(cluster: Any, topic: str, partition: int) -> list[Record]:
    end = cluster.end_offsets([(topic, partition)])[topic, partition]
    found: list[Record] = []
    deadline = time.monotonic() + 30
    with cluster.consumer(assignment=[(topic, partition)], auto_offset_reset="earliest") as consumer:
        while consumer.position(topic, partition) < end:
            assert time.monotonic() < deadline
            found += [Record(*record[2:]) for record in consumer.poll(0.5)]
    return found


def contents(records: list[Record]) -> list[tuple[Any, ...]]:
    return [(record.timestamp_ms, record.key, record.value, tuple(record.headers)) for record in records]


# --------------------------------------------------------------------------------------------------------- directories


def test_it_tells_what_it_has_copied(here: Path, there: Path) -> None:
    fill(here)
    shown = run("copy", here, there)
    assert "created topic t, partitions: 2" in shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["t", "1", "150", "0", "to", "150", "0", "to", "150"] in lines
    assert ["t-g", "t", "0", "20", "20"] in lines
    assert shown.stdout.splitlines()[-1].startswith("300 records of 1 topic, ")
    assert "MB/s; all stored" in shown.stdout


def test_json_has_a_line_for_each_partition_each_offset_and_the_whole(here: Path, there: Path) -> None:
    fill(here)
    rows = [json.loads(line) for line in run("copy", here, there, "--json").stdout.splitlines()]
    assert rows[1] == {
        "topic": "t",
        "partition": 1,
        "records": 150,
        "source_offsets": [0, 150],
        "target_offsets": [0, 150],
        "skipped": [],
    }
    group = {"group": "t-g", "topic": "t", "partition": 0, "source_offset": 20, "target_offset": 20, "left": ""}
    assert rows[2] == group
    assert rows[-1]["records"] == 300
    again = [json.loads(line) for line in run("copy", here, there, "--json").stdout.splitlines()]
    assert (again[1]["records"], again[1]["source_offsets"], again[-1]["records"]) == (0, [150, 150], 0)


def test_topics_and_groups_are_chosen(here: Path, there: Path) -> None:
    for topic in ("t", "u", "v"):
        fill(here, topic, 2)
    shown = run("copy", here, there, "--topics", "t,u", "--groups", "u-g")
    assert "v" not in shown.stdout.split()
    with logstore.open(there, read_only=True) as store:
        assert [group.group for group in store.groups.groups()] == ["u-g"]
    assert "group " not in run("copy", here, there, "--groups", "none").stdout


def test_damage_ends_with_status_1_and_is_listed_when_passed_over(here: Path, there: Path) -> None:
    fill(here, codec="none")
    log = here / "t_0" / "00000000000000000000.log"
    raw = bytearray(log.read_bytes())
    raw[1000:1010] = bytes(10)
    log.write_bytes(raw)
    stopped = run("copy", here, there, status=1)
    assert "--skip-damaged goes on behind it" in stopped.stderr
    assert not stopped.stdout
    passed = run("copy", here, there, "--skip-damaged", status=1)
    assert "warning: t-0: offsets " in passed.stderr
    assert "are not copied" in passed.stderr
    assert len(in_directory(there, "t", 0)) == 147
    assert len(in_directory(there, "t", 1)) == 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "{there}"], "there is no such directory"),
        (["{here}", "{here}"], "it is the source itself"),
        (["{here}", "{there}", "--topics", "t,"], "give names with commas between"),
        (["{here}", "{there}", "--topics", "u"], "there is no topic 'u'"),
        (["{here}", "{there}", "--topics", "__consumer_offsets"], "leave it out"),
        (["{here}", "{there}", "--groups", "x"], "there is no group 'x'"),
    ],
)
def test_wrong_use_is_told_with_its_remedy(here: Path, there: Path, arguments: list[str], message: str) -> None:
    fill(here, count=2)
    shown = run("copy", *[argument.format(here=here, there=there) for argument in arguments], status=2)
    assert message in shown.stderr


def test_a_target_with_records_of_its_own_needs_append(here: Path, there: Path) -> None:
    fill(here, count=2)
    fill(there, count=2)
    refused = run("copy", here, there, status=2)
    assert "--append" in refused.stderr
    run("copy", here, there, "--append")
    assert len(in_directory(there, "t", 0)) == 6


# ------------------------------------------------------------------------------------------------------------- clusters


@in_kafka
def test_a_directory_is_copied_to_a_cluster_and_back_and_groups_go_on(
    here: Path, there: Path, topic: str, cluster: Any
) -> None:
    fill(here, topic)
    address = f"kafka://{cluster.address}"
    run("copy", here, address)
    for partition in (0, 1):
        assert contents(in_cluster(cluster, topic, partition)) == contents(in_directory(here, topic, partition))
    assert cluster.topic(topic).config.max_message_bytes == 500_000
    assert cluster.groups.committed(f"{topic}-g") == {
        (topic, 0): OffsetAndMetadata(20, "here"),
        (topic, 1): OffsetAndMetadata(0),
    }
    with cluster.consumer(topic, group=f"{topic}-g", auto_offset_reset="none", enable_auto_commit=False) as consumer:
        deadline = time.monotonic() + 30
        first: dict[int, int] = {}
        while len(first) < 2:
            assert time.monotonic() < deadline
            for record in consumer.poll(0.5):
                first.setdefault(record.partition, record.offset)
    assert first == {0: 20, 1: 0}
    run("copy", cluster.address, there, "--topics", topic, "--compression", "zstd")
    for partition in (0, 1):
        assert contents(in_directory(there, topic, partition)) == contents(in_directory(here, topic, partition))
    with logstore.open(there, read_only=True) as store:
        assert store.topic(topic).config.retention_ms == -1
        assert store.groups.committed(f"{topic}-g")[topic, 0] == OffsetAndMetadata(20, "here")


@in_kafka
def test_a_cluster_is_not_copied_to_itself(here: Path, topic: str, cluster: Any) -> None:
    fill(here, topic)
    run("copy", here, f"kafka://{cluster.address}", "--groups", "none")
    refused = run("copy", cluster.address, f"kafka://{cluster.address}", "--topics", topic, status=2)
    assert "source and target are the same topic" in refused.stderr


@in_kafka
def test_a_second_copy_to_a_cluster_takes_only_what_is_new(here: Path, topic: str, cluster: Any) -> None:
    fill(here, topic)
    address = f"kafka://{cluster.address}"
    run("copy", here, address)
    with logstore.open(here) as store:
        store.log(topic, 1).append([b"new"])
        store.groups.commit(f"{topic}-g", {(topic, 1): OffsetAndMetadata(150)})
    rows = [json.loads(line) for line in run("copy", here, address, "--json").stdout.splitlines()]
    assert rows[-1]["records"] == 1
    assert in_cluster(cluster, topic, 1)[-1].value == b"new"
    assert cluster.groups.committed(f"{topic}-g")[topic, 1].offset == 150


@in_kafka
def test_another_writer_in_the_cluster_is_found_out(here: Path, topic: str, cluster: Any) -> None:
    fill(here, topic)
    address = f"kafka://{cluster.address}"
    run("copy", here, address)
    with cluster.producer() as producer:
        producer.send(topic, b"mine", partition=0).result(30)
    refused = run("copy", here, address, status=2)
    assert f"{topic}-0: " in refused.stderr
    assert "another writer" in refused.stderr


@in_kafka
def test_a_copy_to_a_cluster_that_is_killed_goes_on_without_doubling(here: Path, topic: str, cluster: Any) -> None:
    with logstore.open(here) as store:
        store.create_topic(topic, 1, retention_ms=-1)
        for number in range(600):
            store.log(topic).append([b"%d-%d" % (number, each) for each in range(100)])
    arguments = command("copy", here, f"kafka://{cluster.address}")
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while process.poll() is None and end_of(cluster, topic) < 5_000:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    reached = end_of(cluster, topic)
    run("copy", here, f"kafka://{cluster.address}")
    assert process.returncode == -signal.SIGKILL
    assert 5_000 <= reached < 60_000
    assert contents(in_cluster(cluster, topic, 0)) == contents(in_directory(here, topic, 0))


def end_of(cluster: Any, topic: str) -> int:
    try:
        return int(cluster.end_offsets([(topic, 0)])[topic, 0])
    except logstore.UnknownTopic:
        return 0


@in_kafka
def test_transactions_in_a_cluster_are_copied_as_what_was_committed(there: Path, topic: str, cluster: Any) -> None:
    from confluent_kafka import Producer

    cluster.create_topic(topic, 1)
    producer = Producer({"bootstrap.servers": cluster.address, "transactional.id": topic})
    producer.init_transactions(30)
    for number, ends in enumerate(["commit", "abort", "commit"]):
        producer.begin_transaction()
        producer.produce(topic, b"%d" % number, partition=0)
        producer.flush(30)
        (producer.commit_transaction if ends == "commit" else producer.abort_transaction)(30)
    cluster.groups.commit(f"{topic}-g", {(topic, 0): OffsetAndMetadata(4)})  # the third
    run("copy", cluster.address, there, "--topics", topic, "--groups", f"{topic}-g")
    assert [record.value for record in in_directory(there, topic, 0)] == [b"0", b"2"]
    with logstore.open(there, read_only=True) as store:
        assert store.groups.committed(f"{topic}-g")[topic, 0].offset == 1


@in_kafka
def test_a_record_of_the_time_0_cannot_be_in_a_cluster_and_is_refused(here: Path, topic: str, cluster: Any) -> None:
    with logstore.open(here) as store:
        store.create_topic(topic)
        store.log(topic).append([b"v"], timestamps_ms=0)
    refused = run("copy", here, f"kafka://{cluster.address}", status=2)
    assert f"{topic}-0: the source's record at offset 0: timestamp 0" in refused.stderr


@in_kafka
def test_a_batch_that_the_cluster_refuses_leaves_no_hole(here: Path, topic: str, cluster: Any) -> None:
    cluster.create_topic(topic, 1, max_message_bytes=2_000)
    with logstore.open(here) as store:
        store.create_topic(topic)
        store.log(topic).append([b"1", b"2", b"x" * 5_000, b"3", b"4"])
    for _ in range(2):
        refused = run("copy", here, f"kafka://{cluster.address}", status=2)
        assert "2000" in refused.stderr
        assert [record.value for record in in_cluster(cluster, topic, 0)] in ([], [b"1", b"2"])
    cluster.alter_topic(topic, {"max.message.bytes": 100_000})
    run("copy", here, f"kafka://{cluster.address}")
    assert contents(in_cluster(cluster, topic, 0)) == contents(in_directory(here, topic, 0))


@in_kafka
def test_a_cluster_is_copied_to_another_with_offsets_of_groups(
    here: Path, tmp_path: Path, topic: str, cluster: Any
) -> None:
    fill(here, topic)
    run("copy", here, f"kafka://{cluster.address}")
    (tmp_path / "other").mkdir()
    with kafka_node_in(tmp_path / "other") as address, logstore.connect(address) as other:
        run("copy", cluster.address, address, "--topics", topic, "--groups", f"{topic}-g")
        for partition in (0, 1):
            assert contents(in_cluster(other, topic, partition)) == contents(in_cluster(cluster, topic, partition))
        assert other.topic(topic).config.retention_ms == -1
        assert other.groups.committed(f"{topic}-g")[topic, 0] == OffsetAndMetadata(20, "here")
