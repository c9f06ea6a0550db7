"""A data directory in use by a ``Driver``, which writes into a ``Journal`` what it is about to do, and what it has been
promised the moment that it was. Whatever happens to the process or the disk at any moment, the journal up to there says
what must be found afterwards (see ``promises``).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import Any, NamedTuple

from log_tools import Clock
from logstore.config import StoreConfig, TopicConfig
from logstore.errors import LogstoreError
from logstore.format.compression import Compression
from logstore.storage import compaction
from logstore.storage import data_dir as data_dir_module
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from logstore.storage.partition import PartitionLog
from logstore.storage.server_settings import Scope

PartitionKey = tuple[str, int]


SERVER = "the server's settings"  # no name of a topic, and kept in a journal like one


class TopicState(NamedTuple):
    """Of the server, without partitions, too."""

    partitions: int
    settings: Mapping[str, str]


def states_of(data_dir: DataDir) -> dict[str, TopicState]:
    """What there is, by topic; of the server where its settings were changed."""
    states = {topic.name: TopicState(topic.partitions, dict(topic.overrides)) for topic in data_dir.topics()}
    if changed := data_dir.settings.changed[Scope.ALL_BROKERS]:
        states[SERVER] = TopicState(0, dict(changed))
    return states


# ------------------------------------------------------------------------------------------------ what a journal says


class Attempted(NamedTuple):
    """A batch that is about to be appended; its values are like no other batch's."""

    partition: PartitionKey
    values: Sequence[bytes]
    key: bytes | None


class Acknowledged(NamedTuple):
    partition: PartitionKey
    base_offset: int
    values: Sequence[bytes]
    key: bytes | None
    durability: Durability


class Synced(NamedTuple):
    """All below is on the disk."""

    partition: PartitionKey
    end_offset: int


class Cutting(NamedTuple):
    """Records from here on are about to go; until ``Cut`` they may be there or not."""

    partition: PartitionKey
    offset: int


class Cut(NamedTuple):
    partition: PartitionKey
    end_offset: int


class Leaving(NamedTuple):
    """Records before this offset may go from now on."""

    partition: PartitionKey
    offset: int


class Left(NamedTuple):
    """The log starts here, or later, for good."""

    partition: PartitionKey
    start_offset: int


class Compacting(NamedTuple):
    """From now on records that have a later one of their key may be missing."""

    partition: PartitionKey


class Changing(NamedTuple):
    """A topic is about to become this; None: to be deleted."""

    topic: str
    state: TopicState | None


class Changed(NamedTuple):
    topic: str
    state: TopicState | None


Event = Attempted | Acknowledged | Synced | Cutting | Cut | Leaving | Left | Compacting | Changing | Changed


class Journal:
    """Events in order, each with the value that ``clock`` had then, such as a count of the calls made so far."""

    def __init__(self, clock: Callable[[], int] = lambda: 0) -> None:
        self.clock = clock
        self.events: list[tuple[int, Event]] = []
        self._lock = Lock()

    def note(self, event: Event) -> None:
        with self._lock:
            self.events.append((self.clock(), event))

    def copy(self) -> "Journal":
        copied = Journal(self.clock)
        copied.events = self.events.copy()
        return copied

    def until(self, moment: int) -> list[Event]:
        return [event for when, event in self.events if when <= moment]


# ----------------------------------------------------------------------------------------------------------- driving


def _given(texts: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text is not None}


class Driver:
    """A data directory in use. A call that fails raises the engine's own error, and leaves in the journal what it was
    about to do."""

    def __init__(self, path: Path, journal: Journal, *, first_number: int = 0, **store_settings: object) -> None:
        """``first_number`` of the values, by which those of one life are not those of another."""
        self.path = path
        self.journal = journal
        self.clock = Clock()
        self.config = StoreConfig(**store_settings)  # type: ignore[arg-type]
        self._next_number = first_number
        self._lock = Lock()
        self._data_dir: DataDir | None = None

    @property
    def data_dir(self) -> DataDir:
        """Opened when it is first needed."""
        if self._data_dir is None:
            self._data_dir = DataDir(self.path, self.config, now_ms=self.clock)
        return self._data_dir

    @property
    def is_open(self) -> bool:
        """Not where opening it has failed, nor after a close."""
        return self._data_dir is not None

    def log(self, topic: str = "t", partition: int = 0) -> PartitionLog:
        return self.data_dir.log(topic, partition)

    def create(self, topic: str = "t", partitions: int = 1, **settings: object) -> None:
        state = TopicState(partitions, _given(TopicConfig.texts(settings)))
        self.journal.note(Changing(topic, state))
        self.data_dir.create_topic(topic, partitions, settings)
        self.journal.note(Changed(topic, state))

    def alter(self, topic: str = "t", partitions: int | None = None, **settings: object) -> None:
        before = self.data_dir.topic(topic)
        given = _given({**before.overrides, **TopicConfig.texts(settings)})
        state = TopicState(partitions or before.partitions, given)
        self.journal.note(Changing(topic, state))
        self.data_dir.alter_topic(topic, settings, partitions)
        self.journal.note(Changed(topic, state))

    def alter_server(self, **settings: object) -> None:
        changed = self.data_dir.settings.changed[Scope.ALL_BROKERS]
        state = TopicState(0, _given({**changed, **StoreConfig.texts(settings)}))
        self.journal.note(Changing(SERVER, state))
        self.data_dir.alter_settings(Scope.ALL_BROKERS, settings)
        self.journal.note(Changed(SERVER, state))

    def delete(self, topic: str = "t") -> None:
        self.journal.note(Changing(topic, None))
        self.data_dir.delete_topic(topic)
        self.journal.note(Changed(topic, None))

    def remove_deleted(self) -> None:
        self.data_dir.remove_deleted(at_once=True)

    def append(
        self,
        count: int = 1,
        *,
        partition: PartitionKey = ("t", 0),
        size: int = 0,
        key: bytes | None = None,
        fsync: bool = False,
        compression: Compression = Compression.NONE,
        **producer: Any,
    ) -> None:
        with self._lock:
            first = self._next_number
            self._next_number += count
        values = [(b"%s-%d value %d;" % (partition[0].encode(), partition[1], first + i)) for i in range(count)]
        values = [value.ljust(size, b"=") for value in values]
        self.journal.note(Attempted(partition, values, key))
        receipt = self.log(*partition).append(
            values,
            keys=None if key is None else [key] * count,
            compression=compression,
            durability=Durability.FSYNC if fsync else Durability.OS,
            **producer,
        )
        self.journal.note(Acknowledged(partition, receipt.base_offset, values, key, receipt.durability))
        self.clock.now_ms += 1

    def append_in_threads(self, thread_count: int, each: int) -> None:
        """Durable appends from many threads, which share syncs."""
        failures: list[LogstoreError] = []

        def run() -> None:
            try:
                for _ in range(each):
                    self.append(fsync=True)
            except LogstoreError as error:
                failures.append(error)

        threads = [Thread(target=run) for _ in range(thread_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def flush(self, topic: str = "t", partition: int = 0) -> None:
        end_offset = self.log(topic, partition).log_end_offset
        self.log(topic, partition).flush()
        self.journal.note(Synced((topic, partition), end_offset))

    def checkpoint(self) -> None:
        """What the upkeep does once a minute."""
        ends = [(key, log.checkpoint()) for key, log in self.data_dir.logs()]
        self.data_dir.checkpoints.save()
        for key, end_offset in ends:
            self.journal.note(Synced(key, end_offset))

    def roll(self, topic: str = "t", partition: int = 0) -> None:
        self.log(topic, partition).roll()

    def truncate(self, offset: int, topic: str = "t", partition: int = 0) -> None:
        log = self.log(topic, partition)
        self.journal.note(Cutting((topic, partition), offset))
        log.truncate_to(offset)
        self.journal.note(Cut((topic, partition), log.log_end_offset))

    def advance(self, offset: int, topic: str = "t", partition: int = 0) -> None:
        self.journal.note(Leaving((topic, partition), offset))
        self.data_dir.advance_log_start(topic, partition, offset)
        self.journal.note(Left((topic, partition), offset))

    def retain(self, later_ms: int, topic: str = "t", partition: int = 0) -> None:
        """Let go of what is due ``later_ms`` from now, the files too."""
        log = self.log(topic, partition)
        self.clock.now_ms += later_ms
        self.journal.note(Leaving((topic, partition), log.log_end_offset))
        log.delete_expired()
        self.data_dir.checkpoints.save()
        self.journal.note(Left((topic, partition), log.log_start_offset))
        log.unlink_retired(at_once=True)

    def compact(self, topic: str = "t", partition: int = 0) -> None:
        key = (topic, partition)
        self.journal.note(Compacting(key))
        log = self.log(topic, partition)
        result = compaction.compact(log, self.data_dir.checkpoints.cleaner_offsets.get(key, 0), 1 << 16)
        self.data_dir.checkpoints.save_cleaner_offset(key, result.cleaned_offset)
        log.unlink_retired(at_once=True)

    def close(self) -> None:
        logs = self.data_dir.logs()
        self.data_dir.close()
        for key, log in logs:
            if log.is_closed:  # else a sync of it has failed before
                self.journal.note(Synced(key, log.log_end_offset))
        self._data_dir = None

    def abandon(self) -> None:
        abandon(self.data_dir)

    def salvage(self) -> None:
        """Of a directory that is closed."""
        from damage import do_salvage  # with the command line, which is not to be there before the engine needs it

        do_salvage(self.path)


def abandon(data_dir: DataDir) -> None:
    """Stop using a directory without a word to the disk, as a process does that is killed."""
    data_dir._upkeep.stop()
    data_dir_module._OPEN.discard(data_dir)
    data_dir._lock_file.close()
