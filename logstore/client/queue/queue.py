"""The durable queue: ``store.queue("jobs")``. Its habits are those of queue.Queue, its messages outlive the process.

Every message is handed out at least once, to one worker at a time, until it is acked: a committed ack is never taken
back. It goes to the dead letters when it has been handed out max.deliveries times without an ack, or when its time to
live is over. Safe to use from many threads; one process owns a queue, as it owns the store.

::

    put ──> ready ──get──> in flight ──ack──> settled
              ^               |
              +──nack, visibility timeout, the process's end      (deliveries == max.deliveries: dead letter)
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from logstore.client.producer import Receipt
from logstore.client.queue.burial import Burial, doom
from logstore.client.queue.engine import Engine, monotonic_ms
from logstore.client.queue.intake import HeadersGiven, Intake
from logstore.client.queue.looks import QueueStats, check_count, look_ahead, make_stats
from logstore.client.queue.messages import Deserializer, Job, Message
from logstore.client.queue.opening import DEAD_SUFFIX, Opened, has_queue
from logstore.client.queue.outlet import Doom, Outlet, newest_job
from logstore.client.queue.settling import Settling
from logstore.client.queue.state import QueueState
from logstore.client.queue.upkeep import Upkeep
from logstore.client.queue.waiting import Turn, deadline_s
from logstore.client.queue.workers import Workers
from logstore.config import QueueConfig
from logstore.errors import Closed, InvalidArgument, TimedOut
from logstore.storage.partition import PartitionLog
from logstore.store import TopicStore

if TYPE_CHECKING:
    from logstore.client.queue.dead_letters import DeadLetters


class Queue:
    """See the module. Made by ``store.queue``. Its parts, from ``engine`` to ``settling``, are for this package."""

    def __init__(
        self,
        store: TopicStore,
        name: str,
        opened: Opened,
        wall_ms: Callable[[], int],
        now_ms: Callable[[], int] = monotonic_ms,
        *,
        open_letters: "Callable[[], DeadLetters]",
        doom: Doom = doom,
        may_release: Callable[[], bool] = lambda: True,
    ) -> None:
        """``doom``: why a message becomes a dead letter; ``may_release``: whether what is settled may go."""
        self.name = name
        self.deserializer: Deserializer | None = None
        self._store = store
        self._open_letters = open_letters
        self.engine = Engine(store, name, opened, wall_ms, now_ms)
        self.upkeep = Upkeep(self.engine, may_release)
        self.burial = Burial(self.engine, open_letters)
        self.intake = Intake(self.engine)
        self.outlet = Outlet(self, self.engine, self.burial, self.upkeep, doom)
        self.settling = Settling(self, self.engine, self.burial, self.upkeep)

    @property
    def log(self) -> PartitionLog:
        """The log of its messages, which anybody may read."""
        return self.engine.log

    @property
    def dead_letters(self) -> "DeadLetters":
        """The queue of those that were handed out too often, or too late. Made when it is first needed."""
        return self._open_letters()

    @property
    def config(self) -> QueueConfig:
        return self.engine.config

    def configure(self, config: QueueConfig) -> None:
        """Change the settings, for good. Raises InvalidSetting, StorageFailure, Closed."""
        self.engine.configure(config)

    # ---------------------------------------------------------------------------------------------------------- put

    def put(
        self,
        value: Any,
        block: bool = True,
        timeout: float | None = None,
        *,
        key: bytes | None = None,
        headers: HeadersGiven = None,
        delay: float = 0.0,
        ttl: float | None = None,
    ) -> Receipt:
        """Put a message in, bytes or what the serializer takes, and return where it is once it is as durable as the
        queue's ``durability`` says.

        ``delay`` seconds pass before it can be got; after ``ttl`` seconds it cannot, and becomes a dead letter. With
        max.size, a full queue makes this wait for ``timeout`` seconds (None: for ever; 0, or ``block=False``: not at
        all). Raises Full, InvalidRecord, RecordTooLarge, SerializationFailed, InvalidArgument, StorageFailure, Closed.
        """
        engine = self.engine
        until_s = deadline_s(block, timeout) if engine.is_bounded else 0.0
        return self.intake.put(value, engine.durability, until_s, key, headers, delay, ttl)

    def put_many(
        self,
        values: Iterable[Any],
        block: bool = True,
        timeout: float | None = None,
        *,
        keys: Iterable[bytes | None] | None = None,
        headers: Iterable[HeadersGiven] | None = None,
        delay: float = 0.0,
        ttl: float | None = None,
    ) -> list[Receipt]:
        """Put messages in as one batch: all of them or none. ``keys`` and ``headers`` have an item for each. Raises as
        ``put`` does; Full where they would never fit."""
        engine = self.engine
        until_s = deadline_s(block, timeout) if engine.is_bounded else 0.0
        return self.intake.put_many(values, engine.durability, until_s, keys, headers, delay, ttl)

    # ---------------------------------------------------------------------------------------------------------- get

    def get(self, block: bool = True, timeout: float | None = None) -> Job:
        """Take the next message, which is then this worker's for visibility.timeout.ms: ``ack`` it in this time.

        Without one, wait for ``timeout`` seconds (None: for ever; 0, or ``block=False``: not at all). Raises Empty,
        StorageFailure (the delivery could not be noted), Closed.
        """
        job = self.outlet.take_plain()
        return self.outlet.take(1, deadline_s(block, timeout))[0] if job is None else job

    def get_many(self, count: int, block: bool = True, timeout: float | None = None) -> list[Job]:
        """Take up to ``count`` messages that are ready, at least one; waits and raises as ``get`` does."""
        if type(count) is not int or count < 1:
            raise InvalidArgument("count", count, "it is at least 1")
        return self.outlet.take(count, deadline_s(block, timeout))

    def work(
        self, handler: Callable[[Job], object], workers: int = 1, *, backoff: float = 1.0, backoff_max: float = 60.0
    ) -> Workers:
        """Have ``workers`` threads call ``handler`` with each message: see Workers."""
        return Workers(self, handler, workers, backoff=backoff, backoff_max=backoff_max)

    # ------------------------------------------------------------------------------------------------------- settle

    def ack(self, job: Job) -> None:
        """Settle a message: see ``Job.ack``."""
        self.settling.ack(job)

    def ack_many(self, jobs: Iterable[Job]) -> None:
        """Settle several messages at once: all of them, or none where one is not in your hands (NotInFlight)."""
        self.settling.ack_many(jobs)

    def nack(self, job: Job, delay: float = 0.0) -> None:
        """Give a message back: see ``Job.nack``."""
        self.settling.nack(job, delay)

    def extend(self, job: Job, seconds: float) -> None:
        """Keep a message for longer: see ``Job.extend``."""
        self.settling.extend(job, seconds)

    def purge(self) -> int:
        """Settle every message, those that workers have in their hands too; returns how many there were."""
        return self.settling.purge()

    # ------------------------------------------------------------------------------------------ as in queue.Queue

    def put_nowait(self, value: Any) -> Receipt:
        return self.put(value, block=False)

    def get_nowait(self) -> Job:
        return self.get(block=False)

    def task_done(self) -> None:
        """Ack the message that this thread has got last. Raises InvalidArgument, a ValueError, where there is none."""
        job = newest_job()
        if job is None or job.is_settled or job.queue is not self:
            raise InvalidArgument("task_done", self.name, "this thread has no message of the queue that is not settled")
        self.ack(job)

    def join(self, timeout: float | None = None) -> None:
        """Wait until every message is settled: none is ready, delayed or with a worker. Raises TimedOut, Closed."""
        engine = self.engine
        until_s = deadline_s(True, timeout)
        while True:
            with engine.lock:
                engine.check_open()
                count = engine.unsettled_count()
                if not count:
                    return
                if time.monotonic() >= until_s:
                    raise TimedOut(f"{count} messages of queue {self.name!r}", timeout or 0.0)
                turn = engine.joiners.add(Turn(until_s))
            try:
                turn.wait()
            finally:
                engine.joiners.remove(turn)

    def qsize(self) -> int:
        """How many messages are to be got, now or after their delay."""
        with self.engine.lock:
            state = self._state_now()
            return self.engine.unsettled_count() - state.in_flight_count - state.leaving_count

    def __len__(self) -> int:
        return self.qsize()

    def __bool__(self) -> bool:
        """A queue is one, also when it is empty."""
        return True

    def empty(self) -> bool:
        return not self.qsize()

    def full(self) -> bool:
        """Whether ``put`` would wait."""
        engine = self.engine
        with engine.lock:
            engine.check_open()
            return engine.is_bounded and engine.unsettled_count() >= engine.config.max_size

    def __iter__(self) -> Iterator[Job]:
        """Messages, for ever: waits for more until the queue is closed."""
        while True:
            try:
                job = self.get()
            except Closed:
                return
            yield job

    # --------------------------------------------------------------------------------------------------------- look

    def peek(self, count: int | None = 1) -> list[Message]:
        """The next messages that are ready, up to ``count`` (None: all), without taking them; of each, ``deliveries``
        says how often it has been handed out so far."""
        check_count(count)
        engine = self.engine
        with engine.lock:
            found = islice(look_ahead(self._state_now(), engine.log, engine.wall_ms()), count)
            return [Message(record, deliveries, self.deserializer) for record, deliveries in found]

    def stats(self) -> QueueStats:
        """See QueueStats."""
        engine = self.engine
        dead_count = self._dead_count()
        with engine.lock:
            state, notes_size = self._state_now(), engine.journal.log.view.size
            return make_stats(state, engine.log.view, engine.wall_ms(), dead_count, engine.damages, notes_size)

    def _state_now(self) -> QueueState:
        """Raises Closed. Under the lock."""
        engine = self.engine
        engine.check_open()
        engine.state.pass_time(engine.wall_ms(), engine.now_ms())
        return engine.state

    def _dead_count(self) -> int:
        return len(self.dead_letters) if has_queue(self._store, self.name + DEAD_SUFFIX) else 0

    # ---------------------------------------------------------------------------------------------------------- end

    def close(self) -> None:
        """Stop: who waits gets Closed. Messages that are not settled stay, and those that workers have are ready at the
        next opening. Closing twice is no error."""
        self.upkeep.close()

    @property
    def is_closed(self) -> bool:
        return self.engine.closed is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}{' closed' if self.is_closed else ''}>"
