"""What users of one store do, step by step, held to tables: they send, consume in two groups, and work a queue off.

The store's clocks are those of the queue's table. What is done here survives crashes; those are the test's.
"""

import tempfile
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from kafka.partitioner.default import murmur2

from client_members import GroupMember, GroupTable
from client_tables import QueueTable, TopicTable
from clocks import QUIET
from logstore.client.embedded.store import Store
from logstore.client.producer import Receipt
from logstore.client.queue.messages import Job
from logstore.client.queue.queue import Queue
from logstore.client.queue.registry import Queues
from logstore.errors import Closed, Empty, NotInFlight
from logstore.storage.data_dir import DataDir

MEMORY = Path("/dev/shm")
CONFIG = QUIET.replace({"offsets.topic.num.partitions": 2})
NEVER_MS = 3_600_000
LONG_S = 20.0
PARTITIONS = 3
VISIBILITY_MS = 1_000
KEYS = st.sampled_from([None, None, b"a", b"b"])
SLOTS = {0: ("exact", ""), 1: ("exact", ""), 2: ("exact", "static"), 3: ("auto", ""), 4: ("auto", "")}


@dataclass
class Sent:
    """A record on its way."""

    value: bytes
    partition: int | None
    future: "Future[Receipt]"


class ClientsRules(RuleBasedStateMachine):
    """See the module. Who configures it sets ``strategies``, ``acks``, ``table`` and ``queue``."""

    strategies: dict[str, tuple[str, ...]]
    acks: str
    table: QueueTable
    queue: Queue

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="clients-model-", dir=MEMORY if MEMORY.is_dir() else None))
        self.number = 0
        self.sent_count = 0
        self.records = TopicTable(PARTITIONS)
        self.groups = {name: GroupTable(name, "t", self.records, exact=name == "exact") for name in ("exact", "auto")}
        self.members: dict[int, GroupMember] = {}
        self.sent: dict[int, list[Sent]] = {0: [], 1: []}
        self.jobs: list[Job] = []

    @property
    def directory(self) -> Path:
        return self.root / str(self.number)

    def open_store(self) -> None:
        self.store = Store(DataDir(self.directory, CONFIG, now_ms=lambda: self.table.wall_ms))
        self.store._queues = Queues(self.store, lambda: self.table.wall_ms, lambda: self.table.now_ms)
        self.store._clients.add(self.store._queues)

    def open_producers(self) -> None:
        self.producers = {number: self.open_producer() for number in self.sent}

    def open_producer(self) -> Any:
        return self.store.producer(linger_ms=NEVER_MS, delivery_timeout_ms=2 * NEVER_MS, acks=self.acks)

    # -------------------------------------------------------------------------------------------------- the producers

    @rule(
        producer=st.sampled_from([0, 1]),
        keys=st.lists(KEYS, min_size=1, max_size=6),
        partition=st.sampled_from([None, None, 1]),
        flushes=st.booleans(),
    )
    def send(self, producer: int, keys: list[bytes | None], partition: int | None, flushes: bool) -> None:
        """They linger: none is stored before a flush or a close."""
        for key in keys:
            value = b"%d.%d" % (producer, self.sent_count)
            self.sent_count += 1
            expected = partition
            if partition is None and key is not None:
                expected = (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
            future = self.producers[producer].send("t", value, key=key, partition=partition)
            self.sent[producer].append(Sent(value, expected, future))
        if flushes:
            self.producers[producer].flush(LONG_S)
            self.take_receipts(producer)

    @rule(producer=st.sampled_from([0, 1]))
    def close_producer(self, producer: int) -> None:
        self.producers[producer].close()
        with pytest.raises(Closed):
            self.producers[producer].send("t", b"never")
        self.take_receipts(producer)
        self.producers[producer] = self.open_producer()

    def take_receipts(self, *producers: int) -> None:
        """All that was sent has one, and stands in the order in which it was sent. Several producers at once are those
        that a store closed, in any order."""
        found = []
        for producer in producers:
            last = [-1] * PARTITIONS
            for sent in self.sent[producer]:
                receipt = sent.future.result(0)
                assert sent.partition in (None, receipt.partition)
                assert receipt.offset > last[receipt.partition]
                last[receipt.partition] = receipt.offset
                found.append((receipt.partition, receipt.offset, sent.value))
            self.sent[producer].clear()
        for place in sorted(found):
            self.records.stored(*place)

    @rule(partition=st.integers(0, PARTITIONS - 1), share=st.sampled_from([0.2, 0.5, 1]))
    def delete_records(self, partition: int, share: float) -> None:
        start, end = self.records.starts[partition], len(self.records.values[partition])
        offset = start + round(share * (end - start))
        assert self.store.advance_log_start("t", partition, offset) == offset
        self.records.starts[partition] = offset
        for group in self.groups.values():
            group.given[partition] = max(group.given.get(partition, 0), offset)

    # ----------------------------------------------------------------------------------------------------- the groups

    @rule(slot=st.sampled_from(list(SLOTS)))
    def open_member(self, slot: int) -> None:
        """A static one that is there already is fenced by this."""
        name, instance_id = SLOTS[slot]
        member = self.members.get(slot)
        if member is not None and not instance_id:
            member.close()
        self.members[slot] = GroupMember(
            self.store, self.groups[name], instance_id, partition_assignment_strategy=self.strategies[name]
        )
        if member is not None and instance_id:
            self.fenced = member
            self.members[slot].poll()
            assert not member.commit() or not member.positions
            member.close()

    @precondition(lambda self: self.members)
    @rule(
        index=st.integers(0, 4),
        max_records=st.sampled_from([1, 3, 500]),
        then=st.sampled_from(["go on", "commit", "commit", "commit these", "seek", "close"]),
        share=st.sampled_from([0, 0.5, 1]),
    )
    def consume(self, index: int, max_records: int, then: str, share: float) -> None:
        slot = list(self.members)[index % len(self.members)]
        member = self.members[slot]
        member.poll(0.0, max_records)
        if then == "close":
            self.members.pop(slot).close()
        elif member.group.exact:
            if then == "commit":
                member.commit()
            elif then == "commit these":  # also of an offset that the group had been beyond
                member.commit({number: round(share * offset) for number, offset in list(member.positions.items())[:1]})
            elif then == "seek":
                for number in list(member.positions):
                    start, end = self.records.starts[number], len(self.records.values[number])
                    member.seek(number, start + round(share * (end - start)))

    @precondition(lambda self: self.members)
    @rule(name=st.sampled_from(["exact", "auto"]), max_records=st.sampled_from([1, 3, 500]), commits=st.booleans())
    def share_out_and_poll(self, name: str, max_records: int, commits: bool) -> None:
        """All members poll until every partition is somebody's; but for those of a static one that is away."""
        members = [self.members[slot] for slot in self.members if SLOTS[slot][0] == name]
        deadline_s = time.monotonic() + LONG_S
        while members and not self.is_shared_out(name, members):
            assert time.monotonic() < deadline_s, (name, [member.positions for member in members])
            for member in members:
                member.poll(0.001, max_records)
        for member in members:
            member.poll(0.0, max_records)
            if commits and name == "exact":
                member.commit()

    def is_shared_out(self, name: str, members: list[GroupMember]) -> bool:
        description = self.store.groups.describe(name)
        if description.state != "Stable":
            return False
        if len(description.members) > len(members):  # a static one is away, and is expected back
            return True
        return sum(len(member.positions) for member in members) == PARTITIONS

    # ------------------------------------------------------------------------------------------------------ the queue

    @rule(
        keys=st.lists(KEYS, min_size=1, max_size=5),
        delay_s=st.sampled_from([0, 0, 0.5, 3]),
        ttl_s=st.sampled_from([None, None, 1, 4]),
    )
    def put(self, keys: list[bytes | None], delay_s: float, ttl_s: float | None) -> None:
        for key in keys:
            value = b"job %d" % self.table.end_offset
            receipt = self.queue.put(value, key=key, delay=delay_s, ttl=ttl_s)
            assert receipt.offset == self.table.end_offset
            self.table.put(value, key, delay_s, ttl_s)

    @rule(count=st.integers(1, 4), settles=st.sampled_from(["no", "no", "ack", "nack"]))
    def get(self, count: int, settles: str) -> None:
        for _ in range(count):
            try:
                job = self.queue.get(block=False)
            except Empty:
                assert self.table.next_ready() is None
                return
            assert job.offset == self.table.next_ready()
            known = self.table.hand_out(job.offset)
            assert (job.value, job.key, job.deliveries) == (known.value, known.key, known.deliveries)
            assert job.value not in self.table.settled
            self.jobs.append(job)
            if settles == "ack":
                self.settle(-1, "ack", 0)
            elif settles == "nack":
                self.settle(-1, "nack", 0)

    @precondition(lambda self: self.jobs)
    @rule(
        index=st.integers(0, 9),
        how=st.sampled_from(["ack", "ack", "nack", "extend"]),
        seconds=st.sampled_from([0, 0.5, 2]),
    )
    def settle(self, index: int, how: str, seconds: float) -> None:
        job = self.jobs[index % len(self.jobs)]
        arguments = () if how == "ack" else (seconds,)
        if job.is_settled or not self.table.is_in_hand(job.offset, job.deliveries):
            with pytest.raises(NotInFlight):
                getattr(job, how)(*arguments)
        else:
            getattr(job, how)(*arguments)
            getattr(self.table, how)(job.offset, *arguments)

    @rule(step_ms=st.sampled_from([1, 400, 1_000, 3_000]))
    def pass_time(self, step_ms: int) -> None:
        self.table.passes(step_ms)

    @precondition(lambda self: len(self.table.messages) > 8)
    @rule()
    def purge(self) -> None:
        assert self.queue.purge() == self.table.purge()

    @precondition(lambda self: self.table.dead)
    @rule(few=st.booleans())
    def replay(self, few: bool) -> None:
        letters = self.queue.dead_letters.peek(1 if few else None)
        count = self.queue.dead_letters.replay([letter.offset for letter in letters] if few else None)
        assert count == len(letters)
        dead = {one.offset: one for one in self.table.dead}
        self.table.replay([dead[letter.dead_letter.offset] for letter in letters if letter.dead_letter])
