"""Threads that work a queue off: a handler is called with each message, which is acked when it returns.

What a crash or ``stop`` leaves is in the queue. A message whose handler raises is given back, and comes after a while
that doubles with each delivery, until it is a dead letter.
"""

import logging
from collections.abc import Callable
from threading import Event, Thread, current_thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

from logstore.client.queue.messages import as_ms
from logstore.client.queue.waiting import NEVER_S
from logstore.errors import Empty, InvalidArgument, LogstoreError, NotInFlight
from logstore.threads import start_thread

if TYPE_CHECKING:
    from logstore.client.queue.messages import Job
    from logstore.client.queue.queue import Queue

logger = logging.getLogger("logstore.queue")

_BREAK_S = 1.0  # after a failure of the queue itself, such as a full disk


class Workers:
    """See the module. Made by ``queue.work``; as a context manager they are stopped at the end."""

    def __init__(
        self,
        queue: "Queue",
        handler: "Callable[[Job], object]",
        workers: int = 1,
        *,
        backoff: float = 1.0,
        backoff_max: float = 60.0,
    ) -> None:
        """``backoff``: seconds before a message whose handler raised comes back, twice as many each further time, up to
        ``backoff_max``. A handler may settle its message itself. Raises InvalidArgument."""
        if not callable(handler):
            raise InvalidArgument("handler", handler, "it is a callable that takes a message")
        if type(workers) is not int or workers < 1:
            raise InvalidArgument("workers", workers, "it is at least 1")
        for name, seconds in (("backoff", backoff), ("backoff_max", backoff_max)):
            as_ms(name, seconds)
        self._queue, self._handler = queue, handler
        self._backoff, self._backoff_max = backoff, backoff_max
        self._stopping = Event()
        self._threads = [  # daemons: a program that ends is not kept from it by who waits for messages
            Thread(target=self._run, name=f"logstore-worker {queue.name} {number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            start_thread(thread)

    def stop(self, wait: bool = True) -> None:
        """Take no more messages. ``wait`` until the handlers under way have come to their end."""
        self._stopping.set()
        self._queue.engine.getters.wake_all()  # they look whether they still want what they wait for
        if wait:
            self.join()

    def join(self) -> None:
        """Wait until they were stopped, or the queue was closed."""
        for thread in self._threads:
            if thread is not current_thread():  # a handler may stop its own workers
                thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                job = self._queue.outlet.take(1, NEVER_S, self._stopping.is_set)[0]
            except Empty:
                continue
            except LogstoreError as error:
                if self._queue.is_closed:
                    return
                logger.error("queue %r: no message can be got: %s", self._queue.name, error)
                self._stopping.wait(_BREAK_S)
                continue
            self._handle(job)

    def _handle(self, job: "Job") -> None:
        try:
            try:
                self._handler(job)
            except BaseException:  # SystemExit too, which would end this thread, and nobody would know
                logger.exception("queue %r: the handler of message %d failed", self._queue.name, job.offset)
                if not job.is_settled:
                    job.nack(min(self._backoff_max, self._backoff * 2.0 ** min(job.deliveries - 1, 60)))
            else:
                if not job.is_settled:
                    job.ack()
        except NotInFlight as error:
            logger.warning("%s; a longer visibility.timeout.ms, or job.extend(), keeps it", error)
        except LogstoreError as error:
            logger.error("queue %r: message %d will be handed out again: %s", self._queue.name, job.offset, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
