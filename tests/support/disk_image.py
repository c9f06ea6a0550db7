"""File systems in files."""

import subprocess
from collections.abc import Callable
from pathlib import Path

SIZE_MIB = {"ext4": 24, "xfs": 300}  # xfs has no smaller ones

Mount = Callable[..., Path]
MakeImage = Callable[[str], Path]


def make_image(path: Path, kind: str) -> Path:
    with path.open("wb") as file:
        file.truncate(SIZE_MIB[kind] << 20)
    subprocess.run([f"mkfs.{kind}", "-q", "-F" if kind == "ext4" else "-f", path], check=True)
    return path
