"""A broker without sockets: frames go in, and what becomes of each comes back.

The way of a request is the real one, from ``requests.begin`` on; what stands in for the connection only takes notes.
"""

import asyncio
import logging
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from logstore.broker.broker import Broker
from logstore.broker.refusal import Refused
from logstore.broker.requests import begin
from logstore.broker.serving import open_store
from logstore.config import BrokerConfig, StoreConfig
from logstore.errors import LogstoreError
from logstore.storage.file_slice import FileSlice

PATIENCE_S = 5.0


class Failures(logging.Handler):
    """Keeps what is logged of failures that nobody foresaw: they come with a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.name == "asyncio":
            self.found.append(logging.Formatter().format(record))

    def __enter__(self) -> Self:
        for name in ("logstore", "asyncio"):
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name in ("logstore", "asyncio"):
            logging.getLogger(name).removeHandler(self)


class Outcome(NamedTuple):
    """``response`` has no size before it, and is None where there is none (yet); ``ended``: why the connection was."""

    response: bytes | None
    ended: Exception | None


class _Connection:
    """What a request sees of its connection."""

    host = "127.0.0.1"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.turns: deque[Any] = deque()
        self.out: list[Any] = []
        self.read_s = 0.0
        self.ended: Exception | None = None
        self.is_settled = asyncio.Event()

    def answered(self) -> None:
        while self.turns and self.turns[0].response is not None:
            self.out += self.turns.popleft().response
        self.is_settled.set()

    def drop(self, error: Exception) -> None:
        self.ended = error
        self.is_settled.set()

    def response(self) -> bytes | None:
        pieces = [piece.read() if isinstance(piece, FileSlice) else bytes(piece) for piece in self.out]
        return b"".join(pieces)[4:] if pieces else None


class RequestDriver:
    """Of a directory at ``path``, in a loop of its own that runs while a request is served."""

    def __init__(self, path: Path, store_settings: dict[str, object] | None = None, **settings: object) -> None:
        self._loop = asyncio.new_event_loop()
        self.store = open_store(path, StoreConfig.parse(store_settings or {}))
        self.broker: Broker = self._loop.run_until_complete(self._make(BrokerConfig.parse(settings)))
        self.groups = self.store.groups

    async def _make(self, config: BrokerConfig) -> Broker:
        broker = Broker(self.store, config)
        assert broker.loop is self._loop
        return broker

    def serve(self, frame: bytes, patience_s: float = PATIENCE_S) -> Outcome:
        """What becomes of a frame (without its size); whoever still waits then is gone, as if it had hung up."""
        return self._loop.run_until_complete(self._serve(frame, patience_s))

    async def _serve(self, frame: bytes, patience_s: float) -> Outcome:
        connection: Any = _Connection(self.broker)
        try:
            begin(connection, memoryview(frame))
        except (LogstoreError, Refused) as error:
            return Outcome(None, error)
        try:
            async with asyncio.timeout(patience_s):
                while connection.turns and connection.ended is None:
                    connection.is_settled.clear()
                    await connection.is_settled.wait()
        except TimeoutError:
            for turn in connection.turns:
                turn.abandon()
        return Outcome(connection.response(), connection.ended)

    def close(self) -> None:
        self._loop.run_until_complete(asyncio.sleep(0))
        for task in self.broker.tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self.broker.close()
        self.store.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
