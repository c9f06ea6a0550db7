"""Who waits for an offset is called once, when the end has passed it, and costs others nothing."""

import pytest

from logstore.settings import LONG_MAX
from logstore.storage.waiters import Waiters


@pytest.fixture
def called() -> list[int]:
    return []


def test_those_are_called_whose_offset_the_end_has_passed_and_only_once(called: list[int]) -> None:
    waiters = Waiters()
    for offset in (5, 3, 4, 3):
        waiters.add(offset, lambda offset=offset: called.append(offset))  # type: ignore[misc]
    for end_offset in (3, 4, 4, 6):
        waiters.wake(end_offset)
    assert called == [3, 3, 5, 4] and len(waiters) == 0


def test_the_lowest_tells_when_there_is_nobody_to_wake(called: list[int]) -> None:
    waiters = Waiters()
    assert waiters.lowest == LONG_MAX
    first = waiters.add(7, lambda: called.append(7))
    second = waiters.add(9, lambda: called.append(9))
    assert waiters.lowest == 7
    waiters.remove(first)
    assert waiters.lowest <= 9
    waiters.wake(8)
    assert waiters.lowest == 9 and not called
    waiters.remove(second)
    waiters.remove(second)
    assert waiters.lowest == LONG_MAX and not called


def test_one_that_fails_keeps_no_other(called: list[int]) -> None:
    waiters = Waiters()
    waiters.add(0, lambda: 1 // 0)  # type: ignore[arg-type]
    waiters.add(0, lambda: called.append(0))
    waiters.wake(1)
    assert called == [0]
