"""Committed offsets: what may be committed, and when it expires. Pure: values, settings and times in, decisions out.

*Expiry* (Kafka's rule since 2.1, KIP-211). An offset stays for ``offsets.retention.minutes``, counted

- in a group that has lost its members: from when it became empty, or from the commit where that came later;
- in a group that never had members, whose consumers only keep offsets here: from the commit;
- in a group with members, for a topic that none of them is subscribed to: from the commit.

Offsets of subscribed topics do not expire while there are members. A commit by a protocol of long ago may carry a time
of its own, which counts instead. (Kafka counts from when the group became empty even where a later commit, such as
one by a tool that resets offsets, has followed: that commit would go with the others.)
"""

from collections.abc import Iterable, Mapping

from logstore.errors import InvalidArgument, InvalidGroupId, LogstoreError, OffsetMetadataTooLarge
from logstore.format.filename import TopicPartition
from logstore.format.offsets_topic import OffsetCommitValue
from logstore.groups.requests import OffsetAndMetadata
from logstore.settings import INT_MAX, LONG_MAX

Commits = dict[TopicPartition, OffsetCommitValue]

CONSUMER_PROTOCOL = "consumer"
# Of which it is known what they read: not while members of the classic protocol join.
_STATES_WITH_MEMBERS = ("Stable", "Assigning", "Reconciling")
_GROUP_ID_SIZE_MAX = 2**15 - 1


def check_group_id(group: object) -> str:
    """Raises InvalidGroupId."""
    if type(group) is not str:
        raise InvalidGroupId(group, f"it is a {type(group).__name__}, not a str")
    if not group:
        raise InvalidGroupId(group, "it is empty")
    size = _utf8_size(group)
    if size is None:
        raise InvalidGroupId(ascii(group), "it cannot be encoded as UTF-8")
    if size > _GROUP_ID_SIZE_MAX:
        raise InvalidGroupId(group, f"it has {size} bytes, over {_GROUP_ID_SIZE_MAX}")
    return group


def check_partitions(partitions: object) -> list[TopicPartition]:
    """Raises InvalidArgument for what names no partition; whether there are such is another question."""
    if isinstance(partitions, str | bytes) or not isinstance(partitions, Iterable):
        raise InvalidArgument("partitions", partitions, "they are pairs of a topic and a partition's number")
    return [_checked(partition) for partition in partitions]


def check_offsets(offsets: object) -> dict[TopicPartition, OffsetAndMetadata]:
    """A plain offset is one without metadata. Raises InvalidArgument for what has the wrong form; ``refusal`` tells of
    values."""
    if not isinstance(offsets, Mapping):
        raise InvalidArgument("offsets", offsets, "they are a mapping from (topic, partition) to an offset")
    for committed in offsets.values():
        if type(committed) is not int and not isinstance(committed, OffsetAndMetadata):
            raise InvalidArgument("offsets", committed, "an offset is committed as an int or OffsetAndMetadata")
    places = (OffsetAndMetadata(item) if type(item) is int else item for item in offsets.values())
    return dict(zip(check_partitions(offsets), places, strict=True))


def _checked(partition: object) -> TopicPartition:
    if isinstance(partition, tuple) and len(partition) == 2 and type(partition[0]) is str and type(partition[1]) is int:
        return TopicPartition(*partition)
    raise InvalidArgument("partition", partition, "it is a pair of a topic and a partition's number")


def refusal(
    committed: OffsetAndMetadata, metadata_max_bytes: int, *, is_any_number: bool = False
) -> LogstoreError | None:
    """Why this cannot be committed, of whatever partition; None where it can. ``is_any_number``: what is no offset of a
    record is taken too, as Kafka does: some clients mean an end of the log by -1 and -2."""
    offset, metadata, leader_epoch = committed
    if is_any_number and -LONG_MAX - 1 <= offset < 0:
        offset = 0
    if type(offset) is not int or not 0 <= offset <= LONG_MAX:
        return InvalidArgument("offset", offset, f"a committed offset is an integer from 0 to {LONG_MAX}")
    if type(leader_epoch) is not int or not -1 <= leader_epoch <= INT_MAX:
        return InvalidArgument("leader_epoch", leader_epoch, f"it is an integer from -1 to {INT_MAX}")
    size = _utf8_size(metadata) if type(metadata) is str else None
    if size is None:
        return InvalidArgument("metadata", metadata, "it is a str that can be encoded as UTF-8")
    if size > metadata_max_bytes:
        return OffsetMetadataTooLarge(size, metadata_max_bytes)
    return None


def _utf8_size(text: str) -> int | None:
    """None for text that UTF-8 has no bytes for."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def fetched(value: OffsetCommitValue) -> OffsetAndMetadata:
    """What was committed, as whoever asks for it is told."""
    return OffsetAndMetadata(value.offset, value.metadata, value.leader_epoch)


def expired(
    commits: Mapping[TopicPartition, OffsetCommitValue],
    now_ms: int,
    retention_ms: int,
    *,
    state: str,
    protocol_type: str,
    empty_since_ms: int,
    subscribed_topics: frozenset[str] | None,
) -> list[TopicPartition]:
    """The partitions whose offsets expire now, by the rules above.

    ``state`` is Kafka's name of the group's; ``protocol_type`` is empty for a group that never had members;
    ``empty_since_ms`` -1: not known; ``subscribed_topics`` None: not known. Times are Unix milliseconds.
    """
    kept_topics: frozenset[str] = frozenset()
    if not protocol_type:
        empty_since_ms = -1
    elif state in _STATES_WITH_MEMBERS and protocol_type == CONSUMER_PROTOCOL and subscribed_topics is not None:
        empty_since_ms, kept_topics = -1, subscribed_topics
    elif state != "Empty":
        return []

    def is_due(value: OffsetCommitValue) -> bool:
        if value.expire_timestamp >= 0:
            return now_ms >= value.expire_timestamp
        return now_ms - max(empty_since_ms, value.commit_timestamp) >= retention_ms

    return [key for key, value in commits.items() if key.topic not in kept_topics and is_due(value)]
