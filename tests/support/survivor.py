"""A driver whose calls fail: at each failure it looks at what is left, and then goes on with what failed.

What it demands of the engine, each time a step of a workload raises:

- the error is one of ours, and says what it was about;
- all that was acknowledged can be read in this process, and from a copy of the directory, as after SIGKILL;
- an append that was refused is not there, and comes in neither now nor later; but where it was its sync that failed,
  the batch is whole, in the log, and not acknowledged;
- with the fault lifted the same step succeeds, in the same process, unless the partition is offline: then it says
  why, takes nothing, syncs nothing, and is whole again when the directory has been opened anew; others go on;
- a directory is closed and opened again without delay, and not marked as clean where anything was not synced.
"""

import gc
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from driver import Attempted, Driver, Journal
from failing_os import FailingCalls
from logstore.errors import DataDirLocked, LogstoreError, PartitionOffline, StorageFailure, UnknownTopic
from logstore.format import filename
from logstore.format.batch import RecordBatch, encode_batch
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from logstore.storage.partition import PartitionLog
from promises import LogPromise, Promises, check, check_log, check_verified, demand

Result = TypeVar("Result")


class Survivor(Driver):
    """See the module. ``failures``: what was raised, in order."""

    def __init__(self, path: Path, calls: FailingCalls, journal: Journal | None = None) -> None:
        super().__init__(path, journal or Journal())
        self.calls = calls
        self.failures: list[BaseException] = []
        self.offline: list[str] = []
        self.refused: set[bytes] = set()

    # ------------------------------------------------------------------------------------------------------- the steps

    @property
    def data_dir(self) -> DataDir:
        if self._data_dir is not None:
            return self._data_dir
        return self._survive(lambda: super(Survivor, self).data_dir, self._fail_to_open)

    def create(self, topic: str = "t", partitions: int = 1, **settings: object) -> None:
        self._step(lambda: self._create(topic, partitions, settings))

    def _create(self, topic: str, partitions: int, settings: dict[str, Any]) -> None:
        """Where a Ctrl-C came late, the topic is there."""
        was_interrupted = any(isinstance(failure, KeyboardInterrupt) for failure in self.failures)
        if not (was_interrupted and topic in [known.name for known in self.data_dir.topics()]):
            super().create(topic, partitions, **settings)

    def alter(self, topic: str = "t", partitions: int | None = None, **settings: object) -> None:
        self._step(lambda: super(Survivor, self).alter(topic, partitions, **settings))

    def delete(self, topic: str = "t") -> None:
        self._step(lambda: self._delete(topic))

    def _delete(self, topic: str) -> None:
        """A deletion that failed half-way has taken the topic away."""
        if self.failures and topic not in [known.name for known in self.data_dir.topics()]:
            with pytest.raises(UnknownTopic):
                self.data_dir.delete_topic(topic)
        else:
            super().delete(topic)

    def remove_deleted(self) -> None:
        self._step(super().remove_deleted)

    def append(self, count: int = 1, **arguments: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            super().append(count, **arguments)
            return
        self._step(lambda: self._append(count, arguments))

    def _append(self, count: int, arguments: dict[str, Any]) -> None:
        partition = arguments.get("partition", ("t", 0))
        end_offset = self.log(*partition).log_end_offset
        try:
            super().append(count, **arguments)
        except BaseException:
            attempted = self.journal.events[-1][1]
            if isinstance(attempted, Attempted) and not (
                arguments.get("fsync") and self.log(*partition).log_end_offset > end_offset
            ):
                self.refused.update(attempted.values)
            raise

    def append_in_threads(self, thread_count: int, each: int) -> None:
        self._step(lambda: super(Survivor, self).append_in_threads(thread_count, each))

    def flush(self, topic: str = "t", partition: int = 0) -> None:
        self._step(lambda: super(Survivor, self).flush(topic, partition))

    def checkpoint(self) -> None:
        self._step(lambda: super(Survivor, self).checkpoint())

    def truncate(self, offset: int, topic: str = "t", partition: int = 0) -> None:
        self._step(lambda: super(Survivor, self).truncate(offset, topic, partition))

    def advance(self, offset: int, topic: str = "t", partition: int = 0) -> None:
        self._step(lambda: super(Survivor, self).advance(offset, topic, partition))

    def retain(self, later_ms: int, topic: str = "t", partition: int = 0) -> None:
        self._step(lambda: super(Survivor, self).retain(later_ms, topic, partition))
        self._demand_tidy(topic, partition)

    def compact(self, topic: str = "t", partition: int = 0) -> None:
        self._step(lambda: super(Survivor, self).compact(topic, partition))
        self._demand_tidy(topic, partition)

    def close(self) -> None:
        data_dir = self.data_dir
        try:
            super().close()
        except (LogstoreError, KeyboardInterrupt) as error:  # it is closed all the same
            self._note_failure(error)
            self.calls.lift()
            self._data_dir = None
        self._demand_unmarked_or_synced(data_dir)

    def _step(self, run: Callable[[], Result]) -> Result:
        self.data_dir  # noqa: B018  # opened before, so that a failure is the step's
        return self._survive(run, self._look_around)

    def _survive(self, run: Callable[[], Result], after_failure: Callable[[BaseException], object]) -> Result:
        try:
            return run()
        except (LogstoreError, KeyboardInterrupt) as error:
            failure = self._note_failure(error)
        after_failure(failure)
        return run()

    def _note_failure(self, error: BaseException) -> BaseException:
        _demand_clear(error, self.path)
        self.failures.append(error)
        error.__traceback__ = error.__context__ = None  # which hold files open
        return error

    # ------------------------------------------------------------------------------------------------- after a failure

    def _fail_to_open(self, error: BaseException) -> None:
        demand(not isinstance(error, DataDirLocked), "an opening that failed keeps the lock")
        self.calls.lift()

    def open_all(self) -> None:
        """Those partitions too that an opening which failed left out."""
        for topic in self.data_dir.topics():
            for partition in range(topic.partitions):
                self._survive(lambda at=(topic.name, partition): self.log(*at), self._fail_to_open)  # type: ignore[misc]

    def _look_around(self, error: BaseException) -> None:
        if self.calls.fault.reads_go_on:
            promises = self._promises()
            for key, log in self.data_dir.logs():
                check_log(log, promises.logs.get(key, LogPromise()))
        self.calls.lift()
        self.open_all()
        self.check_live()
        self._check_copy()
        self._demand_cut_and_stopped(error)
        offline = [log for _, log in self.data_dir.logs() if log.offline_reason is not None]
        for log in offline:
            self._check_offline(log)
        self._check_others_go_on()
        if offline:
            self.close()

    def _demand_cut_and_stopped(self, error: BaseException) -> None:
        """No part of a batch is left in a file, and whose sync has failed takes no more."""
        for _, log in self.data_dir.logs():
            active = log.view.segments[-1]
            is_cut = log.config.preallocate or log.offline_reason or active.path.stat().st_size == active.size
            demand(is_cut, f"{active.path}: more bytes than the {active.size} of whole batches")
            if isinstance(error, StorageFailure) and error.operation == "sync":
                is_ours = Path(error.path).parent == log.directory and error.path.endswith((".log", "index"))
                demand(log.offline_reason or not is_ours, f"{log.name} takes writes although {error}")

    def check_live(self) -> None:
        """All that was acknowledged can be read, in this process, and nothing that was refused."""
        promises = self._promises()
        check(self.data_dir, promises)
        for _, log in self.data_dir.logs():
            self._demand_nothing_refused(log)

    def _promises(self) -> Promises:
        return Promises.of(self.journal.until(0), survives=Durability.OS)

    def _demand_nothing_refused(self, log: PartitionLog) -> None:
        present = {bytes(record.value or b"") for record in log.records(log.log_start_offset)}
        demand(not present & self.refused, f"{log.name}: {present & self.refused} came in although it was refused")

    def _check_copy(self) -> None:
        """What is found where the process ends now."""
        copy = self.path.with_name("copy")
        shutil.copytree(self.path, copy)
        data_dir = DataDir(copy, self.config, now_ms=self.clock)
        try:
            check(data_dir, self._promises())
            if not self.offline_reasons():
                for _, log in data_dir.logs():
                    self._demand_nothing_refused(log)
        finally:
            data_dir.close()
        check_verified(copy)
        shutil.rmtree(copy)

    def offline_reasons(self) -> list[str]:
        return [reason for _, log in self.data_dir.logs() if (reason := log.offline_reason)]

    def _check_offline(self, log: PartitionLog) -> None:
        """It says why, takes nothing, syncs nothing more, and does not claim to be further on the disk than it is."""
        self.offline.append(log.offline_reason or "")
        end_offset, synced_offset, syncs = log.log_end_offset, log.synced_offset, len(self.calls.syncs_of)
        batch = encode_batch([b"refused"], timestamps_ms=0)
        for refused in (
            lambda: log.append([b"refused"]),
            lambda: log.append([b"refused"], durability=Durability.FSYNC),
            lambda: log.append_batches(RecordBatch.at(batch).data),
            log.checkpoint,
            log.roll,
            log.delete_expired,
            lambda: log.truncate_to(log.log_start_offset),
            lambda: log.advance_log_start(log.log_start_offset),
        ):
            with pytest.raises(PartitionOffline):
                refused()
        demand((log.log_end_offset, log.synced_offset) == (end_offset, synced_offset), "its end has moved")
        synced = [path for path in self.calls.syncs_of[syncs:] if f"/{log.name}/" in path]
        demand(not synced, f"{log.name} is offline, and yet syncs {synced}")

    def _check_others_go_on(self) -> None:
        """A new topic can be made, appended to, rolled and checkpointed."""
        data_dir = self.data_dir
        data_dir.create_topic("another")
        log = data_dir.log("another")
        log.append([b"goes on"], durability=Durability.FSYNC)
        log.roll()
        log.append([b"and on"])
        log.checkpoint()
        check_log(log, LogPromise(known={0: b"goes on", 1: b"and on"}, durable_end=2, end=2))
        data_dir.delete_topic("another")
        data_dir.remove_deleted(at_once=True)

    def _demand_unmarked_or_synced(self, data_dir: DataDir) -> None:
        if not os.path.exists(self.path / filename.CLEAN_SHUTDOWN):
            return
        for _, log in data_dir.logs():
            demand(log.synced_offset == log.log_end_offset, f"{log.name} is not synced; the directory counts as clean")

    def _demand_tidy(self, topic: str, partition: int) -> None:
        """What was to be removed at once has been, also where a first try failed."""
        log = self.log(topic, partition)
        left = [path.name for path in log.directory.iterdir() if path.suffix in (".deleted", ".cleaned", ".swap")]
        demand(not left or log.offline_reason, f"{log.name}: {left} left")

    # ------------------------------------------------------------------------------------------------------ at the end

    def finish(self) -> None:
        """Whatever has failed, the directory closes, opens and keeps its promises."""
        if self._data_dir is not None:
            self.close()
        self.open_all()
        with self.calls.paused():
            self.check_live()
        self.close()
        with self.calls.paused():
            check_verified(self.path)


@contextmanager
def leaving_nothing_behind() -> Iterator[None]:
    """No descriptor, and no thread."""
    before, thread_count = _open_files(), threading.active_count()
    yield
    if _open_files() - before:
        gc.collect()  # an error that is in a cycle with a frame
    left = sorted(_open_files() - before)
    demand(not left, f"left open: {left}")
    demand(threading.active_count() <= thread_count, f"threads are left: {threading.enumerate()}")


def _open_files() -> set[tuple[str, str]]:
    """Descriptors, and what they are of."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
    return found


def _demand_clear(error: BaseException, root: Path) -> None:
    """It says which file, or which partition, and what was to be done with it."""
    if isinstance(error, StorageFailure):
        demand(str(root.parent) in error.path and error.operation, f"an error that says little: {error!r}")
    else:
        demand(isinstance(error, PartitionOffline | KeyboardInterrupt), f"an error of another kind: {error!r}")
