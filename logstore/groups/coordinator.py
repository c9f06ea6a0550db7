"""The coordinator of a directory's consumer groups: their members, their committed offsets, and what is stored of both.

Owns every group of one data directory, and ``__consumer_offsets``, which is made when there first is something to
store. Embedded clients and the broker call it, from any thread.

*After a crash* a commit that was acknowledged is there (``Durability.FSYNC``: after a power cut too), and no committed
offset is older than one that was. A commit that failed left nothing, but for one whose sync failed: it is seen, and not
acknowledged. Where ``keeps_members``, members go on if they are heard of within their sessions; else nobody is left who
could be, and they are taken out at once.
"""

import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from logstore.errors import (
    Closed,
    ForkedProcess,
    GroupNotEmpty,
    IllegalGeneration,
    LogstoreError,
    SubscribedToTopic,
    UnknownGroup,
    UnknownMember,
    UnknownPartition,
)
from logstore.format.filename import TopicPartition
from logstore.format.offsets_topic import OffsetCommitValue
from logstore.groups.deadlines import Deadlines
from logstore.groups.expiry import Expiry
from logstore.groups.group import GroupState
from logstore.groups.group_table import Entry, GroupTable
from logstore.groups.offsets import Commits, check_group_id, check_offsets, check_partitions, fetched, refusal
from logstore.groups.offsets_log import OffsetsLog, commit_record
from logstore.groups.requests import (
    NO_GENERATION,
    NO_MEMBER_ID,
    GroupDescription,
    JoinCallback,
    JoinRequest,
    LeavingMember,
    OffsetAndMetadata,
    SyncCallback,
    SyncRequest,
)
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability

logger = logging.getLogger("logstore.groups")

_EXPIRY_KEY = ""  # among the deadlines: no group has this id


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class GroupCoordinator:
    """See the module. Every call raises Closed after ``close``, ForkedProcess in a child, and InvalidGroupId; but what
    joins and syncs meet, these included, is given to their replies."""

    def __init__(
        self, data_dir: DataDir, *, keeps_members: bool = False, clock_ms: Callable[[], int] = monotonic_ms
    ) -> None:
        """Loads all groups. ``keeps_members``: members of before may still be there, as a broker's are; a consumer of
        this process's directory is not. ``clock_ms`` is monotonic. Raises StorageFailure, DamagedTopic, Closed."""
        self._data_dir = data_dir
        self._config = data_dir.config
        self._now_ms, self._clock_ms = data_dir.now_ms, clock_ms
        self._log = OffsetsLog(data_dir)
        self._topics: set[str] = set()  # of which anything has ever been committed
        self._deadlines = Deadlines(f"logstore-groups {data_dir.path}", clock_ms, self._act)
        self._table = GroupTable(self._log, self._config, self._now_ms, clock_ms, self._deadlines)
        self._expiry = Expiry(self._table, self._config, self._now_ms, clock_ms)
        try:
            self._table.load(keeps_members)
            self._topics.update(partition.topic for _, entry in self._table.all() for partition in entry.commits)
            self._deadlines.set(_EXPIRY_KEY, clock_ms() + self._config.offsets_retention_check_interval_ms)
        except BaseException:
            self._deadlines.close()
            raise
        _OPEN.add(self)

    def get_ready(self) -> None:
        """Make the topic of the groups where there is none, which the first join or commit would wait for. Raises
        StorageFailure, DamagedTopic, Closed."""
        self._table.check_open()
        self._log.make()

    # ------------------------------------------------------------------------------------------------------ membership

    def join(self, request: JoinRequest, reply: JoinCallback) -> None:
        """Join a group, or join it again; ``reply`` is called once, in any thread, with a JoinReply or an error."""
        try:
            check_group_id(request.group)
            self._table.check_open()
            self._log.make()
            self._table.enter(request.group, partial(self._join, request, reply), creates=True)
        except LogstoreError as error:
            reply(error)

    def _join(self, request: JoinRequest, reply: JoinCallback, entry: Entry | None) -> None:
        assert entry is not None
        self._table.settle(entry, entry.group.join(request, reply, self._clock_ms()))

    def sync(self, request: SyncRequest, reply: SyncCallback) -> None:
        """Get, or as the leader give, the assignments of a generation; ``reply`` as with ``join``."""
        try:
            self._table.enter(request.group, partial(self._sync, request, reply))
        except LogstoreError as error:
            reply(error)

    def _sync(self, request: SyncRequest, reply: SyncCallback, entry: Entry | None) -> None:
        if entry is None:
            raise UnknownMember(request.group, request.member_id)
        self._table.settle(entry, entry.group.sync(request, reply, self._clock_ms()))

    def heartbeat(self, group: str, member_id: str, generation: int, instance_id: str | None = None) -> None:
        """Raises UnknownMember, IllegalGeneration, FencedInstance; RebalanceInProgress: join again."""

        def act(entry: Entry | None) -> None:
            if entry is None:
                raise UnknownMember(group, member_id)
            entry.group.heartbeat(member_id, generation, instance_id, self._clock_ms())

        self._table.enter(group, act)

    def leave(self, group: str, members: Sequence[LeavingMember]) -> list[LogstoreError | None]:
        """For each, in order, None or why it could not leave: UnknownMember, FencedInstance."""

        def act(entry: Entry | None) -> list[LogstoreError | None]:
            if entry is None:
                return [UnknownMember(group, leaving.member_id) for leaving in members]
            errors, outcome = entry.group.leave(members, self._clock_ms())
            self._table.settle(entry, outcome)
            return errors

        return self._table.enter(group, act)

    # --------------------------------------------------------------------------------------------------------- offsets

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
        """Commit all of ``offsets`` or none; on the disk when this returns, unless ``durability`` says otherwise.

        Without a generation it is for a group that has no members. Raises UnknownTopic, UnknownPartition,
        OffsetMetadataTooLarge, InvalidArgument, UnknownMember, IllegalGeneration, FencedInstance, RebalanceInProgress,
        RecordTooLarge, StorageFailure, PartitionOffline.
        """
        member = (member_id, generation, instance_id)
        self._commit(group, offsets, member, Durability.parse(durability), is_whole=True)

    def commit_each(
        self,
        group: str,
        offsets: Mapping[tuple[str, int], int | OffsetAndMetadata],
        *,
        member_id: str = NO_MEMBER_ID,
        generation: int = NO_GENERATION,
        instance_id: str | None = None,
        durability: Durability | str = Durability.FSYNC,
    ) -> dict[TopicPartition, LogstoreError]:
        """As ``commit``, but what is wrong with a partition is returned, and keeps only that one from being committed.
        What concerns all of them is raised."""
        member = (member_id, generation, instance_id)
        return self._commit(group, offsets, member, Durability.parse(durability), is_whole=False)

    def _commit(
        self,
        group: str,
        offsets: Mapping[tuple[str, int], int | OffsetAndMetadata],
        member: tuple[str, int, str | None],
        durability: Durability,
        is_whole: bool,
    ) -> dict[TopicPartition, LogstoreError]:
        check_group_id(group)
        wanted = check_offsets(offsets)
        generation = member[1]
        self._table.check_open()
        self._log.make()
        refused, taken = self._table.enter(
            group, partial(self._take_offsets, group, wanted, member, is_whole), creates=generation < 0
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
        entry: Entry | None,
    ) -> tuple[dict[TopicPartition, LogstoreError], Commits]:
        """What is refused, and what is committed."""
        member_id, generation, instance_id = member
        if entry is None:
            raise IllegalGeneration(group, generation, NO_GENERATION)
        entry.group.check_commit(member_id, generation, instance_id, self._clock_ms())
        refused = self._refused(wanted)
        if refused and is_whole:
            raise next(iter(refused.values()))
        now_ms = self._now_ms()
        taken = {
            partition: OffsetCommitValue(offset, leader_epoch, metadata, now_ms)
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

    def _refused(self, wanted: Mapping[TopicPartition, OffsetAndMetadata]) -> dict[TopicPartition, LogstoreError]:
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
                reason = refusal(committed, self._config.offset_metadata_max_bytes)
            except LogstoreError as error:
                reason = error
            if reason is not None:
                refused[partition] = reason
        return refused

    def committed(
        self, group: str, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What the group has committed, of ``partitions`` or all; those of which it has nothing are not in it, and an
        unknown group has nothing."""
        wanted = None if partitions is None else check_partitions(partitions)

        def act(entry: Entry | None) -> dict[TopicPartition, OffsetAndMetadata]:
            commits = {} if entry is None else entry.commits
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

    # ------------------------------------------------------------------------------------------------ looking, deleting

    def groups(self) -> list[GroupDescription]:
        """All groups, by id."""
        descriptions = [self.describe(group_id) for group_id, _ in self._table.all()]
        return [description for description in descriptions if description.state != GroupState.DEAD.value]

    def describe(self, group: str) -> GroupDescription:
        """A group that nobody knows is Dead, as in Kafka."""

        def act(entry: Entry | None) -> GroupDescription:
            if entry is None:
                return GroupDescription(group, GroupState.DEAD.value, "", "", NO_GENERATION, ())
            return entry.group.describe()

        return self._table.enter(group, act)

    def delete(self, group: str) -> None:
        """Forget a group without members and all that it has committed, for good when this returns.

        Raises UnknownGroup, GroupNotEmpty, StorageFailure.
        """

        def act(entry: Entry | None) -> None:
            if entry is None:
                raise UnknownGroup(group)
            if entry.group.state is not GroupState.EMPTY:
                raise GroupNotEmpty(group, len(entry.group.members))
            self._table.forget(entry, list(entry.commits), with_group=True)

        self._table.enter(group, act)
        self._log.sync(group)

    def delete_offsets(self, group: str, partitions: Iterable[tuple[str, int]]) -> None:
        """Forget what a group has committed of these, all or none, for good when this returns; of those that it has
        committed nothing of, there is nothing to forget.

        Raises UnknownGroup; SubscribedToTopic, GroupNotEmpty while members may want them; StorageFailure.
        """
        wanted = check_partitions(partitions)

        def act(entry: Entry | None) -> None:
            if entry is None:
                raise UnknownGroup(group)
            if entry.group.state is not GroupState.EMPTY:
                topics = entry.group.subscribed_topics()
                if topics is None:
                    raise GroupNotEmpty(group, len(entry.group.members))
                for topic in [partition.topic for partition in wanted if partition.topic in topics]:
                    raise SubscribedToTopic(group, topic)
            self._table.forget(entry, [partition for partition in wanted if partition in entry.commits])

        self._table.enter(group, act)
        self._log.sync(group)

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

    # ------------------------------------------------------------------------------------------------------------- time

    def run_due(self) -> None:
        """Do what is due by now: sessions and rebalances that are over, offsets that expire. The coordinator's thread
        calls it; it does no harm from another."""
        self._deadlines.run_due()

    def _act(self, key: str) -> int | None:
        if key == _EXPIRY_KEY:
            self.expire_offsets()
            return self._clock_ms() + self._config.offsets_retention_check_interval_ms
        try:
            self._table.enter(key, self._tick)
        except Closed:
            pass
        return None  # what comes next for the group is set by now

    def _tick(self, entry: Entry | None) -> None:
        if entry is not None:
            self._table.settle(entry, entry.group.tick(self._clock_ms()))

    def expire_offsets(self) -> None:
        """Take away the offsets that have expired, and the groups that have no member and no offset left."""
        self._expiry.run()

    # ---------------------------------------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Stop, and tell all who wait that it is closed. Closing twice is no error."""
        if self in _OPEN:
            _OPEN.discard(self)
            self._table.close(Closed(f"the groups of {self._data_dir.path}"))
            self._deadlines.close()

    def _abandon_in_child(self) -> None:
        self._table.abandon_in_child(ForkedProcess(f"the groups of {self._data_dir.path}"))


_OPEN: "weakref.WeakSet[GroupCoordinator]" = weakref.WeakSet()


def _abandon_all_in_child() -> None:
    for coordinator in list(_OPEN):
        coordinator._abandon_in_child()
    _OPEN.clear()


os.register_at_fork(after_in_child=_abandon_all_in_child)
