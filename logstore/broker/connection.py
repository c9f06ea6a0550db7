"""One client's connection: its requests in, one after the other; its responses out, in the same order.

A request is served when the one before it has been answered, as in Kafka, but for Produce requests: they are appended
when they come, and answered in order once they are on the disk. What comes meanwhile is not read, and nothing more is
served while the client does not take the responses: what one connection can have in memory is a request, a read buffer
and a response. A client that lets any of it drag on is cut off alone; the deadlines are in BrokerConfig.

All of it runs in the event loop's thread.
"""

import asyncio
import logging
import select
import socket
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from logstore.broker.refusal import Refused
from logstore.broker.requests import Turn, begin
from logstore.broker.sending import Piece, Sender
from logstore.errors import LogstoreError, MalformedMessage
from logstore.storage.file_slice import FileSlice
from logstore.wire.framing import SHARED_BYTES_MAX, FrameReader

if TYPE_CHECKING:
    from logstore.broker.server import Server

logger = logging.getLogger("logstore.broker")

TURNS_MAX = 256  # Produce requests of a connection that are under way
_JOINED_SIZE_MAX = 1 << 10  # of a response that waits for the next one
_RECEIVE_RATE_MIN = 64 << 10  # bytes a second that a request must come with which takes longer than the deadline
_HUNG_UP = getattr(select, "POLLRDHUP", 0)  # where the system does not know it, only of who is gone altogether


class Connection(asyncio.BufferedProtocol):
    """See the module. ``server`` is told when it ends."""

    def __init__(self, server: "Server", peer: socket.socket, host: str) -> None:
        self.broker = server.broker
        self.host = host
        self._peer = peer
        self.read_s = 0.0  # when something was last read
        self.answered_s = 0.0  # when a request that had to wait was last answered
        self.turns: deque[Turn] = deque()  # of requests that have to wait, and of those behind them
        self.out: list[Piece] = []  # responses that go out next
        self._server = server
        self._loop = self.broker.loop
        self._memory = self.broker.memory
        self._metrics = self.broker.metrics
        self._reader = FrameReader(self.broker.config.socket_request_max_bytes)
        self._sender = Sender(peer, self._loop, self.broker.threads, self._go_on, self.drop)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()  # requests that have come and are not served yet
        self._is_serving = False
        self._is_paused = self._awaits_memory = self._is_finishing = False
        self._is_at_ease = True  # nothing but responses that are ready to go is to be seen to
        self._held_size = 0
        # When the request began to come that is not whole yet, 0: there is none; or when it was last seen to come fast
        # enough, and how much of it was there by then.
        self._begun_s, self._begun_size = 0.0, 0

    # ------------------------------------------------------------------------------------------------------ coming in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.read_s = monotonic()
        self._server.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, count: int) -> None:
        self.read_s = monotonic()
        self._metrics.bytes_in += count
        self._is_serving = True
        try:
            frames = self._reader.received(count)
            for frame in frames:
                if (self._is_at_ease and not self.turns) or (not self._waiting and self._may_serve(frame)):
                    begin(self, frame)
                    if self.out and len(frames) > 1:
                        self._flush_if_large()
                else:
                    self._waiting.append(bytes(frame))
                    self._is_at_ease = False
        except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this connection only
            self.drop(error)
            return
        finally:
            self._is_serving = False
        if self._is_at_ease and not self._reader.held_size and not self._memory.is_full:
            if self._server.is_rush(self.read_s):
                self._server.flush_soon(self)
                return
            self._flush()
            if self._sender.is_idle:
                return
        self._note_unfinished(bool(frames))
        self._go_on()

    def flush(self) -> None:
        """Send what is ready: the server's turn to do so has come."""
        self._flush()
        if not self._sender.is_idle:
            self._go_on_alone()

    def _may_serve(self, frame: memoryview | bytes) -> bool:
        """Whether the request that is next in order may be served now."""
        if not self._sender.is_idle or self._is_finishing:
            return False
        turns = self.turns
        if not turns:
            return True
        return turns[-1].may_overlap and frame[0] == 0 == frame[1] and len(turns) < TURNS_MAX

    def _note_unfinished(self, has_ended_one: bool) -> None:
        """Take the time of a request that is not whole yet."""
        if not self._reader.held_size:
            self._begun_s = 0.0
        elif has_ended_one or not self._begun_s:
            self._begun_s, self._begun_size = self.read_s, 0

    def _account(self) -> None:
        """Take note of what is in memory of this connection, and of whether it may have more. What fits the buffer that
        everybody has never waits: who fills the memory holds up large requests only."""
        size = self._reader.held_size + sum(map(len, self._waiting)) + self._sender.queued_size
        if self.turns:
            size += sum(turn.size for turn in self.turns)
        if size != self._held_size:
            self._held_size = size
            self._memory.hold(self, size)
        self._awaits_memory = size > SHARED_BYTES_MAX and self._memory.must_wait(self)

    def on_memory(self) -> None:
        self._awaits_memory = False
        if self._begun_s:  # that it waited is not the client's fault
            self._begun_s, self._begun_size = monotonic(), self._reader.held_size
        self._go_on_alone()

    # ------------------------------------------------------------------------------------------------------- going out

    def answered(self) -> None:
        """A turn has its response: those that are next in order go out."""
        turns = self.turns
        while turns and (response := turns[0].response) is not None:
            turns.popleft()
            self.out += response
        if not self._is_serving:
            self._go_on_alone()

    def _go_on_alone(self) -> None:
        """``_go_on`` where others are served by the same call: what fails here must not keep it from them."""
        try:
            self._go_on()
        except Exception as error:  # noqa: BLE001  # as above
            self.drop(error)

    def _go_on(self) -> None:
        """Send what is ready, serve what can be served, and read on if nothing is left to do."""
        self._flush()
        self._serve_waiting()
        transport = self._transport
        if transport is None:
            return
        self._account()
        must_wait = bool(self._waiting) or self._awaits_memory or self._is_finishing or not self._sender.is_idle
        if must_wait != self._is_paused:
            self._is_paused = must_wait
            if must_wait:
                transport.pause_reading()
            else:
                transport.resume_reading()
        self._is_at_ease = not (must_wait or self._begun_s or self._held_size)
        if self._is_finishing and not self.turns and self._sender.is_idle:
            self.close()

    def _serve_waiting(self) -> None:
        waiting = self._waiting
        while waiting and self._may_serve(waiting[0]):
            self._is_serving = True
            try:
                begin(self, waiting.popleft())
            except Exception as error:  # noqa: BLE001  # as above
                self.drop(error)
                return
            finally:
                self._is_serving = False
            self._flush()

    def _flush_if_large(self) -> None:
        """Small responses to requests that came together go out together; of others there is one at a time."""
        last = self.out[-1]
        if type(last) is not bytes or len(last) > _JOINED_SIZE_MAX:
            self._flush()
            self._is_at_ease = self._is_at_ease and self._sender.is_idle

    def _flush(self) -> None:
        out = self.out
        if not out:
            return
        data = out[0]
        if len(out) == 1 and type(data) is bytes:
            out.clear()
            self._metrics.bytes_out += len(data)
            self._sender.send(data)
        else:
            self.out = []
            self._metrics.bytes_out += sum(piece.size if type(piece) is FileSlice else len(piece) for piece in out)
            self._sender.send_pieces(out)

    # ------------------------------------------------------------------------------------------------------- the end

    def check_deadlines(self, now_s: float) -> None:
        """Cut off a client that lets something drag on."""
        config = self.broker.config
        if self._sender.awaits_client:
            if now_s - self._sender.moved_s > config.response_write_timeout_ms / 1000:
                self.drop(MalformedMessage("the client takes no responses"))
        elif self._begun_s and not self._is_paused:
            if now_s - self._begun_s > config.request_read_timeout_ms / 1000:
                self._check_rate(now_s)
        elif now_s - max(self.read_s, self.answered_s, self._sender.moved_s) > config.connections_max_idle_ms / 1000:
            if not self.turns and not self._waiting:
                self.close()
            elif self._is_paused and self._has_hung_up():
                self.drop(ConnectionResetError("the client has hung up"))

    def _check_rate(self, now_s: float) -> None:
        """A request that takes longer than one may must be large, and go on coming: what came at once buys no time."""
        size = self._reader.held_size
        if size - self._begun_size < (now_s - self._begun_s) * _RECEIVE_RATE_MIN:
            self.drop(MalformedMessage("a request that has begun does not come to an end"))
        self._begun_s, self._begun_size = now_s, size

    def _has_hung_up(self) -> bool:
        """While nothing is read the event loop does not tell."""
        poll = select.poll()
        poll.register(self._peer, _HUNG_UP)
        return bool(poll.poll(0))

    def finish(self) -> None:
        """Take no more requests, and close once those under way are answered."""
        self._is_finishing = True
        self._waiting.clear()
        self._go_on()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def drop(self, error: BaseException) -> None:
        """End it at once; what was to be sent is lost."""
        if isinstance(error, LogstoreError | Refused | OSError):
            logger.info("connection from %s ended: %s", self.host, error)
        else:
            logger.error("a request from %s failed", self.host, exc_info=error)
        self._is_finishing, self._is_at_ease = True, False
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._sender.close()
        self._reader.close()
        self._waiting.clear()
        for turn in self.turns:
            turn.abandon()
        self.turns.clear()
        self._memory.forget(self)
        self._server.disconnected(self)
