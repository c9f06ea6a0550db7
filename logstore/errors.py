"""Every error that logstore raises on purpose: one tree, each error carrying its facts.

A class declares its facts as a dataclass does its fields: they are its constructor's arguments, its attributes, and its
``args``, so that errors pickle. The message is made from them and names the thing and, where there is one, the remedy.
Nothing of ours is imported here, so every layer may raise these.
"""

import queue
from typing import Any, ClassVar, Self, dataclass_transform

__all__ = [
    "BufferFull",
    "CannotListen",
    "Closed",
    "ClusterFailure",
    "ConcurrentUse",
    "CopyRefused",
    "CorruptBatch",
    "CorruptCheckpoint",
    "CorruptData",
    "CorruptIndex",
    "CorruptSnapshot",
    "DamagedLog",
    "DamagedTopic",
    "DataDirLocked",
    "DiskFull",
    "Empty",
    "FencedInstance",
    "FencedMemberEpoch",
    "ForkedProcess",
    "Full",
    "GroupFull",
    "GroupNotEmpty",
    "IllegalGeneration",
    "InconsistentProtocol",
    "InvalidArgument",
    "InvalidConfigFile",
    "InvalidGroupId",
    "InvalidRecord",
    "InvalidSessionTimeout",
    "InvalidSetting",
    "InvalidTimestamp",
    "InvalidTopicName",
    "InvalidTopicPattern",
    "LogstoreError",
    "MalformedMessage",
    "MemberIdRequired",
    "MissingExtra",
    "NoCommittedOffset",
    "NotADataDir",
    "NotAssigned",
    "NotInFlight",
    "OffsetGap",
    "OffsetMetadataTooLarge",
    "OffsetOutOfRange",
    "OutOfOrderSequence",
    "PartitionOffline",
    "PollIntervalExceeded",
    "ProducerFenced",
    "ReadOnly",
    "RebalanceInProgress",
    "RecordTooLarge",
    "SerializationFailed",
    "StaleMemberEpoch",
    "StorageFailure",
    "SubscribedToTopic",
    "TimedOut",
    "TopicAlreadyExists",
    "UnknownGroup",
    "UnknownMember",
    "UnknownPartition",
    "UnknownTopic",
    "UnreleasedInstance",
    "Unsupported",
    "UnsupportedAssignor",
    "UnsupportedMagic",
]


@dataclass_transform(eq_default=False)
class LogstoreError(Exception):
    """Base of them all: ``except LogstoreError`` catches whatever logstore can foresee."""

    text: ClassVar[str] = ""
    """The message, with the facts' names in braces; where that is too little, ``message`` is overridden."""
    fact_names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        if "fact_names" not in vars(cls):
            cls.fact_names = tuple(dict.fromkeys([*cls.fact_names, *cls.__annotations__]))
        cls._defaults = {name: getattr(cls, name) for name in cls.fact_names if hasattr(cls, name)}

    def __init__(self, *values: Any, **named: Any) -> None:
        names = self.fact_names
        facts = self._defaults | dict(zip(names, values)) | named
        if len(values) > len(names) or facts.keys() != set(names):
            raise TypeError(f"the facts of {type(self).__name__} are {', '.join(names)}")
        super().__init__(*[facts[name] for name in names])
        vars(self).update(facts)

    @property
    def message(self) -> str:
        return self.text.format_map(vars(self))

    def __str__(self) -> str:
        return self.message


# ---------------------------------------------------------------------------------------------------------- wrong use


class InvalidTopicName(LogstoreError, ValueError):
    topic: str
    reason: str
    text = "{topic!r:.300} is not a topic name: {reason}; use 1 to 249 of the characters a-z A-Z 0-9 . _ -"


class InvalidSetting(LogstoreError, ValueError):
    """An unknown setting, or a value that the setting cannot take."""

    name: str
    value: Any
    reason: str
    text = "setting {name}={value!r}: {reason}"


class InvalidConfigFile(LogstoreError, ValueError):
    """A file of settings that cannot be taken: ``line`` from 1; 0 where it is not known."""

    path: str
    line: int
    reason: str

    @property
    def message(self) -> str:
        return f"{self.path}, line {self.line}: {self.reason}" if self.line else f"{self.path}: {self.reason}"


class InvalidArgument(LogstoreError, ValueError):
    """An argument that no call of this kind can take."""

    name: str
    value: Any
    reason: str
    text = "{name}={value!r}: {reason}"


class InvalidRecord(LogstoreError, ValueError):
    """A record, or a batch of them, that cannot be stored: a wrong type, or a value that the format cannot hold.

    ``records``: which of the batch's records are to blame, from 0 on, each with the reason; empty where that is not
    known, or it is all of them.
    """

    reason: str
    records: tuple[tuple[int, str], ...] = ()
    text = "{reason}"


class InvalidTimestamp(InvalidRecord):
    """A record's timestamp is further from now than the topic allows."""


class RecordTooLarge(InvalidRecord):
    """``setting`` is the one that limits the size; None where it is what readers accept of a compressed batch."""

    fact_names = ("size", "limit", "setting")  # and not those of any invalid record

    def __init__(self, size: int, limit: int, setting: str | None = "max.message.bytes") -> None:
        LogstoreError.__init__(self, size, limit, setting)
        self.size, self.limit, self.setting = size, limit, setting

    @property
    def message(self) -> str:
        if self.setting is None:
            return (
                f"{self.size} bytes of records are over the limit of {self.limit} for a compressed batch; "
                "send fewer at a time"
            )
        return (
            f"a batch of {self.size} bytes is over the limit of {self.limit} (setting {self.setting}); "
            "send smaller records or raise the setting"
        )


class UnknownTopic(LogstoreError, LookupError):
    topic: str
    text = "there is no topic {topic!r}; create it first"


class UnknownPartition(LogstoreError, LookupError):
    topic: str
    partition: int
    partition_count: int

    @property
    def message(self) -> str:
        return f"topic {self.topic!r} has partitions 0 to {self.partition_count - 1}, not {self.partition}"


class TopicAlreadyExists(LogstoreError):
    topic: str
    text = "topic {topic!r} already exists"


class OffsetOutOfRange(LogstoreError, LookupError):
    log: str
    offset: int
    log_start_offset: int
    log_end_offset: int
    text = "{log}: offset {offset} is out of range; the log holds {log_start_offset} to {log_end_offset} (exclusive)"


class Closed(LogstoreError):
    what: str
    text = "{what} is closed; open it again"


class ReadOnly(LogstoreError):
    what: str
    text = "{what} was opened read-only; open it without read_only to change it"


class ForkedProcess(LogstoreError):
    """A child made by fork() used a store that its parent owns."""

    what: str
    text = "{what} belongs to the parent process; after fork() open the directory read_only, or start anew"


# ------------------------------------------------------------------------------------------------------ the directory


class NotADataDir(LogstoreError):
    path: str
    reason: str
    text = "{path} is not a logstore data directory: {reason}"


class DamagedTopic(NotADataDir):
    """A topic's file cannot be read: nothing is guessed about the topic, and what is its stays as it is."""

    text = "{path}: the topic's settings cannot be read ({reason}); mend the file by hand"


class DataDirLocked(LogstoreError):
    path: str
    owner: str
    text = "{path} is open in another process ({owner}); close it there, or open it here read-only"


# ---------------------------------------------------------------------------------------------------------- bad bytes


class CorruptData(LogstoreError):
    """Bytes that are not what they must be. ``path`` is empty where only a buffer was looked at."""

    reason: str
    position: int = 0
    path: str = ""

    def within(self, path: str, position: int = 0) -> Self:
        """The same error, placed: found in ``path``, in a piece that starts at ``position``."""
        return type(self)(self.reason, self.position + position, path, *self.args[3:])

    @property
    def message(self) -> str:
        where = f"{self.path}: position {self.position}" if self.path else f"position {self.position}"
        return f"{where}: {self.reason}"


class CorruptBatch(CorruptData):
    """A record batch, or a record in it, that cannot be right."""


class UnsupportedMagic(CorruptBatch):
    """A message of format v0 or v1, which Kafka wrote before 0.11: recognised, not read."""


class DamagedLog(CorruptBatch):
    """A read met bytes of a log that are no good batch. ``next_offset`` is the first one that can be read behind them,
    None where nothing follows: a reader that accepts the loss goes on there."""

    next_offset: int | None = None

    @property
    def message(self) -> str:
        resume = "nothing" if self.next_offset is None else f"offset {self.next_offset}"
        return f"{super().message}; {resume} can be read behind it; see `logstore verify` and `logstore salvage`"


class CorruptIndex(CorruptData):
    """An offset or time index that does not fit its log. Indexes are rebuilt from the log."""


class CorruptCheckpoint(CorruptData):
    """A checkpoint, properties or metadata file that cannot be read."""


class CorruptSnapshot(CorruptData):
    """A producer-state snapshot that cannot be read. It is rebuilt from the log."""


class MalformedMessage(CorruptData):
    """Bytes from the network that are no message of Kafka's protocol. ``position`` counts from the frame's start."""


class OffsetGap(LogstoreError):
    """Records were lost here: ``salvage`` moved bytes aside, or files are missing. Go on at ``last_offset + 1``."""

    log: str
    first_offset: int
    last_offset: int

    @property
    def message(self) -> str:
        return (
            f"{self.log}: offsets {self.first_offset} to {self.last_offset} were lost to damage; "
            f"go on at {self.last_offset + 1}"
        )


# ---------------------------------------------------------------------------------------------------------- producers


class OutOfOrderSequence(LogstoreError):
    """An idempotent producer's batch does not follow the last one: a batch in between is missing."""

    log: str
    producer_id: int
    sequence: int
    expected: int
    text = "{log}: producer {producer_id} sent sequence {sequence}, but {expected} comes next"


class ProducerFenced(LogstoreError):
    """A newer instance of this producer has taken over."""

    log: str
    producer_id: int
    epoch: int
    current_epoch: int
    text = "{log}: producer {producer_id} epoch {epoch} is fenced by epoch {current_epoch}"


# ---------------------------------------------------------------------------------------------------------- the disk


class StorageFailure(LogstoreError):
    """The operating system refused a file operation."""

    path: str
    operation: str
    errno: int
    reason: str
    text = "{path}: cannot {operation}: {reason}"


class DiskFull(StorageFailure):
    """No space, no inode or no quota is left. What was acknowledged is safe; writes work again once there is space."""

    text = StorageFailure.text + "; free some space, then write again"


class PartitionOffline(LogstoreError):
    """The partition takes no writes since a failure that leaves its unsynced data in doubt. Reads go on."""

    log: str
    cause: str
    text = "{log} takes no writes since: {cause}; close the store and open it again to recover"


# ------------------------------------------------------------------------------------------------------------- groups


class InvalidGroupId(LogstoreError, ValueError):
    group: object
    reason: str
    text = "{group!r:.300} is not a group id: {reason}"


class UnknownGroup(LogstoreError, LookupError):
    group: str
    text = "there is no group {group!r}: nothing has joined it or committed for it, or its offsets have expired"


class GroupNotEmpty(LogstoreError):
    group: str
    member_count: int
    text = "group {group!r} has {member_count} members: close them, then do this"


class SubscribedToTopic(LogstoreError):
    """Offsets of a topic that members of the group are subscribed to cannot be deleted."""

    group: str
    topic: str
    text = "group {group!r} is subscribed to topic {topic!r}: close its members, then do this"


class UnknownMember(LogstoreError, LookupError):
    """The member never was in the group, has left, or was taken out because its session had expired."""

    group: str
    member_id: str
    text = "group {group!r} has no member {member_id!r} (any more); join it again"


class IllegalGeneration(LogstoreError):
    """A member speaks of a generation of the group that is over: its partitions may be another's by now."""

    group: str
    generation: int
    current_generation: int
    text = "group {group!r} is in generation {current_generation}, not {generation}; join it again"


class RebalanceInProgress(LogstoreError):
    group: str
    text = "group {group!r} is handing out its partitions anew; join again, then go on"


class MemberIdRequired(LogstoreError):
    """A new member is told its id, and joins again with it: one that went away meanwhile leaves nothing behind."""

    group: str
    member_id: str
    text = "group {group!r}: join again as member {member_id!r}"


class FencedInstance(LogstoreError):
    """Another member has come with the same group.instance.id."""

    group: str
    instance_id: str
    member_id: str
    text = (
        "group {group!r}: member {member_id!r} is not (any more) the instance {instance_id!r}; "
        "give each member a group.instance.id of its own"
    )


class InconsistentProtocol(LogstoreError):
    """A member supports no assignment strategy that all others of its group support."""

    group: str
    protocols: str
    text = "group {group!r}: its members have nothing in common with {protocols}; agree on a strategy"


class InvalidSessionTimeout(LogstoreError, ValueError):
    group: str
    session_timeout_ms: int
    low_ms: int
    high_ms: int
    text = (
        "group {group!r}: session.timeout.ms={session_timeout_ms} must be from {low_ms} "
        "to {high_ms} (group.min.session.timeout.ms, group.max.session.timeout.ms)"
    )


class GroupFull(LogstoreError):
    group: str
    limit: int
    text = "group {group!r} has its {limit} members (setting group.max.size)"


class FencedMemberEpoch(LogstoreError):
    """A member of a consumer group speaks of an epoch that is not its own: it gives everything up, and joins again."""

    group: str
    member_id: str
    epoch: int
    current_epoch: int
    text = (
        "group {group!r}: member {member_id!r} is in epoch {current_epoch}, not {epoch}; "
        "give up all partitions and join again"
    )


class StaleMemberEpoch(FencedMemberEpoch):
    """A member of a consumer group commits or fetches offsets in an epoch that is over."""

    text = (
        "group {group!r}: member {member_id!r} is in epoch {current_epoch}, not {epoch}; "
        "heartbeat, and try again in the new one"
    )


class UnreleasedInstance(LogstoreError):
    """A static member's instance is still another member's, which has not left."""

    group: str
    instance_id: str
    member_id: str
    text = "group {group!r}: instance {instance_id!r} is member {member_id!r}, which has not left"


class UnsupportedAssignor(LogstoreError, ValueError):
    group: str
    assignor: str
    known: str
    text = "group {group!r}: there is no assignor {assignor!r} here; there are {known}"


class InvalidTopicPattern(LogstoreError, ValueError):
    """A regular expression for topics' names that is none, or uses what cannot be matched in linear time."""

    pattern: str
    reason: str
    text = "{pattern!r:.300} cannot be used to find topics: {reason}"


class OffsetMetadataTooLarge(LogstoreError, ValueError):
    size: int
    limit: int
    text = "the metadata of a committed offset has {size} bytes, over {limit} (offset.metadata.max.bytes)"


# ------------------------------------------------------------------------------------------------------------ clients


class TimedOut(LogstoreError, TimeoutError):
    """``what`` did not happen in time."""

    what: str
    timeout_s: float
    remedy: str = ""

    @property
    def message(self) -> str:
        return f"{self.what}: not within {self.timeout_s:g} s" + (f"; {self.remedy}" if self.remedy else "")


class BufferFull(TimedOut):
    """A producer's memory was full of records that are not stored yet, and stayed so: who sends is faster."""


class SerializationFailed(LogstoreError, ValueError):
    """A serializer or deserializer raised, or gave something else than bytes: ``__cause__`` is what it raised."""

    what: str
    topic: str
    reason: str
    partition: int = -1
    offset: int = -1

    @property
    def message(self) -> str:
        place = self.topic if self.offset < 0 else f"{self.topic}-{self.partition} at offset {self.offset}"
        return f"{place}: the {self.what} failed: {self.reason}"


class ConcurrentUse(LogstoreError, RuntimeError):
    """What is for one thread at a time was used by two."""

    what: str
    text = "{what} is in use by another thread: give each thread its own"


class NotAssigned(LogstoreError, LookupError):
    """A partition that this consumer does not own (any more)."""

    topic: str
    partition: int
    what: str
    text = "cannot {what} {topic}-{partition}: it is not assigned to this consumer"


class NoCommittedOffset(LogstoreError, LookupError):
    """With auto.offset.reset=none: the group has committed no offset of the partition, or one that is gone."""

    topic: str
    partition: int
    group: str | None
    text = (
        "group {group!r} has no valid offset for {topic}-{partition}; seek to one, or set "
        "auto.offset.reset to earliest or latest"
    )


class PollIntervalExceeded(LogstoreError):
    """The consumer did not poll for max.poll.interval.ms, and its partitions were given to others."""

    group: str
    max_poll_interval_ms: int
    text = (
        "group {group!r}: no poll for {max_poll_interval_ms} ms, so its partitions went to others; poll "
        "more often, take fewer records at a time (max.poll.records), or raise max.poll.interval.ms"
    )


class Empty(LogstoreError, queue.Empty):
    """There was no message to get in the time given."""

    queue_name: str
    text = "queue {queue_name!r} has no message ready"


class Full(LogstoreError, queue.Full):
    """The queue held its largest number of messages for the time given."""

    queue_name: str
    max_size: int
    text = "queue {queue_name!r} holds its {max_size} messages"


class NotInFlight(LogstoreError):
    """A message is not (any more) in the hands of who speaks of it: settled before, or its visibility timeout is over
    and it may be another's."""

    queue_name: str
    offset: int
    reason: str
    text = "queue {queue_name!r}: message {offset} is not in your hands: {reason}"


class MissingExtra(LogstoreError, ImportError):
    extra: str
    package: str
    text = "this needs {package}: pip install 'logstore[{extra}]'"


class Unsupported(LogstoreError, NotImplementedError):
    """What a backend cannot do honestly: ``remedy`` says what to do there instead."""

    what: str
    remedy: str
    text = "{what} is not supported; {remedy}"


class ClusterFailure(LogstoreError):
    """A Kafka cluster, or the way to it, refused: ``code`` is Kafka's name of the error."""

    what: str
    code: str
    reason: str
    is_retriable: bool = False
    text = "{what}: {code}: {reason}"


class CannotListen(LogstoreError):
    """A server's address cannot be had."""

    address: str
    reason: str
    text = "cannot listen on {address}: {reason}"


class CopyRefused(LogstoreError):
    """``place``, a topic or a partition, cannot be copied without doubling, losing or changing records."""

    place: str
    reason: str
    remedy: str
    text = "{place}: {reason}; {remedy}"
