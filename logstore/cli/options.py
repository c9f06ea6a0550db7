"""Options that commands share, and what they mean."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from logstore.errors import InvalidArgument, NotADataDir

if TYPE_CHECKING:
    from logstore.client.embedded.store import Store
    from logstore.storage.opening import OpeningProgress

Command = TypeVar("Command", bound=Callable[..., Any])
_PROGRESS_STEP_SIZE = 1 << 20
_OPENING_IS_SLOW_S = 1.0

data_option = click.option(
    "--data",
    "data",
    type=click.Path(path_type=Path),
    envvar="LOGSTORE_DATA",
    default=Path("data"),
    show_default="./data",
    show_envvar=True,
    help="The data directory.",
)


def json_option(text: str = "One JSON object a line, for machines.") -> Callable[[Command], Command]:
    return click.option("--json", "as_json", is_flag=True, help=text)


path_argument = click.argument("path", required=False)


def resolve(path: str | None, data: Path) -> Path:
    """The path that is meant: as it is given, else within the data directory; the data directory where none is. Raises
    NotADataDir where there is none."""
    if path is None:
        if not data.exists():
            raise NotADataDir(str(data), "there is no such directory")
        return data
    given = Path(path)
    if not given.exists() and (data / path).exists():
        given = data / path
    return given.resolve() if given.is_symlink() else given


def parse_time(option: str, text: str, forms: str) -> int:
    """Milliseconds since 1970, of a time (UTC unless it says otherwise), or of ``@`` and just these. Raises
    InvalidArgument, which says the ``forms`` that ``option`` can have."""
    if re.fullmatch(r"@[0-9]{1,18}", text):
        return int(text[1:])
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidArgument(option, text, forms) from None


def emit_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def open_to_write(data: Path, *, create: bool = True) -> "Store":
    """The store; where opening it takes long, as it may after a crash, and stderr is a terminal, a line there says how
    far it is."""
    from logstore.client.embedded.store import open as open_store

    if not sys.stderr.isatty():
        return open_store(data, create=create)
    from rich.console import Console
    from rich.text import Text

    status = Console(stderr=True).status("")

    def show(progress: "OpeningProgress") -> None:
        if progress.elapsed_s >= _OPENING_IS_SLOW_S:
            status.update(Text(f"opening {data}: {show_progress(progress)}"))
            status.start()

    try:
        return open_store(data, create=create, on_progress=show)
    finally:
        status.stop()


def show_progress(progress: "OpeningProgress") -> str:
    """As in ``3 of 16 partitions, 1.2 GiB of 4.0 GiB checked``."""
    from logstore.cli.text import show_size

    text = f"{progress.opened_count:,} of {progress.partition_count:,} partitions"
    if progress.unchecked_size:
        text += f", {show_size(progress.checked_size)} of {show_size(progress.unchecked_size)} checked"
    return text


@contextmanager
def progress_bar(label: str, total: int, *, hidden: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on stderr where that is a terminal; what it yields is told of each step's bytes. ``total`` 0: unknown."""
    if hidden or not sys.stderr.isatty():
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total or None)
        waiting = 0

        def advance(size: int) -> None:
            nonlocal waiting
            waiting += size
            if waiting >= _PROGRESS_STEP_SIZE:
                progress.advance(task, waiting)
                waiting = 0

        yield advance
