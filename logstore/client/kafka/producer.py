"""A cluster's producer: records go to librdkafka, which batches, sends and repeats; one thread here hears what became
of them and gives each future its receipt.

After a crash of this process what had no receipt yet may be stored or not. With acks=all a receipt says ``replicated``:
all in-sync replicas have the record, in memory or on disk; with 1 ``os``: the partition's leader has it.
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any
from weakref import WeakSet

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as LibProducer

from logstore.client.arguments import as_bytes, as_headers, as_timeout, as_timestamp, serialized
from logstore.client.delivery import Delivery, looking
from logstore.client.kafka.admin import Admin
from logstore.client.kafka.admin import logger as library_logger
from logstore.client.kafka.errors import Facts, refused_setting, translated
from logstore.client.kafka.settings import Properties
from logstore.client.producer import Producer, Receipt, Serializer
from logstore.config import ProducerConfig
from logstore.errors import (
    BufferFull,
    Closed,
    InvalidTimestamp,
    LogstoreError,
    RecordTooLarge,
    TimedOut,
    UnknownPartition,
    UnknownTopic,
    Unsupported,
)
from logstore.storage.durability import Durability
from logstore.threads import start_thread

DeliveryCallback = Callable[[Receipt | None, BaseException | None], None]

logger = logging.getLogger("logstore.client")

_SLICE_S = 0.1
_UNSENT = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
_DURABILITY = {"all": Durability.REPLICATED, "-1": Durability.REPLICATED, "1": Durability.OS, "0": None}

_OPEN: "WeakSet[ClusterProducer]" = WeakSet()
_EXIT_PATIENCE_S = 10.0


class _Sent:
    """A record under way: what its future, a Delivery, asks. ``era``: how often ``flush`` had been called when it was
    taken in."""

    __slots__ = ("era", "is_settled", "is_under_way", "made", "on_delivery", "size", "topic", "watched")

    def __init__(self, topic: str, size: int, on_delivery: DeliveryCallback | None, era: int) -> None:
        self.topic, self.size, self.on_delivery, self.era = topic, size, on_delivery, era
        self.is_under_way = True
        self.is_settled = False
        self.made: Receipt | LogstoreError | None = None
        self.watched: list[Delivery] = []

    def outcome(self, index: int) -> Receipt | BaseException:
        """See Promise."""
        assert self.made is not None
        return self.made

    def settle(self, made: Receipt | LogstoreError) -> None:
        with looking():
            self.made = made
            self.is_settled = True
        for delivery in self.watched:
            delivery.tell()


class ClusterProducer(Producer):
    """See the module."""

    def __init__(
        self,
        admin: Admin,
        config: ProducerConfig,
        properties: Properties,
        key_serializer: Serializer | None,
        value_serializer: Serializer | None,
    ) -> None:
        self._admin, self.config = admin, config
        self._serializers = {"key": key_serializer, "value": value_serializer}
        self._durability = _DURABILITY[config.acks]
        try:
            self._client = LibProducer(
                {**properties, "bootstrap.servers": admin.address, "logger": library_logger, "error_cb": _ignore}
            )
        except (KafkaException, ValueError, TypeError) as error:
            raise refused_setting(error, properties) from None
        self._name = f"the producer of cluster {admin.address}"
        self._partition_counts: dict[str, int] = {}
        self._condition = threading.Condition()  # of all that follows
        self._under_way: dict[int, int] = {}  # count of records by era
        self._era = 0
        self._flushing = self._waiting_for_room = 0
        self._is_closing = self._is_closed = False
        self._close_timeout_s: float | None = None
        self._thread = threading.Thread(target=self._listen, name="logstore producer", daemon=True)
        start_thread(self._thread)
        _OPEN.add(self)

    # ---------------------------------------------------------------------------------------------------------- sending

    def send(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        partition: int | None = None,
        headers: Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int | None = None,
        on_delivery: DeliveryCallback | None = None,
        block: bool = True,
    ) -> "Future[Receipt]":
        self._check_open()
        key_bytes = self._serialized("key", topic, key)
        value_bytes = self._serialized("value", topic, value)
        checked_headers = as_headers(headers)
        options: dict[str, Any] = {"headers": list(checked_headers)} if checked_headers else {}
        if timestamp_ms is not None:
            options["timestamp"] = _checked_timestamp(timestamp_ms)
        self._check_partition(topic, partition)
        if partition is not None:
            options["partition"] = partition
        size = len(key_bytes or b"") + len(value_bytes or b"")
        size += sum(len(name.encode()) + len(content or b"") for name, content in checked_headers)
        if size > self.config.max_request_size:
            raise RecordTooLarge(size, self.config.max_request_size, "max.request.size")

        may_wait = block and not self._is_in_callback
        patience_s = self.config.max_block_ms / 1000 if may_wait else 0.0
        deadline = time.monotonic() + patience_s
        while True:
            sent = self._taken_in(topic, size, on_delivery)
            try:
                self._client.produce(topic, value_bytes, key_bytes, on_delivery=partial(self._settle, sent), **options)
                return Delivery(sent, 0)
            except BufferError:
                self._forget(sent)
                self._wait_for_room(deadline, patience_s)
            except KafkaException as error:
                self._forget(sent)
                raise self._refused(error.args[0], sent, partition) from None
            except BaseException:
                self._forget(sent)
                raise

    def _serialized(self, what: str, topic: str, given: object) -> bytes | None:
        serializer = self._serializers[what]
        return as_bytes(what, given) if serializer is None else serialized(what, given, serializer, topic)

    def _check_partition(self, topic: Any, partition: Any) -> None:
        if not isinstance(topic, str) or not topic:
            raise UnknownTopic(str(topic))
        count = self._partition_counts.get(topic)
        if count is None:
            count = self._learn(topic)
        if partition is None:
            return
        if type(partition) is not int or partition < 0:
            raise UnknownPartition(topic, partition, count)
        if partition >= count:
            count = self._learn(topic)  # the topic may have grown
            if partition >= count:
                raise UnknownPartition(topic, partition, count)

    def _learn(self, topic: str) -> int:
        """Ask for the count of partitions, and have librdkafka hear of it too."""
        count = self._admin.partition_count(topic)
        try:
            self._client.list_topics(topic, timeout=self._admin.timeout_s)
        except KafkaException as error:
            raise translated(error, f"look up topic {topic!r}", Facts(timeout_s=self._admin.timeout_s)) from None
        self._partition_counts[topic] = count
        return count

    def _taken_in(self, topic: str, size: int, on_delivery: DeliveryCallback | None) -> _Sent:
        with self._condition:
            if self._is_closing:
                raise Closed(self._name)
            sent = _Sent(topic, size, on_delivery, self._era)
            self._under_way[self._era] = self._under_way.get(self._era, 0) + 1
            if len(self._under_way) == 1 and self._under_way[self._era] == 1:
                self._condition.notify_all()  # the thread waits while nothing is under way
            return sent

    def _forget(self, sent: _Sent) -> None:
        with self._condition:
            if not sent.is_under_way:  # a Ctrl-C came when librdkafka had taken it in
                return
            sent.is_under_way = False
            count = self._under_way[sent.era] - 1
            if count:
                self._under_way[sent.era] = count
            else:
                del self._under_way[sent.era]
            if not count or self._waiting_for_room:
                self._condition.notify_all()

    def _wait_for_room(self, deadline: float, patience_s: float) -> None:
        with self._condition:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise BufferFull(
                    "room in the producer's memory",
                    patience_s,
                    "send more slowly, or raise buffer.memory or max.block.ms",
                )
            self._waiting_for_room += 1
            try:
                self._condition.wait(min(remaining, _SLICE_S))
            finally:
                self._waiting_for_room -= 1

    def _refused(self, error: KafkaError, sent: _Sent, partition: int | None) -> LogstoreError:
        """Why librdkafka did not take a record in, or a broker did not store it."""
        facts = Facts(
            topic=sent.topic,
            partition=-1 if partition is None else partition,
            partition_count=self._partition_counts.get(sent.topic, -1),
            size=sent.size,
            timeout_s=self.config.delivery_timeout_ms / 1000,
        )
        code = error.code()
        if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
            self._partition_counts.pop(sent.topic, None)  # it is looked up anew at the next record
        if code == KafkaError._UNKNOWN_PARTITION and facts.partition < facts.partition_count:
            return UnknownTopic(sent.topic)  # it was there, and is not any more
        if code in _UNSENT:
            return TimedOut(
                f"storing a record in {sent.topic!r}", self._close_timeout_s or 0, "the producer was closed"
            )
        return translated(error, f"store a record in {sent.topic!r}", facts)

    # --------------------------------------------------------------------------------------------------------- receipts

    def _listen(self) -> None:
        while True:
            with self._condition:
                while not self._under_way and not self._is_closing:
                    self._condition.wait()
                if self._is_closing and not self._under_way:
                    return
                is_flushing = self._flushing > 0
            try:
                if is_flushing:
                    self._client.flush(_SLICE_S)
                else:
                    self._client.poll(_SLICE_S)
            except Exception:
                logger.exception("%s: librdkafka's events", self._name)

    def _settle(self, sent: _Sent, error: KafkaError | None, message: Message) -> None:
        made: Receipt | LogstoreError
        if error is None:
            offset = -1 if self._durability is None else message.offset()
            made = Receipt(sent.topic, message.partition(), offset, message.timestamp()[1], self._durability)
        else:
            made = self._with_limit(error, sent, message)
        try:
            sent.settle(made)
            if sent.on_delivery is not None:
                sent.on_delivery(*((made, None) if isinstance(made, Receipt) else (None, made)))
        except Exception:
            logger.exception("%s: the callback of a record for %s failed", self._name, sent.topic)
        finally:
            self._forget(sent)

    def _with_limit(self, error: KafkaError, sent: _Sent, message: Message) -> LogstoreError:
        failure = self._refused(error, sent, message.partition())
        if error.code() not in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE):
            return failure
        try:
            return RecordTooLarge(sent.size, self._admin.max_message_bytes(sent.topic))
        except LogstoreError:  # may not be asked
            return failure

    # ----------------------------------------------------------------------------------------------------------- ending

    def flush(self, timeout: float | None = None) -> None:
        """See Producer. Raises InvalidArgument, Closed, and Unsupported in a callback."""
        patience_s = as_timeout(timeout)
        if self._is_in_callback:
            raise Unsupported("flush() in a callback of the producer", "call it in another thread")
        self._check_open()
        if not self._flushed(patience_s):
            raise TimedOut("storing what was sent", timeout or 0)

    def _flushed(self, timeout_s: float) -> bool:
        """Wait until all records of the eras up to now are settled; -1: as long as that takes."""
        with self._condition:
            era = self._era
            self._era += 1
            self._flushing += 1
            try:
                return self._condition.wait_for(
                    lambda: all(later > era for later in self._under_way), None if timeout_s < 0 else timeout_s
                )
            finally:
                self._flushing -= 1

    def close(self, timeout: float | None = None) -> None:
        patience_s = as_timeout(timeout)
        with self._condition:
            if self._is_closed:
                return
            self._is_closing, self._close_timeout_s = True, timeout
            self._condition.notify_all()
        if self._is_in_callback or self._admin.is_in_child:
            return  # what goes on, goes on when the callback is over; a child has none of it
        if not self._flushed(patience_s):
            self._client.purge()
            self._flushed(-1)
        self._thread.join()
        self._is_closed = True

    @property
    def _is_in_callback(self) -> bool:
        """Whoever waits there waits for itself."""
        return threading.current_thread() is self._thread

    def _check_open(self) -> None:
        if self._is_closing:
            raise Closed(self._name)
        self._admin.check()


@atexit.register
def _close_at_exit() -> None:
    """Ending a process without ``close`` loses nothing that can be stored soon."""
    for producer in list(_OPEN):
        producer.close(_EXIT_PATIENCE_S)


def _ignore(error: KafkaError) -> None:
    """Errors of a connection: librdkafka mends it, and the logger is told."""


def _checked_timestamp(timestamp_ms: int) -> int:
    if as_timestamp(timestamp_ms) == 0:
        raise InvalidTimestamp("timestamp 0 cannot be sent to a cluster: librdkafka takes it for the time of the call")
    return timestamp_ms
