"""What the files around a log say of it: its begin and end, which offsets may be missing, which leader wrote what.

A batch's base offset, length, leader epoch and magic are outside its CRC, so that a log can give a batch its place
without touching its records. These facts are what such fields are held against, by verify and salvage. A file that is
missing or damaged says nothing here; where it is checked itself, that is reported. Nothing is changed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from logstore.errors import CorruptData, LogstoreError, StorageFailure
from logstore.format import checkpoint, filename
from logstore.format.batch import NO_LEADER_EPOCH, BatchHeader
from logstore.format.filename import PartitionKey
from logstore.storage import files
from logstore.storage.gaps import Gap, behind
from logstore.storage.leader_epochs import LeaderEpochs
from logstore.storage.survey import Kind, PartitionFiles
from logstore.storage.topics import TopicDescription, Topics


class LogFacts(NamedTuple):
    """``closed_offset``: where the log ended when it was closed cleanly, None where it was not, or nothing says so.
    ``start_offset``: where it began then. ``gaps``: offsets (first, last) that are known to be lost. ``epochs`` are
    known of all offsets below ``epochs_end``. ``may_have_holes``: compaction may have taken any offset away.
    ``gaps_error``: why the gaps cannot be read."""

    closed_offset: int | None = None
    start_offset: int | None = None
    recovery_point: int = 0
    gaps: tuple[Gap, ...] = ()
    epochs: LeaderEpochs | None = None
    epochs_end: int = 0
    may_have_holes: bool = True
    gaps_error: str = ""

    @property
    def known_gaps(self) -> Sequence[Gap] | None:
        """The only offsets that may be missing; None where any may."""
        return None if self.may_have_holes else self.gaps

    def behind_gaps(self, offset: int) -> int:
        """``offset``, or the first one behind the known gaps that it is in."""
        return behind(self.gaps, offset)

    def right_epoch(self, header: BatchHeader) -> int | None:
        """The leader epoch that the batch must have; None where that is not known."""
        if self.epochs is None or header.base_offset >= self.epochs_end:
            return None
        entries = self.epochs.entries
        if not entries:
            return NO_LEADER_EPOCH
        # Before the first entry's offset an epoch may be older, of a part that retention has begun to take.
        expected = self.epochs.epoch_for(header.base_offset)
        if expected is None and not NO_LEADER_EPOCH <= header.partition_leader_epoch <= entries[0].epoch:
            return entries[0].epoch
        return expected


class DirFacts:
    """What a data directory says of its logs."""

    def __init__(self, data_dir: Path | None) -> None:
        self._data_dir = data_dir
        # Before what was compacted: a topic that a live owner compacts, and then no more, is in one of the two.
        self._topics = self._read_topics()
        self.recovery_points = self._offsets(filename.RECOVERY_POINT_CHECKPOINT)
        self.start_offsets = self._offsets(filename.LOG_START_OFFSET_CHECKPOINT)
        self._cleaner_offsets = self._offsets(filename.CLEANER_OFFSET_CHECKPOINT)
        self._was_closed = self.are_closed()

    def are_closed(self) -> bool:
        """Whether the logs were closed cleanly, and nobody has opened them since: asked at this moment."""
        return self._exists(filename.CLEAN_SHUTDOWN)

    def of(self, partition: PartitionFiles) -> LogFacts:
        """The facts of one log."""
        key = partition.topic_partition
        gaps, gaps_error = _read_gaps(partition.directory)
        snapshots = [file.base_offset for file in partition.files if file.kind is Kind.SNAPSHOT]
        closed_offset = start_offset = None
        if self._was_closed and self.recovery_points is not None:
            closed_offset = self.recovery_points.get(key)
            if self._topics and self.start_offsets is not None and closed_offset is not None:
                start_offset = self.start_offsets.get(key, 0)
        return LogFacts(
            closed_offset,
            start_offset,
            (self.recovery_points or {}).get(key, 0),
            gaps,
            _read_epochs(partition.directory),
            max(snapshots, default=0),
            self.may_have_holes(key),
            gaps_error,
        )

    def may_have_holes(self, key: PartitionKey) -> bool:
        """Whether compaction may have taken offsets away: of other directories than ours, and where what was compacted
        cannot be read, it may."""
        topic = self._topics.get(key[0])
        if topic is None or topic.config.compacts:
            return True
        cleaned = self._cleaner_offsets  # from when it was
        return key in cleaned if cleaned is not None else self._exists(filename.CLEANER_OFFSET_CHECKPOINT)

    def _exists(self, name: str) -> bool:
        return self._data_dir is not None and files.exists(self._data_dir / name)

    def _offsets(self, name: str) -> Mapping[PartitionKey, int] | None:
        """None where the file is missing, or cannot be read."""
        if self._data_dir is None:
            return None
        data = _read(self._data_dir / name)
        try:
            return None if data is None else checkpoint.decode_offsets(data)
        except CorruptData:
            return None

    def _read_topics(self) -> Mapping[str, TopicDescription]:
        try:
            return Topics(self._data_dir).load() if self._data_dir is not None else {}
        except LogstoreError:
            return {}


def _read(path: Path) -> bytes | None:
    try:
        return files.read_file(path)
    except StorageFailure:
        return None


def _read_gaps(directory: Path) -> tuple[tuple[Gap, ...], str]:
    """The gaps, or none and why."""
    data = _read(directory / filename.OFFSET_GAP_CHECKPOINT)
    try:
        return (() if data is None else tuple(checkpoint.decode_gaps(data))), ""
    except CorruptData as error:
        return (), error.reason


def _read_epochs(directory: Path) -> LeaderEpochs | None:
    data = _read(directory / filename.LEADER_EPOCH_CHECKPOINT)
    try:
        return None if data is None else LeaderEpochs(checkpoint.decode_epochs(data))
    except CorruptData:
        return None
