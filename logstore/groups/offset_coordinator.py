"""What groups have committed: taken, told and forgotten; the half of the coordinator that knows offsets.

Owns the rules of who may commit what (with ``offsets.py``, which knows values) and which topics are spoken of. What is
promised after a crash is told in coordinator.py, whose base this is.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from logstore.errors import (
    GroupNotEmpty,
    IllegalGeneration,
    LogstoreError,
    SubscribedToTopic,
    UnknownGroup,
    UnknownPartition,
)
from logstore.format.filename import TopicPartition
from logstore.format.offsets_topic import OffsetCommitValue
from logstore.groups.consumer.consumer_group import ConsumerGroup
from logstore.groups.group_table import Entry, GroupTable
from logstore.groups.offsets import Commits, check_group_id, check_offsets, check_partitions, fetched, refusal
from logstore.groups.offsets_log import OffsetsLog, commit_record
from logstore.groups.requests import NO_GENERATION, NO_MEMBER_ID, OffsetAndMetadata
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from logstore.storage.partition import PartitionLog

logger = logging.getLogger("logstore.groups")


class OffsetCoordinator:
    """See the module."""

    _table: GroupTable
    _clock_ms: Callable[[], int]

    def __init__(self, data_dir: DataDir, log: OffsetsLog) -> None:
        self._data_dir = data_dir
        self._config = data_dir.config
        self._now_ms = data_dir.now_ms
        self._log = log
        self._topics: set[str] = set()  # of which anything has ever been committed

    # ------------------------------------------------------------------------------------------------------ committing

    def commit(
        self,
        group: str,
        offsets: Mapping[tuple[str, int], int | OffsetAndMetadata],
        *,
        member_id: str = NO_MEMBER_ID,
        generation: int = NO_GENERATION,
        instance_id: str | None = None,
        durability: Durability | str = Durability.FSYNC,
    ) -> None:
        """Commit all of ``offsets`` or none; on the disk when this returns, unless ``durability`` says otherwise, and
        ``flush.messages`` does not.

        Without a generation it is for a group that has no members. Raises UnknownTopic, UnknownPartition,
        OffsetMetadataTooLarge, InvalidArgument, UnknownMember, IllegalGeneration, FencedInstance, RebalanceInProgress,
        RecordTooLarge, StorageFailure, PartitionOffline.
        """
        member = (member_id, generation, instance_id)
        level = Durability.parse(durability)
        self._commit(group, offsets, member, level, is_whole=True)
        if level is Durability.OS and self.log_of(group).is_flush_due:
            self._log.sync(group)

    def commit_each(
        self,
        group: str,
        offsets: Mapping[tuple[str, int], int | OffsetAndMetadata],
        *,
        member_id: str = NO_MEMBER_ID,
        generation: int = NO_GENERATION,
        instance_id: str | None = None,
        durability: Durability | str = Durability.FSYNC,
        retention_ms: int | None = None,
    ) -> dict[TopicPartition, LogstoreError]:
        """As ``commit``, but what is wrong with a partition is returned, and keeps only that one from being committed.
        What concerns all of them is raised. Negative offsets are taken, as Kafka does. ``retention_ms``: how long they
        stay, whatever the group does (a wish of old clients). With Durability.OS this waits for no sync, not for
        flush.messages' either."""
        member = (member_id, generation, instance_id)
        level = Durability.parse(durability)
        return self._commit(group, offsets, member, level, is_whole=False, retention_ms=retention_ms)

    def _commit(
        self,
        group: str,
        offsets: Mapping[tuple[str, int], int | OffsetAndMetadata],
        member: tuple[str, int, str | None],
        durability: Durability,
        is_whole: bool,
        retention_ms: int | None = None,
    ) -> dict[TopicPartition, LogstoreError]:
        check_group_id(group)
        wanted = check_offsets(offsets)
        generation = member[1]
        self._table.check_open()
        self._log.make()
        refused, taken = self._table.enter(
            group, partial(self._take_offsets, group, wanted, member, is_whole, retention_ms), creates=generation < 0
        )
        if taken and durability is Durability.FSYNC:
            self._log.sync(group)
        return refused

    def _take_offsets(
        self,
        group: str,
        wanted: Mapping[TopicPartition, OffsetAndMetadata],
        member: tuple[str, int, str | None],
        is_whole: bool,
        retention_ms: int | None,
        entry: Entry | None,
    ) -> tuple[dict[TopicPartition, LogstoreError], Commits]:
        """What is refused, and what is committed."""
        member_id, generation, instance_id = member
        if entry is None:
            raise IllegalGeneration(group, generation, NO_GENERATION)
        entry.group.check_commit(member_id, generation, instance_id, self._clock_ms())
        refused = self._refused(wanted, is_whole)
        if refused and is_whole:
            raise next(iter(refused.values()))
        now_ms = self._now_ms()
        expires_ms = -1 if retention_ms is None else now_ms + retention_ms
        taken = {
            partition: OffsetCommitValue(offset, leader_epoch, metadata, now_ms, expires_ms)
            for partition, (offset, metadata, leader_epoch) in wanted.items()
            if partition not in refused
        }
        if taken:
            self._log.append(group, [commit_record(group, *item) for item in taken.items()])
            entry.commits.update(taken)
        return refused, taken

    def sync_commits(self, group: str) -> None:
        """Have on the disk whatever was committed for a group with less. Raises StorageFailure, PartitionOffline."""
        self._table.check_open()
        self._log.sync(check_group_id(group))

    def log_of(self, group: str) -> PartitionLog:
        """Where a group is stored: who must not wait in this thread has it synced elsewhere. Raises UnknownTopic while
        nothing has been stored of any group."""
        self._table.check_open()
        return self._log.log_of(check_group_id(group))

    def _refused(
        self, wanted: Mapping[TopicPartition, OffsetAndMetadata], is_whole: bool
    ) -> dict[TopicPartition, LogstoreError]:
        """Under the group's lock: a topic that is deleted has its offsets taken away after this, or is unknown here."""
        refused: dict[TopicPartition, LogstoreError] = {}
        for partition, committed in wanted.items():
            try:
                if partition.topic not in self._topics:
                    self._data_dir.topic(partition.topic)
                    self._topics.add(partition.topic)  # before the look that counts: see forget_topic
                partition_count = self._data_dir.topic(partition.topic).partitions
                if not 0 <= partition.partition < partition_count:
                    raise UnknownPartition(*partition, partition_count)
                reason = refusal(committed, self._config.offset_metadata_max_bytes, is_any_number=not is_whole)
            except LogstoreError as error:
                reason = error
            if reason is not None:
                refused[partition] = reason
        return refused

    # --------------------------------------------------------------------------------------------------------- looking

    def committed(
        self,
        group: str,
        partitions: Iterable[tuple[str, int]] | None = None,
        *,
        member_id: str | None = None,
        epoch: int = NO_GENERATION,
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What the group has committed, of ``partitions`` or all; those of which it has nothing are not in it, and an
        unknown group has nothing. A member of a consumer group that says who it is, and in which epoch, may be told
        UnknownMember, StaleMemberEpoch."""
        wanted = None if partitions is None else check_partitions(partitions)

        def act(entry: Entry | None) -> dict[TopicPartition, OffsetAndMetadata]:
            commits = {} if entry is None else entry.commits
            says_who = member_id is not None or epoch >= 0
            if says_who and entry is not None and isinstance(entry.group, ConsumerGroup):
                entry.group.check_epoch(member_id or NO_MEMBER_ID, epoch)
            keys = commits if wanted is None else wanted
            return {key: fetched(commits[key]) for key in keys if key in commits}

        return self._table.enter(group, act)

    def committed_of(self, topic: str, partition: int) -> dict[str, int]:
        """What each group that committed anything of a partition has committed, by group."""
        key = TopicPartition(topic, partition)
        found = [(group_id, entry.commits.get(key)) for group_id, entry in self._table.all()]
        return {group_id: value.offset for group_id, value in found if value is not None}

    def durably_committed_of(self, topic: str, partition: int) -> dict[str, int]:
        """``committed_of``, once that is on the disk: what may be deleted because of it is gone for good. Raises
        StorageFailure, PartitionOffline."""
        committed = self.committed_of(topic, partition)
        for group in committed:
            self._log.sync(group)
        return committed

    # ------------------------------------------------------------------------------------------------------ forgetting

    def delete_offsets(self, group: str, partitions: Iterable[tuple[str, int]]) -> None:
        """Forget what a group has committed of these, all or none, for good when this returns; of those that it has
        committed nothing of, there is nothing to forget.

        Raises UnknownGroup; SubscribedToTopic, GroupNotEmpty while members may want them; StorageFailure.
        """
        self._delete_offsets(group, partitions, is_whole=True)

    def delete_offsets_each(
        self, group: str, partitions: Iterable[tuple[str, int]]
    ) -> dict[TopicPartition, LogstoreError]:
        """As ``delete_offsets``, but those of topics that are subscribed to are returned with SubscribedToTopic, and
        the others forgotten."""
        return self._delete_offsets(group, partitions, is_whole=False)

    def _delete_offsets(
        self, group: str, partitions: Iterable[tuple[str, int]], is_whole: bool
    ) -> dict[TopicPartition, LogstoreError]:
        wanted = check_partitions(partitions)

        def act(entry: Entry | None) -> dict[TopicPartition, LogstoreError]:
            if entry is None:
                raise UnknownGroup(group)
            topics: frozenset[str] | None = frozenset()
            if not entry.is_empty:
                topics = entry.group.subscribed_topics()
            if topics is None:
                raise GroupNotEmpty(group, len(entry.group.members))
            refused: dict[TopicPartition, LogstoreError] = {
                partition: SubscribedToTopic(group, partition.topic)
                for partition in wanted
                if partition.topic in topics
            }
            if refused and is_whole:
                raise next(iter(refused.values()))
            gone = dict.fromkeys(key for key in wanted if key in entry.commits and key not in refused)
            self._table.forget(entry, list(gone))
            return refused

        refused = self._table.enter(group, act)
        self._log.sync(group)
        return refused

    def forget_topic(self, topic: str) -> None:
        """Take away what all groups have committed of a topic, which is deleted, or about to be made anew. What could
        not be stored of that is told in warnings."""
        if topic not in self._topics:
            return
        for group_id, _ in self._table.all():
            self._table.enter(group_id, partial(self._forget_topic_of, group_id, topic))

    def _forget_topic_of(self, group_id: str, topic: str, entry: Entry | None) -> None:
        gone = [] if entry is None else [key for key in list(entry.commits) if key.topic == topic]
        if entry is None or not gone:
            return
        try:
            self._table.forget(entry, gone)
        except LogstoreError as error:
            for key in gone:
                entry.commits.pop(key, None)
            logger.warning("group %s: its offsets of topic %s are not deleted yet: %s", group_id, topic, error)
