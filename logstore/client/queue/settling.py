"""What becomes of a message that a worker has: it is acked, given back, kept for longer, or purged with all others."""

from collections.abc import Iterable

from logstore.client.queue.burial import MAX_DELIVERIES, Doomed
from logstore.client.queue.intake import Intake
from logstore.client.queue.messages import Job, as_ms
from logstore.client.queue.ranges import ranges
from logstore.errors import InvalidArgument, NotInFlight
from logstore.format.queue_state import Outcome, Returned, encode_event, encode_settled
from logstore.storage.arguments import as_column


class Settling(Intake):
    """See the module."""

    def ack(self, job: Job) -> None:
        """Settle a message: see ``Job.ack``."""
        self.note_ack(job)
        if self._must_sync:
            self._journal.sync()
        if self.upkeep_is_due():
            self._upkeep()

    def note_ack(self, job: Job) -> None:
        """``ack`` as far as the page cache."""
        with self._lock:
            offset = self._check_held(job)
            self._journal.note([encode_settled(offset, offset)])
            job.is_settled = True
            self._state.settle(offset)
            if self._putters.waiting or self._joiners.waiting or self._getters.waiting:
                self._settled_some()

    def ack_many(self, jobs: Iterable[Job]) -> None:
        """Settle several messages at once: all of them, or none where one is not in your hands (NotInFlight)."""
        jobs = as_column("jobs", jobs)
        with self._lock:
            offsets = sorted({self._check_held(job) for job in jobs})
            if offsets:
                self._journal.note([encode_settled(first, last) for first, last in ranges(offsets)])
            for job in jobs:
                job.is_settled = True
            for offset in offsets:
                self._state.settle(offset)
            self._settled_some()
        if self._must_sync:
            self._journal.sync()
        if self.upkeep_is_due():
            self._upkeep()

    def nack(self, job: Job, delay: float = 0.0) -> None:
        """Give a message back: see ``Job.nack``."""
        delay_ms = as_ms("delay", delay)
        doomed = []
        with self._lock:
            offset = self._check_held(job)
            visible_at = self._wall_ms() + delay_ms if delay_ms else 0
            message = self._state.pending[offset]
            if self._state.is_spent(message):
                job.is_settled = True
                self._state.leave(message)
                doomed.append(Doomed(message, job.record, MAX_DELIVERIES))
            else:
                self._journal.note([encode_event(Returned(offset, visible_at))])
                job.is_settled = True
                self._state.returned(message, visible_at)
                if self._getters.waiting:
                    self._pass_on()
        if doomed:
            self._bury(doomed)
        if self._must_sync:
            self._journal.sync()
        if self.upkeep_is_due():
            self._upkeep()

    def extend(self, job: Job, seconds: float) -> None:
        """Keep a message for longer: see ``Job.extend``."""
        until_ms = self._now_ms() + as_ms("seconds", seconds)
        with self._lock:
            offset = self._check_held(job)
            self._state.held(self._state.pending[offset], until_ms)
            if self._getters.waiting:
                self._pass_on()

    def _check_held(self, job: Job) -> int:
        """The offset of a message that is still in this worker's hands. Under the lock."""
        if self._closed is not None:
            self._check_open()
        if getattr(job, "queue", None) is not self:
            raise InvalidArgument("job", job, f"it is no message that was got from queue {self.name!r}")
        offset = job.record.offset
        if job.is_settled:
            raise NotInFlight(self.name, offset, "it has been acked or nacked")
        if not self._state.is_held(offset, job.deliveries):
            reason = "its visibility timeout is over, and it was handed out again, became a dead letter or was purged"
            raise NotInFlight(self.name, offset, reason)
        return offset

    def purge(self) -> int:
        """Settle every message, those that workers have in their hands too; returns how many there were."""
        with self._lock:
            self._check_open()
            end_offset = self._log.log_end_offset
            count = self._unsettled_count()
            if count or self._state.lost:
                self._journal.note([encode_settled(self._state.low_water, end_offset - 1, Outcome.PURGED)])
            self._state.purged(end_offset)
            self._reader.forget()
            self._settled_some()
        self._journal.sync()
        with self._upkeep_lock:
            self._release(all_of_it=True)
        return count
