"""The settings of a directory's server: those that it was opened with, and above them what was changed since.

What was changed while a server ran is kept in ``server.properties``, a line a setting, after the scope that it was
changed in and a dot; in Kafka's way a broker's own count before those of all brokers. A change is on the disk before it
counts. A file that cannot be read keeps the directory from being opened: without it records might go that were to stay.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from logstore.config import StoreConfig
from logstore.errors import CorruptCheckpoint, InvalidSetting, NotADataDir
from logstore.format import filename
from logstore.format.properties import decode_properties, encode_properties
from logstore.storage import files


class Scope(StrEnum):
    """Whose settings are changed. The later ones count first."""

    ALL_BROKERS = "all"
    BROKER = "broker"


Changed = Mapping[Scope, Mapping[str, str]]


class ServerSettings:
    """``config`` is what is in effect, ``given`` what the directory was opened with, ``changed`` what came since. Not
    thread-safe: its owner is."""

    def __init__(self, data_dir: Path, given: StoreConfig) -> None:
        """Raises NotADataDir, StorageFailure."""
        self._path = data_dir / filename.SERVER_PROPERTIES
        self.given = given
        try:
            self.changed = self._read()
            self.config = self._in_effect(self.changed)
        except (CorruptCheckpoint, InvalidSetting) as error:
            reason = f"its {filename.SERVER_PROPERTIES}, of settings that were changed, is not right: {error}"
            raise NotADataDir(str(data_dir), reason) from None

    def _read(self) -> Changed:
        data = files.read_file(self._path)
        changed: dict[Scope, dict[str, str]] = {scope: {} for scope in Scope}
        for key, value in ({} if data is None else decode_properties(data)).items():
            scope, _, name = key.partition(".")
            if scope not in changed:
                raise CorruptCheckpoint(f"{key} begins with neither of {', '.join(Scope)}")
            changed[Scope(scope)][name] = value
        return changed

    def _in_effect(self, changed: Changed) -> StoreConfig:
        config = self.given
        for scope in Scope:
            config = config.replace(changed[scope])
        return config

    def planned(self, scope: Scope, changes: Mapping[str, object]) -> tuple[Changed, StoreConfig]:
        """What is changed, and in effect, once these are too; None takes a change back. Raises InvalidSetting."""
        own = dict(self.changed[scope])
        for name, text in StoreConfig.texts(changes).items():
            if not StoreConfig.row(name).is_dynamic:
                remedy = "does not change while the server runs: set it in the server's own configuration and restart"
                raise InvalidSetting(name, text, remedy)
            own.pop(name, None)
            if text is not None:
                own[name] = text
        changed = {**self.changed, scope: own}
        return changed, self._in_effect(changed)

    def store(self, changed: Changed, config: StoreConfig) -> None:
        """What was ``planned`` counts from now on. Raises StorageFailure."""
        lines = {f"{scope}.{name}": text for scope, own in changed.items() for name, text in own.items()}
        files.write_file(self._path, encode_properties(lines, "settings that were changed while the server ran"))
        self.changed, self.config = changed, config
