"""A broker in a thread of this process: a start that is broken off leaves nothing behind."""

import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import logstore
from logstore.broker import running as module
from logstore.broker.running import RunningBroker
from logstore.config import BrokerConfig, StoreConfig
from logstore.errors import CannotListen
from waits import SOON_S, hold


def stopped_broker(path: Path, port: int = 0) -> RunningBroker:
    return RunningBroker(path, BrokerConfig(listeners=(f"PLAINTEXT://127.0.0.1:{port}",)), StoreConfig())


@pytest.mark.parametrize("has_started", [True, False], ids=["it serves already", "it comes to serve later"])
def test_a_ctrl_c_while_it_starts_ends_it_and_closes_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_started: bool
) -> None:
    may_start = threading.Event()
    serve = RunningBroker._serve

    async def wait_and_serve(*arguments: Any) -> None:
        hold(may_start)
        await serve(*arguments)

    class Interrupted(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            if has_started:
                may_start.set()
                super().result(SOON_S)
            monkeypatch.setattr(Interrupted, "result", Future.result)
            threading.Timer(0.05, may_start.set).start()
            raise KeyboardInterrupt

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = stopped_broker(tmp_path / "data", port)
    monkeypatch.setattr(RunningBroker, "_serve", wait_and_serve)
    monkeypatch.setattr(module, "Future", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        running.start()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), SOON_S)
    logstore.open(tmp_path / "data").close()
    with running:
        assert running.address.port == port


def test_one_that_cannot_listen_closes_the_directory_and_can_be_started_later(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = stopped_broker(tmp_path / "data", taken.getsockname()[1])
        with pytest.raises(CannotListen):
            running.start()
        logstore.open(tmp_path / "data").close()
    with running:
        assert running.address.port
