"""The producer of a data directory that this process owns: records go into batches, one thread appends them.

A receipt with durability ``fsync`` (acks=all) means that the record is on the disk, with ``os`` (acks=1) that it
survives the end of this process. What was taken in, and has no receipt yet, is lost if the process is killed; ending it
without ``close`` is no loss, since what was taken in is stored first.

**Order.** Records of a partition are appended in the order in which ``send`` took them in. Nothing is ever appended
twice: what failed is not in the log, but for a batch whose sync failed, which may be. So enable.idempotence needs no
producer id here. A failed record leaves a gap, not disorder: those sent after it are stored all the same, and its
future is what tells of it. Who needs "nothing after a failure" waits for each future before sending on.

**Memory.** buffer.memory counts a record's bytes and RECORD_MEMORY for what Python needs to hold it. ``send`` waits
for room, up to max.block.ms; those who wait are served in their order. The sending thread itself, in a callback, never
waits: nobody else could make room. It gets BufferFull at once where there is none; what was just delivered has been
given back by then.

Callbacks run in the sending thread: a slow one holds up all batches, and one that waits for a later record's future
waits for ever.
"""

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from enum import Enum
from threading import TIMEOUT_MAX, Lock
from typing import Any

from logstore.client.arguments import as_bytes, as_headers, as_timeout, as_timestamp, serialized
from logstore.client.delivery import Delivery
from logstore.client.embedded.producer.accumulator import (
    Accumulator,
    Batch,
    OnDelivery,
    Outgoing,
    Stretch,
    Unacknowledged,
)
from logstore.client.embedded.producer.buffer_pool import BufferPool, PoolWaiter
from logstore.client.embedded.producer.route import PLAIN_OVERHEAD, PLAIN_SIZE_MAX, Route, check_size, record_size
from logstore.client.embedded.producer.storing import Storing
from logstore.client.producer import Producer, Receipt, Serializer
from logstore.client.turns import AutoResetEvent
from logstore.config import ProducerConfig
from logstore.errors import (
    BufferFull,
    Closed,
    ForkedProcess,
    InvalidSetting,
    LogstoreError,
    RecordTooLarge,
    TimedOut,
    UnknownPartition,
    Unsupported,
)
from logstore.storage.data_dir import DataDir
from logstore.storage.upkeep import monotonic_ms
from logstore.threads import start_thread

logger = logging.getLogger("logstore.client")

RECORD_MEMORY = 256  # a tuple, a future, an entry in a list, and what bytes and integers have beside themselves
_STICKY = -1

SenderState = Enum("SenderState", ["AWAKE", "ASLEEP_UNTIL_DUE", "ASLEEP"])
AWAKE, ASLEEP_UNTIL_DUE, ASLEEP = SenderState


class EmbeddedProducer(Producer):
    """See the module."""

    def __init__(
        self,
        data_dir: DataDir,
        config: ProducerConfig | None = None,
        key_serializer: Serializer | None = None,
        value_serializer: Serializer | None = None,
        clock_ms: Callable[[], int] = monotonic_ms,
    ) -> None:
        """``clock_ms`` is monotonic: batches linger, and expire, by it. Raises InvalidSetting."""
        self.config = config or ProducerConfig()
        if self.config.delivery_timeout_ms <= self.config.linger_ms:
            raise InvalidSetting(
                "delivery.timeout.ms",
                self.config.delivery_timeout_ms,
                f"must be above linger.ms={self.config.linger_ms}",
            )
        self._name = f"producer of {data_dir.path}"
        self._topic, self._now_ms = data_dir.topic, data_dir.now_ms
        self._key_serializer, self._value_serializer = key_serializer, value_serializer
        self._clock_ms = clock_ms
        self._storing = Storing(data_dir, self.config)
        self._is_acknowledged = self.config.acks != "0"
        self._routes: dict[str, Route] = {}
        self._thread: threading.Thread | None = None
        self._wake = AutoResetEvent()  # wakes the sending thread
        self._lock = Lock()  # of all that follows
        self._batches = Accumulator(self.config.linger_ms)
        self._pool = BufferPool(self.config.buffer_memory)
        self._flushing: list[tuple[float, Lock]] = []  # who waits, and for all batches up to which
        self._has_ended = False
        self._sender = AWAKE
        self._lacks_room = False  # somebody has found none, and may not wait for it
        self._closed: LogstoreError | None = None
        _PRODUCERS.add(self)

    # ------------------------------------------------------------------------------------------------------- sending

    def send(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        partition: int | None = None,
        headers: Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int | None = None,
        on_delivery: OnDelivery | None = None,
        block: bool = True,
    ) -> Future[Receipt]:
        """See Producer. A record without ``timestamp_ms`` has the time of this call. None, as key or value, is given
        to no serializer."""
        if self._closed is not None:
            raise self._closed.with_traceback(None)
        description = self._topic(topic)
        route = self._routes.get(topic)
        if route is None or route.description is not description:
            route = self._renew_route(topic)
        if self._value_serializer is not None:
            value = serialized("value", value, self._value_serializer, topic)
        elif type(value) is not bytes:
            value = as_bytes("value", value)
        if key is not None:
            serializer = self._key_serializer
            key = as_bytes("key", key) if serializer is None else serialized("key", key, serializer, topic)
        pairs = () if headers is None else as_headers(headers)
        size = PLAIN_OVERHEAD + len(value or b"") + len(key or b"")
        if pairs or timestamp_ms is not None or size > PLAIN_SIZE_MAX:
            size = record_size(value, key, pairs)
        timestamp = self._now_ms() if timestamp_ms is None else as_timestamp(timestamp_ms)
        if partition is None:
            partition = _STICKY if key is None else route.of_key(key)
        elif type(partition) is not int or not 0 <= partition < route.partition_count:
            raise UnknownPartition(topic, partition, route.partition_count)
        if size > route.record_size_max:
            check_size(route, value, key, pairs, timestamp, self.config)
        record = (value, key, pairs, timestamp, on_delivery)
        cost = size + RECORD_MEMORY
        pool = self._pool
        with self._lock:
            if pool.used + cost <= pool.limit and not pool.waiting and self._closed is None:
                delivery = self._take_in(route, partition, record, size, cost)
                pool.used += cost  # last: a Ctrl-C before it leaves too much room, and never too little
                return delivery
        return self._take_in_when_there_is_room(route, partition, record, size, cost, block)

    def _renew_route(self, topic: str) -> Route:
        description = self._topic(topic)
        with self._lock:
            route = self._routes.get(topic)
            if route is None or route.topic_id != description.topic_id:
                route = Route(description)
            route.describe(description, self.config)
            self._routes[topic] = route
        return route

    def _take_in(self, route: Route, partition: int, record: Outgoing, size: int, cost: int) -> Delivery:
        """Put the record, which there is room for, into a batch, under the lock."""
        batches = self._batches
        is_sticky = partition == _STICKY
        batch = batches.find(route, route.sticky if is_sticky else partition, size)
        if batch is None and is_sticky:
            partition = route.next_sticky()
            batch = batches.find(route, partition, size)
        if batch is None:
            self._start_sender()
            batch = batches.begin(route, partition, self._clock_ms())
        # Whatever interrupts this, the record is in or it is not.
        index = len(batch.records)
        batch.records.append(record)
        batch.size += size
        batch.cost += cost
        if batch.size >= batch.size_max:
            batches.fill(batch)
        if self._sender is not AWAKE and (batches.has_full or not batches.linger_ms or self._sender is ASLEEP):
            self._wake_sender()
        return Delivery(batch if self._is_acknowledged else Unacknowledged(batch), index)

    def _start_sender(self) -> None:
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name=f"logstore {self._name}", daemon=True)
        try:
            start_thread(self._thread)
        except BaseException:  # a Ctrl-C in the middle: the thread may run all the same, and sees that it is not wanted
            self._thread = None
            raise

    def _take_in_when_there_is_room(
        self, route: Route, partition: int, record: Outgoing, size: int, cost: int, block: bool
    ) -> Delivery:
        limit = self.config.buffer_memory
        if size > limit:
            raise RecordTooLarge(size, limit, "buffer.memory")
        waiter = PoolWaiter(cost)
        try:
            self._wait_for_room(waiter, block)
            with self._lock:
                self._check_open()
                delivery = self._take_in(route, partition, record, size, cost)
                waiter.cost = 0  # the batch has it now
                return delivery
        except BaseException:
            with self._lock:
                self._pool.withdraw(waiter)
            raise

    def _wait_for_room(self, waiter: PoolWaiter, block: bool) -> None:
        is_sender = threading.current_thread() is self._thread
        timeout_s = min(self.config.max_block_ms / 1000, TIMEOUT_MAX) if block and not is_sender else 0.0
        with self._lock:
            self._check_open()
            self._pool.waiting.append(waiter)
            self._pool.give_back(0)  # there may be some by now
            self._lacks_room = True  # all there is is due now
            self._wake_sender()
        waiter.turn.acquire(timeout=timeout_s)
        with self._lock:
            self._check_open()
            if not waiter.is_granted:
                remedy = "send slower, or raise buffer.memory or max.block.ms"
                if is_sender:
                    remedy = "a callback cannot wait for it: send from another thread, or raise buffer.memory"
                raise BufferFull(f"room in the {self._name}", timeout_s, remedy)

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed.with_traceback(None)

    # -------------------------------------------------------------------------------------------- the sending thread

    def _wake_sender(self) -> None:
        self._sender = AWAKE
        self._wake.set()

    def _run(self) -> None:
        try:
            while True:
                batches, is_last, timeout_s = self._next()
                if batches:
                    for batch, stretches in self._storing.store(batches, self._clock_ms()):
                        self._settle(batch, stretches)
                elif is_last:
                    return
                else:
                    self._wake.wait(timeout_s)
        except BaseException as error:  # a mistake of ours must not leave anybody waiting
            logger.exception("%s has failed", self._name)
            with self._lock:
                self._closed = self._closed or Closed(self._name)
                left = list(self._batches.unsettled.values())
                self._pool.send_away()
            for batch in left:
                if not batch.is_settled:
                    self._settle(batch, [Stretch(0, error)])
        finally:
            with self._lock:
                if threading.current_thread() is self._thread:
                    self._has_ended = True
                    self._let_go()

    def _next(self) -> tuple[list[Batch], bool, float | None]:
        """What is due, else whether nothing will be, else for how long there is time (s)."""
        with self._lock:
            now_ms = self._clock_ms()
            is_superseded = threading.current_thread() is not self._thread  # a Ctrl-C came when it was started
            if is_superseded:
                return [], True, None
            is_last = self._closed is not None
            due = self._batches.take_due(now_ms, is_last or self._lacks_room or bool(self._flushing))
            due_ms = self._batches.next_due_ms()
            self._lacks_room = bool(self._pool.waiting)
            self._sender = AWAKE if due else ASLEEP if due_ms is None else ASLEEP_UNTIL_DUE
            return due, is_last, None if due_ms is None else (due_ms - now_ms) / 1000

    def _settle(self, batch: Batch, stretches: list[Stretch]) -> None:
        """Give back the room, tell the futures, call who wants to be called, and let those go who flush."""
        with self._lock:
            self._pool.give_back(batch.cost)
        callbacks = batch.settle(stretches)
        if not self._is_acknowledged:
            for stretch in stretches:
                if stretch.error is not None:
                    logger.error("records of %s are lost, with acks=0: %s", self._name, stretch.error)
        for delivery in batch.watched:
            _call(delivery.tell)
        batch.watched.clear()
        for index, callback in callbacks:
            outcome = self._outcome(batch, index)
            if isinstance(outcome, BaseException):
                _call(callback, None, outcome)
            else:
                _call(callback, outcome, None)
        with self._lock:
            self._batches.unsettled.pop(batch.sequence, None)
            if self._flushing:
                self._let_go()

    def _let_go(self) -> None:
        """Wake, under the lock, those whose wait is over."""
        for sequence, turn in self._flushing:
            if turn.locked() and (self._has_ended or self._batches.is_done_up_to(sequence)):
                turn.release()

    def _outcome(self, batch: Batch, index: int) -> Receipt | BaseException:
        outcome = batch.outcome(index)
        if self._is_acknowledged or isinstance(outcome, BaseException):
            return outcome
        return outcome._replace(offset=-1, durability=None)

    # ------------------------------------------------------------------------------------------------------- the end

    def flush(self, timeout: float | None = None) -> None:
        """See Producer. Raises InvalidArgument, Closed, ForkedProcess, and Unsupported in a callback."""
        seconds = as_timeout(timeout)
        if threading.current_thread() is self._thread:
            raise Unsupported("flush() in a callback of the producer", "call it in another thread")
        self._check_open()
        if not self._wait_for(self._batches.sequence, seconds):
            raise TimedOut(f"flushing the {self._name}", seconds, "its records may still be stored")

    def _wait_for(self, sequence: float, seconds: float) -> bool:
        """Have everything sent at once, and wait until all batches up to this one are settled, or the thread has ended:
        whether that came in time. A Ctrl-C leaves nothing behind, which it does of Thread.join."""
        turn = Lock()
        turn.acquire()
        entry = (sequence, turn)
        try:
            with self._lock:
                if self._has_ended or self._batches.is_done_up_to(sequence):
                    return True
                self._flushing.append(entry)
                self._wake_sender()
            return turn.acquire(timeout=seconds)
        finally:
            with self._lock:
                self._flushing = [other for other in self._flushing if other is not entry]

    def close(self, timeout: float | None = None) -> None:
        """See Producer. What is being appended when the time is over is waited for all the same: a record that failed
        with TimedOut is not in the log. In a callback it returns at once, and what was sent is stored after that."""
        seconds = as_timeout(timeout)
        if isinstance(self._closed, ForkedProcess):
            return
        with self._lock:
            if self._closed is None:
                self._closed = Closed(self._name)
            self._pool.send_away()
            self._wake_sender()
        if self._thread is None or threading.current_thread() is self._thread:
            return
        if not self._wait_for(math.inf, seconds):
            remedy = "they are not in the log: it was closed before they were begun"
            self._storing.late = TimedOut(f"storing the last records of the {self._name}", seconds, remedy)
            self._wait_for(math.inf, -1)

    def _abandon_in_child(self) -> None:
        """The thread is the parent's, and so are the records: nobody waits for them here. Callbacks are not called."""
        self._closed = ForkedProcess(self._name)
        self._lock = Lock()
        self._thread = None
        for batch in list(self._batches.unsettled.values()):
            for delivery in batch.watched:
                delivery.forget_watchers()
            batch.watched.clear()
            if not batch.is_settled:
                batch.settle([Stretch(0, self._closed)])
        self._batches = Accumulator(0)
        self._flushing.clear()


def _call(callback: Callable[..., None], *arguments: object) -> None:
    """Call what is not ours: whatever it raises, the thread goes on."""
    try:
        callback(*arguments)
    except BaseException:
        logger.exception("a callback of a producer failed")


_PRODUCERS: "weakref.WeakSet[EmbeddedProducer]" = weakref.WeakSet()


def _abandon_all_in_child() -> None:
    for producer in list(_PRODUCERS):
        producer._abandon_in_child()


os.register_at_fork(after_in_child=_abandon_all_in_child)
