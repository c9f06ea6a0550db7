"""A consumer's positions: told, and moved, of the partitions that it reads; and what offsets there are of any."""

from collections.abc import Mapping

from logstore.client.arguments import as_offset, as_partition, as_partitions, as_times
from logstore.client.consumer import Consumer, Partitions
from logstore.client.embedded.consumer.bell import Bell
from logstore.client.embedded.consumer.feed import Feed
from logstore.client.embedded.consumer.fetcher import Fetcher
from logstore.client.embedded.consumer.offsets import Offsets
from logstore.client.turns import TakesTurns, in_turn
from logstore.errors import NotAssigned
from logstore.format.filename import TopicPartition
from logstore.storage.data_dir import DataDir


class Positions(TakesTurns, Consumer):
    """See the module: the part of a consumer that needs no group and waits for nothing."""

    def __init__(self, what: str, data_dir: DataDir, bell: Bell, offsets: Offsets, fetcher: Fetcher) -> None:
        super().__init__(what)
        self._data_dir = data_dir
        self._bell = bell
        self._offsets = offsets
        self._fetcher = fetcher

    def _feed(self, topic: str, partition: int, what: str) -> Feed:
        feed = self._fetcher.feeds.get(as_partition((topic, partition)))
        if feed is None:
            raise NotAssigned(topic, partition, what)
        return feed

    def _feeds(self, partitions: Partitions, what: str) -> list[Feed]:
        named = as_partitions(partitions)
        return [self._feed(*key, what) for key in named] if named else list(self._fetcher.feeds.values())

    @in_turn
    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._seek(self._feed(topic, partition, "seek in"), as_offset(offset))

    def _seek(self, feed: Feed, offset: int) -> None:
        self._fetcher.seek(feed, offset)
        self._offsets.is_dirty = True

    @in_turn
    def seek_to_beginning(self, partitions: Partitions = ()) -> None:
        for feed in self._feeds(partitions, "seek in"):
            self._seek(feed, feed.log.view.log_start_offset)

    @in_turn
    def seek_to_end(self, partitions: Partitions = ()) -> None:
        for feed in self._feeds(partitions, "seek in"):
            self._seek(feed, self._offsets.end_offset(feed.log))

    @in_turn
    def seek_to_time(self, timestamp_ms: int, partitions: Partitions = ()) -> None:
        for feed in self._feeds(partitions, "seek in"):
            found = feed.log.offset_for_time(timestamp_ms)
            self._seek(feed, self._offsets.end_offset(feed.log) if found is None else found.offset)

    @in_turn
    def pause(self, partitions: Partitions = ()) -> None:
        for feed in self._feeds(partitions, "pause"):
            self._fetcher.pause(feed, True)

    @in_turn
    def resume(self, partitions: Partitions = ()) -> None:
        for feed in self._feeds(partitions, "resume"):
            self._fetcher.pause(feed, False)
        self._bell.set()

    @in_turn
    def paused(self) -> frozenset[TopicPartition]:
        return frozenset(key for key, feed in self._fetcher.feeds.items() if feed.is_paused)

    @in_turn
    def position(self, topic: str, partition: int) -> int:
        feed = self._feed(topic, partition, "tell the position of")
        if feed.position is None:
            return self._offsets.reset(feed, None)  # raises NoCommittedOffset
        return feed.position

    @in_turn
    def lag(self) -> dict[TopicPartition, int]:
        feeds = self._fetcher.feeds
        return {key: max(0, self._offsets.end_offset(feed.log) - self.position(*key)) for key, feed in feeds.items()}

    @in_turn
    def beginning_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]:
        return {key: self._data_dir.log(*key).view.log_start_offset for key in as_partitions(partitions)}

    @in_turn
    def end_offsets(self, partitions: Partitions) -> dict[TopicPartition, int]:
        return {key: self._offsets.end_offset(self._data_dir.log(*key)) for key in as_partitions(partitions)}

    @in_turn
    def offsets_for_times(self, timestamps_ms: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int | None]:
        return self.look_up_times(timestamps_ms)

    def look_up_times(self, timestamps_ms: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int | None]:
        """``offsets_for_times``, in any thread, whoever has the consumer meanwhile."""
        wanted = as_times(timestamps_ms)
        found = {key: self._data_dir.log(*key).offset_for_time(time_ms) for key, time_ms in wanted.items()}
        return {key: None if place is None else place.offset for key, place in found.items()}
