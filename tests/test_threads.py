"""A Ctrl-C that comes while a thread starts comes when it has started."""

import signal
import threading
from collections.abc import Iterator

import pytest

from logstore.threads import start_thread


class Disturbed(threading.Thread):
    """A Ctrl-C comes in the middle of its start."""

    def start(self) -> None:
        signal.raise_signal(signal.SIGINT)
        super().start()


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_thread_has_started_when_the_ctrl_c_comes() -> None:
    started = threading.Event()
    thread = Disturbed(target=started.set)
    with pytest.raises(KeyboardInterrupt):
        start_thread(thread)
    assert started.wait(10)
    thread.join(10)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_is_called_once_and_stays() -> None:
    calls: list[int] = []

    def note(number: int, frame: object) -> None:
        calls.append(number)

    signal.signal(signal.SIGINT, note)
    start_thread(Disturbed(target=lambda: None))
    assert calls == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is note
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_thread(Disturbed(target=lambda: None))
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_thread_that_cannot_start_leaves_the_handler_as_it_was() -> None:
    thread = threading.Thread(target=lambda: None)
    start_thread(thread)
    with pytest.raises(RuntimeError):
        start_thread(thread)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_than_the_main_one_may_start_some() -> None:
    done = threading.Event()
    outer = threading.Thread(target=lambda: start_thread(threading.Thread(target=done.set)))
    start_thread(outer)
    assert done.wait(10)
