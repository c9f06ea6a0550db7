"""What the handlers of groups share: a coordinator that is ready, its replies as awaitables, its errors as codes.

The coordinator is called in the event loop's thread; nothing that it does there waits for the disk.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import TypeVar
from uuid import UUID

from logstore.broker.broker import Broker
from logstore.errors import LogstoreError
from logstore.format.group_records import Partitions
from logstore.groups.coordinator import GroupCoordinator
from logstore.wire.error_codes import ErrorCode, error_code

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")

# What group clients make of the codes that the table gives: these are fatal to them, though trying again may help.
_OF_COORDINATOR: Mapping[ErrorCode, ErrorCode] = {
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,  # the topic of the groups, that is
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
}


def group_error_code(error: LogstoreError) -> ErrorCode:
    """What a member, or who asks about a group, is told of an error that concerns the whole group."""
    code = error_code(error)
    return _OF_COORDINATOR.get(code, code)


async def ready_groups(broker: Broker) -> GroupCoordinator:
    """The coordinator, once there is a topic to store groups in, which is made in another thread. Raises
    StorageFailure, DamagedTopic, Closed."""
    groups = broker.groups
    if not groups.is_ready:
        await broker.run(groups.get_ready)
    return groups


async def reply_of(
    ask: Callable[[_Request, Callable[[_Reply | LogstoreError], None]], None], request: _Request
) -> _Reply | LogstoreError:
    """What ``ask``, a coordinator's join or sync, replies to a request, whenever and in whatever thread it does."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_Reply | LogstoreError] = loop.create_future()

    def settle(reply: _Reply | LogstoreError) -> None:
        if not answer.done():  # else the connection is gone
            answer.set_result(reply)

    def take(reply: _Reply | LogstoreError) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, reply)

    ask(request, take)
    del request  # the coordinator keeps what it needs of it
    return await answer


def numbers_by_topic(partitions: Partitions) -> dict[UUID, list[int]]:
    """The numbers of a topic's partitions, in order."""
    found: dict[UUID, list[int]] = {}
    for topic_id, number in sorted(partitions):
        found.setdefault(topic_id, []).append(number)
    return found


def client_host_of(host: str) -> str:
    """As Kafka's tools show it."""
    return f"/{host}"
