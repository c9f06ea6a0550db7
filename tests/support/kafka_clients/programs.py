"""How each client's agent is started, what it can do, and why it cannot be started here."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from kafka_clients.agent import Agent

SUPPORT = Path(__file__).parent.parent
ROOT = SUPPORT.parent.parent
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class Program:
    name: str
    assignors: tuple[str, ...]
    # kafkajs keeps headers by name: those of one name stay in order, names in the order of their first.
    keeps_headers_order: bool = True
    sends_null_headers: bool = True
    has_static_members: bool = True
    deletes_groups: bool = True
    seeks_any_time: bool = True

    def start(self, address: str) -> Agent:
        command, environment = _start(self.name)
        return Agent(self.name, command, address, environment)


PROGRAMS = {
    program.name: program
    for program in (
        Program("confluent", ("range", "roundrobin", "cooperative-sticky")),
        Program("kafka_python", ("range", "roundrobin", "sticky", "cooperative-sticky"), sends_null_headers=False),
        Program("aio", ("range", "roundrobin", "sticky"), deletes_groups=False),
        Program(
            "kafkajs",
            ("RoundRobinAssigner",),
            keeps_headers_order=False,
            sends_null_headers=False,
            has_static_members=False,
        ),
        Program("franz", ("range", "roundrobin", "sticky", "cooperative-sticky")),
        Program("java", ("range", "roundrobin", "sticky", "cooperative-sticky")),
    )
}


@cache
def _start(name: str) -> tuple[list[str], dict[str, str]]:
    """The command and what it needs in its environment; skips the test with the reason where it cannot be had."""
    if name == "kafkajs":
        modules = installed("kafkajs")
        return ["node", str(ROOT / "tests/clients/kafkajs/agent.js")], {"NODE_PATH": modules}
    if name == "franz":
        return [f"{installed('franz-go')}/agent"], {}
    if name == "java":
        classes = f"{java_classes()}:{installed('kafka-tools')}/*"
        return ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", classes, "Agent"], {}
    library = {"confluent": "confluent_kafka", "kafka_python": "kafka", "aio": "aiokafka"}[name]
    pytest.importorskip(library)
    return [sys.executable, "-m", f"kafka_clients.{name}"], {"PYTHONPATH": str(SUPPORT)}


def installed(tool: str) -> str:
    """What tools/TOOL says where it has been installed."""
    done = subprocess.run(
        [ROOT / "tools" / tool, "--installed"], capture_output=True, text=True, timeout=20, check=False
    )
    if done.returncode != 0:
        pytest.skip(done.stderr.strip())
    return done.stdout.strip()


@cache
def java_classes() -> Path:
    """The agent in Java, compiled: once for a version of it, whichever of several test processes comes first."""
    jars = Path(installed("kafka-tools"))
    source = ROOT / "tests/clients/java/Agent.java"
    if shutil.which("javac") is None:
        pytest.skip("no javac to compile the Java agent with (Debian: apt-get install default-jdk-headless)")
    classes = ROOT / ".cache" / "java" / f"{hash_of(source)}-{jars.name}"
    if not classes.exists():
        part = classes.with_name(f"{classes.name}.{os.getpid()}")
        subprocess.run(
            ["javac", "-cp", f"{jars}/*", "-d", part, source], check=True, capture_output=True, text=True, timeout=60
        )
        try:
            part.rename(classes)
        except OSError:  # another process was faster
            shutil.rmtree(part)
    return classes


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
