"""Any order of puts, gets, acks, nacks, waits, crashes and restarts of a queue, against a plain table of its messages.

The table knows nothing of cursors, notes and heaps: a message is ready when its time has come, nobody has it, and none
of its key is before it; the first that is ready is handed out. A crash is a copy of the directory as it is at any step.
"""

import shutil
import tempfile
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

from client_tables import Dead, QueueTable
from clocks import QUIET
from logstore.client.embedded.store import Store
from logstore.client.queue import journal
from logstore.client.queue.messages import Job, Message
from logstore.client.queue.registry import Queues
from logstore.errors import Empty, NotInFlight
from logstore.storage.data_dir import DataDir

MEMORY = Path("/dev/shm")
VISIBILITY_MS = 1_000
KEYS = st.sampled_from([None, None, b"a", b"b"])
DELAYS = st.sampled_from([0, 0, 0, 0.5, 3])
TTLS = st.sampled_from([None, None, None, 1, 4])
STEPS_MS = st.sampled_from([1, 400, 600, 1_000, 3_000])


@dataclass
class Held:
    job: Job
    offset: int
    deliveries: int
    is_settled: bool = False


class QueueModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="queue-model-", dir=MEMORY if MEMORY.is_dir() else None))
        self.number = 0
        self.table = QueueTable(ordered=False, max_deliveries=0, visibility_ms=VISIBILITY_MS)
        self.jobs: list[Held] = []
        self.put_count = 0

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        shutil.rmtree(self.root)

    @initialize(
        ordered=st.booleans(),
        max_deliveries=st.sampled_from([0, 1, 2, 3]),
        ttl_ms=st.sampled_from([-1, -1, 2_000]),
        notes_max=st.sampled_from([3, 10, 1_000]),
    )
    def configure(self, ordered: bool, max_deliveries: int, ttl_ms: int, notes_max: int) -> None:
        self.table = QueueTable(ordered, max_deliveries, VISIBILITY_MS, ttl_ms)
        self.notes_max = notes_max
        self.open(
            ordered=ordered,
            max_deliveries=max_deliveries,
            ttl_ms=ttl_ms,
            visibility_timeout_ms=VISIBILITY_MS,
            durability="os",
        )
        self.put([None, b"a", b"a", None, b"b"], 0, None, together=True)

    def open(self, **given: Any) -> None:
        journal._NOTES_MAX = self.notes_max
        table = self.table
        self.store = Store(DataDir(self.root / str(self.number), QUIET, now_ms=lambda: table.wall_ms))
        self.queue = Queues(self.store, lambda: table.wall_ms, lambda: table.now_ms).open("q", None, None, given)
        self.jobs = []
        table.crash()

    def hand_out(self, count: int) -> list[int]:
        """The first ones that are ready. What is found on the way that is not to be handed out goes to the dead letters
        together, and only then may what was behind it of its key be looked at."""
        table = self.table
        handed_out: list[int] = []
        while True:
            doomed: dict[int, str] = {}
            while len(handed_out) < count:
                ready = [offset for offset in sorted(table.messages) if table.is_ready(offset) and offset not in doomed]
                if not ready:
                    break
                reason = table.doom(ready[0])
                if reason is not None:
                    doomed[ready[0]] = reason
                    continue
                table.hand_out(ready[0])
                handed_out.append(ready[0])
            for offset, reason in doomed.items():
                table.bury(offset, reason)
            if not doomed or len(handed_out) == count:
                return handed_out

    def is_in_hand(self, held: Held) -> bool:
        return not held.is_settled and self.table.is_in_hand(held.offset, held.deliveries)

    def settled(self, held: Held) -> None:
        held.is_settled = True
        self.table.ack(held.offset)

    # ---------------------------------------------------------------------------------------------------- the rules

    @rule(keys=st.lists(KEYS, min_size=2, max_size=6), delay=DELAYS, ttl=TTLS, together=st.booleans())
    def put(self, keys: list[bytes | None], delay: float, ttl: float | None, together: bool) -> None:
        values = [b"%d" % (self.put_count + number) for number in range(len(keys))]
        self.put_count += len(keys)
        if together:
            receipts = self.queue.put_many(values, keys=keys, delay=delay, ttl=ttl)
        else:
            receipts = [self.queue.put(v, key=k, delay=delay, ttl=ttl) for v, k in zip(values, keys, strict=True)]
        for receipt, value, key in zip(receipts, values, keys, strict=True):
            assert receipt.offset == self.table.end_offset
            self.table.put(value, key, delay, ttl)

    @rule(count=st.sampled_from([1, 1, 2, 5]))
    def get(self, count: int) -> None:
        try:
            jobs = [self.queue.get(block=False)] if count == 1 else self.queue.get_many(count, block=False)
        except Empty:
            jobs = []
        assert [job.offset for job in jobs] == self.hand_out(count)
        for job in jobs:
            known = self.table.messages[job.offset]
            assert (job.value, job.key, job.deliveries) == (known.value, known.key, known.deliveries)
            assert job.headers == ()
            self.jobs.append(Held(job, job.offset, job.deliveries))

    @rule(is_done=st.booleans())
    def get_and_settle(self, is_done: bool) -> None:
        """What most histories begin with, to which rules alone come too seldom."""
        before = len(self.jobs)
        self.get(2)
        for held in self.jobs[before:]:
            if is_done:
                held.job.ack()
                self.settled(held)
            else:
                self.give_back(held, 0)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.jobs))
        if not self.is_in_hand(held):
            with pytest.raises(NotInFlight):
                held.job.ack()
            return
        held.job.ack()
        self.settled(held)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def ack_many(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.jobs), unique_by=id, max_size=4))
        if not all(map(self.is_in_hand, chosen)):
            with pytest.raises(NotInFlight):
                self.queue.ack_many([held.job for held in chosen])
            return
        self.queue.ack_many([held.job for held in chosen])
        for held in chosen:
            self.settled(held)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), delay=DELAYS)
    def nack(self, data: st.DataObject, delay: float) -> None:
        self.give_back(data.draw(st.sampled_from(self.jobs)), delay)

    def give_back(self, held: Held, delay: float) -> None:
        if not self.is_in_hand(held):
            with pytest.raises(NotInFlight):
                held.job.nack(delay)
            return
        held.job.nack(delay)
        held.is_settled = True
        self.table.nack(held.offset, delay)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), seconds=st.sampled_from([0, 0.5, 2]))
    def extend(self, data: st.DataObject, seconds: float) -> None:
        held = data.draw(st.sampled_from(self.jobs))
        if not self.is_in_hand(held):
            with pytest.raises(NotInFlight):
                held.job.extend(seconds)
            return
        held.job.extend(seconds)
        self.table.extend(held.offset, seconds)

    @rule(step_ms=STEPS_MS)
    def pass_time(self, step_ms: int) -> None:
        self.table.passes(step_ms)

    @precondition(lambda self: self.table.messages)
    @rule(really=st.sampled_from([False, False, False, False, False, True]))
    def purge(self, really: bool) -> None:
        if not really:
            return
        assert self.queue.purge() == self.table.purge()

    @precondition(lambda self: self.table.dead)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        letters = self.queue.dead_letters.peek(None)
        chosen = data.draw(st.none() | st.lists(st.sampled_from(letters), unique_by=id, min_size=1))
        again = letters if chosen is None else sorted(chosen, key=lambda letter: letter.offset)
        count = self.queue.dead_letters.replay(None if chosen is None else [letter.offset for letter in chosen])
        assert count == len(again)
        places = [letter.dead_letter.offset for letter in again if letter.dead_letter is not None]
        self.table.replay([dead for place in places for dead in self.table.dead if dead.offset == place])

    @precondition(lambda self: self.table.messages)
    @rule()
    def crash(self) -> None:
        shutil.copytree(self.root / str(self.number), self.root / str(self.number + 1))
        self.store.close()
        self.number += 1
        self.open()

    @precondition(lambda self: self.table.messages)
    @rule()
    def restart(self) -> None:
        self.queue.close()
        self.store.close()
        self.open()

    # --------------------------------------------------------------------------------------------------- what holds

    @invariant()
    def counts_are_exact(self) -> None:
        if not hasattr(self, "queue"):
            return
        table, stats = self.table, self.queue.stats()
        left_count = len(table.messages) - table.held_count()
        assert stats.in_flight == table.held_count()
        assert stats.dead == len(table.dead)
        assert stats.ready + stats.delayed + stats.blocked == len(self.queue) == left_count
        assert stats.low_water_offset <= min(table.messages, default=table.end_offset)
        assert stats.log_end_offset == table.end_offset
        letters = self.queue.dead_letters.peek(None) if table.dead else []
        assert [told(letter) for letter in letters] == table.dead


def told(letter: Message) -> Dead | None:
    """What a letter says of itself, as the table has it."""
    was = letter.dead_letter
    return was and Dead(was.offset, was.reason, was.deliveries, letter.value, letter.key)


def check_histories(examples: int) -> None:
    before = journal._NOTES_MAX
    try:
        run_state_machine_as_test(
            QueueModel,
            settings=settings(max_examples=examples, stateful_step_count=40, suppress_health_check=list(HealthCheck)),
        )
    finally:
        journal._NOTES_MAX = before


def test_a_queue_does_what_a_table_of_messages_says() -> None:
    check_histories(50)


@pytest.mark.slow
def test_a_queue_does_so_for_longer() -> None:
    check_histories(300)
