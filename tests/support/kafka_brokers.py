"""A broker for real clients to talk to, once for a process of tests: ours, and a real Kafka as the oracle of each test.

The fixtures are those of tests/broker (see its conftest). A test that takes ``broker_address`` or ``agent`` runs
against ours always, and against Kafka where slow tests run.
"""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from children import end_with_parent
from cli import environment
from kafka_clients.agent import Agent
from kafka_clients.programs import PROGRAMS
from kafka_cluster import kafka_node_in
from waits import comes_to

Start = Callable[[str], Agent]
MakeTopic = Callable[..., str]
# As brisk as a test wants it, and as Kafka's node of tools/kafka_node.py is set.
SETTINGS = {
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
}
_numbers = itertools.count()


def fresh_name(kind: str = "topic") -> str:
    """Of a topic or a group that no other test has."""
    return f"{kind}-{next(_numbers)}"


class ServedBroker:
    """`logstore serve` as a process, which can be killed and started again on the same port and directory."""

    def __init__(self, directory: Path, settings: dict[str, str] | None = None) -> None:
        self._directory = directory
        self._settings = SETTINGS | (settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        properties = self._directory / "server.properties"
        lines = {"listeners": f"PLAINTEXT://{self.address}", "log.dirs": self._directory / "data"} | self._settings
        properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "logstore", "serve", "--config", str(properties)],
                stdout=log,
                stderr=log,
                env=environment(),
                preexec_fn=end_with_parent,
            )
        deadline = time.monotonic() + 30
        while not self._accepts():
            assert self._process.poll() is None, f"it ended with {self._process.returncode}: {self.said()}"
            assert time.monotonic() < deadline, f"it does not listen: {self.said()}"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self._process = None

    def stop(self) -> None:
        """SIGTERM, and wait until it has closed its directory."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None
        assert status in (0, -signal.SIGTERM), f"it ended with {status}: {self.said()}"
        assert "Traceback" not in self.said(), self.said()

    def said(self) -> str:
        return self._log.read_text()[-4000:] if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self._directory / "server.out"

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture(
    scope="session", params=["logstore", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.slow])]
)
def broker_address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """ "host:port". Topics are not made by themselves, and groups rebalance without a delay."""
    directory = tmp_path_factory.mktemp("broker")
    if request.param == "kafka":
        with kafka_node_in(directory) as address:
            yield address
        return
    if given := os.environ.get("LOGSTORE_TEST_BROKER"):  # one that was started by hand, to look into
        yield given
        return
    broker = ServedBroker(directory)
    broker.start()
    yield broker.address
    broker.stop()


@pytest.fixture(scope="session")
def agents(broker_address: str) -> Iterator[Start]:
    """One agent of each client that a test names; they stay for the tests that follow."""
    started: dict[str, Agent] = {}

    def start(name: str) -> Agent:
        if name not in started:
            started[name] = PROGRAMS[name].start(broker_address)
        return started[name]

    yield start
    for agent in started.values():
        agent.close()


@pytest.fixture(params=PROGRAMS)
def agent(request: pytest.FixtureRequest, agents: Start) -> Agent:
    return agents(request.param)


@pytest.fixture
def more_agents(broker_address: str) -> Iterator[Start]:
    """Processes of the test's own, to crash."""
    started: list[Agent] = []

    def start(name: str) -> Agent:
        started.append(PROGRAMS[name].start(broker_address))
        return started[-1]

    yield start
    for agent in started:
        agent.close()


@pytest.fixture
def topic(agents: Start) -> MakeTopic:
    """Makes a topic, by confluent-kafka: topic(partitions, **{"max.message.bytes": "2000"})"""

    def make(partitions: int = 1, **configs: Any) -> str:
        name = fresh_name()
        agent = agents("confluent")
        agent.call("create_topic", name=name, partitions=partitions, configs=configs)
        comes_to(partitions, lambda: agent.call("topics").get(name))
        return name

    return make
