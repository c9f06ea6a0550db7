"""The store: the topics, partitions and consumer groups of one process. What embedded clients and the broker call."""

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self
from uuid import UUID

from logstore.config import StoreConfig
from logstore.errors import (
    Closed,
    DamagedTopic,
    ForkedProcess,
    InvalidArgument,
    LogstoreError,
    NotADataDir,
    ReadOnly,
    UnknownPartition,
    UnknownTopic,
)
from logstore.format import filename
from logstore.groups.coordinator import GroupCoordinator
from logstore.groups.offsets_log import OFFSETS_TOPIC, load
from logstore.groups.stored_groups import StoredGroups
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.data_dir import DataDir, caches_for
from logstore.storage.facts import DirFacts
from logstore.storage.offset_checkpoints import read_offsets
from logstore.storage.partition import PartitionLog
from logstore.storage.read_only import ReadOnlyLog
from logstore.storage.recovery import SegmentDamage
from logstore.storage.server_settings import Scope, ServerSettings
from logstore.storage.topics import TopicDescription, Topics, topic_of_directories

logger = logging.getLogger("logstore.groups")


class _Closing(ABC):
    """What a ``with`` statement closes."""

    @abstractmethod
    def close(self) -> None:
        """Let go. Closing twice is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class TopicStore(_Closing):
    """An open data directory, owned by this process until it is closed. Safe to use from many threads."""

    def __init__(self, data_dir: DataDir, *, keeps_members: bool = False) -> None:
        """``keeps_members``: members of groups may outlive the process that had the directory before, as a broker's
        do, and go on here."""
        self._data_dir = data_dir
        self.path = data_dir.path
        self._keeps_members = keeps_members
        self._groups: GroupCoordinator | None = None
        self._groups_lock = Lock()
        self._is_closing = False
        data_dir.topic_listeners.append(self._forget_if_unknown)
        data_dir.committed_offsets = self._committed_offsets

    @property
    def groups(self) -> GroupCoordinator:
        """The consumer groups, loaded when first asked for. Raises Closed, StorageFailure."""
        if self._groups is None:
            self._data_dir.check_open()  # before the lock, which in a child of this process may be held for ever
            with self._groups_lock:
                if self._is_closing:
                    raise Closed(f"data directory {self.path}")
                if self._groups is None:
                    self._groups = GroupCoordinator(self._data_dir, keeps_members=self._keeps_members)
        return self._groups

    def _has_topic(self, name: str) -> bool:
        try:
            return bool(self._data_dir.topic(name))
        except UnknownTopic:
            return False
        except DamagedTopic:
            return True

    def _committed_offsets(self, topic: str, partition: int) -> Mapping[str, int]:
        """For retention with cleanup.policy=consumed."""
        if self._is_closing or not self._has_topic(OFFSETS_TOPIC):
            return {}
        return self.groups.durably_committed_of(topic, partition)

    def _forget_if_unknown(self, topic: str) -> None:
        """What groups have committed of a topic that was deleted goes with it."""
        try:
            if type(topic) is str and not self._has_topic(topic) and self._has_topic(OFFSETS_TOPIC):
                self.groups.forget_topic(topic)
        except LogstoreError as error:
            logger.warning("%s: offsets of topic %s, which is no more, are still there: %s", self.path, topic, error)

    @property
    def settings(self) -> ServerSettings:
        """What the directory was opened with, and what was changed since. For a look: ``alter_settings`` changes."""
        return self._data_dir.settings

    def alter_settings(
        self, changes: Mapping[str, object], scope: Scope = Scope.ALL_BROKERS, *, validate_only: bool = False
    ) -> None:
        """Change settings of the directory that may be changed while it is open, at once and for good: what topics have
        that set nothing themselves, and a few more. None takes an earlier change back. Raises InvalidSetting,
        StorageFailure."""
        self._data_dir.alter_settings(scope, changes, validate_only=validate_only)

    def create_topic(self, name: str, partitions: int | None = None, **settings: object) -> TopicDescription:
        """Make a topic; ``settings`` as in ``retention_ms=60_000``, or ``**{"retention.ms": "60000"}``.

        Raises InvalidTopicName, InvalidArgument, InvalidSetting, TopicAlreadyExists, StorageFailure, Closed.
        """
        self._data_dir.check_open()
        self._forget_if_unknown(name)  # those of an earlier topic: a crash may have come between its end and theirs
        return self._data_dir.create_topic(name, partitions, settings)

    def planned_topic(
        self, name: str, partitions: int | None = None, settings: Mapping[str, object] | None = None
    ) -> TopicDescription:
        """What ``create_topic`` would make. Raises as it does."""
        return self._data_dir.create_topic(name, partitions, settings, validate_only=True)

    def alter_topic(
        self,
        name: str,
        settings: Mapping[str, object] | None = None,
        partitions: int | None = None,
        *,
        validate_only: bool = False,
    ) -> TopicDescription:
        """Change settings (None stands for the default) or add partitions. Raises as ``create_topic``, UnknownTopic,
        DamagedTopic."""
        if name == OFFSETS_TOPIC and partitions is not None:
            raise InvalidArgument(
                "partitions", partitions, f"the groups in {name} would be looked for in the wrong ones"
            )
        return self._data_dir.alter_topic(name, settings, partitions, validate_only=validate_only)

    def delete_topic(self, name: str) -> None:
        """Remove a topic, all its records, and what groups have committed of it. Raises UnknownTopic, DamagedTopic."""
        if name == OFFSETS_TOPIC:
            raise InvalidArgument("topic", name, "it holds the offsets of all groups; delete groups instead")
        self._data_dir.delete_topic(name)

    def topics(self) -> list[TopicDescription]:
        """All topics, by name."""
        return self._data_dir.topics()

    def topic(self, name: str) -> TopicDescription:
        """Raises UnknownTopic, DamagedTopic."""
        return self._data_dir.topic(name)

    def topic_of_id(self, topic_id: UUID) -> TopicDescription:
        """Raises UnknownTopic."""
        return self._data_dir.topic_of_id(topic_id)

    def log(self, topic: str, partition: int = 0) -> PartitionLog:
        """A partition's log, to append to and read. Raises UnknownTopic, DamagedTopic, UnknownPartition, Closed."""
        return self._data_dir.log(topic, partition)

    def opened_log(self, topic: str, partition: int = 0) -> PartitionLog:
        """``log`` for who must not wait, as an event loop must not: one that could not be opened is not tried again
        here, but raises StorageFailure."""
        return self._data_dir.opened_log(topic, partition)

    def advance_log_start(self, topic: str, partition: int, offset: int) -> int:
        """Delete the records before ``offset``; returns the log start offset. Raises OffsetOutOfRange."""
        return self._data_dir.advance_log_start(topic, partition, offset)

    def save_log_starts(self) -> None:
        """What logs themselves have let go of, by ``advance_log_start``, is gone for good once this returns: for who
        does so with many of them. Raises StorageFailure."""
        self._data_dir.checkpoints.save()

    def damages(self) -> list[SegmentDamage]:
        """What was found damaged when the store was opened."""
        return self._data_dir.damages()

    def flush(self) -> None:
        """Wait until everything appended so far is on the disk. Raises StorageFailure."""
        self._data_dir.flush()

    def close(self) -> None:
        """Make everything durable and let others open the directory. Closing twice is no error."""
        with contextlib.suppress(Closed, ForkedProcess):  # then there are no groups to close
            self._data_dir.check_open()
            with self._groups_lock:
                self._is_closing = True
            if self._groups is not None:
                self._groups.close()
        self._data_dir.close()


class ReadOnlyTopicStore(_Closing):
    """A data directory to look at: a live one of another process, a copy, or Apache Kafka's own."""

    def __init__(self, path: Path, config: StoreConfig | None = None) -> None:
        """``config``: what topics have that set nothing themselves, and ``max_open_files``, matter here."""
        if not files.is_dir(path):
            raise NotADataDir(str(path), "it is a file" if files.exists(path) else "there is no such directory")
        self.path = path
        self._config = config or StoreConfig()
        self._caches = caches_for(self._config)
        self._logs: dict[tuple[str, int], ReadOnlyLog] = {}
        self._closed: Closed | None = None
        self._damaged: dict[str, DamagedTopic] = {}
        if not self._load() and not files.exists(path / filename.META_PROPERTIES):
            raise NotADataDir(str(path), f"it holds neither a partition nor {filename.META_PROPERTIES}")

    def _load(self) -> dict[str, TopicDescription]:
        if self._closed is not None:
            raise self._closed
        registry = Topics(self.path, ServerSettings(self.path, self._config).config.topic_config())
        topics = registry.load()
        self._damaged = registry.damaged
        return topics if topics or self._damaged else topic_of_directories(self.path)

    def topics(self) -> list[TopicDescription]:
        """All topics, by name; where no settings are stored, as in Kafka's directories, the defaults stand for them."""
        topics = self._load()
        return [topics[name] for name in sorted(topics)]

    def topic(self, name: str) -> TopicDescription:
        """Raises UnknownTopic, DamagedTopic."""
        try:
            return self._load()[name]
        except (KeyError, TypeError):
            if type(name) is str and name in self._damaged:
                raise self._damaged[name] from None
            raise UnknownTopic(name) from None

    def log(self, topic: str, partition: int = 0) -> ReadOnlyLog:
        """A partition's log, to read. Raises UnknownTopic, DamagedTopic, UnknownPartition."""
        description = self.topic(topic)
        if type(partition) is not int or not 0 <= partition < description.partitions:
            raise UnknownPartition(topic, partition, description.partitions)
        log = self._logs.get((topic, partition))
        if log is None:
            paths = [self.path / name for name in filename.partition_dirs(topic, partition)]
            directories = [path for path in paths if files.is_dir(path)]
            if not directories:
                raise UnknownPartition(topic, partition, description.partitions)
            log = ReadOnlyLog(
                directories[0],
                self._caches,
                lambda: self._start_offset(topic, partition),
                lambda: DirFacts(self.path).may_have_holes((topic, partition)),
            )
            self._logs[topic, partition] = log
        return log

    def _start_offset(self, topic: str, partition: int) -> int:
        return read_offsets(self.path / filename.LOG_START_OFFSET_CHECKPOINT).get((topic, partition), 0)

    @property
    def groups(self) -> StoredGroups:
        """The consumer groups as they are stored now: read anew each time. Raises Closed, StorageFailure."""
        try:
            partition_count = self.topic(OFFSETS_TOPIC).partitions
        except UnknownTopic:
            return StoredGroups({})
        logs = []
        for number in range(partition_count):
            with contextlib.suppress(UnknownPartition):  # of Kafka's directories, one may hold only some of them
                logs.append(self.log(OFFSETS_TOPIC, number))
        return StoredGroups(load(logs))

    def create_topic(self, name: str, partitions: int | None = None, **settings: object) -> TopicDescription:
        """Raises ReadOnly, as everything does that would change the directory."""
        raise ReadOnly(str(self.path))

    def alter_topic(
        self, name: str, settings: Mapping[str, object] | None = None, partitions: int | None = None
    ) -> TopicDescription:
        """Raises ReadOnly."""
        raise ReadOnly(str(self.path))

    def delete_topic(self, name: str) -> None:
        """Raises ReadOnly."""
        raise ReadOnly(str(self.path))

    def advance_log_start(self, topic: str, partition: int, offset: int) -> int:
        """Raises ReadOnly."""
        raise ReadOnly(str(self.path))

    def close(self) -> None:
        """Let go of the open files. Closing twice is no error."""
        self._closed = Closed(f"data directory {self.path}")
        self._logs.clear()
        self._caches = Caches()
