"""DescribeLogDirs: the data directory, how much is free where it is, and the size of each partition."""

from collections.abc import Iterable

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.errors import LogstoreError
from logstore.storage import files
from logstore.wire.error_codes import error_code
from logstore.wire.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)


async def handle(broker: Broker, request: DescribeLogDirsRequest, context: RequestContext) -> DescribeLogDirsResponse:
    return DescribeLogDirsResponse(results=[await broker.run(_described, broker, request)])


def _described(broker: Broker, request: DescribeLogDirsRequest) -> DescribeLogDirsResult:
    result = DescribeLogDirsResult(log_dir=str(broker.store.path.absolute()))
    try:
        result.total_bytes, result.usable_bytes = files.disk_space(broker.store.path)
    except LogstoreError as error:
        result.error_code = error_code(error)
        return result
    result.topics = [
        DescribeLogDirsTopic(name=name, partitions=partitions)
        for name, numbers in _wanted(broker, request).items()
        if (partitions := _partitions(broker, name, numbers))
    ]
    return result


def _wanted(broker: Broker, request: DescribeLogDirsRequest) -> dict[str, Iterable[int]]:
    if request.topics is None:
        return {topic.name: range(topic.partitions) for topic in broker.store.topics()}
    wanted: dict[str, dict[int, None]] = {}
    for topic in request.topics:
        wanted.setdefault(topic.topic, {}).update(dict.fromkeys(topic.partitions))
    return dict(wanted)


def _partitions(broker: Broker, topic: str, numbers: Iterable[int]) -> list[DescribeLogDirsPartition]:
    """Those that are there: Kafka says nothing of the others."""
    found = []
    for number in numbers:
        try:
            size = broker.store.opened_log(topic, number).view.size
        except LogstoreError:
            continue
        found.append(DescribeLogDirsPartition(partition_index=number, partition_size=size))
    return found
