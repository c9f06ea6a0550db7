"""What settings can be of, by Kafka's numbers, and what of that there is here: topics, and the broker, by its number
or, as the empty name, all brokers."""

from enum import IntEnum

from logstore.broker.broker import Broker
from logstore.broker.refusal import Refused
from logstore.format.filename import check_topic_name
from logstore.storage.server_settings import Scope
from logstore.storage.topics import TopicDescription
from logstore.wire.error_codes import ErrorCode


class ResourceType(IntEnum):
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


def topic_of(broker: Broker, name: str) -> TopicDescription:
    """Raises InvalidTopicName, UnknownTopic, DamagedTopic."""
    check_topic_name(name)
    return broker.store.topic(name)


def scope_of(broker: Broker, name: str) -> Scope:
    """Raises Refused."""
    if not name:
        return Scope.ALL_BROKERS
    if not name.isascii() or not name.isdigit():
        raise Refused(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name[:100]}")
    if name != str(broker.node_id):
        message = f"Unexpected broker id, expected {broker.node_id} or empty string, but received {name[:100]}"
        raise Refused(ErrorCode.INVALID_REQUEST, message)
    return Scope.BROKER


def unsupported(resource_type: int) -> Refused:
    known = {kind.value: kind.name for kind in ResourceType}
    what = known.get(resource_type, str(resource_type))
    return Refused(ErrorCode.INVALID_REQUEST, f"resources of type {what} have no settings here; topics and brokers do")
