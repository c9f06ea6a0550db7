"""``logstore serve`` as a process: how it starts, what it tells, how it ends."""

import json
import logging
import os
import resource
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import logstore
from cli import spawn
from logstore.addresses import Address
from logstore.cli import serve
from logstore.config import BrokerConfig
from logstore.format import filename
from logstore.wire.messages.api_versions import ApiVersionsRequest
from logstore.wire.messages.metadata import MetadataRequest
from served import Served
from wire_client import WireClient

ANY_PORT = "127.0.0.1:0"
KAFKAS_OWN = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
log.dirs={data}
num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""


def test_one_line_on_stdout_says_where_it_listens(tmp_path: Path):
    with Served("--data", tmp_path / "data", "--listen", ANY_PORT) as served:
        assert served.ready["pid"] == served.process.pid
        assert served.ready["data"] == str(tmp_path / "data")
        assert served.ready["advertised"] == served.address
        assert served.ready["metrics"] is None
        with WireClient(served.address) as client:
            assert client.ask(ApiVersionsRequest(), 0).error_code == 0
            metadata = client.ask(MetadataRequest(topics=None), 12)
        assert metadata.cluster_id == served.ready["cluster_id"]
        assert [(broker.node_id, f"{broker.host}:{broker.port}") for broker in metadata.brokers] == [
            (served.ready["node_id"], served.address)
        ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(tmp_path: Path, number: signal.Signals):
    with Served("--data", tmp_path, "--listen", ANY_PORT) as served, WireClient(served.address) as client:
        client.ask(ApiVersionsRequest(), 0)
        served.signal(number)
        assert served.wait() == 0
        assert number.name in served.errors()
    assert (tmp_path / filename.CLEAN_SHUTDOWN).exists()


def test_a_second_signal_ends_it_at_once(tmp_path: Path):
    with Served("--data", tmp_path, "--listen", ANY_PORT) as served:
        served.signal(signal.SIGTERM, signal.SIGINT)
        assert served.wait() in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert not (tmp_path / filename.CLEAN_SHUTDOWN).exists()


def test_it_can_end_with_the_process_that_has_started_it(tmp_path: Path):
    with Served("--data", tmp_path, "--listen", ANY_PORT, "--stop-with-stdin") as served:
        assert served.process.stdin is not None
        served.process.stdin.close()
        assert served.wait() == 0
    assert (tmp_path / filename.CLEAN_SHUTDOWN).exists()


def test_it_goes_on_after_a_kill_with_all_that_was_acknowledged(tmp_path: Path):
    confluent_kafka = pytest.importorskip("confluent_kafka", reason="needs the extra kafka")
    with Served("--data", tmp_path, "--listen", ANY_PORT) as served:
        producer = confluent_kafka.Producer({"bootstrap.servers": served.address})
        for number in range(100):
            producer.produce("orders", b"%d" % number)
        assert producer.flush(30) == 0
        os.kill(served.process.pid, signal.SIGKILL)
        served.wait()
    with Served("--data", tmp_path, "--listen", served.address) as again:
        assert again.address == served.address
        assert "not closed cleanly" in again.errors()
    with logstore.open(tmp_path, read_only=True) as store:
        assert [record.value for record in store.log("orders").records(0)] == [b"%d" % i for i in range(100)]


def test_what_is_advertised_is_what_clients_are_told(tmp_path: Path):
    arguments = ("--data", tmp_path, "--listen", ANY_PORT, "--advertise", "broker.example:19092")
    with Served(*arguments, "--set", "node.id=7") as served, WireClient(served.address) as client:
        (broker,) = client.ask(MetadataRequest(topics=None), 12).brokers
        assert (broker.node_id, broker.host, broker.port) == (7, "broker.example", 19092)
        assert served.ready["advertised"] == "broker.example:19092"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_it_listens_at_an_ipv6_address(tmp_path: Path):
    with Served("--data", tmp_path, "--listen", "[::1]:0") as served:
        host, _, port = served.address.rpartition(":")
        assert host == "[::1]"
        with socket.create_connection(("::1", int(port)), timeout=10):
            pass


def test_a_server_properties_of_kafka_is_taken_as_it_is(tmp_path: Path):
    path = tmp_path / "server.properties"
    path.write_text(KAFKAS_OWN.format(data=tmp_path / "logs"))
    with Served("--config", path) as served:
        assert (served.ready["node_id"], served.ready["advertised"]) == (1, "localhost:9092")
        assert served.ready["data"] == str(tmp_path / "logs")
        told = served.errors()
    assert "process.roles" in told and "num.network.threads" in told
    assert "log.retention.hours" not in told
    assert (tmp_path / "logs" / filename.META_PROPERTIES).exists()


def test_options_go_before_the_file(tmp_path: Path):
    path = tmp_path / "server.toml"
    path.write_text('listeners = "PLAINTEXT://127.0.0.1:9"\n"node.id" = 3\nlog_dirs = "elsewhere"\n')
    with Served("--config", path, "--listen", ANY_PORT, "--data", tmp_path / "data", "--set", "node_id=4") as served:
        assert not served.address.endswith(":9")
        assert served.ready["node_id"] == 4
        assert served.ready["data"] == str(tmp_path / "data")


def test_metrics_are_served_beside_it(tmp_path: Path):
    with Served("--data", tmp_path, "--listen", ANY_PORT, "--metrics", ANY_PORT) as served:
        with WireClient(served.address) as client:
            client.ask(ApiVersionsRequest(), 0)
        with urllib.request.urlopen(f"http://{served.ready['metrics']}/metrics", timeout=30) as answer:
            families = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    assert {"logstore_connections", "logstore_request_duration_seconds"} <= families


def test_it_holds_as_many_files_as_the_system_lets_it(tmp_path: Path):
    def halve() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard) // 2, hard))

    with Served("--data", tmp_path, "--listen", ANY_PORT, before=halve) as served:
        soft, hard = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


def test_json_logs_are_one_object_a_line(tmp_path: Path):
    with Served(
        *("--data", tmp_path, "--listen", ANY_PORT, "--log-format", "json", "--set", "process.roles=broker")
    ) as served:
        served.signal(signal.SIGTERM)
        served.wait()
        lines = [json.loads(line) for line in served.errors().splitlines()]
    assert {"time", "level", "logger", "message"} == set(lines[0])
    assert ("warning", "process.roles" in lines[0]["message"]) == (lines[0]["level"], True)


# ------------------------------------------------------------------------------------------------------------- refused


def refused(*arguments: object) -> str:
    """What it says; the exit status is 2, nothing is on stdout, and there is no traceback."""
    ended = spawn("serve", *arguments)
    assert (ended.returncode, ended.stdout) == (2, b""), ended.stderr.decode()
    assert b"Traceback" not in ended.stderr
    return ended.stderr.decode()


def test_a_port_in_use_is_told(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = refused("--data", tmp_path, "--listen", address)
    assert f"cannot listen on {address}: another process listens there" in told
    assert (tmp_path / filename.CLEAN_SHUTDOWN).exists()


def test_a_directory_that_another_process_has_open_is_told(tmp_path: Path):
    with Served("--data", tmp_path, "--listen", ANY_PORT) as served:
        told = refused("--data", tmp_path, "--listen", ANY_PORT)
    assert str(tmp_path) in told and str(served.process.pid) in told


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("s.properties", "node.id=1\nlog.retention.hour=3", "line 2: setting log.retention.hour='3': there is no such"),
        ("s.properties", "num.io.threads = many\n", "line 1: setting num.io.threads='many': must be an integer"),
        ("s.properties", "authorizer.class.name=x\n", "line 1: setting authorizer.class.name='x': there are no"),
        ("s.properties", "listeners=SASL_SSL://:9092\n", "line 1: setting listeners='SASL_SSL://:9092': only PLAIN"),
        ("s.properties", "log.dirs=/a,/b\n", "line 1: setting log.dirs='/a,/b': must be one directory"),
        ("s.toml", "node_id = 1\nnum_io_threads = 0\n", "line 2: setting num.io.threads=0: must be an integer"),
        ("s.toml", "node_id = \n", "line 1: "),
        ("s.ini", "", "ends with .properties or .toml"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(tmp_path: Path, name: str, text: str, told: str):
    path = tmp_path / name
    path.write_text(text)
    message = refused("--config", path)
    assert f"error: {path}" in message and told in message


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "log.retention.hour=3"], "did you mean log.retention.hours?"),
        (["--set", "log.retention.hours"], "give NAME=VALUE"),
        (["--listen", "9092"], "an address is HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "a port is a number from 0 to 65535"),
        (["--advertise", "0.0.0.0:9092"], "must be a host and a port to connect to"),
        (["--metrics", "x"], "an address is HOST:PORT"),
        (["--config", "/nowhere/server.properties"], "No such file"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(arguments: list[str], told: str):
    assert told in refused(*arguments)


# ---------------------------------------------------------------------------------------------------------------- told


def test_settings_are_listed_with_their_defaults():
    listed = spawn("serve", "--list-settings").stdout.decode()
    assert "\nauto.create.topics.enable=true\n    " in listed and "\nlog.retention.hours=168\n    " in listed


class Found:
    """What is served, where it listens."""

    def __init__(self, address: Address, metrics: Address | None = None) -> None:
        self.address = address
        self.advertised = Address("a-machine", 9092)
        self.metrics = metrics


@pytest.mark.parametrize(
    ("address", "config", "told"),
    [
        (Address("127.0.0.1", 1), BrokerConfig(), []),
        (Address("::1", 1), BrokerConfig(), []),
        (Address("10.0.0.1", 1), BrokerConfig(), ["no authentication"]),
        (Address("::", 1), BrokerConfig(), ["no authentication", "a-machine:9092"]),
        (
            Address("0.0.0.0", 1),
            BrokerConfig(advertised_listeners=("PLAINTEXT://broker:9092",)),
            ["no authentication"],
        ),
    ],
)
def test_an_address_that_others_can_reach_is_warned_of(
    caplog: pytest.LogCaptureFixture, address: Address, config: BrokerConfig, told: list[str]
):
    with caplog.at_level(logging.WARNING, "logstore"):
        serve._tell_of_address(Found(address), config)  # type: ignore[arg-type]
    assert len(caplog.messages) == len(told)
    assert all(words in message for words, message in zip(told, caplog.messages, strict=True))


@pytest.mark.parametrize(("metrics", "told"), [("127.0.0.1", 0), ("::1", 0), ("10.0.0.1", 1), ("0.0.0.0", 1), ("", 1)])
def test_metrics_that_others_can_reach_are_warned_of(caplog: pytest.LogCaptureFixture, metrics: str, told: int):
    with caplog.at_level(logging.WARNING, "logstore"):
        serve._tell_of_address(Found(Address("127.0.0.1", 1), Address(metrics, 9644)), BrokerConfig())  # type: ignore[arg-type]
    assert [f"{Address(metrics, 9644)} can read the metrics" in message for message in caplog.messages] == [True] * told


def test_a_stdin_that_cannot_be_read_ends_it_as_one_that_is_closed(monkeypatch: pytest.MonkeyPatch):
    def fail(descriptor: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    stopping = threading.Event()
    monkeypatch.setattr(serve.os, "read", fail)
    with serve._Signals() as signals, signals.calling(stopping.set):
        signals.await_end_of_stdin()
        assert stopping.wait(30)
