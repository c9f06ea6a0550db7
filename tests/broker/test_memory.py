"""The budget for bytes of all connections: who waits, and who goes on when."""

from logstore.broker.memory import MemoryBudget


class Peer:
    def __init__(self) -> None:
        self.woken = 0

    def on_memory(self) -> None:
        self.woken += 1


def test_nobody_waits_below_the_limit() -> None:
    budget, peer = MemoryBudget(100), Peer()
    budget.hold(peer, 100)
    assert not budget.is_full and not budget.must_wait(peer)


def test_without_a_limit_nobody_ever_waits() -> None:
    budget, first, second = MemoryBudget(-1), Peer(), Peer()
    budget.hold(first, 1 << 40)
    budget.hold(second, 1 << 40)
    assert not budget.must_wait(second)


def test_above_it_all_wait_but_the_one_who_has_held_some_for_longest() -> None:
    budget, first, second, third = MemoryBudget(100), Peer(), Peer(), Peer()
    budget.hold(first, 60)
    budget.hold(second, 60)
    assert (budget.must_wait(first), budget.must_wait(second), budget.must_wait(third)) == (False, True, True)


def test_they_go_on_once_there_is_room() -> None:
    budget, first, second, third = MemoryBudget(100), Peer(), Peer(), Peer()
    budget.hold(first, 60)
    budget.hold(second, 60)
    assert budget.must_wait(second) and budget.must_wait(third)
    budget.hold(first, 0)
    assert (second.woken, third.woken, budget.total) == (1, 1, 60)


def test_the_next_in_line_goes_on_when_the_first_is_gone_however_full_it_is() -> None:
    budget, first, second, third = MemoryBudget(100), Peer(), Peer(), Peer()
    for peer in (first, second, third):
        budget.hold(peer, 150)
    assert budget.must_wait(second) and budget.must_wait(third)
    budget.forget(first)
    assert (second.woken, third.woken) == (1, 0)


def test_one_who_is_gone_is_not_woken() -> None:
    budget, first, second = MemoryBudget(100), Peer(), Peer()
    budget.hold(first, 200)
    budget.must_wait(second)
    budget.forget(second)
    budget.forget(first)
    assert (second.woken, budget.total) == (0, 0)
