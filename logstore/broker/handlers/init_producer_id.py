"""An id for an idempotent producer, which it has for its life: nobody was ever given the same.

Transactions are not served: who asks for them is told, with the error that no client tries again after.
"""

from collections.abc import Coroutine
from typing import Any

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

_FIRST_EPOCH = 0


def handle(
    broker: Broker, request: InitProducerIdRequest, context: RequestContext
) -> InitProducerIdResponse | Coroutine[Any, Any, InitProducerIdResponse]:
    if request.transactional_id is not None:
        is_named = bool(request.transactional_id)
        code = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED if is_named else ErrorCode.INVALID_REQUEST
        return InitProducerIdResponse(error_code=code, producer_epoch=-1)
    if broker.producer_ids.is_ready:
        return _response(broker.producer_ids.next_id())
    return _take(broker)


async def _take(broker: Broker) -> InitProducerIdResponse:
    return _response(await broker.read(broker.producer_ids.next_id))


def _response(producer_id: int) -> InitProducerIdResponse:
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=_FIRST_EPOCH)
