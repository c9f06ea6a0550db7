"""Which APIs this broker has, in which versions: those of the table that there are handlers for."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.dispatch import HANDLERS
from logstore.wire.api import APIS
from logstore.wire.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse


def handle(broker: Broker, request: ApiVersionsRequest, context: RequestContext) -> ApiVersionsResponse:
    return ApiVersionsResponse(
        api_keys=[
            ApiVersion(api_key=api.key, min_version=api.advertised[0], max_version=api.advertised[1])
            for api in APIS.values()
            if api.key in HANDLERS
        ]
    )
