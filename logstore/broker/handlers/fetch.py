"""Records for consumers: what there is from an offset on, or, where that is too little, what comes within a time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from logstore.broker.delayed_fetches import DelayedFetch
from logstore.broker.fetch_sessions import FetchKey, FetchPartition, FetchPlan
from logstore.broker.fetching import Fetch, Fetched, fetch
from logstore.format.record import Buffer
from logstore.wire.messages.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)

if TYPE_CHECKING:
    from logstore.broker.broker import Broker
    from logstore.broker.requests import Turn

_FIRST_WITH_TOPIC_IDS = 13
_READ_COMMITTED = 1


def serve(broker: "Broker", frame: Buffer, position: int, version: int) -> "Fetching":
    """What has the response, once there is enough. Raises MalformedMessage."""
    return Fetching(broker, FetchRequest.decode(frame, version, position), version)


class Fetching:
    """One request, until it is answered."""

    __slots__ = ("_broker", "_max_bytes", "_min_bytes", "_plan", "_reads_committed", "_request", "_turn", "_version")

    def __init__(self, broker: "Broker", request: FetchRequest, version: int) -> None:
        self._broker, self._request, self._version = broker, request, version
        self._reads_committed = request.isolation_level == _READ_COMMITTED
        self._max_bytes = min(request.max_bytes, broker.config.fetch_max_bytes)
        self._min_bytes = min(request.min_bytes, self._max_bytes)
        self._plan = self._planned()

    def _planned(self) -> FetchPlan:
        request, uses_topic_ids = self._request, self._version >= _FIRST_WITH_TOPIC_IDS
        asked: dict[FetchKey, FetchPartition] = {}
        for topic in request.topics:
            name, topic_id = ("", topic.topic_id) if uses_topic_ids else (topic.topic, None)
            for part in topic.partitions:
                asked[topic_id or name, part.partition] = FetchPartition(
                    name,
                    topic_id,
                    part.partition,
                    part.fetch_offset,
                    part.partition_max_bytes,
                    part.current_leader_epoch,
                )
        forgotten: list[FetchKey] = [
            (topic.topic_id if uses_topic_ids else topic.topic, partition)
            for topic in request.forgotten_topics_data
            for partition in topic.partitions
        ]
        return self._broker.fetch_sessions.plan(
            request.session_id,
            request.session_epoch,
            asked,
            forgotten,
            self._broker.loop.time(),
            uses_topic_ids=uses_topic_ids,
        )

    def answer(self, turn: "Turn") -> None:
        """Give the turn its response, now or later."""
        self._turn = turn
        found = self._look()
        if self._request.max_wait_ms <= 0 or not self._plan.partitions or self._is_enough(found):
            self._answer(found)
            return
        delayed = DelayedFetch(
            self._broker.loop, self._broker.delayed_fetches, self._look, self._is_enough, self._answer
        )
        self._turn.on_abandoned = delayed.cancel
        delayed.wait(found, self._request.max_wait_ms / 1000)

    def _look(self) -> Fetch:
        return fetch(self._broker, self._plan.partitions.values(), self._max_bytes, self._reads_committed)

    def _is_enough(self, found: Fetch) -> bool:
        return found.size >= self._min_bytes or found.has_error

    def _answer(self, found: Fetch) -> None:
        plan = self._plan
        told = [fetched for fetched in found.fetched if fetched.is_news] if plan.is_incremental else found.fetched
        for fetched in told:
            fetched.partition.told = fetched.state
            if fetched.records is not None:
                self._broker.metrics.fetched(fetched.partition.topic, fetched.records.size)
                if plan.session is not None:
                    plan.session.move_to_end(fetched.partition)
        response = FetchResponse(error_code=plan.error, session_id=plan.session_id, responses=self._topics(told))
        self._turn.answer(response.encode(self._version))

    def _topics(self, told: Sequence[Fetched]) -> list[FetchableTopicResponse]:
        """Grouped by topic, in the order of what was read."""
        topics: dict[Any, list[PartitionData]] = {}
        for fetched in told:
            partition = fetched.partition
            topics.setdefault(partition.key[0], []).append(
                PartitionData(
                    partition_index=partition.partition,
                    error_code=fetched.error,
                    high_watermark=fetched.high_watermark,
                    last_stable_offset=fetched.last_stable_offset,
                    log_start_offset=fetched.log_start_offset,
                    aborted_transactions=[] if self._reads_committed else None,
                    records=fetched.records.read() if fetched.records else b"",
                )
            )
        if self._version >= _FIRST_WITH_TOPIC_IDS:
            return [FetchableTopicResponse(topic_id=key, partitions=found) for key, found in topics.items()]
        return [FetchableTopicResponse(topic=key, partitions=found) for key, found in topics.items()]
