"""Runs of offsets: what is noted of many messages is noted once for those that stand side by side."""

from collections.abc import Iterator, Sequence


def ranges(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The runs of consecutive ones of sorted offsets, as (first, last)."""
    if not offsets:
        return
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset != last + 1:
            yield first, last
            first = offset
        last = offset
    yield first, last
