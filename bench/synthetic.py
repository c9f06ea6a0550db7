"""Logs of any length that take little space: true batch headers and indexes, and holes where the records would be."""

from pathlib import Path
from random import Random

import numpy as np

from logstore.format import checkpoint, filename, producer_snapshot
from logstore.format.batch import FRAME_SIZE, HEADER
from logstore.format.index_entry import OFFSET_DTYPE, TIME_DTYPE
from logstore.storage.owned_log import wall_clock_ms
from logstore.storage.partition import PartitionLog

SEGMENT_SIZE = 1 << 30
BATCH_COUNT_MAX = 6_400
BATCH_SIZE_MIN = 64 << 10
RECORDS_IN_BATCH = 100


class Synthetic:
    """A partition log of ``size`` bytes in ``directory``, open: every batch is indexed, no CRC is right."""

    def __init__(self, directory: Path, size: int) -> None:
        directory.mkdir(parents=True)
        self.batch_count = size // max(BATCH_SIZE_MIN, size // BATCH_COUNT_MAX)
        batch_size = size // self.batch_count
        now_ms = wall_clock_ms()
        in_segment = min(self.batch_count, SEGMENT_SIZE // batch_size)
        for first in range(0, self.batch_count, in_segment):
            count = min(in_segment, self.batch_count - first)
            self._write_segment(directory, first, count, batch_size, now_ms)
        end_offset = self.batch_count * RECORDS_IN_BATCH
        (directory / filename.snapshot_name(end_offset)).write_bytes(producer_snapshot.encode(()))
        (directory / filename.LEADER_EPOCH_CHECKPOINT).write_bytes(checkpoint.encode_epochs([(0, 0)]))
        self.log = PartitionLog(directory, recovery_point=end_offset, is_clean=True)
        assert self.log.log_end_offset == end_offset

    @staticmethod
    def _write_segment(directory: Path, first: int, count: int, batch_size: int, now_ms: int) -> None:
        base_offset = first * RECORDS_IN_BATCH
        with (directory / filename.log_name(base_offset)).open("wb") as file:
            file.truncate(count * batch_size)
            delta = RECORDS_IN_BATCH - 1
            for index in range(count):
                offset = base_offset + index * RECORDS_IN_BATCH
                header = (offset, batch_size - FRAME_SIZE, 0, 2, 0, 0, delta, now_ms, now_ms, -1, -1, -1, delta + 1)
                file.seek(index * batch_size)
                file.write(HEADER.pack(*header))
        offsets = np.empty(count, OFFSET_DTYPE)
        offsets["relative_offset"] = np.arange(1, count + 1) * RECORDS_IN_BATCH - 1
        offsets["position"] = np.arange(count) * batch_size
        (directory / filename.index_name(base_offset)).write_bytes(offsets.tobytes())
        times = np.array([(now_ms, RECORDS_IN_BATCH - 1)], TIME_DTYPE)
        (directory / filename.time_index_name(base_offset)).write_bytes(times.tobytes())

    def offsets(self, random: Random, count: int) -> list[int]:
        """Offsets from all over the log."""
        return [random.randrange(self.batch_count) * RECORDS_IN_BATCH + 50 for _ in range(count)]

    def close(self) -> None:
        self.log.close()
