"""Every file and directory name in a data directory: built here, parsed here, nowhere else.

::

    orders_0/                            a partition: <topic>_<partition>; Kafka's <topic>-<partition> is read as well
      00000000000000004711.log           20 digits: the segment's base offset (for .snapshot: the offset it stands at)
      00000000000000004711.log.deleted   going: unlinked after a delay
      00000000000000004711.log.cleaned   coming: a compacted segment that is still being written
      00000000000000004711.log.swap      coming: complete, about to take the place of the segments it was made from
    orders_0.5f0c-delete/                a deleted partition, going
    topics/orders/topic.properties       a topic

Names that cannot be ours parse to None; they are never an error, since anything may lie in a directory.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from logstore.errors import InvalidArgument, InvalidTopicName

LOCK = ".lock"
META_PROPERTIES = "meta.properties"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
RECOVERY_POINT_CHECKPOINT = "recovery-point-offset-checkpoint"
LOG_START_OFFSET_CHECKPOINT = "log-start-offset-checkpoint"
REPLICATION_OFFSET_CHECKPOINT = "replication-offset-checkpoint"
CLEANER_OFFSET_CHECKPOINT = "cleaner-offset-checkpoint"
LEADER_EPOCH_CHECKPOINT = "leader-epoch-checkpoint"
OFFSET_GAP_CHECKPOINT = "offset-gap-checkpoint"
DAMAGE_REPORT = "damage-report"  # what the last opening found damaged; while there is one, a log is checked whole
PARTITION_METADATA = "partition.metadata"
TOPICS_DIR = "topics"
SALVAGED_DIR = "salvaged"  # in a partition's directory: bytes that were taken out of its log
BOOT_ID = ".boot-id"  # of the boot in which the directory was last opened, all of its logs
PRODUCER_IDS = "producer-id-block"  # up to where a broker has taken ids for producers
TOPIC_PROPERTIES = "topic.properties"
SERVER_PROPERTIES = "server.properties"  # settings of the server that were changed while it ran

DELETED = ".deleted"
CLEANED = ".cleaned"
SWAP = ".swap"

NAME_SIZE_MAX = 255  # bytes; what ext4, xfs and APFS allow
TOPIC_NAME_SIZE_MAX = 249  # Kafka's limit: leaves room for "-", five digits of a partition
_OFFSET_MAX = 2**63 - 1
_PARTITION_MAX = 2**31 - 1


PartitionKey = tuple[str, int]  # topic and number of a partition, as a key of the engine's tables


class TopicPartition(NamedTuple):
    """The same for who calls the engine: a plain tuple of the two is equal to it."""

    topic: str
    partition: int


class FileKind(StrEnum):
    LOG = ".log"
    INDEX = ".index"
    TIME_INDEX = ".timeindex"
    TXN_INDEX = ".txnindex"
    SNAPSHOT = ".snapshot"


class SegmentFile(NamedTuple):
    base_offset: int
    kind: FileKind
    suffix: str = ""  # "", DELETED, CLEANED or SWAP

    @property
    def name(self) -> str:
        return f"{self.base_offset:020d}{self.kind.value}{self.suffix}"


def log_name(base_offset: int) -> str:
    return f"{base_offset:020d}.log"


def index_name(base_offset: int) -> str:
    return f"{base_offset:020d}.index"


def time_index_name(base_offset: int) -> str:
    return f"{base_offset:020d}.timeindex"


def txn_index_name(base_offset: int) -> str:
    return f"{base_offset:020d}.txnindex"


def snapshot_name(offset: int) -> str:
    return f"{offset:020d}.snapshot"


_SEGMENT_FILE = re.compile(r"([0-9]{20})(\.log|\.index|\.timeindex|\.txnindex|\.snapshot)(|\.deleted|\.cleaned|\.swap)")


def parse_segment_file(name: str) -> SegmentFile | None:
    match = _SEGMENT_FILE.fullmatch(name)
    if match is None or int(match[1]) > _OFFSET_MAX:
        return None
    return SegmentFile(int(match[1]), FileKind(match[2]), match[3])


# --------------------------------------------------------------------------------------------- topics and partitions

_NOT_IN_TOPIC_NAME = re.compile(r"[^a-zA-Z0-9._-]")


def check_topic_name(topic: str) -> None:
    """Kafka's rules, which also keep a topic's directories inside the data directory. Raises InvalidTopicName."""
    if not isinstance(topic, str):
        raise InvalidTopicName(repr(topic), f"a {type(topic).__name__} is no str")
    if not topic:
        raise InvalidTopicName(topic, "it is empty")
    if topic in {".", ".."}:
        raise InvalidTopicName(topic, "it stands for a directory")
    if len(topic) > TOPIC_NAME_SIZE_MAX:
        raise InvalidTopicName(topic, f"it has {len(topic)} characters")
    wrong = _NOT_IN_TOPIC_NAME.search(topic)
    if wrong:
        raise InvalidTopicName(topic, f"it holds {wrong[0]!r}")


def partition_dir(topic: str, partition: int) -> str:
    """The directory of a partition. Raises InvalidTopicName, InvalidArgument."""
    check_topic_name(topic)
    if not 0 <= partition <= _PARTITION_MAX:
        raise InvalidArgument("partition", partition, f"partitions are numbered 0 to {_PARTITION_MAX}")
    name = f"{topic}_{partition}"
    if len(name) > NAME_SIZE_MAX:
        reason = f"{name[:80]}... would be a directory's name of {len(name)} bytes, and {NAME_SIZE_MAX} are the limit"
        raise InvalidArgument("partition", partition, reason)
    return name


def partition_dirs(topic: str, partition: int) -> tuple[str, str]:
    """The names that a partition's directory may have: ours, and Kafka's. Raises as ``partition_dir`` does."""
    return partition_dir(topic, partition), f"{topic}-{partition}"


_PARTITION_DIR = re.compile(r"(.+)[_-](0|[1-9][0-9]{0,9})", re.DOTALL)


def parse_partition_dir(name: str) -> TopicPartition | None:
    """Topic and partition: the "_" (ours) or "-" (Kafka's) directly before the final digits splits the two."""
    match = _PARTITION_DIR.fullmatch(name)
    if match is None or int(match[2]) > _PARTITION_MAX:
        return None
    try:
        check_topic_name(match[1])
    except InvalidTopicName:
        return None
    return TopicPartition(match[1], int(match[2]))


_DELETED_DIR = re.compile(r"[a-zA-Z0-9._-]+[_-][0-9]+\.[0-9a-f]+-delete")


def deleted_dir(topic: str, partition: int, unique_hex: str) -> str:
    """The name of a partition's directory once it is deleted; the topic is cut where it would pass 255 bytes.

    ``unique_hex``: lower-case hexadecimal digits, up to 32, that no other deletion of the partition has.
    """
    assert re.fullmatch(r"[0-9a-f]{1,32}", unique_hex)
    ending = f"_{partition}.{unique_hex}-delete"
    return topic[: NAME_SIZE_MAX - len(ending)] + ending


def is_deleted_dir(name: str) -> bool:
    """Whether ``deleted_dir`` or Kafka named it. Such a name never parses as a partition's."""
    return _DELETED_DIR.fullmatch(name) is not None
