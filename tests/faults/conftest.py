import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Mount = Callable[..., Path]


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
