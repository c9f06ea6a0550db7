"""The I/O seam: errors that name path and operation, writes that are whole or an error."""

import errno
import os
from pathlib import Path

import pytest

from children import FEW_DESCRIPTORS, run_python
from logstore.errors import DiskFull, StorageFailure
from logstore.storage import files


def writable(path: Path) -> files.File:
    return files.open_file(path, writable=True, create=True)


def test_what_is_written_at_a_position_is_read_there(tmp_path: Path) -> None:
    file = writable(tmp_path / "f")
    file.write_at(5, b"hello")
    file.write_pieces_at(10, [b" ", memoryview(b"wor"), bytearray(b"ld")])
    assert file.read_at(0, 100) == bytes(5) + b"hello world"
    assert file.read_at(16, 10) == b"" and file.size() == 16
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def test_short_reads_and_writes_are_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = writable(tmp_path / "f")
    pread, pwrite, pwritev = os.pread, os.pwrite, os.pwritev
    monkeypatch.setattr(os, "pread", lambda fd, size, position: pread(fd, min(size, 3), position))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, position: pwrite(fd, bytes(data)[:3], position))
    monkeypatch.setattr(os, "pwritev", lambda fd, pieces, position: pwritev(fd, [bytes(pieces[0])[:2]], position))
    file.write_at(0, b"0123456789")
    file.write_pieces_at(10, [b"abcde", b"fghij"])
    assert file.read_at(0, 100) == b"0123456789abcdefghij"
    assert file.read_at(4, 9) == b"456789abc"


def test_more_pieces_than_the_kernel_takes_at_once_are_written(tmp_path: Path) -> None:
    file = writable(tmp_path / "f")
    file.write_pieces_at(0, [b"%04d" % number for number in range(3000)])
    assert file.read_at(0, 1 << 20) == b"".join(b"%04d" % number for number in range(3000))


def test_an_error_names_the_path_and_the_operation(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    cases = [
        (lambda: files.open_file(missing), "open"),
        (lambda: files.list_dir(missing), "list"),
        (lambda: files.dir_names(missing), "list"),
        (lambda: files.sync_dir(missing), "open"),
        (lambda: files.rename(missing, tmp_path / "x"), "rename to x"),
        (lambda: files.make_dir(missing / "deeper"), "create"),
        (lambda: files.read_file(tmp_path), "open"),
        (lambda: files.write_file(missing / "deeper", b""), "open"),
    ]
    for use, operation in cases:
        with pytest.raises(StorageFailure) as caught:
            use()
        assert caught.value.operation == operation and str(tmp_path) in str(caught.value)
        assert caught.value.errno in (errno.ENOENT, errno.EISDIR) and not isinstance(caught.value, DiskFull)


def test_a_file_that_was_closed_is_an_error_and_not_another_file(tmp_path: Path) -> None:
    file = writable(tmp_path / "f")
    file.close()
    file.close()
    for use in (lambda: file.read_at(0, 1), lambda: file.write_at(0, b"x"), file.size):
        with pytest.raises(StorageFailure):
            use()


def test_what_is_gone_already_is_no_error_to_remove_or_read(tmp_path: Path) -> None:
    files.unlink(tmp_path / "missing")
    files.remove_dir(tmp_path / "missing")
    assert files.read_file(tmp_path / "missing") is None
    files.make_dir(tmp_path)
    files.make_dir(tmp_path / "a" / "b", parents=True)
    assert files.dir_names(tmp_path) == ["a"] and (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_links_are_not_followed_and_not_listed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    assert [entry.name for entry in files.list_dir(tmp_path)] == ["secret"]
    for use in (lambda: files.open_file(tmp_path / "link"), lambda: files.read_file(tmp_path / "link")):
        with pytest.raises(StorageFailure):
            use()


def test_a_special_file_in_a_files_place_is_an_error_and_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    uses = [
        lambda: files.read_file(tmp_path / "pipe"),
        lambda: files.open_file(tmp_path / "pipe"),
        lambda: files.open_file(tmp_path / "pipe", writable=True, create=True),
        lambda: files.read_file(Path("/dev/null")),
        lambda: files.open_file(tmp_path),
    ]
    for use in uses:
        with pytest.raises(StorageFailure, match="cannot open: it is not a regular file"):
            use()


def test_what_may_not_be_looked_at_is_an_error_and_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"")
    (tmp_path / "link").symlink_to("nowhere")
    assert [files.exists(tmp_path / name) for name in ("f", "link", "missing", "f/below")] == [True, True, False, False]
    assert [files.is_dir(tmp_path / name) for name in (".", "f", "link", "f/below")] == [True, False, False, False]

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    for ask, call in ((files.exists, "lstat"), (files.is_dir, "stat")):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(StorageFailure, match=r"/f: cannot open: Permission denied"):
                ask(tmp_path / "f")


def test_the_limit_of_descriptors_is_told_when_none_is_left() -> None:
    program = """
import os
from logstore.storage import files
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    print(files.open_file_limit())
"""
    assert run_python(program, before=FEW_DESCRIPTORS).stdout == "64\n"


def test_a_small_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small"
    files.write_file(path, b"old")
    (tmp_path / "small.tmp").write_bytes(b"what a crash left, longer than the new one")
    files.write_file(path, b"new")
    assert path.read_bytes() == b"new"
    real = files.File.write_at

    def tear(self: files.File, position: int, data: files.Buffer) -> None:
        real(self, position, data[:1])
        raise DiskFull(str(self.path), "write", errno.ENOSPC, "No space left on device")

    for name, failing in (("write_at", tear), ("sync", lambda self: tear(self, 0, b"x"))):
        with monkeypatch.context() as patch:
            patch.setattr(files.File, name, failing)
            with pytest.raises(DiskFull):
                files.write_file(path, b"newer")
        assert path.read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["small"], "what failed takes no space"


def test_a_small_file_is_synced_before_its_name_and_then_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_sync, real_rename, real_fsync = files._sync, os.rename, os.fsync
    monkeypatch.setattr(files, "_sync", lambda fd: (steps.append("data"), real_sync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (steps.append("name"), real_rename(a, b)))
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("directory"), real_fsync(fd)))
    files.write_file(tmp_path / "small", b"x")
    assert steps == ["data", "name", "directory"]


def test_a_lock_is_one_owners(tmp_path: Path) -> None:
    first, second = writable(tmp_path / "lock"), writable(tmp_path / "lock")
    assert files.lock(first) and not files.lock(second)
    first.close()
    assert files.lock(second)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, StorageFailure)]
)
def test_no_space_and_no_quota_are_a_full_disk_and_the_rest_is_not(number: int, kind: type) -> None:
    error = files.failure("path", "write", OSError(number, os.strerror(number)))
    assert type(error) is kind and error.errno == number
