"""How messages become dead letters: written there and synced first, settled here then, by what is written there.

What is in the dead letters' log behind ``dead_end`` has not been settled here yet, whoever wrote it and whatever came
in between: a crash, a full disk. So a message is neither lost on the way nor there twice.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from logstore.client.queue.engine import Engine, logger
from logstore.client.queue.messages import DeadLetter, Job, dead_headers, expires_at_ms
from logstore.client.queue.opening import find_buried
from logstore.client.queue.state import Pending, QueueState
from logstore.errors import LogstoreError
from logstore.format.queue_state import encode_event
from logstore.format.record import Record
from logstore.storage.partition import PartitionLog

if TYPE_CHECKING:
    from logstore.client.queue.dead_letters import DeadLetters

MAX_DELIVERIES = "max.deliveries"
EXPIRED = "expired"

_BATCH_SIZE_MAX = 8 << 20


class Doomed(NamedTuple):
    message: Pending
    record: Record
    reason: str


def doom(state: QueueState, message: Pending, record: Record, wall_ms: int) -> str | None:
    """Why a message that is ready becomes a dead letter, None where it does not."""
    expires_ms = expires_at_ms(record.headers)
    if expires_ms is None and state.config.ttl_ms >= 0:
        expires_ms = record.timestamp_ms + state.config.ttl_ms
    if expires_ms is not None and expires_ms <= wall_ms:
        return EXPIRED
    return MAX_DELIVERIES if state.is_spent(message) else None


class Burial:
    """See the module. ``open_letters`` makes the queue of dead letters where there is none."""

    def __init__(self, engine: Engine, open_letters: Callable[[], "DeadLetters"]) -> None:
        self._engine = engine
        self._open_letters = open_letters
        self._burying = threading.Lock()

    def bury(self, doomed: Sequence[Doomed]) -> None:
        """Make dead letters of messages that ``leave``; where that fails, they stay. Raises StorageFailure."""
        state = self._engine.state
        try:
            with self._burying:
                self._settle_buried(self._open_letters().log)
                left = [one for one in doomed if state.pending.get(one.message.offset) is one.message]
                while left:
                    left = left[self._append_letters(left) :]
                self._settle_buried(self._open_letters().log)
        except BaseException:
            with self._engine.lock:
                for one in doomed:
                    state.stay(one.message)
                self._engine.pass_on()
            raise

    def bury_beside(self, doomed: Sequence[Doomed], jobs: Sequence[Job]) -> None:
        """Bury what was found beside ``jobs``, which must come into their worker's hands whatever happens here. Raises
        StorageFailure where there are none."""
        try:
            self.bury(doomed)
        except LogstoreError as error:
            if not jobs:
                raise
            logger.error("queue %r: %d messages are no dead letters yet: %s", self._engine.name, len(doomed), error)

    def _append_letters(self, doomed: Sequence[Doomed]) -> int:
        """Write the first of them as one batch: how many they are."""
        size, count = 0, 0
        while count < len(doomed) and (not count or size < _BATCH_SIZE_MAX):
            record = doomed[count].record
            size += len(record.value or b"") + len(record.key or b"")
            count += 1
        batch = doomed[:count]
        self._open_letters().intake.take_in(
            [one.record.value for one in batch],
            [one.record.key for one in batch],
            [dead_headers(one.record.headers, self._letter(one)) for one in batch],
        )
        return count

    def _letter(self, doomed: Doomed) -> DeadLetter:
        record = doomed.record
        fixed = self._engine.name, self._engine.state.topic_id, record.offset, record.timestamp_ms
        return DeadLetter(doomed.reason, *fixed, doomed.message.deliveries, self._engine.wall_ms())

    def sync_buried(self, letters: PartitionLog) -> bool:
        """See that what the dead letters' log holds is settled here, on the disk: it may go there then. False where
        more are being written just now. Raises StorageFailure, PartitionOffline, Closed, UnknownTopic."""
        if not self._burying.acquire(blocking=False):  # who has it may be waiting for who asks
            return False
        try:
            self._settle_buried(letters)
            self._engine.journal.sync()
        finally:
            self._burying.release()
        return True

    def _settle_buried(self, log: PartitionLog) -> None:
        """Settle what the dead letters' log holds. Under the lock of burials."""
        engine, state = self._engine, self._engine.state
        end_offset = log.log_end_offset
        found = find_buried(log, state.dead_end, end_offset, state.topic_id)
        with engine.lock:
            settled = [buried for buried in found if buried.offset in state.pending]
            if settled:
                engine.journal.note([encode_event(buried) for buried in settled])
            for buried in settled:
                if buried.offset in state.pending:
                    state.settle(buried.offset)
            state.dead_end = end_offset
            if settled:
                engine.settled_some()
