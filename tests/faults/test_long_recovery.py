"""The check of one large log: how far it is can be seen, and one that is killed goes on where it was.

Only where nothing is forgotten by that: what is damaged, missing, or not on the disk ends it.
"""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import logstore
from children import run_python
from crash_explorer import BadState, explore, explore_recoveries
from driver import Driver
from log_tools import NOW, crash_copy, log_files, numbered, open_log, values
from logstore.config import StoreConfig
from logstore.errors import DiskFull, PartitionOffline, StorageFailure
from logstore.format import checkpoint, filename
from logstore.storage import checked, files, opening, segment_reader, upkeep
from logstore.storage.checked import Checked
from logstore.storage.data_dir import DataDir
from logstore.storage.offset_checkpoints import OffsetCheckpoints
from logstore.storage.opening import OpeningProgress
from logstore.storage.partition import PartitionLog
from logstore.storage.segment import Segment
from sabotage import without
from workloads import WORKLOADS

BATCHES_A_SEGMENT = 4
SEGMENT_COUNT = 6


@pytest.fixture
def keeps_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each segment's end is a recovery point, if it may be one."""
    monkeypatch.setattr(checked, "_KEPT_SIZE_MIN", 1)


def write_log(directory: Path, segment_count: int = SEGMENT_COUNT) -> PartitionLog:
    """Segments of four batches of two records each, neither closed nor synced."""
    log = open_log(directory, index_interval_bytes=100)
    for number in range(segment_count * BATCHES_A_SEGMENT):
        if number and not number % BATCHES_A_SEGMENT:
            log.roll()
        log.append(numbered(2 * number, 2, 100), timestamps_ms=[NOW + number] * 2)
    return log


def crashed(path: Path, segment_count: int = SEGMENT_COUNT) -> Path:
    """A directory as a crash leaves it, with one partition: its first segment lies below the recovery point."""
    data_dir = DataDir(path.with_name(path.name + ".live"), StoreConfig())
    data_dir.create_topic("t", 1)
    log = data_dir.log("t")
    for number in range(segment_count * BATCHES_A_SEGMENT):
        if number and not number % BATCHES_A_SEGMENT:
            log.roll()
        if number == BATCHES_A_SEGMENT:
            upkeep.checkpoint(data_dir)
        log.append(numbered(2 * number, 2, 16_000))
    shutil.copytree(data_dir.path, path)
    data_dir.close()
    return path


def point(path: Path) -> int:
    return checkpoint.decode_offsets((path / filename.RECOVERY_POINT_CHECKPOINT).read_bytes())["t", 0]


def partition_files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.glob("t_*/*")}


# ------------------------------------------------------------------------------------------------------------- progress


def test_a_recovery_point_promises_nothing_of_segments_whose_names_are_not_on_the_disk(
    tmp_path: Path, keeps_all: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was killed may have begun them, and synced nothing."""
    copy = crash_copy(write_log(tmp_path / "t_0"), tmp_path / "copy")
    steps: list[object] = []
    sync_dir = files.sync_dir

    def note(path: Path) -> None:
        steps.append(path)
        sync_dir(path)

    monkeypatch.setattr(files, "sync_dir", note)
    PartitionLog(copy, on_synced=steps.append)
    points = [index for index, step in enumerate(steps) if isinstance(step, int)]
    assert len(points) == SEGMENT_COUNT - 1
    assert all(steps[index - 1] == copy for index in points)


def test_progress_is_told_within_one_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crashed(tmp_path / "data")
    monkeypatch.setattr(segment_reader, "_TOLD_SIZE", 30_000)
    monkeypatch.setattr(opening, "_REPORT_INTERVAL_S", 0.01)
    told: list[OpeningProgress] = []
    half_way = threading.Event()
    add, steps = Checked.add, []

    def add_and_wait(self: Checked, size: int) -> None:
        add(self, size)
        steps.append(size)
        assert len(steps) != 7 or half_way.wait(20)

    def on_progress(progress: OpeningProgress) -> None:
        told.append(progress)
        if len(steps) == 7:
            half_way.set()

    monkeypatch.setattr(Checked, "add", add_and_wait)
    logstore.open(path, on_progress=on_progress).close()
    within = [progress.checked_size for progress in told if progress.opened_count == 0]
    assert sum(steps[:7]) in within
    assert len(steps) > 2 * SEGMENT_COUNT, "several in each segment"
    assert all(earlier.checked_size <= later.checked_size for earlier, later in pairwise(told))
    assert told[-1].checked_size == told[-1].unchecked_size
    assert sum(steps[:7]) < told[-1].unchecked_size


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_each_byte_that_is_checked_is_told_once(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_reader, "_TOLD_SIZE", step)
    log = crash_copy(write_log(tmp_path / "t_0"), tmp_path / "copy")
    torn = log_files(log)[-1]
    os.truncate(torn, torn.stat().st_size - 5)
    size = sum(file.stat().st_size for file in log_files(log))
    steps: list[int] = []
    again = PartitionLog(log, on_checked=steps.append)
    assert again.log_end_offset == 46
    assert sum(steps) == size
    assert max(steps) < step + 1000 or len(steps) == SEGMENT_COUNT


# -------------------------------------------------------------------------------------------------- up to where it goes


def taken(copy: Path) -> None:
    log_files(copy)[3].unlink()


def flipped(copy: Path) -> None:
    data = bytearray(log_files(copy)[2].read_bytes())
    data[100] ^= 1
    log_files(copy)[2].write_bytes(data)


def torn_in_the_middle(copy: Path) -> None:
    os.truncate(log_files(copy)[2], 300)


def zeros_behind(copy: Path) -> None:
    with log_files(copy)[1].open("ab") as file:
        file.write(bytes(5000))


def nothing(copy: Path) -> None:
    pass


@pytest.mark.usefixtures("keeps_all")
@pytest.mark.parametrize(
    ("harm", "options", "synced"),
    [
        (nothing, {}, [8, 16, 24, 32, 40]),
        (nothing, {"recovery_point": 20}, [24, 32, 40]),
        (nothing, {"has_lost_power": True}, [8, 16, 24, 32, 40]),
        (zeros_behind, {}, [8, 16, 24, 32, 40]),
        (flipped, {}, [8, 16]),
        (flipped, {"has_lost_power": True}, [8, 16]),
        (torn_in_the_middle, {}, [8, 16]),
        (torn_in_the_middle, {"has_lost_power": True}, [8, 16]),
        (taken, {}, [8, 16, 24]),
        (taken, {"has_lost_power": True}, [8, 16, 24]),
        (taken, {"was_compacted": True}, [8, 16, 24, 40]),
    ],
)
def test_recovery_points_go_up_to_the_first_thing_that_is_wrong(
    harm: Callable[[Path], None], options: dict[str, Any], synced: list[int], tmp_path: Path
) -> None:
    live = write_log(tmp_path / "t_0")
    copy = crash_copy(live, tmp_path / "copy")
    harm(copy)
    offsets: list[int] = []
    log = PartitionLog(copy, **options, on_synced=offsets.append)
    assert offsets == synced
    assert log.recovery_point == log.synced_offset == synced[-1]
    # Whoever goes on from any of them finds the same.
    looks = (log.log_end_offset, log.damages, log.view.gaps)
    for number, offset in enumerate(synced):
        again = crash_copy(live, tmp_path / f"again_{number}")
        harm(again)
        found = PartitionLog(again, **{**options, "recovery_point": offset})
        damages = tuple(damage._replace(path=copy / damage.path.name) for damage in found.damages)
        assert (found.log_end_offset, damages, found.view.gaps) == looks


def test_a_check_of_less_than_half_a_gibibyte_is_not_synced_for_the_case_of_a_kill(tmp_path: Path) -> None:
    copy = crash_copy(write_log(tmp_path / "t_0"), tmp_path / "copy")
    log = PartitionLog(copy, on_synced=lambda offset: pytest.fail(f"synced up to {offset}"))
    assert log.recovery_point == 0


def test_recovery_points_are_as_far_apart_as_they_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = crash_copy(write_log(tmp_path / "t_0"), tmp_path / "copy")
    size = log_files(copy)[0].stat().st_size
    monkeypatch.setattr(checked, "_KEPT_SIZE_MIN", 2 * size)
    offsets: list[int] = []
    PartitionLog(copy, on_synced=offsets.append)
    assert offsets == [16, 32]


# ------------------------------------------------------------------------------------------- killed, and started again

KILLED = """
import os, signal, sys
import logstore
from logstore.storage import checked
from logstore.storage.offset_checkpoints import OffsetCheckpoints
checked._KEPT_SIZE_MIN = 1
save, left = OffsetCheckpoints.save_recovery_point, int(sys.argv[2])
def kill(self, *arguments):
    global left
    save(self, *arguments)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
OffsetCheckpoints.save_recovery_point = kill
logstore.open(sys.argv[1]).close()
"""


@pytest.mark.parametrize("has_lost_power", [False, True])
@pytest.mark.parametrize("kept", [1, 3])
def test_a_recovery_that_is_killed_in_the_middle_of_a_partition_goes_on_there(
    kept: int, has_lost_power: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "data")
    if has_lost_power:
        (path / filename.BOOT_ID).write_text("another boot")
    expected = shutil.copytree(path, tmp_path / "never killed")
    logstore.open(expected).close()
    assert point(path) == 8
    run_python(KILLED, path, kept, status=-signal.SIGKILL)
    assert point(path) == 8 + 8 * kept
    sizes: list[int] = []
    monkeypatch.setattr(Checked, "add", lambda self, size: sizes.append(size))
    logstore.open(path).close()
    assert len(sizes) == SEGMENT_COUNT - 1 - kept
    assert partition_files(path) == partition_files(expected)
    with logstore.open(path) as store:
        assert values(store.log("t")) == numbered(0, 48, 16_000)


def test_a_recovery_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    path = crashed(tmp_path / "data")
    for number in range(1, SEGMENT_COUNT - 1):
        run_python(KILLED, path, 1, status=-signal.SIGKILL)
        assert point(path) == 8 + 8 * number
    with logstore.open(path) as store:
        assert values(store.log("t")) == numbered(0, 48, 16_000)


# -------------------------------------------------------------------------------------------------- what is on the disk


def killed_and_recovered(driver: Driver) -> None:
    """Nothing is synced before the process is killed; the recovery is what makes it durable."""
    driver.create(segment_bytes=400, index_interval_bytes=100)
    for _ in range(5):
        driver.append(1, size=150)
    driver.abandon()
    again = Driver(driver.path, driver.journal, first_number=100)
    again.append(1, size=150)
    again.append(1, fsync=True)
    again.abandon()
    driver._data_dir = None


@pytest.fixture
def quiet() -> Iterator[None]:
    """Recovery says what it cuts, hundreds of times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("keeps_all", "quiet")
def test_power_that_is_lost_during_a_recovery_after_a_kill_loses_nothing_below_its_points(memory_dir: Path) -> None:
    explored = explore("killed", killed_and_recovered, memory_dir, states_a_moment_max=4)
    assert explored.recovered > 20


@pytest.mark.usefixtures("keeps_all", "quiet")
def test_a_recovery_point_that_comes_before_the_sync_is_found(memory_dir: Path) -> None:
    with without("sync < Segment.sync < Checked._sync"), pytest.raises(BadState):
        explore("killed", killed_and_recovered, memory_dir, states_a_moment_max=4)


@pytest.mark.usefixtures("keeps_all", "quiet")
@pytest.mark.parametrize("name", ["rolls", "producers"])
def test_power_lost_again_while_recovery_points_move_loses_no_more(name: str, memory_dir: Path) -> None:
    explored = explore_recoveries(name, WORKLOADS[name], memory_dir, seed=5, count=2, states_a_moment_max=4)
    assert explored.recovered > 20


@pytest.mark.usefixtures("keeps_all")
def test_a_full_disk_keeps_no_large_log_from_being_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = crashed(tmp_path / "data")

    def fail(*_: object) -> None:
        raise DiskFull("a checkpoint", "write", 28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(OffsetCheckpoints, "save_recovery_point", fail)
        store = logstore.open(path)
        assert store.log("t").log_end_offset == 48
        assert point(path) == 8
    assert "its recovery point 16 is not recorded yet: a checkpoint" in caplog.text
    assert store.log("t").recovery_point == 40, "what was synced need not be synced again"
    store.close()
    assert point(path) == 48


@pytest.mark.usefixtures("keeps_all")
def test_an_index_that_is_in_memory_only_is_not_below_a_recovery_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = crash_copy(write_log(tmp_path / "t_0"), tmp_path / "copy")
    write_file = files.write_file

    def fail(path: Path, data: bytes, **named: Any) -> None:
        if path.name == filename.index_name(16):
            raise DiskFull(str(path), "write", 28, "No space left on device")
        write_file(path, data, **named)

    monkeypatch.setattr(files, "write_file", fail)
    offsets: list[int] = []
    log = PartitionLog(copy, on_synced=offsets.append)
    assert offsets == [8, 16]
    assert values(log) == numbered(0, 48, 100)


@pytest.mark.usefixtures("keeps_all")
def test_a_sync_that_fails_in_a_recovery_takes_the_log_offline_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "data")
    sync = files.File.sync

    def fail(file: files.File) -> None:
        if file.path.name == filename.log_name(16):
            raise StorageFailure(str(file.path), "sync", 5, "Input/output error")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(files.File, "sync", fail)
        store = logstore.open(path)
    log = store.log("t")
    assert values(log) == numbered(0, 48, 16_000)
    with pytest.raises(PartitionOffline, match="Input/output error"):
        log.append([b"x"])
    store.close()
    assert point(path) == 16
    assert not (path / filename.CLEAN_SHUTDOWN).exists()
    with logstore.open(path) as store:
        store.log("t").append([b"x"])
        assert store.log("t").log_end_offset == 49


@pytest.mark.usefixtures("keeps_all")
def test_a_log_that_cannot_be_opened_to_be_synced_is_tried_at_the_next_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = crash_copy(write_log(tmp_path / "t_0"), tmp_path / "copy")
    offsets: list[int] = []
    failures = iter([StorageFailure("a log", "open", 24, "Too many open files")])
    sync = Segment.sync

    def fail_once(segment: Segment) -> None:
        for failure in failures:
            raise failure
        sync(segment)

    monkeypatch.setattr(Segment, "sync", fail_once)
    log = PartitionLog(copy, on_synced=offsets.append)
    assert offsets == [16, 24, 32, 40]
    log.append([b"x"])


def test_a_producer_snapshot_that_a_power_cut_tore_is_dropped_wherever_it_is(tmp_path: Path) -> None:
    copy = crash_copy(write_log(tmp_path / "t_0"), tmp_path / "copy")
    torn = copy / filename.snapshot_name(16)
    torn.write_bytes(torn.read_bytes()[:-1])
    log = PartitionLog(copy, recovery_point=24, has_lost_power=True)
    assert values(log) == numbered(0, 48, 100)
    assert not torn.exists()
    assert (copy / filename.snapshot_name(24)).exists()
