"""DescribeConfigs: the settings of topics and of the broker, and where each value comes from."""

from functools import partial

from logstore.broker.broker import Broker
from logstore.broker.config_entries import (
    ConfigEntry,
    all_brokers_entries,
    broker_entries,
    default_entries,
    topic_entries,
)
from logstore.broker.config_resources import ResourceType, scope_of, topic_of, unsupported
from logstore.broker.context import RequestContext
from logstore.broker.refusal import Refusal, attempt
from logstore.storage.server_settings import Scope
from logstore.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)


async def handle(broker: Broker, request: DescribeConfigsRequest, context: RequestContext) -> DescribeConfigsResponse:
    return DescribeConfigsResponse(results=await broker.run(_describe_all, broker, request))


def _describe_all(broker: Broker, request: DescribeConfigsRequest) -> list[DescribeConfigsResult]:
    """A client may ask for thousands of topics at once: what they have in common is described once."""
    defaults = default_entries(broker.store.settings)
    described = {id(entry): _described(entry, request) for entry in defaults}
    results = []
    asked = {(resource.resource_type, resource.resource_name): resource for resource in request.resources}
    for resource in asked.values():  # what is asked for twice is answered once: the answer may be large
        found = attempt("describing settings", partial(_entries, broker, resource, defaults))
        result = DescribeConfigsResult(resource_type=resource.resource_type, resource_name=resource.resource_name)
        if isinstance(found, Refusal):
            result.error_code, result.error_message = found
        else:
            wanted = frozenset(resource.configuration_keys or ())  # none: all
            result.configs = [
                described.get(id(entry)) or _described(entry, request)
                for entry in found
                if not wanted or entry.row.name in wanted
            ]
        results.append(result)
    return results


def _entries(broker: Broker, resource: DescribeConfigsResource, defaults: list[ConfigEntry]) -> list[ConfigEntry]:
    match resource.resource_type:
        case ResourceType.TOPIC:
            return topic_entries(topic_of(broker, resource.resource_name), defaults)
        case ResourceType.BROKER:
            scope = scope_of(broker, resource.resource_name)
            return all_brokers_entries(broker) if scope is Scope.ALL_BROKERS else broker_entries(broker)
        case other:
            raise unsupported(other)


def _described(entry: ConfigEntry, request: DescribeConfigsRequest) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=entry.row.name,
        value=entry.value,
        read_only=entry.is_read_only,
        config_source=entry.source,
        is_sensitive=False,  # no setting of ours is a secret
        synonyms=[
            DescribeConfigsSynonym(name=candidate.name, value=candidate.value, source=candidate.source)
            for candidate in (entry.candidates if request.include_synonyms else ())
        ],
        config_type=entry.type,
        documentation=entry.row.doc if request.include_documentation else None,
    )
