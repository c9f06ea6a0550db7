"""What is taken out of a log is kept whole, under a name of its own, before it is gone from the log."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from log_tools import contents
from logstore.errors import StorageFailure
from logstore.format import filename
from logstore.storage import files
from logstore.storage.salvaged import COPY_SIZE, keep_bytes, keep_file, keep_range

SIZE = 2 * COPY_SIZE + 1000
NAME = f"a.log.5-{SIZE}"


@pytest.fixture
def log(tmp_path: Path) -> files.File:
    (tmp_path / "a.log").write_bytes(os.urandom(SIZE))
    return files.open_file(tmp_path / "a.log")


def salvaged(directory: Path) -> dict[str, bytes]:
    return contents(directory / filename.SALVAGED_DIR)


def test_the_same_bytes_are_kept_once_and_others_beside_them(tmp_path: Path, log: files.File) -> None:
    rest = log.read_at(5, SIZE)
    other = rest[:-1] + bytes([rest[-1] ^ 1])
    for number in range(3):
        assert keep_range(tmp_path, log, 5, SIZE).name == NAME
        assert keep_bytes(tmp_path, NAME, rest).name == NAME
        assert keep_bytes(tmp_path, NAME, other).name == f"{NAME}.1"
        assert keep_bytes(tmp_path, NAME, rest[:-1]).name == f"{NAME}.2"
        (tmp_path / NAME).write_bytes(rest)
        assert keep_file(tmp_path / NAME).name == f"{NAME}.{number + 3}"
    expected = {NAME: rest, f"{NAME}.1": other, f"{NAME}.2": rest[:-1]}
    assert salvaged(tmp_path) == expected | {f"{NAME}.{number}": rest for number in (3, 4, 5)}


def test_what_is_no_file_is_never_taken_for_a_copy(tmp_path: Path, log: files.File) -> None:
    (tmp_path / filename.SALVAGED_DIR / NAME).mkdir(parents=True)
    (tmp_path / filename.SALVAGED_DIR / f"{NAME}.1").symlink_to(tmp_path / "a.log")
    assert keep_range(tmp_path, log, 5, SIZE).name == f"{NAME}.2"


STEPS = ("make_dir", "open_file", "truncate", "write_at", "sync", "rename", "sync_dir")


class Steps:
    """Those that change the disk, by name and the file they are done to. The one of number ``failing`` fails, half
    done where it is a write."""

    def __init__(self, patch: pytest.MonkeyPatch, failing: int = -1) -> None:
        self.failing = failing
        self.done: list[tuple[str, str]] = []
        for name in STEPS:
            owner = files if hasattr(files, name) else files.File
            patch.setattr(owner, name, self._step(getattr(owner, name)))

    def _step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(on: Path | files.File, *arguments: Any, **named: Any) -> Any:
            name = real.__name__
            path = on if isinstance(on, Path) else on.path
            if len(self.done) == self.failing:
                if name == "write_at":
                    real(on, arguments[0], arguments[1][:7])
                raise StorageFailure(str(path), name, 5, "it was to fail")
            self.done.append((name, path.name))
            return real(on, *arguments, **named)

        return step


def test_a_copy_has_its_name_once_it_is_whole_and_is_on_the_disk_whatever_failed_before(
    tmp_path: Path, log: files.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = log.read_at(5, SIZE)
    with monkeypatch.context() as patch:
        steps = Steps(patch)
        keep_range(tmp_path, log, 5, SIZE)
        assert [name for name, _ in steps.done] == [
            *("make_dir", "sync_dir", "open_file", "truncate", *["write_at"] * 3, "sync", "rename", "sync_dir")
        ]
    for failing in range(len(steps.done)):
        directory = tmp_path / f"after {failing}"
        directory.mkdir()
        with monkeypatch.context() as patch:
            Steps(patch, failing)
            with pytest.raises(StorageFailure):
                keep_range(directory, log, 5, SIZE)
        if (directory / filename.SALVAGED_DIR).exists():
            assert salvaged(directory).get(NAME, rest) == rest
        with monkeypatch.context() as patch:
            again = Steps(patch)
            keep_range(directory, log, 5, SIZE)
        assert salvaged(directory) == {NAME: rest}
        assert {("sync_dir", directory.name), ("sync_dir", filename.SALVAGED_DIR)} <= set(again.done)


def test_a_copy_that_a_kill_left_half_written_is_begun_anew(tmp_path: Path, log: files.File) -> None:
    (tmp_path / filename.SALVAGED_DIR).mkdir()
    (tmp_path / filename.SALVAGED_DIR / f"{NAME}.tmp").write_bytes(b"x" * SIZE * 2)
    assert keep_range(tmp_path, log, 5, SIZE).read_bytes() == log.read_at(5, SIZE)
    assert list(salvaged(tmp_path)) == [NAME]
