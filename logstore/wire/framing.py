"""Frames out of a stream of bytes::

    size int32 | message of so many bytes

A FrameReader owns the memory of one connection's input and nothing else: who has the socket reads into ``buffer()`` and
says by ``received(count)`` how much came. Small frames share a buffer and are handed out as views of it; it starts
small, since most of thousands of connections are idle, and grows with what comes. A frame that would not fit gets a
buffer of its own, which doubles as its bytes arrive and ends at exactly its size: a peer that only announces a large
frame does not cost one. A size that is zero, negative or over the limit is refused before that.
"""

from struct import Struct

from logstore.errors import MalformedMessage

_SIZE = Struct(">i")
SHARED_BYTES_MIN = 4 << 10
SHARED_BYTES_MAX = 64 << 10
OWN_BYTES_MIN = 2 * SHARED_BYTES_MAX

assert _SIZE.size == 4


class FrameReader:
    """Of one connection. After MalformedMessage nothing more can be read: close it."""

    __slots__ = ("_end", "_frame_size", "_needed", "_own", "_own_size", "_shared", "_size_max", "_start")

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._shared = memoryview(bytearray(SHARED_BYTES_MIN))
        self._needed = SHARED_BYTES_MIN  # of it, from the next read on
        self._start = self._end = 0  # what the shared buffer holds, the size bytes of its frame first
        self._own: bytearray | None = None  # of a frame that the shared buffer cannot hold
        self._own_size = self._frame_size = 0  # how much of it is there, and its whole size

    @property
    def held_size(self) -> int:
        """Bytes of frames that are not whole yet."""
        return self._end - self._start + self._own_size

    def buffer(self) -> memoryview:
        """Where to read to; never empty. Frames handed out before are invalid from now on, but for those that had a
        buffer of their own."""
        if self._own is not None:
            if self._own_size == len(self._own):
                self._own = self._grown(self._own)
            return memoryview(self._own)[self._own_size :]
        held = self._end - self._start
        if self._needed > len(self._shared):
            shared = memoryview(bytearray(self._needed))
            shared[:held] = self._shared[self._start : self._end]
            self._shared = shared
        elif held and self._start:
            self._shared[:held] = bytes(self._shared[self._start : self._end])
        self._start, self._end = 0, held
        return self._shared[held:]

    def close(self) -> None:
        """Let go of the memory; nothing is read any more."""
        self._shared, self._own = memoryview(b""), None
        self._start = self._end = self._own_size = 0

    def received(self, count: int) -> list[memoryview]:
        """The frames that ``count`` bytes more have made whole, without their sizes. Raises MalformedMessage."""
        if self._own is not None:
            self._own_size += count
            if self._own_size < self._frame_size:
                return []
            frame = memoryview(self._own)
            self._own, self._own_size = None, 0
            return [frame]
        self._end += count
        frames: list[memoryview] = []
        start, end, shared = self._start, self._end, self._shared
        if end == len(shared):  # more may have been there
            self._needed = min(2 * end, SHARED_BYTES_MAX)
        while end - start >= _SIZE.size:
            size: int = _SIZE.unpack_from(shared, start)[0]
            if not 0 < size <= self._size_max:
                raise MalformedMessage(f"a frame of {size} bytes; it must be from 1 to {self._size_max}")
            first = start + _SIZE.size
            if first + size > end:
                if _SIZE.size + size > SHARED_BYTES_MAX:
                    self._begin_own(size, shared[first:end])
                    start = end
                else:
                    self._needed = max(self._needed, _SIZE.size + size)
                break
            start = first + size
            frames.append(shared[first:start])
        self._start = start
        return frames

    def _begin_own(self, size: int, begun: memoryview) -> None:
        self._own = bytearray(min(size, OWN_BYTES_MIN))
        self._own[: len(begun)] = begun
        self._own_size, self._frame_size = len(begun), size

    def _grown(self, full: bytearray) -> bytearray:
        """Not ``full`` itself, made larger: while a view of it is alive it cannot be."""
        grown = bytearray(min(self._frame_size, 2 * len(full)))
        grown[: len(full)] = full
        return grown
