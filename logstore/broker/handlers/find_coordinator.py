"""FindCoordinator: this broker coordinates all groups, and will all transactions."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code, ready_groups
from logstore.errors import LogstoreError
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.find_coordinator import Coordinator, FindCoordinatorRequest, FindCoordinatorResponse

_GROUP, _TRANSACTION = 0, 1  # key types; 2, of share groups, is not known here
_FIRST_BATCHED_VERSION = 4


async def handle(broker: Broker, request: FindCoordinatorRequest, context: RequestContext) -> FindCoordinatorResponse:
    error = ErrorCode.NONE
    if request.key_type == _GROUP:
        try:
            await ready_groups(broker)
        except LogstoreError as failure:
            error = group_error_code(failure)
    elif request.key_type != _TRANSACTION:
        error = ErrorCode.INVALID_REQUEST
    node_id, host, port = (-1, "", -1) if error else (broker.node_id, broker.host, broker.port)
    if context.api_version < _FIRST_BATCHED_VERSION:
        return FindCoordinatorResponse(error_code=error, error_message=None, node_id=node_id, host=host, port=port)
    return FindCoordinatorResponse(
        coordinators=[
            Coordinator(key=key, node_id=node_id, host=host, port=port, error_code=error, error_message=None)
            for key in request.coordinator_keys
        ]
    )
