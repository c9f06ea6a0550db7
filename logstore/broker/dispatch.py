"""From a request's bytes to its response's: which handler answers which API, and what becomes of errors.

A handler is a module of ``handlers`` with the API's name, as its messages have in ``wire/messages``, and a function
``handle(broker, request, context)``, which gives the response; one that has to wait is a coroutine function. Modules
are imported when first asked for: most clients use few APIs, and a broker starts without them.

What is advertised is what the table of wire.api and the handlers have in common. An error that a handler lets out
becomes the response's error code, if that version of it has one; else the connection ends, as it does for bytes that
are no request.
"""

import importlib
import logging
import pkgutil
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from logstore.broker import handlers
from logstore.broker.context import RequestContext
from logstore.broker.refusal import told
from logstore.broker.told_errors import told_errors
from logstore.errors import LogstoreError
from logstore.wire.api import Api, ApiKey
from logstore.wire.error_codes import ErrorCode, error_code
from logstore.wire.messages.api_versions import ApiVersion, ApiVersionsResponse
from logstore.wire.schema import Message

if TYPE_CHECKING:
    from logstore.broker.broker import Broker

logger = logging.getLogger("logstore.broker")

Handler = Callable[["Broker", Any, RequestContext], Any]


class Handlers(Mapping[int, Handler]):
    """The function ``handle`` of each API that has a module, by the API's key."""

    def __init__(self) -> None:
        names = {key.value: key.name.lower() for key in ApiKey}
        there = {module.name for module in pkgutil.iter_modules(handlers.__path__)}
        self._keys = {key: name for key, name in names.items() if name in there}
        self._handlers: dict[int, Handler] = {}

    def __getitem__(self, key: int) -> Handler:
        handler = self._handlers.get(key)
        if handler is None:
            if key not in self._keys:
                raise KeyError(key)
            module = importlib.import_module(f"{handlers.__name__}.{self._keys[key]}")
            handler = self._handlers[key] = module.handle
        return handler

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


HANDLERS = Handlers()


def answer(
    broker: "Broker", frame: bytes, position: int, api: Api, context: RequestContext
) -> bytes | Coroutine[Any, Any, bytes]:
    """The response's body, or what gives it when it is awaited, for the request that begins at ``position`` of a frame.

    Raises MalformedMessage, and what a handler raises where the response has no place for an error.
    """
    version = context.api_version
    if api.key == ApiKey.API_VERSIONS and version > api.advertised[1]:
        broker.metrics.error(api.key, ErrorCode.UNSUPPORTED_VERSION)
        return _unsupported_version(api)
    request = api.request.decode_request(frame, version, position)
    try:
        response = HANDLERS[api.key](broker, request, context)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this request only
        response = _failed(broker, api, version, error)
    if type(response) is CoroutineType:
        return _finish(broker, api, response, version)
    return _encoded(broker, api, response, version)


async def _finish(broker: "Broker", api: Api, response: Coroutine[Any, Any, Message], version: int) -> bytes:
    try:
        finished = await response
    except Exception as error:  # noqa: BLE001  # as above
        finished = _failed(broker, api, version, error)
    return _encoded(broker, api, finished, version)


def _encoded(broker: "Broker", api: Api, response: Message, version: int) -> bytes:
    for code in told_errors(response):
        broker.metrics.error(api.key, code)
    return response.encode(version)


def _unsupported_version(api: Api) -> bytes:
    """What Kafka says to a client that is newer than itself, in the one version that any client reads."""
    own = ApiVersion(api_key=api.key, min_version=api.advertised[0], max_version=api.advertised[1])
    return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[own]).encode(0)


def _failed(broker: "Broker", api: Api, version: int, error: Exception) -> Message:
    """The response that tells of an error. Raises it where this version of the response has no place for one."""
    code = error_code(error)
    if not isinstance(error, LogstoreError):
        logger.error("%s failed", api.key.name, exc_info=error)
    fields = {field.name for field in api.response.wire_fields if field.is_in(version)}
    if "error_code" not in fields:
        broker.metrics.error(api.key, code)
        raise error
    message = {"error_message": told(error)} if "error_message" in fields else {}
    response: Any = api.response
    return response(error_code=code, **message)  # type: ignore[no-any-return]
