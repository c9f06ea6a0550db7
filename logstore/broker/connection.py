"""One client's connection: its requests in, one after the other; its responses out, in the same order.

A request is served when the one before it has been answered, as in Kafka, but for Produce requests: they are appended
when they come, and answered in order once they are on the disk. What comes meanwhile is not read, and nothing more is
served while the client does not take the responses: what one connection can have in memory is a request, a read buffer
and a response. A client that lets any of it drag on is cut off alone; the deadlines are in BrokerConfig.

All of it runs in the event loop's thread.
"""

import asyncio
import logging
import socket
from collections import deque
from typing import TYPE_CHECKING

from logstore.broker.requests import PRODUCE, Turn, begin
from logstore.broker.sending import Piece, Sender
from logstore.errors import LogstoreError, MalformedMessage
from logstore.wire.framing import FrameReader

if TYPE_CHECKING:
    from logstore.broker.server import Server

logger = logging.getLogger("logstore.broker")

TURNS_MAX = 256  # Produce requests of a connection that are under way
_RECEIVE_RATE_MIN = 64 << 10  # bytes a second that a large request must come with, besides the deadline


class Connection(asyncio.BufferedProtocol):
    """See the module. ``server`` is told when it ends."""

    def __init__(self, server: "Server", peer: socket.socket, host: str) -> None:
        self.broker = server.broker
        self.host = host
        self.read_s = 0.0  # when something was last read
        self.turns: deque[Turn] = deque()  # the requests under way, in the order of their answers
        self._server = server
        self._loop = self.broker.loop
        self._memory = server.memory
        self._metrics = self.broker.metrics
        self._reader = FrameReader(self.broker.config.socket_request_max_bytes)
        self._sender = Sender(peer, self._loop, self.broker.threads, self._on_sent, self.drop)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()  # requests that have come and are not served yet
        self._out: list[Piece] = []
        self._is_serving = False
        self._is_paused = self._awaits_memory = self._is_finishing = False
        self._held_size = 0
        self._sent_size = 0  # as far as it is in the metrics
        self._begun_s = 0.0  # when the request began to come that is not whole yet; 0: there is none

    # ------------------------------------------------------------------------------------------------------ coming in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.read_s = self._loop.time()
        self._server.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, count: int) -> None:
        self.read_s = self._loop.time()
        self._metrics.bytes_in += count
        try:
            frames = self._reader.received(count)
            self._is_serving = True
            for frame in frames:
                if self._waiting or not self._may_serve(frame):
                    self._waiting.append(bytes(frame))
                else:
                    begin(self, frame)
        except LogstoreError as error:
            self.drop(error)
            return
        finally:
            self._is_serving = False
        self._note_unfinished(bool(frames))
        self._go_on()

    def _may_serve(self, frame: memoryview | bytes) -> bool:
        if not self._sender.is_idle or self._is_finishing:
            return False
        turns = self.turns
        if not turns:
            return True
        return turns[-1].api_key == PRODUCE and frame[0] == 0 == frame[1] and len(turns) < TURNS_MAX

    def _note_unfinished(self, has_ended_one: bool) -> None:
        """Take the time, and the memory, of a request that is not whole yet."""
        held_size = self._reader.held_size
        if not held_size:
            self._begun_s = 0.0
        elif has_ended_one or not self._begun_s:
            self._begun_s = self.read_s
        if held_size or self._held_size:
            self._hold(held_size)
        elif self._memory.is_full:
            self._awaits_memory = self._memory.must_wait(self)

    def _hold(self, size: int) -> None:
        """Account for what is in memory of this connection."""
        size += sum(map(len, self._waiting)) + self._sender.queued_size
        if size != self._held_size:
            self._held_size = size
            self._memory.hold(self, size)
        self._awaits_memory = self._memory.must_wait(self)

    def on_memory(self) -> None:
        self._awaits_memory = False
        if self._begun_s:
            self._begun_s = self._loop.time()  # that it waited is not the client's fault
        self._go_on()

    # ------------------------------------------------------------------------------------------------------- going out

    def answered(self) -> None:
        """A turn has its response: those that are next in order go out."""
        turns = self.turns
        while turns and (response := turns[0].response) is not None:
            turns.popleft()
            self._out += response
        if not self._is_serving:
            self._go_on()

    def _go_on(self) -> None:
        """Send what is ready, serve what can be served, and read on if nothing is left to do."""
        self._flush()
        if self._waiting:
            self._serve_waiting()
        must_wait = bool(self._waiting) or self._awaits_memory or self._is_finishing or not self._sender.is_idle
        transport = self._transport
        if transport is None:
            return
        if must_wait != self._is_paused:
            self._is_paused = must_wait
            if must_wait:
                transport.pause_reading()
            else:
                transport.resume_reading()
        if self._held_size:
            self._hold(self._reader.held_size)
        if self._is_finishing and not self.turns and self._sender.is_idle:
            self.close()

    def _serve_waiting(self) -> None:
        while self._waiting and self._may_serve(self._waiting[0]):
            self._is_serving = True
            try:
                begin(self, self._waiting.popleft())
            except LogstoreError as error:
                self.drop(error)
                return
            finally:
                self._is_serving = False
            self._flush()

    def _flush(self) -> None:
        out = self._out
        if not out:
            return
        self._out = []
        if len(out) == 1 and type(out[0]) is bytes:
            self._sender.send(out[0])
        else:
            self._sender.send_pieces(out)
        self._count_sent()
        if not self._sender.is_idle and not self._held_size:
            self._hold(self._reader.held_size)

    def _count_sent(self) -> None:
        sent_size = self._sender.sent_size
        self._metrics.bytes_out += sent_size - self._sent_size
        self._sent_size = sent_size

    def _on_sent(self) -> None:
        self._count_sent()
        self._go_on()

    # ------------------------------------------------------------------------------------------------------- the end

    def check_deadlines(self, now_s: float) -> None:
        """Cut off a client that lets something drag on."""
        config = self.broker.config
        if self._sender.awaits_client:
            if now_s - self._sender.moved_s > config.response_write_timeout_ms / 1000:
                self.drop(MalformedMessage("the client takes no responses"))
        elif self._begun_s and not self._is_paused:
            timeout_s = config.request_read_timeout_ms / 1000 + self._reader.held_size / _RECEIVE_RATE_MIN
            if now_s - self._begun_s > timeout_s:
                self.drop(MalformedMessage("a request that has begun does not come to an end"))
        elif not self.turns and not self._waiting and now_s - self.read_s > config.connections_max_idle_ms / 1000:
            self.close()

    def finish(self) -> None:
        """Take no more requests, and close once those under way are answered."""
        self._is_finishing = True
        self._waiting.clear()
        self._go_on()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def drop(self, error: Exception) -> None:
        """End it at once; what was to be sent is lost."""
        logger.info("connection from %s ended: %s", self.host, error)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._count_sent()
        self._sender.close()
        self._waiting.clear()
        for turn in self.turns:
            turn.abandon()
        self.turns.clear()
        self._memory.forget(self)
        self._server.disconnected(self)
