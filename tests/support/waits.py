"""Waiting in tests for what another thread does."""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

Value = TypeVar("Value")

SOON_S = 20.0
"""A wait that comes to an end long before."""


HELD_S = 60.0
"""Longer than anybody's patience: a test whose clients wait until a ``hold`` gives up fails."""


def hold(until: Event) -> None:
    """Stand still, in place of something that takes long, until the test lets go."""
    assert until.wait(HELD_S), "nobody has let go"


def wait_until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not come to be"
        time.sleep(0.001)


def comes_to(expected: Value, look: Callable[[], Value]) -> None:
    """A change may be answered before all of a Kafka knows it."""
    deadline_s = time.monotonic() + SOON_S
    while (found := look()) != expected:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.01)
