"""The brokers that are measured side by side, each a process of its own on the loopback interface.

Apache Kafka is a stock single node, as its own scripts start it (1 GiB of heap, G1), once per run: it is warmed up by
what is measured. It never syncs by itself; ``durable``: both sync before they answer acks=all.
"""

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.load import create_topic

_ROOT = Path(__file__).parent.parent
_KAFKA_JVM = (
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExplicitGCInvokesConcurrent",
)


class Broker(ABC):
    """``address``: "host:port"."""

    name: str
    address: str
    pid: int

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self.durable = durable
        directory.mkdir(parents=True)

    @abstractmethod
    def running(self) -> Any:
        """A context manager."""

    def create_topic(self, topic: str, partition_count: int) -> None:
        create_topic(self.address, topic, partition_count)

    def load(self, workload: str, **settings: object) -> dict[str, float]:
        """The figures of one run of bench.load."""
        given = [f"{name}={value}" for name, value in settings.items()]
        done = subprocess.run(
            [sys.executable, "-m", "bench.load", self.address, workload, *given],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=_ROOT,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}, {workload} {given}: {done.stderr[-1000:]}")
        figures: dict[str, float] = json.loads(done.stdout)
        return figures

    def resident_mb(self) -> float:
        """What the process has in memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) / 1024


class LogstoreBroker(Broker):
    name = "logstore"

    @contextmanager
    def running(self) -> Iterator[None]:
        durability = "fsync" if self.durable else "os"
        # The load's timestamps are old. Kafka's node keeps everything, too.
        process = start_logstore(self.directory, f"acks.all.durability={durability}", "log.retention.ms=-1")
        try:
            self.pid = process.pid
            self.address = ready_address(process)
            yield
        finally:
            process.terminate()
            process.wait(30)


def start_logstore(directory: Path, *settings: str) -> "subprocess.Popen[str]":
    given = [word for setting in settings for word in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, "-m", "logstore", "serve", "--json", "--data", directory, "--listen", "127.0.0.1:0", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def ready_address(process: "subprocess.Popen[str]") -> str:
    """As the readiness line says it."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"logstore serve ended with status {process.wait(10)}")
    address: str = json.loads(line)["address"]
    return address


class KafkaBroker(Broker):
    name = "Kafka"

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        super().__init__(directory, durable=durable)
        settings = {"log.index.size.max.bytes": "10485760", "log.retention.check.interval.ms": "300000"}
        if durable:
            settings["log.flush.interval.messages"] = "1"
        self._node = kafka_node_module().Broker(kafka_jars(), directory, java_options=_KAFKA_JVM, settings=settings)

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._node.running():
            self.address, self.pid = self._node.address, self._node.pid
            yield


def kafka_jars() -> Path:
    """Skips where they, or a Java to run them, are not to be had."""
    found = subprocess.run([_ROOT / "tools" / "kafka-tools"], capture_output=True, text=True, timeout=1000, check=False)
    if found.returncode != 0:
        pytest.skip(found.stderr.strip().splitlines()[-1])
    return Path(found.stdout.strip())


def kafka_node_module() -> Any:
    sys.path.insert(0, str(_ROOT / "tools"))
    try:
        import kafka_node
    finally:
        sys.path.remove(str(_ROOT / "tools"))
    return kafka_node


@contextmanager
def running(directory: Path, *, durable: bool = False) -> Iterator[dict[str, Broker]]:
    """One of each, by name; only logstore where Kafka is not to be had."""
    with ExitStack() as stack:
        brokers: dict[str, Broker] = {"logstore": LogstoreBroker(directory / "logstore", durable=durable)}
        try:
            brokers["Kafka"] = KafkaBroker(directory / "kafka", durable=durable)
        except pytest.skip.Exception:
            pass
        for broker in brokers.values():
            stack.enter_context(broker.running())
        yield brokers
