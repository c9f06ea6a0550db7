"""Records for consumers: what there is from an offset on, or, where that is too little, what comes within a time."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from logstore.broker.delayed_fetches import DelayedFetch
from logstore.broker.fetch_sessions import FetchKey, FetchPartition
from logstore.broker.fetching import Cold, Fetch, Fetched, fetch, needs_aborted, with_aborted
from logstore.format.record import Buffer
from logstore.storage.file_slice import FileSlice
from logstore.wire.messages.fetch import Read, decode_request, encode_response

if TYPE_CHECKING:
    from logstore.broker.broker import Broker
    from logstore.broker.requests import Turn

_FIRST_WITH_TOPIC_IDS = 13
_READ_COMMITTED = 1


def serve(broker: "Broker", frame: Buffer, position: int, version: int) -> "Fetching":
    """What has the response, once there is enough. Raises MalformedMessage."""
    return Fetching(broker, frame, position, version)


class Fetching:
    """One request, until it is answered."""

    __slots__ = (
        *("_broker", "_max_bytes", "_max_wait_ms", "_min_bytes", "_plan", "_reads_committed", "_turn", "_version"),
    )

    def __init__(self, broker: "Broker", frame: Buffer, position: int, version: int) -> None:
        self._broker, self._version = broker, version
        wants = decode_request(frame, version, position)
        self._max_wait_ms = wants.max_wait_ms
        self._reads_committed = wants.isolation_level == _READ_COMMITTED
        self._max_bytes = min(wants.max_bytes, broker.config.fetch_max_bytes)
        self._min_bytes = min(wants.min_bytes, self._max_bytes)
        asked: dict[FetchKey, FetchPartition] = {}
        for topic, partition, leader_epoch, fetch_offset, _, _, max_bytes in wants.wanted:
            asked[topic, partition] = FetchPartition(topic, partition, fetch_offset, max_bytes, leader_epoch)
        self._plan = broker.fetch_sessions.plan(
            *(wants.session_id, wants.session_epoch, asked, wants.forgotten, broker.loop.time()),
            uses_topic_ids=version >= _FIRST_WITH_TOPIC_IDS,
        )

    def answer(self, turn: "Turn") -> None:
        """Give the turn its response, now or later."""
        self._turn = turn
        found = self._look(may_wait=False)
        if found.cold:
            warmed = self._broker.read(_warm, found.cold)
            warmed.add_done_callback(partial(turn.attempt, self._go_on_warm))
        else:
            self._answer_or_wait(found)

    def _go_on_warm(self, warmed: "asyncio.Future[None]") -> None:
        warmed.result()
        self._answer_or_wait(self._look())

    def _answer_or_wait(self, found: Fetch) -> None:
        if self._max_wait_ms <= 0 or self._is_enough(found) or not found.fetched:
            self._complete(found)
        elif self._turn.response is None:
            broker, turn = self._broker, self._turn
            delayed = DelayedFetch(
                *(broker.loop, broker.delayed_fetches, self._look, self._is_enough, self._complete, turn.attempt)
            )
            turn.on_abandoned = delayed.cancel
            delayed.wait(found, self._max_wait_ms / 1000)

    def _look(self, *, may_wait: bool = True) -> Fetch:
        """Whoever waits for records asks for those that come last, which are in memory: it may wait for them."""
        return fetch(
            self._broker,
            self._plan.partitions.values(),
            self._max_bytes,
            reads_committed=self._reads_committed,
            may_wait=may_wait,
        )

    def _is_enough(self, found: Fetch) -> bool:
        return found.size >= self._min_bytes or found.has_error

    def _complete(self, found: Fetch) -> None:
        """Answer, once it is known which records were of transactions that were aborted."""
        if self._reads_committed and any(map(needs_aborted, found.fetched)):
            completed = self._broker.read(_with_aborted, found)
            completed.add_done_callback(partial(self._turn.attempt, self._answer_completed))
        else:
            self._answer(found)

    def _answer_completed(self, completed: "asyncio.Future[Fetch]") -> None:
        self._answer(completed.result())

    def _answer(self, found: Fetch) -> None:
        if self._turn.response is not None:  # the connection has ended meanwhile
            return
        plan, session = self._plan, self._plan.session
        topics: dict[str | UUID, list[Read[FileSlice]]] = {}
        for fetched in found.fetched:
            partition, read, _ = fetched
            if session is not None:
                if plan.is_incremental and not _is_news(fetched):
                    continue
                partition.told = read[1:5]
                if read.records is not None:
                    session.move_to_end(partition)
            if read.records is not None:
                self._broker.metrics.fetched(partition.topic, read.records.size)
            of_topic = topics.get(partition.key[0])
            if of_topic is None:
                topics[partition.key[0]] = [read]
            else:
                of_topic.append(read)
        pieces, size = encode_response(topics.items(), self._version, error_code=plan.error, session_id=plan.session_id)
        self._turn.answer_with_pieces(pieces, size)


def _warm(cold: list[Cold]) -> None:
    for each in cold:
        each.warm()


def _with_aborted(found: Fetch) -> Fetch:
    return found._replace(fetched=[with_aborted(each) if needs_aborted(each) else each for each in found.fetched])


def _is_news(fetched: Fetched) -> bool:
    """Whether a client that has a session must be told: of records, an error, or offsets that have moved."""
    read: Any = fetched.read
    return read.records is not None or read.error_code or read[1:5] != fetched.partition.told
