"""Processes that are killed at a system call, and system calls that fail, by the kernel's own hand (strace) or in it.

Every step of the workloads is taken in a process of its own, which dies or gets an error there; what is left is opened
and must hold all that was acknowledged: the page cache outlives the process.
"""

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from children import run_python, run_script
from logstore.storage import files

KILLED_AT = (
    "pwrite64,pwritev,ftruncate,fallocate,fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir,openat,close,flock"
)
FAILING = {
    "EIO": "fdatasync,fsync",
    "ENOSPC": "pwrite64,pwritev,fallocate,mkdir,mkdirat",
    "EMFILE": "openat",
    # strace answers in the kernel's place: a close that it interrupts has not happened, unlike a real one.
    "EINTR": "pwrite64,pwritev,fdatasync,fsync,ftruncate,fallocate,openat,flock",
}


@pytest.fixture
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")


def check_summary(output: str, at_least: int) -> None:
    """Of a script that was to inject ``at_least`` as many faults."""
    print(output)
    summary = re.search(r"^(\d+) of \d+ .*, (\d+) broken promises", output, re.MULTILINE)
    assert summary is not None, output
    assert int(summary[1]) >= at_least
    assert int(summary[2]) == 0, "\n".join(line for line in output.splitlines() if line.startswith("BROKEN"))


def test_sigkill_at_a_call_that_touches_the_disk_loses_nothing_acknowledged(memory_dir: Path) -> None:
    check_summary(run_script("kill_at_calls.py", memory_dir, 40, 1, timeout_s=100), at_least=40)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sigkill_at_every_call_of_append_roll_checkpoint_and_retention_loses_nothing_acknowledged(
    memory_dir: Path,
) -> None:
    check_summary(run_script("kill_at_calls.py", memory_dir, 0, 2, timeout_s=800), at_least=2500)


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    "count", [30, pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(600)])], ids=["some", "many"]
)
def test_sigkill_by_strace_at_a_system_call_loses_nothing_acknowledged(memory_dir: Path, count: int) -> None:
    output = run_script("strace_workloads.py", memory_dir, count, count, "SIGKILL", KILLED_AT, timeout_s=500)
    check_summary(output, at_least=count)
    killed = re.search(r"SIGKILL: (\d+) killed", output)
    assert killed is not None and int(killed[1]) > count * 0.9


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("error", FAILING)
def test_a_system_call_that_fails_loses_and_doubles_nothing(memory_dir: Path, error: str) -> None:
    check_summary(run_script("strace_workloads.py", memory_dir, 8, 1, error, FAILING[error], timeout_s=100), at_least=8)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("error", FAILING)
def test_each_system_call_that_fails_loses_and_doubles_nothing(memory_dir: Path, error: str) -> None:
    output = run_script("strace_workloads.py", memory_dir, 400, 2, error, FAILING[error], timeout_s=500)
    check_summary(output, at_least=40)


@pytest.mark.usefixtures("strace")
def test_a_sync_that_fails_is_not_tried_again(memory_dir: Path) -> None:
    """The third of a run of durable appends; strace shows each sync that the kernel was asked for."""
    trace = memory_dir / "trace"
    program = f"""
from pathlib import Path
from log_tools import open_log, values
from logstore.errors import PartitionOffline, StorageFailure
log = open_log(Path({str(memory_dir / "t_0")!r}))
outcomes = []
for number in range(6):
    try:
        log.append([b"%d" % number], durability="fsync")
        outcomes.append("synced")
    except (PartitionOffline, StorageFailure) as error:
        outcomes.append(type(error).__name__)
print(*outcomes, len(values(log)))
"""
    strace = ("strace", "-f", "-y", "-o", str(trace), "-e", "trace=fdatasync")
    strace += ("-P", str(memory_dir / "t_0" / "00000000000000000000.log"))
    strace += ("-e", "inject=fdatasync:error=EIO:when=3")
    done = run_python(program, before=strace)
    outcomes = ["synced", "synced", "StorageFailure", "PartitionOffline", "PartitionOffline", "PartitionOffline"]
    assert done.stdout.split() == [*outcomes, "3"], done.stdout + done.stderr
    syncs = re.findall(r"fdatasync\(\d+<.*?>\) += (-?\d+)", trace.read_text())
    assert syncs == ["0", "0", "-1"], "no sync after the failed one"


def test_a_close_that_a_signal_interrupts_has_closed_and_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = files.open_file(tmp_path / "f", writable=True, create=True)
    real, closed = os.close, []

    def interrupted(fd: int) -> None:
        real(fd)
        closed.append(fd)
        raise InterruptedError(errno.EINTR, "Interrupted system call")

    monkeypatch.setattr(os, "close", interrupted)
    fd = file.fd
    file.close()
    file.close()
    files.sync_dir(tmp_path)
    assert closed[0] == fd and len(closed) == 2, "each once"


def test_nothing_is_imported_once_the_engine_is_in_use(tmp_path: Path) -> None:
    """An import opens files, which fails where no descriptor is left: not with an error of ours."""
    program = f"""
import sys
from pathlib import Path
from driver import Driver, Journal
from workloads import WORKLOADS
before = set(sys.modules)
for name, workload in WORKLOADS.items():
    driver = Driver(Path({str(tmp_path)!r}) / name, Journal())
    workload(driver)
    for _, log in driver.data_dir.logs():
        list(log.records(log.log_start_offset))
    driver.close()
print(*sorted(set(sys.modules) - before))
"""
    assert run_python(program).stdout == "\n"
