"""Runs a workload, builds the disks that a power cut may leave after each of its calls, and recovers every one of them.

``python tests/support/crash_explorer.py WORKLOAD --seed S --moment M --state N DIRECTORY`` builds one again, as a
failure names it, and recovers it there.
"""

import argparse
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest import mock

from crash_states import Disk, States
from disk_trace import Trace, Tree, record
from driver import Driver, Event, Journal, abandon
from log_tools import Clock
from logstore.config import StoreConfig
from logstore.errors import LogstoreError
from logstore.format import filename
from logstore.storage import files
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from logstore.storage.upkeep import Upkeep
from promises import BrokenPromise, Promises, check, check_verified, demand
from workloads import WORKLOADS, Workload

Check = Callable[[Path, Promises], None]


@dataclass
class Explored:
    """``legal`` counts the states at all moments, ``recovered`` the different disks and promises that were tried;
    ``is_complete``: no legal one is missing."""

    calls: int = 0
    legal: int = 0
    recovered: int = 0
    is_complete: bool = True

    def __str__(self) -> str:
        how = "all of" if self.is_complete else "a sample of"
        return f"{self.calls} calls, {self.recovered} disks recovered: {how} {self.legal} legal states"


class BadState(BrokenPromise):
    """Says how to have it again."""


class Run(NamedTuple):
    """A workload that has been run, and what it was promised; of that ``survives_kill`` is there if only the process
    was killed."""

    name: str
    trace: Trace
    journal: Journal
    boot_id: str = "of the run"
    survives_kill: Durability = Durability.OS


def run(name: str, workload: Workload, live: Path, prepare: Workload | None = None) -> Run:
    """``prepare`` runs before; the directory is closed cleanly then, and all of it is on the disk."""
    live.mkdir()
    journal = Journal()
    driver = Driver(live, journal)
    if prepare is not None:
        prepare(driver)
        if driver.is_open:
            driver.close()
    with boot("of the run"), record(live) as trace:
        journal.clock = lambda: len(trace.calls)
        workload(driver)
        calls = list(trace.calls)
        if driver.is_open:
            driver.abandon()
    trace.calls = calls  # what a garbage collection did later does not count
    return Run(name, trace, journal)


def explore(
    name: str, workload: Workload, root: Path, prepare: Workload | None = None, **arguments: object
) -> Explored:
    """``explore_run`` of a workload, in an empty directory."""
    return explore_run(run(name, workload, root / "live", prepare), root, **arguments)  # type: ignore[arg-type]


def explore_run(
    done: Run, root: Path, *, seed: int = 0, states_a_moment_max: int = 100, recover: Check | None = None
) -> Explored:
    """Raises BadState for the first disk that ``recover``, by default ``recover_and_check``, does not make right.
    After each call also the process alone is killed: then all that it wrote is there."""
    explored = Explored(len(done.trace.calls))
    known: set[object] = set()
    for moment, disk in _moments(done.trace):
        events = done.journal.until(moment)
        states = _states(disk, moment, seed, states_a_moment_max)
        explored.legal += states.legal
        explored.is_complete &= states.is_complete
        for number, state in enumerate(states.disks):
            key = (state.key(), len(events))
            if key not in known:
                known.add(key)
                with _told(done.name, seed, moment, f"--state {number}", state):
                    _recover(state, events, Durability.FSYNC, "after a power cut", root / "found", recover)
        with _told(done.name, seed, moment, "the process killed", disk.kept()):
            _recover(disk.kept(), events, done.survives_kill, done.boot_id, root / "found", recover)
    explored.recovered = len(known)
    return explored


def explore_recoveries(
    name: str, workload: Workload, root: Path, *, count: int, seed: int = 0, states_a_moment_max: int = 10
) -> Explored:
    """A power cut while the disk that an earlier one left is being recovered: of ``count`` such disks by chance."""
    done = run(name, workload, root / "live")
    random = Random(seed)
    chosen = [
        (state, moment)
        for moment, disk in _moments(done.trace)
        for state in _states(disk, moment, seed, states_a_moment_max).disks
    ]
    total = Explored()
    for number, (state, moment) in enumerate(random.sample(chosen, min(count, len(chosen)))):
        live = root / f"recovery-{number}"
        live.mkdir()
        state.write_out(live)
        with boot("of the recovery"), record(live) as trace:
            abandon(open_data_dir(live))
        journal = Journal()
        journal.events = [(0, event) for event in done.journal.until(moment)]
        again = Run(f"{name}, recovered after call {moment}", trace, journal, "of the recovery", Durability.FSYNC)
        explored = explore_run(again, root, seed=seed, states_a_moment_max=states_a_moment_max)
        total.calls += explored.calls
        total.legal += explored.legal
        total.recovered += explored.recovered
        total.is_complete &= explored.is_complete
        shutil.rmtree(live)
    return total


def boot(which: str) -> "mock._patch[Callable[[], str]]":
    """Another one means that power was lost in between."""

    def boot_id() -> str:
        return which

    return mock.patch.object(files, "boot_id", boot_id)


def _moments(trace: Trace) -> Iterator[tuple[int, Disk]]:
    """The disk after so many calls."""
    disk = Disk(trace.before)
    yield 0, disk
    for moment, call in enumerate(trace.calls, 1):
        disk.follow(call)
        yield moment, disk


def _states(disk: Disk, moment: int, seed: int, count_max: int) -> States:
    return disk.states(count_max, Random(seed * 1_000_003 + moment))


class _told:
    """Adds to what goes wrong how to have it again."""

    def __init__(self, name: str, seed: int, moment: int, which: str, state: Tree) -> None:
        self.where = f"{name} --seed {seed} --moment {moment} {which}"
        self.state = state

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, LogstoreError | AssertionError):
            sizes = (f"  {path}: {len(self.state.contents.get(inode, b''))}" for path, inode in self.state.paths())
            listing = "\n".join(sizes)
            raise BadState(f"{self.where}: {type(error).__name__}: {error}\nbytes of\n{listing}") from error


def _recover(
    state: Tree, events: Sequence[Event], survives: Durability, boot_id: str, root: Path, recover: Check | None
) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    state.write_out(root)
    with boot(boot_id):
        (recover or recover_and_check)(root, Promises.of(events, survives=survives))


def recover_and_check(root: Path, promises: Promises) -> None:
    """Raises BrokenPromise, or an error of the engine's."""
    if (root / filename.CLEAN_SHUTDOWN).exists():
        check_verified(root)
    first = open_data_dir(root)
    check(first, promises)
    if first.was_clean:  # then the second opening is the first that checks anything
        abandon(first)
        first = open_data_dir(root)
        check(first, promises)
    looks = _looks(first)
    abandon(first)
    check_verified(root)
    found = _contents(root)
    second = open_data_dir(root)
    demand(_looks(second) == looks, f"a second recovery made something else: {looks}, then {_looks(second)}")
    demand(_contents(root) == found, f"a second recovery changed {_differences(found, _contents(root))}")
    second.close()
    check_verified(root)
    third = open_data_dir(root)
    demand(third.was_clean, "a clean close was not found clean")
    demand(_looks(third) == looks, f"after a clean close: {looks}, then {_looks(third)}")
    abandon(third)


def open_data_dir(root: Path) -> DataDir:
    """Without the thread that does the upkeep, which has nothing to do so soon."""
    with mock.patch.object(Upkeep, "start"):
        return DataDir(root, StoreConfig(), now_ms=Clock())


def _looks(data_dir: DataDir) -> object:
    return [
        (key, log.log_start_offset, log.log_end_offset, list(log.records(log.log_start_offset)))
        for key, log in data_dir.logs()
    ]


def _contents(root: Path) -> dict[str, bytes]:
    """Without the space that a log keeps ready."""
    return {str(path.relative_to(root)): path.read_bytes().rstrip(b"\0") for path in root.rglob("*") if path.is_file()}


def _differences(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Build and recover one crash state, and leave it to be looked at.")
    parser.add_argument("workload", choices=sorted(WORKLOADS))
    parser.add_argument("directory", type=Path, help="where to leave it; it must not be there yet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--moment", type=int, required=True)
    parser.add_argument("--state", type=int, default=-1, help="without it only the process was killed")
    parser.add_argument("--states-a-moment-max", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        done = run(options.workload, WORKLOADS[options.workload], Path(temporary) / "live")
    disk = next(disk for moment, disk in _moments(done.trace) if moment == options.moment)
    states = _states(disk, options.moment, options.seed, options.states_a_moment_max)
    state = disk.kept() if options.state < 0 else list(states.disks)[options.state]
    events = done.journal.until(options.moment)
    logging.basicConfig()
    survives, boot_id = (Durability.OS, "of the run") if options.state < 0 else (Durability.FSYNC, "after a power cut")
    _recover(state, events, survives, boot_id, options.directory, None)


if __name__ == "__main__":
    main()
