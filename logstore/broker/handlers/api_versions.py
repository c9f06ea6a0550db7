"""Which APIs this broker has, in which versions: those of the table that there are handlers for."""

import re

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.dispatch import HANDLERS
from logstore.wire.api import APIS
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse

_FIRST_WITH_SOFTWARE = 3
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")  # Kafka's, of its name and of its version


def handle(broker: Broker, request: ApiVersionsRequest, context: RequestContext) -> ApiVersionsResponse:
    software = (request.client_software_name, request.client_software_version)
    if context.api_version >= _FIRST_WITH_SOFTWARE and not all(map(_SOFTWARE.fullmatch, software)):
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    return ApiVersionsResponse(
        api_keys=[
            ApiVersion(api_key=api.key, min_version=api.advertised[0], max_version=api.advertised[1])
            for api in APIS.values()
            if api.key in HANDLERS
        ]
    )
