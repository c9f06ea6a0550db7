"""What stands before each request and each response.

::

    request     api_key int16 | api_version int16 | correlation_id int32 | client_id nullable string | "flexible": tags
    response    correlation_id int32 | "flexible": tags

A header is flexible where its message is, with two exceptions that let clients and brokers of any age talk about
versions: client_id never has the compact form, and the header of an ApiVersions response is never flexible. Of an API
that is not in the table of ``api`` no header is.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from struct import Struct
from typing import Any, NamedTuple

from logstore.format.record import Buffer
from logstore.wire.api import APIS, ApiKey
from logstore.wire.primitives import REQUEST_ELEMENTS_MAX, bad_size, bad_text, cut_short, skip_tags

_REQUEST = Struct(">hhih")  # with the size of client_id
_CORRELATION_ID = Struct(">i")
_FLEXIBLE_RESPONSE = Struct(">ix")  # no tags

assert (_REQUEST.size, _CORRELATION_ID.size, _FLEXIBLE_RESPONSE.size) == (10, 4, 5)


class RequestHeader(NamedTuple):
    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None

    def encode(self) -> bytes:
        client_id = b"" if self.client_id is None else self.client_id.encode()
        size = -1 if self.client_id is None else len(client_id)
        fixed = _REQUEST.pack(self.api_key, self.api_version, self.correlation_id, size)
        return fixed + client_id + (b"\0" if _is_flexible(self.api_key, self.api_version) else b"")

    @staticmethod
    def decode(frame: Buffer) -> "tuple[RequestHeader, int]":
        """The header, and the position of the request behind it. Raises MalformedMessage."""
        view = memoryview(frame)
        if len(view) < _REQUEST.size:
            raise cut_short(0)
        api_key, api_version, correlation_id, size = _REQUEST.unpack_from(view)
        position = _REQUEST.size
        client_id = None
        if size != -1:
            if not 0 <= size <= len(view) - position:
                raise bad_size(size, position, len(view))
            try:
                client_id = str(view[position : position + size], "utf-8")
            except UnicodeDecodeError:
                raise bad_text(position) from None
            position += size
        if _is_flexible(api_key, api_version):
            position = _after_tags(view, position)
        return _new_header((api_key, api_version, correlation_id, client_id)), position


_new_header: Callable[[tuple[Any, ...]], RequestHeader] = partial(tuple.__new__, RequestHeader)


def response_header(api_key: int, api_version: int, correlation_id: int) -> bytes:
    is_flexible = _is_flexible(api_key, api_version) and api_key != ApiKey.API_VERSIONS
    return (_FLEXIBLE_RESPONSE if is_flexible else _CORRELATION_ID).pack(correlation_id)


def decode_response_header(frame: Buffer, api_key: int, api_version: int) -> tuple[int, int]:
    """The correlation id, and the position of the response behind the header. Raises MalformedMessage."""
    view = memoryview(frame)
    if len(view) < _CORRELATION_ID.size:
        raise cut_short(0)
    correlation_id: int = _CORRELATION_ID.unpack_from(view)[0]
    position = _CORRELATION_ID.size
    if _is_flexible(api_key, api_version) and api_key != ApiKey.API_VERSIONS:
        position = _after_tags(view, position)
    return correlation_id, position


@lru_cache(maxsize=1024)
def _is_flexible(api_key: int, api_version: int) -> bool:
    api = APIS.get(api_key)
    return api is not None and api.request.is_flexible(api_version)


def _after_tags(view: memoryview, position: int) -> int:
    try:
        count = view[position]
        position += 1
        if count:
            position, _ = skip_tags(view, count, position, REQUEST_ELEMENTS_MAX)
    except IndexError:
        raise cut_short(position) from None
    if position > len(view):
        raise cut_short(position)
    return position
