"""What lies at a path: which files, of which kind, of which partition. Names decide; no file's bytes are looked at.

This is for the tools that look at directories which need not be ours, or whole: Apache Kafka's, copies of a single
partition, one file that somebody has sent. Nothing is changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from logstore.errors import InvalidArgument, NotADataDir
from logstore.format import checkpoint, filename, producer_snapshot, properties, txn_index
from logstore.format.filename import FileKind
from logstore.storage import files


class Kind(StrEnum):
    LOG = "log"
    INDEX = "offset index"
    TIME_INDEX = "time index"
    TXN_INDEX = "transaction index"
    SNAPSHOT = "producer snapshot"
    OFFSETS = "offset checkpoint"
    EPOCHS = "leader epochs"
    GAPS = "offset gaps"
    METADATA = "partition metadata"
    PROPERTIES = "properties"
    CLEAN_SHUTDOWN = "clean shutdown marker"


# The kinds of small files that are read whole.
DECODERS: dict[Kind, Callable[[bytes], object]] = {
    Kind.TXN_INDEX: txn_index.decode,
    Kind.SNAPSHOT: producer_snapshot.decode,
    Kind.OFFSETS: checkpoint.decode_offsets,
    Kind.EPOCHS: checkpoint.decode_epochs,
    Kind.GAPS: checkpoint.decode_gaps,
    Kind.METADATA: checkpoint.decode_partition_metadata,
    Kind.PROPERTIES: properties.decode_properties,
    Kind.CLEAN_SHUTDOWN: properties.decode_clean_shutdown,
}

_BY_NAME = {
    filename.LEADER_EPOCH_CHECKPOINT: Kind.EPOCHS,
    filename.OFFSET_GAP_CHECKPOINT: Kind.GAPS,
    filename.PARTITION_METADATA: Kind.METADATA,
    filename.CLEAN_SHUTDOWN: Kind.CLEAN_SHUTDOWN,
}
_BY_ENDING = {
    "-offset-checkpoint": Kind.OFFSETS,
    ".properties": Kind.PROPERTIES,
    ".checkpoint": Kind.LOG,  # Kafka's snapshots of its own metadata are record batches
    FileKind.TIME_INDEX: Kind.TIME_INDEX,
    FileKind.TXN_INDEX: Kind.TXN_INDEX,
    FileKind.INDEX: Kind.INDEX,
    FileKind.SNAPSHOT: Kind.SNAPSHOT,
    FileKind.LOG: Kind.LOG,
}


class KnownFile(NamedTuple):
    """``base_offset`` is that of the name (0 where the name has none); ``is_leaving``: renamed, about to be removed or
    to take another's place."""

    path: Path
    kind: Kind
    size: int
    base_offset: int = 0
    is_leaving: bool = False


class PartitionFiles(NamedTuple):
    """A partition's files: small ones by name, then those of its segments by base offset."""

    directory: Path
    files: tuple[KnownFile, ...]

    @property
    def logs(self) -> list[KnownFile]:
        return [file for file in self.files if file.kind is Kind.LOG]

    @property
    def topic_partition(self) -> tuple[str, int]:
        """By the directory's name; ``("", -1)`` for a name that says neither."""
        return filename.parse_partition_dir(self.directory.name) or ("", -1)


@dataclass(frozen=True)
class Survey:
    """``data_dir`` is the data directory at or around the path, None where there is none to be seen. ``own_files`` are
    those of no partition. ``is_file``: the path is one file, which then is all there is."""

    path: Path
    data_dir: Path | None
    own_files: tuple[KnownFile, ...]
    partitions: tuple[PartitionFiles, ...]
    is_file: bool

    @property
    def all_files(self) -> list[KnownFile]:
        return [*self.own_files, *(file for partition in self.partitions for file in partition.files)]


def identify(path: Path, size: int = 0) -> KnownFile | None:
    """What a file is, by its name; None for one that is no part of a log."""
    if path.name in _BY_NAME:
        return KnownFile(path, _BY_NAME[path.name], size)
    segment_file = filename.parse_segment_file(path.name)
    if segment_file is not None:
        kind = _BY_ENDING[segment_file.kind]
        return KnownFile(path, kind, size, segment_file.base_offset, bool(segment_file.suffix))
    for ending, kind in _BY_ENDING.items():
        if path.name.endswith(ending):
            return KnownFile(path, kind, size)
    return None


def survey(path: Path) -> Survey:
    """Look at a file, a partition's directory or a data directory. Raises NotADataDir where there is no file of a known
    kind, InvalidArgument for a file that is of none, StorageFailure."""
    entry = files.entry(path)
    if not entry.is_dir:
        return _survey_file(path, entry.size)
    entries = files.list_dir(path)
    own = _known_files(path, entries)
    is_data_dir = any(entry.name == filename.META_PROPERTIES for entry in entries)  # whatever else was put there
    if not is_data_dir and any(file.kind in _PARTITION_KINDS or file.path.suffix == FileKind.LOG for file in own):
        return Survey(path, data_dir_of(path), (), (PartitionFiles(path, own),), False)
    if any(entry.name == filename.TOPICS_DIR and entry.is_dir for entry in entries):
        for topic in (path / filename.TOPICS_DIR / name for name in files.dir_names(path / filename.TOPICS_DIR)):
            own += _known_files(topic, files.list_dir(topic))
    names = [entry.name for entry in entries if entry.is_dir and filename.parse_partition_dir(entry.name)]
    partitions = [PartitionFiles(path / name, _known_files(path / name, files.list_dir(path / name))) for name in names]
    if not own and not any(partition.files for partition in partitions):  # a name such as dbus-1 says little
        raise NotADataDir(str(path), "it holds neither partitions nor segments; name a directory that does")
    partitions.sort(key=lambda partition: partition.topic_partition)
    return Survey(path, path, own, tuple(partitions), False)


_PARTITION_KINDS = {Kind.INDEX, Kind.TIME_INDEX, Kind.TXN_INDEX, Kind.SNAPSHOT, Kind.EPOCHS, Kind.METADATA, Kind.GAPS}


def _survey_file(path: Path, size: int) -> Survey:
    file = identify(path, size)
    if file is None:
        endings = ", ".join(_BY_ENDING)
        raise InvalidArgument("path", str(path), f"a file's name says what it is: {', '.join(_BY_NAME)}, or *{endings}")
    if file.kind in _PARTITION_KINDS or file.kind is Kind.LOG:
        partition = PartitionFiles(path.absolute().parent, (file,))
        return Survey(path, data_dir_of(partition.directory), (), (partition,), True)
    return Survey(path, path.absolute().parent, (file,), (), True)


def _known_files(directory: Path, entries: list[files.Entry]) -> tuple[KnownFile, ...]:
    found = [identify(directory / entry.name, entry.size) for entry in entries if not entry.is_dir]
    known = [file for file in found if file is not None and not file.is_leaving]
    return tuple(sorted(known, key=lambda file: (file.kind not in _SMALL_KINDS, file.base_offset, file.path.name)))


_SMALL_KINDS = set(Kind) - {Kind.LOG, Kind.INDEX, Kind.TIME_INDEX, Kind.TXN_INDEX, Kind.SNAPSHOT}


def data_dir_of(partition_dir: Path) -> Path | None:
    """The data directory that a partition's directory lies in, if that looks like one."""
    parent = partition_dir.absolute().parent
    marks = (filename.LOCK, filename.META_PROPERTIES, filename.RECOVERY_POINT_CHECKPOINT)
    return parent if any(files.exists(parent / name) for name in marks) else None


def check_segment_name(log: KnownFile) -> None:
    """Raises InvalidArgument for a log whose name does not give its base offset, which its indexes are named by."""
    if log.path.name != filename.log_name(log.base_offset):
        raise InvalidArgument("path", str(log.path), "a segment that is to be changed is named by 20 digits and .log")
