"""Producers, consumer groups and a queue of one store, held to tables, with a crash between any two steps.

A crash is a copy of the directory as it is at that moment, opened as the new store: the page cache outlives a process.
The store that crashed is thrown away.
"""

import shutil
import sys
import time
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from client_crash import CrashCopy
from client_members import GroupMember
from client_rules import LONG_S, PARTITIONS, VISIBILITY_MS, ClientsRules
from client_tables import Dead, QueueTable, Seen, crashed_between

STRATEGIES = st.sampled_from([("range",), ("cooperative-sticky",), ("sticky",), ("range", "cooperative-sticky")])


class ClientsModel(ClientsRules):
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
            self.queue.stats().log_end_offset,
            {message.offset: message.deliveries for message in self.queue.peek(None)},
            {letter.dead_letter.offset for letter in letters if letter.dead_letter},
        )
        assert len(seen.dead) == len(letters), "a dead letter is there twice"
        self.table = crashed_between(table, self.table, seen)

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
        self.take_receipts(*self.producers)
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
    check_histories(examples=150, steps=60)
