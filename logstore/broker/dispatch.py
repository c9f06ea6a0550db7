"""From a request's bytes to its response's: which handler answers which API, and what becomes of errors.

A handler is a module of ``handlers`` with the API's name (``handlers/create_topics.py``, ``wire/messages/create_topics.py``)
and a function ``handle(broker, request, context)``, which gives the response; one that has to wait is a coroutine
function. Modules are imported when first asked for: most clients use few APIs, and a broker starts without them.

What is advertised is what the table of wire.api and the handlers have in common. An error of ours that a handler lets
out becomes the response's error code, if it has one; else the connection ends, as it does for bytes that are no request.
"""

import importlib
import logging
import pkgutil
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from logstore.broker import handlers
from logstore.broker.context import RequestContext
from logstore.errors import LogstoreError, MalformedMessage
from logstore.wire.api import APIS, Api, ApiKey
from logstore.wire.error_codes import ErrorCode, error_code
from logstore.wire.schema import Message

if TYPE_CHECKING:
    from logstore.broker.broker import Broker

logger = logging.getLogger("logstore.broker")

Handler = Callable[["Broker", Any, RequestContext], Any]


class Handlers(Mapping[int, Handler]):
    """The function ``handle`` of each API that has a module, by the API's key."""

    def __init__(self) -> None:
        self._names = {key.value: key.name.lower() for key in ApiKey}
        there = {module.name for module in pkgutil.iter_modules(handlers.__path__)}
        self._keys = [key for key, name in self._names.items() if name in there]
        self._handlers: dict[int, Handler] = {}

    def __getitem__(self, key: int) -> Handler:
        handler = self._handlers.get(key)
        if handler is None:
            if key not in self._keys:
                raise KeyError(key)
            module = importlib.import_module(f"{handlers.__name__}.{self._names[key]}")
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
    broker: "Broker", request_bytes: bytes, position: int, api_key: int, context: RequestContext
) -> bytes | Coroutine[Any, Any, bytes]:
    """The response's body, or what gives it when it is awaited. ``request_bytes`` from ``position`` on are the request's body.

    Raises MalformedMessage for what is no request of an API that is advertised.
    """
    api = _api(api_key, context)
    if api is None:
        return _unsupported_version()
    request = api.request.decode(request_bytes, context.api_version, position)
    try:
        response = HANDLERS[api_key](broker, request, context)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this request only
        response = _failed(broker, api, error)
    if type(response) is CoroutineType:
        return _finish(broker, api, response, context.api_version)
    return response.encode(context.api_version)  # type: ignore[no-any-return]


async def _finish(broker: "Broker", api: Api, response: Coroutine[Any, Any, Message], version: int) -> bytes:
    try:
        finished = await response
    except Exception as error:  # noqa: BLE001  # as above
        finished = _failed(broker, api, error)
    return finished.encode(version)


def _api(api_key: int, context: RequestContext) -> Api | None:
    """The API that a request is for; None for a version of ApiVersions that is not known, which clients may try."""
    api = APIS.get(api_key)
    if api is None or api_key not in HANDLERS:
        raise MalformedMessage(f"there is no API {api_key} here")
    first, last = api.advertised
    if not first <= context.api_version <= last:
        if api_key == ApiKey.API_VERSIONS:
            return None
        raise MalformedMessage(f"{api.key.name} has versions {first} to {last}, not {context.api_version}")
    return api


def _unsupported_version() -> bytes:
    """What Kafka says to a client that is newer than itself, in the one version that any client reads."""
    from logstore.wire.messages.api_versions import ApiVersion, ApiVersionsResponse

    own = ApiVersion(ApiKey.API_VERSIONS, *APIS[ApiKey.API_VERSIONS].advertised)
    return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[own]).encode(0)


def _failed(broker: "Broker", api: Api, error: Exception) -> Message:
    """The response that tells of an error. Raises it where the response has no place for one."""
    code = error_code(error)
    if not isinstance(error, LogstoreError):
        logger.exception("%s failed", api.key.name, exc_info=error)
    broker.metrics.error(api.key, code)
    fields = {field.name for field in api.response.wire_fields}
    if "error_code" not in fields:
        raise error
    message = {"error_message": str(error)} if "error_message" in fields else {}
    return api.response(error_code=code, **message)
