"""The limit of what a broker in Python can send: a loop around ``os.sendfile``, for one connection at a time.

    python -m bench.bare_sendfile FILE SIZE      prints its address; answers whatever comes, of any length up to 64 KiB,
                                                 with a length and SIZE bytes from places all over FILE

Each request must come in one piece, as bench.load sends it.
"""

import os
import socket
import sys
from struct import Struct

_SIZE = Struct(">i")


def main() -> None:
    path, size = sys.argv[1], int(sys.argv[2])
    file = os.open(path, os.O_RDONLY)
    file_size = os.fstat(file).st_size
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"127.0.0.1:{listening.getsockname()[1]}", flush=True)
    position = 0
    while True:
        connection, _ = listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while connection.recv(65536):
                connection.sendall(_SIZE.pack(size))
                sent = 0
                while sent < size:
                    sent += os.sendfile(connection.fileno(), file, position + sent, size - sent)
                position += size
                if position + size > file_size:
                    position = 0


if __name__ == "__main__":
    main()
