"""``logstore serve`` as a process of its own, for tests of it."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cli import command, environment

PATIENCE_S = 30.0


class Served:
    """Started with ``--json`` and these arguments; ``ready`` is what its line says. Killed, if it is still there, when
    the block ends. ``before`` is called in the new process."""

    def __init__(self, *arguments: object, before: Callable[[], None] | None = None) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by __exit__
        self.process = subprocess.Popen(
            command("serve", "--json", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(),
            text=True,
            preexec_fn=before,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.ready: dict[str, Any] = json.loads(line) if line else {}

    @property
    def address(self) -> str:
        return str(self.ready["address"])

    def signal(self, *numbers: signal.Signals) -> None:
        """Have all of these arrive at once."""
        os.kill(self.process.pid, signal.SIGSTOP)
        for number in numbers:
            os.kill(self.process.pid, number)
        os.kill(self.process.pid, signal.SIGCONT)

    def wait(self) -> int:
        """The exit status."""
        return self.process.wait(PATIENCE_S)

    def errors(self) -> str:
        """What it has told on stderr so far."""
        return Path(f"/proc/self/fd/{self._errors.fileno()}").read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self._errors.close()
