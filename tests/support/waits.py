"""Waiting in tests for what another thread does."""

import time
from collections.abc import Callable

SOON_S = 20.0
"""A wait that comes to an end long before."""


def wait_until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not come to be"
        time.sleep(0.001)
