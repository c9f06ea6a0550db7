"""Members of a consumer group, held to a table of what the group has committed and who has which partition."""

from dataclasses import dataclass, field
from typing import Any

from client_tables import TopicTable
from logstore.client.consumer import ConsumerRecord, RebalanceListener
from logstore.client.embedded.store import Store
from logstore.errors import FencedInstance, IllegalGeneration, RebalanceInProgress, UnknownMember
from logstore.format.filename import TopicPartition

STALE = (FencedInstance, IllegalGeneration, RebalanceInProgress, UnknownMember)


@dataclass
class GroupTable:
    """``committed`` by partition; ``owners``: whose each partition is; ``given``: up to which offset records were ever
    returned to anybody, exclusively. Without ``exact`` positions are committed when it suits the group, and the table
    follows what it did."""

    name: str
    topic: str
    records: TopicTable
    exact: bool = True
    committed: dict[int, int] = field(default_factory=dict)
    given: dict[int, int] = field(default_factory=dict)
    owners: dict[int, "GroupMember"] = field(default_factory=dict)

    def crash(self) -> None:
        self.owners.clear()

    def committed_in(self, store: Store) -> dict[int, int]:
        found = store.groups.committed(self.name)
        return {key.partition: place.offset for key, place in found.items() if key.topic == self.topic}

    def check(self, store: Store, *, is_after_crash: bool = False) -> None:
        found = self.committed_in(store)
        if self.exact or is_after_crash:
            assert found == self.committed
        for partition, offset in found.items():
            assert self.committed.get(partition, 0) <= offset <= self.given.get(partition, 0), "moved by itself"
        self.committed = found


class GroupMember(RebalanceListener):
    """One consumer of a group. ``positions``: the next offset of each partition that is its own."""

    def __init__(self, store: Store, group: GroupTable, instance_id: str = "", **settings: Any) -> None:
        self.store, self.group, self.instance_id = store, group, instance_id
        self.positions: dict[int, int] = {}
        self.is_fenced = self.is_gone = False
        for other in list(group.owners.values()):
            if instance_id and other.instance_id == instance_id:
                other.is_fenced = True
        self.consumer = store.consumer(
            group=group.name,
            auto_offset_reset="earliest",
            enable_auto_commit=not group.exact,
            auto_commit_interval_ms=0,
            group_instance_id=instance_id,
            **settings,
        )
        self.consumer.subscribe([group.topic], listener=self)

    # ------------------------------------------------------------------------------------------- what it is told

    def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
        if self.is_gone:
            return
        committed = self.group.committed if self.group.exact else self.group.committed_in(self.store)
        for _, number in partitions:
            owner = self.group.owners.get(number)
            assert owner is None or owner.is_fenced, f"partition {number} is two members'"
            self.group.owners[number] = self
            self.positions[number] = committed.get(number, self.group.records.starts[number])

    def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
        if self.is_gone:
            return
        for _, number in partitions:
            del self.positions[number]
            if self.group.owners.get(number) is self:
                del self.group.owners[number]

    # --------------------------------------------------------------------------------------------- what it does

    def poll(self, timeout_s: float = 0.0, max_records: int = 500) -> list[ConsumerRecord]:
        """In order, none left out, none twice, and as they were sent."""
        before = dict(self.positions)
        try:
            records = self.consumer.poll(timeout_s, max_records=max_records)
        except FencedInstance:
            assert self.is_fenced
            return []
        if not self.group.exact:
            for number, offset in self.group.committed_in(self.store).items():
                done = max(before.get(number, offset), self.group.records.starts[number])
                assert offset <= done or number not in self.positions, "committed before it was dealt with"
        for record in records:
            number = record.partition
            assert record.offset in self._next_offsets(number), (record, self.positions)
            assert record.value == self.group.records.values[number][record.offset]
            self.positions[number] = record.offset + 1
            self.group.given[number] = max(self.group.given.get(number, 0), record.offset + 1)
        return records

    def _next_offsets(self, number: int) -> set[int]:
        """Where the log begins by now, if records were deleted before they were read ahead, or the position."""
        position = self.positions[number]
        return {position, max(position, self.group.records.starts[number])}

    def seek(self, number: int, offset: int) -> None:
        self.consumer.seek(self.group.topic, number, offset)
        self.positions[number] = offset
        self.group.given[number] = max(self.group.given.get(number, 0), offset)

    def commit(self, offsets: dict[int, int] | None = None) -> bool:
        """The positions, or these. False where the group has gone on without this member: nothing is committed then."""
        if offsets is None:
            positions = {number: self.consumer.position(self.group.topic, number) for number in self.positions}
            assert all(offset in self._next_offsets(number) for number, offset in positions.items())
        else:
            positions = offsets
            for number, offset in offsets.items():
                self.group.given[number] = max(self.group.given.get(number, 0), offset)
        try:
            self.consumer.commit(
                None if offsets is None else {(self.group.topic, number): offset for number, offset in offsets.items()}
            )
        except STALE:
            return False
        assert not self.is_fenced or not positions, "a member whose place another has taken has committed"
        self.group.committed |= positions
        return True

    def close(self) -> None:
        self.consumer.close()
        for number in list(self.positions):
            self.positions.pop(number)
            if self.group.owners.get(number) is self:
                del self.group.owners[number]
