"""A busy writer that is killed again and again, at any moment, on a directory that lives on."""

import re
from pathlib import Path

import pytest

from children import run_script


def check_kills(output: str, kill_count: int) -> None:
    print(output)
    summary = re.search(r"^(\d+) kills in .* s, (\d+) records acknowledged", output, re.MULTILINE)
    assert summary is not None, output
    assert int(summary[1]) >= kill_count and int(summary[2]) > kill_count, "killed, and busy before"


def test_sigkills_of_a_busy_writer_lose_nothing_acknowledged(memory_dir: Path) -> None:
    check_kills(run_script("busy_writer.py", memory_dir, 25, 3, timeout_s=100), 25)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_sigkills_of_a_busy_writer_lose_nothing_acknowledged_and_pass_verify(tmp_path: Path) -> None:
    check_kills(run_script("busy_writer.py", tmp_path, 1000, 4, timeout_s=590), 1000)
