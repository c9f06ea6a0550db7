"""Power that goes under a busy writer: real file systems in a file, shut down by their own ioctl."""

import re
from pathlib import Path

import pytest

from children import run_script
from disk_image import MakeImage, Mount


@pytest.mark.parametrize(
    "cut_count",
    [3, pytest.param(25, marks=[pytest.mark.slow, pytest.mark.timeout(400)])],
    ids=["a_few", "many"],
)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_power_cut_loses_nothing_synced_and_leaves_without_fsync_a_valid_prefix_never_garbage(
    memory_dir: Path, mount: Mount, make_image: MakeImage, kind: str, cut_count: int
) -> None:
    mount("-o", "loop", make_image(kind))  # or it is skipped
    output = run_script("power_cut.py", memory_dir, kind, cut_count, cut_count, timeout_s=390)
    print(output)
    summary = re.search(r"^(\d+) cuts of power, (\d+) records .* synced, (\d+) as cached", output, re.MULTILINE)
    assert summary is not None, output
    assert int(summary[1]) >= cut_count and int(summary[2]) + int(summary[3]) > cut_count, "cut, and busy before"
