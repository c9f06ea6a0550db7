"""pytest's fixtures for a Kafka broker, for a conftest.py that says ``pytest_plugins = ["logstore.pytest_plugin"]``.

A broker has the settings, and the other keywords of ``logstore.testing.broker``, that the fixture
``logstore_broker_settings`` gives: none, unless a conftest.py has one of that name, of the scope session.

pytest is not told of this by an entry point: it would rewrite the asserts of all of logstore then, in every run of
everybody who has it installed, which takes the better part of a second the first time. Nothing is imported here before
a broker is asked for.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from logstore.testing import Broker


@pytest.fixture(scope="session")
def logstore_broker_settings() -> Mapping[str, Any]:
    """Keywords of logstore.testing.broker for both fixtures; define it anew to change them."""
    return {}


@pytest.fixture
def logstore_broker(logstore_broker_settings: Mapping[str, Any]) -> "Iterator[Broker]":
    """A Kafka broker with nothing in it, for one test: .bootstrap is what clients connect to."""
    from logstore.testing import broker

    with broker(**logstore_broker_settings) as running:
        yield running


@pytest.fixture(scope="session")
def logstore_session_broker(logstore_broker_settings: Mapping[str, Any]) -> "Iterator[Broker]":
    """A Kafka broker for all tests of a session, which share what is in it: give topics names of their own."""
    from logstore.testing import broker

    with broker(**logstore_broker_settings) as running:
        yield running
