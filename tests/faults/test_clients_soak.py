"""A process of producers, a consumer group and queue workers that is killed again and again, at any moment."""

import re
from pathlib import Path

import pytest

from children import run_script


def check_kills(output: str, kill_count: int) -> None:
    print(output)
    summary = re.search(
        r"^(\d+) kills in .* s, (\d+) records acknowledged, .* (\d+) commits, (\d+) messages put, .* (\d+) acked,",
        output,
        re.MULTILINE,
    )
    assert summary is not None, output
    assert int(summary[1]) == kill_count
    assert all(int(count) > kill_count for count in summary.groups()[1:]), "killed, and busy before"


def test_sigkills_lose_nothing_acknowledged_take_back_no_ack_and_no_commit_and_keep_order(memory_dir: Path) -> None:
    check_kills(run_script("client_soak.py", memory_dir, 15, 1, timeout_s=100), 15)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [2, 3])
def test_hundreds_of_sigkills_lose_nothing_acknowledged_take_back_no_ack_and_no_commit(
    tmp_path: Path, seed: int
) -> None:
    check_kills(run_script("client_soak.py", tmp_path, 150, seed, timeout_s=890), 150)
