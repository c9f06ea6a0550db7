"""What a handler knows of a request besides the request itself."""

from typing import NamedTuple


class RequestContext(NamedTuple):
    """``connection`` is the same object for all requests of one connection, and nothing else to a handler."""

    api_version: int
    client_id: str | None = None
    client_host: str = ""
    connection: object = None
