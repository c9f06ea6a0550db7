"""The topics of a data directory: one properties file a topic, ``topics/<topic>/topic.properties``.

A topic exists when its file does. Creating one makes the partitions' directories first and the file last; deleting one
renames the file first, and the directories go after it. So a crash in the middle leaves either directories without
a topic, which are removed as long as they are empty, or a file that says which directories must still go. (The topic
is a directory's name because it may have 249 characters, which leaves a file's name no room for an ending.)
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

from logstore.config import INT_MAX, TopicConfig
from logstore.errors import CorruptCheckpoint, InvalidArgument, LogstoreError, NotADataDir
from logstore.format import checkpoint, filename
from logstore.format.properties import decode_properties, encode_properties
from logstore.storage import files

logger = logging.getLogger("logstore.storage")

TOPICS_DIR = "topics"
TOPIC_PROPERTIES = "topic.properties"
_TOPIC_ID = "topic.id"
_PARTITIONS = "partitions"


class TopicDescription(NamedTuple):
    """A topic: ``partitions`` is their count."""

    name: str
    topic_id: UUID
    partitions: int
    config: TopicConfig


class Topics:
    """The topic files of ``data_dir``. Not thread-safe: its owner is."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._dir = data_dir / TOPICS_DIR

    # ----------------------------------------------------------------------------------------------------- reading

    def load(self) -> dict[str, TopicDescription]:
        """All topics by name. Raises NotADataDir for a file that cannot be read: nothing is guessed about a topic."""
        if not files.exists(self._dir):
            return {}
        topics = (self._read(name) for name in files.dir_names(self._dir))
        return {topic.name: topic for topic in topics if topic is not None}

    def _read(self, name: str) -> TopicDescription | None:
        path = self._path(name)
        data = files.read_file(path)
        if data is None:
            return None  # not quite created, or deleted since it was listed
        try:
            filename.check_topic_name(name)
            properties = decode_properties(data)
            partitions = int(properties.pop(_PARTITIONS))
            topic_id = UUID(properties.pop(_TOPIC_ID))
            if not 1 <= partitions <= INT_MAX:
                raise ValueError(f"{partitions} partitions")
            return TopicDescription(name, topic_id, partitions, TopicConfig.parse(properties))
        except (LogstoreError, ValueError, KeyError) as error:
            reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
            raise NotADataDir(
                str(path), f"the topic's settings cannot be read ({reason}); mend the file by hand"
            ) from None

    def _path(self, name: str) -> Path:
        return self._dir / name / TOPIC_PROPERTIES

    def _going_path(self, name: str) -> Path:
        return self._dir / name / (TOPIC_PROPERTIES + filename.DELETED)

    # ---------------------------------------------------------------------------------------------------- changing

    def check_new(self, name: str, partitions: int) -> None:
        """Whether there can be such a topic. Raises InvalidTopicName, InvalidArgument."""
        filename.check_topic_name(name)
        _check_partitions(partitions)

    def create(self, name: str, partitions: int, config: TopicConfig) -> TopicDescription:
        """Make a topic, which its caller knows to be new, and its empty partitions. Raises as ``check_new`` does,
        StorageFailure; it may be called again then."""
        self.check_new(name, partitions)
        self.finish_delete(name)  # of an earlier topic of this name, where that failed half-way
        topic = TopicDescription(name, uuid4(), partitions, config)
        self._make_partitions(topic, 0)
        self._write(topic)
        return topic

    def alter(
        self, topic: TopicDescription, settings: Mapping[str, object], partitions: int | None = None
    ) -> TopicDescription:
        """Change settings (None: back to the default) or add partitions. Raises InvalidSetting, InvalidArgument."""
        config = topic.config.replace(settings)
        altered = topic._replace(config=config)
        if partitions is not None:
            _check_partitions(partitions)
            if partitions < topic.partitions:
                raise InvalidArgument(
                    "partitions", partitions, f"topic {topic.name!r} has {topic.partitions}; they can only become more"
                )
            altered = altered._replace(partitions=partitions)
            self._make_partitions(altered, topic.partitions)
        self._write(altered)
        return altered

    def begin_delete(self, name: str) -> None:
        """Take a topic away: from here on it is gone, even where ``finish_delete`` fails."""
        files.rename(self._path(name), self._going_path(name))

    def finish_delete(self, name: str) -> list[Path]:
        """Rename the directories of a topic that was taken away, and return those: they are still to be removed."""
        if not files.exists(self._going_path(name)):
            return []
        files.sync_dir(self._dir / name)  # were the topic back after a crash, it would be without its records
        renamed = []
        for directory in self._partition_dirs(name):
            parsed = filename.parse_partition_dir(directory.name)
            assert parsed is not None
            renamed.append(self._data_dir / filename.deleted_dir(*parsed, uuid4().hex))
            files.rename(directory, renamed[-1])
        files.sync_dir(self._data_dir)
        files.unlink(self._going_path(name))
        files.remove_dir(self._dir / name)
        return renamed

    def _partition_dirs(self, topic: str) -> list[Path]:
        names = files.dir_names(self._data_dir)
        parsed = ((name, filename.parse_partition_dir(name)) for name in names)
        return [self._data_dir / name for name, partition in parsed if partition and partition[0] == topic]

    def _make_partitions(self, topic: TopicDescription, first: int) -> None:
        for partition in range(first, topic.partitions):
            directory = self._data_dir / filename.partition_dir(topic.name, partition)
            files.make_dir(directory)
            files.write_file(
                directory / filename.PARTITION_METADATA, checkpoint.encode_partition_metadata(topic.topic_id)
            )
        files.sync_dir(self._data_dir)

    def _write(self, topic: TopicDescription) -> None:
        for directory in (self._dir, self._path(topic.name).parent):
            if not files.exists(directory):
                files.make_dir(directory)
                files.sync_dir(directory.parent)
        properties = {_TOPIC_ID: str(topic.topic_id), _PARTITIONS: str(topic.partitions), **topic.config.overrides()}
        files.write_file(self._path(topic.name), encode_properties(properties))

    # --------------------------------------------------------------------------------------------------- after a crash

    def finish_interrupted(self) -> list[Path]:
        """Finish what a crash interrupted; the directories to be removed, those of earlier deletions among them."""
        if files.exists(self._dir):
            for name in files.dir_names(self._dir):
                self.finish_delete(name)
        known = self.load()
        going = []
        for name in files.dir_names(self._data_dir):
            directory = self._data_dir / name
            if filename.is_deleted_dir(name):
                going.append(directory)
                continue
            partition = filename.parse_partition_dir(name)
            if partition is None or (partition[0] in known and partition[1] < known[partition[0]].partitions):
                continue
            if any(entry.size for entry in files.list_dir(directory) if entry.name.endswith(".log")):
                logger.warning("%s holds records of no topic: create the topic to have them, or remove it", directory)
            else:  # a topic of this name may be created before it is removed
                going.append(self._data_dir / filename.deleted_dir(*partition, uuid4().hex))
                files.rename(directory, going[-1])
        return going


def remove_partition_dir(directory: Path) -> None:
    """Remove a deleted partition's directory and all files in it."""
    for entry in files.list_dir(directory):
        if entry.is_dir:
            remove_partition_dir(directory / entry.name)
        else:
            files.unlink(directory / entry.name)
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
    if type(partitions) is not int or partitions < 1:
        raise InvalidArgument("partitions", partitions, "a topic has at least 1")
