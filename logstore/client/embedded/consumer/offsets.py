"""Where a consumer begins to read its partitions, and how far it tells its group that it has come."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from logstore.client.embedded.consumer.feed import Feed
from logstore.config import ConsumerConfig
from logstore.errors import (
    IllegalGeneration,
    InvalidArgument,
    LogstoreError,
    NoCommittedOffset,
    OffsetOutOfRange,
    RebalanceInProgress,
    UnknownTopic,
)
from logstore.format.filename import TopicPartition
from logstore.groups.coordinator import GroupCoordinator
from logstore.groups.requests import NO_GENERATION, NO_MEMBER_ID, OffsetAndMetadata
from logstore.storage.durability import Durability
from logstore.storage.partition import PartitionLog

logger = logging.getLogger("logstore.client")


class Identity(NamedTuple):
    """As whom to commit. Without a generation it is for partitions that were assigned by hand."""

    member_id: str = NO_MEMBER_ID
    generation: int = NO_GENERATION
    instance_id: str | None = None


class Offsets:
    """Of one consumer; ``groups`` gives the coordinator. For the thread whose turn it is."""

    def __init__(self, group: str | None, config: ConsumerConfig, groups: Callable[[], GroupCoordinator]) -> None:
        self.group = group
        self.identity = Identity()
        self.is_joining = False  # the group may be in its next generation already, or any time
        self.is_dirty = False  # a position may have moved since the last commit
        self._config = config
        self._groups = groups
        self._is_automatic = group is not None and config.enable_auto_commit
        self._due_s = time.monotonic() + config.auto_commit_interval_ms / 1000

    # ------------------------------------------------------------------------------------------------ where to begin

    def begin(self, feeds: list[Feed], is_younger: Callable[[TopicPartition], bool] = lambda partition: False) -> None:
        """Give each feed its position: what the group has committed, else by ``auto.offset.reset``; none yet where that
        is ``none``. A partition that ``is_younger`` than the consumer's subscription is read from its beginning."""
        committed = self.committed([feed.partition for feed in feeds]) if self.group is not None else {}
        for feed in feeds:
            found = committed.get(feed.partition)
            if found is not None:
                feed.position = feed.committed = found.offset
            elif is_younger(feed.partition):
                feed.position = feed.log.log_start_offset
            elif self._config.auto_offset_reset != "none":
                feed.position = self._reset_offset(feed)
        self.is_dirty = True

    def reset(self, feed: Feed, error: OffsetOutOfRange | None) -> int:
        """Where a feed goes on that has no position, or one that is not in its log. Raises NoCommittedOffset."""
        if self._config.auto_offset_reset == "none":
            if self.group is None and error is not None:
                raise error
            raise NoCommittedOffset(*feed.partition, self.group) from error
        offset = self._reset_offset(feed)
        if error is not None:
            reset = self._config.auto_offset_reset
            logger.warning("%s; the consumer goes on at %d (auto.offset.reset=%s)", error, offset, reset)
        return offset

    def _reset_offset(self, feed: Feed) -> int:
        if self._config.auto_offset_reset == "earliest":
            return feed.log.log_start_offset
        return self.end_offset(feed.log)

    def end_offset(self, log: PartitionLog) -> int:
        """The offset behind the last record that this consumer can get."""
        end_offset = log.view.log_end_offset
        if self._config.isolation_level == "read_committed":
            unstable_offset = log.producer_offsets()[1]
            if unstable_offset is not None:
                return min(end_offset, unstable_offset)
        return end_offset

    # ------------------------------------------------------------------------------------------------------- commits

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        return self._groups().committed(self._checked_group(), partitions)

    def _checked_group(self) -> str:
        if self.group is None:
            raise InvalidArgument("group", None, "offsets are committed for a group: give the consumer one")
        return self.group

    def commit(self, offsets: Mapping[tuple[str, int], OffsetAndMetadata], durability: Durability) -> None:
        """All of them or none."""
        group = self._checked_group()
        try:
            if offsets:
                self._groups().commit(group, offsets, **self.identity._asdict(), durability=durability)
        except IllegalGeneration as error:
            if self.is_joining:
                raise RebalanceInProgress(group) from error
            raise

    def sync(self) -> None:
        self._groups().sync_commits(self._checked_group())

    def commit_positions(self, feeds: Iterable[Feed], durability: Durability) -> None:
        positions = _positions(feeds)
        self.commit(_by_partition(positions), durability)
        for feed, offset in positions.items():
            feed.committed = offset

    def commit_if_automatic(self, feeds: Iterable[Feed]) -> bool:
        """Commit the positions that have moved, if that is automatic; False where something could not be. A power cut
        may undo it, which only leads to records that are read again, so nobody waits for the disk."""
        if not self._is_automatic:
            return True
        positions = _positions(feeds)
        moved = {feed: offset for feed, offset in positions.items() if offset != feed.committed}
        offsets = _by_partition(moved)
        if not offsets:
            return True
        try:
            refused = self._groups().commit_each(
                self._checked_group(), offsets, **self.identity._asdict(), durability=Durability.OS
            )
        except RebalanceInProgress:
            return False
        except LogstoreError as error:
            if self.is_joining and isinstance(error, IllegalGeneration):
                return False
            logger.warning("group %s: %d positions could not be committed: %s", self.group, len(offsets), error)
            return False
        for feed, offset in moved.items():
            feed.committed = offset
            error_of = refused.get(feed.partition)
            if error_of is not None and not isinstance(error_of, UnknownTopic):
                logger.warning("%s-%d could not be committed: %s", *feed.partition, error_of)
        return True

    def commit_if_due(self, feeds: Iterable[Feed]) -> None:
        """The same at its time, every ``auto.commit.interval.ms``. What fails is tried again the next time."""
        now_s = time.monotonic()
        if now_s >= self.due_s:
            self._due_s = now_s + self._config.auto_commit_interval_ms / 1000
            self.is_dirty = not self.commit_if_automatic(feeds)

    @property
    def due_s(self) -> float:
        """When, by time.monotonic, the next automatic commit has something to do; infinity for never."""
        return self._due_s if self._is_automatic and self.is_dirty else float("inf")


def _positions(feeds: Iterable[Feed]) -> dict[Feed, int]:
    return {feed: feed.position for feed in feeds if feed.position is not None}


def _by_partition(positions: Mapping[Feed, int]) -> dict[tuple[str, int], OffsetAndMetadata]:
    return {feed.partition: OffsetAndMetadata(offset) for feed, offset in positions.items()}
