import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import disk_image
from disk_image import MakeImage, Mount


@pytest.fixture
def memory_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is such: when a process dies, the disk under the page cache is no matter."""
    in_memory = Path("/dev/shm")
    usable = in_memory.is_dir() and os.access(in_memory, os.W_OK | os.X_OK)
    with tempfile.TemporaryDirectory(prefix="logstore-", dir=in_memory if usable else tmp_path) as directory:
        yield Path(directory)


@pytest.fixture
def mount(memory_dir: Path) -> Iterator[Mount]:
    """``mount(*arguments)``: the directory at which the file system is, until the test ends; what a script mounts at
    ``memory_dir / "mounted"`` goes then too. Skips with the reason where it cannot be mounted."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root can mount a file system, and only on Linux")
    targets = [memory_dir / "mounted"]

    def mount(*arguments: str | Path) -> Path:
        target = memory_dir / f"disk{len(targets)}"
        target.mkdir()
        command = ["mount", *map(str, arguments), str(target)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"{' '.join(command)}: {mounted.stderr.strip()}")
        targets.append(target)
        return target

    yield mount
    for target in targets:
        if os.path.ismount(target):
            subprocess.run(["umount", "-l", target], check=True)


@pytest.fixture
def make_image(memory_dir: Path) -> MakeImage:
    """``make_image(kind)``: a file with a new file system. Skips where there is nothing to make it."""

    def make_image(kind: str) -> Path:
        if shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"mkfs.{kind} is not installed")
        return disk_image.make_image(memory_dir / f"{kind}.image", kind)

    return make_image
