"""Changing the settings of topics and brokers for the two APIs that do: what they share.

A change of a broker's settings that its data directory owns is stored there, and is in effect at once; whatever else is
set where the broker is started.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from logstore.broker.broker import Broker
from logstore.broker.config_resources import ResourceType, scope_of, topic_of, unsupported
from logstore.broker.refusal import Refusal, Refused, outcome, repeated
from logstore.broker.topic_arguments import check_names
from logstore.config import BrokerConfig, StoreConfig, TopicConfig
from logstore.errors import InvalidSetting
from logstore.settings import Settings
from logstore.wire.error_codes import ErrorCode


class Current(NamedTuple):
    """A resource before the change: the kind of its settings, those that it sets itself, and those in effect."""

    kind: type[Settings]
    own: Mapping[str, str]
    config: Settings


Plan = Callable[[Current], Mapping[str, str | None]]


def alter(broker: Broker, resource_type: int, name: str, plan: Plan, validate_only: bool) -> None:
    """Change what ``plan`` says; None takes an own setting away. One change at a time: each is planned by what the one
    before has made. Raises Refused, LogstoreError."""
    with broker.altering:
        match resource_type:
            case ResourceType.TOPIC:
                topic = topic_of(broker, name)
                changes = plan(Current(TopicConfig, topic.overrides, topic.config))
                check_names(TopicConfig, changes)
                broker.store.alter_topic(name, changes, validate_only=validate_only)
            case ResourceType.BROKER:
                scope, settings = scope_of(broker, name), broker.store.settings
                try:
                    changes = plan(Current(StoreConfig, settings.changed[scope], settings.config))
                    _check_server_names(changes)
                    broker.store.alter_settings(changes, scope, validate_only=validate_only)
                except InvalidSetting as error:  # Kafka's code for them, whatever is wrong
                    raise Refused(ErrorCode.INVALID_REQUEST, str(error)) from None
            case other:
                raise unsupported(other)


def _check_server_names(names: Iterable[str]) -> None:
    own = {row.name for row in BrokerConfig.rows()}
    for name in names:
        if name in own:
            message = "does not change while the server runs: set it in the server's own configuration and restart"
            raise InvalidSetting(name, None, message)
    check_names(StoreConfig, names)


class Config(Protocol):
    """One of an API's own."""

    @property
    def name(self) -> str: ...


ConfigT = TypeVar("ConfigT", bound=Config, covariant=True)


class Resource(Protocol[ConfigT]):
    @property
    def resource_type(self) -> int: ...
    @property
    def resource_name(self) -> str: ...
    @property
    def configs(self) -> Sequence[ConfigT]: ...


class Request(Protocol[ConfigT]):
    @property
    def resources(self) -> Sequence[Resource[ConfigT]]: ...
    @property
    def validate_only(self) -> bool: ...


def alter_all(
    broker: Broker,
    request: Request[ConfigT],
    changes: Callable[[Current, Sequence[ConfigT]], Mapping[str, str | None]],
) -> list[tuple[Resource[ConfigT], Refusal]]:
    """Each resource of a request, and what became of it; ``changes``: what its configs make of its settings."""
    duplicates = repeated((resource.resource_type, resource.resource_name) for resource in request.resources)

    def alter_one(resource: Resource[ConfigT]) -> None:
        kind, name, configs = resource.resource_type, resource.resource_name, resource.configs
        if (kind, name) in duplicates:
            raise Refused(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
        if repeated(config.name for config in configs):
            raise Refused(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
        alter(broker, kind, name, lambda current: changes(current, configs), request.validate_only)

    return [(resource, outcome("altering settings", partial(alter_one, resource))) for resource in request.resources]
