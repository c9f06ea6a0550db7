"""What a data directory does by itself: a thread flushes, checkpoints, rolls, retains, compacts and unlinks, and
another one opens what could not be opened, which may take long.

Each duty is a plain function of the directory, so that tests and commands can do it at once. A duty that fails for one
partition is logged and tried again at its next turn; it never stops the others. The first thread's run one after the
other: what is due during a long compaction waits for its end.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from logstore.errors import Closed, LogstoreError, UnknownTopic
from logstore.format import filename
from logstore.settings import LONG_MAX
from logstore.storage.compaction import compact_if_due
from logstore.storage.compaction_plan import plan_log
from logstore.storage.partition import PartitionLog
from logstore.storage.retention import age_limit_ms
from logstore.threads import start_thread

if TYPE_CHECKING:
    from logstore.storage.data_dir import DataDir

logger = logging.getLogger("logstore.storage")

_OPEN_INTERVAL_S = 60.0


class _Duty(NamedTuple):
    name: str
    interval_s: float
    run: Callable[["DataDir"], None]


_Logs = Iterable[tuple[tuple[str, int], PartitionLog]]


def _each(logs: _Logs, what: str, run: Callable[[PartitionLog, tuple[str, int]], object]) -> None:
    for key, log in logs:
        if log.offline_reason is None:
            try:
                run(log, key)
            except LogstoreError as error:
                logger.warning("%s: %s failed: %s", log.name, what, error)


def flush_due(data_dir: "DataDir") -> None:
    """Sync the records that have waited for ``flush.ms``, and those that ``flush.messages`` asks for where who appended
    them must not wait."""

    def flush(log: PartitionLog, _: object) -> None:
        waited_ms = abs(data_dir.now_ms() - log.last_flush_ms)  # the clock may have been set back
        is_old = waited_ms >= log.config.flush_ms < LONG_MAX
        if log.log_end_offset > log.synced_offset and (is_old or log.is_flush_due):
            log.flush()

    _each(data_dir.logs(), "flush", flush)


def checkpoint(data_dir: "DataDir") -> None:
    """Sync everything, and record how far that is."""

    def sync(log: PartitionLog, _: object) -> None:
        if log.log_end_offset > log.recovery_point:
            log.checkpoint()

    _each(data_dir.logs(), "checkpoint", sync)
    data_dir.checkpoints.save()


def retain(data_dir: "DataDir") -> None:
    """Roll and let go of segments, and forget idle producers."""
    wall_ms = data_dir.now_ms()
    data_dir.retention_clock.observe(wall_ms, monotonic_ms())

    def apply(log: PartitionLog, key: tuple[str, int]) -> None:
        log.roll_if_old(wall_ms)
        now_ms = data_dir.retention_clock.now_ms(age_limit_ms(log.config))
        committed = data_dir.committed_offsets(*key) if log.config.drops_consumed else {}
        for expiry in log.delete_expired(now_ms, committed):
            logger.info("%s: segment %d goes: %s", log.name, expiry.segment.base_offset, expiry.reason)
        idle_ms = data_dir.config.producer_id_expiration_ms
        log.expire_producers(data_dir.retention_clock.now_ms(idle_ms), idle_ms)

    _each(data_dir.logs(), "retention", apply)
    data_dir.checkpoints.save()


def compact(data_dir: "DataDir") -> None:
    """Compact the logs that are dirty enough, the dirtiest first; what is not finished when the directory is to be
    closed is dropped."""
    ratios: dict[tuple[str, int], float] = {}

    def rate(log: PartitionLog, key: tuple[str, int]) -> None:
        if log.config.compacts and not log.compaction_met_damage:
            ratios[key] = plan_log(log, data_dir.checkpoints.cleaner_offsets.get(key, 0)).dirty_ratio

    def clean(log: PartitionLog, key: tuple[str, int]) -> None:
        result = compact_if_due(
            log, data_dir.checkpoints.cleaner_offsets.get(key, 0), data_dir.config, data_dir.is_closing
        )
        if result is not None:
            data_dir.checkpoints.save_cleaner_offset(key, result.cleaned_offset)

    logs = data_dir.logs()
    _each(logs, "compaction", rate)
    rated = [(key, log) for key, log in logs if key in ratios]
    _each(sorted(rated, key=lambda item: ratios[item[0]], reverse=True), "compaction", clean)


def remove_deleted(data_dir: "DataDir") -> None:
    data_dir.remove_deleted()


def open_left_out(data_dir: "DataDir") -> None:
    """Open the partitions that could not be opened so far."""
    for key in data_dir.left_out():
        name = filename.partition_dir(*key)
        try:
            data_dir.open_left_out(key)
            logger.info("%s can be opened again", name)
        except UnknownTopic:  # deleted since
            continue
        except Closed:
            return
        except LogstoreError as error:
            logger.warning("%s still cannot be opened: %s", name, error)


def monotonic_ms() -> int:
    """Time that no change of the wall clock moves and that goes on while the machine sleeps, where there is such."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class Upkeep:
    """The threads. ``stop`` returns when the duties under way are done."""

    def __init__(self, data_dir: "DataDir") -> None:
        config = data_dir.config
        self._data_dir = data_dir
        duties = [
            _Duty("flush", config.log_flush_scheduler_interval_ms / 1000, flush_due),
            _Duty("remove", config.log_flush_scheduler_interval_ms / 1000, remove_deleted),
            _Duty("checkpoint", config.log_flush_offset_checkpoint_interval_ms / 1000, checkpoint),
            _Duty("retention", config.log_retention_check_interval_ms / 1000, retain),
            _Duty("compaction", config.log_cleaner_backoff_ms / 1000, compact),
        ]
        self.stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=[duties], name=f"logstore-{name} {data_dir.path}", daemon=True)
            for name, duties in (("upkeep", duties), ("opening", [_Duty("opening", _OPEN_INTERVAL_S, open_left_out)]))
        ]

    def start(self) -> None:
        for thread in self._threads:
            start_thread(thread)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self._threads:
            if thread.is_alive() and threading.current_thread() is not thread:
                thread.join()

    def _run(self, duties: Sequence[_Duty]) -> None:
        due_s = {duty: time.monotonic() + duty.interval_s for duty in duties}
        while not self.stopped.wait(max(0.0, min(due_s.values()) - time.monotonic())):
            for duty in duties:
                if self.stopped.is_set():
                    return
                if due_s[duty] <= time.monotonic():
                    try:
                        duty.run(self._data_dir)
                    except LogstoreError as error:
                        logger.warning("%s: %s failed: %s", self._data_dir.path, duty.name, error)
                    except Exception:
                        logger.exception("%s: %s failed", self._data_dir.path, duty.name)
                    due_s[duty] = time.monotonic() + duty.interval_s
