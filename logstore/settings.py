"""How settings work: a config is a frozen dataclass whose fields are rows: name, type, default, what it does.

Whatever lists, parses, checks or prints settings reads the rows. The field ``retention_ms`` is the setting
``retention.ms``. A config has been checked when it exists: the constructor is the only validator, and reading a setting
is a plain attribute access. The rows themselves stand in config.
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
    """One row. ``low`` and ``high`` (inclusive) bound numbers; ``choices``, unless empty, are the words allowed. A
    default of None: it may be not set.

    ``is_dynamic``: a server's setting that may be changed while it runs. Of one that is the default of topics,
    ``topic_setting`` names theirs, and ``unit`` is what it counts in: 3,600,000 for hours of milliseconds.
    """

    name: str
    type: str
    default: Value | None
    doc: str
    low: float
    high: float
    choices: tuple[str, ...]
    is_dynamic: bool = False
    topic_setting: str = ""
    unit: int = 1

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
                return f"one of {words}" if words else "text"

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


def setting(
    default: Value,
    doc: str,
    *,
    low: float = 0,
    high: float = LONG_MAX,
    choices: tuple[str, ...] = (),
    is_dynamic: bool = False,
) -> Any:
    """A dataclass field that carries the rest of its row."""
    row = Setting("", _TYPE_NAMES[type(default)], default, doc, low, high, choices, is_dynamic)
    return setting_like(row)


def setting_like(row: Setting) -> Any:
    """A dataclass field that carries all of ``row`` but its name, which is the field's."""
    return field(default=row.default, metadata={"row": row})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """What all configs share: reading, changing and listing by name."""

    def __post_init__(self) -> None:
        for row in self.rows():
            value = getattr(self, row.field)
            if value is not None or row.default is not None:
                object.__setattr__(self, row.field, row.parse(value))
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
        for row, value in self._by_row(changes).items():
            values[row.field] = row.default if value is None else value
        return type(self)(**values)

    @classmethod
    def texts(cls, changes: Mapping[str, object]) -> dict[str, str | None]:
        """Changes, as ``replace`` takes them, by Kafka's names and as it writes the values. Raises InvalidSetting."""
        return {
            row.name: None if value is None else as_text(row.parse(value))
            for row, value in cls._by_row(changes).items()
        }

    def items(self) -> list[tuple[str, str]]:
        """Every setting that has a value, and that, as Kafka writes both."""
        return [(row.name, as_text(value)) for row in self.rows() if (value := getattr(self, row.field)) is not None]

    def overrides(self) -> dict[str, str]:
        """Only what differs from the defaults, as Kafka writes it: what is stored. ``parse`` reads it back."""
        return {row.name: as_text(value) for row in self.rows() if (value := getattr(self, row.field)) != row.default}

    @classmethod
    def row(cls, name: str) -> Setting:
        """Raises InvalidSetting."""
        return cls._find(name, None)

    @classmethod
    def _by_row(cls, changes: Mapping[str, object]) -> dict[Setting, object]:
        by_row: dict[Setting, object] = {}
        for name, value in changes.items():
            row = cls._find(name, value)
            if row in by_row:
                raise InvalidSetting(name, value, f"is given twice, as {row.name} and as {row.field}; drop one")
            by_row[row] = value
        return by_row

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
        rows = (f.metadata["row"]._replace(name=f.name.replace("_", ".")) for f in fields(config))
        _ROWS[config] = {row.name: row for row in rows}
    return _ROWS[config]
