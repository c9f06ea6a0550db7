"""What is cut because the machine was restarted, and what is never: see "Was power lost?" in ARCHITECTURE."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import logstore
from crash_explorer import boot
from damage import do_salvage
from driver import abandon
from log_tools import batch_bounds, numbered, values
from logstore.errors import DiskFull, StorageFailure
from logstore.format import checkpoint, filename
from logstore.format.filename import PartitionKey
from logstore.storage import files
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from logstore.storage.partition import PartitionLog
from promises import check_verified

BATCH_SIZE = 200


def written(path: Path, count: int = 20) -> DataDir:
    """A directory in use: ``count`` batches, all of them synced, since its last checkpoint."""
    with boot("before"):
        data_dir = DataDir(path)
    data_dir.create_topic("t", 1)
    for value in numbered(0, count, BATCH_SIZE):
        data_dir.log("t").append([value], durability="fsync")
    return data_dir


def flip(path: Path, share: float) -> None:
    log = path / "t_0" / filename.log_name(0)
    data = bytearray(log.read_bytes())
    data[int(len(data) * share)] ^= 4
    log.write_bytes(data)


def opened(path: Path, boot_id: str) -> DataDir:
    with boot(boot_id):
        return DataDir(path)


def test_a_hole_after_a_restart_ends_the_log_and_what_is_behind_it_is_kept(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    flip(tmp_path, 0.5)
    bytes_before = (tmp_path / "t_0" / filename.log_name(0)).read_bytes()
    data_dir = opened(tmp_path, "after")
    log = data_dir.log("t")
    assert values(log) == numbered(0, 10, BATCH_SIZE) and not log.damages
    [kept] = (tmp_path / "t_0" / filename.SALVAGED_DIR).iterdir()
    assert (tmp_path / "t_0" / filename.log_name(0)).read_bytes() + kept.read_bytes() == bytes_before
    data_dir.close()


@pytest.mark.parametrize("boot_id", [None, "before"])
def test_a_hole_is_damage_where_no_restart_is_known_of(
    boot_id: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandon(written(tmp_path))
    flip(tmp_path, 0.5)
    if boot_id is None:
        (tmp_path / filename.BOOT_ID).unlink()
    data_dir = opened(tmp_path, boot_id or "any")
    assert len(data_dir.damages()) == 1 and data_dir.log("t").log_end_offset == 20
    data_dir.close()


def test_what_is_acknowledged_behind_known_damage_is_not_cut_after_a_restart(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    flip(tmp_path, 0.5)
    data_dir = opened(tmp_path, "before")
    assert data_dir.damages()
    assert data_dir.log("t").append([b"behind it"], durability="fsync").base_offset == 20
    abandon(data_dir)
    data_dir = opened(tmp_path, "after")
    log = data_dir.log("t")
    assert len(data_dir.damages()) == 1 and log.log_end_offset == 21 and values(log, 20) == [b"behind it"]
    data_dir.close()


def test_a_restart_says_nothing_of_a_partition_that_comes_only_after_it(tmp_path: Path) -> None:
    """Somebody else's log, to be taken over, whose topic is created when the directory is open."""
    abandon(written(tmp_path / "other"))
    flip(tmp_path / "other", 0.5)
    abandon(written(tmp_path / "data", 1))
    data_dir = opened(tmp_path / "data", "after")
    shutil.copytree(tmp_path / "other" / "t_0", tmp_path / "data" / "u_0")
    data_dir.create_topic("u", 1)
    assert len(data_dir.log("u").damages) == 1 and data_dir.log("u").log_end_offset == 20
    data_dir.close()


def test_a_directory_that_was_closed_may_be_opened_after_any_restart(tmp_path: Path) -> None:
    written(tmp_path).close()
    flip(tmp_path, 0.95)
    data_dir = opened(tmp_path, "after")
    assert len(data_dir.damages()) == 1 and data_dir.log("t").log_end_offset == 20
    data_dir.close()
    with logstore.open(tmp_path) as store:
        assert store.damages()


def test_a_batch_that_salvage_puts_right_is_not_said_to_be_lost_any_more(tmp_path: Path) -> None:
    """An opening had noted its offset as a gap, since the batch's own base offset, which no CRC covers, was wrong."""
    data_dir = written(tmp_path, 5)
    data_dir.log("t").checkpoint()
    data_dir.checkpoints.save()
    abandon(data_dir)
    log = tmp_path / "t_0" / filename.log_name(0)
    data = bytearray(log.read_bytes())
    data[len(data) // 5 * 4 + 7] = 0
    log.write_bytes(data)
    opened(tmp_path, "before").close()
    do_salvage(tmp_path)
    check_verified(tmp_path)
    with logstore.open(tmp_path) as store:
        assert [record.value for record in store.log("t").records(0)] == numbered(0, 5, BATCH_SIZE)


# ------------------------------------------------------------------------------------------------- a new leader's epoch


def epochs(path: Path) -> list[tuple[int, int]]:
    return checkpoint.decode_epochs((path / "t_0" / filename.LEADER_EPOCH_CHECKPOINT).read_bytes())


WRITE_FILE = files.write_file


def full_for_epochs(path: Path, data: bytes, *, sync: bool = True) -> None:
    if path.name == filename.LEADER_EPOCH_CHECKPOINT:
        raise DiskFull(path=str(path), operation="write", errno=errno.ENOSPC, reason="full")
    WRITE_FILE(path, data, sync=sync)


def cut(path: Path, offset: int) -> None:
    """What was written from ``offset`` on, one batch an offset, never came to the disk."""
    log = path / "t_0" / filename.log_name(0)
    os.truncate(log, list(batch_bounds(log))[offset][0])


def test_after_a_restart_a_new_leader_begins_where_the_log_ends_and_its_epoch_is_on_the_disk_first(
    tmp_path: Path,
) -> None:
    abandon(written(tmp_path))
    cut(tmp_path, 5)
    data_dir = opened(tmp_path, "after")
    log = data_dir.log("t")
    assert (log.leader_epoch, log.leader_epochs.entries) == (1, ((0, 0), (1, 5))) and epochs(tmp_path) == [
        (0, 0),
        (1, 5),
    ]
    log.append([b"another"])
    assert [batch.header.partition_leader_epoch for batch in log.batches(4)] == [0, 1]
    data_dir.close()
    check_verified(tmp_path)


def test_the_epoch_of_records_that_were_lost_is_not_given_again(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    for restart, end_offset in enumerate((5, 5, 3), start=1):
        cut(tmp_path, end_offset)
        data_dir = opened(tmp_path, f"restart {restart}")
        log = data_dir.log("t")
        assert log.leader_epoch == restart and epochs(tmp_path)[-1] == (restart, end_offset)
        log.append([b"lost with the next restart"])
        abandon(data_dir)


@pytest.mark.parametrize("boot_id", ["before", "after"])
def test_a_directory_that_was_closed_keeps_its_leader_also_one_that_has_written_nothing(
    boot_id: str, tmp_path: Path
) -> None:
    abandon(written(tmp_path))
    opened(tmp_path, "before, again").close()
    for _ in range(2):
        data_dir = opened(tmp_path, boot_id)
        assert data_dir.log("t").leader_epoch == 1
        data_dir.close()


def test_a_process_that_was_killed_has_lost_nothing_and_its_leader_goes_on(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    data_dir = opened(tmp_path, "before")
    assert data_dir.log("t").leader_epoch == 0
    data_dir.close()


def test_an_end_that_was_cut_has_a_new_leader_also_where_no_power_was_lost(tmp_path: Path) -> None:
    """As after a sync that failed."""
    abandon(written(tmp_path))
    log = tmp_path / "t_0" / filename.log_name(0)
    os.truncate(log, log.stat().st_size - 1)
    data_dir = opened(tmp_path, "before")
    assert data_dir.log("t").leader_epoch == 1 and epochs(tmp_path)[-1] == (1, 19)
    data_dir.close()


def test_a_new_leader_whose_epoch_cannot_be_stored_is_read_and_writes_nothing_before_it_can(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    with mock.patch.object(files, "write_file", full_for_epochs):
        data_dir = opened(tmp_path, "after")
        log = data_dir.log("t")
        assert log.leader_epoch == 1 and len(values(log)) == 20
        for _ in range(2):
            with pytest.raises(DiskFull):
                log.append([b"a"])
    assert log.append([b"a"]).base_offset == 20 and epochs(tmp_path)[-1] == (1, 20)
    data_dir.close()
    check_verified(tmp_path)


def test_a_new_leader_whose_epoch_could_not_be_stored_before_is_stored_before_the_log_is_closed(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    cut(tmp_path, 5)
    with mock.patch.object(files, "write_file", full_for_epochs):
        data_dir = opened(tmp_path, "after")
        with pytest.raises(DiskFull):
            data_dir.log("t").checkpoint()
        with pytest.raises(DiskFull):
            data_dir.close()
    data_dir = opened(tmp_path, "after")
    assert data_dir.log("t").leader_epoch == 1 and epochs(tmp_path)[-1] == (1, 5)
    data_dir.close()
    data_dir = opened(tmp_path, "after")
    assert data_dir.was_clean and data_dir.log("t").leader_epoch == 1
    data_dir.close()


def test_a_process_killed_before_it_could_store_its_epoch_has_not_used_it_up(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    cut(tmp_path, 5)
    with mock.patch.object(files, "write_file", full_for_epochs):
        abandon(opened(tmp_path, "after"))
    data_dir = opened(tmp_path, "after")
    assert data_dir.log("t").leader_epoch == 1 and epochs(tmp_path)[-1] == (1, 5)
    data_dir.close()


def test_an_epoch_whose_storing_was_interrupted_has_not_begun(tmp_path: Path) -> None:
    data_dir = written(tmp_path)
    log = data_dir.log("t")
    log.leader_epoch = 5
    with mock.patch.object(files, "write_file", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        log.append([b"a"])
    assert log.append([b"b"]).base_offset == 20 and epochs(tmp_path)[-1] == (5, 20)
    data_dir.close()


# ------------------------------------------------------------------------------------------ partitions opened later


def opened_without(path: Path, boot_id: str) -> DataDir:
    """A disk that fails lets t_0 not be opened: it is left out."""
    open_log = DataDir._open_log

    def fail(data_dir: DataDir, key: PartitionKey, *arguments: Any, **named: Any) -> PartitionLog:
        if key == ("t", 0):
            raise StorageFailure(path=str(path / "t_0"), operation="open", errno=errno.EIO, reason="no")
        return open_log(data_dir, key, *arguments, **named)

    with mock.patch.object(DataDir, "_open_log", fail):
        data_dir = opened(path, boot_id)
    assert data_dir.left_out() == [("t", 0)]
    return data_dir


def test_damage_that_is_found_late_is_not_taken_for_the_next_power_cuts_doing(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    flip(tmp_path, 0.5)
    data_dir = opened_without(tmp_path, "before")
    log = data_dir.log("t")
    assert log.damages
    assert log.append([b"acknowledged"], durability=Durability.FSYNC).base_offset == 20
    abandon(data_dir)
    data_dir = opened(tmp_path, "after")
    assert data_dir.log("t").log_end_offset == 21
    data_dir.close()


def test_a_boot_in_which_all_were_opened_at_last_is_that_of_the_next_kill(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    data_dir = opened_without(tmp_path, "after")
    assert data_dir.log("t").leader_epoch == 1
    abandon(data_dir)
    data_dir = opened(tmp_path, "after")
    assert data_dir.log("t").leader_epoch == 1
    data_dir.close()


def test_a_topic_that_is_made_anew_after_a_power_cut_has_lost_nothing(tmp_path: Path) -> None:
    abandon(written(tmp_path))
    data_dir = opened(tmp_path, "after")
    data_dir.delete_topic("t")
    data_dir.create_topic("t")
    assert data_dir.log("t").leader_epoch == 0
    data_dir.close()
