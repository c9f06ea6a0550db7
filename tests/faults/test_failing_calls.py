"""Every call to the system fails once, or from some moment on: EIO, ENOSPC, EMFILE, ENOMEM, EROFS, short, Ctrl-C.

The workloads are those of the crash-state explorer. Each run lets one call of one of them fail, looks at what the
failure has left, and goes on (see ``survivor``). A *place* is a call with the functions of the engine that led to it:
each is tried once, where it is first reached; the fast sweeps try every n-th.
"""

import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

from driver import Driver, Journal
from failing_os import (
    CTRL_C,
    DEAD_DISK,
    EIO_ONCE,
    FAILED_SYNC,
    FULL_DISK,
    FULL_ONCE,
    NO_DESCRIPTOR,
    NO_DESCRIPTOR_ONCE,
    NO_MEMORY,
    READ_ONLY_DISK,
    SHORT,
    SHORT_ONCE,
    FailingCalls,
    Fault,
)
from logstore.errors import LogstoreError
from logstore.storage.data_dir import DataDir
from promises import BrokenPromise, Promises, demand
from survivor import Survivor, leaving_nothing_behind
from workloads import WORKLOADS

Place = tuple[str, ...]


class Heard(logging.Handler):
    """What the engine has logged, as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        # Others keep the record, and so the error, its frames, and the files that are open in them.
        record.msg, record.args = record.getMessage(), ()


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler = Heard()
    logging.getLogger("logstore").addHandler(handler)
    yield handler
    logging.getLogger("logstore").removeHandler(handler)


# --------------------------------------------------------------------------------------------- a call of a workload


@leaving_nothing_behind()
def survive(workload: str, calls: FailingCalls, root: Path) -> Survivor:
    survivor = Survivor(root / "data", calls)
    with calls:
        WORKLOADS[workload](survivor)
        survivor.finish()
    return survivor


def places_of(workload: str, fault: Fault, root: Path) -> list[Place]:
    """Where the fault can hit, call by call."""
    calls = FailingCalls(fault)
    survive(workload, calls, root)
    shutil.rmtree(root / "data")
    return calls.places


def new_places(fault: Fault, root: Path, every: int) -> Iterator[tuple[str, int, Place]]:
    """Workload, call and place of every ``every``-th place."""
    seen: dict[Place, None] = {}
    for workload in WORKLOADS:
        for at, place in enumerate(places_of(workload, fault, root)):
            if place not in seen:
                seen[place] = None
                if len(seen) % every == 0:
                    yield workload, at, place


def is_let_go(place: Place) -> bool:
    """Whether it is a descriptor that is closed by itself: there is nobody to be told. When that happens is the garbage
    collector's to say, so it may be another call than the last time that had the same number."""
    return place[0] == "close" and place[1].startswith("File.__del__")


def sweep(fault: Fault, root: Path, heard: Heard, every: int) -> int:
    """How many calls have failed. Raises BrokenPromise."""
    count = 0
    for workload, at, place in new_places(fault, root, every):
        heard.messages.clear()
        calls = FailingCalls(fault, at)
        try:
            survivor = survive(workload, calls, root)
            demand(fault.number != 0 or not survivor.failures, f"it was no failure: {survivor.failures}")
            is_told = (
                survivor.failures or heard.messages or fault.number == 0 or is_let_go((calls.places[at:] or [place])[0])
            )
            demand(is_told or not calls.failed, "a failure that nobody is told of")
        except (BrokenPromise, LogstoreError, AssertionError) as error:
            raise BrokenPromise(f"{fault.name} at call {at} of {workload}, {place}: {error!r}") from error
        count += bool(calls.failed)
        shutil.rmtree(root / "data")
    print(f"{count} runs with {fault.name}")
    return count


FAULTS = {
    EIO_ONCE: (60, 1),  # of how many places one is tried: by default, in the slow sweep
    DEAD_DISK: (80, 3),
    READ_ONLY_DISK: (60, 2),
    FULL_DISK: (6, 1),
    FULL_ONCE: (12, 1),
    NO_DESCRIPTOR: (40, 1),
    NO_DESCRIPTOR_ONCE: (40, 2),
    NO_MEMORY: (40, 3),
    SHORT_ONCE: (12, 2),
    CTRL_C: (80, 3),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_call_that_fails_loses_and_doubles_nothing_and_the_store_goes_on(
    fault: Fault, memory_dir: Path, heard: Heard
) -> None:
    assert sweep(fault, memory_dir, heard, FAULTS[fault][0]) > 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_any_call_that_fails_loses_and_doubles_nothing_and_the_store_goes_on(
    fault: Fault, memory_dir: Path, heard: Heard
) -> None:
    assert sweep(fault, memory_dir, heard, FAULTS[fault][1]) > 5


# ----------------------------------------------------------------------------------------------------- fsync that fails


def test_fsync_that_fails_once_with_eio_gives_no_ack_and_stops_the_partition_until_reopened(
    memory_dir: Path, heard: Heard
) -> None:
    """What "stops" means is looked at for each partition that a failure has taken offline: see Survivor."""
    assert sweep(FAILED_SYNC, memory_dir, heard, every=8) > 8
    offline = []
    for at in range(11, 40, 4):
        survivor = survive("rolls", FailingCalls(FAILED_SYNC, at), memory_dir)
        offline += survivor.offline
        shutil.rmtree(memory_dir / "data")
    assert offline and all("cannot sync" in reason for reason in offline)


def lose_what_a_failed_sync_was_to_save(workload: str, at: int, root: Path) -> bool:
    """The kernel drops what it could not write, and says so once. Whoever asks again hears that all is well."""
    calls = FailingCalls(FAILED_SYNC, at)
    driver = Driver(root / "data", Journal())
    partition = ("a", 0) if workload == "topics" else ("t", 0)
    steps: list[Callable[[], None]] = [
        lambda: WORKLOADS[workload](driver),
        lambda: driver.append(fsync=True, partition=partition),
        lambda: driver.flush(*partition),
        driver.checkpoint,
        driver.close,
    ]
    with calls:
        for step in steps:
            with suppress(LogstoreError):
                step()
    for path in (root / "data").rglob("*"):
        if path.is_file() and path.stat().st_ino in calls.lost:
            path.write_bytes(calls.lost[path.stat().st_ino])
    data_dir = DataDir(root / "data", driver.config, now_ms=driver.clock)
    try:
        check_what_was_durable(data_dir, Promises.of(driver.journal.until(0)))
    finally:
        data_dir.close()
    return bool(calls.failed)


def check_what_was_durable(data_dir: DataDir, promises: Promises) -> None:
    topics = {topic.name for topic in data_dir.topics()}
    for key, promise in promises.logs.items():
        if not promise.known or (key[0] not in topics and None in promises.states[key[0]]):
            continue
        log = data_dir.log(*key)
        demand(log.log_end_offset >= promise.durable_end, f"{key} ends at {log.log_end_offset}")
        for offset, value in promise.known.items():
            if max(promise.start_max, log.log_start_offset) <= offset < promise.durable_end:
                record = next(iter(log.records(offset)))
                is_kept = (record.offset, record.value) == (offset, value)
                demand(is_kept or promise.is_compacted, f"{key}: {record} where {value[:40]!r} was durable")


def sweep_lost_syncs(workload: str, root: Path, every: int) -> int:
    """How many syncs the workload has."""
    for at in range(0, 1000, every):
        has_failed = lose_what_a_failed_sync_was_to_save(workload, at, root)
        shutil.rmtree(root / "data")
        if not has_failed:
            return at
    raise BrokenPromise(f"{workload} goes on syncing")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_what_was_acknowledged_as_durable_is_there_when_a_sync_that_failed_lost_data(
    workload: str, memory_dir: Path
) -> None:
    assert sweep_lost_syncs(workload, memory_dir, every=14) > 14


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
def test_what_was_acknowledged_as_durable_is_there_whichever_sync_failed_and_lost_data(
    workload: str, memory_dir: Path
) -> None:
    assert sweep_lost_syncs(workload, memory_dir, every=1) > 14


# ------------------------------------------------------------------------------------------------- reads and writes


@pytest.mark.parametrize("workload", WORKLOADS)
def test_reads_and_writes_that_are_all_short_change_nothing(workload: str, memory_dir: Path) -> None:
    calls = FailingCalls(SHORT, 0)
    assert not survive(workload, calls, memory_dir).failures and len(calls.failed) > 10


def test_signals_during_any_call_change_nothing(memory_dir: Path) -> None:
    """Python goes on with a call that a signal has interrupted, once the handler has run."""
    signals: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    before = signal.signal(signal.SIGALRM, take)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        for workload in WORKLOADS:
            assert not survive(workload, FailingCalls(EIO_ONCE), memory_dir).failures
            shutil.rmtree(memory_dir / "data")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(signals) > 20


# ---------------------------------------------------------------------------------------------------------- opening


def crash(workload: str, root: Path, at: int = -1) -> Driver:
    """Leave in ``root / "crashed"`` what is found where the process ended at the ``at``-th call, or when the workload
    had been done and the next append had begun."""
    calls = FailingCalls(DEAD_DISK, at)
    driver = Driver(root / "live", Journal())
    with calls:
        with suppress(LogstoreError):
            WORKLOADS[workload](driver)
        shutil.copytree(root / "live", root / "crashed")
        calls.lift()
        with suppress(LogstoreError):
            driver.data_dir.close()
    shutil.rmtree(root / "live")
    if at < 0:
        for directory in (root / "crashed").glob("*_?"):
            log = max(directory.glob("*.log"))
            log.write_bytes(log.read_bytes() + log.read_bytes()[:70])
    return driver


@leaving_nothing_behind()
def open_crashed(driver: Driver, calls: FailingCalls, root: Path) -> Survivor:
    """Open it with a call that fails, and again."""
    shutil.copytree(root / "crashed", root / "data")
    survivor = Survivor(root / "data", calls, driver.journal.copy())
    survivor.clock = driver.clock
    with calls:
        survivor.data_dir  # noqa: B018
        survivor.open_all()
        calls.lift()
        survivor.check_live()
        survivor.close()
        survivor.finish()
    shutil.rmtree(root / "data")
    return survivor


def sweep_openings(fault: Fault, root: Path, heard: Heard, *, crashes_every: int, every: int) -> int:
    """A fault at every ``every``-th place of opening what is left of a workload, by its end and at each
    ``crashes_every``-th call that gives or takes a name."""
    seen: dict[Place, None] = {}
    count = 0
    for workload in WORKLOADS:
        named = [
            at for at, place in enumerate(places_of(workload, DEAD_DISK, root)) if place[0] in ("rename", "unlink")
        ]
        for crashed_at in (-1, *named[::crashes_every]):
            driver = crash(workload, root, crashed_at)
            counted = FailingCalls(fault)
            open_crashed(driver, counted, root)
            for at, place in enumerate(counted.places):
                if place in seen:
                    continue
                seen[place] = None
                if len(seen) % every:
                    continue
                heard.messages.clear()
                calls = FailingCalls(fault, at)
                try:
                    survivor = open_crashed(driver, calls, root)
                    is_told = survivor.failures or heard.messages or is_let_go((calls.places[at:] or [place])[0])
                    demand(is_told or not calls.failed, "a failure that nobody is told of")
                except (BrokenPromise, LogstoreError, AssertionError) as error:
                    where = f"call {at} of opening {workload}, crashed at call {crashed_at}, {place}"
                    raise BrokenPromise(f"{fault.name} at {where}: {error!r}") from error
                count += bool(calls.failed)
            shutil.rmtree(root / "crashed")
    print(f"{count} openings with {fault.name}")
    return count


def test_an_opening_that_fails_keeps_nothing_and_the_next_one_has_everything(memory_dir: Path, heard: Heard) -> None:
    assert sweep_openings(EIO_ONCE, memory_dir, heard, crashes_every=1000, every=10) > 5


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "fault", [EIO_ONCE, DEAD_DISK, READ_ONLY_DISK, FULL_DISK, NO_DESCRIPTOR], ids=lambda fault: fault.name
)
def test_an_opening_that_fails_at_any_call_keeps_nothing_and_the_next_one_has_everything(
    fault: Fault, memory_dir: Path, heard: Heard
) -> None:
    assert sweep_openings(fault, memory_dir, heard, crashes_every=8, every=2) > 5
