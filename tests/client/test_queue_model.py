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

from clocks import QUIET
from log_tools import NOW
from logstore.client.embedded.store import Store
from logstore.client.queue import journal
from logstore.client.queue.messages import Job
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
class Known:
    """A message as the table has it. ``held_until``: by the monotonic clock, None where nobody has it."""

    value: bytes
    key: bytes | None
    put_ms: int
    visible_ms: int
    expires_ms: int | None
    deliveries: int = 0
    held_until: int | None = None


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
        self.wall_ms, self.now_ms = NOW, 5_000
        self.table: dict[int, Known] = {}
        self.dead: list[tuple[int, str, int]] = []  # offset, reason, deliveries
        self.jobs: list[Held] = []
        self.next_offset = self.put_count = 0

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
        self.ordered, self.max_deliveries, self.ttl_ms = ordered, max_deliveries, ttl_ms
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
        self.store = Store(DataDir(self.root / str(self.number), QUIET, now_ms=lambda: self.wall_ms))
        self.queue = Queues(self.store, lambda: self.wall_ms, lambda: self.now_ms).open("q", None, None, given)
        self.jobs = []
        for known in self.table.values():
            known.held_until = None

    # ------------------------------------------------------------------------------------------------- the table

    def is_blocked(self, offset: int) -> bool:
        key = self.table[offset].key
        return self.ordered and key is not None and any(o < offset and m.key == key for o, m in self.table.items())

    def is_ready(self, offset: int) -> bool:
        known = self.table[offset]
        is_held = known.held_until is not None and known.held_until > self.now_ms
        return known.visible_ms <= self.wall_ms and not is_held and not self.is_blocked(offset)

    def bury(self, offset: int, reason: str) -> None:
        self.dead.append((offset, reason, self.table.pop(offset).deliveries))

    def doom(self, offset: int) -> str | None:
        known = self.table[offset]
        expires_ms = known.expires_ms
        if expires_ms is None and self.ttl_ms >= 0:
            expires_ms = known.put_ms + self.ttl_ms
        if expires_ms is not None and expires_ms <= self.wall_ms:
            return "expired"
        return "max.deliveries" if 0 < self.max_deliveries <= known.deliveries else None

    def hand_out(self, count: int) -> list[int]:
        """The first ones that are ready. What is found on the way that is not to be handed out goes to the dead letters
        together, and only then may what was behind it of its key be looked at."""
        handed_out: list[int] = []
        while True:
            doomed: dict[int, str] = {}
            while len(handed_out) < count:
                ready = [offset for offset in sorted(self.table) if self.is_ready(offset) and offset not in doomed]
                if not ready:
                    break
                reason = self.doom(ready[0])
                if reason is not None:
                    doomed[ready[0]] = reason
                    continue
                self.table[ready[0]].deliveries += 1
                self.table[ready[0]].held_until = self.now_ms + VISIBILITY_MS
                handed_out.append(ready[0])
            for offset, reason in doomed.items():
                self.bury(offset, reason)
            if not doomed or len(handed_out) == count:
                return handed_out

    def is_in_hand(self, held: Held) -> bool:
        known = self.table.get(held.offset)
        return not held.is_settled and known is not None and known.deliveries == held.deliveries

    # ---------------------------------------------------------------------------------------------------- the rules

    @rule(keys=st.lists(KEYS, min_size=2, max_size=6), delay=DELAYS, ttl=TTLS, together=st.booleans())
    def put(self, keys: list[bytes | None], delay: float, ttl: float | None, together: bool) -> None:
        values = [b"%d" % (self.put_count + number) for number in range(len(keys))]
        self.put_count += len(keys)
        if together:
            receipts = self.queue.put_many(values, keys=keys, delay=delay, ttl=ttl)
        else:
            receipts = [self.queue.put(v, key=k, delay=delay, ttl=ttl) for v, k in zip(values, keys, strict=True)]
        assert [receipt.offset for receipt in receipts] == list(range(self.next_offset, self.next_offset + len(keys)))
        for receipt, value, key in zip(receipts, values, keys, strict=True):
            visible_ms = self.wall_ms + round(delay * 1000)
            expires_ms = None if ttl is None else self.wall_ms + round(ttl * 1000)
            self.table[receipt.offset] = Known(value, key, self.wall_ms, visible_ms, expires_ms)
        self.next_offset += len(keys)

    @rule(count=st.sampled_from([1, 1, 2, 5]))
    def get(self, count: int) -> None:
        try:
            jobs = [self.queue.get(block=False)] if count == 1 else self.queue.get_many(count, block=False)
        except Empty:
            jobs = []
        assert [job.offset for job in jobs] == self.hand_out(count)
        for job in jobs:
            known = self.table[job.offset]
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
                held.is_settled = True
                del self.table[held.offset]
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
        held.is_settled = True
        del self.table[held.offset]

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
            held.is_settled = True
            del self.table[held.offset]

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
        known = self.table[held.offset]
        if 0 < self.max_deliveries <= known.deliveries:
            self.bury(held.offset, "max.deliveries")
        else:
            known.held_until, known.visible_ms = None, self.wall_ms + round(delay * 1000)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), seconds=st.sampled_from([0, 0.5, 2]))
    def extend(self, data: st.DataObject, seconds: float) -> None:
        held = data.draw(st.sampled_from(self.jobs))
        if not self.is_in_hand(held):
            with pytest.raises(NotInFlight):
                held.job.extend(seconds)
            return
        held.job.extend(seconds)
        self.table[held.offset].held_until = self.now_ms + round(seconds * 1000)

    @rule(step_ms=STEPS_MS)
    def pass_time(self, step_ms: int) -> None:
        self.wall_ms += step_ms
        self.now_ms += step_ms

    @precondition(lambda self: self.table)
    @rule(really=st.sampled_from([False, False, False, False, False, True]))
    def purge(self, really: bool) -> None:
        if not really:
            return
        assert self.queue.purge() == len(self.table)
        self.table.clear()

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        letters = self.queue.dead_letters.peek(None)
        chosen = data.draw(st.none() | st.lists(st.sampled_from(letters), unique_by=id, min_size=1))
        again = letters if chosen is None else sorted(chosen, key=lambda letter: letter.offset)
        count = self.queue.dead_letters.replay(None if chosen is None else [letter.offset for letter in chosen])
        assert count == len(again)
        for letter in again:
            assert letter.dead_letter is not None
            known = Known(letter.record.value or b"", letter.key, self.wall_ms, 0, None)
            self.table[self.next_offset] = known
            self.next_offset += 1
            self.dead = [dead for dead in self.dead if dead[0] != letter.dead_letter.offset]

    @precondition(lambda self: self.table)
    @rule()
    def crash(self) -> None:
        shutil.copytree(self.root / str(self.number), self.root / str(self.number + 1))
        self.store.close()
        self.number += 1
        self.open()

    @precondition(lambda self: self.table)
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
        in_flight = [o for o, m in self.table.items() if m.held_until is not None and m.held_until > self.now_ms]
        stats = self.queue.stats()
        assert stats.in_flight == len(in_flight)
        assert stats.dead == len(self.dead)
        assert stats.ready + stats.delayed + stats.blocked == len(self.queue) == len(self.table) - len(in_flight)
        assert stats.low_water <= min(self.table, default=self.next_offset)
        assert stats.log_end == self.next_offset
        letters = [letter.dead_letter for letter in self.queue.dead_letters.peek(None)] if self.dead else []
        assert [(letter.offset, letter.reason, letter.deliveries) for letter in letters if letter] == self.dead


def test_a_queue_does_what_a_table_of_messages_says() -> None:
    before = journal._NOTES_MAX
    try:
        run_state_machine_as_test(
            QueueModel,
            settings=settings(max_examples=50, stateful_step_count=40, suppress_health_check=list(HealthCheck)),
        )
    finally:
        journal._NOTES_MAX = before


@pytest.mark.slow
def test_a_queue_does_so_for_longer() -> None:
    before = journal._NOTES_MAX
    try:
        run_state_machine_as_test(
            QueueModel,
            settings=settings(max_examples=300, stateful_step_count=40, suppress_health_check=list(HealthCheck)),
        )
    finally:
        journal._NOTES_MAX = before
