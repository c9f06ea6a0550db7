"""A piece of a log file: what a read returns, before anybody has touched its bytes."""

import select
import socket
from typing import NamedTuple

from logstore.errors import CorruptBatch
from logstore.storage.files import File

_PROBE_INTERVAL = 256 << 10  # the kernel reads ahead 128 KiB or more at a time


class FileSlice(NamedTuple):
    """``size`` bytes from ``position`` of an open file, which it keeps open: retention may unlink it meanwhile."""

    file: File
    position: int
    size: int

    def read(self) -> bytes:
        """The bytes. Raises CorruptBatch where the file has been cut shorter since."""
        data = self.file.read_at(self.position, self.size)
        if len(data) < self.size:
            raise self.cut_short(len(data))
        return data

    def read_cached(self) -> bytes | bytearray | None:
        """The bytes, where they are in memory; None where the disk must be waited for, or the file is shorter."""
        return self.file.read_cached(self.position, self.size)

    def is_cached(self, size: int) -> bool:
        """Whether the first ``size`` bytes are in memory, as far as a look here and there tells."""
        end = self.position + size
        probes = [*range(self.position, end, _PROBE_INTERVAL), end - 1]
        return all(self.file.read_cached(position, 1) is not None for position in probes)

    def sendfile(self, target: socket.socket) -> int:
        """Send all of it through the kernel, without a copy in this process, and return its size.

        Waits while the socket is full, up to the socket's time-out (a non-blocking one counts as without). Raises
        CorruptBatch where the file has been cut shorter since, TimeoutError and other OSErrors as ``socket.send``.
        """
        sent = 0
        timeout = target.gettimeout() or None
        while sent < self.size:
            try:
                count = self.file.send(target.fileno(), self.position + sent, self.size - sent)
            except BlockingIOError:
                if not _wait_writable(target, timeout):
                    raise TimeoutError(f"no room to send for {timeout} s") from None
                continue
            if not count:
                raise self.cut_short(sent)
            sent += count
        return sent

    def cut_short(self, available: int) -> CorruptBatch:
        """What is raised where ``available`` bytes are left."""
        reason = f"the log was cut short: {available} of {self.size} bytes are left here"
        return CorruptBatch(reason, self.position, str(self.file.path))


def _wait_writable(target: socket.socket, timeout_s: float | None) -> bool:
    """Whether there is room, or an error to be met by sending; ``select`` would refuse descriptors from 1,024 on."""
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))
