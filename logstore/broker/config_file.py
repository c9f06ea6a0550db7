"""A server's configuration file: ``.properties`` as Kafka has it, or TOML, with Kafka's names in both.

In TOML a name is quoted, or has underscores: a table per dot does not work where one name goes on behind another, as
max.connections.per.ip does behind max.connections; where it works, it is taken too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from logstore.broker.server_properties import ServerSettings, parse_server_settings
from logstore.errors import CorruptCheckpoint, InvalidConfigFile, InvalidSetting
from logstore.format.properties import decode_properties

_SIZE_MAX = 1 << 20


class ConfigFile(NamedTuple):
    path: Path
    text: str
    values: Mapping[str, object]

    def line_of(self, name: str) -> int:
        """Where the setting stands, the last time it does; 0 if that is not found, as in a table of TOML."""
        separators = "=" if self.path.suffix == ".toml" else "=: \t"
        found = 0
        for number, line in enumerate(self.text.splitlines(), start=1):
            stripped = line.strip().lstrip("\"'")
            if stripped.startswith(name) and stripped[len(name) :].lstrip("\"' \t")[:1] in (*separators, ""):
                found = number
        return found


def read_config_file(path: Path) -> ConfigFile:
    """Raises InvalidConfigFile."""
    if path.suffix not in (".properties", ".toml"):
        raise InvalidConfigFile(str(path), 0, "the name of a configuration file ends with .properties or .toml")
    try:
        with path.open("rb") as file:
            data = file.read(_SIZE_MAX + 1)
    except OSError as error:
        raise InvalidConfigFile(str(path), 0, error.strerror or str(error)) from None
    if len(data) > _SIZE_MAX:
        raise InvalidConfigFile(str(path), 0, f"it is longer than {_SIZE_MAX} bytes")
    read = _read_toml if path.suffix == ".toml" else _read_properties
    return ConfigFile(path, data.decode(errors="replace"), read(path, data))


def load_settings(path: Path | None, changes: Mapping[str, object]) -> ServerSettings:
    """The settings of the file, if there is one, with ``changes`` to them. Raises InvalidSetting for one of these,
    InvalidConfigFile for the file."""
    if path is None:
        return parse_server_settings(changes)
    file = read_config_file(path)
    plain_changes = {name.replace("_", ".") for name in changes}
    values = {name: value for name, value in file.values.items() if name.replace("_", ".") not in plain_changes}
    try:
        return parse_server_settings({**values, **changes})
    except InvalidSetting as error:
        if error.name in changes or error.name.replace(".", "_") in changes:
            raise
        line = file.line_of(error.name) or file.line_of(error.name.replace(".", "_"))
        raise InvalidConfigFile(str(path), line, str(error)) from None


def _read_properties(path: Path, data: bytes) -> dict[str, str]:
    try:
        return decode_properties(data + b"\n")  # people do not end files as programs do
    except CorruptCheckpoint as error:
        where, _, reason = error.reason.removeprefix("line ").partition(": ")
        raise InvalidConfigFile(str(path), int(where), reason) from None


def _read_toml(path: Path, data: bytes) -> dict[str, object]:
    import tomllib  # when there is such a file: a server starts without

    try:
        return _flattened(tomllib.loads(data.decode()))
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at line ")
        line = place.partition(",")[0]
        if "overwrite" in reason:
            reason += ': quote names, as in "max.connections.per.ip" = 100'
        raise InvalidConfigFile(str(path), int(line) if line.isdigit() else 0, reason) from None
    except UnicodeDecodeError as error:
        raise InvalidConfigFile(str(path), data[: error.start].count(b"\n") + 1, "not UTF-8") from None


def _flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            values.update(_flattened(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values
