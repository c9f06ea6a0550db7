"""Gaps: offsets that were lost."""

from itertools import combinations_with_replacement

import pytest

from logstore.settings import LONG_MAX
from logstore.storage.gaps import Gap, add_gap, is_known_gap, keep_end, without


def offsets(gaps: list[Gap]) -> list[int]:
    return [offset for first, last in gaps for offset in range(first, last + 1)]


@pytest.mark.parametrize("gaps", [[], [(3, 3)], [(2, 6)], [(6, 8), (1, 3)], [(0, 4), (5, 9)]])
def test_what_is_taken_out_of_gaps_and_nothing_else_is_gone(gaps: list[Gap]) -> None:
    for first, last in combinations_with_replacement(range(11), 2):
        left = without(gaps, first, last)
        assert offsets(left) == [offset for offset in offsets(gaps) if not first <= offset <= last]
        assert all(begin <= end for begin, end in left)
    assert without(gaps, 3, LONG_MAX) == [(begin, min(end, 2)) for begin, end in gaps if begin < 3]


def test_gaps_that_touch_are_one_hole() -> None:
    for gaps in ([(8, 8), (9, 9)], [(9, 9), (8, 8)], [(5, 8), (7, 12)]):
        assert is_known_gap(gaps, 8, 9) and not is_known_gap(gaps, 8, 13) and not is_known_gap(gaps, 4, 9)
    assert not is_known_gap([(8, 8), (10, 10)], 8, 10)


def test_a_gap_is_noted_once() -> None:
    gaps = [(5, 9)]
    for first, last, is_known in [(5, 9, True), (6, 7, True), (9, 10, False), (9, 10, True), (4, 5, False)]:
        assert is_known_gap(gaps, first, last) == is_known
        add_gap(gaps, first, last)
    assert gaps == [(5, 9), (9, 10), (4, 5)]


@pytest.mark.parametrize(
    ("end_offset", "recovery_point", "gaps", "kept_end", "kept_gaps"),
    [
        (7, 7, [], 7, []),
        (7, 5, [(2, 3)], 7, [(2, 3)]),
        (7, 9, [], 9, [(7, 8)]),
        (7, 0, [(7, 8)], 9, [(7, 8)]),
        (7, 12, [(8, 9)], 12, [(8, 9), (7, 11)]),
    ],
)
def test_offsets_that_were_given_once_are_not_given_again(
    end_offset: int, recovery_point: int, gaps: list[Gap], kept_end: int, kept_gaps: list[Gap]
) -> None:
    assert keep_end(end_offset, recovery_point, gaps) == kept_end
    assert gaps == kept_gaps
