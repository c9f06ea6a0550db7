"""What ``logstore.open`` gives: a data directory with its topics, groups, producers, consumers and queues."""

import atexit
import logging
import os
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol, overload

from logstore.client.consumer import Deserializer, Partitions, RebalanceListener
from logstore.client.embedded.consumer.consumer import EmbeddedConsumer
from logstore.client.embedded.consumer.heartbeats import Heartbeats
from logstore.client.embedded.producer.producer import EmbeddedProducer
from logstore.client.producer import Serializer
from logstore.client.queue.queue import Queue
from logstore.client.queue.read_only import ReadOnlyQueue, read_only_queues
from logstore.client.queue.registry import Queues
from logstore.config import ConsumerConfig, ProducerConfig, StoreConfig
from logstore.errors import ForkedProcess, InvalidArgument, LogstoreError, ReadOnly
from logstore.storage.data_dir import DataDir
from logstore.storage.opening import OpeningProgress
from logstore.store import ReadOnlyTopicStore, TopicStore

logger = logging.getLogger("logstore.client")


class Client(Protocol):
    """What a store closes before itself."""

    def close(self) -> None: ...


class Store(TopicStore):
    """An open data directory, owned by this process until it is closed, and its clients. Safe to use from many
    threads."""

    def __init__(self, data_dir: DataDir) -> None:
        super().__init__(data_dir)
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        self._clients_lock = Lock()  # a WeakSet cannot be gone through while another thread adds to it
        self._heartbeats = Heartbeats(f"logstore-heartbeats {data_dir.path}")
        self._queues = Queues(self, data_dir.now_ms)
        self._clients.add(self._queues)
        data_dir.topic_listeners.append(self._queues.topic_changed)
        _OPEN.add(self)

    def producer(
        self,
        *,
        acks: str | int = "all",
        compression: str | None = None,
        key_serializer: Serializer | None = None,
        value_serializer: Serializer | None = None,
        **settings: object,
    ) -> EmbeddedProducer:
        """A producer, with the settings of ``ProducerConfig``: ``compression`` is short for compression.type.

        Serializers make bytes of keys and values; without, those are bytes. Raises InvalidSetting, Closed.
        """
        self._data_dir.check_open()
        given: dict[str, object] = {**settings, "acks": str(acks) if type(acks) is int else acks}
        if compression is not None:
            given["compression.type"] = compression
        producer = EmbeddedProducer(self._data_dir, ProducerConfig.parse(given), key_serializer, value_serializer)
        self._keep(producer)
        return producer

    def consumer(
        self,
        *topics: str,
        group: str | None = None,
        pattern: str | re.Pattern[str] | None = None,
        assignment: Partitions | None = None,
        key_deserializer: Deserializer | None = None,
        value_deserializer: Deserializer | None = None,
        listener: RebalanceListener | None = None,
        **settings: object,
    ) -> EmbeddedConsumer:
        """A consumer, with the settings of ``ConsumerConfig``, of these topics, or of all whose whole name matches
        ``pattern``, or of just the partitions of ``assignment``; or of nothing yet.

        With a ``group`` its members share the partitions of the topics; without one, the consumer reads all of them,
        those to come included. Deserializers make of bytes whatever you like; null stays None. Raises InvalidTopicName,
        InvalidGroupId, InvalidSetting, InvalidArgument, UnknownTopic, UnknownPartition, Closed.
        """
        self._data_dir.check_open()
        consumer = EmbeddedConsumer(
            self._data_dir,
            lambda: self.groups,
            self._heartbeats,
            ConsumerConfig.parse(settings),
            group=group,
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
        )
        if assignment is not None:
            if topics or pattern is not None:
                raise InvalidArgument("assignment", assignment, "give an assignment, or else topics or a pattern")
            consumer.assign(assignment)
        elif topics or pattern is not None:
            consumer.subscribe(topics, pattern=pattern, listener=listener)
        self._keep(consumer)
        return consumer

    def queue(
        self,
        name: str,
        *,
        serializer: Serializer | None = None,
        deserializer: Callable[[bytes], Any] | None = None,
        **settings: object,
    ) -> Queue:
        """The durable queue of this name, made if there is none; the same object for all who ask for it.

        ``settings`` are those of ``QueueConfig``: they are kept with the queue, and those given now change what was
        kept. A serializer makes bytes of what is put, a deserializer the value of what is got; they are not kept, and
        one that is given takes the place of the one before for all who hold the queue: give them once, where it is
        first asked for, and ask for it without them elsewhere. Raises InvalidTopicName, InvalidSetting, InvalidArgument
        (a topic of that name is no queue), StorageFailure, Closed.
        """
        self._data_dir.check_open()
        return self._queues.open(name, serializer, deserializer, settings)

    def queues(self) -> list[str]:
        """The names of all queues."""
        return self._queues.names()

    def delete_queue(self, name: str) -> None:
        """Remove a queue with all its messages and dead letters, whoever has them. Who still uses it gets UnknownTopic;
        one of the same name that is made later is a new one.

        Raises UnknownTopic, InvalidTopicName, InvalidArgument (dead letters, or a topic that is no queue),
        DamagedTopic, StorageFailure, Closed.
        """
        self._data_dir.check_open()
        self._queues.delete(name)

    def close(self) -> None:
        """Close the clients, which store what they have taken in, make everything durable and let others open the
        directory. Closing twice is no error, and in a forked child nothing: all of it is the parent's."""
        if self._is_in_child():
            return
        try:
            self._close_clients()
        finally:
            self._heartbeats.close()
            super().close()

    def _keep(self, client: Client) -> None:
        """It is closed before the store, if it is still there."""
        with self._clients_lock:
            self._clients.add(client)

    def _is_in_child(self) -> bool:
        try:
            self._data_dir.check_open()
        except LogstoreError as error:
            return isinstance(error, ForkedProcess)
        return False

    def _close_clients(self) -> None:
        with self._clients_lock:
            clients = list(self._clients)
        for client in clients:
            try:
                client.close()
            except LogstoreError as error:
                logger.error("%s: a client was not closed cleanly: %s", self.path, error)
            except Exception:  # a listener of its: the others are to be closed too
                logger.exception("%s: a client was not closed cleanly", self.path)


class ReadOnlyStore(ReadOnlyTopicStore):
    """A data directory to look at, with its queues."""

    def queue(self, name: str, *, deserializer: Callable[[bytes], Any] | None = None) -> ReadOnlyQueue:
        """A queue to look at. Raises UnknownTopic where there is no queue of this name, DamagedTopic, Closed."""
        return ReadOnlyQueue(self, name, deserializer)

    def queues(self) -> list[str]:
        """The names of all queues."""
        return read_only_queues(self)

    def delete_queue(self, name: str) -> None:
        """Raises ReadOnly."""
        raise ReadOnly(str(self.path))


_OPEN: "weakref.WeakSet[Store]" = weakref.WeakSet()


def _close_all_clients() -> None:
    """A program that ends without closing its producers loses nothing that they had taken in."""
    for store in list(_OPEN):
        if not store._is_in_child():
            store._close_clients()


# Later than that of data_dir, which closes the logs: so it is called before.
atexit.register(_close_all_clients)


@overload
def open(
    path: str | Path = "data",
    *,
    read_only: Literal[False] = False,
    create: bool = True,
    on_progress: Callable[[OpeningProgress], None] | None = None,
    **settings: object,
) -> Store: ...
@overload
def open(
    path: str | Path = "data",
    *,
    read_only: Literal[True],
    create: bool = True,
    on_progress: Callable[[OpeningProgress], None] | None = None,
    **settings: object,
) -> ReadOnlyStore: ...
def open(
    path: str | Path = "data",
    *,
    read_only: bool = False,
    create: bool = True,
    on_progress: Callable[[OpeningProgress], None] | None = None,
    **settings: object,
) -> Store | ReadOnlyStore:
    """Open a data directory; ``create`` makes it where there is none. ``settings`` are those of ``StoreConfig``.

    ``read_only`` takes no lock, creates and changes nothing: for a look beside a live owner, or at Apache Kafka's
    directories. Else ``on_progress`` is called, in this thread, a few times a second while partitions are opened, and
    when all are; what it raises ends the opening.

    Raises InvalidArgument, NotADataDir, DataDirLocked, InvalidSetting, StorageFailure.
    """
    config = StoreConfig.parse(settings)
    directory = _checked(path)
    if read_only:
        return ReadOnlyStore(directory, config)
    return Store(DataDir(directory, config, create=create, on_progress=on_progress))


def _checked(path: str | Path) -> Path:
    try:
        if b"\0" not in os.fsencode(Path(path)):
            return Path(path)
    except (TypeError, ValueError):
        pass
    raise InvalidArgument("path", path, "it is no path: name the directory by a str or a Path without NUL")
