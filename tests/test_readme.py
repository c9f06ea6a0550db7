"""The README's examples run as they stand, in a new directory and in one where they ran before."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EMBEDDED = [example for example in EXAMPLES if "connect(" not in example]


def run(example: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=directory, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def test_every_example_but_that_of_a_cluster_is_tried():
    assert len(EXAMPLES) - len(EMBEDDED) == 1 and len(EMBEDDED) >= 4


@pytest.mark.parametrize("example", EMBEDDED, ids=range(len(EMBEDDED)))
def test_an_example_runs_and_runs_again(example: str, tmp_path: Path):
    assert run(example, tmp_path)
    assert run(example, tmp_path)
