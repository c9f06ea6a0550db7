"""GET /metrics over HTTP, for Prometheus: one small request, one answer, then the connection is closed.

It has a listener of its own, bounded: few connections, few bytes, a short time for each. Nothing of a request is used
but its first line.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from logstore.addresses import Address

logger = logging.getLogger("logstore.broker")

_CONNECTIONS_MAX = 16
_REQUEST_SIZE_MAX = 8 << 10
_TIMEOUT_S = 10.0
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


class MetricsServer:
    """``expose`` gives the text. For the event loop's thread."""

    def __init__(self, expose: Callable[[], Awaitable[bytes]]) -> None:
        self._expose = expose
        self._server: asyncio.Server | None = None
        self._under_way: set[asyncio.Task[None] | None] = set()

    async def start(self, address: Address) -> Address:
        """Listen, and tell where. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, address.host, address.port, limit=_REQUEST_SIZE_MAX)
        host, port = self._server.sockets[0].getsockname()[:2]
        return Address(host, port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            tasks = [task for task in self._under_way if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._under_way) >= _CONNECTIONS_MAX:
            writer.close()
            return
        task = asyncio.current_task()
        self._under_way.add(task)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # who asked is slow, gone, or asks for something else
        except asyncio.CancelledError:
            pass  # the server stops; nobody waits for this
        except Exception:  # the next one is to be answered all the same
            logger.exception("metrics could not be told")
        finally:
            self._under_way.discard(task)
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
        path, _, version = rest.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            return _response(400, b"this is HTTP/1.1: GET /metrics\n")
        if path.partition(b"?")[0] != b"/metrics":
            return _response(404, b"there is only /metrics\n")
        if method not in (b"GET", b"HEAD"):
            return _response(405, b"there is only GET\n")
        return _response(200, await self._expose(), with_body=method == b"GET")


def _response(status: int, body: bytes, *, with_body: bool = True) -> bytes:
    kind = _CONTENT_TYPE if status == 200 else "text/plain; charset=utf-8"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
