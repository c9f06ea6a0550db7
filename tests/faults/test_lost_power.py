"""What is cut because the machine was restarted, and what is never: see "Was power lost?" in ARCHITECTURE."""

import shutil
from pathlib import Path

import pytest

import logstore
from crash_explorer import boot
from damage import do_salvage
from driver import abandon
from log_tools import numbered, values
from logstore.format import filename
from logstore.storage.data_dir import DataDir
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
