"""A data directory: all topics and partitions of one process, their checkpoints, and the upkeep that runs by itself.

Owns ``.lock``: one process at a time may open the directory to write, any number read-only beside it. A child that was
forked from the owner cannot write. After a clean shutdown (see ``last_shutdown``) an opening trusts the recorded ends,
after a crash every partition is checked from its recovery point on. No shutdown is clean while a log is damaged, or
could not be opened. Recovery points are recorded once a minute, after a sync
of everything: what a crash can cost is bounded by that.

A partition that cannot be opened does not keep the others from it: it is left out, and tried again by upkeep, and when
``log`` is asked for it. That may take as long as a check of the whole log: who deletes a topic, or asks ``log`` for
another one that was left out, waits; closing breaks it off.
"""

import atexit
import contextlib
import errno
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from uuid import UUID

from logstore.config import StoreConfig
from logstore.errors import (
    Closed,
    ForkedProcess,
    InvalidArgument,
    LogstoreError,
    StorageFailure,
    TopicAlreadyExists,
    UnknownPartition,
    UnknownTopic,
)
from logstore.format import filename
from logstore.format.filename import PartitionKey
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.checked import ignore
from logstore.storage.last_shutdown import LastShutdown
from logstore.storage.offset_checkpoints import OffsetCheckpoints
from logstore.storage.opening import Opening, OpeningProgress, try_to_open, unchecked_size
from logstore.storage.owned_log import wall_clock_ms
from logstore.storage.ownership import is_ours, make_meta, prepare, take_lock
from logstore.storage.partition import PartitionLog
from logstore.storage.recovery import SegmentDamage
from logstore.storage.retention import RetentionClock
from logstore.storage.server_settings import Scope, ServerSettings
from logstore.storage.topics import TopicDescription, Topics, remove_partition_dir, with_defaults
from logstore.storage.upkeep import Upkeep, monotonic_ms

logger = logging.getLogger("logstore.storage")


class DataDir:
    """See the module. Opening raises NotADataDir, DataDirLocked, StorageFailure."""

    def __init__(
        self,
        path: Path,
        config: StoreConfig | None = None,
        *,
        create: bool = True,
        now_ms: Callable[[], int] = wall_clock_ms,
        committed_offsets: Callable[[str, int], Mapping[str, int]] = lambda topic, partition: {},
        on_progress: Callable[[OpeningProgress], None] | None = None,
    ) -> None:
        """``committed_offsets`` gives, by group, what has been committed of a partition; ``on_progress`` is told how
        far the opening is, in this thread."""
        self.path = path
        self.now_ms = now_ms
        self.committed_offsets = committed_offsets
        self.retention_clock = RetentionClock(now_ms(), monotonic_ms())
        self._lock = threading.RLock()
        self._opening = threading.RLock()  # of partitions that were left out; taken before the other
        self.topic_listeners: list[Callable[[str], None]] = []
        """Called, in the thread that did it, with the name of a topic that was created, altered or deleted."""
        self._closed: LogstoreError | None = None
        self._logs: dict[PartitionKey, PartitionLog] = {}
        self._topics: Mapping[str, TopicDescription] = {}  # another one after each change: who reads it takes no lock
        self._names: dict[UUID, str] = {}  # of topics by their ids
        prepare(path, create)
        self._lock_file = take_lock(path)
        try:
            self.settings = ServerSettings(path, config or StoreConfig())
            self._open(on_progress)
        except BaseException:
            self._lock_file.close()
            raise
        _OPEN.add(self)
        self._upkeep = Upkeep(self)
        self._upkeep.start()

    def _open(self, on_progress: Callable[[OpeningProgress], None] | None) -> None:
        if not is_ours(self.path):
            make_meta(self.path)
        self._registry = Topics(self.path, self.config.topic_config())
        self._caches = caches_for(self.config)
        # Deleted directories: since when, for how long they stay, and where they are.
        self._going = [(0, 0, directory) for directory in self._registry.finish_interrupted()]
        self._topics = self._registry.load()
        self._names = {topic.topic_id: name for name, topic in self._topics.items()}
        self._shutdown = LastShutdown(self.path)
        self.checkpoints = OffsetCheckpoints(self.path, self._logs, self._exists)
        self._unclosed = set() if self.was_clean else set(self._partitions())  # not those that are made from now on
        self._shutdown.begin()
        self._open_all(on_progress)
        for key, log in self._logs.items():
            self._settle_damage(key, log)
        self._note_opened()

    def _note_opened(self) -> None:
        """Once all logs are open, with epochs of their own where those before may have lost records."""
        logs = list(self._logs.values())
        if len(logs) == self._partition_count() and all(log.has_begun_epoch for log in logs):
            self._shutdown.note_opened()

    @property
    def was_clean(self) -> bool:
        """Whether the directory had been closed cleanly when it was opened."""
        return self._shutdown.was_clean

    def _open_all(self, on_progress: Callable[[OpeningProgress], None] | None) -> None:
        thread_count = self.config.num_recovery_threads_per_data_dir
        keys = list(self._partitions())
        unchecked_sizes = [0] * len(keys) if self.was_clean else [self._unchecked_size(key) for key in keys]
        opening = Opening(self._logs, self._open_log, self.checkpoints.save, on_progress)
        done = opening.run(zip(keys, unchecked_sizes, strict=True), thread_count)
        if keys and not self.was_clean:
            logger.info(
                "%s was not closed cleanly: opened %d of %d partitions, checked %d bytes, found %d damages, in %.1f s",
                *(self.path, len(self._logs), len(keys), done.checked_size, len(self.damages()), done.elapsed_s),
            )

    def _settle_damage(self, key: PartitionKey, log: PartitionLog) -> None:
        """What was found damaged must not be taken for a power cut's doing at the next opening, and what is appended
        behind it be cut: it lies below the recovery point from now on."""
        if log.damages:
            try:
                self.checkpoints.save_recovery_point(key, log.checkpoint())
            except LogstoreError as error:
                logger.warning("%s: that its damage is older is not recorded yet: %s", log.name, error)

    def _partitions(self) -> Iterator[PartitionKey]:
        return ((topic.name, number) for topic in self._topics.values() for number in range(topic.partitions))

    def _unchecked_size(self, key: PartitionKey) -> int:
        directory = self.path / filename.partition_dir(*key)
        return unchecked_size(directory, self.checkpoints.recovery_points.get(key, 0), self._caches)

    def _partition_count(self) -> int:
        """At least: of a topic whose settings cannot be read, it is not known."""
        return sum(topic.partitions for topic in self._topics.values()) + len(self._registry.damaged)

    def _exists(self, key: PartitionKey) -> bool:
        """Whether there is such a partition, open or not; of a topic whose settings cannot be read, there may be."""
        topic = self._topics.get(key[0])
        return key[1] < topic.partitions if topic is not None else key[0] in self._registry.damaged

    def _open_log(
        self, key: PartitionKey, on_checked: Callable[[int], None] = ignore, topic: TopicDescription | None = None
    ) -> PartitionLog:
        """``topic``: where it is not among the topics yet."""
        directory = self.path / filename.partition_dir(*key)
        files.make_dir(directory)
        is_clean = self.was_clean and key in self.checkpoints.recovery_points
        return PartitionLog(
            directory,
            (topic or self._topics[key[0]]).config,
            caches=self._caches,
            log_start_offset=self.checkpoints.start_offsets.get(key, 0),
            recovery_point=self.checkpoints.recovery_points.get(key, 0),
            is_clean=is_clean,
            is_start_known=is_clean and self.checkpoints.are_starts_known,
            was_compacted=key in self.checkpoints.cleaner_offsets,
            has_lost_power=self._shutdown.has_lost_power if key in self._unclosed else False,
            on_checked=on_checked,
            on_synced=lambda offset: self.checkpoints.save_recovery_point(key, offset),
            now_ms=self.now_ms,
            save_recovery_point=self.checkpoints.save,
        )

    # ---------------------------------------------------------------------------------------------------- settings

    @property
    def config(self) -> StoreConfig:
        """The settings in effect."""
        return self.settings.config

    def alter_settings(self, scope: Scope, changes: Mapping[str, object], *, validate_only: bool = False) -> None:
        """Change settings of the server, at once and for good; None takes an earlier change back. What is the default
        of topics counts for all that do not set it themselves.

        Raises InvalidSetting, also for one that only a new start changes, StorageFailure.
        """
        _check_settings(changes)
        with self._lock:
            self.check_open()
            changed, config = self.settings.planned(scope, changes)
            defaults = config.topic_config()
            topics = {name: with_defaults(topic, defaults) for name, topic in self._topics.items()}
            if validate_only:
                return
            self.settings.store(changed, config)
            self._registry.defaults, self._topics = defaults, topics
            for (name, _), log in self._logs.items():
                if name in topics:  # else it was being made when something broke that off
                    log.config = topics[name].config
        for name in topics:
            self._tell_of_topic(name)

    # ------------------------------------------------------------------------------------------------------ topics

    def topics(self) -> list[TopicDescription]:
        """All topics by name."""
        topics = self._topics
        return [topics[name] for name in sorted(topics)]

    def topic(self, name: str) -> TopicDescription:
        """Raises UnknownTopic, DamagedTopic."""
        try:
            return self._topics[name]
        except (KeyError, TypeError):
            if type(name) is str and name in self._registry.damaged:
                raise self._registry.damaged[name].with_traceback(None) from None
            raise UnknownTopic(name) from None

    def topic_of_id(self, topic_id: UUID) -> TopicDescription:
        """Raises UnknownTopic."""
        topic = self._topics.get(self._names.get(topic_id, ""))
        if topic is None or topic.topic_id != topic_id:
            raise UnknownTopic(str(topic_id))
        return topic

    def create_topic(
        self,
        name: str,
        partitions: int | None = None,
        settings: Mapping[str, object] | None = None,
        *,
        validate_only: bool = False,
    ) -> TopicDescription:
        """``validate_only``: the topic as it would be.

        Raises InvalidTopicName, InvalidArgument, InvalidSetting, TopicAlreadyExists, StorageFailure.
        """
        with self._lock:
            self.check_open()
            count = self.config.num_partitions if partitions is None else partitions
            topic = self._registry.planned(name, count, settings or {})
            if name in self._topics or name in self._registry.damaged:
                raise TopicAlreadyExists(name)
            if validate_only:
                return topic
            self.checkpoints.forget(name)
            self._registry.create(topic)
            self._open_partitions(topic)
            self._names[topic.topic_id] = name
            self._topics = {**self._topics, name: topic}
        self._tell_of_topic(name)
        return topic

    def alter_topic(
        self,
        name: str,
        settings: Mapping[str, object] | None = None,
        partitions: int | None = None,
        *,
        validate_only: bool = False,
    ) -> TopicDescription:
        """Change settings (None: back to the default) or add partitions, at once and for good; ``validate_only``: the
        topic as it would be.

        Raises UnknownTopic, DamagedTopic, InvalidSetting, InvalidArgument, StorageFailure.
        """
        _check_settings({} if settings is None else settings)
        with self._lock:
            self.check_open()
            before = self.topic(name)
            topic = self._registry.planned_change(before, settings or {}, partitions)
            if validate_only:
                return topic
            self._registry.alter(before, topic)
            for (log_topic, _), log in self._logs.items():
                if log_topic == name:
                    log.config = topic.config
            self._open_partitions(topic, before.partitions)
            self._topics = {**self._topics, name: topic}
        self._tell_of_topic(name)
        return topic

    def _tell_of_topic(self, name: str) -> None:
        for listener in list(self.topic_listeners):
            listener(name)

    def delete_topic(self, name: str) -> None:
        """Take a topic away at once; its files follow after ``file.delete.delay.ms``.

        Raises UnknownTopic, DamagedTopic, StorageFailure.
        """
        with self._opening, self._lock:
            self.check_open()
            topic = self.topic(name)
            self._registry.begin_delete(name)
            self._topics = {other: kept for other, kept in self._topics.items() if other != name}
            self._names.pop(topic.topic_id, None)
            for partition in range(topic.partitions):
                if log := self._logs.pop((name, partition), None):
                    log.abandon(UnknownTopic(name))
                self._unclosed.discard((name, partition))
            delay_ms = topic.config.file_delete_delay_ms
            self._going += [(self.now_ms(), delay_ms, path) for path in self._registry.finish_delete(name)]
            self.checkpoints.forget(name)
        self._tell_of_topic(name)

    def _open_partitions(self, topic: TopicDescription, first: int = 0) -> None:
        """Of a topic that is there on the disk, whether they can be opened or not. It is told of afterwards: whoever
        asked for one that is not open yet would have to wait for all of them."""
        for partition in range(first, topic.partitions):
            if (topic.name, partition) not in self._logs:
                try_to_open(self._logs, partial(self._open_log, topic=topic), (topic.name, partition))

    def log(self, topic: str, partition: int = 0) -> PartitionLog:
        """Raises UnknownTopic, DamagedTopic, UnknownPartition, Closed; StorageFailure for one that could not be opened,
        and still cannot."""
        try:
            return self.opened_log(topic, partition)
        except StorageFailure:  # the disk was full, or failed, when it was to be opened
            return self.open_left_out((topic, partition))

    def opened_log(self, topic: str, partition: int = 0) -> PartitionLog:
        """``log`` for who must not wait: StorageFailure for one that is not open. It takes no lock, which who makes a
        topic may hold for long."""
        if self._closed is None and type(topic) is str and type(partition) is int:
            log = self._logs.get((topic, partition))
            if log is not None:
                return log
        key = self._known(topic, partition)
        if (log := self._logs.get(key)) is None:
            self._known(topic, partition)  # or it was deleted meanwhile
            reason = "that has failed, and is tried again once a minute"
            raise StorageFailure(str(self.path / filename.partition_dir(*key)), "open", errno.EIO, reason)
        return log

    def left_out(self) -> list[PartitionKey]:
        """The partitions that could not be opened."""
        return [key for key in self._partitions() if key not in self._logs]

    def open_left_out(self, key: PartitionKey) -> PartitionLog:
        """Try again to open one, unless that has been done. What of it is to be checked is left where the directory is
        to be closed: the next opening does it. Raises as ``log``."""

        def check_goes_on(_: int) -> None:
            if self.is_closing():
                raise Closed(f"data directory {self.path}")

        with self._opening:
            self._known(*key)
            if key not in self._logs:
                log = self._open_log(key, check_goes_on)
                self._settle_damage(key, log)
                with self._lock:
                    log.config = self._topics[key[0]].config  # which may have been changed meanwhile
                    self._logs[key] = log
                self._note_opened()
            return self._logs[key]

    def _known(self, topic: str, partition: int) -> PartitionKey:
        """The partition, if there is such a one. Raises as ``log``."""
        self.check_open()
        description = self.topic(topic)
        if type(partition) is not int or not 0 <= partition < description.partitions:
            raise UnknownPartition(topic, partition, description.partitions)
        return description.name, partition

    def logs(self) -> list[tuple[PartitionKey, PartitionLog]]:
        """All partitions, by topic and number."""
        with self._lock:
            return sorted(self._logs.items(), key=lambda item: item[0])

    def damages(self) -> list[SegmentDamage]:
        """What was found damaged when the partitions were opened."""
        return [damage for _, log in self.logs() for damage in log.damages]

    def advance_log_start(self, topic: str, partition: int, offset: int) -> int:
        """Let go of the records before ``offset``, for good once this returns. Raises OffsetOutOfRange."""
        start_offset = self.log(topic, partition).advance_log_start(offset)
        self.checkpoints.save()
        return start_offset

    def flush(self) -> None:
        """Wait until everything appended so far, to any partition, is on the disk."""
        for _, log in self.logs():
            with contextlib.suppress(UnknownTopic):  # deleted since: there is nothing left to wait for
                log.flush()

    # ------------------------------------------------------------------------------------------------------- the end

    def remove_deleted(self, *, at_once: bool = False) -> None:
        """Unlink what was deleted long enough ago. What cannot be is logged, and tried again at the next call."""
        for _, log in self.logs():
            try:
                log.unlink_retired(at_once=at_once)
            except LogstoreError as error:
                logger.warning("%s: its deleted segments stay until the next try: %s", log.name, error)
        with self._lock:
            now_ms = self.now_ms()
            # A clock that was set back must not keep them for years.
            due = [item for item in self._going if at_once or abs(now_ms - item[0]) >= item[1]]
        for item in due:
            try:
                remove_partition_dir(item[2])
            except StorageFailure as error:
                logger.warning("%s stays until the next try: %s", item[2], error)
                continue
            with self._lock:
                self._going = [other for other in self._going if other is not item]

    def close(self) -> None:
        """Make everything durable, record that it is, and let others open the directory."""
        if isinstance(self._closed, ForkedProcess):
            return
        self._upkeep.stop()
        with self._opening, self._lock:
            if self._closed is not None:
                return
            self._closed = Closed(f"data directory {self.path}")
            _OPEN.discard(self)
            try:
                failures = [failure for log in self._logs.values() if (failure := _close(log)) is not None]
                self.remove_deleted(at_once=True)
                self.checkpoints.save()
                if failures:
                    raise failures[0]
                if self._is_whole():
                    self._shutdown.note_closed()
            finally:
                self._lock_file.close()

    def _is_whole(self) -> bool:
        """Whether the next opening may trust every partition's recorded end: all were opened, and are closed."""
        logs = self._logs.values()
        return len(logs) == self._partition_count() and all(log.is_closed and not log.damages for log in logs)

    def is_closing(self) -> bool:
        """Whether upkeep is to come to an end."""
        return self._upkeep.stopped.is_set()

    def check_open(self) -> None:
        """Raises Closed; in a child of the owner, ForkedProcess."""
        if self._closed is not None:
            raise self._closed

    def _abandon_in_child(self) -> None:
        self._closed = ForkedProcess(f"data directory {self.path}")
        # The old ones may be held, by threads that the child does not have.
        self._lock, self._opening = threading.RLock(), threading.RLock()
        self._caches.renew_in_child()
        for log in self._logs.values():
            log.abandon_in_child(self._closed)
        # The lock is the parent's; this only lets go of the child's hold on it.
        with contextlib.suppress(StorageFailure):
            self._lock_file.close()


def caches_for(config: StoreConfig) -> Caches:
    return Caches(config.max_open_files or max(64, files.open_file_limit() // 2))


def _close(log: PartitionLog) -> StorageFailure | None:
    try:
        log.close()
    except StorageFailure as error:
        return error
    return None


def _check_settings(settings: object) -> None:
    if not isinstance(settings, Mapping) or not all(type(name) is str for name in settings):
        raise InvalidArgument("settings", settings, "settings are a mapping of names to values")


_OPEN: "weakref.WeakSet[DataDir]" = weakref.WeakSet()


def _abandon_all_in_child() -> None:
    for data_dir in list(_OPEN):
        data_dir._abandon_in_child()
    _OPEN.clear()


def _close_all() -> None:
    """A program that ends without closing its store is no crash."""
    for data_dir in list(_OPEN):
        try:
            data_dir.close()
        except LogstoreError as error:
            logger.error("%s: not closed cleanly: %s", data_dir.path, error)


os.register_at_fork(after_in_child=_abandon_all_in_child)
atexit.register(_close_all)
