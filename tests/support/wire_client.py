"""A client of Kafka's protocol that knows nothing but messages: one connection, one request after the other."""

import itertools
import socket
import struct
from types import TracebackType
from typing import Any, Self

from logstore.wire.api import APIS
from logstore.wire.header import RequestHeader
from logstore.wire.schema import Message

PATIENCE_S = 30.0


class WireClient:
    """``ask`` sends and receives; ``send`` and ``receive`` are for requests that are not answered at once."""

    def __init__(self, address: str, client_id: str | None = "a client") -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self._client_id = client_id
        self._correlation_ids = itertools.count(1)
        self._waiting: list[tuple[int, int, int]] = []  # correlation id, API and version of what is not answered yet

    def ask(self, request: Message, version: int) -> Any:
        self.send(request, version)
        return self.receive()

    def send(self, request: Message, version: int) -> None:
        correlation_id = next(self._correlation_ids)
        self._waiting.append((correlation_id, request.api_key, version))
        header = RequestHeader(request.api_key, version, correlation_id, self._client_id)
        frame = header.encode() + request.encode(version)
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive(self) -> Any:
        """The answer to the oldest request that has none yet."""
        correlation_id, api_key, version = self._waiting.pop(0)
        [size] = struct.unpack(">i", self._read(4))
        frame = self._read(size)
        assert struct.unpack_from(">i", frame) == (correlation_id,)
        response = APIS[api_key].response
        has_tags = response.is_flexible(version) and api_key != 18
        return response.decode(frame, version, 5 if has_tags else 4)

    def _read(self, size: int) -> bytes:
        read = b""
        while len(read) < size:
            received = self._socket.recv(size - len(read))
            assert received, "the connection was closed"
            read += received
        return read

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
