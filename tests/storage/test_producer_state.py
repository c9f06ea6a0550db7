import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.errors import InvalidRecord, OutOfOrderSequence, ProducerFenced
from logstore.format import producer_snapshot
from logstore.format.producer_snapshot import ProducerSnapshotEntry
from logstore.storage import producer_state
from logstore.storage.producer_state import DuplicateBatch, ProducerState, add_to_sequence

LAST_SEQUENCE = 2**31 - 1
PRODUCER, OTHER = 4711, 4712


class Log:
    """A partition's end: appends a producer's batches as the partition does, check first and then update."""

    def __init__(self) -> None:
        self.state = ProducerState("orders_0")
        self.end_offset = 0

    def append(
        self, base_sequence: int, count: int = 1, epoch: int = 0, producer: int = PRODUCER, transactional: bool = False
    ) -> DuplicateBatch | None:
        duplicate = self.state.check(producer, epoch, base_sequence, count)
        if duplicate is None:
            base, self.end_offset = self.end_offset, self.end_offset + count
            self.state.update(producer, epoch, base_sequence, base, self.end_offset - 1, 1000 + base, transactional)
        return duplicate

    def mark(self, epoch: int = 0, producer: int = PRODUCER, coordinator_epoch: int = 0) -> int | None:
        offset, self.end_offset = self.end_offset, self.end_offset + 1
        return self.state.end_transaction(producer, epoch, coordinator_epoch, 1000 + offset)


@pytest.fixture
def log() -> Log:
    return Log()


def reloaded(state: ProducerState) -> ProducerState:
    """The state after a restart: by the bytes of a snapshot file."""
    after = ProducerState(state.log)
    after.load(producer_snapshot.decode(producer_snapshot.encode(state.snapshot_entries())))
    return after


# ----------------------------------------------------------------------------------------------------------- sequences


def test_batches_in_sequence_are_appended(log: Log):
    assert [log.append(0, 3), log.append(3, 2), log.append(5)] == [None] * 3


def test_an_unknown_producer_may_start_at_any_sequence(log: Log):
    assert log.append(77, 3) is None
    assert log.append(80) is None


@pytest.mark.parametrize("sequence", [0, 2, 4, 6, LAST_SEQUENCE])
def test_a_sequence_that_is_not_the_next_is_refused(log: Log, sequence: int):
    log.append(0, 3)
    log.append(3, 2)
    with pytest.raises(OutOfOrderSequence) as raised:
        log.append(sequence)
    assert raised.value.args == ("orders_0", PRODUCER, sequence, 5)


def test_a_refused_batch_changes_nothing(log: Log):
    log.append(0)
    with pytest.raises(OutOfOrderSequence):
        log.append(2)
    assert log.append(1) is None


def test_producers_do_not_disturb_each_other(log: Log):
    log.append(0, 3)
    assert log.append(0, producer=OTHER) is None
    assert log.append(3) is None
    assert log.append(1, producer=OTHER) is None


@pytest.mark.parametrize("known", [True, False])
def test_a_negative_sequence_is_refused(log: Log, known: bool):
    if known:
        log.append(LAST_SEQUENCE)
    with pytest.raises(InvalidRecord):
        log.append(-1)


@pytest.mark.parametrize(
    ("sequence", "count", "expected"),
    [
        (0, 1, 1),
        (LAST_SEQUENCE - 1, 1, LAST_SEQUENCE),
        (LAST_SEQUENCE, 1, 0),
        (LAST_SEQUENCE - 2, 10, 7),
        (0, -1, LAST_SEQUENCE),
        (7, -10, LAST_SEQUENCE - 2),
    ],
)
def test_zero_comes_after_the_last_sequence(sequence: int, count: int, expected: int):
    assert add_to_sequence(sequence, count) == expected


def test_a_batch_may_wrap_around_and_is_recognised_when_sent_again(log: Log):
    log.append(LAST_SEQUENCE - 1, 4)  # ..., 2^31-2, 2^31-1, 0, 1
    assert log.append(LAST_SEQUENCE - 1, 4) == DuplicateBatch(0, 3, 1000)
    assert log.append(2) is None
    after = reloaded(log.state)
    assert after.check(PRODUCER, 0, 2, 1) == DuplicateBatch(4, 4, 1004)
    assert after.check(PRODUCER, 0, 3, 1) is None


def test_the_batch_after_the_last_sequence_starts_at_zero(log: Log):
    log.append(LAST_SEQUENCE - 2, 3)
    assert log.append(0) is None


# ---------------------------------------------------------------------------------------------------------- duplicates


def test_the_last_five_batches_are_recognised_when_sent_again(log: Log):
    for base_sequence in range(0, 14, 2):
        log.append(base_sequence, 2)
    for base_sequence in range(4, 14, 2):
        assert log.append(base_sequence, 2) == DuplicateBatch(base_sequence, base_sequence + 1, 1000 + base_sequence)
    for base_sequence in (0, 2):
        with pytest.raises(OutOfOrderSequence):
            log.append(base_sequence, 2)


@pytest.mark.parametrize(("sequence", "count"), [(0, 2), (0, 4), (1, 2), (2, 1)])
def test_a_batch_that_overlaps_a_stored_one_is_not_a_duplicate(log: Log, sequence: int, count: int):
    log.append(0, 3)
    with pytest.raises(OutOfOrderSequence):
        log.append(sequence, count)


def test_a_batch_of_another_epoch_is_not_a_duplicate(log: Log):
    log.append(0, 3, epoch=0)
    assert log.append(0, 3, epoch=1) is None
    assert log.append(0, 3, epoch=1) == DuplicateBatch(3, 5, 1003)


def test_a_batch_thinned_by_compaction_keeps_its_sequences():
    state = ProducerState("orders_0")
    state.update(
        PRODUCER, 0, base_sequence=0, base_offset=0, last_offset=9, timestamp_ms=1
    )  # of 10, any number is left
    assert state.check(PRODUCER, 0, 10, 1) is None


# -------------------------------------------------------------------------------------------------------------- epochs


def test_an_old_epoch_is_fenced(log: Log):
    log.append(0, epoch=3)
    for sequence in (0, 1):
        with pytest.raises(ProducerFenced) as raised:
            log.append(sequence, epoch=2)
        assert raised.value.args == ("orders_0", PRODUCER, 2, 3)


def test_a_new_epoch_starts_at_zero(log: Log):
    log.append(0, epoch=3)
    with pytest.raises(OutOfOrderSequence) as raised:
        log.append(1, epoch=4)
    assert raised.value.expected == 0
    assert log.append(0, epoch=4) is None


def test_after_a_marker_of_a_new_epoch_the_old_one_is_fenced_and_sequences_start_at_zero(log: Log):
    log.append(0, 3, epoch=3, transactional=True)
    log.mark(epoch=4)
    with pytest.raises(ProducerFenced):
        log.append(3, epoch=3)
    with pytest.raises(OutOfOrderSequence):
        log.append(3, epoch=4)
    assert log.append(0, epoch=4) is None


def test_after_a_marker_of_the_same_epoch_the_sequences_go_on(log: Log):
    log.append(0, 3, transactional=True)
    log.mark()
    assert log.append(0, 3) == DuplicateBatch(0, 2, 1000)
    assert log.append(3) is None


# -------------------------------------------------------------------------------------------------------- transactions


def test_the_first_unstable_offset_is_where_the_oldest_open_transaction_began(log: Log):
    log.append(0, 5, transactional=False)
    assert log.state.first_unstable_offset() is None
    log.append(5, 2, transactional=True)
    log.append(0, 2, producer=OTHER, transactional=True)
    log.append(7, 2, transactional=True)
    assert log.state.first_unstable_offset() == 5
    assert log.mark() == 5
    assert log.state.first_unstable_offset() == 7
    log.append(9, transactional=True)
    assert log.state.first_unstable_offset() == 7
    assert log.mark(producer=OTHER) == 7
    assert log.state.first_unstable_offset() == 12
    assert log.mark() == 12
    assert log.state.first_unstable_offset() is None


def test_a_marker_without_a_transaction_ends_none(log: Log):
    assert log.mark(coordinator_epoch=9) is None
    assert log.state.snapshot_entries() == [ProducerSnapshotEntry(PRODUCER, 0, -1, -1, 0, 1000, 9, -1)]


def test_open_transactions_are_in_order_again_after_a_snapshot_in_another_order(log: Log):
    log.append(0, transactional=True)
    log.append(0, producer=OTHER, transactional=True)
    after = ProducerState("orders_0")
    after.load(reversed(log.state.snapshot_entries()))
    assert after.first_unstable_offset() == 0
    after.end_transaction(PRODUCER, 0, 0, 1)
    assert after.first_unstable_offset() == 1


# -------------------------------------------------------------------------------------------------------------- expiry


def test_idle_producers_are_forgotten_unless_a_transaction_is_open(log: Log):
    log.append(0)  # at 1000
    log.append(0, producer=OTHER, transactional=True)  # at 1001
    log.append(0, producer=5)  # at 1002
    assert log.state.expire(now_ms=1499, expiration_ms=500) == []
    assert log.state.expire(now_ms=1501, expiration_ms=500) == [PRODUCER]
    assert len(log.state) == 2
    log.mark(producer=OTHER)  # at 1003
    assert log.state.expire(now_ms=1502, expiration_ms=500) == [5]
    assert log.state.expire(now_ms=1503, expiration_ms=500) == [OTHER]
    assert log.append(99) is None  # unknown again: any sequence


def test_a_clock_set_back_forgets_no_producer(log: Log):
    log.append(0)
    assert log.state.expire(now_ms=-(10**12), expiration_ms=1) == []


# ----------------------------------------------------------------------------------------------------------- snapshots


def test_a_snapshot_holds_each_producers_last_batch(log: Log):
    log.append(0, 3, epoch=2)
    log.append(3, 4, epoch=2, transactional=True)
    log.mark(epoch=2, coordinator_epoch=6)
    log.append(7, 2, epoch=2, transactional=True)
    assert log.state.snapshot_entries() == [ProducerSnapshotEntry(PRODUCER, 2, 8, 9, 1, 1008, 6, 8)]


def test_after_a_snapshot_only_the_last_batch_is_recognised(log: Log):
    log.append(0, 3)
    log.append(3, 2)
    after = reloaded(log.state)
    assert after.check(PRODUCER, 0, 3, 2) == DuplicateBatch(3, 4, 1003)
    assert after.check(PRODUCER, 0, 5, 1) is None
    with pytest.raises(OutOfOrderSequence):
        after.check(PRODUCER, 0, 0, 3)


def test_loading_replaces_what_was_known(log: Log):
    log.append(0, transactional=True)
    log.state.load([])
    assert (len(log.state), log.state.first_unstable_offset(), log.state.snapshot_entries()) == (0, None, [])


# ----------------------------------------------------------------------------------------------------- against a model


@given(st.integers(0, 2**32), st.sampled_from([0, 5, LAST_SEQUENCE - 20]))
def test_whatever_is_sent_again_or_lost_each_record_is_stored_once_and_in_order(seed: int, start: int):
    """A client with up to five batches in flight over a lossy network, which resends until each is acknowledged."""
    rng, log = random.Random(seed), Log()
    sizes = [rng.randint(1, 5) for _ in range(40)]
    base_sequences = [(start + sum(sizes[:i])) % 2**31 for i in range(len(sizes))]
    stored: list[int] = []
    acknowledged: dict[int, int] = {}
    while len(acknowledged) < len(sizes):
        first = next(i for i in range(len(sizes)) if i not in acknowledged)
        for batch in range(first, min(first + 5, len(sizes))):
            if rng.random() < 0.3 or (batch > first and not stored):  # lost; the first of all must arrive first
                continue
            before = log.end_offset
            try:
                duplicate = log.append(base_sequences[batch], sizes[batch])
            except OutOfOrderSequence:
                assert batch not in stored
                continue
            if duplicate is None:
                stored.append(batch)
            else:
                assert batch in stored
            if rng.random() < 0.7:  # else the answer is lost
                acknowledged[batch] = before if duplicate is None else duplicate.base_offset
    assert stored == list(range(len(sizes)))
    assert acknowledged == {i: sum(sizes[:i]) for i in range(len(sizes))}


operations = st.lists(
    st.tuples(st.sampled_from([1, 2, 3]), st.integers(0, 3), st.integers(1, 4), st.sampled_from("bbbbtttm")),
    max_size=40,
)


@given(operations, st.integers(0, 40))
def test_a_snapshot_and_the_batches_after_it_give_the_same_state_as_all_batches(operations, cut: int):
    state, restarted = ProducerState("orders_0"), ProducerState("orders_0")
    offset = 0
    open_since: dict[int, int] = {}
    for number, (producer, epoch, count, kind) in enumerate(operations):
        if number == cut:
            restarted = reloaded(state)
        for each in (state, restarted) if number >= cut else (state,):
            if kind == "m":
                each.end_transaction(producer, epoch, number, offset)
            else:
                each.update(producer, epoch, offset, offset, offset + count - 1, offset, kind == "t")
        if kind == "m":
            open_since.pop(producer, None)
        elif kind == "t":
            open_since.setdefault(producer, offset)
        offset += count
        assert state.first_unstable_offset() == min(open_since.values(), default=None)
    if cut < len(operations):
        assert sorted(restarted.snapshot_entries()) == sorted(state.snapshot_entries())
        assert restarted.first_unstable_offset() == state.first_unstable_offset()


# ------------------------------------------------------------------------------------------------------------ the bound


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(producer_state, "PRODUCERS_MAX", 20)
    return 20


def ids(state: ProducerState) -> list[int]:
    return sorted(entry.producer_id for entry in state.snapshot_entries())


def test_of_too_many_producers_those_that_wrote_longest_ago_are_forgotten(log: Log, few: int):
    for producer in range(few):
        log.append(0, producer=producer)
    log.append(1, producer=0)
    log.append(0, producer=few)
    assert ids(log.state) == [0, *range(3, few + 1)]
    assert log.append(1, producer=0, count=1) == DuplicateBatch(few, few, 1000 + few)
    assert log.append(7, producer=1) is None  # as one that nobody knows


def test_there_are_never_more_producers_than_the_bound(log: Log, few: int):
    for producer in range(10 * few):
        log.append(0, producer=producer)
        log.mark(producer=10 * few + producer)
        assert len(log.state) <= few


def test_who_has_a_transaction_open_is_not_forgotten(log: Log, few: int):
    log.append(0, producer=0, transactional=True)
    for producer in range(1, 3 * few):
        log.append(0, producer=producer)
    assert 0 in ids(log.state)
    assert log.state.first_unstable_offset() == 0


def test_a_snapshot_with_more_than_the_bound_is_cut_down_by_the_next_new_producer(
    log: Log, monkeypatch: pytest.MonkeyPatch
):
    for producer in range(50):
        log.append(0, producer=producer)
    log.state = reloaded(log.state)
    monkeypatch.setattr(producer_state, "PRODUCERS_MAX", 20)
    log.append(0, producer=50)
    assert ids(log.state) == list(range(32, 51))
