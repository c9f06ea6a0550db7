"""Running the command line: in this process, and as a real one."""

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from logstore.cli import main

ROOT = Path(__file__).parent.parent.parent


def run(*args: object, stdin: bytes = b"", status: int = 0) -> Result:
    """The command's outcome, which must be ``status`` and no traceback."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)
    assert result.exit_code == status, (result.exit_code, result.output, result.exc_info)
    assert "Traceback" not in result.output
    return result


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "logstore", *map(str, args)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}


def spawn(*args: object, cwd: Path | None = None, stdin: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        command(*args), input=stdin, cwd=cwd, env=environment(), capture_output=True, timeout=60, check=False
    )
