"""Fetch sessions (KIP-227): a consumer of many partitions says only what has changed, and is told only that.

Owns the sessions of all connections, and which of them is let go for a new one. Nothing is kept anywhere else: a client
whose session is gone is told so, and begins one anew; where there is no room it goes on without one. There is room for
a number of sessions, and of partitions in all of them: those outlive the connections that named them. One session has
no more partitions than a request could name, since a few bytes have all of them looked at. The event loop's thread
calls this.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from logstore.wire.error_codes import ErrorCode
from logstore.wire.primitives import REQUEST_ELEMENTS_MAX

NO_SESSION = 0
INITIAL_EPOCH = 0  # of a request that asks for a new session
FINAL_EPOCH = -1  # of one that wants none, and ends the one that it names
EVICTION_S = 120.0  # Kafka's: a session that was used within this time is not let go for another
PARTITIONS_MAX = 500_000  # of all sessions together: some 150 MB
_ID_MAX = 2**31 - 1
_EPOCH_MAX = 2**31 - 1

# A partition as a client names it: with the topic's name, or from Fetch v13 on with its id.
FetchKey = tuple[str | UUID, int]


class FetchPartition:
    """A partition that is fetched. ``told`` is what its client was last told of it: error code, high watermark, last
    stable offset and log start offset. ``topic`` is its name; where only the id is known, "" until it is looked up."""

    __slots__ = ("current_leader_epoch", "fetch_offset", "key", "max_bytes", "partition", "told", "topic", "topic_id")

    def __init__(
        self, topic: str | UUID, partition: int, fetch_offset: int, max_bytes: int, current_leader_epoch: int = -1
    ) -> None:
        self.key: FetchKey = (topic, partition)
        self.topic = topic if isinstance(topic, str) else ""
        self.topic_id = topic if isinstance(topic, UUID) else None
        self.partition = partition
        self.fetch_offset, self.max_bytes, self.current_leader_epoch = fetch_offset, max_bytes, current_leader_epoch
        self.told: tuple[object, ...] = ()

    def update(self, other: "FetchPartition") -> None:
        """Take over what the client asks for now."""
        self.fetch_offset, self.max_bytes = other.fetch_offset, other.max_bytes
        self.current_leader_epoch = other.current_leader_epoch


class FetchSession:
    """``partitions`` in the order in which they are read: those that had records go to the end."""

    __slots__ = ("epoch", "id", "partitions", "used_s", "uses_topic_ids")

    def __init__(self, session_id: int, partitions: dict[FetchKey, FetchPartition], uses_topic_ids: bool) -> None:
        self.id = session_id
        self.epoch = 1
        self.partitions = partitions
        self.uses_topic_ids = uses_topic_ids
        self.used_s = 0.0

    def change(self, changed: Iterable[FetchPartition], forgotten: Iterable[FetchKey]) -> None:
        for partition in changed:
            known = self.partitions.get(partition.key)
            if known is None:
                self.partitions[partition.key] = partition
            else:
                known.update(partition)
        for key in forgotten:
            self.partitions.pop(key, None)

    def move_to_end(self, partition: FetchPartition) -> None:
        """So that those behind it have their turn when there is more than fits one response. Another connection that
        names the session may have let it be forgotten meanwhile."""
        if self.partitions.pop(partition.key, None) is not None:
            self.partitions[partition.key] = partition


class FetchPlan(NamedTuple):
    """What to fetch: all of ``partitions``. With ``is_incremental`` the client is told only of those that have changed;
    ``session`` is None where there is none, and ``error`` says why nothing is fetched."""

    partitions: Mapping[FetchKey, FetchPartition]
    session: FetchSession | None = None
    is_incremental: bool = False
    error: ErrorCode = ErrorCode.NONE

    @property
    def session_id(self) -> int:
        return NO_SESSION if self.session is None else self.session.id


class FetchSessions:
    """At most ``slots`` of them."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._sessions: dict[int, FetchSession] = {}  # those that were not used for longest first
        self._partition_count = 0  # of all of them

    def __len__(self) -> int:
        return len(self._sessions)

    def plan(
        self,
        session_id: int,
        epoch: int,
        asked: dict[FetchKey, FetchPartition],
        forgotten: Iterable[FetchKey],
        now_s: float,
        *,
        uses_topic_ids: bool = False,
    ) -> FetchPlan:
        """What a request asks for. ``now_s`` is monotonic."""
        if epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            self._end(session_id)
            session = self._begin(asked, uses_topic_ids, now_s) if epoch == INITIAL_EPOCH and asked else None
            return FetchPlan(asked, session)
        found = self._sessions.get(session_id)
        if found is None:
            return FetchPlan({}, error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if found.epoch != epoch:
            return FetchPlan({}, error=ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if found.uses_topic_ids != uses_topic_ids:
            return FetchPlan({}, error=ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        if asked or forgotten:
            self._partition_count -= len(found.partitions)
            found.change(asked.values(), forgotten)
            self._partition_count += len(found.partitions)
        if not found.partitions:
            self._end(session_id)
            return FetchPlan({})
        if self._partition_count > PARTITIONS_MAX or len(found.partitions) > REQUEST_ELEMENTS_MAX:
            self._end(session_id)
            return FetchPlan({}, error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        found.epoch = epoch + 1 if epoch < _EPOCH_MAX else 1
        self._touch(found, now_s)
        return FetchPlan(found.partitions, found, is_incremental=True)

    def _begin(
        self, partitions: dict[FetchKey, FetchPartition], uses_topic_ids: bool, now_s: float
    ) -> FetchSession | None:
        """None where there is no room: then all is well without a session."""
        while len(self._sessions) >= self._slots or self._partition_count + len(partitions) > PARTITIONS_MAX:
            oldest = next(iter(self._sessions.values()), None)
            if oldest is None or now_s - oldest.used_s < EVICTION_S:
                return None
            self._end(oldest.id)
        session_id = NO_SESSION
        while session_id == NO_SESSION or session_id in self._sessions:
            session_id = secrets.randbelow(_ID_MAX) + 1
        session = FetchSession(session_id, partitions, uses_topic_ids)
        self._partition_count += len(partitions)
        self._touch(session, now_s)
        return session

    def _end(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._partition_count -= len(session.partitions)

    def _touch(self, session: FetchSession, now_s: float) -> None:
        session.used_s = now_s
        self._sessions.pop(session.id, None)
        self._sessions[session.id] = session
