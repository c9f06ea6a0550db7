"""What becomes of a message that a worker has: it is acked, given back, kept for longer, or purged with all others."""

from collections.abc import Iterable

from logstore.client.queue.burial import MAX_DELIVERIES, Burial, Doomed
from logstore.client.queue.engine import Engine
from logstore.client.queue.messages import Job, as_ms
from logstore.client.queue.ranges import ranges
from logstore.client.queue.upkeep import Upkeep
from logstore.errors import InvalidArgument, NotInFlight
from logstore.format.queue_state import Outcome, Returned, encode_event, encode_settled
from logstore.storage.arguments import as_column


class Settling:
    """See the module, and Queue for what each does; ``queue`` is the one that the messages were got from."""

    def __init__(self, queue: object, engine: Engine, burial: Burial, upkeep: Upkeep) -> None:
        self._queue, self._engine, self._burial, self._upkeep = queue, engine, burial, upkeep
        self._state, self._journal = engine.state, engine.journal

    def ack(self, job: Job) -> None:
        self.note_ack(job)
        self._make_sure()

    def _make_sure(self) -> None:
        """What was noted is on the disk, where it is to be, and what is due is done."""
        if self._engine.must_sync:
            self._journal.sync()
        if self._upkeep.is_due:
            self._upkeep.run()

    def note_ack(self, job: Job) -> None:
        """``ack`` as far as the page cache."""
        engine = self._engine
        with engine.lock:
            offset = self._check_held(job)
            self._journal.note([encode_settled(offset, offset)])
            job.is_settled = True
            self._state.settle(offset)
            if engine.putters.waiting or engine.joiners.waiting or engine.getters.waiting:
                engine.settled_some()

    def ack_many(self, jobs: Iterable[Job]) -> None:
        jobs = as_column("jobs", jobs)
        with self._engine.lock:
            offsets = sorted({self._check_held(job) for job in jobs})
            if offsets:
                self._journal.note([encode_settled(first, last) for first, last in ranges(offsets)])
            for job in jobs:
                job.is_settled = True
            for offset in offsets:
                self._state.settle(offset)
            self._engine.settled_some()
        self._make_sure()

    def nack(self, job: Job, delay: float) -> None:
        delay_ms = as_ms("delay", delay)
        doomed = []
        with self._engine.lock:
            offset = self._check_held(job)
            visible_at = self._engine.wall_ms() + delay_ms if delay_ms else 0
            message = self._state.pending[offset]
            if self._state.is_spent(message):
                job.is_settled = True
                self._state.leave(message)
                doomed.append(Doomed(message, job.record, MAX_DELIVERIES))
            else:
                self._journal.note([encode_event(Returned(offset, visible_at))])
                job.is_settled = True
                self._state.returned(message, visible_at)
                if self._engine.getters.waiting:
                    self._engine.pass_on()
        if doomed:
            self._burial.bury(doomed)
        self._make_sure()

    def extend(self, job: Job, seconds: float) -> None:
        until_ms = self._engine.now_ms() + as_ms("seconds", seconds)
        with self._engine.lock:
            offset = self._check_held(job)
            self._state.held(self._state.pending[offset], until_ms)
            if self._engine.getters.waiting:
                self._engine.pass_on()

    def _check_held(self, job: Job) -> int:
        """The offset of a message that is still in this worker's hands. Under the lock."""
        if self._engine.closed is not None:
            self._engine.check_open()
        if getattr(job, "queue", None) is not self._queue:
            raise InvalidArgument("job", job, f"it is no message that was got from queue {self._engine.name!r}")
        offset = job.record.offset
        if job.is_settled:
            raise NotInFlight(self._engine.name, offset, "it has been acked or nacked")
        if not self._state.is_held(offset, job.deliveries):
            reason = "its visibility timeout is over, and it was handed out again, became a dead letter or was purged"
            raise NotInFlight(self._engine.name, offset, reason)
        return offset

    def purge(self) -> int:
        with self._engine.lock:
            self._engine.check_open()
            end_offset = self._engine.log.log_end_offset
            count = self._engine.unsettled_count()
            if count or self._state.lost:
                self._journal.note([encode_settled(self._state.low_water, end_offset - 1, Outcome.PURGED)])
            self._state.purged(end_offset)
            self._engine.reader.forget()
            self._engine.settled_some()
        self._journal.sync()
        self._upkeep.release_all()
        return count
