"""Sending a connection's responses: bytes as they are, records out of the log's files.

Pieces go out in the order given. Bytes and small slices are joined into one write; a large slice leaves by
``sendfile``, without a copy in this process. What a full socket does not take waits here until there is room. Records
that are not in the page cache are read ahead in a thread: a cold disk must not stall the other connections.

Owns nothing but a duplicate of the socket's descriptor while it waits for room, since the event loop lets nobody else
wait on its transports' own.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from time import monotonic

from logstore.errors import LogstoreError
from logstore.storage.file_slice import FileSlice

Piece = bytes | bytearray | memoryview | FileSlice

# Below this a copy is cheaper than a system call of its own.
SENDFILE_SIZE_MIN = 32 << 10
_JOIN_SIZE_MAX = 256 << 10  # of bytes that are joined to one write
_SENDFILE_SIZE_MAX = 1 << 20  # at a time: what is looked for in the page cache before it is sent
_TURN_SIZE_MAX = 4 << 20  # what one connection sends before others have their turn
_MORE = getattr(socket, "MSG_MORE", 0)


class Sender:
    """Of one connection. ``on_idle`` is called when all has been sent that could not be sent at once; ``on_failure``
    when the client, or the log under what was promised to it, is gone: then nothing more is sent."""

    __slots__ = (
        *("_failed", "_is_warm", "_loop", "_on_failure", "_on_idle", "_queue", "_room_fd", "_socket", "_threads"),
        *("moved_s", "sent_size"),
    )

    def __init__(
        self,
        target: socket.socket,
        loop: asyncio.AbstractEventLoop,
        threads: Executor,
        on_idle: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._socket = target
        self._loop = loop
        self._threads = threads
        self._on_idle, self._on_failure = on_idle, on_failure
        self._queue: deque[Piece] = deque()
        self._room_fd = -1  # while it waits for room
        self._is_warm = False  # the head of the queue was just read in a thread
        self._failed = False
        self.sent_size = 0
        self.moved_s = 0.0  # when the client last took something, of what it did not take at once

    @property
    def is_idle(self) -> bool:
        """Whether everything was sent."""
        return not self._queue

    @property
    def queued_size(self) -> int:
        """Bytes of memory that wait to be sent; slices of files take none."""
        return sum(len(piece) for piece in self._queue if type(piece) is not FileSlice)

    @property
    def awaits_client(self) -> bool:
        """Whether it is for the client to take what was sent before."""
        return self._room_fd >= 0

    def send(self, data: bytes) -> None:
        """Send bytes behind all that was given before; what is lost with the connection is nobody's concern."""
        if not self._queue and not self._failed:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._fail(error)
                return
            if sent == len(data):
                return
            self._queue.append(memoryview(data)[sent:])
            self._await_room()
        elif not self._failed:
            self._queue.append(data)

    def send_pieces(self, pieces: Sequence[Piece]) -> None:
        """As ``send``, of pieces."""
        if self._failed:
            return
        was_idle = not self._queue
        self._queue.extend(pieces)
        if was_idle:
            self._push()

    def close(self) -> None:
        """Let go of everything; nothing is called any more."""
        self._failed = True
        self._queue.clear()
        self._forget_room()

    # ------------------------------------------------------------------------------------------------------- sending

    def _push(self) -> None:
        """Send until all is sent, the socket is full, records must be read first, or others have waited long enough."""
        size_before = self.sent_size
        try:
            while self._queue and self.sent_size - size_before < _TURN_SIZE_MAX:
                piece = self._queue[0]
                is_large = type(piece) is FileSlice and piece.size >= SENDFILE_SIZE_MIN
                if not (self._send_slice(piece) if is_large else self._send_joined()):  # type: ignore[arg-type]
                    return
        except (OSError, LogstoreError) as error:
            self._fail(error)
            return
        if self._queue:
            self._await_room()

    def _send_joined(self) -> bool:
        """Send what is at the head, bytes and small slices, in one write: whether all of that went."""
        data, count, is_last = self._joined()
        if not count:
            return False
        try:
            sent = self._socket.send(data, 0 if is_last else _MORE)
        except BlockingIOError:
            sent = 0
        self.sent_size += sent
        for _ in range(count):
            self._queue.popleft()
        if sent == len(data):
            return True
        self._queue.appendleft(memoryview(data)[sent:])
        self._await_room()
        return False

    def _joined(self) -> tuple[bytes | bytearray | memoryview, int, bool]:
        """The bytes at the head of the queue, of how many pieces they are, and whether nothing is behind them. No piece
        where the first has to be read in a thread, which is begun."""
        parts: list[bytes | bytearray | memoryview] = []
        size = 0
        for piece in self._queue:
            if type(piece) is not FileSlice:
                part = piece
            elif piece.size >= SENDFILE_SIZE_MIN:
                break
            elif (read := piece.read() if self._is_warm else piece.read_cached()) is not None:
                part, self._is_warm = read, False
            else:
                if not parts:
                    self._read_in_thread(piece)
                break
            parts.append(part)  # type: ignore[arg-type]  # a slice is none of these
            size += len(part)
            if size >= _JOIN_SIZE_MAX:
                break
        count = len(parts)
        return parts[0] if count == 1 else b"".join(parts), count, count == len(self._queue)

    def _send_slice(self, piece: FileSlice) -> bool:
        """Send a large slice at the head, or the next part of it: whether all of that part went."""
        size = min(piece.size, _SENDFILE_SIZE_MAX)
        if not (self._is_warm or piece.is_cached(size)):
            self._read_in_thread(piece._replace(size=size))
            return False
        self._is_warm = False
        try:
            sent = piece.file.send(self._socket.fileno(), piece.position, size)
        except BlockingIOError:
            self._await_room()
            return False
        if not sent:
            raise piece.cut_short(0)
        self.sent_size += sent
        if sent == piece.size:
            self._queue.popleft()
        else:
            self._queue[0] = piece._replace(position=piece.position + sent, size=piece.size - sent)
        return True  # less than was wanted: the next try tells whether the socket is full

    # ------------------------------------------------------------------------------------------------------- waiting

    def _await_room(self) -> None:
        if self._room_fd >= 0:
            return
        try:
            self._room_fd = os.dup(self._socket.fileno())
        except OSError as error:  # no descriptor is left
            self._fail(error)
            return
        self._loop.add_writer(self._room_fd, self._on_room)
        self.moved_s = monotonic()

    def _on_room(self) -> None:
        size_before = self.sent_size
        self._push()
        if self._failed:
            return
        if self.sent_size != size_before:
            self.moved_s = monotonic()
        if not self._queue:
            self._forget_room()
            self._on_idle()

    def _forget_room(self) -> None:
        if self._room_fd >= 0:
            self._loop.remove_writer(self._room_fd)
            os.close(self._room_fd)
            self._room_fd = -1

    def _read_in_thread(self, piece: FileSlice) -> None:
        """Have a slice in the page cache, then go on: with it as it is by then, be it that it had to be read again."""
        self._forget_room()
        self._threads.submit(self._read, piece)

    def _read(self, piece: FileSlice) -> None:
        with contextlib.suppress(LogstoreError):  # the try to send it will meet the same
            piece.read()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._on_read)

    def _on_read(self) -> None:
        if self._failed:
            return
        self._is_warm = True
        self._push()
        if not self._queue and not self._failed:
            self._forget_room()
            self._on_idle()

    def _fail(self, error: Exception) -> None:
        self.close()
        self._on_failure(error)
