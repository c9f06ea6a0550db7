"""What opening costs after a clean and an unclean end, and what is left of it when it is interrupted.

Cost is counted in bytes that are read of logs, and so is the same on every machine.
"""

import logging
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import logstore
from children import environment, run_python
from logstore.config import StoreConfig
from logstore.errors import StorageFailure
from logstore.format import checkpoint, filename
from logstore.storage import files, opening, owned_log, upkeep
from logstore.storage.data_dir import DataDir
from logstore.storage.offset_checkpoints import OffsetCheckpoints
from logstore.storage.opening import OpeningProgress
from logstore.storage.partition import PartitionLog
from logstore.storage.recovery import recover

BATCH_SIZE = 1024  # about
MARKER = filename.CLEAN_SHUTDOWN


def batches(log: PartitionLog, count: int) -> None:
    for number in range(count):
        log.append([b"%d" % number, bytes(BATCH_SIZE - 100)], timestamps_ms=1_700_000_000_000 + log.log_end_offset)


def crashed(path: Path, checked: int, *unchecked: int) -> Path:
    """A directory as a crash leaves it: its partitions have ``checked`` batches below the recovery point, and behind it
    as many as ``unchecked`` says."""
    data_dir = DataDir(path.with_name(path.name + ".live"), StoreConfig())
    data_dir.create_topic("t", len(unchecked), {"segment.bytes": 512 << 10})
    for _, log in data_dir.logs():
        batches(log, checked)
    upkeep.checkpoint(data_dir)
    for (_, log), count in zip(data_dir.logs(), unchecked, strict=True):
        batches(log, count)
    shutil.copytree(data_dir.path, path)
    data_dir.close()
    return path


def points(path: Path) -> list[int]:
    recorded = checkpoint.decode_offsets((path / filename.RECOVERY_POINT_CHECKPOINT).read_bytes())
    return [recorded[key] for key in sorted(recorded)]


def partition_files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.glob("t_*/*")}


def log_ends(path: Path) -> list[int]:
    with logstore.open(path) as store:
        return [store.log("t", number).log_end_offset for number in range(store.topic("t").partitions)]


class Reads:
    """The bytes that are read of log files, and the partitions that they are read of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: dict[str, int] = {}
        read_at = files.File.read_at

        def count(file: files.File, position: int, size: int) -> bytes:
            data = read_at(file, position, size)
            if file.path.suffix == ".log":
                name = file.path.parent.name
                self.sizes[name] = self.sizes.get(name, 0) + len(data)
            return data

        monkeypatch.setattr(files.File, "read_at", count)

    def of_opening(self, path: Path) -> dict[str, int]:
        self.sizes.clear()
        store = logstore.open(path)
        sizes = dict(self.sizes)
        store.close()
        return sizes


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def keeps_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery points are recorded after each partition that had anything to check."""
    monkeypatch.setattr(opening, "_LOOKED_UP_SIZE_MIN", 1)
    monkeypatch.setattr(opening, "_KEPT_SIZE_MIN", 1)
    monkeypatch.setattr(opening, "_KEEP_INTERVAL_SIZE", 1)


# ------------------------------------------------------------------------------------------------------------- the cost

TAIL_SIZE = 32 << 10  # a look at the end of a log: from its last index entry, and what a read takes with it


def test_opening_what_was_closed_cleanly_reads_the_ends_of_the_logs_only(tmp_path: Path, reads: Reads) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t", 2, segment_bytes=512 << 10)
        for number in range(2):
            batches(store.log("t", number), 2_000)
    sizes = reads.of_opening(tmp_path)
    assert sizes.keys() == {"t_0", "t_1"}
    assert all(0 < size <= TAIL_SIZE for size in sizes.values())


def test_opening_after_a_crash_reads_what_is_behind_the_recovery_points(tmp_path: Path, reads: Reads) -> None:
    path = crashed(tmp_path / "data", 2_000, 0, 400)
    sizes = reads.of_opening(path)
    assert sizes["t_0"] <= TAIL_SIZE
    # Once for the check, once for what it says of producers.
    assert 400 * BATCH_SIZE <= sizes["t_1"] <= 2 * 400 * BATCH_SIZE + 2 * TAIL_SIZE
    assert log_ends(path) == [4_000, 4_800]
    assert max(reads.of_opening(path).values()) <= TAIL_SIZE  # it is clean by now


@pytest.mark.parametrize("at", range(34, 45))
def test_the_largest_timestamp_is_known_after_a_crash_wherever_it_is(at: int, tmp_path: Path) -> None:
    """Also where it is below the recovery point, and in a batch that no index entry is made for."""
    data_dir = DataDir(tmp_path / "live", StoreConfig())
    data_dir.create_topic("t")
    log = data_dir.log("t")
    for number in range(42):
        log.append([bytes(900)], timestamps_ms=1_000_000 if number == at else number)
    upkeep.checkpoint(data_dir)
    log.append([bytes(900)], timestamps_ms=1_000_000 if at >= 42 else 42)
    shutil.copytree(data_dir.path, tmp_path / "data")
    data_dir.close()
    with logstore.open(tmp_path / "data") as store:
        found = store.log("t").offset_for_time(1_000_000)
        assert found is not None
        assert found.offset == min(at, 42)


MANY = """
import logstore, resource, sys
from logstore.storage import files
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
count, read_at, sizes = int(sys.argv[2]), files.File.read_at, []
def measured(file, position, size):
    data = read_at(file, position, size)
    sizes.append(len(data))
    return data
files.File.read_at = measured
with logstore.open(sys.argv[1]) as store:
    size, calls = sum(sizes), len(sizes)
    logs = [store.log("t", number) for number in range(count)]
    assert {log.log_end_offset for log in logs} == {1}
    for log in logs[::7]:
        log.append([b"x"])
with logstore.open(sys.argv[1]) as store:
    for number in range(0, count, 7):
        assert [record.value for record in store.log("t", number).records(0)] == [b"first", b"x"]
print(size // count, calls // count)
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ten_thousand_partitions_open_within_1024_descriptors(tmp_path: Path) -> None:
    count = 10_000
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        store.log("t").append([b"first"])
    for number in range(1, count):
        shutil.copytree(tmp_path / "t_0", tmp_path / f"t_{number}")
    properties = tmp_path / filename.TOPICS_DIR / "t" / filename.TOPIC_PROPERTIES
    properties.write_bytes(properties.read_bytes().replace(b"partitions=1\n", b"partitions=%d\n" % count))
    ends = {("t", number): 1 for number in range(count)}
    (tmp_path / filename.RECOVERY_POINT_CHECKPOINT).write_bytes(checkpoint.encode_offsets(ends))
    done = run_python(MANY, tmp_path, count)
    size, calls = map(int, done.stdout.split())
    assert size <= 400
    assert calls <= 6


# ---------------------------------------------------------------------------------------------------- several at a time


def test_as_many_partitions_as_there_are_threads_are_opened_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "data", 1, 1, 1, 1)
    together = threading.Barrier(3)
    met: list[int] = []

    def meet(*arguments: Any, **named: Any) -> object:
        met.append(together.wait(20))  # which breaks where the others do not come
        return recover(*arguments, **named)

    monkeypatch.setattr(owned_log, "recover", meet)
    logstore.open(path, num_recovery_threads_per_data_dir=3).close()
    assert sorted(met) == [0, 1, 2]


def test_many_threads_leave_what_one_leaves(tmp_path: Path) -> None:
    path = crashed(tmp_path / "data", 30, *range(1, 13))
    for number in (3, 7):  # torn, and damaged
        log = max((path / f"t_{number}").glob("*.log"))
        data = log.read_bytes()
        log.write_bytes(data[:-5] if number == 3 else data[:33_500] + b"!" + data[33_501:])
    outcomes = []
    for threads in (1, 4):
        copy = shutil.copytree(path, tmp_path / str(threads))
        with logstore.open(copy, num_recovery_threads_per_data_dir=threads) as store:
            ends = [store.log("t", number).log_end_offset for number in range(12)]
            damages = [damage.damage for damage in store.damages()]
        outcomes.append((ends, damages, partition_files(copy)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == [60 + 2 * unchecked - 2 * (unchecked == 4) for unchecked in range(1, 13)]
    assert len(outcomes[0][1]) == 1


def test_the_partition_with_most_to_check_is_begun_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crashed(tmp_path / "data", 1_100, 10, 1_500, 0, 300)
    begun = []

    def note(directory: Path, *arguments: Any, **named: Any) -> object:
        begun.append(directory.name)
        return recover(directory, *arguments, **named)

    monkeypatch.setattr(owned_log, "recover", note)
    logstore.open(path, num_recovery_threads_per_data_dir=1).close()
    assert begun == ["t_1", "t_3", "t_0", "t_2"]


# ------------------------------------------------------------------------------------------- killed, and started again

KILLED = """
import os, signal, sys
import logstore
from logstore.storage import opening
opening._LOOKED_UP_SIZE_MIN = opening._KEEP_INTERVAL_SIZE = 1
opening._KEPT_SIZE_MIN = 8192  # more than there is behind the last index entry
keep, left = opening.Opening._keep, int(sys.argv[2])
def kill(self, *arguments):
    global left
    keep(self, *arguments)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
opening.Opening._keep = kill
logstore.open(sys.argv[1], num_recovery_threads_per_data_dir=int(sys.argv[3])).close()
"""


@pytest.mark.parametrize(("opened", "threads"), [(1, 1), (3, 1), (4, 1), (2, 2)])
def test_a_recovery_that_is_killed_and_started_again_goes_on(
    opened: int, threads: int, tmp_path: Path, reads: Reads
) -> None:
    path = crashed(tmp_path / "data", 100, 200, 200, 200, 200)
    expected = shutil.copytree(path, tmp_path / "never killed")
    whole = reads.of_opening(expected)
    run_python(KILLED, path, opened, threads, status=-signal.SIGKILL)
    again = reads.of_opening(path)
    checked_again = [name for name, size in again.items() if size >= 200 * BATCH_SIZE]
    assert len(checked_again) <= 4 - opened
    assert sum(again.values()) <= sum(whole.values()) * (4 - opened) / 4 + 4 * TAIL_SIZE
    assert partition_files(path) == partition_files(expected)
    assert log_ends(path) == [600] * 4


def test_a_recovery_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    path = crashed(tmp_path / "data", 10, 20, 20, 20)
    for round_number in range(1, 4):
        run_python(KILLED, path, 1, 1, status=-signal.SIGKILL)
        assert sorted(points(path)) == [20] * (3 - round_number) + [60] * round_number
    assert log_ends(path) == [60] * 3


@pytest.mark.usefixtures("keeps_all")
def test_what_was_found_damaged_on_the_way_is_found_again(tmp_path: Path) -> None:
    path = crashed(tmp_path / "data", 10, 50, 50)
    log = path / "t_0" / filename.log_name(0)
    data = log.read_bytes()
    log.write_bytes(data[:30_000] + b"!" + data[30_001:])
    live = shutil.copytree(path, tmp_path / "live")
    store = logstore.open(live)
    found = [damage.damage for damage in store.damages()]
    assert len(found) == 1
    assert points(live) == [120, 120], "what is damaged must not be taken for a power cut's doing later"
    killed = shutil.copytree(live, tmp_path / "killed")
    store.close()
    with logstore.open(killed) as store:
        assert [damage.damage for damage in store.damages()] == found
        assert store.log("t", 0).log_end_offset == 120


def test_a_short_recovery_syncs_nothing_for_the_case_of_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crashed(tmp_path / "data", 10, 500, 500)
    monkeypatch.setattr(PartitionLog, "checkpoint", lambda log: pytest.fail("it was synced"))
    before = points(path)
    store = logstore.open(path)
    assert points(path) == before
    store.close()


@pytest.mark.parametrize(("size_min", "interval_size", "syncs"), [(1, 400_000, 4), (1, 200_000, 6), (150_000, 1, 0)])
def test_recovery_points_are_recorded_after_so_many_bytes_and_of_long_checks_only(
    size_min: int, interval_size: int, syncs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "data", 10, *[100] * 6)  # about 100 KiB behind each recovery point, 110 KiB in all
    monkeypatch.setattr(opening, "_KEPT_SIZE_MIN", size_min)
    monkeypatch.setattr(opening, "_KEEP_INTERVAL_SIZE", interval_size)
    synced = []
    checkpoint_log = PartitionLog.checkpoint

    def note(log: PartitionLog) -> int:
        synced.append(log)
        return checkpoint_log(log)

    monkeypatch.setattr(PartitionLog, "checkpoint", note)
    store = logstore.open(path)
    assert len(synced) == syncs
    assert points(path).count(220) == syncs
    store.close()


@pytest.mark.usefixtures("keeps_all")
def test_a_full_disk_does_not_keep_a_recovery_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = crashed(tmp_path / "data", 10, 20, 20)

    def fail(checkpoints: OffsetCheckpoints) -> None:
        raise StorageFailure("a checkpoint", "write", 28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(OffsetCheckpoints, "save", fail)
        store = logstore.open(path)
        assert [store.log("t", number).log_end_offset for number in range(2)] == [60, 60]
        assert points(path) == [20, 20]
    warnings = [record.getMessage() for record in caplog.records if "recovery points" in record.getMessage()]
    assert warnings
    assert all(warning.startswith("recovery points are not recorded yet: a checkpoint") for warning in warnings)
    store.close()


# ---------------------------------------------------------------------------------------------------------- interrupted


@contextmanager
def interrupted_in(place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[OpeningProgress], None]]:
    """While it lasts, opening is interrupted when the second partition is begun: in the thread that called for it,
    or in the one that opens the partition. Gives what is to be told of progress."""
    begun = threading.Event()
    interrupted = threading.Event()
    count = 0

    def interrupt(*arguments: Any, **named: Any) -> object:
        nonlocal count
        count += 1
        if count == 2:
            if place == "worker":
                raise KeyboardInterrupt
            begun.set()
            in_caller = threading.current_thread() is threading.main_thread()  # then it is told when this is done
            interrupted.wait(0.05 if in_caller else 20)
        return recover(*arguments, **named)

    def on_progress(progress: OpeningProgress) -> None:
        if begun.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owned_log, "recover", interrupt)
        patch.setattr(opening, "_REPORT_INTERVAL_S", 0.01)
        yield on_progress


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("was_clean", [False, True])
@pytest.mark.parametrize("place", ["caller", "worker"])
def test_an_interrupted_opening_lets_go_of_all_and_is_done_again(
    place: str, was_clean: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: Reads
) -> None:
    path = crashed(tmp_path / "data", 100, 50, 50, 50, 50)
    if was_clean:
        logstore.open(path).close()
    expected = shutil.copytree(path, tmp_path / "never interrupted")
    before = partition_files(path)
    open_count = descriptors()
    with interrupted_in(place, monkeypatch) as on_progress, pytest.raises(KeyboardInterrupt):
        logstore.open(path, on_progress=on_progress, num_recovery_threads_per_data_dir=1)
    assert descriptors() == open_count
    assert not [thread for thread in threading.enumerate() if "logstore" in thread.name]
    if place == "caller":  # those that had not been begun never were
        after = partition_files(path)
        assert all(after[name] == data for name, data in before.items() if not name.startswith(("t_0", "t_1")))
    again = reads.of_opening(path)
    if was_clean:
        assert max(again.values()) <= TAIL_SIZE
    logstore.open(expected).close()
    assert partition_files(path) == partition_files(expected)
    assert (path / MARKER).exists()


INTERRUPTED = """
import os, signal, sys, time
import logstore
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
from logstore.storage import owned_log
recover, seen = owned_log.recover, []
def slow(directory, *arguments, **named):
    seen.append(directory.name)
    if len(seen) == 3:
        for _ in range(3):  # whoever presses it once may press it again
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
    found = recover(directory, *arguments, **named)
    seen.append("done")
    return found
owned_log.recover = slow
try:
    logstore.open(sys.argv[1], num_recovery_threads_per_data_dir=1)
except KeyboardInterrupt:
    assert len(seen) == 4, seen  # the one under way was finished, no other begun
    logstore.open(sys.argv[1], num_recovery_threads_per_data_dir=2).close()
    print("opened again")
"""


def test_ctrl_c_however_often_waits_for_the_partition_under_way_and_no_other(tmp_path: Path) -> None:
    path = crashed(tmp_path / "data", 10, 5, 5, 5, 5)
    assert run_python(INTERRUPTED, path).stdout == "opened again\n"
    assert log_ends(path) == [30] * 4


# ------------------------------------------------------------------------------------------------------------- progress


def test_progress_is_told_while_partitions_are_opened_and_when_all_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crashed(tmp_path / "data", 10, 100, 50, 25)
    told: list[OpeningProgress] = []
    half_way = threading.Event()

    def wait_for_progress(directory: Path, *arguments: Any, **named: Any) -> object:
        assert directory.name != "t_2" or half_way.wait(20)
        return recover(directory, *arguments, **named)

    def on_progress(progress: OpeningProgress) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(progress)
        if progress.opened_count == 2:
            half_way.set()

    monkeypatch.setattr(owned_log, "recover", wait_for_progress)
    monkeypatch.setattr(opening, "_REPORT_INTERVAL_S", 0.01)
    logstore.open(path, on_progress=on_progress, num_recovery_threads_per_data_dir=1).close()
    assert half_way.is_set()
    waiting = next(progress for progress in told if progress.opened_count == 2)
    assert waiting.name == "t_2"
    assert 170 * BATCH_SIZE * 0.9 <= waiting.checked_size < waiting.unchecked_size  # the logs are small: taken whole
    assert all(earlier[0] <= later[0] and earlier[2] <= later[2] for earlier, later in pairwise(told))
    last = told[-1]
    assert (last.opened_count, last.partition_count, last.checked_size) == (3, 3, last.unchecked_size)
    assert last.elapsed_s > 0


def test_a_partition_that_cannot_be_opened_counts_as_done(tmp_path: Path) -> None:
    path = crashed(tmp_path / "data", 10, 5, 5)
    shutil.rmtree(path / "t_0")
    (path / "t_0").write_bytes(b"a file in its place")
    told: list[OpeningProgress] = []
    with logstore.open(path, on_progress=told.append) as store:
        assert store.log("t", 1).log_end_offset == 30
    assert told[-1][:2] == (2, 2)


def test_the_log_says_what_an_unclean_opening_has_done_and_nothing_of_a_clean_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = crashed(tmp_path / "data", 10, 5, 5)
    size = sum(file.stat().st_size for file in path.glob("t_*/*.log"))
    with caplog.at_level(logging.INFO, "logstore.storage"):
        logstore.open(path).close()
        unclean = [record.getMessage() for record in caplog.records]
        caplog.clear()
        logstore.open(path).close()
    assert len(unclean) == 1
    assert f"not closed cleanly: opened 2 of 2 partitions, checked {size} bytes, found 0 damages" in unclean[0]
    assert not caplog.records


def test_a_long_opening_says_in_the_log_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = crashed(tmp_path / "data", 10, 5)
    told = threading.Event()

    def wait_until_told(*arguments: Any, **named: Any) -> object:
        assert told.wait(20)
        return recover(*arguments, **named)

    monkeypatch.setattr(owned_log, "recover", wait_until_told)
    monkeypatch.setattr(opening, "_REPORT_INTERVAL_S", 0.01)
    monkeypatch.setattr(opening, "_LOG_INTERVAL_S", 0.0)

    def on_progress(_: OpeningProgress) -> None:
        if caplog.records:
            told.set()

    with caplog.at_level(logging.INFO, "logstore.storage"):
        logstore.open(path, on_progress=on_progress).close()
    assert "opened 0 of 1 partitions, checked 0 of " in caplog.records[0].getMessage()
    assert "t_0 is under way" in caplog.records[0].getMessage()


ON_A_TERMINAL = """
import sys
from logstore.cli import main, options
options._OPENING_IS_SLOW_S = float(sys.argv[2])
main(["topic", "alter", "t", "--set", "retention.ms=1000", "--data", sys.argv[1]])
"""


@pytest.mark.parametrize(("slow_s", "is_shown"), [(0.0, True), (1e9, False)])
def test_the_command_line_shows_a_slow_opening_on_a_terminal(slow_s: float, is_shown: bool, tmp_path: Path) -> None:
    path = crashed(tmp_path / "data", 10, 5, 5)
    own, terminal = pty.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL, str(path), str(slow_s)]
    on_terminal = {**environment(), "TERM": "xterm", "COLUMNS": "200"}
    try:
        subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, env=on_terminal, timeout=60, check=True)
        os.set_blocking(own, False)
        try:
            shown = os.read(own, 65_536).decode()
        except BlockingIOError:
            shown = ""
    finally:
        os.close(own)
        os.close(terminal)
    assert ("2 of 2 partitions" in shown) == is_shown
    assert shown.endswith("\x1b[2K") or not is_shown  # the line is taken away again


def test_the_command_line_shows_no_progress_where_nobody_looks(tmp_path: Path) -> None:
    path = crashed(tmp_path / "data", 10, 5, 5)
    assert run_python(ON_A_TERMINAL, path, 0).stderr == ""
