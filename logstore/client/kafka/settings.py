"""The settings of a cluster's clients: Kafka's names, as for a directory's, made librdkafka's.

What ProducerConfig and ConsumerConfig have is given by Kafka's names and means the same; whatever else librdkafka
knows, such as ``security.protocol`` or ``sasl.username``, is given by librdkafka's names, with dots or underscores, to
``connect`` for all clients or to one of them. Where the two differ:

===================================  ==============================================================================
Kafka's, and ours                    with a cluster
===================================  ==============================================================================
buffer.memory                        librdkafka's queue.buffering.max.kbytes: rounded up to KiB
max.block.ms, max.poll.records,      kept here: librdkafka has nothing of the kind
auto.commit.interval.ms,
enable.auto.commit
max.request.size                     librdkafka's message.max.bytes: 1,000 to 1,000,000,000
batch.size                           0 is taken as 1
enable.idempotence                   off with acks 1 and 0, unless it is asked for, which librdkafka then refuses
auto.offset.reset                    done here, as soon as a partition is assigned
max.poll.interval.ms                 at least session.timeout.ms
fetch.min.bytes                      0 is taken as 1
metadata.max.age.ms                  librdkafka's topic.metadata.refresh.interval.ms: at most an hour
partition.assignment.strategy        no ``sticky``; those of the first one's kind count, eager or cooperative, since
                                     librdkafka does not mix them: the default is range
===================================  ==============================================================================
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from logstore.config import ConsumerConfig, ProducerConfig
from logstore.errors import InvalidSetting, Unsupported
from logstore.settings import Settings

Properties = dict[str, Any]
Config = TypeVar("Config", bound=Settings)

_UNDERSCORED = frozenset({"log_level", "oauth_cb", "stats_cb", "throttle_cb"})
# These a client sets itself: a caller's would change what it promises.
_OURS = frozenset(
    {"bootstrap.servers", "metadata.broker.list", "group.id", "enable.auto.offset.store", "enable.partition.eof"}
    | {"error_cb", "logger", "on_commit", "on_delivery", "partitioner", "transactional.id", "group.protocol"}
)
_ROWS = {row.name for config in (ProducerConfig, ConsumerConfig) for row in config.rows()}
_REFRESH_MS_MAX = 3_600_000
_AGE_MS_MAX = 86_400_000
_RECEIVED_SIZE_MIN, _RECEIVED_SIZE_MAX = 100_000_000, 2_147_483_647
_SOCKET_TIMEOUT_MS_MAX = 300_000
_COOPERATIVE = "cooperative-sticky"


def connection_properties(settings: Mapping[str, object]) -> Properties:
    """``settings`` by librdkafka's names. Raises InvalidSetting for those that are not the caller's."""
    properties: Properties = {}
    for given, value in settings.items():
        name = given if given in _UNDERSCORED else given.replace("_", ".")
        if name in _OURS or given in _OURS:
            raise InvalidSetting(given, value, "logstore sets this itself; leave it out")
        if name in properties:
            raise InvalidSetting(given, value, "is given twice, with dots and with underscores; drop one")
        properties[name] = value
    return properties


def admin_properties(shared: Properties) -> Properties:
    """``shared``: what ``connect`` was given; its settings of producers and consumers are no matter here."""
    return {name: value for name, value in shared.items() if name not in _ROWS or name == "client.id"}


def producer_properties(shared: Properties, settings: Mapping[str, object]) -> tuple[ProducerConfig, Properties]:
    given = {**shared, **connection_properties(settings)}
    config, passed_on = _split(ProducerConfig, given)
    is_all = config.acks in ("all", "-1")
    is_idempotent = config.enable_idempotence and (is_all or "enable.idempotence" in given)
    own: Properties = {
        "acks": config.acks,
        "enable.idempotence": is_idempotent,
        "batch.size": max(config.batch_size, 1),
        "linger.ms": config.linger_ms,
        "queue.buffering.max.kbytes": -(-config.buffer_memory // 1024),
        "queue.buffering.max.messages": 0,
        "message.max.bytes": config.max_request_size,
        "delivery.timeout.ms": config.delivery_timeout_ms,
        "request.timeout.ms": config.request_timeout_ms,
        "max.in.flight.requests.per.connection": config.max_in_flight_requests_per_connection,
        "compression.type": config.compression_type,
        "partitioner": "murmur2_random",
    }
    return config, passed_on | own


def consumer_properties(
    shared: Properties, settings: Mapping[str, object], timeout_s: float
) -> tuple[ConsumerConfig, Properties]:
    """``timeout_s`` bounds a commit that waits, which librdkafka gives no time-out of its own."""
    config, passed_on = _split(ConsumerConfig, {**shared, **connection_properties(settings)})
    received_size = max(_RECEIVED_SIZE_MIN, min(config.fetch_max_bytes + 512, _RECEIVED_SIZE_MAX))
    own: Properties = {
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "auto.offset.reset": "error",
        "isolation.level": config.isolation_level,
        "max.poll.interval.ms": config.max_poll_interval_ms,
        "session.timeout.ms": config.session_timeout_ms,
        "heartbeat.interval.ms": config.heartbeat_interval_ms,
        "partition.assignment.strategy": ",".join(strategies(config)),
        "fetch.wait.max.ms": config.fetch_max_wait_ms,
        "fetch.min.bytes": max(config.fetch_min_bytes, 1),
        "fetch.max.bytes": min(config.fetch_max_bytes, _RECEIVED_SIZE_MAX - 512),
        "max.partition.fetch.bytes": config.max_partition_fetch_bytes,
        "topic.metadata.refresh.interval.ms": min(config.metadata_max_age_ms, _REFRESH_MS_MAX),
        "metadata.max.age.ms": min(3 * config.metadata_max_age_ms, _AGE_MS_MAX),
    }
    if config.group_instance_id:
        own["group.instance.id"] = config.group_instance_id
    socket_timeout_ms = min(max(int(timeout_s * 1000), config.fetch_max_wait_ms + 1000, 1000), _SOCKET_TIMEOUT_MS_MAX)
    defaults: Properties = {"receive.message.max.bytes": received_size, "socket.timeout.ms": socket_timeout_ms}
    return config, defaults | passed_on | own


def strategies(config: ConsumerConfig) -> list[str]:
    """Those that librdkafka can offer together: of the first one's kind. Raises Unsupported."""
    names = config.partition_assignment_strategy
    if "sticky" in names:
        raise Unsupported(
            "with a cluster, partition.assignment.strategy=sticky", "use cooperative-sticky, range or roundrobin"
        )
    return [name for name in names if (name == _COOPERATIVE) == (names[0] == _COOPERATIVE)]


def is_cooperative(config: ConsumerConfig) -> bool:
    return config.partition_assignment_strategy[0] == _COOPERATIVE


def _split(config: type[Config], given: Properties) -> tuple[Config, Properties]:
    """The rows of ``config`` among ``given``, checked, and what is librdkafka's; rows of other clients are left out."""
    rows = {row.name for row in config.rows()}
    parsed = config.parse({name: value for name, value in given.items() if name in rows})
    properties = {name: value for name, value in given.items() if name not in _ROWS}
    if given.get("client.id"):
        properties["client.id"] = given["client.id"]
    return parsed, properties
