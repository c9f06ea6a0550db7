"""AlterConfigs: a resource's own settings are what is given, and no others. Clients of today change them one by one
(IncrementalAlterConfigs); older ones know only this."""

from collections.abc import Mapping, Sequence

from logstore.broker.broker import Broker
from logstore.broker.config_changes import Current, alter_all
from logstore.broker.context import RequestContext
from logstore.broker.refusal import Refused
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.alter_configs import (
    AlterableConfig,
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)


async def handle(broker: Broker, request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
    done = await broker.run(alter_all, broker, request, _changes)
    return AlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                error_code=refusal.code,
                error_message=refusal.message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource, refusal in done
        ]
    )


def _changes(current: Current, configs: Sequence[AlterableConfig]) -> Mapping[str, str | None]:
    if without := [config.name for config in configs if config.value is None]:
        raise Refused(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {','.join(without)}")
    return {**dict.fromkeys(current.own), **{config.name: config.value for config in configs}}
