"""The settings of a broker's server."""

from dataclasses import dataclass

from logstore.addresses import Address, Listener, parse_address, parse_listener, parse_protocol_map
from logstore.errors import InvalidSetting
from logstore.settings import INT_MAX, Settings, as_text, setting


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BrokerConfig(Settings):
    """The settings of a broker's server. Names and, unless a doc says otherwise, defaults are Kafka's.

    What the broker's data directory and groups are set by is in StoreConfig.
    """

    # ---- who and where it is
    listeners: tuple[str, ...] = setting(
        ("PLAINTEXT://127.0.0.1:9092",),
        "where clients connect, as NAME://HOST:PORT; no host: all interfaces, port 0: one that is free (Kafka: all "
        "interfaces)",
    )
    advertised_listeners: tuple[str, ...] = setting(
        (), "what clients are told to connect to; none: the listener, or, if that is all interfaces, the machine's name"
    )
    listener_security_protocol_map: tuple[str, ...] = setting(
        ("PLAINTEXT:PLAINTEXT", "SSL:SSL", "SASL_PLAINTEXT:SASL_PLAINTEXT", "SASL_SSL:SASL_SSL"),
        "the protocols of listeners by their names",
    )
    controller_listener_names: tuple[str, ...] = setting(
        (), "listeners of Kafka's controllers: left out, for there are none here"
    )
    node_id: int = setting(-1, "the broker's number; -1: that of the directory's meta.properties", low=-1, high=INT_MAX)
    broker_rack: str = setting("", "the rack that clients are told of")
    # ---- what clients may do
    auto_create_topics_enable: bool = setting(True, "whether a topic that a client asks for is made if missing")
    delete_topic_enable: bool = setting(True, "whether clients may delete topics")
    acks_all_durability: str = setting(
        "fsync",
        "what a produce request with acks=all waits for. fsync: on the disk; os: in the page cache (not in Kafka, "
        "which waits for replicas)",
        choices=("fsync", "os"),
    )
    # ---- limits
    socket_request_max_bytes: int = setting(104_857_600, "the largest request", low=1, high=INT_MAX)
    fetch_max_bytes: int = setting(57_671_680, "most bytes that a fetch is answered with", low=1024, high=INT_MAX)
    queued_max_request_bytes: int = setting(
        268_435_456, "most bytes of requests in memory, of all connections together; -1 no limit (Kafka: none)", low=-1
    )
    max_connections: int = setting(INT_MAX, "most connections", low=1, high=INT_MAX)
    max_connections_per_ip: int = setting(INT_MAX, "most connections from one address", low=1, high=INT_MAX)
    max_incremental_fetch_session_cache_slots: int = setting(1_000, "most fetch sessions", high=1_000_000)
    socket_listen_backlog_size: int = setting(
        1_024, "connections that wait to be accepted (Kafka: 50)", low=1, high=INT_MAX
    )
    num_io_threads: int = setting(8, "threads for what blocks: syncs, cold reads, topics", low=1, high=1_024)
    # ---- deadlines
    connections_max_idle_ms: int = setting(600_000, "a connection without a request for this long is closed", low=1)
    request_read_timeout_ms: int = setting(
        30_000, "a connection whose request is not whole this long after it began is closed (not in Kafka)", low=1
    )
    response_write_timeout_ms: int = setting(
        30_000, "a connection whose client reads nothing of a response for this long is closed (not in Kafka)", low=1
    )
    shutdown_timeout_ms: int = setting(
        5_000, "how long the end waits for requests that are under way (not in Kafka)", low=0
    )
    # ---- what is told
    metrics_listener: str = setting("", "HOST:PORT of GET /metrics for Prometheus; none: no metrics (not in Kafka)")

    @property
    def listener(self) -> Listener:
        """Where clients connect."""
        return self._clients_listener("listeners", self.listeners)

    @property
    def advertised(self) -> Address | None:
        """What clients are told to connect to, where it is given."""
        if not self.advertised_listeners:
            return None
        return self._clients_listener("advertised.listeners", self.advertised_listeners).address

    @property
    def metrics_address(self) -> Address | None:
        if not self.metrics_listener:
            return None
        try:
            return parse_address(self.metrics_listener)
        except ValueError as error:
            raise InvalidSetting("metrics.listener", self.metrics_listener, str(error)) from None

    def _check(self) -> None:
        listener, advertised, _ = self.listener, self.advertised, self.metrics_address
        if advertised is not None and (advertised.is_wildcard or not advertised.port):
            given = as_text(self.advertised_listeners)
            raise InvalidSetting("advertised.listeners", given, "must be a host and a port to connect to")
        protocol = self._protocols().get(listener.name)
        if protocol != "PLAINTEXT":
            reason = (
                f"only PLAINTEXT is spoken, and {listener.name} is {protocol}"
                if protocol
                else f"{listener.name} is not in listener.security.protocol.map"
            )
            raise InvalidSetting("listeners", as_text(self.listeners), reason)

    def _protocols(self) -> dict[str, str]:
        try:
            return parse_protocol_map(self.listener_security_protocol_map)
        except ValueError as error:
            given = as_text(self.listener_security_protocol_map)
            raise InvalidSetting("listener.security.protocol.map", given, str(error)) from None

    def _clients_listener(self, name: str, texts: tuple[str, ...]) -> Listener:
        """The one that is not for controllers."""
        controllers = {controller.upper() for controller in self.controller_listener_names}
        try:
            listeners = [listener for text in texts if (listener := parse_listener(text)).name not in controllers]
        except ValueError as error:
            raise InvalidSetting(name, as_text(texts), str(error)) from None
        if len(listeners) != 1:
            raise InvalidSetting(name, as_text(texts), f"must be one listener for clients, not {len(listeners)}")
        return listeners[0]
