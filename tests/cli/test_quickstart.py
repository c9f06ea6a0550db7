"""The quickstart's program: it says what it cannot take, and every byte of what it can comes back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import ROOT, environment

DEMO = ROOT / "tools" / "quickstart_demo.py"


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy, whose data directory is in ``tmp_path``."""
    path = tmp_path / "tools" / DEMO.name
    path.parent.mkdir()
    path.write_bytes(DEMO.read_bytes())
    return path


def run_demo(demo: Path, *args: object, pass_fds: tuple[int, ...] = ()) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(demo), *map(str, args)]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=60, check=False, pass_fds=pass_fds
    )


def test_a_pipe_which_cannot_be_read_twice_is_refused_by_name(demo: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x")
    os.close(writer)
    result = run_demo(demo, f"/dev/fd/{reader}", pass_fds=(reader,))
    os.close(reader)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: /dev/fd/{reader}: it is not a regular file")


def test_a_missing_file_is_named(demo: Path) -> None:
    result = run_demo(demo, "nope")
    assert result.returncode == 2
    assert result.stderr.startswith("error: nope: ")


def test_a_line_longer_than_a_batch_may_inflate_to_comes_back(demo: Path, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"short\n" * 1000 + b"x" * (65 << 20) + b"\nend")
    result = run_demo(demo, path)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{path.stat().st_size:,} bytes" in result.stdout
