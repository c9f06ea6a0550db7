"""The broker, beside Apache Kafka: the same requests from the same client (bench.load), in alternating rounds.

Neither syncs before it answers, but where the title says so.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import pytest

from bench import brokers
from bench.brokers import Broker
from bench.conftest import Contest, data_root
from bench.load import ask, batch, connect, frame
from logstore.wire.messages.api_versions import ApiVersionsRequest

_API_VERSIONS = (18, 2)
_MIB = 1 << 20

Measure = Callable[[Broker], float]


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Broker]]:
    yield from _running(durable=False)


@pytest.fixture(scope="module")
def durable() -> Iterator[dict[str, Broker]]:
    yield from _running(durable=True)


def _running(*, durable: bool) -> Iterator[dict[str, Broker]]:
    with tempfile.TemporaryDirectory(prefix="logstore-bench-", dir=data_root()) as directory:
        with brokers.running(Path(directory), durable=durable) as started:
            yield started


def _measures(started: dict[str, Broker], measure: Measure) -> dict[str, Callable[[], float]]:
    return {name: lambda broker=broker: measure(broker) for name, broker in started.items()}


def _create(started: dict[str, Broker], topic: str, partition_count: int = 1) -> None:
    for broker in started.values():
        broker.create_topic(topic, partition_count)


# ------------------------------------------------------------------------------------------------------------- produce


@pytest.mark.parametrize("connections", [1, 64])
def test_b1_produce_requests(running: dict[str, Broker], contest: Contest, connections: int) -> None:
    topic = f"small-{connections}"
    _create(running, topic, 8)
    count = 5_000 if connections == 1 else 20_000

    def measure(broker: Broker) -> float:
        settings = {
            "topic": topic,
            "connections": connections,
            "records": 1,
            "count": count,
            "acks": 1,
            "partitions": 8,
        }
        return broker.load("produce", **settings)["requests"]

    title = f"B1 produce requests of one 100 B record, {connections} connection{'s' * (connections > 1)}"
    contest(title, "requests/s", _measures(running, measure), rounds=7)


def test_b1_produce_requests_with_an_fsync(durable: dict[str, Broker], contest: Contest) -> None:
    _create(durable, "durable", 1)

    def measure(broker: Broker) -> float:
        settings = {"topic": "durable", "connections": 64, "records": 1, "count": 5_000, "acks": -1, "partitions": 1}
        return broker.load("produce", **settings)["requests"]

    contest("B1 produce requests, acks=all with an fsync, 64 connections", "requests/s", _measures(durable, measure), 5)


def test_b2_produce_in_batches(running: dict[str, Broker], contest: Contest) -> None:
    _create(running, "batches", 8)

    def measure(broker: Broker) -> float:
        settings = {"topic": "batches", "connections": 4, "records": 1000, "count": 2_000, "acks": 1, "partitions": 8}
        return broker.load("produce", **settings)["records"]

    contest("B2 produce 100 B in batches of 1000, 4 connections", "messages/s", _measures(running, measure), rounds=7)


@pytest.mark.parametrize("records", [1, 100])
def test_b3_many_partitions(running: dict[str, Broker], contest: Contest, records: int) -> None:
    """Over 5,000 partitions in turn, and over 10."""
    _create(running, "few", 10)
    _create(running, "many", 5_000)
    count = 10_000

    def measure(broker: Broker, topic: str, partitions: int) -> float:
        settings = {"connections": 16, "records": records, "count": count, "acks": 1}
        return broker.load("produce", topic=topic, partitions=partitions, **settings)["requests"]

    measures = _measures(running, lambda broker: measure(broker, "many", 5_000))
    for name, broker in running.items():
        measures[f"{name}, 10 partitions"] = lambda broker=broker: measure(broker, "few", 10)
    title = f"B3 produce requests over 5,000 partitions, {records} record{'s' * (records > 1)} each"
    contest(title, "requests/s", measures, rounds=5)


# --------------------------------------------------------------------------------------------------------------- fetch

_BATCHES = 2_000


@pytest.mark.parametrize("max_bytes", [64 << 10, _MIB])
def test_b4_fetch(running: dict[str, Broker], contest: Contest, place: Path, max_bytes: int) -> None:
    topic = f"stored-{max_bytes}"
    records = 1000 if max_bytes >= _MIB else 100
    _create(running, topic)
    for broker in running.values():
        settings = {"connections": 1, "records": records, "count": _BATCHES, "acks": 1, "partitions": 1}
        broker.load("produce", topic=topic, **settings)
    (place / "bytes").write_bytes(batch(records) * _BATCHES)  # as many as the log has: memory is slower than caches
    size = str(max_bytes)
    bare = subprocess.Popen(
        [sys.executable, "-m", "bench.bare_sendfile", place / "bytes", size], stdout=subprocess.PIPE, text=True
    )
    try:
        assert bare.stdout is not None
        address = bare.stdout.readline().strip()
        limit = _Address(place / "bare", address)

        def measure(broker: Broker) -> float:
            settings = {"batch_records": records, "batch_count": _BATCHES, "max_bytes": max_bytes}
            return broker.load("fetch", topic=topic, count=2_000 if max_bytes >= _MIB else 10_000, **settings)["MB"]

        title = f"B4 fetch {max_bytes >> 10} KiB at a time, 1 connection"
        contest(title, "MB/s", _measures({**running, "bare sendfile": limit}, measure), rounds=7)
    finally:
        bare.terminate()
        bare.wait(10)


class _Address(Broker):
    """What answers there, whoever started it."""

    name = "bare sendfile"

    def __init__(self, directory: Path, address: str) -> None:
        super().__init__(directory)
        self.address = address

    def running(self) -> None:
        raise NotImplementedError("it runs already")


@pytest.mark.parametrize("percentile", ["p50", "p99"])
def test_b5_latency(running: dict[str, Broker], contest: Contest, percentile: str) -> None:
    """Each round in a topic of its own: the consumer begins at its start."""
    rounds = 0

    def measure(broker: Broker) -> float:
        nonlocal rounds
        rounds += 1
        topic = f"latency-{percentile}-{rounds}"
        broker.create_topic(topic, 1)
        return broker.load("latency", topic=topic, rate=1000, count=2000)[percentile]

    contest(f"B5 produce to waiting consumer at 1,000 messages/s, {percentile}", "µs", _measures(running, measure), 5)


# ----------------------------------------------------------------------------------------------------- start and memory


def _first_answer(address: str) -> None:
    with connect(address) as connection:
        ask(connection, frame(_API_VERSIONS, ApiVersionsRequest()))


def test_b6_start_to_first_answer(place: Path, contest: Contest) -> None:
    """From the start of the process, with an empty directory that is there."""

    def start_logstore() -> float:
        started = perf_counter()
        process = brokers.start_logstore(place / "logstore")
        try:
            _first_answer(brokers.ready_address(process))
            return (perf_counter() - started) * 1000
        finally:
            process.terminate()
            process.wait(30)

    def start_kafka(broker: Broker) -> float:
        started = perf_counter()
        with broker.running():
            _first_answer(broker.address)
            return (perf_counter() - started) * 1000

    measures: dict[str, Callable[[], float]] = {"logstore": start_logstore}
    try:
        broker = brokers.KafkaBroker(place / "kafka")
        measures["Kafka"] = lambda: start_kafka(broker)
    except pytest.skip.Exception:
        pass
    contest("B6 start of the process to first answer", "ms", measures, rounds=3)


@pytest.mark.parametrize("when", ["idle", "under load"])
def test_b7_resident_memory(running: dict[str, Broker], contest: Contest, when: str) -> None:
    """Idle: newly started, with one topic; under load: after all the runs before."""
    if when == "under load":
        contest("B7 resident memory, after all the load above", "MB", _measures(running, Broker.resident_mb), rounds=2)
        return
    for started in _running(durable=False):
        _create(started, "idle")
        contest("B7 resident memory, idle", "MB", _measures(started, Broker.resident_mb), rounds=2)
