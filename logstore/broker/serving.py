"""A broker that serves: its server and, where the settings ask for it, the one for metrics.

``logstore serve`` does this in a process of its own, ``running`` in a thread of this one.
"""

import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from logstore.addresses import Address
from logstore.broker.broker import Broker
from logstore.broker.metrics_server import MetricsServer
from logstore.broker.server import Server
from logstore.config import BrokerConfig, StoreConfig
from logstore.errors import CannotListen
from logstore.storage.data_dir import DataDir
from logstore.store import TopicStore


class Serving(NamedTuple):
    """``address`` is where the server listens; ``metrics`` too, or None."""

    broker: Broker
    address: Address
    metrics: Address | None

    @property
    def advertised(self) -> Address:
        """What clients are told to connect to."""
        return Address(self.broker.host, self.broker.port)


def open_store(path: Path, config: StoreConfig) -> TopicStore:
    """The directory, as a broker has it: members of groups outlive it. Raises as ``logstore.open``."""
    return TopicStore(DataDir(path, config), keeps_members=True)


@asynccontextmanager
async def serving(store: TopicStore, config: BrokerConfig) -> AsyncIterator[Serving]:
    """Serve until the block ends: then no more connections are taken, and what is under way is finished, within
    shutdown.timeout.ms; a topic that is just being made is made to its end, however long that takes. The store is left
    open. Raises CannotListen."""
    broker = Broker(store, config)
    async with AsyncExitStack() as stack:
        stack.callback(broker.close)
        server = Server(broker)
        with _told_as(config.listener.address):
            await server.start()
        stack.push_async_callback(server.stop)
        metrics = None
        if config.metrics_address is not None:
            metrics_server = MetricsServer(partial(broker.run, _expose, broker))
            with _told_as(config.metrics_address):
                metrics = await metrics_server.start(config.metrics_address)
            stack.push_async_callback(metrics_server.stop)
        yield Serving(broker, server.address, metrics)


def _expose(broker: Broker) -> bytes:
    from logstore.broker.exposition import expose  # when first asked for: nobody waits for it at the start

    return expose(broker.metrics, broker.store)


@contextmanager
def _told_as(address: Address) -> Iterator[None]:
    """Make of the system's errors ours."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
        raise CannotListen(str(address), reason) from None


_REASONS = {
    errno.EADDRINUSE: "another process listens there; stop it, or take another port",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EACCES: "ports below 1024 are for privileged processes",
}
