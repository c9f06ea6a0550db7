"""Every error that logstore raises on purpose: one tree, each error carrying its facts.

An error's constructor arguments are its facts (also its ``args``, so that errors pickle); the message is made from
them and names the thing and, where there is one, the remedy. Nothing of ours is imported here, so every layer may
raise these.
"""

import queue
from typing import Any

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
    "StorageFailure",
    "SubscribedToTopic",
    "TimedOut",
    "TopicAlreadyExists",
    "UnknownGroup",
    "UnknownMember",
    "UnknownPartition",
    "UnknownTopic",
    "Unsupported",
    "UnsupportedMagic",
]


class LogstoreError(Exception):
    """Base of them all: ``except LogstoreError`` catches whatever logstore can foresee."""

    @property
    def message(self) -> str:
        return " ".join(str(fact) for fact in self.args)

    def __str__(self) -> str:
        return self.message


# ---------------------------------------------------------------------------------------------------------- wrong use


class InvalidTopicName(LogstoreError, ValueError):
    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(topic, reason)
        self.topic, self.reason = topic, reason

    @property
    def message(self) -> str:
        return (
            f"{self.topic[:300]!r} is not a topic name: {self.reason}; use 1 to 249 of the characters a-z A-Z 0-9 . _ -"
        )


class InvalidSetting(LogstoreError, ValueError):
    """An unknown setting, or a value that the setting cannot take."""

    def __init__(self, name: str, value: Any, reason: str) -> None:
        super().__init__(name, value, reason)
        self.name, self.value, self.reason = name, value, reason

    @property
    def message(self) -> str:
        return f"setting {self.name}={self.value!r}: {self.reason}"


class InvalidConfigFile(LogstoreError, ValueError):
    """A file of settings that cannot be taken: ``line`` from 1; 0 where it is not known."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path, self.line, self.reason = path, line, reason

    @property
    def message(self) -> str:
        return f"{self.path}, line {self.line}: {self.reason}" if self.line else f"{self.path}: {self.reason}"


class InvalidArgument(LogstoreError, ValueError):
    """An argument that no call of this kind can take."""

    def __init__(self, name: str, value: Any, reason: str) -> None:
        super().__init__(name, value, reason)
        self.name, self.value, self.reason = name, value, reason

    @property
    def message(self) -> str:
        return f"{self.name}={self.value!r}: {self.reason}"


class InvalidRecord(LogstoreError, ValueError):
    """A record, or a batch of them, that cannot be stored: a wrong type, or a value that the format cannot hold."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidTimestamp(InvalidRecord):
    """A record's timestamp is further from now than the topic allows."""


class RecordTooLarge(InvalidRecord):
    """``setting`` is the one that limits the size; None where it is what readers accept of a compressed batch."""

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
    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    @property
    def message(self) -> str:
        return f"there is no topic {self.topic!r}; create it first"


class UnknownPartition(LogstoreError, LookupError):
    def __init__(self, topic: str, partition: int, partition_count: int) -> None:
        super().__init__(topic, partition, partition_count)
        self.topic, self.partition, self.partition_count = topic, partition, partition_count

    @property
    def message(self) -> str:
        return f"topic {self.topic!r} has partitions 0 to {self.partition_count - 1}, not {self.partition}"


class TopicAlreadyExists(LogstoreError):
    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    @property
    def message(self) -> str:
        return f"topic {self.topic!r} already exists"


class OffsetOutOfRange(LogstoreError, LookupError):
    def __init__(self, log: str, offset: int, log_start_offset: int, log_end_offset: int) -> None:
        super().__init__(log, offset, log_start_offset, log_end_offset)
        self.log, self.offset = log, offset
        self.log_start_offset, self.log_end_offset = log_start_offset, log_end_offset

    @property
    def message(self) -> str:
        return (
            f"{self.log}: offset {self.offset} is out of range; "
            f"the log holds {self.log_start_offset} to {self.log_end_offset} (exclusive)"
        )


class Closed(LogstoreError):
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    @property
    def message(self) -> str:
        return f"{self.what} is closed; open it again"


class ReadOnly(LogstoreError):
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    @property
    def message(self) -> str:
        return f"{self.what} was opened read-only; open it without read_only to change it"


class ForkedProcess(LogstoreError):
    """A child made by fork() used a store that its parent owns."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    @property
    def message(self) -> str:
        return f"{self.what} belongs to the parent process; after fork() open the directory read_only, or start anew"


# ------------------------------------------------------------------------------------------------------ the directory


class NotADataDir(LogstoreError):
    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    @property
    def message(self) -> str:
        return f"{self.path} is not a logstore data directory: {self.reason}"


class DamagedTopic(NotADataDir):
    """A topic's file cannot be read: nothing is guessed about the topic, and what is its stays as it is."""

    @property
    def message(self) -> str:
        return f"{self.path}: the topic's settings cannot be read ({self.reason}); mend the file by hand"


class DataDirLocked(LogstoreError):
    def __init__(self, path: str, owner: str) -> None:
        super().__init__(path, owner)
        self.path, self.owner = path, owner

    @property
    def message(self) -> str:
        return f"{self.path} is open in another process ({self.owner}); close it there, or open it here read-only"


# ---------------------------------------------------------------------------------------------------------- bad bytes


class CorruptData(LogstoreError):
    """Bytes that are not what they must be. ``path`` is empty where only a buffer was looked at."""

    def __init__(self, reason: str, position: int = 0, path: str = "") -> None:
        super().__init__(reason, position, path)
        self.reason, self.position, self.path = reason, position, path

    def within(self, path: str, position: int = 0) -> "CorruptData":
        """The same error, placed: found in ``path``, in a piece that starts at ``position``."""
        return type(self)(self.reason, self.position + position, path)

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

    def __init__(self, reason: str, position: int, path: str, next_offset: int | None) -> None:
        LogstoreError.__init__(self, reason, position, path, next_offset)
        self.reason, self.position, self.path, self.next_offset = reason, position, path, next_offset

    def within(self, path: str, position: int = 0) -> "DamagedLog":
        return DamagedLog(self.reason, self.position + position, path, self.next_offset)

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

    def __init__(self, log: str, first_offset: int, last_offset: int) -> None:
        super().__init__(log, first_offset, last_offset)
        self.log, self.first_offset, self.last_offset = log, first_offset, last_offset

    @property
    def message(self) -> str:
        return (
            f"{self.log}: offsets {self.first_offset} to {self.last_offset} were lost to damage; "
            f"go on at {self.last_offset + 1}"
        )


# ---------------------------------------------------------------------------------------------------------- producers


class OutOfOrderSequence(LogstoreError):
    """An idempotent producer's batch does not follow the last one: a batch in between is missing."""

    def __init__(self, log: str, producer_id: int, sequence: int, expected: int) -> None:
        super().__init__(log, producer_id, sequence, expected)
        self.log, self.producer_id, self.sequence, self.expected = log, producer_id, sequence, expected

    @property
    def message(self) -> str:
        return f"{self.log}: producer {self.producer_id} sent sequence {self.sequence}, but {self.expected} comes next"


class ProducerFenced(LogstoreError):
    """A newer instance of this producer has taken over."""

    def __init__(self, log: str, producer_id: int, epoch: int, current_epoch: int) -> None:
        super().__init__(log, producer_id, epoch, current_epoch)
        self.log, self.producer_id, self.epoch, self.current_epoch = log, producer_id, epoch, current_epoch

    @property
    def message(self) -> str:
        return f"{self.log}: producer {self.producer_id} epoch {self.epoch} is fenced by epoch {self.current_epoch}"


# ---------------------------------------------------------------------------------------------------------- the disk


class StorageFailure(LogstoreError):
    """The operating system refused a file operation."""

    def __init__(self, path: str, operation: str, errno: int, reason: str) -> None:
        super().__init__(path, operation, errno, reason)
        self.path, self.operation, self.errno, self.reason = path, operation, errno, reason

    @property
    def message(self) -> str:
        return f"{self.path}: cannot {self.operation}: {self.reason}"


class DiskFull(StorageFailure):
    """No space, no inode or no quota is left. What was acknowledged is safe; writes work again once there is space."""

    @property
    def message(self) -> str:
        return f"{super().message}; free some space, then write again"


class PartitionOffline(LogstoreError):
    """The partition takes no writes since a failure that leaves its unsynced data in doubt. Reads go on."""

    def __init__(self, log: str, cause: str) -> None:
        super().__init__(log, cause)
        self.log, self.cause = log, cause

    @property
    def message(self) -> str:
        return f"{self.log} takes no writes since: {self.cause}; close the store and open it again to recover"


# ------------------------------------------------------------------------------------------------------------- groups


class InvalidGroupId(LogstoreError, ValueError):
    def __init__(self, group: object, reason: str) -> None:
        super().__init__(group, reason)
        self.group, self.reason = group, reason

    @property
    def message(self) -> str:
        return f"{str(self.group)[:300]!r} is not a group id: {self.reason}"


class UnknownGroup(LogstoreError, LookupError):
    def __init__(self, group: str) -> None:
        super().__init__(group)
        self.group = group

    @property
    def message(self) -> str:
        return (
            f"there is no group {self.group!r}: nothing has joined it or committed for it, or its offsets have expired"
        )


class GroupNotEmpty(LogstoreError):
    def __init__(self, group: str, member_count: int) -> None:
        super().__init__(group, member_count)
        self.group, self.member_count = group, member_count

    @property
    def message(self) -> str:
        return f"group {self.group!r} has {self.member_count} members: close them, then do this"


class SubscribedToTopic(LogstoreError):
    """Offsets of a topic that members of the group are subscribed to cannot be deleted."""

    def __init__(self, group: str, topic: str) -> None:
        super().__init__(group, topic)
        self.group, self.topic = group, topic

    @property
    def message(self) -> str:
        return f"group {self.group!r} is subscribed to topic {self.topic!r}: close its members, then do this"


class UnknownMember(LogstoreError, LookupError):
    """The member never was in the group, has left, or was taken out because its session had expired."""

    def __init__(self, group: str, member_id: str) -> None:
        super().__init__(group, member_id)
        self.group, self.member_id = group, member_id

    @property
    def message(self) -> str:
        return f"group {self.group!r} has no member {self.member_id!r} (any more); join it again"


class IllegalGeneration(LogstoreError):
    """A member speaks of a generation of the group that is over: its partitions may be another's by now."""

    def __init__(self, group: str, generation: int, current_generation: int) -> None:
        super().__init__(group, generation, current_generation)
        self.group, self.generation, self.current_generation = group, generation, current_generation

    @property
    def message(self) -> str:
        return f"group {self.group!r} is in generation {self.current_generation}, not {self.generation}; join it again"


class RebalanceInProgress(LogstoreError):
    def __init__(self, group: str) -> None:
        super().__init__(group)
        self.group = group

    @property
    def message(self) -> str:
        return f"group {self.group!r} is handing out its partitions anew; join again, then go on"


class MemberIdRequired(LogstoreError):
    """A new member is told its id, and joins again with it: one that went away meanwhile leaves nothing behind."""

    def __init__(self, group: str, member_id: str) -> None:
        super().__init__(group, member_id)
        self.group, self.member_id = group, member_id

    @property
    def message(self) -> str:
        return f"group {self.group!r}: join again as member {self.member_id!r}"


class FencedInstance(LogstoreError):
    """Another member has come with the same group.instance.id."""

    def __init__(self, group: str, instance_id: str, member_id: str) -> None:
        super().__init__(group, instance_id, member_id)
        self.group, self.instance_id, self.member_id = group, instance_id, member_id

    @property
    def message(self) -> str:
        return (
            f"group {self.group!r}: member {self.member_id!r} is not (any more) the instance {self.instance_id!r}; "
            "give each member a group.instance.id of its own"
        )


class InconsistentProtocol(LogstoreError):
    """A member supports no assignment strategy that all others of its group support."""

    def __init__(self, group: str, protocols: str) -> None:
        super().__init__(group, protocols)
        self.group, self.protocols = group, protocols

    @property
    def message(self) -> str:
        return f"group {self.group!r}: its members have nothing in common with {self.protocols}; agree on a strategy"


class InvalidSessionTimeout(LogstoreError, ValueError):
    def __init__(self, group: str, session_timeout_ms: int, low_ms: int, high_ms: int) -> None:
        super().__init__(group, session_timeout_ms, low_ms, high_ms)
        self.group, self.session_timeout_ms, self.low_ms, self.high_ms = group, session_timeout_ms, low_ms, high_ms

    @property
    def message(self) -> str:
        return (
            f"group {self.group!r}: session.timeout.ms={self.session_timeout_ms} must be from {self.low_ms} "
            f"to {self.high_ms} (group.min.session.timeout.ms, group.max.session.timeout.ms)"
        )


class GroupFull(LogstoreError):
    def __init__(self, group: str, limit: int) -> None:
        super().__init__(group, limit)
        self.group, self.limit = group, limit

    @property
    def message(self) -> str:
        return f"group {self.group!r} has its {self.limit} members (setting group.max.size)"


class OffsetMetadataTooLarge(LogstoreError, ValueError):
    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size, self.limit = size, limit

    @property
    def message(self) -> str:
        return (
            f"the metadata of a committed offset has {self.size} bytes, over {self.limit} (offset.metadata.max.bytes)"
        )


# ------------------------------------------------------------------------------------------------------------ clients


class TimedOut(LogstoreError, TimeoutError):
    """``what`` did not happen in time."""

    def __init__(self, what: str, timeout_s: float, remedy: str = "") -> None:
        super().__init__(what, timeout_s, remedy)
        self.what, self.timeout_s, self.remedy = what, timeout_s, remedy

    @property
    def message(self) -> str:
        return f"{self.what}: not within {self.timeout_s:g} s" + (f"; {self.remedy}" if self.remedy else "")


class BufferFull(TimedOut):
    """A producer's memory was full of records that are not stored yet, and stayed so: who sends is faster."""


class SerializationFailed(LogstoreError, ValueError):
    """A serializer or deserializer raised, or gave something else than bytes: ``__cause__`` is what it raised."""

    def __init__(self, what: str, topic: str, reason: str, partition: int = -1, offset: int = -1) -> None:
        super().__init__(what, topic, reason, partition, offset)
        self.what, self.topic, self.reason, self.partition, self.offset = what, topic, reason, partition, offset

    @property
    def message(self) -> str:
        place = self.topic if self.offset < 0 else f"{self.topic}-{self.partition} at offset {self.offset}"
        return f"{place}: the {self.what} failed: {self.reason}"


class ConcurrentUse(LogstoreError, RuntimeError):
    """What is for one thread at a time was used by two."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    @property
    def message(self) -> str:
        return f"{self.what} is in use by another thread: give each thread its own"


class NotAssigned(LogstoreError, LookupError):
    """A partition that this consumer does not own (any more)."""

    def __init__(self, topic: str, partition: int, what: str) -> None:
        super().__init__(topic, partition, what)
        self.topic, self.partition, self.what = topic, partition, what

    @property
    def message(self) -> str:
        return f"cannot {self.what} {self.topic}-{self.partition}: it is not assigned to this consumer"


class NoCommittedOffset(LogstoreError, LookupError):
    """With auto.offset.reset=none: the group has committed no offset of the partition, or one that is gone."""

    def __init__(self, topic: str, partition: int, group: str | None) -> None:
        super().__init__(topic, partition, group)
        self.topic, self.partition, self.group = topic, partition, group

    @property
    def message(self) -> str:
        return (
            f"group {self.group!r} has no valid offset for {self.topic}-{self.partition}; seek to one, or set "
            "auto.offset.reset to earliest or latest"
        )


class PollIntervalExceeded(LogstoreError):
    """The consumer did not poll for max.poll.interval.ms, and its partitions were given to others."""

    def __init__(self, group: str, max_poll_interval_ms: int) -> None:
        super().__init__(group, max_poll_interval_ms)
        self.group, self.max_poll_interval_ms = group, max_poll_interval_ms

    @property
    def message(self) -> str:
        return (
            f"group {self.group!r}: no poll for {self.max_poll_interval_ms} ms, so its partitions went to others; poll "
            "more often, take fewer records at a time (max.poll.records), or raise max.poll.interval.ms"
        )


class Empty(LogstoreError, queue.Empty):
    """There was no message to get in the time given."""

    def __init__(self, queue_name: str) -> None:
        super().__init__(queue_name)
        self.queue_name = queue_name

    @property
    def message(self) -> str:
        return f"queue {self.queue_name!r} has no message ready"


class Full(LogstoreError, queue.Full):
    """The queue held its largest number of messages for the time given."""

    def __init__(self, queue_name: str, max_size: int) -> None:
        super().__init__(queue_name, max_size)
        self.queue_name, self.max_size = queue_name, max_size

    @property
    def message(self) -> str:
        return f"queue {self.queue_name!r} holds its {self.max_size} messages"


class NotInFlight(LogstoreError):
    """A message is not (any more) in the hands of who speaks of it: settled before, or its visibility timeout is over
    and it may be another's."""

    def __init__(self, queue_name: str, offset: int, reason: str) -> None:
        super().__init__(queue_name, offset, reason)
        self.queue_name, self.offset, self.reason = queue_name, offset, reason

    @property
    def message(self) -> str:
        return f"queue {self.queue_name!r}: message {self.offset} is not in your hands: {self.reason}"


class MissingExtra(LogstoreError, ImportError):
    def __init__(self, extra: str, package: str) -> None:
        super().__init__(extra, package)
        self.extra, self.package = extra, package

    @property
    def message(self) -> str:
        return f"this needs {self.package}: pip install 'logstore[{self.extra}]'"


class Unsupported(LogstoreError, NotImplementedError):
    """What a backend cannot do honestly: ``remedy`` says what to do there instead."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy

    @property
    def message(self) -> str:
        return f"{self.what} is not supported; {self.remedy}"


class ClusterFailure(LogstoreError):
    """A Kafka cluster, or the way to it, refused: ``code`` is Kafka's name of the error."""

    def __init__(self, what: str, code: str, reason: str, is_retriable: bool = False) -> None:
        super().__init__(what, code, reason, is_retriable)
        self.what, self.code, self.reason, self.is_retriable = what, code, reason, is_retriable

    @property
    def message(self) -> str:
        return f"{self.what}: {self.code}: {self.reason}"


class CannotListen(LogstoreError):
    """A server's address cannot be had."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address, self.reason = address, reason

    @property
    def message(self) -> str:
        return f"cannot listen on {self.address}: {self.reason}"


class CopyRefused(LogstoreError):
    """``place``, a topic or a partition, cannot be copied without doubling, losing or changing records."""

    def __init__(self, place: str, reason: str, remedy: str) -> None:
        super().__init__(place, reason, remedy)
        self.place, self.reason, self.remedy = place, reason, remedy

    @property
    def message(self) -> str:
        return f"{self.place}: {self.reason}; {self.remedy}"
