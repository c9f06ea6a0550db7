"""What admin requests say of topics, checked by Kafka's rules: names, replicas, partitions, settings."""

from collections.abc import Iterable, Sequence

from logstore.broker.broker import Broker
from logstore.broker.refusal import Refusal, Refused
from logstore.config import TopicConfig
from logstore.errors import InvalidSetting
from logstore.groups.offsets_log import OFFSETS_TOPIC, OFFSETS_TOPIC_SETTINGS
from logstore.settings import Settings
from logstore.wire.error_codes import ErrorCode

USE_DEFAULT = -1  # for counts of partitions and replicas
PARTITIONS_PER_REQUEST_MAX = 10_000  # Kafka's: a request must not keep a broker busy for long


def check_goes_on(broker: Broker) -> None:
    """Before each of the topics of a request: the end of the broker waits for what has begun. Raises Refused."""
    if broker.is_stopping:
        raise Refused(ErrorCode.NOT_CONTROLLER, "the broker is shutting down")


def check_no_collision(name: str, existing: Iterable[str]) -> None:
    """Kafka's metrics take ``.`` for ``_``, so it has no two topics that differ in nothing else. Raises Refused."""
    plain = name.replace(".", "_")
    for other in existing:
        if other != name and other.replace(".", "_") == plain:
            message = f"Topic {name!r} collides with existing topic {other!r}: they differ only in '.' and '_'"
            raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, message)


def check_replication_factor(factor: int) -> None:
    """Raises Refused."""
    if factor == 0 or factor < USE_DEFAULT:
        message = "Replication factor must be larger than 0, or -1 to use the default value."
        raise Refused(ErrorCode.INVALID_REPLICATION_FACTOR, message)
    if factor > 1:
        message = (
            f"Unable to replicate the partition {factor} time(s): there is one broker, so there is one replica; "
            "use 1, or -1 for the default"
        )
        raise Refused(ErrorCode.INVALID_REPLICATION_FACTOR, message)


def partition_count(count: int) -> int | None:
    """None for the default. Raises Refused."""
    if count == 0 or count < USE_DEFAULT:
        message = "Number of partitions was set to an invalid non-positive value."
        raise Refused(ErrorCode.INVALID_PARTITIONS, message)
    return None if count == USE_DEFAULT else count


def too_many(partitions: int) -> Refusal | None:
    """Why nothing of a request is done that would make so many partitions, if they are too many."""
    if partitions <= PARTITIONS_PER_REQUEST_MAX:
        return None
    return Refusal(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")


def check_replicas(broker: Broker, broker_ids: Sequence[int]) -> None:
    """Of one partition, placed by hand. Raises Refused."""
    if not broker_ids:
        message = "The manual partition assignment includes an empty replica list."
    elif len(set(broker_ids)) < len(broker_ids):
        message = f"The manual partition assignment includes the broker {broker_ids[0]} more than once."
    elif unknown := set(broker_ids) - {broker.node_id}:
        message = (
            f"The manual partition assignment includes broker {min(unknown)}, but no such broker is registered; "
            f"there is {broker.node_id}"
        )
    else:
        return
    raise Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)


def check_names(config: type[Settings], names: Iterable[str]) -> None:
    """Settings have Kafka's names here; Python's are for Python. Raises InvalidSetting."""
    for name in names:
        if (known := config.row(name).name) != name:
            raise InvalidSetting(name, None, f"there is no such setting; did you mean {known}?")


def topic_settings(configs: Iterable[tuple[str, str | None]]) -> dict[str, object]:
    """The settings of a topic to be made. Raises Refused, InvalidSetting."""
    settings: dict[str, object] = dict(configs)
    if without := [name for name, value in settings.items() if value is None]:
        message = f"Null value not supported for topic configs: {', '.join(without)}"
        raise Refused(ErrorCode.INVALID_CONFIG, message)
    check_names(TopicConfig, settings)
    return settings


def with_own_defaults(
    broker: Broker, name: str, partitions: int | None, settings: dict[str, object]
) -> tuple[int | None, dict[str, object]]:
    """The topic of groups' offsets is what it must be, whoever makes it."""
    if name != OFFSETS_TOPIC:
        return partitions, settings
    return partitions or broker.store.settings.config.offsets_topic_num_partitions, OFFSETS_TOPIC_SETTINGS | settings
