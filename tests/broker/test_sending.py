"""Pieces of a response go out whole and in order, whatever the socket and the page cache make of it."""

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from logstore.broker.sending import SENDFILE_SIZE_MIN, Piece, Sender
from logstore.errors import CorruptBatch
from logstore.storage import files
from logstore.storage.file_slice import FileSlice


@pytest.fixture
def file(tmp_path: Path) -> files.File:
    """8 MiB in which no place looks like another."""
    path = tmp_path / "file"
    path.write_bytes(random.Random(1).randbytes(8 << 20))
    return files.open_file(path)


class Ends:
    """A sender, and what became of what it was given."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        self.ours = ours
        self.idle = asyncio.Event()
        self.failures: list[Exception] = []
        self.sender = Sender(ours, asyncio.get_running_loop(), threads, self.idle.set, self._fail)
        self.received = b""
        self._reader = threading.Thread(target=self._read)

    def _fail(self, error: Exception) -> None:
        self.failures.append(error)
        self.idle.set()

    def read_all(self) -> None:
        self._reader.start()

    def _read(self) -> None:
        while data := self.theirs.recv(1 << 20):
            self.received += data

    async def sent(self) -> bytes:
        """All that came, once nothing is left to be sent."""
        while not self.sender.is_idle:
            self.idle.clear()
            await self.idle.wait()
        self.sender.close()
        self.ours.close()
        await asyncio.to_thread(self._reader.join)
        return self.received


def run(test: Callable[[Ends], Any]) -> Any:
    async def in_loop() -> Any:
        with ThreadPoolExecutor(2) as threads:
            ends = Ends(threads)
            try:
                return await asyncio.wait_for(test(ends), 30)
            finally:
                ends.sender.close()
                ends.ours.close()
                ends.theirs.close()

    return asyncio.run(in_loop())


def octets(pieces: Sequence[Piece]) -> bytes:
    return b"".join(piece.read() if isinstance(piece, FileSlice) else bytes(piece) for piece in pieces)


def mixed(file: files.File) -> list[Piece]:
    large, small = SENDFILE_SIZE_MIN, SENDFILE_SIZE_MIN - 1
    slices = [FileSlice(file, size + 3, size) for size in (1, 100, small, large, large + 1, 3 << 20, 1, small)]
    return [piece for number, each in enumerate(slices) for piece in (b"%d" % number, each)] + [b"the end"]


@pytest.mark.parametrize("reads_late", [False, True])
def test_pieces_of_all_kinds_go_out_in_order(file: files.File, reads_late: bool) -> None:
    pieces = mixed(file) * 3

    async def test(ends: Ends) -> None:
        if not reads_late:
            ends.read_all()
        ends.sender.send(b"first")
        ends.sender.send_pieces(pieces)
        ends.sender.send(b"last")
        if reads_late:
            await asyncio.sleep(0.01)
            assert ends.sender.awaits_client
            ends.read_all()
        assert await ends.sent() == b"first" + octets(pieces) + b"last"
        assert not ends.failures and not ends.sender.awaits_client

    run(test)


def test_what_a_full_socket_does_not_take_waits_for_room(file: files.File) -> None:
    async def test(ends: Ends) -> None:
        data = bytes(range(256)) * 40_000
        ends.sender.send(data)
        assert not ends.sender.is_idle and 0 < ends.sender.queued_size < len(data)
        ends.read_all()
        assert await ends.sent() == data

    run(test)


@pytest.mark.parametrize("size", [SENDFILE_SIZE_MIN - 1, 3 << 20])
def test_what_is_not_in_memory_is_read_in_a_thread(
    file: files.File, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, read_by = threading.get_ident(), []
    read_at = files.File.read_at

    def spying_read_at(file: files.File, position: int, size: int) -> bytes:
        read_by.append(threading.get_ident())
        return read_at(file, position, size)

    pieces: list[Piece] = [b"a", FileSlice(file, 5, size), b"b"]
    expected = octets(pieces)
    monkeypatch.setattr(files.File, "read_cached", lambda file, position, size: None)
    monkeypatch.setattr(files.File, "read_at", spying_read_at)

    async def test(ends: Ends) -> None:
        ends.read_all()
        ends.sender.send_pieces(pieces)
        assert await ends.sent() == expected

    run(test)
    assert any(thread != main for thread in read_by)


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_a_file_that_was_cut_short_ends_it(file: files.File, size: int) -> None:
    async def test(ends: Ends) -> None:
        ends.read_all()
        ends.sender.send_pieces([b"promised", FileSlice(file, (8 << 20) - size // 2, size), b"never"])
        while not ends.failures:
            await asyncio.sleep(0.001)
        ends.sender.send(b"nor this")
        await ends.sent()
        assert isinstance(ends.failures[0], CorruptBatch)
        assert ends.received.startswith(b"promised") and not ends.received.endswith(b"this")

    run(test)


def test_a_disk_that_cannot_be_read_ends_it(file: files.File, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = FileSlice(file, 0, 100)

    def fail(*args: object) -> bytes:
        raise files.failure(file.path, "read", OSError(5, "Input/output error"))

    monkeypatch.setattr(files.File, "read_cached", lambda file, position, size: None)
    monkeypatch.setattr(files.File, "read_at", fail)

    async def test(ends: Ends) -> None:
        ends.read_all()
        ends.sender.send_pieces([b"promised", piece])
        while not ends.failures:
            await asyncio.sleep(0.001)
        await ends.sent()
        assert len(ends.failures) == 1

    run(test)


def test_a_client_that_has_gone_ends_it(file: files.File) -> None:
    async def test(ends: Ends) -> None:
        ends.theirs.close()
        ends.sender.send(b"a")
        ends.sender.send_pieces([FileSlice(file, 0, 1 << 20)])
        assert len(ends.failures) == 1 and isinstance(ends.failures[0], OSError)
        assert ends.sender.is_idle

    run(test)


def test_a_client_that_goes_while_it_is_waited_for_ends_it(file: files.File) -> None:
    async def test(ends: Ends) -> None:
        ends.sender.send_pieces([FileSlice(file, 0, 8 << 20)])
        assert ends.sender.awaits_client
        ends.theirs.close()
        await ends.idle.wait()
        assert len(ends.failures) == 1 and not ends.sender.awaits_client

    run(test)
