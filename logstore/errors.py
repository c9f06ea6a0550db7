"""Every error that logstore raises on purpose: one tree, each error carrying its facts.

An error's constructor arguments are its facts (also its ``args``, so that errors pickle); the message is made from
them and names the thing and, where there is one, the remedy. Nothing is imported here, so every layer may raise these.
"""

from typing import Any

__all__ = [
    "Closed",
    "CorruptBatch",
    "CorruptCheckpoint",
    "CorruptData",
    "CorruptIndex",
    "CorruptSnapshot",
    "DamagedLog",
    "DamagedTopic",
    "DataDirLocked",
    "DiskFull",
    "ForkedProcess",
    "InvalidArgument",
    "InvalidRecord",
    "InvalidSetting",
    "InvalidTimestamp",
    "InvalidTopicName",
    "LogstoreError",
    "NotADataDir",
    "OffsetGap",
    "OffsetOutOfRange",
    "OutOfOrderSequence",
    "PartitionOffline",
    "ProducerFenced",
    "ReadOnly",
    "RecordTooLarge",
    "StorageFailure",
    "TopicAlreadyExists",
    "UnknownPartition",
    "UnknownTopic",
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


class OffsetGap(LogstoreError):
    """Records were lost to damage here, and ``salvage`` moved the bytes aside. Go on at ``last_offset + 1``."""

    def __init__(self, log: str, first_offset: int, last_offset: int) -> None:
        super().__init__(log, first_offset, last_offset)
        self.log, self.first_offset, self.last_offset = log, first_offset, last_offset

    @property
    def message(self) -> str:
        return (
            f"{self.log}: offsets {self.first_offset} to {self.last_offset} were lost to damage and salvaged around; "
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
