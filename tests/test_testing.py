"""A broker for tests of code that uses Kafka: as its users have it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import logstore
import logstore.testing
from cli import environment
from logstore.errors import Closed, ClusterFailure, InvalidSetting, UnknownTopic, Unsupported
from logstore.testing import Broker
from logstore.wire.messages.metadata import MetadataRequest
from wire_client import WireClient

both = pytest.mark.parametrize("in_subprocess", [False, True], ids=["in this process", "in one of its own"])


def topics_of(broker: Broker) -> dict[str, int]:
    with WireClient(broker.bootstrap) as client:
        found = client.ask(MetadataRequest(topics=None), 12).topics
    return {topic.name: len(topic.partitions) for topic in found if not topic.is_internal}


def produce(broker: Broker, topic: str, *values: bytes) -> None:
    """By a client that knows nothing of logstore."""
    confluent_kafka = pytest.importorskip("confluent_kafka", reason="needs the extra kafka")
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


@both
def test_a_broker_is_there_within_the_block_and_gone_after_it(in_subprocess: bool):
    with logstore.testing.broker(topics={"orders": 3, "payments": 1}, subprocess=in_subprocess) as broker:
        assert broker.bootstrap == f"{broker.host}:{broker.port}"
        assert topics_of(broker) == {"orders": 3, "payments": 1}
        produce(broker, "orders", b"one", b"two")
        assert [record.value for record in broker.records("orders")] == [b"one", b"two"]
        assert broker.records("orders", 1) == []
        path = broker.path
        assert path.exists()
    assert not path.exists()
    with pytest.raises(ConnectionRefusedError), WireClient(broker.bootstrap):
        pass


@both
def test_it_comes_back_with_its_port_and_its_data(in_subprocess: bool):
    with logstore.testing.broker(topics=["orders"], subprocess=in_subprocess) as broker:
        bootstrap = broker.bootstrap
        produce(broker, "orders", b"one")
        broker.stop()
        broker.stop()
        assert [record.value for record in broker.records("orders")] == [b"one"]
        broker.start()
        assert broker.restart().bootstrap == bootstrap
        produce(broker, "orders", b"two")
        assert [record.value for record in broker.records("orders")] == [b"one", b"two"]


def test_one_in_a_process_of_its_own_can_be_killed_and_has_all_that_was_acknowledged():
    with logstore.testing.broker(topics=["orders"], subprocess=True) as broker:
        produce(broker, "orders", b"one")
        broker.kill()
        with pytest.raises(ConnectionRefusedError), WireClient(broker.bootstrap):
            pass
        broker.start()
        assert [record.value for record in broker.records("orders")] == [b"one"]


def test_one_in_this_process_cannot_be_killed():
    with logstore.testing.broker() as broker, pytest.raises(Unsupported, match="subprocess=True"):
        broker.kill()


@both
def test_a_directory_that_was_given_stays(tmp_path: Path, in_subprocess: bool):
    for expected in ({"orders": 1}, {"orders": 1, "payments": 2}):
        with logstore.testing.broker(tmp_path / "data", subprocess=in_subprocess) as broker:
            broker.create_topic(*list(expected.items())[-1])
            assert topics_of(broker) == expected


@both
def test_settings_are_those_of_the_server(in_subprocess: bool):
    settings = {"num_partitions": 5, "node.id": 7, "log_retention_hours": 1, "auto_create_topics_enable": False}
    with logstore.testing.broker(subprocess=in_subprocess, **settings) as broker:
        broker.create_topic("orders", -1)
        assert topics_of(broker) == {"orders": 5}
        with WireClient(broker.bootstrap) as client:
            assert client.ask(MetadataRequest(topics=None), 12).controller_id == 7


@both
def test_settings_are_taken_as_lists_and_as_none(in_subprocess: bool):
    settings = {"listener_security_protocol_map": ["PLAINTEXT:PLAINTEXT", "SSL:SSL"], "acks_all_durability": None}
    with logstore.testing.broker(topics=["orders"], subprocess=in_subprocess, **settings) as broker:
        assert topics_of(broker) == {"orders": 1}


def test_a_broker_that_has_died_tells_its_last_words():
    with logstore.testing.broker(subprocess=True) as broker:
        process = broker._runner._process  # type: ignore[attr-defined]
        os.kill(process.pid, signal.SIGTERM)
        process.wait(30)
        with pytest.raises(ClusterFailure, match="stopping: SIGTERM"):
            broker.create_topic("orders")
        assert broker.restart().bootstrap
        broker.create_topic("orders")


@both
def test_a_connection_that_is_closed_is_told(monkeypatch: pytest.MonkeyPatch, in_subprocess: bool):
    with logstore.testing.broker(subprocess=in_subprocess, socket_request_max_bytes=200) as broker:
        with pytest.raises(ClusterFailure, match="ConnectionResetError"):
            broker.create_topic("orders" * 40)
        broker.stop()
        with pytest.raises(ClusterFailure, match="ConnectionRefusedError"):
            broker.create_topic("orders")


def test_mistakes_are_told_where_they_are_made(tmp_path: Path):
    with pytest.raises(InvalidSetting, match=r"did you mean num\.partitions"):
        logstore.testing.broker(num_partition=5)
    with pytest.raises(Closed):
        _ = logstore.testing.broker().bootstrap
    with pytest.raises(UnknownTopic), logstore.testing.broker() as broker:
        broker.records("orders")
    (tmp_path / "file").touch()
    with (
        pytest.raises(ClusterFailure, match="exit status 2"),
        logstore.testing.broker(tmp_path / "file", subprocess=True),
    ):
        pass


@both
def test_what_kafka_says_to_a_topic_is_told(in_subprocess: bool):
    with logstore.testing.broker(subprocess=in_subprocess) as broker:
        broker.create_topic("orders", 2, cleanup_policy="compact", retention_ms=1_000)
        with pytest.raises(ClusterFailure, match="TOPIC_ALREADY_EXISTS"):
            broker.create_topic("orders")
        with pytest.raises(ClusterFailure, match="INVALID_TOPIC_EXCEPTION"):
            broker.create_topic("a/b")
        with logstore.open(broker.path, read_only=True) as store:
            assert store.topic("orders").overrides == {"cleanup.policy": "compact", "retention.ms": "1000"}


# -------------------------------------------------------------------------------------------------------------- pytest

_CONFTEST = """
import pytest

pytest_plugins = ["logstore.pytest_plugin"]

@pytest.fixture(scope="session")
def logstore_broker_settings():
    return {"topics": ["ready"], "num_partitions": 3}
"""
_TESTS = """
def test_one(logstore_broker, logstore_session_broker):
    assert logstore_broker.bootstrap != logstore_session_broker.bootstrap
    for broker in (logstore_broker, logstore_session_broker):
        broker.create_topic("orders", -1)
        assert broker.records("orders") == broker.records("ready") == []

def test_the_other(logstore_broker, logstore_session_broker):
    logstore_broker.create_topic("orders")
    assert logstore_session_broker.records("orders", 2) == []
"""


def test_the_fixtures_are_one_for_each_test_and_one_for_a_session(tmp_path: Path):
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_it.py").write_text(_TESTS)
    arguments = ["-p", "no:cacheprovider", "-q", tmp_path]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, arguments)],
        env={**environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"2 passed" in ended.stdout, ended.stdout.decode()


def test_the_fixtures_cost_nothing_where_they_are_not_used():
    program = (
        "import sys, pytest; before = set(sys.modules); import logstore.pytest_plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True, timeout=60
    )
    assert told.stdout.split() == ["logstore", "logstore.pytest_plugin"]
