"""Producers, consumer groups and a queue of one store, held to tables, with a crash between any two steps.

A crash is a copy of the directory as it is at that moment, opened as the new store: the page cache outlives a process.
The store that crashed is thrown away.
"""

import shutil
import sys
import tempfile
import time
from concurrent.futures import Future
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from kafka.partitioner.default import murmur2

from client_crash import CrashCopy
from client_members import GroupMember, GroupTable
from client_tables import Dead, QueueTable, Seen, TopicTable, crashed_between
from clocks import QUIET
from logstore.client.embedded.store import Store
from logstore.client.producer import Receipt
from logstore.client.queue.messages import Job
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
STRATEGIES = st.sampled_from([("range",), ("cooperative-sticky",), ("sticky",), ("range", "cooperative-sticky")])


@dataclass
class Sent:
    """A record on its way."""

    value: bytes
    partition: int | None
    future: "Future[Receipt]"


class ClientsModel(RuleBasedStateMachine):
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

    @initialize(
        strategies=st.tuples(STRATEGIES, STRATEGIES),
        acks=st.sampled_from(["all", "1"]),
        segment_bytes=st.sampled_from([200, 1_000_000]),
        ordered=st.booleans(),
        max_deliveries=st.sampled_from([0, 1, 1, 2, 3]),
        ttl_ms=st.sampled_from([-1, -1, 3_000]),
    )
    def configure(
        self,
        strategies: tuple[tuple[str, ...], tuple[str, ...]],
        acks: str,
        segment_bytes: int,
        ordered: bool,
        max_deliveries: int,
        ttl_ms: int,
    ) -> None:
        self.strategies = dict(zip(self.groups, strategies, strict=True))
        self.acks = acks
        self.table = QueueTable(ordered, max_deliveries, VISIBILITY_MS, ttl_ms)
        self.open_store()
        self.store.create_topic("t", PARTITIONS, segment_bytes=segment_bytes, retention_ms=-1)
        given: dict[str, Any] = {"ordered": ordered, "max_deliveries": max_deliveries, "ttl_ms": ttl_ms}
        self.queue = self.store.queue("jobs", visibility_timeout_ms=VISIBILITY_MS, durability="os", **given)
        self.put([None, b"a", b"a", b"b"], 0, None)
        self.open_producers()
        self.send(0, [None, b"a", b"b", None, None], None, flushes=True)
        self.open_member(0)
        self.open_member(3)
        assert not len(self.queue.dead_letters), "made now, so that the middle of a burial is not far in"

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

    def take_receipts(self, producer: int) -> None:
        """All that was sent has one, and stands in the order in which it was sent."""
        last = [-1] * PARTITIONS
        found = []
        for sent in self.sent[producer]:
            receipt = sent.future.result(0)
            assert sent.partition in (None, receipt.partition)
            assert receipt.offset > last[receipt.partition]
            last[receipt.partition] = receipt.offset
            found.append((receipt.partition, receipt.offset, sent.value))
        for place in sorted(found):
            self.records.stored(*place)
        self.sent[producer].clear()

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

    # ----------------------------------------------------------------------------------------------------- the crashes

    @rule(comes_back=st.sampled_from([True, True, False]), again_at=st.none() | st.integers(0, 60))
    def crash(self, comes_back: bool, again_at: int | None) -> None:
        """``again_at``: the next process is killed too, in the middle of opening it all."""
        slots = list(self.members)
        self.leave_behind()
        if again_at is not None:
            with CrashCopy(self.directory, self.root / str(self.number + 1), again_at):
                self.open_again()
            self.leave_behind()
        self.open_again()
        for slot in slots if comes_back else ():
            self.open_member(slot)

    @rule(
        what=st.sampled_from(["send", "commit", "put", "get", "ack", "nack", "nack", "replay"]),
        at=st.integers(0, 5) | st.integers(0, 30),
        comes_back=st.booleans(),
    )
    def crash_inside(self, what: str, at: int, comes_back: bool) -> None:
        """In the middle of something: before one of its calls that change the disk, or behind the last of them."""
        if what == "replay" and not self.table.dead:
            what = "nack"
        slots = list(self.members)
        records, table = deepcopy(self.records.values), deepcopy(self.table)
        committed = {name: dict(group.committed) for name, group in self.groups.items()}
        with CrashCopy(self.directory, self.root / str(self.number + 1), at):
            self.do(what)
        self.leave_behind()
        self.open_again()
        self.adopt(records, committed, table)
        for slot in slots if comes_back else ():
            self.open_member(slot)

    def do(self, what: str) -> None:
        if what == "send":
            self.send(0, [None, b"a", b"b"], None, flushes=True)
        elif what == "put":
            self.put([b"a"], 0, None)
        elif what == "replay":
            self.replay(few=False)
        elif what == "commit":
            for member in self.members.values():
                if member.group.exact:
                    member.poll()
                    member.commit()
        else:
            self.get(1, {"get": "no"}.get(what, what))

    def adopt(self, records: list[list[bytes]], committed: dict[str, dict[int, int]], table: QueueTable) -> None:
        """Whatever was under way is done, or not begun: the tables, which have it done, go back where it was not."""
        for number, before in enumerate(records):
            log = self.store.log("t", number)
            found = [record.value for record in log.records(log.log_start_offset)]
            start, after = self.records.starts[number], self.records.values[number]
            assert len(before) <= start + len(found) <= len(after)
            self.records.values[number] = after[:start] + found
            assert after[: start + len(found)] == self.records.values[number]
        for name, group in self.groups.items():
            found = group.committed_in(self.store)
            assert found in (committed[name], group.committed) or not group.exact
            group.committed = found
        letters = self.queue.dead_letters.peek(None) if self.queue.stats().dead else []
        seen = Seen(
            len(self.queue),
            self.queue.stats().log_end,
            {message.offset: message.deliveries for message in self.queue.peek(None)},
            {letter.dead_letter.offset for letter in letters if letter.dead_letter},
        )
        assert len(seen.dead) == len(letters), "a dead letter is there twice"
        self.table = crashed_between(table, self.table, seen)

    @property
    def directory(self) -> Path:
        return self.root / str(self.number)

    def leave_behind(self) -> None:
        """The store as it is, for a copy of its directory: where none was made in the middle of something, one of
        now."""
        for member in self.members.values():
            member.is_gone = True
        following = self.root / str(self.number + 1)
        if not following.exists():
            shutil.copytree(self.directory, following)
        self.store.close()
        shutil.rmtree(self.directory)
        self.number += 1
        for pending in self.sent.values():
            pending.clear()  # no receipt was given for them

    @rule()
    def restart(self) -> None:
        """Closed and opened: what was sent is stored, what was polled is committed where that is automatic."""
        self.store.close()
        for producer in self.producers:
            self.take_receipts(producer)
        self.open_again()

    def open_again(self) -> None:
        self.members.clear()
        self.jobs.clear()
        self.table.crash()
        for group in self.groups.values():
            group.crash()
        self.open_store()
        self.queue = self.store.queue("jobs")
        self.open_producers()

    # --------------------------------------------------------------------------------------------------- what holds

    @invariant()
    def records_are_those_of_the_receipts(self) -> None:
        if not hasattr(self, "producers"):
            return
        for number in range(PARTITIONS):
            log = self.store.log("t", number)
            assert [record.value for record in log.records(log.log_start_offset)] == self.records.left(number)

    @invariant()
    def offsets_are_those_committed(self) -> None:
        if hasattr(self, "producers"):
            for group in self.groups.values():
                group.check(self.store)

    @invariant()
    def messages_are_those_of_the_table(self) -> None:
        if not hasattr(self, "queue"):
            return
        stats = self.queue.stats()
        assert stats.in_flight == self.table.held_count()
        assert len(self.queue) == len(self.table.messages) - stats.in_flight
        assert stats.dead == len(self.table.dead)
        letters = self.queue.dead_letters.peek(None) if self.table.dead else []
        found = [(letter.dead_letter, letter.value, letter.key) for letter in letters]
        dead = [Dead(dead.offset, dead.reason, dead.deliveries, value, key) for dead, value, key in found if dead]
        assert sorted(dead, key=lambda one: one.offset) == sorted(self.table.dead, key=lambda one: one.offset)

    def teardown(self) -> None:
        try:
            if hasattr(self, "producers") and sys.exc_info()[0] is None:
                self.drain()
        finally:
            if hasattr(self, "store"):
                self.store.close()
            shutil.rmtree(self.root)

    def drain(self) -> None:
        """After a last crash, whoever comes gets all that is left, once."""
        self.leave_behind()
        self.open_again()
        for name, group in self.groups.items():
            group.check(self.store, is_after_crash=True)
            member = GroupMember(self.store, group, partition_assignment_strategy=self.strategies[name])
            deadline_s = time.monotonic() + LONG_S
            while not self.is_done(member):
                assert time.monotonic() < deadline_s, f"{name}: {member.positions} of {self.records.ends()}"
                member.poll(0.01)
            member.close()
        self.table.passes(10_000)
        self.get(len(self.table.messages) + 1, "no")
        self.messages_are_those_of_the_table()

    def is_done(self, member: GroupMember) -> bool:
        """It has read all partitions to their ends."""
        if len(member.positions) < PARTITIONS:
            return False
        return all(
            max(offset, self.records.starts[number]) == len(self.records.values[number])
            for number, offset in member.positions.items()
        )


def check_histories(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        ClientsModel,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_producers_groups_and_a_queue_do_what_tables_say_with_a_crash_between_any_two_steps() -> None:
    check_histories(examples=40, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_producers_groups_and_a_queue_do_so_through_many_longer_histories() -> None:
    check_histories(examples=400, steps=60)
