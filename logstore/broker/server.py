"""The server: it listens, takes connections in, up to its limits, and ends them in the end.

A connection above a limit is closed at once. Where the system has no descriptor left for one, those that wait stay
where they are until there is. One timer looks for connections whose deadlines have passed, for all of them.
"""

import asyncio
import logging
import socket
from collections import Counter

from logstore.addresses import Address
from logstore.broker.broker import Broker
from logstore.broker.connection import Connection
from logstore.storage.files import open_file_limit

logger = logging.getLogger("logstore.broker")

_ACCEPTED_AT_ONCE_MAX = 100
_PAUSE_S = 1.0  # where the system has no descriptor, or no memory, for another connection, or is against it
_RUSH_S = 0.000_06  # some two requests' worth


class Server:
    """Of one broker, in the running event loop."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._connections: set[Connection] = set()
        self._taken_in: set[asyncio.Task[object]] = set()  # connections that are just being made
        self._by_host: Counter[str] = Counter()
        self._connection_count = 0  # of all hosts together
        self._socket: socket.socket | None = None
        self._read_s = 0.0  # when something was last read from a client
        self._to_flush: list[Connection] = []
        self._sweep: asyncio.TimerHandle | None = None
        config = broker.config
        timeouts_ms = (config.request_read_timeout_ms, config.response_write_timeout_ms, config.connections_max_idle_ms)
        # Each may need two descriptors; half of what the process may have is for the logs.
        self._connections_max = min(config.max_connections, max(16, (open_file_limit() // 2 - 64) // 2))
        self._sweep_interval_s = min(1.0, min(timeouts_ms) / 4000)

    @property
    def address(self) -> Address:
        """Where it listens."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return Address(host, port)

    async def start(self) -> None:
        """Begin to listen. Raises OSError where that cannot be."""
        await self.broker.run(lambda: self.broker.groups)  # what they have stored is read before anybody asks for it
        wanted = self.broker.config.listener.address
        self._socket = await self.broker.run(_listening, wanted, self.broker.config.socket_listen_backlog_size)
        self.broker.be_reached_at(Address(wanted.host, self.address.port))
        self.broker.loop.add_reader(self._socket, self._accept)
        self._sweep = self.broker.loop.call_later(self._sweep_interval_s, self._check_deadlines)

    async def stop(self) -> None:
        """Take in no more connections and requests, answer those under way, within shutdown.timeout.ms, and end."""
        self.broker.is_stopping = True
        if self._socket is not None:
            self.broker.loop.remove_reader(self._socket)
            self._socket.close()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._connections):
            connection.finish()
        for fetch in list(self.broker.delayed_fetches):
            fetch.expire()
        # A member that waits for others to join is told to go elsewhere.
        await self.broker.run(self.broker.groups.close)
        deadline_s = self.broker.loop.time() + self.broker.config.shutdown_timeout_ms / 1000
        while (self._connections or self._taken_in) and self.broker.loop.time() < deadline_s:
            await asyncio.sleep(0.01)
        for task in (*self.broker.tasks, *self._taken_in):
            task.cancel()
        for connection in list(self._connections):
            connection.drop(ConnectionAbortedError("the broker is shutting down"))
        while self._connections:
            await asyncio.sleep(0)

    # ---------------------------------------------------------------------------------------------------- connections

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(_ACCEPTED_AT_ONCE_MAX):
            try:
                peer, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                logger.warning("no connection can be accepted: %s", error)
                self.broker.loop.remove_reader(self._socket)
                self.broker.loop.call_later(_PAUSE_S, self._accept_again)
                return
            self._take_in(peer, address[0])

    def _accept_again(self) -> None:
        if self._socket is not None and self._socket.fileno() >= 0:
            self.broker.loop.add_reader(self._socket, self._accept)

    def _take_in(self, peer: socket.socket, host: str) -> None:
        config = self.broker.config
        if self._connection_count >= self._connections_max or self._by_host[host] >= config.max_connections_per_ip:
            self.broker.metrics.connections_refused += 1
            peer.close()
            return
        self._connection_count += 1
        self._by_host[host] += 1
        self.broker.metrics.connections_accepted += 1
        task = self.broker.loop.create_task(self._welcome(peer, host))
        self._taken_in.add(task)
        task.add_done_callback(self._taken_in.discard)

    async def _welcome(self, peer: socket.socket, host: str) -> None:
        connection = Connection(self, peer, host)
        try:
            peer.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # asyncio does it only for sockets that know their protocol. A response's end must not wait for an ack.
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self.broker.loop.connect_accepted_socket(lambda: connection, peer)
        except OSError as error:  # it has gone already
            peer.close()
            logger.info("connection from %s ended: %s", host, error)
            self.disconnected(connection)

    # ----------------------------------------------------------------------------------------------------- in a rush

    def is_rush(self, read_s: float) -> bool:
        """Whether requests come so fast, of all connections, that their responses had better go out together: each of
        them wakes a client, which then takes the processor, and its caches, from what is still to be served."""
        before_s, self._read_s = self._read_s, read_s
        return read_s - before_s < _RUSH_S

    def flush_soon(self, connection: Connection) -> None:
        """Have it send what is ready once all has been served that has come by now."""
        if not self._to_flush:
            self.broker.loop.call_soon(self._flush)
        self._to_flush.append(connection)

    def _flush(self) -> None:
        connections, self._to_flush = self._to_flush, []
        for connection in connections:
            connection.flush()

    def connected(self, connection: Connection) -> None:
        self._connections.add(connection)

    def disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.broker.metrics.connections_closed += 1
        self._connection_count -= 1
        self._by_host[connection.host] -= 1
        if not self._by_host[connection.host]:
            del self._by_host[connection.host]

    def _check_deadlines(self) -> None:
        now_s = self.broker.loop.time()
        for connection in list(self._connections):
            connection.check_deadlines(now_s)
        self._sweep = self.broker.loop.call_later(self._sweep_interval_s, self._check_deadlines)


def _listening(address: Address, backlog: int) -> socket.socket:
    """A socket that listens; on all interfaces, of both kinds of addresses, where the host is empty."""
    if not address.host:
        is_dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if is_dual else socket.AF_INET
        listening = socket.create_server(("", address.port), family=family, backlog=backlog, dualstack_ipv6=is_dual)
    else:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.create_server(found[0][4][:2], family=found[0][0], backlog=backlog)
    listening.setblocking(False)
    return listening
