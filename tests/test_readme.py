"""The README's examples run as they stand, in a new directory and in one where they ran before."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import logstore.testing
from logstore.wire.api import APIS

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EMBEDDED = [example for example in EXAMPLES if "connect(" not in example]
ON_A_CLUSTER = [example for example in EXAMPLES if "connect(" in example]


def run(example: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=directory, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EMBEDDED, ids=range(len(EMBEDDED)))
def test_an_example_runs_and_runs_again(example: str, tmp_path: Path):
    assert run(example, tmp_path)
    assert run(example, tmp_path)


@pytest.mark.parametrize("example", ON_A_CLUSTER)
def test_an_example_of_a_cluster_runs_on_a_broker(example: str, tmp_path: Path):
    with logstore.testing.broker(topics=["orders"]) as broker:
        assert "localhost:9092" in example
        assert run(example.replace("localhost:9092", broker.bootstrap), tmp_path)


def test_the_apis_and_versions_that_are_said_to_be_served_are_those_that_clients_are_told():
    rows = dict(re.findall(r"^\| (\w+) \| (\d+–\d+) \|", README, re.MULTILINE))
    told = {api.key.name.replace("_", "").lower(): "{}–{}".format(*api.advertised) for api in APIS.values()}
    assert {name.lower(): served for name, served in rows.items()} == told
