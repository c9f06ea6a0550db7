"""Dead letters: the messages of a queue that were handed out too often or too late, a queue of their own.

They are got, acked and looked at as in any queue, or put back where they came from. What is put back is written there
and synced first, settled here then; a note says from where on there may be such messages, so that after a crash in
between they are found there and not put back twice.
"""

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Any

from logstore.client.queue.burial import Doomed
from logstore.client.queue.engine import logger
from logstore.client.queue.messages import replayed_headers
from logstore.client.queue.opening import find_replayed
from logstore.client.queue.queue import Queue
from logstore.client.queue.ranges import ranges
from logstore.client.queue.state import READY
from logstore.config import QueueConfig
from logstore.errors import InvalidArgument, InvalidSetting, LogstoreError, Unsupported
from logstore.format.queue_state import NOT_REPLAYING, Replaying, encode_event, encode_settled
from logstore.storage.arguments import as_column, as_integer

_CHUNK_COUNT = 500
_CHUNK_SIZE = 8 << 20


class DeadLetters(Queue):
    """See the module. ``message.dead_letter`` says why each is here, and what it was."""

    def __init__(
        self,
        *arguments: Any,
        parent: Callable[[], Queue],
        open_parent: Callable[[], Queue | None],
        **named: Any,
    ) -> None:
        """``open_parent``: None where it is closed, else as ``parent``."""
        super().__init__(
            *arguments,
            **named,
            open_letters=self._refuse,
            doom=lambda *_: None,  # they have nowhere to go to
            may_release=self._may_release,
        )
        self._parent, self._open_parent = parent, open_parent
        self._replaying = Lock()

    def _refuse(self) -> "DeadLetters":
        raise Unsupported(f"a queue of dead letters for {self.name!r}", "dead letters have none themselves")

    def _may_release(self) -> bool:
        """Not before their queue has noted for good that they are here: a crash must not bring them back there."""
        parent = self._open_parent()
        if parent is None:
            return False
        try:
            return parent.burial.sync_buried(self.log)
        except LogstoreError as error:
            logger.warning("queue %r: what is settled stays on the disk for now: %s", self.name, error)
            return False

    def _dead_count(self) -> int:
        return 0

    def configure(self, config: QueueConfig) -> None:
        for name, value in (("max.deliveries", config.max_deliveries), ("ttl.ms", config.ttl_ms)):
            if value > 0:
                raise InvalidSetting(name, value, "dead letters stay until they are acked, put back or purged")
        super().configure(config)

    def replay(self, offsets: Iterable[int] | None = None) -> int:
        """Put dead letters back into the queue that they come from, with their keys and headers, as new messages: those
        at ``offsets``, or all that no worker has. Returns how many. Raises InvalidArgument for an offset at which there
        is none, StorageFailure."""
        count = 0
        wanted = None
        if offsets is not None:
            wanted = sorted({as_integer("offsets", one) for one in as_column("offsets", offsets)})
        end_offset = self.log.log_end_offset
        if wanted is not None:
            with self.engine.lock:
                self._check_wanted(wanted)
        while True:
            with self.engine.lock:
                chunk = self._take_letters(wanted, end_offset)
            if not chunk:
                return count
            count += self._put_back(chunk)
            if wanted is not None:
                wanted = [offset for offset in wanted if offset > chunk[-1].record.offset]

    def _check_wanted(self, wanted: Sequence[int]) -> None:
        """Under the lock, as all that looks at the state."""
        self.engine.check_open()
        self._look_at_all()
        for offset in wanted:
            message = self.engine.state.pending.get(offset)
            if message is None or message.status != READY:
                raise InvalidArgument("offsets", offset, "there is no dead letter at this offset that can be put back")

    def _look_at_all(self) -> None:
        while self.outlet.look_at_next(self.engine.wall_ms()):
            pass

    def _take_letters(self, wanted: Sequence[int] | None, end_offset: int) -> list[Doomed]:
        """The first of them, on their way."""
        self.engine.check_open()
        if wanted is None:
            self._look_at_all()
        pending = self.engine.state.pending
        offsets = list(pending) if wanted is None else wanted
        chunk: list[Doomed] = []
        size = 0
        for offset in offsets:
            message = pending.get(offset)
            if message is None or message.status != READY or offset >= end_offset:
                continue
            record = self.outlet.read_pending(message)
            if record is not None:
                self.engine.state.leave(message)
                chunk.append(Doomed(message, record, ""))
                size += len(record.value or b"") + len(record.key or b"")
            if len(chunk) == _CHUNK_COUNT or size >= _CHUNK_SIZE:
                break
        return chunk

    def _put_back(self, letters: Sequence[Doomed]) -> int:
        """How many were put back: not those that are found to be back already."""
        target = self._parent()
        topic_id = self.engine.state.topic_id
        try:
            with self._replaying:
                self._settle_replayed(target)
                left = [one for one in letters if self.engine.state.pending.get(one.message.offset) is one.message]
                with self.engine.lock:
                    replaying_from = target.log.log_end_offset
                    self.engine.journal.note([encode_event(Replaying(replaying_from))])
                    self.engine.state.replaying_from = replaying_from
                self.engine.journal.sync()
                records = [one.record for one in left]
                if records:
                    target.intake.take_in(
                        [record.value for record in records],
                        [record.key for record in records],
                        [replayed_headers(record.headers, topic_id, record.offset) for record in records],
                    )
                self._settle_replayed(target)
                return len(records)
        except BaseException:
            with self.engine.lock:
                for one in letters:
                    self.engine.state.stay(one.message)
            raise

    def _settle_replayed(self, target: Queue) -> None:
        """Settle what stands in the target again. Under the lock of replays."""
        if self.engine.state.replaying_from == NOT_REPLAYING:
            return
        found = find_replayed(target.log, self.engine.state.replaying_from, self.engine.state.topic_id)
        with self.engine.lock:
            settled = sorted({offset for offset in found if offset in self.engine.state.pending})
            notes = [encode_settled(first, last) for first, last in ranges(settled)]
            self.engine.journal.note([*notes, encode_event(Replaying(NOT_REPLAYING))])
            self.engine.state.replaying_from = NOT_REPLAYING
            for offset in settled:
                self.engine.state.settle(offset)
            self.engine.settled_some()
        self.engine.journal.sync()
