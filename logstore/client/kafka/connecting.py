"""``logstore.connect``: the way to a Kafka cluster. Its first call imports confluent-kafka, the extra ``kafka``."""

from typing import TYPE_CHECKING

from logstore.errors import InvalidArgument, MissingExtra

if TYPE_CHECKING:
    from logstore.client.kafka.cluster import Cluster


def connect(address: str, *, timeout: float = 10.0, **settings: object) -> "Cluster":
    """Connect to the cluster of the brokers at ``address``: "host:port", or several with commas between.

    ``settings`` are librdkafka's, for all clients made of this: ``security_protocol="SASL_SSL"``, or
    ``**{"sasl.username": ...}``. ``timeout`` bounds the wait for a broker, and each request about topics, offsets and
    groups afterwards.

    Raises InvalidArgument, InvalidSetting, TimedOut where no broker answers, ClusterFailure where one refuses,
    MissingExtra.
    """
    brokers = _brokers(address)
    _check_timeout(timeout)
    try:
        from logstore.client.kafka.cluster import Cluster
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "confluent_kafka":
            raise
        raise MissingExtra("kafka", "confluent-kafka") from None
    return Cluster(brokers, timeout, settings)


def _brokers(address: object) -> str:
    if isinstance(address, str) and (brokers := address.removeprefix("kafka://").strip()):
        return brokers
    raise InvalidArgument("address", address, 'give brokers as in "localhost:9092"')


def _check_timeout(timeout: object) -> None:
    if not (isinstance(timeout, int | float) and timeout > 0):
        raise InvalidArgument("timeout", timeout, "it is a number of seconds above 0")
