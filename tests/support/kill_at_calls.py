"""A script that runs workloads in children, has each killed at a call that touches the disk, and checks what is left.

    kill_at_calls.py DIRECTORY COUNT SEED [WORKLOAD...]

COUNT of all (workload, call, moment) are drawn by SEED; all, where it is 0. A moment is before the call, or in its
middle: half of a write, an index entry's too. What a child leaves is opened by another, which is killed at one of its
own calls on the way; then by this process, which checks it. Prints a line for each broken promise, and a summary.
"""

import itertools
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from children import WrittenJournal, die, fork, wait
from driver import Driver, Journal
from log_tools import Clock
from logstore.errors import LogstoreError
from logstore.storage import files
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from promises import BrokenPromise, Promises, check_directory
from workloads import WORKLOADS

BEFORE, MIDDLE = "before", "in the middle of"
WRITES = {"pwrite", "pwritev"}
CALLS = {
    *("open", "close", "pwrite", "pwritev", "ftruncate", "posix_fallocate", "fdatasync", "fsync"),
    *("rename", "unlink", "mkdir", "rmdir"),
}


class Kill(NamedTuple):
    workload: str
    number: int  # of the call, from 0
    call: str
    moment: str


class CountedCalls:
    """Stands in for ``os`` in the I/O module: counts, and dies at call ``number``."""

    def __init__(self, number: int = -1, moment: str = BEFORE) -> None:
        self.names: list[str] = []
        self._count = itertools.count()
        self._number = number
        self._moment = moment

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real
        return lambda *arguments, **options: self.call(name, real, *arguments, **options)

    def call(self, name: str, real: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.names.append(name)
        if next(self._count) == self._number:
            if self._moment == MIDDLE and name in WRITES:
                fd, data, position = arguments
                data = bytes(data) if name == "pwrite" else b"".join(data)
                os.pwrite(fd, data[: len(data) // 2], position)
            die()
        return real(*arguments, **options)


def count_calls(calls: CountedCalls) -> None:
    """From now on, in this process."""
    files.os = calls  # type: ignore[assignment]


def live(workload: str, path: Path, journal: Journal, calls: CountedCalls) -> None:
    count_calls(calls)
    WORKLOADS[workload](Driver(path, journal))


def every_kill(workload: str, scratch: Path) -> list[Kill]:
    """All moments of a workload, as a run that is not killed shows them."""
    calls = CountedCalls()

    def run() -> None:
        live(workload, scratch / "counted", Journal(), calls)
        (scratch / "counted.names").write_text("\n".join(calls.names))

    assert wait(fork(run)) == 0, f"the workload {workload} fails by itself"
    names = (scratch / "counted.names").read_text().splitlines()
    moments = [(BEFORE, MIDDLE) if name in WRITES else (BEFORE,) for name in names]
    shutil.rmtree(scratch / "counted")
    return [Kill(workload, number, names[number], moment) for number in range(len(names)) for moment in moments[number]]


def reopen(path: Path, calls: CountedCalls) -> None:
    count_calls(calls)
    DataDir(path, now_ms=Clock()).close()


def check_what_is_left(path: Path, promises: Promises) -> None:
    for _ in range(2):  # the second opening comes after a clean shutdown
        check_directory(path, promises)


def results(kills: list[Kill], scratch: Path, randomness: random.Random) -> Iterator[tuple[Kill, str | None, int]]:
    """Of each kill: what is broken, and how many processes were killed."""
    journal, path = WrittenJournal(), scratch / "data"
    for kill in kills:
        status = wait(fork(partial(live, kill.workload, path, journal, CountedCalls(kill.number, kill.moment))))
        dead_count = int(status == -signal.SIGKILL)
        second = CountedCalls(randomness.randrange(30), randomness.choice((BEFORE, MIDDLE)))
        second_status = wait(fork(partial(reopen, path, second)))
        dead_count += int(second_status == -signal.SIGKILL)
        broken = None
        try:
            if {status, second_status} - {0, -signal.SIGKILL}:
                raise BrokenPromise(f"the child ended with {status}, the one that reopened with {second_status}")
            check_what_is_left(path, Promises.of(journal.take(), survives=Durability.OS))
        except (BrokenPromise, LogstoreError) as error:
            broken = f"{type(error).__name__}: {error} (reopening killed {second._moment} call {second._number})"
        yield kill, broken, dead_count
        shutil.rmtree(path, ignore_errors=True)


def main(scratch: Path, count: int, seed: int, *workloads: str) -> None:
    kills = [kill for workload in workloads or WORKLOADS for kill in every_kill(workload, scratch)]
    randomness = random.Random(seed)
    all_count = len(kills)
    if count:
        kills = randomness.sample(kills, min(count, all_count))
    broken_count = dead_count = 0
    calls: Counter[str] = Counter()
    for kill, broken, dead in results(kills, scratch, randomness):
        calls[kill.call] += 1
        dead_count += dead
        if broken:
            broken_count += 1
            print(f"BROKEN {kill.workload}, killed {kill.moment} call {kill.number}, {kill.call}: {broken}")
    print(
        f"{len(kills)} of {all_count} moments, {dead_count} processes killed, {broken_count} broken promises: "
        f"{dict(calls)}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
