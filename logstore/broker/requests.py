"""A request on its way: from its frame to its place among the connection's responses.

Produce and Fetch have ways of their own, ``serve`` of their handlers, which work on the frame's bytes and answer when
they are ready; all other APIs go by ``dispatch``.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from logstore.broker.context import RequestContext
from logstore.broker.dispatch import HANDLERS, answer
from logstore.broker.handlers import fetch, produce
from logstore.broker.sending import Piece
from logstore.errors import MalformedMessage
from logstore.format.record import Buffer
from logstore.wire.api import APIS, ApiKey
from logstore.wire.header import RequestHeader

if TYPE_CHECKING:
    from logstore.broker.connection import Connection

logger = logging.getLogger("logstore.broker")

PRODUCE, FETCH, API_VERSIONS = ApiKey.PRODUCE.value, ApiKey.FETCH.value, ApiKey.API_VERSIONS.value
# Size of what follows, correlation id; with an empty row of tags where the response is flexible.
_HEADER, _FLEXIBLE_HEADER = Struct(">ii"), Struct(">iix")


class Turn:
    """A request's place in the order of its connection's answers. It is answered once; after ``abandon``, when the
    connection is gone, that has no effect. ``on_abandoned`` is called then, for who waits for something to answer."""

    __slots__ = ("api_key", "connection", "correlation_id", "is_flexible", "on_abandoned", "read_s", "response")

    def __init__(self, connection: "Connection", api_key: int, correlation_id: int, is_flexible: bool) -> None:
        self.connection = connection
        self.api_key, self.correlation_id, self.is_flexible = api_key, correlation_id, is_flexible
        self.read_s = connection.read_s
        self.response: Sequence[Piece] | None = None
        self.on_abandoned: Any = None

    def answer(self, body: bytes) -> None:
        """Give the response's body."""
        header = _FLEXIBLE_HEADER if self.is_flexible else _HEADER
        self.response = (header.pack(len(body) + header.size - 4, self.correlation_id) + body,)
        self._settle()

    def answer_with_pieces(self, pieces: Sequence[Piece], size: int) -> None:
        """Give the response's body in pieces, of ``size`` bytes together."""
        header = _FLEXIBLE_HEADER if self.is_flexible else _HEADER
        self.response = (header.pack(size + header.size - 4, self.correlation_id), *pieces)
        self._settle()

    def answer_nothing(self) -> None:
        """The client wants no response."""
        self.response = ()
        self._settle()

    def _settle(self) -> None:
        connection = self.connection
        connection.broker.metrics.observe(self.api_key, connection.broker.loop.time() - self.read_s)
        connection.answered()

    def abandon(self) -> None:
        self.response = ()
        if self.on_abandoned is not None:
            self.on_abandoned()


def begin(connection: "Connection", frame: Buffer) -> None:
    """Serve a request, whose bytes stay as they are until this returns. Raises MalformedMessage for what is none."""
    if len(frame) < 4:
        raise MalformedMessage(f"{len(frame)} bytes are no request")
    api_key = frame[0] << 8 | frame[1]
    version = frame[2] << 8 | frame[3]
    api = APIS.get(api_key)
    if api is None or api_key not in HANDLERS:
        raise MalformedMessage(f"there is no API {api_key} here")
    first, last = api.advertised
    if not first <= version <= last and api_key != API_VERSIONS:
        raise MalformedMessage(f"{api.key.name} has versions {first} to {last}, not {version}")
    header, position = RequestHeader.decode(frame)
    turn = Turn(
        connection, api_key, header.correlation_id, api_key != API_VERSIONS and api.request.is_flexible(version)
    )
    connection.turns.append(turn)
    if api_key == PRODUCE:
        produce.serve(connection.broker, frame, position, version, turn)
    elif api_key == FETCH:
        fetch.serve(connection.broker, frame, position, version, turn)
    else:
        context = RequestContext(version, header.client_id, connection.host, connection)
        response = answer(connection.broker, bytes(frame), position, api, context)
        if type(response) is bytes:
            turn.answer(response)
        else:
            _answer_later(turn, response)  # type: ignore[arg-type]  # nothing else is left


def _answer_later(turn: Turn, response: Coroutine[Any, Any, bytes]) -> None:
    """Once the coroutine has the body. It is not cut off where the connection ends before: what it does may have steps."""
    broker = turn.connection.broker
    task = broker.loop.create_task(response)
    broker.tasks.add(task)

    def finish(task: "asyncio.Task[bytes]") -> None:
        broker.tasks.discard(task)
        if task.cancelled():
            turn.connection.drop(MalformedMessage("the broker is shutting down"))
        elif (error := task.exception()) is not None:
            turn.connection.drop(error)  # type: ignore[arg-type]  # what ends a task is an Exception
        elif turn.response is None:
            turn.answer(task.result())

    task.add_done_callback(finish)
