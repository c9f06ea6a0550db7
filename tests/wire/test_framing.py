"""Frames come out of a stream whole, however it is cut; and a peer's memory is what it has sent, not what it says."""

from itertools import cycle
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.errors import MalformedMessage
from logstore.wire.framing import OWN_BYTES_MIN, SHARED_BYTES_MAX, SHARED_BYTES_MIN, FrameReader

SIZE_MAX = 1 << 20


def framed(body: bytes) -> bytes:
    return pack(">i", len(body)) + body


def feed(reader: FrameReader, stream: bytes, sizes: list[int]) -> list[bytes]:
    """The frames of ``stream``, read in pieces of at most ``sizes``."""
    frames = []
    position = 0
    for size in cycle(sizes):
        if position == len(stream):
            return frames
        target = reader.buffer()
        assert len(target) > 0
        piece = stream[position : position + min(size, len(target))]
        target[: len(piece)] = piece
        position += len(piece)
        frames += [bytes(frame) for frame in reader.received(len(piece))]
    raise AssertionError


BODIES = [b"a", b"xyz" * 40, b"q" * (SHARED_BYTES_MIN - 4), b"r" * (SHARED_BYTES_MIN - 3), b"s" * 9000, b"t"]
LARGE = [
    b"b" * (SHARED_BYTES_MAX - 4),
    b"c" * (SHARED_BYTES_MAX - 3),
    b"d",
    b"e" * (OWN_BYTES_MIN + 1),
    b"f" * SIZE_MAX,
]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 1000, SIZE_MAX])
def test_frames_come_whole_however_the_stream_is_cut(size: int) -> None:
    reader = FrameReader(SIZE_MAX)
    bodies = BODIES if size == 1 else BODIES + LARGE if size > 7 else BODIES + LARGE[:4]
    assert feed(reader, b"".join(map(framed, bodies)), [size]) == bodies
    assert reader.held_size == 0


@given(
    st.lists(st.one_of(st.binary(min_size=1, max_size=20), st.integers(1, 200_000).map(bytes)), max_size=8),
    st.lists(st.one_of(st.integers(1, 10), st.integers(1, 200_000)), min_size=1, max_size=5),
)
def test_frames_of_any_size_in_pieces_of_any_size(bodies: list[bytes], sizes: list[int]) -> None:
    sizes.append(SHARED_BYTES_MAX)
    assert feed(FrameReader(SIZE_MAX), b"".join(map(framed, bodies)), sizes) == bodies


def test_frames_of_one_read_are_valid_together() -> None:
    reader = FrameReader(SIZE_MAX)
    stream = b"".join(framed(bytes([index]) * 10) for index in range(5))
    reader.buffer()[: len(stream)] = stream
    assert [bytes(frame) for frame in reader.received(len(stream))] == [bytes([index]) * 10 for index in range(5)]


def test_a_large_frame_has_a_buffer_of_its_own_that_stays_valid() -> None:
    reader = FrameReader(SIZE_MAX)
    body = bytes(range(256)) * 1024
    frames: list[memoryview] = []
    for stream in (framed(body), framed(b"z" * len(body))):
        position = 0
        while position < len(stream):
            target = reader.buffer()
            piece = stream[position : position + len(target)]
            target[: len(piece)] = piece
            position += len(piece)
            frames += reader.received(len(piece))
    assert [bytes(frame) for frame in frames] == [body, b"z" * len(body)]


@pytest.mark.parametrize("size", [0, -1, -(2**31), SIZE_MAX + 1, 2**31 - 1, int.from_bytes(b"GET ", "big")])
def test_a_size_that_no_frame_has_is_refused(size: int) -> None:
    reader = FrameReader(SIZE_MAX)
    with pytest.raises(MalformedMessage, match=f"frame of {size} bytes"):
        feed(reader, pack(">i", size), [1])


def test_a_frame_that_is_only_announced_costs_little() -> None:
    reader = FrameReader(100 << 20)
    assert feed(reader, pack(">i", 100 << 20) + b"x" * 10, [14]) == []
    assert reader.held_size == 10
    assert len(reader.buffer()) <= OWN_BYTES_MIN


def test_memory_follows_what_has_come() -> None:
    reader = FrameReader(100 << 20)
    feed(reader, pack(">i", 100 << 20), [4])
    for _ in range(5_000_000 // 1000):
        target = reader.buffer()
        assert len(target) <= max(reader.held_size, OWN_BYTES_MIN)
        reader.received(min(1000, len(target)))
    assert 4_000_000 < reader.held_size <= 5_000_000


def test_what_is_held_is_known() -> None:
    reader = FrameReader(SIZE_MAX)
    assert feed(reader, framed(b"abc") + b"\0\0", [100]) == [b"abc"]
    assert reader.held_size == 2
    assert feed(reader, b"\0\5hell", [100]) == []
    assert reader.held_size == 8
    assert feed(reader, b"o", [100]) == [b"hello"]
    assert reader.held_size == 0


def test_an_idle_connection_has_a_small_buffer() -> None:
    reader = FrameReader(SIZE_MAX)
    assert feed(reader, framed(b"ping") * 100, [8]) == [b"ping"] * 100
    assert len(reader.buffer()) == SHARED_BYTES_MIN


def test_the_buffer_grows_where_much_comes_at_once() -> None:
    reader = FrameReader(SIZE_MAX)
    feed(reader, framed(b"x" * 996) * 200, [SIZE_MAX])
    assert len(reader.buffer()) > SHARED_BYTES_MAX - 1000
