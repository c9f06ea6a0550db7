"""How messages become dead letters: written there and synced first, settled here then, by what is written there.

What is in the dead letters' log behind ``dead_end`` has not been settled here yet, whoever wrote it and whatever came
in between: a crash, a full disk. So a message is neither lost on the way nor there twice.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from logstore.client.queue.core import QueueCore
from logstore.client.queue.messages import DeadLetter, dead_headers, expires_at_ms
from logstore.client.queue.opening import find_buried
from logstore.client.queue.state import Pending, QueueState
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


class Burial(QueueCore):
    """See the module."""

    def __init__(self, *arguments: Any, open_letters: Callable[[], "DeadLetters"], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._open_letters = open_letters
        self._burying = threading.Lock()

    @property
    def dead_letters(self) -> "DeadLetters":
        """The queue of those that were handed out too often, or too late. Made when it is first needed."""
        return self._open_letters()

    def _bury(self, doomed: Sequence[Doomed]) -> None:
        """Make dead letters of messages that ``leave``; where that fails, they stay. Raises StorageFailure."""
        try:
            with self._burying:
                self._settle_buried(self.dead_letters.log)
                left = [one for one in doomed if self._state.pending.get(one.message.offset) is one.message]
                while left:
                    left = left[self._append_letters(left) :]
                self._settle_buried(self.dead_letters.log)
        except BaseException:
            with self._lock:
                for one in doomed:
                    self._state.stay(one.message)
                self._pass_on()
            raise

    def _append_letters(self, doomed: Sequence[Doomed]) -> int:
        """Write the first of them as one batch: how many they are."""
        size, count = 0, 0
        while count < len(doomed) and (not count or size < _BATCH_SIZE_MAX):
            record = doomed[count].record
            size += len(record.value or b"") + len(record.key or b"")
            count += 1
        batch = doomed[:count]
        self.dead_letters.take_in(
            [one.record.value for one in batch],
            [one.record.key for one in batch],
            [dead_headers(one.record.headers, self._letter(one)) for one in batch],
        )
        return count

    def _letter(self, doomed: Doomed) -> DeadLetter:
        record = doomed.record
        fixed = self.name, self._state.topic_id, record.offset, record.timestamp_ms
        return DeadLetter(doomed.reason, *fixed, doomed.message.deliveries, self._wall_ms())

    def sync_buried(self, letters: PartitionLog) -> bool:
        """See that what the dead letters' log holds is settled here, on the disk: it may go there then. False where
        more are being written just now. Raises StorageFailure, PartitionOffline, Closed, UnknownTopic."""
        if not self._burying.acquire(blocking=False):  # who has it may be waiting for who asks
            return False
        try:
            self._settle_buried(letters)
            self._journal.sync()
        finally:
            self._burying.release()
        return True

    def _settle_buried(self, log: PartitionLog) -> None:
        """Settle what the dead letters' log holds. Under the lock of burials."""
        end_offset = log.log_end_offset
        found = find_buried(log, self._state.dead_end, end_offset, self._state.topic_id)
        with self._lock:
            settled = [buried for buried in found if buried.offset in self._state.pending]
            if settled:
                self._journal.note([encode_event(buried) for buried in settled])
            for buried in settled:
                if buried.offset in self._state.pending:
                    self._state.settle(buried.offset)
            self._state.dead_end = end_offset
            if settled:
                self._settled_some()
