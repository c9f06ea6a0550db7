"""The broker: what handlers need, in one place. It has no sockets; ``server`` does.

Owns the threads for what blocks. Everything else of it belongs to the event loop's thread, in which it is made.
"""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar
from uuid import UUID

from logstore.addresses import Address
from logstore.broker.delayed_fetches import DelayedFetch
from logstore.broker.fetch_sessions import FetchSessions
from logstore.broker.memory import MemoryBudget
from logstore.broker.metrics import Metrics
from logstore.broker.producer_ids import ProducerIds
from logstore.broker.syncs import Syncs
from logstore.config import BrokerConfig
from logstore.groups.coordinator import GroupCoordinator
from logstore.storage.ownership import read_meta
from logstore.store import TopicStore

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Broker:
    """``store`` was opened for it, with ``keeps_members``, and is closed by who opened it, after ``close``."""

    def __init__(self, store: TopicStore, config: BrokerConfig | None = None) -> None:
        self.store = store
        self.config = config or BrokerConfig()
        meta = read_meta(store.path)
        self.node_id = int(meta.get("node.id", "0")) if self.config.node_id < 0 else self.config.node_id
        self.cluster_id = meta.get("cluster.id", "")
        self.host, self.port = "", 0
        self.be_reached_at(self.config.listener.address)
        self.waits_for_disk = self.config.acks_all_durability == "fsync"
        """Whether what is acknowledged with acks=all must be on the disk."""
        self.metrics = Metrics()
        self.memory = MemoryBudget(self.config.queued_max_request_bytes)
        self.threads = ThreadPoolExecutor(self.config.num_io_threads, thread_name_prefix="logstore-broker")
        """For what waits for the disk on behalf of producers and consumers, and takes no longer than the disk does."""
        self._long_threads = ThreadPoolExecutor(self.config.num_io_threads, thread_name_prefix="logstore-broker-long")
        self.altering = Lock()  # for who changes settings by what they are
        self.syncs = Syncs(self.threads, self.metrics.flushed)
        self.producer_ids = ProducerIds(store.path)
        self.fetch_sessions = FetchSessions(self.config.max_incremental_fetch_session_cache_slots)
        self.delayed_fetches: set[DelayedFetch] = set()
        self.tasks: set[asyncio.Task[bytes]] = set()  # requests whose handlers wait for something
        self.is_stopping = False  # then what takes long goes no further than it must
        self._loop: asyncio.AbstractEventLoop | None = None

    def be_reached_at(self, bound: Address) -> None:
        """Take note of where the server listens: what clients are told of it, unless the settings say otherwise."""
        address = self.config.advertised or bound
        self.host = socket.getfqdn() if address.is_wildcard else address.host
        self.port = address.port

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the broker runs in."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def groups(self) -> GroupCoordinator:
        return self.store.groups

    def topic_name(self, topic_id: UUID) -> str:
        """Raises UnknownTopic."""
        return self.store.topic_of_id(topic_id).name

    def run(
        self, function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> "asyncio.Future[_Result]":
        """Have a function that may take long run in another thread: ``await broker.run(store.delete_topic, name)``."""
        return self.loop.run_in_executor(self._long_threads, partial(function, *args, **kwargs))

    def read(
        self, function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> "asyncio.Future[_Result]":
        """``run`` for looks into logs, which do not wait for those who make topics."""
        return self.loop.run_in_executor(self.threads, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Let go of the threads, once what they are at is done."""
        self.threads.shutdown()
        self._long_threads.shutdown()
