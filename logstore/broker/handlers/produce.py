"""Records of producers: each batch is appended when it comes, in the order of coming, and acknowledged as it asks.

With acks 1 a batch is acknowledged when it is in the page cache; with acks all, unless acks.all.durability says
otherwise, when it is on the disk, which it waits for together with all others of its log. With acks 0 nothing is said;
the connection ends where something was wrong, so that the client notices.

A batch that an idempotent producer sends again is acknowledged with the offset that it has.
"""

from typing import TYPE_CHECKING

from logstore.errors import LogstoreError
from logstore.format.record import Buffer
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.storage.partition import PartitionLog
from logstore.wire.api import ApiKey
from logstore.wire.error_codes import ErrorCode, error_code
from logstore.wire.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)

if TYPE_CHECKING:
    from logstore.broker.broker import Broker
    from logstore.broker.requests import Turn

ACKS_ALL, ACKS_ONE, ACKS_NONE = -1, 1, 0
_FIRST_WITH_ZSTD = 7
_ZSTD = 4
_COMPRESSION, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20
_LENGTH, _MAGIC, _ATTRIBUTES = slice(8, 12), 16, 22  # where they are in a batch; of the attributes, the lower byte
_FRAME_SIZE, _HEADER_SIZE = 12, 61
_NO_OFFSET = -1


class Refused(Exception):
    """A batch that is not looked at any further: ``code`` says why."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def serve(broker: "Broker", frame: Buffer, position: int, version: int, turn: "Turn") -> None:
    """Answer a request, at once or when its batches are on the disk. Raises MalformedMessage."""
    request = ProduceRequest.decode(frame, version, position)
    unsynced: list[tuple[PartitionLog, int, PartitionProduceResponse]] = []
    responses = []
    has_failed = False
    for topic in request.topic_data:
        partitions = []
        for data in topic.partition_data:
            try:
                if request.acks not in (ACKS_ALL, ACKS_ONE, ACKS_NONE):
                    raise Refused(ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {request.acks}; it is -1, 0 or 1")
                response, log, end_offset = _append(broker, topic.name, data, version)
                unsynced.append((log, end_offset, response))
            except (LogstoreError, Refused) as error:
                has_failed = True
                response = _failed(broker, data.index, error)
            partitions.append(response)
        responses.append(TopicProduceResponse(name=topic.name, partition_responses=partitions))
    if request.acks == ACKS_NONE:
        turn.answer_nothing()
        if has_failed:
            turn.connection.drop(ValueError("a batch sent with acks=0 was refused"))
        return
    if request.acks == ACKS_ALL and broker.config.acks_all_durability == "fsync":
        _Pending(broker, unsynced, ProduceResponse(responses=responses), version, turn).wait()
    else:
        turn.answer(ProduceResponse(responses=responses).encode(version))


def _append(
    broker: "Broker", topic: str, data: PartitionProduceData, version: int
) -> tuple[PartitionProduceResponse, PartitionLog, int]:
    """The response of a batch that was appended, its log, and the offset behind it."""
    if topic == OFFSETS_TOPIC:
        raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{topic} is the broker's own")
    log = broker.store.log(topic, data.index)
    records = data.records
    if records is None:
        raise Refused(ErrorCode.INVALID_RECORD, "there is no batch")
    _check_one_batch(records, version)
    appended = log.append_batches(records)[0]
    broker.metrics.produced(topic, appended.last_offset - appended.base_offset + 1, len(records))
    response = PartitionProduceResponse(
        index=data.index,
        base_offset=appended.base_offset,
        log_start_offset=log.log_start_offset,
        log_append_time_ms=appended.timestamp_ms if log.config.message_timestamp_type == "LogAppendTime" else -1,
    )
    return response, log, appended.last_offset + 1


def _check_one_batch(records: Buffer, version: int) -> None:
    """Raises Refused for what Kafka takes from no client, before anything else of the batch is looked at."""
    size = len(records)
    if size <= _MAGIC:
        raise Refused(ErrorCode.CORRUPT_MESSAGE, f"{size} bytes are no batch")
    if records[_MAGIC] in (0, 1):
        raise Refused(ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, f"message format v{records[_MAGIC]} is not taken")
    if size < _HEADER_SIZE:
        raise Refused(ErrorCode.CORRUPT_MESSAGE, f"{size} bytes are no batch")
    batch_size = int.from_bytes(records[_LENGTH], "big") + _FRAME_SIZE
    if batch_size < size:
        raise Refused(ErrorCode.INVALID_RECORD, "a produce request has exactly one batch a partition")
    attributes = records[_ATTRIBUTES]
    if attributes & _COMPRESSION == _ZSTD and version < _FIRST_WITH_ZSTD:
        raise Refused(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce v7")
    if attributes & _CONTROL:
        raise Refused(ErrorCode.INVALID_RECORD, "control batches are not for clients to write")
    if attributes & _TRANSACTIONAL:
        raise Refused(ErrorCode.INVALID_TXN_STATE, "no transaction is under way")


def _failed(broker: "Broker", partition: int, error: Exception) -> PartitionProduceResponse:
    code = error.code if isinstance(error, Refused) else error_code(error)
    broker.metrics.error(ApiKey.PRODUCE, code)
    batch_errors = [BatchIndexAndErrorMessage(batch_index_error_message=str(error))]
    return PartitionProduceResponse(
        index=partition,
        error_code=code,
        base_offset=_NO_OFFSET,
        record_errors=batch_errors if code in (ErrorCode.INVALID_RECORD, ErrorCode.INVALID_TIMESTAMP) else [],
        error_message=str(error),
    )


class _Pending:
    """A request of which some batches are not on the disk yet."""

    __slots__ = ("_broker", "_count", "_response", "_turn", "_unsynced", "_version")

    def __init__(
        self,
        broker: "Broker",
        unsynced: list[tuple[PartitionLog, int, PartitionProduceResponse]],
        response: ProduceResponse,
        version: int,
        turn: "Turn",
    ) -> None:
        self._broker, self._unsynced = broker, unsynced
        self._response, self._version, self._turn = response, version, turn
        self._count = len(unsynced) + 1

    def wait(self) -> None:
        for log, end_offset, partition in self._unsynced:

            def on_synced(error: LogstoreError | None, partition: PartitionProduceResponse = partition) -> None:
                if error is not None:
                    failed = _failed(self._broker, partition.index, error)
                    partition.error_code, partition.base_offset = failed.error_code, failed.base_offset
                    partition.error_message = failed.error_message
                self._settle_one()

            self._broker.syncs.when_synced(log, end_offset, on_synced)
        self._settle_one()

    def _settle_one(self) -> None:
        self._count -= 1
        if not self._count and self._turn.response is None:
            self._turn.answer(self._response.encode(self._version))
