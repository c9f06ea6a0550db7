"""The groups of a directory, each with its lock, what is kept with it and what of it is to be stored or answered.

Owns who may act on a group when, and that each change goes to ``__consumer_offsets`` before it is answered. Only the
coordinator uses it.

*Locks.* A group has one, taken for what happens to that group, with its appends, which end in the page cache. Nobody
waits for a sync, calls a callback or creates a topic while holding it; two groups' are never held together.

A Ctrl-C may end a call anywhere: what it has not stored or answered by then, the next call for the group does, and the
coordinator's thread, which is told so.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

from logstore.config import StoreConfig
from logstore.errors import ForkedProcess, LogstoreError
from logstore.format.filename import TopicPartition
from logstore.format.group_records import GroupRecord
from logstore.format.offsets_topic import GroupMetadataValue
from logstore.groups.consumer.consumer_group import ConsumerGroup
from logstore.groups.deadlines import Deadlines
from logstore.groups.group import Group, GroupState, Outcome
from logstore.groups.offsets import Commits, check_group_id
from logstore.groups.offsets_log import OffsetsLog, StoredGroup, commit_record, group_record, metadata_record

logger = logging.getLogger("logstore.groups")

Result = TypeVar("Result")

_TOMBSTONES_SIZE_MAX = 500_000  # of a batch: below max.message.bytes
_TOMBSTONE_SIZE_MAX = 300  # of a record, with the longest of topic names, and without the group's


class Entry:
    """A group and what is kept with it. ``since_ms``: when its metadata was stored last, -1 where it never was."""

    def __init__(
        self, group: Group | ConsumerGroup, commits: Commits, since_ms: int = -1, has_metadata: bool = False
    ) -> None:
        self.lock = threading.RLock()
        self.group = group
        self.commits = commits
        self.since_ms = since_ms
        self.has_metadata = has_metadata
        self.is_gone = False  # taken out: whoever waited for the lock looks for the group anew
        self.to_store: deque[GroupMetadataValue] = deque()
        self.replies: deque[tuple[Callable[[Any], None], Any]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether there is no member."""
        return bool(self.group.state.value == GroupState.EMPTY.value)

    @property
    def is_idle(self) -> bool:
        """Whether there is no member, and nobody about to be one."""
        return self.is_empty and self.group.next_deadline_ms is None

    @property
    def is_blank(self) -> bool:
        """Whether it is as if nobody had ever spoken of this group."""
        return not self.commits and not self.has_metadata and self.is_idle

    def give_replies(self) -> None:
        """Without the lock: a callback may do anything."""
        while True:
            try:
                reply, value = self.replies.popleft()
            except IndexError:
                return
            try:
                reply(value)
            except Exception:
                logger.exception("group %s: who was to take a reply failed", self.group.group_id)


class GroupTable:
    """All groups, by id. Safe to use from many threads. Times are Unix milliseconds (``now_ms``), for what is stored,
    and those of a monotonic clock (``clock_ms``)."""

    def __init__(
        self,
        log: OffsetsLog,
        config: StoreConfig,
        now_ms: Callable[[], int],
        clock_ms: Callable[[], int],
        deadlines: Deadlines,
    ) -> None:
        self._log, self._config = log, config
        self._now_ms, self._clock_ms = now_ms, clock_ms
        self._deadlines = deadlines
        self._lock = threading.Lock()  # of the dictionary; nothing else is locked while it is held
        self._entries: dict[str, Entry] = {}
        self._closed: LogstoreError | None = None

    # --------------------------------------------------------------------------------------------------------- loading

    def load(self, keeps_members: bool) -> None:
        """Take up what is stored. Without ``keeps_members`` those whom a process before had are gone, since now."""
        for group_id, stored in self._log.load().items():
            entry = self._entries[group_id] = self._loaded(group_id, stored, keeps_members)
            self._deadlines.set(group_id, entry.group.next_deadline_ms)

    def _loaded(self, group_id: str, stored: StoredGroup, keeps_members: bool) -> Entry:
        metadata = stored.metadata
        if stored.records:
            return self._loaded_consumer_group(group_id, stored, keeps_members)
        if metadata is None:
            return Entry(self._new_group(group_id), stored.commits)
        since_ms = metadata.current_state_timestamp
        if metadata.members and not keeps_members:
            since_ms = self._now_ms()
            metadata = metadata._replace(
                members=(),
                leader=None,
                protocol=None,
                generation=metadata.generation + 1,
                current_state_timestamp=since_ms,
            )
            try:  # else its offsets would stay for ever where the directory is opened often
                self._log.append(group_id, [metadata_record(group_id, metadata)])
            except LogstoreError as error:
                logger.warning("group %s: that its members are gone is not stored: %s", group_id, error)
        group = Group.loaded(group_id, self._config, _new_member_id, metadata, self._clock_ms())
        return Entry(group, stored.commits, since_ms, has_metadata=True)

    def _loaded_consumer_group(self, group_id: str, stored: StoredGroup, keeps_members: bool) -> Entry:
        group = ConsumerGroup(group_id, self._config)
        group.apply(sorted(stored.records, key=lambda record: record[0].kind))
        entry = Entry(group, stored.commits, has_metadata=True)
        if not keeps_members and group.members:
            gone = group.without(list(group.members), {})
            try:
                self.store_records(entry, group, gone)
            except LogstoreError as error:
                logger.warning("group %s: that its members are gone is not stored: %s", group_id, error)
                group.apply(gone)
        group.begin_sessions(self._clock_ms())
        return entry

    def _new_group(self, group_id: str) -> Group:
        return Group(group_id, self._config, _new_member_id)

    # ---------------------------------------------------------------------------------------------------------- access

    def enter(self, group_id: str, act: Callable[[Entry | None], Result], *, creates: bool = False) -> Result:
        """What ``act`` makes of the group, under its lock; of None where there is none. One that is blank afterwards
        goes, and the replies that are due are given, without the lock. Raises InvalidGroupId, Closed, ForkedProcess.

        No context manager: a Ctrl-C in the middle of one of those may leave its lock taken."""
        check_group_id(group_id)
        while True:
            self.check_open()
            entry = self._find(group_id, creates)
            if entry is None:
                return act(None)
            with entry.lock:
                self.check_open()
                if entry.is_gone:
                    self._take_out(entry)
                    continue
                try:
                    result = act(entry)
                except BaseException:
                    if entry.to_store or entry.replies:
                        self._deadlines.set(group_id, self._clock_ms())
                    raise
                finally:
                    if entry.is_blank:
                        self._take_out(entry)
            entry.give_replies()
            return result

    def _find(self, group_id: str, creates: bool) -> Entry | None:
        entry = self._entries.get(group_id)
        if entry is None and creates:
            with self._lock:
                entry = self._entries.setdefault(group_id, Entry(self._new_group(group_id), {}))
        return entry

    def _take_out(self, entry: Entry) -> None:
        """Twice does no harm: a Ctrl-C may have come between."""
        entry.is_gone = True
        with self._lock:
            if self._entries.get(entry.group.group_id) is entry:
                del self._entries[entry.group.group_id]

    def all(self) -> list[tuple[str, Entry]]:
        """To look at without locks, or to enter one by one."""
        self.check_open()
        with self._lock:
            return sorted(self._entries.items(), key=lambda item: item[0])

    # ------------------------------------------------------------------------------------------ changes, while entered

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        """Store what an outcome says, and what follows from that. The replies are given when the group is left."""
        self._take(entry, outcome)
        while entry.to_store:
            error = self._store(entry, entry.to_store[0])
            entry.to_store.popleft()
            assert isinstance(entry.group, Group)  # nothing else has anything to store by itself
            self._take(entry, entry.group.stored(error, self._clock_ms()))

    def _take(self, entry: Entry, outcome: Outcome) -> None:
        if outcome.to_store is not None:
            entry.to_store.append(outcome.to_store)
        entry.replies.extend(outcome.replies)
        self._deadlines.set(entry.group.group_id, outcome.due_ms)

    def _store(self, entry: Entry, value: GroupMetadataValue) -> LogstoreError | None:
        group_id = entry.group.group_id
        entry.since_ms = self._now_ms()
        try:
            record = metadata_record(group_id, value._replace(current_state_timestamp=entry.since_ms))
            self._log.append(group_id, [record])
        except LogstoreError as error:
            logger.warning("group %s: generation %d is not stored: %s", group_id, value.generation, error)
            return error
        entry.has_metadata = True
        return None

    def store_records(self, entry: Entry, group: ConsumerGroup, records: list[GroupRecord]) -> None:
        """Have a consumer group's records stored, in one batch, and take them up; ``group`` may be about to take the
        place of one of the other kind. Raises what an append raises; then nothing has happened."""
        if records:
            replaced = [] if entry.group is group or not entry.has_metadata else [metadata_record(group.group_id, None)]
            self._log.append(group.group_id, [*replaced, *map(group_record, records)])
            entry.group, entry.since_ms, entry.has_metadata = group, self._now_ms(), True
            group.apply(records)

    def classic_group(self, entry: Entry) -> Group | None:
        """The group, which becomes one of this kind if it was of the other and has no members; None if it has. Raises
        what an append raises."""
        if isinstance(entry.group, ConsumerGroup):
            if not entry.is_idle:
                return None
            self._forget_metadata(entry)
            entry.group = self._new_group(entry.group.group_id)
        return entry.group

    def _forget_metadata(self, entry: Entry) -> None:
        """Raises what an append raises."""
        group = entry.group
        if entry.has_metadata:
            records = [metadata_record(group.group_id, None)]
            if isinstance(group, ConsumerGroup):
                records = [group_record(record) for record in group.tombstones()]
            self._log.append(group.group_id, records)
            entry.has_metadata, entry.since_ms = False, -1

    def forget(self, entry: Entry, gone: list[TopicPartition], *, with_group: bool = False) -> None:
        """Take offsets away, and the group itself where it says so, by tombstones: batches of a bounded size. Raises
        what an append raises; what is in later batches stays then."""
        group_id = entry.group.group_id
        count = max(1, _TOMBSTONES_SIZE_MAX // (len(group_id.encode()) + _TOMBSTONE_SIZE_MAX))
        for first in range(0, len(gone), count):
            part = gone[first : first + count]
            self._log.append(group_id, [commit_record(group_id, key, None) for key in part])
            for key in part:
                del entry.commits[key]
        if with_group:
            self._forget_metadata(entry)
            self._take_out(entry)
            self._kill(entry)

    def _kill(self, entry: Entry, reason: LogstoreError | None = None) -> None:
        """``reason``: what those who wait are told instead of UnknownMember."""
        if isinstance(entry.group, ConsumerGroup):
            entry.group.kill()
        else:
            replies = entry.group.kill().replies
            entry.replies.extend((reply, reason or answer) for reply, answer in replies)

    # ---------------------------------------------------------------------------------------------------------- the end

    def check_open(self) -> None:
        if self._closed is not None:
            raise self._closed.with_traceback(None)

    def close(self, reason: LogstoreError) -> None:
        """Whoever waits, or comes later, is told ``reason``."""
        with self._lock:
            self._closed = reason
            entries = list(self._entries.values())
        for entry in entries:
            with entry.lock:
                entry.is_gone = True
                self._kill(entry, reason)
            entry.give_replies()

    def abandon_in_child(self, reason: ForkedProcess) -> None:
        """The locks may be held by threads that the child does not have: from now on nothing gets as far as them."""
        self._closed = reason


def _new_member_id(prefix: str) -> str:
    return f"{prefix}-{uuid4()}" if prefix else str(uuid4())
