"""The topic ``__consumer_offsets``: records of committed offsets and of groups' metadata, in Kafka's own schemas.

Owns which partition a group lives in, what is appended, and how it is read back: for each key the last record counts,
a tombstone takes away. Commits of a transaction count from its COMMIT marker on, those of one that was aborted, or is
not finished, do not. After a crash all that was appended is there, after a power cut all that was synced.

Records or batches that cannot be read are reported in the log of warnings and passed over; what they said of their keys
is lost, and an older record of the key, where there is one, counts again. Keys of other versions (Kafka's share groups
and streams) are left alone.
"""

import contextlib
import logging
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from logstore.errors import CorruptBatch, DamagedLog, OffsetGap, StorageFailure, TopicAlreadyExists, UnknownTopic
from logstore.format.batch import RecordBatch, encode_batch
from logstore.format.control_record import control_type
from logstore.format.filename import TopicPartition
from logstore.format.group_records import (
    FIRST_KEY_VERSION,
    LAST_KEY_VERSION,
    GroupRecord,
    decode_group_key,
    decode_group_value,
    encode_group_key,
    encode_group_value,
)
from logstore.format.offsets_topic import (
    EXPIRING_VALUE_VERSION,
    VALUE_VERSION,
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
    decode_group_metadata,
    decode_key,
    decode_offset_commit,
    encode_group_metadata,
    encode_key,
    encode_offset_commit,
)
from logstore.format.record_columns import decode_columns
from logstore.groups.offsets import Commits
from logstore.storage.data_dir import DataDir
from logstore.storage.log_view import LogView, ReadableLog
from logstore.storage.partition import PartitionLog

logger = logging.getLogger("logstore.groups")

OFFSETS_TOPIC = "__consumer_offsets"
OFFSETS_TOPIC_SETTINGS = {"cleanup.policy": "compact", "segment.bytes": 104_857_600, "compression.type": "producer"}
_PROBLEMS_TOLD_MAX = 10  # of a partition, one by one

_CHUNK_BATCH_COUNT = 1024

KeyAndValue = tuple[bytes, bytes | None]
_Place = tuple[int, bytes | None]  # a record's offset and value


class StoredGroup(NamedTuple):
    """A group as the log has it; ``metadata`` is None for one that never had members of the classic protocol,
    ``records`` are empty for one that never had others."""

    commits: Commits
    metadata: GroupMetadataValue | None = None
    records: tuple[GroupRecord, ...] = ()


def partition_of(group: str, partition_count: int) -> int:
    """Where a group lives: Kafka's ``abs(String.hashCode(group)) % partition_count``."""
    code = 0
    octets = group.encode("utf-16-be", "surrogatepass")
    for high, low in zip(octets[::2], octets[1::2]):
        code = (31 * code + (high << 8 | low)) & 0xFFFFFFFF
    if code >= 1 << 31:
        code -= 1 << 32
    return 0 if code == -(1 << 31) else abs(code) % partition_count


# ------------------------------------------------------------------------------------------------------------- records


def commit_record(group: str, partition: TopicPartition, value: OffsetCommitValue | None) -> KeyAndValue:
    """``value`` None: a tombstone, as with ``metadata_record``. Raises InvalidRecord."""
    key = encode_key(OffsetCommitKey(group, *partition))
    if value is None:
        return key, None
    return key, encode_offset_commit(value, VALUE_VERSION if value.expire_timestamp < 0 else EXPIRING_VALUE_VERSION)


def metadata_record(group: str, value: GroupMetadataValue | None) -> KeyAndValue:
    """Raises InvalidRecord."""
    return encode_key(GroupMetadataKey(group)), None if value is None else encode_group_metadata(value)


def group_record(record: GroupRecord) -> KeyAndValue:
    """Of a consumer group. Raises InvalidRecord."""
    key, value = record
    return encode_group_key(key), None if value is None else encode_group_value(value)


class OffsetsLog:
    """Appends to the topic of a directory that this process owns. Safe to use from many threads."""

    def __init__(self, data_dir: DataDir) -> None:
        self._data_dir = data_dir
        self._making = threading.Lock()
        self.is_made = False  # the topic is there, with all its partitions, which are open

    def exists(self) -> bool:
        try:
            return bool(self._data_dir.topic(OFFSETS_TOPIC))
        except UnknownTopic:
            return False

    def make(self) -> None:
        """Create the topic where there is none. Raises StorageFailure, DamagedTopic, Closed."""
        if self.exists() and self.is_made:
            return
        with self._making:
            if not self.exists():
                partition_count = self._data_dir.config.offsets_topic_num_partitions
                with contextlib.suppress(TopicAlreadyExists):
                    self._data_dir.create_topic(OFFSETS_TOPIC, partition_count, OFFSETS_TOPIC_SETTINGS)
            count = self._data_dir.topic(OFFSETS_TOPIC).partitions
            left_out = [number for number in range(count) if not self._opens(number)]
            self.is_made = not left_out

    def _opens(self, number: int) -> bool:
        """Open a partition that was left out, since where it is needed nobody may wait. The groups of one that cannot
        be opened are told when they need it, and the others go on."""
        try:
            self._data_dir.log(OFFSETS_TOPIC, number)
        except StorageFailure:
            return False
        return True

    def load(self) -> dict[str, StoredGroup]:
        """All groups by id; none where there is no topic. Raises StorageFailure, DamagedTopic, Closed."""
        if not self.exists():
            return {}
        self.is_made = True
        count = self._data_dir.topic(OFFSETS_TOPIC).partitions
        return load(self._data_dir.log(OFFSETS_TOPIC, number) for number in range(count))

    def append(self, group: str, records: Sequence[KeyAndValue]) -> None:
        """Append one batch, as far as the page cache: the sync that ``flush.messages`` may ask for is for who appends
        and may wait, or for upkeep. Raises RecordTooLarge, StorageFailure, PartitionOffline, Closed, UnknownTopic;
        nothing was appended then."""
        log = self.log_of(group)
        keys, values = [key for key, _ in records], [value for _, value in records]
        log.append_batch(encode_batch(values, keys=keys, timestamps_ms=log.now_ms()))

    def sync(self, group: str) -> None:
        """Wait until what was appended of the group is on the disk; concurrent calls share a sync. Raises as
        ``append``."""
        if self.exists():
            self.log_of(group).flush()

    def log_of(self, group: str) -> PartitionLog:
        """Raises UnknownTopic, Closed, StorageFailure."""
        number = partition_of(group, self._data_dir.topic(OFFSETS_TOPIC).partitions)
        return self._data_dir.opened_log(OFFSETS_TOPIC, number)


# ------------------------------------------------------------------------------------------------------------- loading


def load(logs: Iterable[ReadableLog]) -> dict[str, StoredGroup]:
    """All groups, by id, of the topic's partitions. What cannot be read is told in warnings. Raises StorageFailure."""
    groups: dict[str, StoredGroup] = {}
    known: dict[TopicPartition, TopicPartition] = {}  # one object for all groups
    for log in logs:
        view = log.view
        loading = _Loading(view.name)
        loading.read(view)
        for key, (offset, value) in loading.latest.items():
            if value is not None:
                try:
                    if key is None:
                        raise CorruptBatch("it has no key")
                    _take(groups, known, key, value)
                except CorruptBatch as error:
                    loading.report(f"the record at offset {offset}", error)
        loading.sum_up()
    return groups


def _take(
    groups: dict[str, StoredGroup], known: dict[TopicPartition, TopicPartition], raw_key: bytes, raw_value: bytes
) -> None:
    key = decode_key(raw_key)
    if isinstance(key, OffsetCommitKey):
        value = decode_offset_commit(raw_value)
        group = groups.get(key.group)
        if group is None:
            group = groups[key.group] = StoredGroup({})
        partition = TopicPartition(key.topic, key.partition)
        group.commits[known.setdefault(partition, partition)] = value
    elif isinstance(key, GroupMetadataKey):
        metadata = decode_group_metadata(raw_value)
        groups[key.group] = groups.get(key.group, StoredGroup({}))._replace(metadata=metadata)
    elif FIRST_KEY_VERSION <= key.version <= LAST_KEY_VERSION:
        group_key = decode_group_key(raw_key)
        group = groups.get(group_key.group, StoredGroup({}))
        record = group_key, decode_group_value(group_key.kind, raw_value)
        groups[group_key.group] = group._replace(records=(*group.records, record))


class _Loading:
    """Reads one partition. ``latest``: for each key where its last record is, and its value; None for a tombstone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.latest: dict[bytes | None, _Place] = {}
        self._chunk: list[RecordBatch] = []  # batches whose records are decoded together, which is cheaper
        self._open: dict[int, dict[bytes | None, _Place]] = {}  # transactions, by producer id
        self._problem_count = 0

    def read(self, view: LogView) -> None:
        offset: int | None = view.log_start_offset
        while offset is not None and offset < view.log_end_offset:
            first_offset = offset
            try:
                for batch in view.batches(offset):
                    self._take(batch)
                    offset = batch.header.next_offset
                offset = None
            except OffsetGap as gap:
                self.report("a gap", gap)
                offset = max(gap.last_offset + 1, first_offset + 1)
            except DamagedLog as damage:
                self.report("damage", damage)
                offset = None if damage.next_offset is None else max(damage.next_offset, first_offset + 1)
        self._decode_chunk()

    def _take(self, batch: RecordBatch) -> None:
        header = batch.header
        if not header.is_control and not header.is_transactional:
            self._chunk.append(batch)
            if len(self._chunk) >= _CHUNK_BATCH_COUNT or header.record_count >= _CHUNK_BATCH_COUNT:
                self._decode_chunk()
            return
        self._decode_chunk()
        try:
            if header.is_control:
                self._end_transaction(batch)
            else:
                self._open.setdefault(header.producer_id, {}).update(_places([batch]))
        except CorruptBatch as error:
            self.report(f"the batch at offset {header.base_offset}", error)

    def _decode_chunk(self) -> None:
        chunk, self._chunk = self._chunk, []
        try:
            self.latest.update(_places(chunk))
        except CorruptBatch:
            for batch in chunk:
                try:
                    self.latest.update(_places([batch]))
                except CorruptBatch as error:
                    self.report(f"the batch at offset {batch.header.base_offset}", error)

    def _end_transaction(self, batch: RecordBatch) -> None:
        """A COMMIT makes its offsets count, but for those of partitions that were committed anew meanwhile."""
        records = batch.records()
        marker = control_type(records[0]) if records else None
        pending = self._open.pop(batch.header.producer_id, {}) if marker else {}
        if marker == "COMMIT":
            for key, (offset, value) in pending.items():
                known = self.latest.get(key)
                if known is None or known[1] is None or known[0] < offset:
                    self.latest[key] = offset, value

    def report(self, what: str, error: Exception) -> None:
        self._problem_count += 1
        if self._problem_count <= _PROBLEMS_TOLD_MAX:
            logger.warning("%s: %s cannot be read, and is passed over: %s", self.name, what, error)

    def sum_up(self) -> None:
        if self._problem_count > _PROBLEMS_TOLD_MAX:
            logger.warning("%s: %d places in all cannot be read", self.name, self._problem_count)


def _places(chunk: list[RecordBatch]) -> Iterable[tuple[bytes | None, _Place]]:
    """Of each record the key, and where it is with its value. Raises CorruptBatch."""
    batches = [batch for batch in chunk if batch.header.record_count]
    counts = np.array([batch.header.record_count for batch in batches], dtype=np.int64)
    if not batches:
        return ()
    bodies = [batch.body() for batch in batches]
    last_records = np.cumsum(counts) - 1
    columns = decode_columns(b"".join(bodies), int(last_records[-1]) + 1, 0, 0, None)
    if (columns.ends[last_records] != np.cumsum([len(body) for body in bodies])).any():
        raise CorruptBatch("records do not fit their batch")
    base_offsets = np.array([batch.header.base_offset for batch in batches], dtype=np.int64)
    offsets = columns.offsets + np.repeat(base_offsets, counts)
    return zip(columns.keys(), zip(offsets.tolist(), columns.values()))
