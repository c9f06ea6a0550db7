"""The partitions that a consumer reads: how they come and go, and what its listener is told of that."""

from collections.abc import Callable, Collection, Iterable
from typing import cast

from logstore.client.consumer import RebalanceListener
from logstore.client.embedded.consumer.feed import Feed
from logstore.client.embedded.consumer.fetcher import Fetcher
from logstore.client.embedded.consumer.offsets import Offsets
from logstore.config import ConsumerConfig
from logstore.errors import InvalidArgument, UnknownPartition, UnknownTopic
from logstore.format.filename import TopicPartition
from logstore.storage.data_dir import DataDir
from logstore.storage.partition import PartitionLog


class Holdings:
    """See the module. What a listener raises comes out when everything else is done. For the thread whose turn it
    is."""

    def __init__(self, data_dir: DataDir, config: ConsumerConfig, fetcher: Fetcher, offsets: Offsets) -> None:
        self.listener: RebalanceListener | None = None
        self._data_dir = data_dir
        self._is_committed_only = config.isolation_level == "read_committed"
        self._fetcher = fetcher
        self._offsets = offsets
        self._going: set[TopicPartition] = set()  # being revoked: a listener may end up in here again, as by close()

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        return frozenset(self._fetcher.feeds)

    def take_on(
        self, partitions: Iterable[tuple[str, int]], is_younger: Callable[[TopicPartition], bool] | None = None
    ) -> None:
        """Read these too, but for those that were deleted meanwhile. ``is_younger`` as in ``Offsets.begin``; None: they
        were given by hand, and the listener is not told."""
        keys = [TopicPartition(topic, number) for topic, number in sorted(partitions)]
        logs = {key: log for key in keys if (log := self._log(key)) is not None}
        feeds = [Feed(key, log, self._is_committed_only) for key, log in logs.items()]
        if not feeds:
            return
        if is_younger is None:
            self._offsets.begin(feeds)
        else:
            self._offsets.begin(feeds, is_younger)
        for feed in feeds:
            self._fetcher.add(feed)
        if self.listener is not None and is_younger is not None:
            self.listener.on_partitions_assigned([feed.partition for feed in feeds])

    def commit_if_automatic(self) -> bool:
        """False where there is something that could not be."""
        return self._offsets.commit_if_automatic(self._fetcher.feeds.values())

    def revoke(self, partitions: Collection[TopicPartition]) -> None:
        """Give these up, after a commit if that is automatic."""
        feeds = self._fetcher.feeds
        gone = sorted(partition for partition in partitions if partition in feeds and partition not in self._going)
        if not gone:
            return
        try:
            self._going.update(gone)
            self._offsets.commit_if_automatic([feeds[partition] for partition in gone])
            if self.listener is not None:
                self.listener.on_partitions_revoked(gone)
        finally:
            try:
                self._fetcher.remove(gone)
            finally:  # also where Ctrl-C comes in the middle: what is held still can be given up again
                self._going.difference_update(gone)

    def lose(self) -> None:
        """All are others' already."""
        gone = sorted(self._fetcher.feeds)
        self._fetcher.remove(gone)
        if gone and self.listener is not None:
            self.listener.on_partitions_lost(gone)

    def let_go_of_deleted(self) -> None:
        """Of partitions whose topic was deleted, or is another of that name by now, nothing can be read any more."""
        gone = [partition for partition, feed in self._fetcher.feeds.items() if self._log(partition) is not feed.log]
        self._fetcher.remove(gone)
        if gone and self.listener is not None:
            self.listener.on_partitions_lost(sorted(gone))

    def _log(self, partition: TopicPartition) -> PartitionLog | None:
        try:
            return self._data_dir.log(*partition)
        except (UnknownTopic, UnknownPartition):
            return None

    def drop(self) -> None:
        """Give up all without a word, as those that were assigned by hand."""
        self._fetcher.remove(list(self._fetcher.feeds))


def checked_listener(listener: object) -> RebalanceListener | None:
    """One that has the methods, whatever its class. Raises InvalidArgument."""
    methods = ("on_partitions_assigned", "on_partitions_revoked", "on_partitions_lost")
    if listener is None or all(callable(getattr(listener, method, None)) for method in methods):
        return cast(RebalanceListener | None, listener)
    raise InvalidArgument("listener", listener, f"it is a RebalanceListener, or has {', '.join(methods)}")
