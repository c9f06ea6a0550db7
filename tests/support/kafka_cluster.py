"""A real Apache Kafka of one node, started once for a process of tests that needs one, and stopped at its end.

Import the fixture ``kafka_address`` in a test file, and mark its tests `kafka`: without the jars, Java or
confluent-kafka they are skipped with the reason.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parent.parent.parent / "tools"


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """ "host:port" of the node. Topics are not made by themselves, and groups rebalance without a delay."""
    with tempfile.TemporaryDirectory(prefix="logstore-kafka-") as directory, kafka_node_in(Path(directory)) as address:
        yield address


@contextmanager
def kafka_node_in(directory: Path) -> Iterator[str]:
    """A node of one's own, to stop; it takes some three seconds."""
    broker = kafka_node(directory)
    with broker.running():
        yield broker.address


def kafka_node(directory: Path) -> Any:
    """One to start, and to kill (tools/kafka_node.py)."""
    pytest.importorskip("confluent_kafka", reason="needs confluent-kafka: pip install 'logstore[kafka]'")
    jars = subprocess.run(
        [TOOLS / "kafka-tools", "--installed"], capture_output=True, text=True, timeout=20, check=False
    )
    if jars.returncode != 0:
        pytest.skip(jars.stderr.strip())
    sys.path.insert(0, str(TOOLS))
    try:
        from kafka_node import Broker
    finally:
        sys.path.remove(str(TOOLS))
    return Broker(Path(jars.stdout.strip()), directory)
