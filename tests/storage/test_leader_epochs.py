import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.storage.leader_epochs import EpochEntry, LeaderEpochs

HISTORY = [(2, 0), (3, 10), (7, 50)]


@pytest.fixture
def epochs() -> LeaderEpochs:
    return LeaderEpochs(HISTORY)


# -------------------------------------------------------------------------------------------------------------- assign


@pytest.mark.parametrize(
    ("epoch", "start_offset", "entries"),
    [
        pytest.param(8, 60, [*HISTORY, (8, 60)], id="a new leader"),
        pytest.param(7, 60, HISTORY, id="a later batch of the same leader"),
        pytest.param(7, 50, HISTORY, id="the same batch again"),
        pytest.param(7, 40, [(2, 0), (3, 10), (7, 40)], id="the same leader began earlier"),
        pytest.param(8, 50, [(2, 0), (3, 10), (8, 50)], id="a new leader where the last one wrote nothing"),
        pytest.param(8, 5, [(2, 0), (8, 5)], id="a new leader overwrites much"),
        pytest.param(8, 0, [(8, 0)], id="a new leader overwrites all"),
        pytest.param(5, 60, [(2, 0), (3, 10), (5, 60)], id="an older leader's batch behind a newer one's"),
        pytest.param(3, 60, [(2, 0), (3, 60)], id="an older leader's later batch behind a newer one's"),
        pytest.param(1, 60, [(1, 60)], id="a batch older than all leaders known"),
        pytest.param(-1, 60, HISTORY, id="a batch of no epoch"),
    ],
)
def test_a_batch_is_assigned_and_contradicting_entries_go(
    epochs: LeaderEpochs, epoch: int, start_offset: int, entries: list[tuple[int, int]]
):
    assert epochs.assign(epoch, start_offset) is (entries != HISTORY)
    assert list(epochs.entries) == entries


def test_nothing_is_known_of_an_empty_log():
    epochs = LeaderEpochs()
    assert (epochs.latest, epochs.entries, epochs.epoch_for(0)) == (None, (), None)
    assert epochs.end_offset_for(0, 100) == (-1, -1)
    assert not epochs.truncate_from_start(5)
    assert not epochs.truncate_from_end(5)
    assert epochs.assign(0, 0)
    assert epochs.latest == 0


def test_a_checkpoint_that_does_not_rise_is_read_by_its_later_entries():
    assert LeaderEpochs([(1, 0), (3, 30), (2, 40), (4, 35)]).entries == (EpochEntry(1, 0), EpochEntry(4, 35))


def test_entries_read_before_a_change_stay_as_they_were(epochs: LeaderEpochs):
    before = epochs.entries
    epochs.truncate_from_end(1)
    assert list(before) == HISTORY


# ------------------------------------------------------------------------------------------------------------- look up


@pytest.mark.parametrize(
    ("epoch", "answer"),
    [
        pytest.param(7, (7, 100), id="the latest ends where the log ends"),
        pytest.param(3, (3, 50), id="an earlier one ends where the next begins"),
        pytest.param(2, (2, 10), id="the first"),
        pytest.param(5, (3, 50), id="one that wrote nothing: the one before it"),
        pytest.param(0, (0, 0), id="older than all: the first known offset"),
        pytest.param(8, (-1, -1), id="newer than all"),
        pytest.param(-1, (-1, -1), id="none"),
    ],
)
def test_an_epochs_end_is_answered_as_offset_for_leader_epoch_does(
    epochs: LeaderEpochs, epoch: int, answer: tuple[int, int]
):
    assert epochs.end_offset_for(epoch, 100) == answer


@pytest.mark.parametrize(("offset", "epoch"), [(-1, None), (0, 2), (9, 2), (10, 3), (49, 3), (50, 7), (10**18, 7)])
def test_an_offset_has_the_epoch_of_the_leader_that_wrote_it(epochs: LeaderEpochs, offset: int, epoch: int | None):
    assert epochs.epoch_for(offset) == epoch


# ------------------------------------------------------------------------------------------------------------ truncate


@pytest.mark.parametrize(
    ("end_offset", "entries"),
    [(100, HISTORY), (51, HISTORY), (50, HISTORY[:2]), (11, HISTORY[:2]), (10, HISTORY[:1]), (0, [])],
)
def test_epochs_that_began_at_the_new_end_or_later_go(
    epochs: LeaderEpochs, end_offset: int, entries: list[tuple[int, int]]
):
    assert epochs.truncate_from_end(end_offset) is (entries != HISTORY)
    assert list(epochs.entries) == entries


@pytest.mark.parametrize(
    ("start_offset", "entries"),
    [
        pytest.param(0, HISTORY, id="nothing cut"),
        pytest.param(4, [(2, 4), (3, 10), (7, 50)], id="within the first"),
        pytest.param(10, [(3, 10), (7, 50)], id="at a border"),
        pytest.param(20, [(3, 20), (7, 50)], id="within the second"),
        pytest.param(99, [(7, 99)], id="behind all: the last leader's"),
    ],
)
def test_the_epoch_of_the_new_start_begins_there(
    epochs: LeaderEpochs, start_offset: int, entries: list[tuple[int, int]]
):
    assert epochs.truncate_from_start(start_offset) is (entries != HISTORY)
    assert list(epochs.entries) == entries


def test_a_start_below_the_first_entry_changes_nothing():
    epochs = LeaderEpochs([(3, 10)])
    assert not epochs.truncate_from_start(5)
    assert list(epochs.entries) == [(3, 10)]


# ----------------------------------------------------------------------------------------------------- against a model


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=12),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(-1, 30),
)
def test_the_answers_are_those_of_a_list_of_every_offsets_epoch(
    batches: list[tuple[int, int]], start: int, end: int, asked: int
):
    epochs, written, epoch = LeaderEpochs(), list[int](), 0
    for step, count in batches:
        epoch += step
        epochs.assign(epoch, len(written))
        written += [epoch] * count
    end = min(end, len(written))
    start = min(start, end)
    epochs.truncate_from_end(end)
    epochs.truncate_from_start(start)
    kept = range(start, end)

    assert all(epochs.epoch_for(offset) == written[offset] for offset in kept)
    if kept:
        assert epochs.epoch_for(start - 1) is None
        assert epochs.latest == written[end - 1]
        known = sorted({written[offset] for offset in kept})
        if asked < 0 or asked > known[-1]:
            expected = (-1, -1)
        else:
            floor = max((e for e in known if e <= asked), default=asked)
            expected = floor, next((offset for offset in kept if written[offset] > asked), end)
        assert epochs.end_offset_for(asked, end) == expected
