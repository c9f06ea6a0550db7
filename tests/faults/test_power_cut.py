"""Power that goes under a busy writer: real file systems in a file, shut down by their own ioctl."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from children import run_script

Mount = Callable[..., Path]


@pytest.mark.parametrize(
    "cut_count",
    [3, pytest.param(25, marks=[pytest.mark.slow, pytest.mark.timeout(400)])],
    ids=["a_few", "many"],
)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_power_cut_loses_nothing_synced_and_leaves_no_garbage(
    memory_dir: Path, mount: Mount, kind: str, cut_count: int
) -> None:
    check_mountable(mount, memory_dir / "tried", kind)
    output = run_script("power_cut.py", memory_dir, kind, cut_count, cut_count, timeout_s=390)
    print(output)
    summary = re.search(r"^(\d+) cuts of power, (\d+) records .* synced, (\d+) as cached", output, re.MULTILINE)
    assert summary is not None, output
    assert int(summary[1]) >= cut_count and int(summary[2]) + int(summary[3]) > cut_count, "cut, and busy before"


def check_mountable(mount: Mount, image: Path, kind: str) -> None:
    """Skips with the reason where it is not."""
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not installed")
    with image.open("wb") as file:
        file.truncate(300 << 20)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    mount("-o", "loop", image)
