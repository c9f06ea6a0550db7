"""A request on its way: from its frame to its place among the connection's responses.

Produce and Fetch have ways of their own, ``serve`` of their handlers, which work on the frame's bytes and answer when
they are ready; all other APIs go by ``dispatch``.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from struct import Struct
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from logstore.broker.context import RequestContext
from logstore.broker.dispatch import HANDLERS, answer
from logstore.broker.handlers import fetch, produce
from logstore.broker.sending import Piece
from logstore.errors import MalformedMessage
from logstore.format.record import Buffer
from logstore.wire.api import APIS, Api, ApiKey
from logstore.wire.header import RequestHeader

if TYPE_CHECKING:
    from logstore.broker.connection import Connection

PRODUCE, FETCH, API_VERSIONS = ApiKey.PRODUCE.value, ApiKey.FETCH.value, ApiKey.API_VERSIONS.value
# API, version, correlation id, size of the client's name.
_REQUEST = Struct(">hhih")
# Size of what follows, correlation id; with an empty row of tags where the response is flexible.
_HEADER, _FLEXIBLE_HEADER = Struct(">ii"), Struct(">iix")


class Later(Protocol):
    """A response that is not there yet."""

    def answer(self, turn: "Turn") -> None:
        """Give the turn its response, now or later."""


class Turn:
    """The place of a request that has to wait in the order of its connection's answers. It is answered once; after
    ``abandon``, when the connection is gone, that has no effect. ``on_abandoned`` is called then."""

    __slots__ = ("api_key", "connection", "correlation_id", "is_flexible", "on_abandoned", "read_s", "response")

    def __init__(self, connection: "Connection", api_key: int, correlation_id: int, is_flexible: bool) -> None:
        self.connection = connection
        self.api_key, self.correlation_id, self.is_flexible = api_key, correlation_id, is_flexible
        self.read_s = connection.read_s
        self.response: Sequence[Piece] | None = None
        self.on_abandoned: Any = None

    def answer(self, body: bytes) -> None:
        """Give the response's body; empty: there is no response."""
        if not body:
            self.response = ()
            self._settle()
            return
        header = _FLEXIBLE_HEADER if self.is_flexible else _HEADER
        self.response = (header.pack(len(body) + header.size - 4, self.correlation_id) + body,)
        self._settle()

    def answer_with_pieces(self, pieces: Sequence[Piece], size: int) -> None:
        """Give the response's body in pieces, of ``size`` bytes together."""
        header = _FLEXIBLE_HEADER if self.is_flexible else _HEADER
        self.response = (header.pack(size + header.size - 4, self.correlation_id), *pieces)
        self._settle()

    def _settle(self) -> None:
        connection = self.connection
        connection.broker.metrics.observe(self.api_key, monotonic() - self.read_s)
        connection.answered()

    def abandon(self) -> None:
        self.response = ()
        if self.on_abandoned is not None:
            self.on_abandoned()


def begin(connection: "Connection", frame: Buffer) -> None:
    """Serve a request, whose bytes stay as they are until this returns. Raises MalformedMessage for what is none, and
    Refused for one that ends the connection."""
    if len(frame) < _REQUEST.size:
        raise MalformedMessage(f"{len(frame)} bytes are no request")
    api_key, version, correlation_id, client_id_size = _REQUEST.unpack_from(frame)
    api = APIS.get(api_key)
    if api is None or api_key not in HANDLERS:
        raise MalformedMessage(f"there is no API {api_key} here")
    first, last = api.advertised
    if not first <= version <= last and api_key != API_VERSIONS:
        raise MalformedMessage(f"{api.key.name} has versions {first} to {last}, not {version}")
    is_flexible = api.request.is_flexible(version)
    position = _REQUEST.size + (max(0, client_id_size))
    header = None
    if api_key <= FETCH and is_flexible and position < len(frame) and not frame[position]:
        position += 1  # the client's name does not matter, and there are no tags
    else:
        header, position = RequestHeader.decode(frame)
    response = _serve(connection, api, frame, position, version, header)
    has_tags = is_flexible and api_key != API_VERSIONS
    if type(response) is bytes and not connection.turns:
        if response:
            layout = _FLEXIBLE_HEADER if has_tags else _HEADER
            connection.out.append(layout.pack(len(response) + layout.size - 4, correlation_id) + response)
        connection.broker.metrics.observe(api_key, monotonic() - connection.read_s)
        return
    turn = Turn(connection, api_key, correlation_id, has_tags)
    connection.turns.append(turn)
    if type(response) is bytes:
        turn.answer(response)
    else:
        response.answer(turn)  # type: ignore[union-attr]  # bytes are no Later


def _serve(
    connection: "Connection", api: Api, frame: Buffer, position: int, version: int, header: RequestHeader | None
) -> bytes | Later:
    """The response's body, or what will give it."""
    broker = connection.broker
    if api.key == PRODUCE:
        return produce.serve(broker, frame, position, version)
    if api.key == FETCH:
        return fetch.serve(broker, frame, position, version)
    assert header is not None
    context = RequestContext(version, header.client_id, connection.host, connection)
    response = answer(broker, bytes(frame), position, api, context)
    return response if type(response) is bytes else _Awaited(response)  # type: ignore[arg-type]  # it is a coroutine


class _Awaited:
    """A response that a coroutine gives, which goes on where the connection ends: it may do several things."""

    __slots__ = ("_body",)

    def __init__(self, body: Coroutine[Any, Any, bytes]) -> None:
        self._body = body

    def answer(self, turn: Turn) -> None:
        broker = turn.connection.broker
        task = broker.loop.create_task(self._body)
        broker.tasks.add(task)
        task.add_done_callback(partial(self._finish, turn))

    def _finish(self, turn: Turn, task: "asyncio.Task[bytes]") -> None:
        turn.connection.broker.tasks.discard(task)
        if task.cancelled():
            turn.connection.drop(ConnectionAbortedError("the broker is shutting down"))
        elif (error := task.exception()) is not None:
            turn.connection.drop(error)
        elif turn.response is None:
            turn.answer(task.result())
