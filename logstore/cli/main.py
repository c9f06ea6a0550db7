"""The group of all commands: loads the one that is asked for, and turns whatever ends it into a message and a status.

Exit status: 0 fine, 1 damage found, 2 wrong use or nothing to work on, 130 interrupted. An error is one line on stderr;
a reader of our output that goes away (``logstore consume … | head``) is no error.
"""

import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from logstore.errors import CorruptData, LogstoreError, NotADataDir

DAMAGE_FOUND = 1
WRONG_USE = 2
INTERRUPTED = 130

# Each command: its module in this package, its function there, and the line that `logstore --help` shows.
_COMMANDS = {
    "topic": ("topic", "topic", "Create, list, describe, alter and delete topics."),
    "produce": ("produce", "produce", "Append lines to a topic, a record each."),
    "consume": ("consume", "consume", "Print a topic's records."),
    "group": ("group", "group", "List and describe consumer groups, see their lag, reset their offsets."),
    "queue": ("queue", "queue", "Put messages into durable queues, get them, see what is in them."),
    "serve": ("serve", "serve", "Serve the data directory to Kafka clients, as a broker."),
    "copy": ("copy", "copy", "Copy topics between directories and Kafka clusters, with their groups' offsets."),
    "dump": ("dump", "dump", "Show what is in log, index, snapshot and checkpoint files."),
    "verify": ("verify", "verify", "Check every batch, record, index entry and checkpoint."),
    "salvage": ("salvage", "salvage", "Take damaged bytes out of logs, so that the rest can be read."),
    "reindex": ("reindex", "reindex", "Make the indexes of logs anew."),
    "stats": ("stats", "stats", "Count segments, batches and records; sizes, compression, rates."),
    "retention": ("retention", "retention", "Why segments are still there, and when they go."),
}


class _Commands(click.Group):
    """Commands that are imported when they are asked for: ``--help`` needs none of them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, function, _ = _COMMANDS[name]
        command: click.Command = getattr(import_module(f"logstore.cli.{module}"), function)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            known = ", ".join(_COMMANDS)
            raise click.UsageError(f"{error.message.rstrip('.')}; the commands are {known}", context) from None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in _COMMANDS.items()])

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # click would end with 1
            _drop_output()
            return 0
        except KeyboardInterrupt:
            return INTERRUPTED

    def main(self, *args: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False  # errors are for _run to show
        extra["prog_name"] = extra.get("prog_name") or "logstore"
        sys.exit(_run(lambda: super(_Commands, self).main(*args, **extra)))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="logstore", message="%(prog)s %(version)s")
def main() -> None:
    """A Kafka-format log on disk: write and read it, look into it, check it, repair it.

    Every command works on the data directory given by --data (else by LOGSTORE_DATA, else ./data). The exit status is
    0 if all is well, 1 if damage was found, 2 for wrong use.

    \b
    Example:
      logstore produce logs /var/log/dpkg.log && logstore consume logs --max-records 10
    """


def _run(command: Callable[[], Any]) -> int:
    _reopen_closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files need not be text, terminals need not know every character
            stream.reconfigure(errors="backslashreplace")
    if not _logger.handlers:
        _logger.addHandler(_ToStderr())
    try:
        status = command()
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return WRONG_USE
    except LogstoreError as error:
        click.echo(f"error: {error}{_remedy(error)}", err=True)
        return DAMAGE_FOUND if isinstance(error, CorruptData) else WRONG_USE
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        _drop_output()
        click.echo(f"error: {error.filename or 'input or output'}: {error.strerror or error}", err=True)
        return WRONG_USE


def _remedy(error: LogstoreError) -> str:
    """What to do on the command line, where the error itself cannot know it."""
    if isinstance(error, NotADataDir) and not os.path.exists(error.path):
        return "; create it with `logstore topic create`, or name another with --data"
    return ""


def _reopen_closed() -> None:
    """Where stdin, stdout or stderr was closed, as by ``>&-``, let it be empty, so that no file of ours gets its
    descriptor, and nothing that we print ends in a log."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass  # it has taken the place of the lowest that was closed
    os.close(descriptor)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


_STDERR = 2


def _drop_output() -> None:
    """What is still buffered has nowhere to go: without this Python would try once more, and complain, at the end."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
    except (OSError, ValueError):
        pass  # no descriptor behind it: nothing to be flushed


class _ToStderr(logging.Handler):
    """Warnings of the layers below, as one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


_logger = logging.getLogger("logstore")
