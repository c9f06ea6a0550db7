"""A script that runs workloads under strace, which kills them at a system call, or has one of their calls fail.

    strace_workloads.py DIRECTORY COUNT SEED SIGKILL|EIO|EINTR|… CALL[,CALL...] [WORKLOAD...]

COUNT of all (workload, call, number of the call) are drawn by SEED; all, where it is 0. What is left is opened and
checked against what was promised. Prints a line for each broken promise, the errors that workloads got, and a summary.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from children import WrittenJournal, fork, wait
from driver import Driver, Journal
from kill_at_calls import check_what_is_left
from log_tools import values
from logstore.errors import LogstoreError, PartitionOffline, StorageFailure
from logstore.storage.durability import Durability
from promises import BrokenPromise, Promises, demand
from workloads import WORKLOADS


class Injection(NamedTuple):
    workload: str
    call: str
    number: int  # of the call in its thread, from 1


def live(workload: str, path: Path, journal: Journal, errors: Path) -> None:
    """The workload, up to an error of the engine's own; then each log is still read, as far as it was acknowledged."""
    driver = Driver(path, journal)
    try:
        WORKLOADS[workload](driver)
    except LogstoreError as error:
        errors.write_text(f"{type(error).__name__}: {error}")
        demand(isinstance(error, StorageFailure | PartitionOffline), f"not the disk's error: {error!r}")
        if driver.is_open:
            for _, log in driver.data_dir.logs():
                if not log.is_closed:
                    values(log)


def straced(run: Callable[[], object], *options: str) -> int:
    """The exit status of a child that does ``run`` under strace, which sees nothing of what was before."""
    ready, go = os.pipe()

    def wait_and_run() -> None:
        os.close(go)
        os.read(ready, 1)
        run()

    pid = fork(wait_and_run)
    os.close(ready)
    strace = subprocess.Popen(["strace", "-f", "-q", "-p", str(pid), *options], stderr=subprocess.PIPE, text=True)
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        if strace.poll() is not None:
            os.kill(pid, signal.SIGKILL)
            raise RuntimeError(f"strace: {strace.stderr.read() if strace.stderr else ''}")
        time.sleep(0.001)
    os.close(go)
    status = wait(pid)
    strace.communicate()
    return status


def every_injection(workload: str, calls: list[str], scratch: Path) -> list[Injection]:
    """As many of each call as the busiest thread of a run without faults has."""
    trace = scratch / "trace"
    status = straced(
        lambda: live(workload, scratch / "data", Journal(), scratch / "errors"),
        *("-o", str(trace), "-e", f"trace={','.join(f'?{call}' for call in calls)}"),
    )
    assert status == 0 and not (scratch / "errors").exists(), f"the workload {workload} fails by itself"
    counts = Counter(re.findall(r"^(\d+) +(\w+)\(", trace.read_text(), re.MULTILINE))
    clean(scratch)
    most = {call: max((count for (_, name), count in counts.items() if name == call), default=0) for call in calls}
    return [Injection(workload, call, number) for call in calls for number in range(1, most[call] + 1)]


def clean(scratch: Path) -> None:
    shutil.rmtree(scratch / "data", ignore_errors=True)
    for name in ("errors", "trace"):
        (scratch / name).unlink(missing_ok=True)


def check_injection(injection: Injection, kind: str, scratch: Path, journal: WrittenJournal) -> tuple[int, str]:
    """The exit status of the workload, and the error that it got. Raises BrokenPromise, LogstoreError."""
    outcome = "signal=SIGKILL" if kind == "SIGKILL" else f"error={kind}"
    trace, errors = scratch / "trace", scratch / "errors"
    status = straced(
        lambda: live(injection.workload, scratch / "data", journal, errors),
        *("-y", "-o", str(trace), "-e", f"trace={injection.call}"),
        *("-e", f"inject={injection.call}:{outcome}:when={injection.number}"),
    )
    events = journal.take()
    demand(status == 0 or (kind == "SIGKILL" and status == -signal.SIGKILL), f"the workload ended with {status}")
    error = errors.read_text() if errors.exists() else ""
    if kind == "EINTR":
        demand(not error, f"an interrupted call became an error: {error}")
    if injection.call in ("fdatasync", "fsync"):
        check_not_synced_again(trace.read_text())
    check_what_is_left(scratch / "data", Promises.of(events, survives=Durability.OS))
    return status, error


def check_not_synced_again(trace: str) -> None:
    """A file whose sync has failed: the next sync of it may succeed although the data is gone."""
    failed: set[str] = set()
    for path, outcome in re.findall(r"sync\(\d+<(.*?)>\) += (.*)", trace):
        demand(path not in failed or ".log" not in path, f"{path}: synced again after a failure")
        if "EIO" in outcome:
            failed.add(path)


def main(scratch: Path, count: int, seed: int, kind: str, calls: list[str], *workloads: str) -> None:
    injections = [
        injection for workload in workloads or WORKLOADS for injection in every_injection(workload, calls, scratch)
    ]
    all_count = len(injections)
    if count:
        injections = random.Random(seed).sample(injections, min(count, all_count))
    journal = WrittenJournal()
    kill_count = error_count = broken_count = 0
    for injection in injections:
        try:
            status, error = check_injection(injection, kind, scratch, journal)
            kill_count += status == -signal.SIGKILL
            error_count += bool(error)
            if error:
                print(f"{injection}: {error}")
        except (BrokenPromise, LogstoreError) as broken:
            broken_count += 1
            print(f"BROKEN {injection}, {kind}: {type(broken).__name__}: {broken}")
        clean(scratch)
    print(
        f"{len(injections)} of {all_count} calls with {kind}: {kill_count} killed, {error_count} got an error, "
        f"{broken_count} broken promises: {dict(Counter(injection.call for injection in injections))}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5].split(","), *sys.argv[6:])
