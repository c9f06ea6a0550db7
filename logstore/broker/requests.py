"""A request on its way: from its frame to its place among the connection's responses.

Produce and Fetch have ways of their own, ``serve`` of their handlers, which work on the frame's bytes and answer when
they are ready; all other APIs go by ``dispatch``.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from struct import Struct
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

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
# API and version, correlation id, size of the client's name.
_REQUEST = Struct(">Iih")
# Size of what follows, correlation id; with an empty row of tags where the response is flexible.
_HEADER, _FLEXIBLE_HEADER = Struct(">ii"), Struct(">iix")


class Route(NamedTuple):
    """What a version of an API has in common. ``pack``: its response's header, of a size and a correlation id;
    ``header_size``: what of the header the size counts."""

    api: Api
    api_key: int
    version: int
    is_flexible: bool
    pack: Callable[[int, int], bytes]
    header_size: int


_ROUTES: dict[int, Route] = {}  # of versions that were asked for, by the first four bytes of a request


# Requests whose handlers wait for long, and keep nothing of them while they do.
_RELEASED = (ApiKey.JOIN_GROUP.value, ApiKey.SYNC_GROUP.value)


class Later(Protocol):
    """A response that is not there yet."""

    def answer(self, turn: "Turn") -> None:
        """Give the turn its response, now or later."""


class Turn:
    """The place of a request that has to wait in the order of its connection's answers. It is answered once; after
    ``abandon``, when the connection is gone, that has no effect. ``on_abandoned`` is called then. ``size``: how many
    bytes of the request are kept in memory meanwhile. ``may_overlap``: whether what comes behind it may be begun before
    it is answered."""

    __slots__ = ("connection", "correlation_id", "may_overlap", "on_abandoned", "read_s", "response", "route", "size")

    def __init__(self, connection: "Connection", route: Route, correlation_id: int) -> None:
        self.connection, self.route, self.correlation_id = connection, route, correlation_id
        self.read_s = connection.read_s
        self.may_overlap: bool = route.api_key == PRODUCE
        self.size: int = 0
        self.response: Sequence[Piece] | None = None
        self.on_abandoned: Callable[[], None] | None = None

    def answer(self, body: bytes) -> None:
        """Give the response's body; empty: there is no response."""
        route = self.route
        self.response = (route.pack(len(body) + route.header_size, self.correlation_id) + body,) if body else ()
        self._settle()

    def answer_with_pieces(self, pieces: Sequence[Piece], size: int) -> None:
        """Give the response's body in pieces, of ``size`` bytes together."""
        route = self.route
        self.response = (route.pack(size + route.header_size, self.correlation_id), *pieces)
        self._settle()

    def _settle(self) -> None:
        connection = self.connection
        connection.answered_s = now_s = monotonic()
        connection.broker.metrics.observe(self.route.api_key, now_s - self.read_s)
        connection.answered()

    def attempt(self, go_on: Callable[..., object], *args: object) -> None:
        """Call what goes on with the request later, in a call of the event loop's own, where nobody would see it fail:
        then the connection ends, so that the client does not wait for ever."""
        try:
            go_on(*args)
        except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this connection only
            self.connection.drop(error)

    def abandon(self) -> None:
        self.response = ()
        if self.on_abandoned is not None:
            self.on_abandoned()


def begin(connection: "Connection", frame: Buffer) -> None:
    """Serve a request, whose bytes stay as they are until this returns. Raises MalformedMessage for what is none, and
    Refused for one that ends the connection."""
    if len(frame) < _REQUEST.size:
        raise MalformedMessage(f"{len(frame)} bytes are no request")
    what, correlation_id, client_id_size = _REQUEST.unpack_from(frame)
    route = _ROUTES.get(what) or _route(what)
    _, api_key, version, is_flexible, pack, header_size = route
    position = _REQUEST.size + client_id_size
    response: bytes | Later
    if api_key > FETCH:
        response = _dispatch(connection, route, frame)
    else:
        if is_flexible and client_id_size >= 0 and position < len(frame) and not frame[position]:
            position += 1  # the client's name does not matter, and there are no tags
        else:
            _, position = RequestHeader.decode(frame)
        serve = produce.serve if api_key == PRODUCE else fetch.serve
        response = serve(connection.broker, frame, position, version)
    if type(response) is bytes and not connection.turns:
        if response:
            connection.out.append(pack(len(response) + header_size, correlation_id) + response)
        connection.broker.metrics.observe(api_key, monotonic() - connection.read_s)
        return
    turn = Turn(connection, route, correlation_id)
    connection.turns.append(turn)
    if type(response) is bytes:
        turn.answer(response)
    else:
        if type(response) is _Awaited and api_key not in _RELEASED:
            turn.size = len(frame)
        response.answer(turn)  # type: ignore[union-attr]  # bytes are no Later


def _route(what: int) -> Route:
    """Raises MalformedMessage for an API, or a version, that is not advertised."""
    api_key, version = what >> 16, what & 0xFFFF
    api = APIS.get(api_key)
    if api is None or api_key not in HANDLERS:
        raise MalformedMessage(f"there is no API {api_key} here")
    first, last = api.advertised
    is_advertised = first <= version <= last
    if not is_advertised and api_key != API_VERSIONS:  # which clients may try in versions that are yet to come
        raise MalformedMessage(f"{api.key.name} has versions {first} to {last}, not {version}")
    is_flexible = api.request.is_flexible(version)
    header = _FLEXIBLE_HEADER if is_flexible and api_key != API_VERSIONS else _HEADER
    route = Route(api, api_key, version, is_flexible, header.pack, header.size - 4)
    if is_advertised:
        _ROUTES[what] = route
    return route


def _dispatch(connection: "Connection", route: Route, frame: Buffer) -> bytes | Later:
    """The response's body, or what will give it."""
    header, position = RequestHeader.decode(frame)
    context = RequestContext(route.version, header.client_id, connection.host, connection)
    response = answer(connection.broker, bytes(frame), position, route.api, context)
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
