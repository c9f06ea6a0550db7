"""Settings: Kafka's names, one row each: name, type, default, what it does.

A setting is one line of ``TopicConfig`` or ``StoreConfig``; whatever else lists, parses, checks or prints settings
reads these rows. The field ``retention_ms`` is the setting ``retention.ms``. A config is frozen and has been checked
when it exists: the constructor is the only validator, and reading a setting is a plain attribute access.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, NamedTuple, Self

from logstore.errors import InvalidSetting

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1

Value = bool | int | float | str | tuple[str, ...]


class Setting(NamedTuple):
    """One row. ``low`` and ``high`` (inclusive) bound numbers; ``choices``, unless empty, are the words allowed."""

    name: str
    type: str
    default: Value
    doc: str
    low: float
    high: float
    choices: tuple[str, ...]

    @property
    def field(self) -> str:
        """The attribute's name: ``retention_ms`` for ``retention.ms``."""
        return self.name.replace(".", "_")

    @property
    def accepts(self) -> str:
        """What a value must be, in words."""
        words = ", ".join(self.choices)
        match self.type:
            case "int":
                return f"an integer from {self.low} to {self.high}"
            case "float":
                return f"a number from {self.low} to {self.high}"
            case "bool":
                return "true or false"
            case "list":
                return f"a comma-separated list of {words or 'names'}"
            case _:
                return f"one of {words}"

    def parse(self, value: object) -> Value:
        """``value``, text or already typed, as this setting's type; raises InvalidSetting."""
        parsed = _PARSERS[self.type](value)
        if parsed is None or not self._allows(parsed):
            raise InvalidSetting(self.name, value, f"must be {self.accepts}")
        return parsed

    def _allows(self, value: Value) -> bool:
        if isinstance(value, int | float):
            return self.low <= value <= self.high
        words = (value,) if isinstance(value, str) else value
        return not self.choices or all(word in self.choices for word in words)


def as_text(value: Value) -> str:
    """``value`` as Kafka writes it; ``Setting.parse`` reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _parse_int(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,20}", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _parse_float(value: object) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{0,20}\.?[0-9]{1,20}([eE][+-]?[0-9]{1,3})?", value.strip()):
        return float(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _parse_bool(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _parse_str(value: object) -> str | None:
    return value.strip() if isinstance(value, str) else None


def _parse_list(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = [word.strip() for word in value.split(",")] if value.strip() else []
    if not isinstance(value, list | tuple):
        return None
    # A word that the text form cannot carry would come back from the disk as another one.
    if not all(isinstance(word, str) and word and word == word.strip() and "," not in word for word in value):
        return None
    return tuple(dict.fromkeys(value))


_PARSERS: dict[str, Callable[[object], Value | None]] = {
    "int": _parse_int,
    "float": _parse_float,
    "bool": _parse_bool,
    "string": _parse_str,
    "list": _parse_list,
}
_TYPE_NAMES: dict[type, str] = {int: "int", float: "float", bool: "bool", str: "string", tuple: "list"}


def _row(default: Value, doc: str, *, low: float = 0, high: float = LONG_MAX, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field that carries the rest of its row."""
    kind = _TYPE_NAMES[type(default)]
    row = {"type": kind, "default": default, "doc": doc, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=row)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """What ``TopicConfig`` and ``StoreConfig`` share: reading, changing and listing by name."""

    def __post_init__(self) -> None:
        for row in self.rows():
            object.__setattr__(self, row.field, row.parse(getattr(self, row.field)))
        self._check()

    def _check(self) -> None:
        """Raise InvalidSetting for settings that do not go together."""

    def __repr__(self) -> str:
        changed = ", ".join(f"{name.replace('.', '_')}={value!r}" for name, value in self.overrides().items())
        return f"{type(self).__name__}({changed})"

    @classmethod
    def rows(cls) -> list[Setting]:
        """Every setting in the order of its declaration, for help texts and documentation."""
        return list(_rows(cls).values())

    @classmethod
    def parse(cls, properties: Mapping[str, object]) -> Self:
        """A config from settings by name; see ``replace``."""
        return cls().replace(properties)

    def replace(self, changes: Mapping[str, object]) -> Self:
        """This config with some settings changed.

        Names are Kafka's (``retention.ms``) or Python's (``retention_ms``); values are text or typed; None stands for
        the default. Raises InvalidSetting, which says what would have been right.
        """
        values = {row.field: getattr(self, row.field) for row in self.rows()}
        changed: set[str] = set()
        for name, value in changes.items():
            row = self._find(name, value)
            if row.field in changed:
                raise InvalidSetting(name, value, f"is given twice, as {row.name} and as {row.field}; drop one")
            changed.add(row.field)
            values[row.field] = row.default if value is None else value
        return type(self)(**values)

    def items(self) -> list[tuple[str, str]]:
        """Every setting and its value, as Kafka writes both."""
        return [(row.name, as_text(getattr(self, row.field))) for row in self.rows()]

    def overrides(self) -> dict[str, str]:
        """Only what differs from the defaults, as Kafka writes it: what is stored. ``parse`` reads it back."""
        return {row.name: as_text(value) for row in self.rows() if (value := getattr(self, row.field)) != row.default}

    @classmethod
    def _find(cls, name: str, value: object) -> Setting:
        rows = _rows(cls)
        kafka_name = name if "." in name else name.replace("_", ".")
        if kafka_name not in rows:
            closest = get_close_matches(kafka_name[:100], rows, n=1)
            hint = f"did you mean {closest[0]}?" if closest else f"the settings are {', '.join(rows)}"
            raise InvalidSetting(name, value, f"there is no such setting; {hint}")
        return rows[kafka_name]


_ROWS: dict[type[Settings], dict[str, Setting]] = {}


def _rows(config: type[Settings]) -> dict[str, Setting]:
    """The rows of ``config`` by name, collected from its fields once."""
    if config not in _ROWS:
        rows = (Setting(name=f.name.replace("_", "."), **f.metadata) for f in fields(config))
        _ROWS[config] = {row.name: row for row in rows}
    return _ROWS[config]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TopicConfig(Settings):
    """The settings of one topic. Names and, unless a doc says otherwise, defaults are Kafka's."""

    # ---- segments
    segment_bytes: int = _row(1 << 30, "a segment is rolled before it grows past this size", low=14, high=INT_MAX)
    segment_ms: int = _row(604_800_000, "a segment is rolled once it is this old, with or without new records", low=1)
    segment_index_bytes: int = _row(
        10 << 20, "a segment is rolled when one of its indexes has this size", low=24, high=INT_MAX
    )
    index_interval_bytes: int = _row(4096, "bytes of log between two entries of the offset index", high=INT_MAX)
    preallocate: bool = _row(False, "whether the active segment's file has its full size, segment.bytes, at once")
    # ---- what is kept
    cleanup_policy: tuple[str, ...] = _row(
        ("delete",),
        "what goes. delete: by retention.ms and retention.bytes; compact: all but the newest record of each key; "
        "delete,compact: both; consumed (not in Kafka): what all of consumed.groups have committed",
        choices=("delete", "compact", "consumed"),
    )
    retention_ms: int = _row(604_800_000, "with delete: the age at which segments go; -1 for ever", low=-1)
    retention_bytes: int = _row(-1, "with delete: the oldest segments go while this much is left; -1 no limit", low=-1)
    consumed_groups: tuple[str, ...] = _row((), "with consumed: the groups that must all have committed a segment")
    unconsumed_retention_ms: int = _row(
        -1, "with consumed: the age at which segments go even if a group has not committed them; -1 never", low=-1
    )
    file_delete_delay_ms: int = _row(60_000, "how long a deleted segment's files stay, renamed, for their readers")
    # ---- compaction
    delete_retention_ms: int = _row(86_400_000, "how long compaction keeps tombstones, for readers to see the deletion")
    min_cleanable_dirty_ratio: float = _row(0.5, "compact once this share of the log is not compacted yet", high=1)
    min_compaction_lag_ms: int = _row(0, "a record is not compacted away before this age")
    max_compaction_lag_ms: int = _row(LONG_MAX, "a record is compacted at this age whatever the dirty ratio", low=1)
    # ---- records
    max_message_bytes: int = _row(
        1_048_588, "the largest record batch accepted, as it is sent, header included", high=INT_MAX
    )
    compression_type: str = _row(
        "producer",
        "how batches are stored; producer: as they were sent",
        choices=("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
    )
    message_timestamp_type: str = _row(
        "CreateTime",
        "a record's timestamp is the producer's, or the time of its append",
        choices=("CreateTime", "LogAppendTime"),
    )
    message_timestamp_before_max_ms: int = _row(
        LONG_MAX, "with CreateTime: records with a timestamp longer ago than this are refused"
    )
    message_timestamp_after_max_ms: int = _row(
        3_600_000, "with CreateTime: records with a timestamp further in the future than this are refused"
    )
    # ---- durability
    flush_messages: int = _row(LONG_MAX, "fsync after this many records, asked for or not", low=1)
    flush_ms: int = _row(LONG_MAX, "fsync records that have waited this long, asked for or not")

    @property
    def deletes(self) -> bool:
        return "delete" in self.cleanup_policy

    @property
    def compacts(self) -> bool:
        return "compact" in self.cleanup_policy

    @property
    def drops_consumed(self) -> bool:
        return "consumed" in self.cleanup_policy

    def _check(self) -> None:
        policy = as_text(self.cleanup_policy)
        if not self.cleanup_policy:
            raise InvalidSetting("cleanup.policy", policy, "must name a policy; to keep all, set retention.ms=-1")
        if self.drops_consumed and len(self.cleanup_policy) > 1:
            raise InvalidSetting(
                "cleanup.policy", policy, "consumed stands alone; unconsumed.retention.ms limits the age"
            )
        if self.drops_consumed and not self.consumed_groups:
            raise InvalidSetting("cleanup.policy", policy, "needs the groups to wait for: set consumed.groups with it")
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms:
            raise InvalidSetting(
                "min.compaction.lag.ms",
                self.min_compaction_lag_ms,
                f"must not be above max.compaction.lag.ms={self.max_compaction_lag_ms}",
            )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StoreConfig(Settings):
    """The settings of one data directory, in the process that owns it."""

    log_retention_check_interval_ms: int = _row(300_000, "time between two runs of roll and retention", low=1)
    log_flush_scheduler_interval_ms: int = _row(
        1_000, "time between two looks for records due by flush.ms (Kafka's default, never, makes flush.ms idle)", low=1
    )
    log_flush_offset_checkpoint_interval_ms: int = _row(
        60_000, "time between two writes of the recovery points: what is below needs no check after a crash", low=1
    )
    log_cleaner_backoff_ms: int = _row(15_000, "how long compaction rests when there is nothing to compact", low=1)
    log_cleaner_dedupe_buffer_size: int = _row(
        134_217_728, "bytes for the map from keys to offsets, which bounds what one compaction covers", low=1024
    )
    producer_id_expiration_ms: int = _row(
        86_400_000, "how long an idle idempotent producer is remembered", low=1, high=INT_MAX
    )
    num_recovery_threads_per_data_dir: int = _row(2, "threads that recover partitions after a crash", low=1, high=1024)
    num_partitions: int = _row(1, "partitions of a topic that is created without a count", low=1, high=100_000)
    max_open_files: int = _row(
        0, "most segment files and maps kept open; 0: half of the process's soft limit (not in Kafka)", high=INT_MAX
    )
