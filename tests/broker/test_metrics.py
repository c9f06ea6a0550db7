"""What a broker tells Prometheus, read by Prometheus's own parser."""

import asyncio
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from logstore.addresses import Address
from logstore.broker.exposition import expose
from logstore.broker.metrics import BUCKETS_S, Metrics
from logstore.broker.metrics_server import MetricsServer
from logstore.broker.running import RunningBroker
from logstore.config import BrokerConfig, StoreConfig
from logstore.errors import CannotListen
from logstore.storage.data_dir import DataDir
from logstore.store import TopicStore
from logstore.wire.api import ApiKey
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.api_versions import ApiVersionsRequest
from logstore.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from logstore.wire.messages.delete_topics import DeleteTopicsRequest
from logstore.wire.messages.heartbeat import HeartbeatRequest
from logstore.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logstore.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from loop_broker import loop_broker
from wire_client import WireClient

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: bytes) -> Samples:
    """Each sample by its name and labels; every family has its type and help, and stands together."""
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type != "unknown" for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"logstore_{name}", frozenset(labels.items())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TopicStore]:
    with TopicStore(DataDir(tmp_path, StoreConfig()), keeps_members=True) as opened:
        yield opened


def test_counts_are_told(store: TopicStore):
    metrics = Metrics()
    metrics.connections_accepted, metrics.connections_closed, metrics.connections_refused = 5, 2, 1
    metrics.bytes_in, metrics.bytes_out = 100, 2_000
    metrics.error(ApiKey.PRODUCE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    metrics.error(ApiKey.PRODUCE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    store.create_topic("orders")
    metrics.produced("orders", 3, 300)
    metrics.produced("orders", 4, 400)
    metrics.fetched("orders", 350)
    samples = parsed(expose(metrics, store))
    assert samples[key("connections")] == 3
    assert samples[key("connections_accepted_total")] == 5
    assert samples[key("connections_refused_total")] == 1
    assert (samples[key("received_bytes_total")], samples[key("sent_bytes_total")]) == (100, 2_000)
    assert samples[key("request_errors_total", api="Produce", error="UNKNOWN_TOPIC_OR_PARTITION")] == 2
    assert samples[key("topic_produced_records_total", topic="orders")] == 7
    assert samples[key("topic_produced_bytes_total", topic="orders")] == 700
    assert samples[key("topic_fetched_bytes_total", topic="orders")] == 350


def test_times_are_told_as_histograms(store: TopicStore):
    metrics = Metrics()
    for elapsed_s in (0.00005, 0.0001, 0.0002, 3.0, 1_000.0):
        metrics.observe(ApiKey.OFFSET_FOR_LEADER_EPOCH, elapsed_s)
    metrics.flushed(0.002)
    samples = parsed(expose(metrics, store))
    counts = [
        samples[key("request_duration_seconds_bucket", api="OffsetForLeaderEpoch", le=bound)]
        for bound in (*map(str, BUCKETS_S), "+Inf")
    ]
    assert counts == [2, *[3] * 13, 4, 5]  # a bound is in its bucket
    assert samples[key("request_duration_seconds_count", api="OffsetForLeaderEpoch")] == 5
    assert samples[key("request_duration_seconds_sum", api="OffsetForLeaderEpoch")] == pytest.approx(1003.00035)
    assert samples[key("flush_duration_seconds_count")] == 1


def test_partitions_and_groups_are_looked_up(store: TopicStore):
    store.create_topic("orders", 2)
    store.log("orders", 1).append([b"a", b"b", b"c"])
    store.groups.commit("billing", {("orders", 1): 1})
    samples = parsed(expose(Metrics(), store))
    where = {"topic": "orders", "partition": "1"}
    assert samples[key("log_start_offset", **where)] == 0
    assert samples[key("log_end_offset", **where)] == 3
    assert samples[key("log_size_bytes", **where)] == store.log("orders", 1).view.size
    assert samples[key("log_segments", **where)] == 1
    assert samples[key("partition_offline", **where)] == 0
    assert samples[key("group_members", group="billing", state="Empty")] == 0
    assert samples[key("group_committed_offset", group="billing", **where)] == 1
    assert samples[key("group_lag", group="billing", **where)] == 2


def test_a_partition_that_cannot_be_opened_keeps_no_other_figures_back(tmp_path: Path):
    with TopicStore(DataDir(tmp_path, StoreConfig()), keeps_members=True) as store:
        for name in ("broken", "orders"):
            store.create_topic(name)
            store.log(name).append([b"a", b"b"])
    moved = (tmp_path / "broken_0").rename(tmp_path / "moved")
    (tmp_path / "broken_0").write_bytes(b"no directory")
    with TopicStore(DataDir(tmp_path, StoreConfig()), keeps_members=True) as store:
        store.groups.commit("billing", {("broken", 0): 1, ("orders", 0): 1})
        samples = parsed(expose(Metrics(), store))
        (tmp_path / "broken_0").unlink()
        moved.rename(tmp_path / "broken_0")
    broken, orders = {"topic": "broken", "partition": "0"}, {"topic": "orders", "partition": "0"}
    assert samples[key("partition_offline", **broken)] == 1
    assert samples[key("group_committed_offset", group="billing", **broken)] == 1
    assert key("group_lag", group="billing", **broken) not in samples
    assert samples[key("group_lag", group="billing", **orders)] == 1


def test_the_counts_of_a_topic_go_with_it(store: TopicStore):
    metrics = Metrics()
    store.create_topic("orders")
    metrics.produced("orders", 1, 1)
    store.delete_topic("orders")
    assert key("topic_produced_records_total", topic="orders") not in parsed(expose(metrics, store))
    assert not metrics.topics


def test_the_counts_of_a_topic_that_a_client_deletes_go_with_it_though_nobody_asks_for_them(tmp_path: Path):
    with loop_broker(tmp_path / "data") as broker:
        broker.store.create_topic("orders")
        broker.broker.metrics.produced("orders", 1, 1)
        broker.ask(DeleteTopicsRequest(topic_names=["orders"], timeout_ms=1_000), 1)
        assert not broker.broker.metrics.topics


def test_errors_are_counted_whatever_part_of_a_response_tells_them(tmp_path: Path):
    with loop_broker(tmp_path / "data") as broker:
        broker.store.create_topic("orders")
        broker.ask(HeartbeatRequest(group_id="g", member_id="nobody"), 4)
        topics = [CreatableTopic(name=name, num_partitions=1, replication_factor=1) for name in ("orders", "a/b")]
        broker.ask(CreateTopicsRequest(topics=topics), 7)
        partitions = [ListOffsetsPartition(partition_index=number, timestamp=-1) for number in (0, 1, 2)]
        broker.ask(ListOffsetsRequest(topics=[ListOffsetsTopic(name="orders", partitions=partitions)]), 7)
        assert broker.broker.metrics.errors == {
            (ApiKey.HEARTBEAT, ErrorCode.UNKNOWN_MEMBER_ID): 1,
            (ApiKey.CREATE_TOPICS, ErrorCode.TOPIC_ALREADY_EXISTS): 1,
            (ApiKey.CREATE_TOPICS, ErrorCode.INVALID_TOPIC_EXCEPTION): 1,
            (ApiKey.LIST_OFFSETS, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION): 2,
        }


def test_labels_are_escaped(store: TopicStore):
    group = 'a "quoted"\nname with a \\'
    store.create_topic("orders")
    store.groups.commit(group, {("orders", 0): 0})
    assert parsed(expose(Metrics(), store))[key("group_members", group=group, state="Empty")] == 0


def test_an_unknown_api_or_error_is_told_by_its_number(store: TopicStore):
    metrics = Metrics()
    metrics.observe(32_000, 0.1)
    metrics.error(32_000, 31_000)
    samples = parsed(expose(metrics, store))
    assert samples[key("request_duration_seconds_count", api="32000")] == 1
    assert samples[key("request_errors_total", api="32000", error="31000")] == 1


# ----------------------------------------------------------------------------------------------------------- as served


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningBroker]:
    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), metrics_listener="127.0.0.1:0")
    with RunningBroker(tmp_path, config, StoreConfig()) as broker:
        yield broker


def scrape(broker: RunningBroker) -> Samples:
    with urllib.request.urlopen(f"http://{broker.metrics_address}/metrics", timeout=30) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return parsed(answer.read())


def test_a_broker_counts_what_clients_do(running: RunningBroker):
    running.store.create_topic("orders")
    with WireClient(str(running.address)) as client:
        client.ask(ApiVersionsRequest(), 0)
        client.ask(MetadataRequest(topics=[MetadataRequestTopic(name="orders")]), 9)
        client.ask(MetadataRequest(topics=None), 9)
        samples = scrape(running)
    assert samples[key("connections")] == 1
    assert samples[key("request_duration_seconds_count", api="ApiVersions")] == 1
    assert samples[key("request_duration_seconds_count", api="Metadata")] == 2
    assert samples[key("received_bytes_total")] > 0
    assert samples[key("sent_bytes_total")] > samples[key("received_bytes_total")]
    assert samples[key("log_end_offset", topic="orders", partition="0")] == 0


def ask(address: Address, request: bytes) -> bytes:
    with socket.create_connection(address, 30) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics HTTP/1.1", b"200 OK"),
        (b"GET /metrics?name[]=x HTTP/1.0", b"200 OK"),
        (b"HEAD /metrics HTTP/1.1", b"200 OK"),
        (b"GET / HTTP/1.1", b"404 Not Found"),
        (b"GET /../etc/passwd HTTP/1.1", b"404 Not Found"),
        (b"POST /metrics HTTP/1.1", b"405 Method Not Allowed"),
        (b"nonsense", b"400 Bad Request"),
    ],
)
def test_there_is_only_get_metrics(running: RunningBroker, request_line: bytes, status: bytes):
    assert running.metrics_address is not None
    answer = ask(running.metrics_address, request_line + b"\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert (b"logstore_connections" in body) == (b"200" in status and not request_line.startswith(b"HEAD"))


def test_a_request_that_is_too_long_gets_no_answer(running: RunningBroker):
    assert running.metrics_address is not None
    with socket.create_connection(running.metrics_address, 30) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n" + b"x" * (9 << 10))
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass
    assert scrape(running)


def test_those_beyond_the_limit_get_nothing_and_the_stop_does_not_wait_for_the_slow():
    async def expose_nothing() -> bytes:
        return b""

    async def ask_beside(count: int) -> bytes:
        server = MetricsServer(expose_nothing)
        address = await server.start(Address("127.0.0.1", 0))
        answer = b""
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(socket.create_connection(address, 30)).sendall(b"GET /met")
            while len(server._under_way) < count:
                await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            with suppress(ConnectionError):
                answer = await reader.read()
            with suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()
            await server.stop()
        return answer

    assert asyncio.run(ask_beside(15)).startswith(b"HTTP/1.1 200")
    assert asyncio.run(ask_beside(16)) == b""


# ------------------------------------------------------------------------------------------------- running in a thread


def test_a_broker_can_be_started_again_in_the_same_place(tmp_path: Path):
    broker = RunningBroker(tmp_path, BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",)), StoreConfig())
    for _ in range(2):
        address = broker.start()
        assert broker.start() == address
        with WireClient(str(address)) as client:
            assert client.ask(ApiVersionsRequest(), 0).error_code == 0
        broker.stop()
        broker.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("logstore")]


def test_a_broker_that_cannot_listen_lets_go_of_the_directory(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listener = f"PLAINTEXT://127.0.0.1:{taken.getsockname()[1]}"
        broker = RunningBroker(tmp_path, BrokerConfig(listeners=(listener,)), StoreConfig())
        with pytest.raises(CannotListen, match="another process listens there"):
            broker.start()
    with TopicStore(DataDir(tmp_path, StoreConfig())):
        pass
