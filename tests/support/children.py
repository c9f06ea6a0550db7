"""Processes that may die at any moment: forked ones that leave a journal of what they did, and scripts that fork them.

A Python with numpy takes a third of a second to start, a fork of it a few milliseconds. So a test starts a script of
this folder once (``run_script``); that is one process of one thread, which forks a child for each life that it takes.
"""

import contextlib
import ctypes
import io
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import logstore
from driver import Attempted, Changing, Compacting, Cutting, Event, Journal, Leaving

FEW_DESCRIPTORS = ("sh", "-c", 'ulimit -n 64; exec "$0" "$@"')  # before a program: as many as it may have
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_ATTEMPTS = Attempted | Changing | Compacting | Cutting | Leaving


class WrittenJournal(Journal):
    """A journal in a file of no name, shared with forked children: what they note is there when ``note`` returns,
    and outlives them."""

    def __init__(self) -> None:
        super().__init__()
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # as long as this

    def note(self, event: Event) -> None:
        with self._lock:
            self._file.write(pickle.dumps(event))

    def size(self) -> int:
        """By which ``take`` tells what had been noted by now."""
        return os.fstat(self._file.fileno()).st_size

    def take(self, size: int | None = None) -> list[Event]:
        """All events, which are then forgotten; one that was being written when its process died is none. Of those
        behind ``size`` only what was attempted counts: what was achieved then was not."""
        self._file.seek(0)
        written = io.BytesIO(self._file.read())
        self._file.seek(0)
        self._file.truncate()
        events: list[Event] = []
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            while True:
                event = pickle.load(written)
                if size is None or written.tell() <= size or isinstance(event, _ATTEMPTS):
                    events.append(event)
        return events


def fork(run: Callable[[], object]) -> int:
    """Start ``run`` in a child, and return its process id. The child ends with 0, or 1 and a traceback; and with this
    process, where that is stopped first."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        end_with_parent()
        run()
        status = 0
    except BaseException:  # noqa: BLE001  # nothing may come back from a child
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end_with_parent() -> None:
    """From now on this process is killed when the one that started it ends, however that ends."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def wait(pid: int) -> int:
    """A child's exit status, or minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived its SIGKILL")


def environment() -> dict[str, str]:
    """In which a program finds the package under test, beside the repository too, and the helpers of this folder. Its
    own assertions hold: many a test is a program that must end with 0."""
    paths = Path(logstore.__file__).parents[1], Path(__file__).parent
    return {**os.environ, "PYTHONPATH": ":".join(map(str, paths)), "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": ""}


def run_script(name: str, *arguments: object, timeout_s: float, before: tuple[str, ...] = ()) -> str:
    """Run a script of this folder, behind the words of ``before``, and return what it printed; it must end with 0."""
    script = str(Path(__file__).with_name(name))
    return _run([*before, sys.executable, script, *map(str, arguments)], 0, timeout_s).stdout


def run_python(
    program: str, *arguments: object, before: tuple[str, ...] = (), status: int = 0, timeout_s: float = 100
) -> "subprocess.CompletedProcess[str]":
    """Run a program's text, behind the words of ``before``; it must end with ``status``."""
    return _run([*before, sys.executable, "-c", program, *map(str, arguments)], status, timeout_s)


def _run(command: list[str], status: int, timeout_s: float) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment())
    what = " ".join(command)
    assert done.returncode == status, f"{what}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done
