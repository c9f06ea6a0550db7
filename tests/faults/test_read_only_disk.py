"""Disks that become read-only, or fail, under a live store: its partitions go offline, and others go on."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import logstore
from disk_image import MakeImage, Mount
from logstore.errors import LogstoreError, PartitionOffline, StorageFailure
from logstore.format import filename
from logstore.storage.data_dir import DataDir
from promises import check_verified


def all_values(data_dir: DataDir) -> list[bytes | None]:
    return [record.value for record in data_dir.log("t").records(0)]


def make_topic(path: Path) -> DataDir:
    """Of two records, one of them on the disk for sure."""
    data_dir = DataDir(path)
    data_dir.create_topic("t")
    data_dir.log("t").append([b"synced"], durability="fsync")
    data_dir.log("t").append([b"cached"])
    return data_dir


def fail_to_write(data_dir: DataDir, reason: str) -> None:
    """It says why, goes offline, and is read all the same."""
    log = data_dir.log("t")
    with pytest.raises(StorageFailure, match=reason) as caught:
        log.append([b"refused"])
    assert str(data_dir.path) in str(caught.value)
    with pytest.raises(PartitionOffline, match=f"{reason}.*open it again to recover"):
        log.append([b"refused"], durability="fsync")
    assert all_values(data_dir) == [b"synced", b"cached"]
    with pytest.raises(StorageFailure, match=reason):
        data_dir.create_topic("another")
    assert [topic.name for topic in data_dir.topics()] == ["t"]


def read_without_writing(path: Path) -> list[bytes | None]:
    with logstore.open(path, read_only=True) as store:
        return [record.value for record in store.log("t").records(0)]


def test_a_disk_that_an_error_made_read_only_takes_its_partitions_offline_and_no_others(
    mount: Mount, make_image: MakeImage, tmp_path: Path
) -> None:
    disk = mount("-o", "loop,errors=remount-ro", make_image("ext4"))
    other = make_topic(tmp_path / "other")
    data_dir = make_topic(disk / "data")
    device = Path(subprocess.run(["findmnt", "-no", "SOURCE", disk], capture_output=True, text=True, check=True).stdout)
    try:
        Path(f"/sys/fs/ext4/{device.name.strip()}/trigger_fs_error").write_text("a test")
    except OSError as error:
        pytest.skip(f"ext4 cannot be told to fail here: {error}")
    fail_to_write(data_dir, "Read-only file system")
    other.log("t").append([b"goes on"], durability="fsync")
    assert all_values(other) == [b"synced", b"cached", b"goes on"]
    with pytest.raises(LogstoreError, match="Read-only file system"):
        data_dir.close()
    other.close()
    with pytest.raises(StorageFailure, match="Read-only file system"):
        DataDir(disk / "data")
    assert read_without_writing(disk / "data") == [b"synced", b"cached"]


def test_a_directory_on_a_read_only_mount_is_refused_to_writers_and_open_to_readers(mount: Mount) -> None:
    disk = mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")
    make_topic(disk / "data").close()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StorageFailure, match=r"data/\.lock: cannot open: Read-only file system"):
        logstore.open(disk / "data")
    with pytest.raises(StorageFailure, match="new: cannot create: Read-only file system"):
        logstore.open(disk / "new")
    assert read_without_writing(disk / "data") == [b"synced", b"cached"]
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    again = DataDir(disk / "data")
    assert again.was_clean and all_values(again) == [b"synced", b"cached"]
    again.close()


def test_a_log_that_may_not_be_changed_takes_its_partition_offline_and_no_other(tmp_path: Path) -> None:
    """``chattr +i``: no permission to open it again, not even for root."""
    if shutil.which("chattr") is None or os.geteuid() != 0:
        pytest.skip("only root can make a file immutable, with chattr")
    path = tmp_path / "data"
    data_dir = make_topic(path)
    data_dir.create_topic("u")
    data_dir.close()
    log_file = path / "t_0" / "00000000000000000000.log"
    made = subprocess.run(["chattr", "+i", log_file], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"files cannot be made immutable here: {made.stderr.strip()}")
    try:
        data_dir = DataDir(path)
        for _ in range(2):
            with pytest.raises((StorageFailure, PartitionOffline), match="Operation not permitted"):
                data_dir.log("t").append([b"refused"])
        assert all_values(data_dir) == [b"synced", b"cached"]
        data_dir.log("u").append([b"goes on"], durability="fsync")
        data_dir.close()
        assert not (path / filename.CLEAN_SHUTDOWN).exists(), "it is not whole, and says so"
    finally:
        subprocess.run(["chattr", "-i", log_file], check=True)
    again = DataDir(path)
    again.log("t").append([b"again"], durability="fsync")
    assert all_values(again) == [b"synced", b"cached", b"again"]
    assert [record.value for record in again.log("u").records(0)] == [b"goes on"]
    again.close()
    check_verified(path)
