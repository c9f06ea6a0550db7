"""The ids of idempotent producers: each is given once for as long as the data directory lives.

A block of ids is taken by recording where it ends, on the disk, before its first id is given: after a crash the rest of
it is left out. A file that is damaged is an error, since ids that are given twice would lose records.
"""

import re
from pathlib import Path
from threading import Lock

from logstore.errors import CorruptCheckpoint
from logstore.format import filename
from logstore.storage import files

BLOCK_SIZE = 1000  # Kafka's
_ID_MAX = 2**63 - 1


class ProducerIds:
    """Of the data directory at ``path``. Safe to use from many threads. ``next_id`` may block, once in a thousand
    calls: where ``is_ready`` it does not."""

    def __init__(self, path: Path) -> None:
        self._path = path / filename.PRODUCER_IDS
        self._lock = Lock()
        self._next_id = self._block_end = 0

    @property
    def is_ready(self) -> bool:
        """Whether there is an id to give without a write to the disk."""
        return self._next_id < self._block_end

    def next_id(self) -> int:
        """An id that was never given before. Raises StorageFailure, CorruptCheckpoint."""
        with self._lock:
            if not self.is_ready:
                self._take_block()
            producer_id = self._next_id
            self._next_id += 1
            return producer_id

    def _take_block(self) -> None:
        stored = files.read_file(self._path)
        first_id = 0 if stored is None else self._decode(stored)
        files.write_file(self._path, b"%d\n" % (first_id + BLOCK_SIZE))
        self._next_id = first_id
        self._block_end = first_id + BLOCK_SIZE  # last: who sees it may take one

    def _decode(self, stored: bytes) -> int:
        if not re.fullmatch(rb"[0-9]{1,19}\n", stored) or int(stored) > _ID_MAX - BLOCK_SIZE:
            raise CorruptCheckpoint("it holds no number of a producer id", 0, str(self._path))
        return int(stored)
