"""A script that takes workloads on a disk that becomes full on the way, at every point, and lets them go on from there.

    full_disk.py DISK pages|inodes STEP [WORKLOAD...]

DISK is a tmpfs of a few MiB and inodes. A file (or many) takes all of it but what is left for a workload: nothing at
first, STEP more each time, until the workload gets through. At each failure a ``Survivor`` sees that all that was
acknowledged can be read, then the space comes back, and the workload goes on where it was. Then a directory that nobody
closed is opened on a disk as full. Each life is a process, and whatever kills that breaks a promise too. Prints a line
for each broken promise, and a summary.
"""

import contextlib
import errno
import mmap
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from children import fork, wait
from failing_os import Fault
from logstore.errors import DiskFull
from promises import demand
from survivor import Survivor
from workloads import WORKLOADS

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
LEFT_MAX = 400  # pages or inodes, more than any workload takes


class Ballast:
    """Leaves some pages or inodes free; what a Survivor takes for its failing calls."""

    fault = Fault("a full disk", errno.ENOSPC, lambda name, arguments: False, reads_go_on=True)

    def __init__(self, disk: Path, kind: str) -> None:
        self.path, self.kind = disk / "ballast", kind
        self.syncs_of: list[str] = []

    def leave(self, count: int) -> None:
        self.path.mkdir()
        disk = os.statvfs(self.path)
        if self.kind == "pages":
            with (self.path / "pages").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, disk.f_bavail - count) * PAGE_SIZE)
        else:
            for number in range(disk.f_ffree - count):
                (self.path / str(number)).touch()

    def lift(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield


def live(disk: Path, kind: str, workload: str, left: int, is_opening: bool) -> int:
    """How often the disk was full on the way."""
    ballast = Ballast(disk, kind)
    survivor = Survivor(disk / "data", ballast)  # type: ignore[arg-type]
    if not is_opening:
        ballast.leave(left)
    WORKLOADS[workload](survivor)
    if is_opening:
        survivor.abandon()
        ballast.leave(left)
    survivor.finish()
    for failure in survivor.failures:
        demand(isinstance(failure, DiskFull), f"a full disk became {failure!r}")
    demand(not survivor.offline, f"offline although there is space again: {survivor.offline}")
    return len(survivor.failures)


def lives(disk: Path, kind: str, step: int, workload: str, is_opening: bool) -> Iterator[tuple[int, str, int]]:
    """With ever more space, until it is enough: the space, what is broken, and how often the disk was full."""
    full_count = mmap.mmap(-1, 1)  # shared with the child

    def run(left: int) -> None:
        full_count[0] = live(disk, kind, workload, left, is_opening)

    for left in range(0, LEFT_MAX, step):
        full_count[0] = 0
        status = wait(fork(partial(run, left)))
        yield left, f"it ended with {status}" if status else "", full_count[0]
        for path in disk.iterdir():
            shutil.rmtree(path)
        if status == 0 and not full_count[0]:
            return
    raise AssertionError(f"{workload}: the disk is never large enough")


def main(disk: Path, kind: str, step: int, *workloads: str) -> None:
    counts: Counter[str] = Counter()
    for workload in workloads or WORKLOADS:
        for is_opening in (False, True):
            for left, broken, full_count in lives(disk, kind, step, workload, is_opening):
                counts["lives"] += 1
                counts["full"] += full_count
                if broken:
                    counts["broken"] += 1
                    moment = "opened again" if is_opening else "run"
                    print(f"BROKEN {workload}, {moment} with {left} {kind} left: {broken}")
    print(
        f"{counts['lives']} lives on a full disk ({kind}), which refused {counts['full']} times, "
        f"{counts['broken']} broken promises"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
