"""A server's settings as a Kafka admin writes them, parted into those of the broker and those of its data directory.

Every name that Kafka has is taken. Those that mean nothing here are listed in ``idle``, each with the reason, for the
log to say so; one that would have kept somebody out is refused, since it would not. Other names are mistakes.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from logstore.config import BrokerConfig, StoreConfig
from logstore.errors import InvalidSetting

# Where a broker's defaults are Kafka's, and those of an embedded store are not.
_STORE_DEFAULTS: Mapping[str, object] = {
    "offsets.topic.num.partitions": 50,
    "group.initial.rebalance.delay.ms": 3_000,
}
_ALIASES = {"broker.id": "node.id", "log.dir": "log.dirs"}
_DATA = "log.dirs"
_REFUSED = {
    "authorizer.class.name": "there are no authorizers: everybody who can connect would be let in; take this line out",
    "host.name": "Kafka has it no more: use listeners=PLAINTEXT://HOST:PORT",
    "port": "Kafka has it no more: use listeners=PLAINTEXT://HOST:PORT",
    "advertised.host.name": "Kafka has it no more: use advertised.listeners=PLAINTEXT://HOST:PORT",
    "advertised.port": "Kafka has it no more: use advertised.listeners=PLAINTEXT://HOST:PORT",
}

_ALONE = "one broker stands alone here, without controllers and replicas"
_MISSING = "logstore does not have what they are about"
_OTHERWISE = "logstore does it in another way"
# Kafka's settings without effect, by the beginnings of their names, and why; rows of a config go before.
_IDLE_FAMILIES = {
    _ALONE: (
        *("alter.log.dirs.", "broker.heartbeat.", "broker.session.", "control.plane.", "controlled.shutdown."),
        *("controller.", "leader.imbalance.", "metadata.", "num.replica.", "replica.", "replication.quota."),
        *("zookeeper.",),
    ),
    _MISSING: (
        *("add.partitions.to.txn.", "confluent.", "delegation.token.", "group.consumer.", "group.share."),
        *("group.streams.", "kafka.metrics.", "listener.name.", "log.local.", "metrics.", "password.encoder."),
        *("principal.", "quota.", "remote.", "sasl.", "security.", "share.", "ssl.", "transaction.", "transactional."),
    ),
    _OTHERWISE: ("group.coordinator.", "log.cleaner.", "offsets.topic.", "socket."),
}
_IDLE_NAMES = {
    _ALONE: (
        *("auto.leader.rebalance.enable", "broker.id.generation.enable", "default.replication.factor"),
        *("early.start.listeners", "initial.broker.registration.timeout.ms", "inter.broker.listener.name"),
        *("inter.broker.protocol.version", "log.dir.failure.timeout.ms"),
        *("offsets.topic.replication.factor", "process.roles", "request.timeout.ms", "reserved.broker.max.id"),
        *("unstable.api.versions.enable", "unstable.feature.versions.enable"),
    ),
    _MISSING: (
        *("alter.config.policy.class.name", "auto.include.jmx.reporter", "client.quota.callback.class"),
        *("connection.failed.authentication.delay.ms", "connections.max.reauth.ms", "create.topic.policy.class.name"),
        *("log.message.downconversion.enable", "log.message.format.version", "max.connection.creation.rate"),
        *("max.connections.per.ip.overrides", "max.request.partition.size.limit", "metric.reporters"),
        *("super.users", "telemetry.max.bytes", "allow.everyone.if.no.acl.found"),
    ),
    _OTHERWISE: (
        *("background.threads",),
        *("delete.records.purgatory.purge.interval.requests", "fetch.purgatory.purge.interval.requests"),
        *("log.flush.start.offset.checkpoint.interval.ms", "log.message.timestamp.difference.max.ms"),
        *("num.network.threads", "offsets.commit.timeout.ms", "offsets.load.buffer.size"),
        *("producer.id.expiration.check.interval.ms", "producer.purgatory.purge.interval.requests"),
        *("queued.max.requests",),
    ),
}


class ServerSettings(NamedTuple):
    """``data``: the directory, where it is named; ``idle``: why settings have no effect, and which those are."""

    broker: BrokerConfig
    store: StoreConfig
    data: Path | None
    idle: Mapping[str, list[str]]


def parse_server_settings(properties: Mapping[str, object]) -> ServerSettings:
    """Settings by Kafka's names, or by these with underscores, as text or typed. Raises InvalidSetting."""
    broker_names = {row.name for row in BrokerConfig.rows()}
    store_names = {row.name for row in StoreConfig.rows()}
    broker: dict[str, object] = {}
    store: dict[str, object] = dict(_STORE_DEFAULTS)
    data: Path | None = None
    idle: dict[str, list[str]] = {}
    for name, (given_name, value) in _by_kafkas_name(properties).items():
        if name in broker_names:
            broker[given_name] = value
        elif name in store_names:
            store.pop(name, None)
            store[given_name] = value
        elif name == _DATA:
            data = _directory(given_name, value)
        elif reason := _why_idle(name):
            idle.setdefault(reason, []).append(given_name)
        else:
            raise _unknown(name, given_name, value, broker_names | store_names)
    return ServerSettings(BrokerConfig.parse(broker), StoreConfig.parse(store), data, idle)


def _by_kafkas_name(properties: Mapping[str, object]) -> dict[str, tuple[str, object]]:
    """Each value with the name it was given by. Of a name and its alias, as of log.dirs and log.dir, the name counts,
    as with Kafka."""
    found: dict[str, tuple[str, object]] = {}
    aliases: dict[str, tuple[str, object]] = {}
    for given_name, value in properties.items():
        name = given_name if "." in given_name else given_name.replace("_", ".")
        if name in found:
            raise InvalidSetting(given_name, value, f"is given twice, also as {found[name][0]}; drop one")
        if name in _ALIASES:
            aliases[_ALIASES[name]] = _ALIASES[name], value
        else:
            found[name] = given_name, value
    return aliases | found


def _directory(name: str, value: object) -> Path:
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    paths = [path.strip() for path in names if isinstance(path, str) and path.strip()]
    if len(paths) != 1:
        raise InvalidSetting(name, value, "must be one directory: all topics are kept in it")
    return Path(paths[0])


def _why_idle(name: str) -> str | None:
    for reason, names in _IDLE_NAMES.items():
        if name in names:
            return reason
    for reason, families in _IDLE_FAMILIES.items():
        if name.startswith(families):
            return reason
    return None


def _unknown(name: str, given_name: str, value: object, known: set[str]) -> InvalidSetting:
    if name in _REFUSED:
        return InvalidSetting(given_name, value, _REFUSED[name])
    idle = {each for names in _IDLE_NAMES.values() for each in names}
    closest = get_close_matches(name[:100], known | idle | {_DATA, *_ALIASES}, n=1)
    hint = f"did you mean {closest[0]}?" if closest else "see the settings with `logstore serve --list-settings`"
    return InvalidSetting(given_name, value, f"there is no such setting; {hint}")
