"""IncrementalAlterConfigs: settings changed one by one; those that are not named stay. All of a resource or none."""

from collections.abc import Sequence
from enum import IntEnum

from logstore.broker.broker import Broker
from logstore.broker.config_changes import Current, alter_all
from logstore.broker.context import RequestContext
from logstore.broker.refusal import Refused
from logstore.settings import as_text
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)


class Operation(IntEnum):
    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


async def handle(
    broker: Broker, request: IncrementalAlterConfigsRequest, context: RequestContext
) -> IncrementalAlterConfigsResponse:
    done = await broker.run(alter_all, broker, request, _changes)
    return IncrementalAlterConfigsResponse(
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


def _changes(current: Current, configs: Sequence[AlterableConfig]) -> dict[str, str | None]:
    valued = [config for config in configs if config.config_operation != Operation.DELETE]
    if without := [config.name for config in valued if config.value is None]:
        raise Refused(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {','.join(without)}")
    return {config.name: _new_value(current, config) for config in configs}


def _new_value(current: Current, config: AlterableConfig) -> str | None:
    match config.config_operation:
        case Operation.SET:
            return config.value
        case Operation.DELETE:
            return None
        case Operation.APPEND | Operation.SUBTRACT:
            return _new_list(current, config)
        case other:
            raise Refused(ErrorCode.INVALID_REQUEST, f"{other} is no operation on settings: SET is 0, DELETE 1")


def _new_list(current: Current, config: AlterableConfig) -> str:
    row = current.kind.row(config.name)
    operation = Operation(config.config_operation)
    if row.type != "list":
        message = f"Can't {operation.name} to key {config.name} because its type is not LIST."
        raise Refused(ErrorCode.INVALID_CONFIG, message)
    own = current.own.get(row.name)
    words = (as_text(getattr(current.config, row.field)) if own is None else own).split(",")
    given = [word.strip() for word in (config.value or "").split(",")]
    if operation is Operation.APPEND:
        words += [word for word in given if word not in words]
    else:
        words = [word for word in words if word not in given]
    return ",".join(word for word in words if word)
