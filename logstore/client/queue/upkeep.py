"""What a queue lets go of: notes that a snapshot replaces, and segments of messages that are all settled.

One thread at a time, and never one that somebody waits for: what fails is tried again later.
"""

from collections.abc import Callable

from logstore.client.queue.engine import Engine, logger
from logstore.errors import Closed, LogstoreError

_SEGMENT_CHECK_COUNT = 64  # messages that are settled before it is seen that a segment has been rolled


class Upkeep:
    """See the module. ``may_release``: whether nobody else needs what is settled here."""

    def __init__(self, engine: Engine, may_release: Callable[[], bool]) -> None:
        self._engine = engine
        self._journal, self._state = engine.journal, engine.state
        self._may_release = may_release
        self._check_segments_at = engine.state.low_water

    @property
    def is_due(self) -> bool:
        return self._journal.is_due or self._state.low_water >= self._check_segments_at

    def run(self) -> None:
        """A snapshot, and what nobody needs any more goes; unless another thread is at it."""
        engine = self._engine
        if not engine.upkeep_lock.acquire(blocking=False):
            return
        try:
            for duty in (self._release, self._shorten_notes):  # the first makes room for the second
                try:
                    duty()
                except LogstoreError as error:
                    logger.warning("queue %r: what is settled stays on the disk for now: %s", engine.name, error)
        finally:
            engine.upkeep_lock.release()

    def release_all(self) -> None:
        """Let go of all that can go, once whoever is at it is done."""
        with self._engine.upkeep_lock:
            self._release(all_of_it=True)

    def close(self) -> None:
        """See Queue.close."""
        engine = self._engine
        if engine.closed is not None:
            return
        with engine.upkeep_lock:
            if not engine.abandon(Closed(f"queue {engine.name!r}")):
                return  # by another thread, meanwhile
            try:
                if self._journal.has_news:
                    self._snapshot()
                self._release(all_of_it=True)
            except LogstoreError as error:  # its notes are there, and tell the same
                logger.warning("queue %r: closed without a snapshot: %s", engine.name, error)

    def wait_until_closed(self) -> None:
        """Of a queue that is being closed: nothing is noted by it any more when this returns."""
        with self._engine.upkeep_lock:
            pass

    def _shorten_notes(self) -> None:
        if self._journal.is_due:
            self._snapshot()

    def _snapshot(self) -> None:
        with self._engine.lock:
            self._journal.snapshot(self._state)
        self._journal.let_go()

    def _release(self, *, all_of_it: bool = False) -> None:
        """Let go of the segments of settled messages; ``all_of_it``: where nothing is pending, of the last one too."""
        log = self._engine.log
        bases = [segment.base_offset for segment in log.view.segments]
        with self._engine.lock:
            low_water = self._kept_from()
            soon = self._state.low_water + _SEGMENT_CHECK_COUNT
            self._check_segments_at = next((base for base in bases[1:] if base > self._state.low_water), soon)
        is_empty = low_water == log.log_end_offset > bases[0]
        if all_of_it and is_empty:
            log.roll()
            bases.append(low_water)
        if len(bases) > 1 and bases[1] <= low_water and self._may_release():
            log.advance_log_start(low_water)
            log.delete_expired()

    def _kept_from(self) -> int:
        """Below it nothing is needed: all is settled, and no damage waits to be salvaged."""
        gaps = self._engine.log.view.gaps
        waiting = [
            first for first, last in self._state.lost if not any(low <= first and last <= high for low, high in gaps)
        ]
        return min([self._state.low_water, *waiting])
