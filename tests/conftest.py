import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from clocks import Clocks
from kafka_oracle import KafkaOracle
from logstore.storage.data_dir import DataDir

# The same examples in every run and no database of old ones: a failure is there again at the next run, everywhere.
settings.register_profile("suite", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("suite")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures that tests recorded as properties, such as how many crash states were recovered."""
    figures = [item for report in terminalreporter.getreports("passed") for item in report.user_properties]
    if figures:
        terminalreporter.section("figures")
    for name, figure in sorted(figures, key=str):
        terminalreporter.line(f"{name}: {figure}")


@pytest.fixture(scope="session")
def kafka() -> KafkaOracle:
    """Apache Kafka's tools; skips with the reason where there are no jars or no Java. Mark the test `kafka`."""
    tool = Path(__file__).parent.parent / "tools" / "kafka-tools"
    found = subprocess.run([tool, "--installed"], capture_output=True, text=True, timeout=20, check=False)
    if found.returncode != 0:
        pytest.skip(found.stderr.strip())
    return KafkaOracle(Path(found.stdout.strip()))


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def data_dir(clocks: Clocks, tmp_path: Path) -> Iterator[DataDir]:
    """That does nothing by itself, and goes by ``clocks``."""
    opened = clocks.open(tmp_path / "data")
    yield opened
    opened.close()
