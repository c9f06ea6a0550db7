"""A broker in a thread of the test's process, and raw sockets to it."""

import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from logstore.broker.broker import Broker
from logstore.broker.running import RunningBroker
from logstore.config import BrokerConfig, StoreConfig
from logstore.wire.header import RequestHeader
from logstore.wire.schema import Message
from wire_client import WireClient

PATIENCE_S = 30.0


class LoopBroker:
    """``store`` may be used beside the clients; ``broker`` is to be looked at, not touched."""

    def __init__(self, running: RunningBroker) -> None:
        self.address = str(running.address)
        self.store = running.store
        self.broker: Broker = running._running.broker

    def connect(self, source: str = "") -> socket.socket:
        """A socket on which nothing has been said yet; ``source``: the address that it comes from."""
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), PATIENCE_S, (source, 0) if source else None)

    def client(self) -> WireClient:
        return WireClient(self.address)

    def ask(self, request: Message, version: int) -> Any:
        """The answer, on a connection of its own."""
        with self.client() as client:
            return client.ask(request, version)

    def in_loop(self, function: Callable[[], Any]) -> Any:
        """What ``function`` returns in the event loop's thread."""
        done: Future[Any] = Future()
        self.broker.loop.call_soon_threadsafe(lambda: done.set_result(function()))
        return done.result(PATIENCE_S)


@contextmanager
def loop_broker(
    path: Path, store_settings: dict[str, object] | None = None, **settings: object
) -> Iterator[LoopBroker]:
    config = BrokerConfig.parse({"listeners": ("PLAINTEXT://127.0.0.1:0",)} | settings)
    with RunningBroker(path, config, StoreConfig.parse(store_settings or {})) as running:
        yield LoopBroker(running)


def frame_of(request: Message, version: int, correlation_id: int = 1) -> bytes:
    """A request as it is sent, its size first."""
    data = RequestHeader(request.api_key, version, correlation_id, "a client").encode() + request.encode(version)
    return struct.pack(">i", len(data)) + data


def is_closed(peer: socket.socket) -> bool:
    """Whether the broker ends the connection, whatever it has sent before."""
    peer.settimeout(PATIENCE_S)
    try:
        while peer.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


def read_exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        received = peer.recv(size - len(data))
        assert received, "the connection was closed"
        data += received
    return data


def read_frame(peer: socket.socket) -> bytes:
    """A response, without its size."""
    return read_exactly(peer, struct.unpack(">i", read_exactly(peer, 4))[0])
