"""The topics of a data directory: one properties file a topic, ``topics/<topic>/topic.properties``.

A topic exists when its file does. Creating one makes the partitions' directories first and the file last; deleting one
renames the file first, and the directories go after it. So a crash in the middle leaves either directories without
a topic, which are removed where they hold nothing but what a creation makes, or a file that says which directories
must still go. A directory with anything else in it is somebody's: it stays. (The topic is a directory's name because it
may have 249 characters, which leaves a file's name no room for an ending.)
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID, uuid4

from logstore.config import StoreConfig, TopicConfig
from logstore.errors import CorruptCheckpoint, DamagedTopic, InvalidArgument, InvalidSetting, LogstoreError
from logstore.format import checkpoint, filename
from logstore.format.properties import decode_properties, encode_properties
from logstore.storage import files

logger = logging.getLogger("logstore.storage")

PARTITIONS_MAX = int(StoreConfig.row("num.partitions").high)  # of a topic
_TOPIC_ID = "topic.id"
_PARTITIONS = "partitions"


class TopicDescription(NamedTuple):
    """A topic: ``partitions`` is their count, ``config`` what is in effect, ``overrides`` what the topic sets itself,
    as Kafka writes it."""

    name: str
    topic_id: UUID
    partitions: int
    config: TopicConfig
    overrides: Mapping[str, str] = MappingProxyType({})


class Topics:
    """The topic files of ``data_dir``; ``defaults`` is what topics have that set nothing themselves. Not thread-safe:
    its owner is. ``damaged``: why topics, by name, could not be read when they were last loaded."""

    def __init__(self, data_dir: Path, defaults: TopicConfig | None = None) -> None:
        self._data_dir = data_dir
        self.defaults = defaults or TopicConfig()
        self._dir = data_dir / filename.TOPICS_DIR
        self.damaged: dict[str, DamagedTopic] = {}

    # ----------------------------------------------------------------------------------------------------- reading

    def load(self) -> dict[str, TopicDescription]:
        """All topics by name. Nothing is guessed about one whose file cannot be read: it is among the ``damaged``, and
        whatever is its stays as it is. Raises InvalidSetting where a topic's settings do not go with the defaults."""
        self.damaged = {}
        topics: dict[str, TopicDescription] = {}
        for name in files.dir_names(self._dir) if files.exists(self._dir) else ():
            try:
                topic = self._read(name)
            except DamagedTopic as error:
                self.damaged[name] = error
                continue
            if topic is not None:
                topics[name] = topic
        return topics

    def _read(self, name: str, path: Path | None = None) -> TopicDescription | None:
        path = path or self._path(name)
        data = files.read_file(path)
        if data is None:
            return None  # not quite created, or deleted since it was listed
        try:
            filename.check_topic_name(name)
            properties = decode_properties(data)
            partitions = int(properties.pop(_PARTITIONS))
            topic_id = UUID(properties.pop(_TOPIC_ID))
            _check_partitions(partitions)
            TopicConfig.parse(properties)
        except (LogstoreError, ValueError, KeyError) as error:
            reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
            raise DamagedTopic(str(path), reason) from None
        return _described(name, topic_id, partitions, properties, self.defaults)

    def _path(self, name: str) -> Path:
        return self._dir / name / filename.TOPIC_PROPERTIES

    def _going_path(self, name: str) -> Path:
        return self._dir / name / (filename.TOPIC_PROPERTIES + filename.DELETED)

    # ---------------------------------------------------------------------------------------------------- changing

    def planned(self, name: str, partitions: int, settings: Mapping[str, object]) -> TopicDescription:
        """A topic as it would be made. Raises InvalidTopicName, InvalidArgument, InvalidSetting."""
        overrides = {name: text for name, text in TopicConfig.texts(settings).items() if text is not None}
        filename.check_topic_name(name)
        _check_partitions(partitions)
        return _described(name, uuid4(), partitions, overrides, self.defaults)

    def create(self, topic: TopicDescription) -> None:
        """Make a topic that was ``planned``, which its caller knows to be new, and its empty partitions. Raises
        StorageFailure; it may be called again then."""
        self.finish_delete(topic.name)  # of an earlier topic of this name, where that failed half-way
        self._make_partitions(topic, 0)
        self._write(topic)

    def planned_change(
        self, topic: TopicDescription, settings: Mapping[str, object], partitions: int | None = None
    ) -> TopicDescription:
        """A topic as it would be with these settings (None: back to the default) and partitions. Raises InvalidSetting,
        InvalidArgument."""
        if partitions is not None:
            _check_partitions(partitions)
            if partitions < topic.partitions:
                raise InvalidArgument(
                    "partitions", partitions, f"topic {topic.name!r} has {topic.partitions}; they can only become more"
                )
        changed = {**topic.overrides, **TopicConfig.texts(settings)}
        overrides = {name: text for name, text in changed.items() if text is not None}
        return _described(topic.name, topic.topic_id, partitions or topic.partitions, overrides, self.defaults)

    def alter(self, topic: TopicDescription, altered: TopicDescription) -> None:
        """Make a topic what was planned. Raises StorageFailure."""
        self._make_partitions(altered, topic.partitions)
        self._write(altered)

    def begin_delete(self, name: str) -> None:
        """Take a topic away: from here on it is gone, even where ``finish_delete`` fails."""
        files.rename(self._path(name), self._going_path(name))

    def finish_delete(self, name: str) -> list[Path]:
        """Rename the directories of a topic that was taken away, and return those: they are still to be removed."""
        going_path = self._going_path(name)
        topic = self._read(name, going_path)
        if topic is None:
            return []
        files.sync_dir(going_path.parent)  # were the topic back after a crash, it would be without its records
        renamed = []
        for partition in range(topic.partitions):  # not by a look at all directories: there may be thousands
            directory = self._data_dir / filename.partition_dir(name, partition)
            if files.is_dir(directory, follow_links=False):
                renamed.append(self._data_dir / filename.deleted_dir(name, partition, uuid4().hex))
                files.rename(directory, renamed[-1])
        files.sync_dir(self._data_dir)
        self._remove_topic_dir(going_path)
        return renamed

    def _remove_topic_dir(self, going_path: Path) -> None:
        """With what an interrupted change left in it. ``going_path`` goes last: by it a deletion is gone on with."""
        directories = files.dir_names(going_path.parent)
        for name in files.names(going_path.parent):
            if name not in directories and name != going_path.name:
                files.unlink(going_path.parent / name)
        files.unlink(going_path)
        if directories:
            logger.warning("%s is not removed: it holds the directory %r", going_path.parent, directories[0])
        else:
            files.remove_dir(going_path.parent)

    def _make_partitions(self, topic: TopicDescription, first: int) -> None:
        for partition in range(first, topic.partitions):
            directory = self._data_dir / filename.partition_dir(topic.name, partition)
            files.make_dir(directory)
            files.write_file(
                directory / filename.PARTITION_METADATA, checkpoint.encode_partition_metadata(topic.topic_id)
            )

    def _write(self, topic: TopicDescription) -> None:
        """The topic's file: from here on it exists, and so must its partitions' directories."""
        for directory in (self._dir, self._path(topic.name).parent):
            files.make_dir(directory)
            files.sync_dir(directory.parent)  # one that was there already too: the sync may have failed
        properties = {_TOPIC_ID: str(topic.topic_id), _PARTITIONS: str(topic.partitions), **topic.overrides}
        files.write_file(self._path(topic.name), encode_properties(properties))

    # --------------------------------------------------------------------------------------------------- after a crash

    def finish_interrupted(self) -> list[Path]:
        """Finish what a crash interrupted; the directories to be removed, those of earlier deletions among them."""
        if files.exists(self._dir):
            for name in files.dir_names(self._dir):
                try:
                    self.finish_delete(name)
                except DamagedTopic as error:
                    logger.error("the deletion of topic %r is not gone on with: %s", name, error)
        known = self.load()
        for damage in self.damaged.values():
            logger.error("%s", damage)
        going = []
        for name in files.dir_names(self._data_dir):
            directory = self._data_dir / name
            if filename.is_deleted_dir(name):
                going.append(directory)
                continue
            partition = filename.parse_partition_dir(name)
            if partition is None or (partition[0] in known and partition[1] < known[partition[0]].partitions):
                continue
            if partition[0] in self.damaged:
                continue
            if _own_partition(name) is not None and _is_unfinished(directory):
                # A topic of this name may be created before it is removed.
                going.append(self._data_dir / filename.deleted_dir(*partition, uuid4().hex))
                files.rename(directory, going[-1])
            elif any(entry.size for entry in files.list_dir(directory) if entry.name.endswith(".log")):
                logger.warning("%s holds records of no topic: create the topic to have them, or remove it", directory)
            else:
                logger.warning("%s is no topic's, and not an empty partition: it is left as it is", directory)
        return going


def with_defaults(topic: TopicDescription, defaults: TopicConfig) -> TopicDescription:
    """The topic where these are what topics have that set nothing themselves. Raises InvalidSetting."""
    try:
        config = defaults.replace(topic.overrides)
        config.check_for_one_node()
    except InvalidSetting as error:
        raise InvalidSetting(error.name, error.value, f"{error.reason} (topic {topic.name!r})") from None
    return topic._replace(config=config)


def _described(
    name: str, topic_id: UUID, partitions: int, overrides: Mapping[str, str], defaults: TopicConfig
) -> TopicDescription:
    return with_defaults(TopicDescription(name, topic_id, partitions, defaults, overrides), defaults)


def _own_partition(name: str) -> tuple[str, int] | None:
    """The partition of a directory that we named. Kafka's spelling is only ever read."""
    partition = filename.parse_partition_dir(name)
    return partition if partition and filename.partition_dir(*partition) == name else None


_CREATED_FILES = {
    filename.PARTITION_METADATA,
    filename.PARTITION_METADATA + files.TEMPORARY,
    filename.LEADER_EPOCH_CHECKPOINT,
    filename.snapshot_name(0),
}
_EMPTY_FILES = {filename.log_name(0), filename.index_name(0), filename.time_index_name(0)}


def _is_unfinished(directory: Path) -> bool:
    """Whether there is nothing in a directory but what a partition has that never had a record."""
    entries = {entry.name: entry for entry in files.list_dir(directory)}
    return all(
        (entry := entries.get(name)) is not None
        and not entry.is_dir
        and (name in _CREATED_FILES or (name in _EMPTY_FILES and entry.size == 0))
        for name in files.names(directory)
    )


def remove_partition_dir(directory: Path) -> None:
    """Remove a deleted partition's directory and all that is in it. One that is gone already is no error."""
    if not files.exists(directory):
        return
    directories = files.dir_names(directory)
    for name in files.names(directory):
        if name in directories:
            remove_partition_dir(directory / name)
        else:
            files.unlink(directory / name)
    files.remove_dir(directory)


def topic_of_directories(data_dir: Path) -> dict[str, TopicDescription]:
    """The topics that a directory without topic files holds, such as Apache Kafka's: known by directory names only."""
    partitions: dict[str, int] = {}
    ids: dict[str, UUID] = {}
    for name in files.dir_names(data_dir):
        parsed = filename.parse_partition_dir(name)
        if parsed is None:
            continue
        topic, partition = parsed
        partitions[topic] = max(partitions.get(topic, 0), partition + 1)
        try:
            data = files.read_file(data_dir / name / filename.PARTITION_METADATA)
            ids[topic] = checkpoint.decode_partition_metadata(data or b"")
        except CorruptCheckpoint:
            ids.setdefault(topic, UUID(int=0))
    return {topic: TopicDescription(topic, ids[topic], count, TopicConfig()) for topic, count in partitions.items()}


def _check_partitions(partitions: int) -> None:
    if type(partitions) is not int or not 1 <= partitions <= PARTITIONS_MAX:
        raise InvalidArgument("partitions", partitions, f"a topic has 1 to {PARTITIONS_MAX}")
