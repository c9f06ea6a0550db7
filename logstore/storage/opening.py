"""Opening the partitions of a data directory: those to check several at a time, those with most to check first.

A partition that cannot be opened does not keep the others from it: it is left out. An opening that is killed and
started again goes on: now and then the logs that have been checked so far are synced, and their recovery points
recorded, while the others are still being checked; within a large one its own recovery does so (see ``checked``). How
far it is, is told to ``on_progress`` and to the log.
"""

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from logstore.errors import Closed, CorruptIndex, LogstoreError, StorageFailure
from logstore.format import filename
from logstore.format.filename import PartitionKey
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.partition import PartitionLog
from logstore.storage.recovery import load_segments

logger = logging.getLogger("logstore.storage")

_REPORT_INTERVAL_S = 0.2
_LOG_INTERVAL_S = 5.0
# What a long recovery pays for being able to go on is bounded: what is smaller is checked again sooner than synced.
_KEPT_SIZE_MIN = 16 << 20
_KEEP_INTERVAL_SIZE = 1 << 30
_LOOKED_UP_SIZE_MIN = 1 << 20  # a smaller segment is counted whole, without a look into its index


class OpeningProgress(NamedTuple):
    """How far an opening is. Of a log that was not closed cleanly what lies behind its recovery point is checked:
    ``checked_size`` of ``unchecked_size`` bytes so far, counted every few MiB. ``name`` is the directory of the
    partition that was begun last."""

    opened_count: int
    partition_count: int
    checked_size: int
    unchecked_size: int
    name: str
    elapsed_s: float


class Opening:
    """One opening. ``logs`` is filled as partitions are opened, by ``open_log``, which tells meanwhile of the bytes
    that have been checked; ``save_offsets`` records the recovery points of those. ``on_progress`` is called in the
    thread that calls ``run``, a few times a second and at the end; what it raises ends the opening."""

    def __init__(
        self,
        logs: dict[PartitionKey, PartitionLog],
        open_log: Callable[[PartitionKey, Callable[[int], None]], PartitionLog],
        save_offsets: Callable[[], None],
        on_progress: Callable[[OpeningProgress], None] | None = None,
    ) -> None:
        self._logs = logs
        self._open_log = open_log
        self._save_offsets = save_offsets
        self._on_progress = on_progress
        self._started_s = self._logged_s = self._reported_s = time.monotonic()
        self._lock = Lock()
        self._progress = OpeningProgress(0, 0, 0, 0, "", 0.0)
        self._unsaved: list[PartitionLog] = []
        self._unsaved_size = 0

    def run(self, partitions: Iterable[tuple[PartitionKey, int]], thread_count: int) -> OpeningProgress:
        """Open all, given with the bytes that must be checked of each. What ends it early, such as a Ctrl-C, waits for
        the partitions under way, and lets go of all.

        Only checking is worth a thread: it reads and sums in C. Opening a log that is whole is all Python, which two
        threads do slower than one.
        """
        due = sorted(partitions, key=lambda item: -item[1])
        self._progress = self._progress._replace(
            partition_count=len(due), unchecked_size=sum(unchecked_size for _, unchecked_size in due)
        )
        pool = ThreadPoolExecutor(thread_count, thread_name_prefix="logstore-opening")
        opened: list[Future[None]] = []
        try:
            for key, unchecked_size in due:
                if unchecked_size:
                    opened.append(pool.submit(self._open, key, unchecked_size))
                else:
                    self._open(key, 0)
                    self._report_now_and_then()
            pending = set(opened)
            while pending:
                done, pending = wait(pending, _REPORT_INTERVAL_S, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                self._report(is_done=not pending)
        except BaseException:
            _end(pool, opened)
            for log in self._logs.values():
                log.abandon(Closed(f"partition {log.name}"))
            raise
        pool.shutdown()
        return self._progress

    def _report_now_and_then(self) -> None:
        if time.monotonic() - self._reported_s >= _REPORT_INTERVAL_S:
            self._report(is_done=False)

    def _report(self, is_done: bool) -> None:
        self._reported_s = now_s = time.monotonic()
        with self._lock:
            self._progress = progress = self._progress._replace(elapsed_s=now_s - self._started_s)
        if self._on_progress is not None:
            self._on_progress(progress)
        if not is_done and now_s - self._logged_s >= _LOG_INTERVAL_S:
            self._logged_s = now_s
            logger.info(
                "opened %d of %d partitions, checked %d of %d bytes, in %.0f s; %s is under way",
                *progress[:4],
                *(progress.elapsed_s, progress.name),
            )

    def _open(self, key: PartitionKey, unchecked_size: int) -> None:
        untold_size = unchecked_size

        def tell(size: int, opened_count: int = 0) -> None:
            """Of no more in all than was counted before, so that all partitions together come to that."""
            nonlocal untold_size
            size = min(size, untold_size)
            untold_size -= size
            with self._lock:
                opened_count += self._progress.opened_count
                checked_size = self._progress.checked_size + size
                self._progress = self._progress._replace(opened_count=opened_count, checked_size=checked_size)

        with self._lock:
            self._progress = self._progress._replace(name=filename.partition_dir(*key))
        log = try_to_open(self._logs, lambda key: self._open_log(key, tell), key)
        if log is not None:
            self._keep(log, unchecked_size)
        tell(untold_size, opened_count=1)

    def _keep(self, log: PartitionLog, checked_size: int) -> None:
        """See to it that what has been checked need not be checked again, should the opening be killed. A damaged log
        must be: it is checked whole until it is salvaged."""
        if checked_size < _KEPT_SIZE_MIN or log.damages or log.offline_reason is not None:
            return
        with self._lock:
            self._unsaved.append(log)
            self._unsaved_size += checked_size
            if self._unsaved_size < _KEEP_INTERVAL_SIZE:
                return
            due, self._unsaved, self._unsaved_size = self._unsaved, [], 0
        try:
            for unsaved in due:
                unsaved.checkpoint()
            self._save_offsets()
        except LogstoreError as error:
            logger.warning("recovery points are not recorded yet: %s", error)


def _end(pool: ThreadPoolExecutor, futures: Iterable[Future[None]]) -> None:
    """Wait for what is under way, however often Ctrl-C is pressed: who opens the directory next must not meet a thread
    of ours that still cuts a log."""
    while True:
        try:
            pool.shutdown(wait=False, cancel_futures=True)
            # Waiting for the threads would not do: Python takes one for ended when a join of it was interrupted.
            wait([future for future in futures if not future.cancelled()])
            return pool.shutdown()
        except KeyboardInterrupt:
            continue


def try_to_open(
    logs: dict[PartitionKey, PartitionLog], open_log: Callable[[PartitionKey], PartitionLog], key: PartitionKey
) -> PartitionLog | None:
    """The log, now one of ``logs``; None, and a word in the log, where it cannot be opened."""
    try:
        logs[key] = open_log(key)
    except LogstoreError as error:
        name = filename.partition_dir(*key)
        logger.error("%s is left out until it can be opened, which it cannot now: %s", name, error)
        return None
    return logs[key]


def unchecked_size(directory: Path, recovery_point: int, caches: Caches) -> int:
    """About how many bytes recovery is going to check: those behind the recovery point, all of a damaged log."""
    try:
        segments, _ = load_segments(directory, files.list_dir(directory), caches, 0)
        if files.exists(directory / filename.DAMAGE_REPORT):
            recovery_point = 0
    except StorageFailure:
        return 0  # opening it will tell
    first = max((i for i, segment in enumerate(segments) if segment.base_offset <= recovery_point), default=0)
    size = sum(segment.size for segment in segments[first:])
    if size >= _LOOKED_UP_SIZE_MIN:
        try:
            size -= min(segments[first].size, segments[first].offset_index.position_for(recovery_point))
        except (CorruptIndex, StorageFailure):
            pass  # then all of the segment is checked
        finally:
            segments[first].forget()
    return size
