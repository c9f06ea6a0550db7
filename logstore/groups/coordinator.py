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
from collections.abc import Callable, Sequence
from functools import partial

from logstore.errors import (
    Closed,
    ForkedProcess,
    GroupNotEmpty,
    InconsistentProtocol,
    LogstoreError,
    UnknownGroup,
    UnknownMember,
)
from logstore.groups.consumer.consumer_group import ConsumerGroup
from logstore.groups.consumer.described import as_group_description
from logstore.groups.consumer_coordinator import ConsumerCoordinator
from logstore.groups.deadlines import Deadlines
from logstore.groups.expiry import Expiry
from logstore.groups.group import Group, GroupState
from logstore.groups.group_table import Entry, GroupTable
from logstore.groups.offsets import check_group_id
from logstore.groups.offsets_log import OffsetsLog
from logstore.groups.requests import (
    CLASSIC,
    CONSUMER,
    NO_GENERATION,
    GroupDescription,
    GroupSummary,
    JoinCallback,
    JoinRequest,
    LeavingMember,
    SyncCallback,
    SyncRequest,
)
from logstore.storage.data_dir import DataDir

logger = logging.getLogger("logstore.groups")

_EXPIRY_KEY = ""  # among the deadlines: no group has this id


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class GroupCoordinator(ConsumerCoordinator):
    """See the module. Every call raises Closed after ``close``, ForkedProcess in a child, and InvalidGroupId; but what
    joins and syncs meet, these included, is given to their replies."""

    def __init__(
        self, data_dir: DataDir, *, keeps_members: bool = False, clock_ms: Callable[[], int] = monotonic_ms
    ) -> None:
        """Loads all groups. ``keeps_members``: members of before may still be there, as a broker's are; a consumer of
        this process's directory is not. ``clock_ms`` is monotonic. Raises StorageFailure, DamagedTopic, Closed."""
        super().__init__(data_dir, OffsetsLog(data_dir))
        self._clock_ms = clock_ms
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

    @property
    def is_ready(self) -> bool:
        """Whether no call has to make the topic of the groups first."""
        return self._log.is_made

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
        group = self._table.classic_group(entry)
        if group is None:
            raise InconsistentProtocol(request.group, "it is a group of members with group.protocol=consumer")
        self._table.settle(entry, group.join(request, reply, self._clock_ms()))

    def sync(self, request: SyncRequest, reply: SyncCallback) -> None:
        """Get, or as the leader give, the assignments of a generation; ``reply`` as with ``join``."""
        try:
            self._table.enter(request.group, partial(self._sync, request, reply))
        except LogstoreError as error:
            reply(error)

    def _sync(self, request: SyncRequest, reply: SyncCallback, entry: Entry | None) -> None:
        if entry is None or not isinstance(entry.group, Group):
            raise UnknownMember(request.group, request.member_id)
        self._table.settle(entry, entry.group.sync(request, reply, self._clock_ms()))

    def heartbeat(self, group: str, member_id: str, generation: int, instance_id: str | None = None) -> None:
        """Raises UnknownMember, IllegalGeneration, FencedInstance; RebalanceInProgress: join again."""

        def act(entry: Entry | None) -> None:
            if entry is None or not isinstance(entry.group, Group):
                raise UnknownMember(group, member_id)
            entry.group.heartbeat(member_id, generation, instance_id, self._clock_ms())

        self._table.enter(group, act)

    def leave(self, group: str, members: Sequence[LeavingMember]) -> list[LogstoreError | None]:
        """For each, in order, None or why it could not leave: UnknownMember, FencedInstance. Raises
        StorageFailure for members of a group of the newer protocol, who are taken out."""

        def act(entry: Entry | None) -> list[LogstoreError | None]:
            if entry is None:
                return [UnknownMember(group, leaving.member_id) for leaving in members]
            if isinstance(entry.group, ConsumerGroup):
                return self._remove(entry, entry.group, members)
            errors, outcome = entry.group.leave(members, self._clock_ms())
            self._table.settle(entry, outcome)
            return errors

        return self._table.enter(group, act)

    # ------------------------------------------------------------------------------------------------ looking, deleting

    def groups(self) -> list[GroupDescription]:
        """All groups, by id."""
        descriptions = [self.describe(group_id) for group_id, _ in self._table.all()]
        return [description for description in descriptions if description.state != GroupState.DEAD.value]

    def summaries(self) -> list[GroupSummary]:
        """All groups, by id: cheaper than ``groups``, which tells what each member has."""
        found = [self._table.enter(group_id, _summary) for group_id, _ in self._table.all()]
        return [summary for summary in found if summary is not None]

    def describe(self, group: str) -> GroupDescription:
        """A group that nobody knows is Dead, as in Kafka."""

        def act(entry: Entry | None) -> GroupDescription:
            if entry is None:
                return GroupDescription(group, GroupState.DEAD.value, "", "", NO_GENERATION, ())
            if isinstance(entry.group, ConsumerGroup):
                return as_group_description(entry.group)
            return entry.group.describe()

        return self._table.enter(group, act)

    def delete(self, group: str) -> None:
        """Forget a group without members and all that it has committed, for good when this returns.

        Raises UnknownGroup, GroupNotEmpty, StorageFailure.
        """

        def act(entry: Entry | None) -> None:
            if entry is None:
                raise UnknownGroup(group)
            if not entry.is_empty:
                raise GroupNotEmpty(group, len(entry.group.members))
            self._table.forget(entry, list(entry.commits), with_group=True)

        self._table.enter(group, act)
        self._log.sync(group)

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
        if entry is None:
            return
        if isinstance(entry.group, ConsumerGroup):
            self._tick_consumer_group(entry, entry.group)
        else:
            self._table.settle(entry, entry.group.tick(self._clock_ms()))
            self._deadlines.set(entry.group.group_id, entry.group.next_deadline_ms)

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


def _summary(entry: Entry | None) -> GroupSummary | None:
    if entry is None:
        return None
    group = entry.group
    kind = CONSUMER if isinstance(group, ConsumerGroup) else CLASSIC
    return GroupSummary(group.group_id, group.state.value, group.protocol_type or "", kind, len(group.members))


_OPEN: "weakref.WeakSet[GroupCoordinator]" = weakref.WeakSet()


def _abandon_all_in_child() -> None:
    for coordinator in list(_OPEN):
        coordinator._abandon_in_child()
    _OPEN.clear()


os.register_at_fork(after_in_child=_abandon_all_in_child)
