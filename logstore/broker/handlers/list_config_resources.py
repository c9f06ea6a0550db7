"""ListConfigResources: what has settings. Version 0 asks for those of client metrics, which are not there."""

from logstore.broker.broker import Broker
from logstore.broker.config_resources import ResourceType
from logstore.broker.context import RequestContext
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)


def handle(broker: Broker, request: ListConfigResourcesRequest, context: RequestContext) -> ListConfigResourcesResponse:
    if context.api_version == 0:
        return ListConfigResourcesResponse()
    wanted = set(request.resource_types) or set(ResourceType)
    if not wanted <= set(ResourceType):
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    names: list[tuple[ResourceType, str]] = []
    if ResourceType.TOPIC in wanted:
        names += [(ResourceType.TOPIC, topic.name) for topic in broker.store.topics()]
    if ResourceType.BROKER in wanted:
        names.append((ResourceType.BROKER, str(broker.node_id)))
    return ListConfigResourcesResponse(
        config_resources=[ConfigResource(resource_name=name, resource_type=kind) for kind, name in names]
    )
