"""Records of producers: each batch is appended when it comes, in the order of coming, and acknowledged as it asks.

With acks 1 a batch is acknowledged when it is in the page cache; with acks all, unless acks.all.durability says
otherwise, when it is on the disk, which it waits for together with all others of its log. With acks 0 nothing is said;
the connection ends where something was wrong, so that the client notices.

A batch that an idempotent producer sends again is acknowledged with the offset that it has.

A few KiB of a compressed batch may take a while to look through, and a request may have thousands: then the others have
their turn in between.
"""

from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from logstore.broker.refusal import Refused, told
from logstore.errors import InvalidRecord, LogstoreError
from logstore.format.record import Buffer
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.storage.partition import PartitionLog
from logstore.wire.api import ApiKey
from logstore.wire.error_codes import ErrorCode, error_code
from logstore.wire.messages.produce import (
    Batch,
    BatchIndexAndErrorMessage,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
    decode_batches,
    encode_appended,
)

if TYPE_CHECKING:
    from logstore.broker.broker import Broker
    from logstore.broker.requests import Turn

ACKS_ALL, ACKS_ONE, ACKS_NONE = -1, 1, 0
_FIRST_WITH_ZSTD = 7
_ZSTD = 4
_COMPRESSION, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20
_LOOKED_AT = _ZSTD | _TRANSACTIONAL | _CONTROL
_ATTRIBUTES = 22  # the position of their lower byte in a batch
_NONE = -1
_SLICE_S = 0.02  # for so long batches of one request are appended at once


class Outcome(NamedTuple):
    """What became of a batch: not the batch itself, which need not be in memory any more while its log is synced.
    ``log`` is None where it was refused, and ``error`` says why."""

    topic: str | UUID
    partition: int
    base_offset: int = _NONE
    log_append_time_ms: int = _NONE
    end_offset: int = _NONE
    log: PartitionLog | None = None
    code: int = 0
    error: Exception | None = None


def serve(broker: "Broker", frame: Buffer, position: int, version: int) -> "bytes | Unsynced | Appending":
    """The response's body, empty where none is wanted; or what has it once the batches are on the disk.

    Raises MalformedMessage, and Refused where nothing but the end of the connection tells the client.
    """
    _, acks, _, batches = decode_batches(frame, version, position)
    if acks == ACKS_ONE and len(batches) == 1:  # the shortest way, for what most requests are
        batch = batches[0]
        try:
            base_offset, append_time_ms, _, log = _append(broker, batch, version)
        except (LogstoreError, Refused) as error:
            return _encode([_refused(broker, batch.topic, batch.partition, error)], version)
        if not log.is_flush_due:
            return encode_appended(version, batch[0], batch[1], base_offset, append_time_ms, log.log_start_offset)
        outcomes = [Outcome(batch[0], batch[1], base_offset, append_time_ms, log.log_end_offset, log)]
    else:
        outcomes = []
        rest = _append_some(broker, batches, outcomes, acks, version)
        if rest:
            return Appending(broker, rest, outcomes, acks, version)
    return _completed(broker, outcomes, acks, version)


def _append_some(
    broker: "Broker", batches: Sequence[Batch], outcomes: list[Outcome], acks: int, version: int
) -> Sequence[Batch]:
    """Append batches until others should have their turn: those that are left."""
    end_s = monotonic() + _SLICE_S
    for number, batch in enumerate(batches, start=1):
        outcomes.append(_outcome(broker, batch, acks, version))
        if monotonic() > end_s:
            return batches[number:]
    return ()


def _completed(broker: "Broker", outcomes: list[Outcome], acks: int, version: int) -> "bytes | Unsynced":
    """As ``serve``, of batches that are all appended or refused."""
    if acks == ACKS_ALL and broker.waits_for_disk:
        return Unsynced(broker, outcomes, version)
    for outcome in outcomes:
        if outcome.log is not None and outcome.log.is_flush_due:
            return Unsynced(broker, outcomes, version, wants_response=acks != ACKS_NONE)
    return _encode(outcomes, version) if acks != ACKS_NONE else _silence(outcomes)


def _outcome(broker: "Broker", batch: Batch, acks: int, version: int) -> Outcome:
    try:
        if not ACKS_ALL <= acks <= ACKS_ONE:
            raise Refused(ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {acks}; it is -1, 0 or 1")
        return Outcome(batch.topic, batch.partition, *_append(broker, batch, version))
    except (LogstoreError, Refused) as error:
        return _refused(broker, batch.topic, batch.partition, error)


def _append(broker: "Broker", batch: Batch, version: int) -> tuple[int, int, int, PartitionLog]:
    """Base offset and append time of a batch, the offset behind it, and its log. Raises Refused, LogstoreError."""
    topic, partition, records = batch
    if topic == OFFSETS_TOPIC:
        raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{topic} is the broker's own")
    log = broker.store.opened_log(topic, partition)  # type: ignore[arg-type]  # topic ids are not advertised
    if records is None:
        raise Refused(ErrorCode.INVALID_RECORD, "there is no batch")
    if len(records) > _ATTRIBUTES and records[_ATTRIBUTES] & _LOOKED_AT:
        _check_attributes(records[_ATTRIBUTES], version)
    base_offset, last_offset, _, append_time_ms, is_duplicate = log.append_batch(records)
    end_offset = last_offset + 1
    if not is_duplicate:
        broker.metrics.produced(topic, end_offset - base_offset, len(records))  # type: ignore[arg-type]  # as above
    return base_offset, append_time_ms, end_offset, log


def _check_attributes(attributes: int, version: int) -> None:
    """Raises Refused for what an API of its own would have to come before, and for what no client writes."""
    if attributes & _CONTROL:
        raise Refused(ErrorCode.INVALID_RECORD, "control records are not for clients to write")
    if attributes & _COMPRESSION == _ZSTD and version < _FIRST_WITH_ZSTD:
        raise Refused(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce v7")
    if attributes & _TRANSACTIONAL:
        raise Refused(ErrorCode.INVALID_TXN_STATE, "no transaction is under way")


def _refused(broker: "Broker", topic: str | UUID, partition: int, error: Exception) -> Outcome:
    code = error.refusal.code if isinstance(error, Refused) else error_code(error)
    broker.metrics.error(ApiKey.PRODUCE, code)
    return Outcome(topic, partition, code=code, error=error)


def _silence(outcomes: Sequence[Outcome]) -> bytes:
    """No response at all, to who wants none. Raises Refused where that would hide something."""
    for outcome in outcomes:
        if outcome.code:
            raise Refused(ErrorCode(outcome.code), f"a batch sent with acks=0 was refused: {outcome.error}")
    return b""


def _encode(outcomes: Sequence[Outcome], version: int) -> bytes:
    if len(outcomes) == 1:
        topic, partition, base_offset, append_time_ms, _, log, _, _ = outcomes[0]
        if log is not None:
            return encode_appended(version, topic, partition, base_offset, append_time_ms, log.log_start_offset)
    topics: dict[Any, list[PartitionProduceResponse]] = {}
    for outcome in outcomes:
        topics.setdefault(outcome.topic, []).append(_partition_response(outcome))
    responses = [TopicProduceResponse(name=topic, partition_responses=found) for topic, found in topics.items()]
    return ProduceResponse(responses=responses).encode(version)


def _partition_response(outcome: Outcome) -> PartitionProduceResponse:
    error = outcome.error
    records = error.records if isinstance(error, InvalidRecord) else ()
    return PartitionProduceResponse(
        index=outcome.partition,
        error_code=outcome.code,
        base_offset=outcome.base_offset,
        log_append_time_ms=outcome.log_append_time_ms,
        log_start_offset=_NONE if outcome.log is None else outcome.log.log_start_offset,
        record_errors=[BatchIndexAndErrorMessage(number, reason) for number, reason in records],
        error_message=None if error is None else _message(error),
    )


def _message(error: Exception) -> str | None:
    return error.refusal.message if isinstance(error, Refused) else told(error)


class Appending:
    """A request whose batches are appended in several turns of the loop; what comes behind it waits.

    It has come whole, so all of it is appended, whether or not its client is still there; until then it counts among
    what is in memory."""

    __slots__ = ("_acks", "_broker", "_outcomes", "_rest", "_turn", "_version")

    def __init__(
        self, broker: "Broker", rest: Sequence[Batch], outcomes: list[Outcome], acks: int, version: int
    ) -> None:
        self._broker, self._outcomes, self._acks, self._version = broker, outcomes, acks, version
        # The frame that they are in is gone when the loop is.
        self._rest: Sequence[Batch] = [
            batch if batch.records is None else batch._replace(records=bytes(batch.records)) for batch in rest
        ]

    def answer(self, turn: "Turn") -> None:
        """Give the turn its response, once there is one."""
        self._turn = turn
        turn.may_overlap = False
        self._broker.memory.hold(self, sum(len(batch.records or b"") for batch in self._rest))
        self._broker.loop.call_soon(turn.attempt, self._go_on)

    def _go_on(self) -> None:
        broker, turn = self._broker, self._turn
        try:
            self._rest = _append_some(broker, self._rest, self._outcomes, self._acks, self._version)
        except BaseException:
            broker.memory.hold(self, 0)
            raise
        if self._rest:
            broker.loop.call_soon(turn.attempt, self._go_on)
            return
        broker.memory.hold(self, 0)
        turn.may_overlap = True
        completed = _completed(broker, self._outcomes, self._acks, self._version)
        if isinstance(completed, bytes):
            turn.answer(completed)
        else:
            completed.answer(turn)


class Unsynced:
    """A request whose batches are to be on the disk before it is answered."""

    __slots__ = ("_broker", "_count", "_outcomes", "_turn", "_version", "_wants_response")

    def __init__(self, broker: "Broker", outcomes: list[Outcome], version: int, wants_response: bool = True) -> None:
        self._broker, self._outcomes = broker, outcomes
        self._version, self._wants_response = version, wants_response
        self._count = len(outcomes)  # of those that are not settled

    def answer(self, turn: "Turn") -> None:
        """Give the turn its response, once there is one."""
        self._turn = turn
        if not self._outcomes:
            self._finish()
        for number, outcome in enumerate(self._outcomes):
            if outcome.log is None:
                self._settle(number, None)
            else:
                settle = partial(turn.attempt, self._settle, number)
                self._broker.syncs.when_synced(outcome.log, outcome.end_offset, settle)

    def _settle(self, number: int, error: Exception | None) -> None:
        if error is not None:
            outcome = self._outcomes[number]
            self._outcomes[number] = _refused(self._broker, outcome.topic, outcome.partition, error)
        self._count -= 1
        if not self._count and self._turn.response is None:
            self._finish()

    def _finish(self) -> None:
        self._turn.answer(_encode(self._outcomes, self._version) if self._wants_response else _silence(self._outcomes))
