"""Runs a workload, builds the disks that a power cut may leave at each of its calls, and recovers every one of them."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from unittest import mock

from crash_states import Disk
from disk_trace import Trace, Tree, record
from log_tools import Clock
from logstore.config import StoreConfig
from logstore.errors import LogstoreError
from logstore.storage import data_dir as data_dir_module
from logstore.storage import files
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from promises import BrokenPromise, Promises, check, check_verified, demand
from workloads import Driver, Event, Journal


@dataclass
class Explored:
    """``legal`` counts the states at all moments, ``seen`` those of them that were built, ``recovered`` the different
    ones among these."""

    calls: int = 0
    legal: int = 0
    seen: int = 0
    recovered: int = 0

    @property
    def is_exhaustive(self) -> bool:
        return self.seen == self.legal


class BadState(BrokenPromise):
    """Says how to have it again."""


def explore(
    name: str,
    workload: Callable[[Driver], None],
    root: Path,
    *,
    seed: int = 0,
    states_a_moment_max: int = 100,
    moments: Sequence[int] | None = None,
) -> Explored:
    """Raises BadState for the first disk that recovery makes something wrong of. ``root`` is an empty directory."""
    live = root / "live"
    live.mkdir()
    trace, journal = _run(workload, live)
    explored = Explored(len(trace.calls))
    disk = Disk(trace.before)
    known: dict[object, int] = {}
    for moment in range(len(trace.calls) + 1):
        if moment:
            disk.follow(trace.calls[moment - 1])
        if moments is not None and moment not in moments:
            continue
        events = journal.until(moment)
        states, legal = disk.states(states_a_moment_max, Random(seed * 1_000_003 + moment))
        explored.legal += legal
        for number, state in enumerate(states):
            explored.seen += 1
            key = (state.key(), len(events))
            if key not in known:
                known[key] = number
                _try(name, seed, moment, number, state, events, root / "found", Durability.FSYNC)
        _try(name, seed, moment, -1, disk.kept(), events, root / "found", Durability.OS)
    explored.recovered = len(known)
    shutil.rmtree(live)
    return explored


def _run(workload: Callable[[Driver], None], live: Path) -> tuple[Trace, Journal]:
    with mock.patch.object(files, "boot_id", lambda: "before"), record(live) as trace:
        journal = Journal(clock=lambda: len(trace.calls))
        driver = Driver(live, journal)
        workload(driver)
        calls = list(trace.calls)
        crash(driver.data_dir)
    trace.calls = calls  # what a garbage collection did later does not count
    return trace, journal


def _try(
    name: str,
    seed: int,
    moment: int,
    number: int,
    state: Tree,
    events: Sequence[Event],
    root: Path,
    survives: Durability,
) -> None:
    root.mkdir()
    try:
        recover_and_check(state, Promises.of(events, survives=survives), root, has_lost_power=number >= 0)
    except (LogstoreError, AssertionError) as error:
        which = f"state {number}" if number >= 0 else "the process killed"
        found = "\n".join(f"  {path}: {len(state.contents.get(inode, b''))} bytes" for path, inode in state.paths())
        raise BadState(
            f"workload {name}, seed {seed}, after call {moment}, {which}: {type(error).__name__}: {error}\n{found}"
        ) from error
    finally:
        shutil.rmtree(root)


def recover_and_check(state: Tree, promises: Promises, root: Path, *, has_lost_power: bool) -> None:
    """Raises BrokenPromise, or an error of the engine's."""
    state.write_out(root)
    with mock.patch.object(files, "boot_id", lambda: "after" if has_lost_power else "before"):
        first = _open(root)
        check(first, promises)
        looks = _looks(first)
        crash(first)
        found = _contents(root)
        second = _open(root)
        demand(_looks(second) == looks, f"a second recovery made something else: {looks}, then {_looks(second)}")
        crash(second)
        demand(_contents(root) == found, f"a second recovery changed {_differences(found, _contents(root))}")
        third = _open(root)
        third.close()
        check_verified(root)
        fourth = _open(root)
        demand(fourth.was_clean, "a clean close was not found clean")
        check(fourth, promises)
        crash(fourth)


def _open(root: Path) -> DataDir:
    return DataDir(root, StoreConfig(), now_ms=Clock())


def crash(data_dir: DataDir) -> None:
    """Stop using a directory without a word to the disk, as a process does that is killed."""
    data_dir._upkeep.stop()
    data_dir_module._OPEN.discard(data_dir)
    data_dir._lock_file.close()


def _looks(data_dir: DataDir) -> object:
    return [
        (key, log.log_start_offset, log.log_end_offset, list(log.records(log.log_start_offset)))
        for key, log in data_dir.logs()
    ]


def _contents(root: Path) -> dict[str, bytes]:
    """Without the space that a log keeps ready, and without the owner's name."""
    return {
        str(path.relative_to(root)): path.read_bytes().rstrip(b"\0") for path in root.rglob("*") if path.is_file()
    }


def _differences(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
