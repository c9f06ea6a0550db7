"""A data directory whose two clocks a test moves, and which does nothing by itself meanwhile."""

from pathlib import Path

import pytest

from log_tools import NOW
from logstore.config import StoreConfig
from logstore.storage.data_dir import DataDir

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
TEN_YEARS_MS = 3_652 * DAY_MS
QUIET = StoreConfig(
    log_flush_scheduler_interval_ms=HOUR_MS,
    log_flush_offset_checkpoint_interval_ms=HOUR_MS,
    log_cleaner_backoff_ms=HOUR_MS,
    log_retention_check_interval_ms=HOUR_MS,
)


class Clocks:
    """The wall clock can be set; the monotonic one only passes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.wall_ms, self.monotonic_ms = NOW, 5_000
        patch.setattr("logstore.storage.upkeep.monotonic_ms", lambda: self.monotonic_ms)
        patch.setattr("logstore.storage.data_dir.monotonic_ms", lambda: self.monotonic_ms)

    def passes(self, time_ms: int) -> None:
        self.wall_ms += time_ms
        self.monotonic_ms += time_ms

    def jumps(self, time_ms: int) -> None:
        self.wall_ms += time_ms

    def open(self, path: Path) -> DataDir:
        return DataDir(path, QUIET, now_ms=lambda: self.wall_ms)


def offsets(data_dir: DataDir, topic: str = "t") -> list[int]:
    log = data_dir.log(topic)
    return [record.offset for record in log.records(log.log_start_offset)]
