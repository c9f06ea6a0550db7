"""Settings as admin clients are told of them: the value in effect, whose it is, and what would count without it."""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from logstore.broker.broker import Broker
from logstore.config import BrokerConfig, StoreConfig, TopicConfig
from logstore.settings import INT_MAX, Setting, Settings, as_text
from logstore.storage.server_settings import Scope, ServerSettings
from logstore.storage.topics import TopicDescription


class ConfigSource(IntEnum):
    """Kafka's numbers."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_ALL_BROKERS = 3
    STATIC_BROKER = 4
    DEFAULT = 5


_DYNAMIC = {Scope.BROKER: ConfigSource.DYNAMIC_BROKER, Scope.ALL_BROKERS: ConfigSource.DYNAMIC_ALL_BROKERS}


class ConfigType(IntEnum):
    """Kafka's numbers."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


class Candidate(NamedTuple):
    """A value that counts, or would count without those before it."""

    name: str
    value: str
    source: ConfigSource


class ConfigEntry(NamedTuple):
    """``candidates``: the one that counts first. There may be none, of a setting without a value."""

    row: Setting
    value: str | None
    source: ConfigSource
    candidates: list[Candidate]
    is_read_only: bool

    @property
    def type(self) -> ConfigType:
        if self.row.type == "int":
            return ConfigType.INT if self.row.high <= INT_MAX else ConfigType.LONG
        return _TYPES[self.row.type]


_TYPES = {
    "bool": ConfigType.BOOLEAN,
    "string": ConfigType.STRING,
    "float": ConfigType.DOUBLE,
    "list": ConfigType.LIST,
}
# A server's settings by the setting of topics whose default they are, the one that counts first.
_DEFAULTS_OF: dict[str, list[Setting]] = {}
for _row in StoreConfig.rows():
    _DEFAULTS_OF.setdefault(_row.topic_setting, []).append(_row)
del _DEFAULTS_OF[""]


def default_entries(settings: ServerSettings) -> list[ConfigEntry]:
    """All settings of a topic that sets nothing itself."""
    defaults = settings.config.topic_config()
    entries = []
    for row in TopicConfig.rows():
        candidates = _candidates(_DEFAULTS_OF.get(row.name, []), settings)
        source = candidates[0].source if candidates else ConfigSource.DEFAULT
        entries.append(ConfigEntry(row, as_text(getattr(defaults, row.field)), source, candidates, is_read_only=False))
    return entries


def topic_entries(topic: TopicDescription, defaults: Iterable[ConfigEntry]) -> list[ConfigEntry]:
    """All settings of a topic, where ``defaults`` are those of one that sets nothing itself."""
    return [_overridden(entry, topic.overrides.get(entry.row.name)) for entry in defaults]


def _overridden(entry: ConfigEntry, own: str | None) -> ConfigEntry:
    if own is None:
        return entry
    candidates = [Candidate(entry.row.name, own, ConfigSource.TOPIC), *entry.candidates]
    return entry._replace(value=own, source=ConfigSource.TOPIC, candidates=candidates)


def broker_entries(broker: Broker) -> list[ConfigEntry]:
    """All settings of this broker."""
    settings = broker.store.settings
    stored = [_server_entry(row, settings) for row in StoreConfig.rows()]
    return [_own_entry(row, broker.config) for row in BrokerConfig.rows()] + stored


def all_brokers_entries(broker: Broker) -> list[ConfigEntry]:
    """The settings that were changed for all brokers, and only those."""
    source = ConfigSource.DYNAMIC_ALL_BROKERS
    return [
        ConfigEntry(StoreConfig.row(name), value, source, [Candidate(name, value, source)], is_read_only=False)
        for name, value in broker.store.settings.changed[Scope.ALL_BROKERS].items()
    ]


def _own_entry(row: Setting, config: BrokerConfig) -> ConfigEntry:
    candidates = _given(row, config)
    return ConfigEntry(row, *_first(candidates), candidates, is_read_only=True)


def _server_entry(row: Setting, settings: ServerSettings) -> ConfigEntry:
    own = _candidates([row], settings)
    related = _candidates(_DEFAULTS_OF.get(row.topic_setting, [row]), settings)
    return ConfigEntry(row, *_first(own), related, not row.is_dynamic)


def _first(candidates: list[Candidate]) -> tuple[str | None, ConfigSource]:
    return (candidates[0].value, candidates[0].source) if candidates else (None, ConfigSource.DEFAULT)


def _candidates(rows: Iterable[Setting], settings: ServerSettings) -> list[Candidate]:
    """Of a server's settings for one thing: what was changed, the broker's before all brokers', then what was given and
    what there is without."""
    changed: list[tuple[Scope, Mapping[str, str]]] = [(scope, settings.changed[scope]) for scope in reversed(Scope)]
    rows = list(rows)
    found = [
        Candidate(row.name, own[row.name], _DYNAMIC[scope]) for scope, own in changed for row in rows if row.name in own
    ]
    return found + [candidate for row in rows for candidate in _given(row, settings.given)]


def _given(row: Setting, config: Settings) -> list[Candidate]:
    """What a server was started with, and what there is without that."""
    value = getattr(config, row.field)
    found = [] if value == row.default else [Candidate(row.name, as_text(value), ConfigSource.STATIC_BROKER)]
    if row.default is not None:
        found.append(Candidate(row.name, as_text(row.default), ConfigSource.DEFAULT))
    return found
