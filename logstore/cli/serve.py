"""``logstore serve``: a Kafka broker over a data directory."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from logstore.addresses import parse_address
from logstore.broker.config_file import load_settings
from logstore.broker.server_properties import ServerSettings
from logstore.cli.logs import log_to_stderr
from logstore.cli.options import emit_json, json_option
from logstore.config import BrokerConfig, StoreConfig
from logstore.errors import InvalidArgument
from logstore.settings import as_text

if TYPE_CHECKING:
    from logstore.broker.serving import Serving

_DATA = Path("data")
_STDIN = 0
_root = logging.getLogger("logstore")
logger = logging.getLogger("logstore.broker")


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="LOGSTORE_DATA",
    show_default="log.dirs, else ./data",
    show_envvar=True,
    help="The data directory; made where there is none.",
)
@click.option("--listen", metavar="HOST:PORT", show_default="127.0.0.1:9092", help="Where. Port 0: one that is free.")
@click.option("--advertise", metavar="HOST:PORT", help="What clients are told to connect to. Default: --listen.")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE", help="A .properties or .toml."
)
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="A setting, before the file's. Repeatable.")
@click.option("--metrics", metavar="HOST:PORT", help="Where to serve GET /metrics for Prometheus.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of the log on stderr."
)
@click.option("--list-settings", is_flag=True, help="Print all settings with their defaults, and end.")
@click.option(
    "--stop-with-stdin",
    "stops_with_stdin",
    is_flag=True,
    help="Stop when stdin, a pipe, is closed, as with its parent.",
)
@json_option("The line that says where it listens as a JSON object.")
def serve(
    data: Path | None,
    listen: str | None,
    advertise: str | None,
    config_path: Path | None,
    changes: tuple[str, ...],
    metrics: str | None,
    log_format: str,
    list_settings: bool,
    stops_with_stdin: bool,
    as_json: bool,
) -> None:
    """Serve a data directory to Kafka clients, as a broker of its own, until SIGTERM or Ctrl-C.

    When it is ready, one line on stdout says where it listens. There is no authentication, so it listens to this
    machine only unless told otherwise. What is under way when it is stopped is finished, and the directory closed
    cleanly; a second signal ends it at once, which loses nothing that was acknowledged.

    Settings have Kafka's names; a server.properties is taken as it is. While it runs, other processes can look at the
    directory, and write to it through the broker.

    \b
    Examples:
      logstore serve --data data
      logstore serve --listen 0.0.0.0:9092 --advertise broker.example:9092 --metrics 127.0.0.1:9644
      logstore serve --config server.properties --set log.retention.hours=24
    """
    if list_settings:
        _list_settings()
        return
    log_to_stderr(log_format, _root)
    with _Signals() as signals:
        settings = load_settings(config_path, _changes(changes, listen, advertise, metrics))
        _tell_of_idle(settings)
        if stops_with_stdin:
            signals.await_end_of_stdin()
        _serve(data or settings.data or _DATA, settings, signals, as_json)


def _serve(data: Path, settings: ServerSettings, signals: "_Signals", as_json: bool) -> None:
    # numpy's threads for linear algebra, of which there is none here, take a tenth of a second to start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from logstore.broker.serving import open_store, serving
    from logstore.storage.files import raise_open_file_limit

    async def run() -> None:
        async with serving(store, settings.broker) as found:
            stopping = asyncio.Event()
            loop = asyncio.get_running_loop()
            with signals.calling(lambda: loop.call_soon_threadsafe(stopping.set)):
                _tell_of_address(found, settings.broker)
                _say_ready(found, data, as_json)
                await stopping.wait()

    raise_open_file_limit()
    store = open_store(data, settings.store)
    try:
        asyncio.run(run())
    finally:
        store.close()
        logger.info("%s is closed", data)


class _Signals:
    """SIGTERM and SIGINT: the first one is an end in good order, a second one an end at once."""

    def __init__(self) -> None:
        self._count = 0
        self._stop: Callable[[], object] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *unused: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def calling(self, stop: Callable[[], object]) -> Iterator[None]:
        """Have ``stop`` called, in place of a KeyboardInterrupt; when the block has ended, the end is under way."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = lambda: None

    def await_end_of_stdin(self) -> None:
        """Take it, and a stdin that cannot be read, for a SIGTERM."""

        def wait() -> None:
            with suppress(OSError):
                while os.read(_STDIN, 4096):
                    pass
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, name="logstore-stdin", daemon=True).start()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            os._exit(128 + number)
        logger.info("stopping: %s", signal.Signals(number).name)
        if self._stop is None:
            raise KeyboardInterrupt
        self._stop()


# ------------------------------------------------------------------------------------------------------------ settings


def _changes(
    given: tuple[str, ...], listen: str | None, advertise: str | None, metrics: str | None
) -> dict[str, object]:
    changes: dict[str, object] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise click.UsageError(f"--set {text}: give NAME=VALUE, such as log.retention.hours=24")
        changes[name.strip()] = value
    if listen is not None:
        changes["listeners"] = _listener("--listen", listen)
    if advertise is not None:
        changes["advertised.listeners"] = _listener("--advertise", advertise)
    if metrics is not None:
        changes["metrics.listener"] = metrics
    return changes


def _listener(option: str, text: str) -> str:
    try:
        return f"PLAINTEXT://{parse_address(text)}"
    except ValueError as error:
        raise InvalidArgument(option, text, str(error)) from None


def _list_settings() -> None:
    for config in (BrokerConfig, StoreConfig):
        for row in config.rows():
            default = "" if row.default is None else as_text(row.default)
            click.echo(f"{row.name}={default}\n    {row.doc}")


# ---------------------------------------------------------------------------------------------------------------- told


def _tell_of_idle(settings: ServerSettings) -> None:
    for reason, names in settings.idle.items():
        logger.warning("without effect, since %s: %s", reason, ", ".join(names))


def _tell_of_address(found: "Serving", config: BrokerConfig) -> None:
    if not found.address.is_loopback:
        logger.warning("everybody who can reach %s can read and write: there is no authentication", found.address)
    if found.address.is_wildcard and config.advertised is None:
        logger.warning("clients are told to connect to %s: give --advertise if they cannot", found.advertised)
    if found.metrics is not None and not found.metrics.is_loopback:
        logger.warning("everybody who can reach %s can read the metrics: topics, groups, sizes", found.metrics)


def _say_ready(found: "Serving", data: Path, as_json: bool) -> None:
    broker = found.broker
    if as_json:
        emit_json(
            {
                "address": str(found.address),
                "advertised": str(found.advertised),
                "metrics": None if found.metrics is None else str(found.metrics),
                "data": str(data),
                "cluster_id": broker.cluster_id,
                "node_id": broker.node_id,
                "pid": os.getpid(),
            }
        )
    else:
        told = "" if found.metrics is None else f", metrics at http://{found.metrics}/metrics"
        click.echo(f"serving {data} at {found.address}{told}")
    sys.stdout.flush()
