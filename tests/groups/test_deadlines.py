"""One thread that acts when a time has come."""

import threading
from functools import partial
from queue import Queue

import pytest

from ctrl_c import everywhere
from logstore.groups.coordinator import monotonic_ms
from logstore.groups.deadlines import Deadlines

PATIENCE_S = 30.0


class Acts:
    """What was acted for, in order; ``next_ms`` of a key is when it is due again."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.keys: list[str] = []
        self.next_ms: dict[str, int] = {}
        self.deadlines = Deadlines("test-deadlines", lambda: self.now_ms, self.act)

    def act(self, key: str) -> int | None:
        self.keys.append(key)
        return self.next_ms.pop(key, None)

    def at(self, now_ms: int) -> list[str]:
        self.now_ms = now_ms
        self.keys = []
        self.deadlines.run_due()
        return self.keys


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> Acts:
    """Without the thread."""
    acts = Acts()
    monkeypatch.setattr(acts.deadlines._thread, "start", lambda: None)
    return acts


def test_keys_come_in_the_order_of_their_times_each_once(acts: Acts) -> None:
    for key, time_ms in (("c", 30), ("a", 10), ("b", 20)):
        acts.deadlines.set(key, time_ms)
    assert acts.at(9) == []
    assert acts.at(25) == ["a", "b"]
    assert acts.at(30) == ["c"]
    assert acts.at(1_000) == []


def test_an_earlier_time_counts_and_a_later_one_is_found_when_the_earlier_comes(acts: Acts) -> None:
    acts.deadlines.set("a", 20)
    acts.deadlines.set("a", 10)
    acts.deadlines.set("a", 30)
    acts.deadlines.set("a", None)
    acts.next_ms["a"] = 30
    assert acts.at(10) == ["a"]
    assert acts.at(29) == []
    assert acts.at(30) == ["a"]


def test_what_failed_is_tried_again_a_second_later(acts: Acts, caplog: pytest.LogCaptureFixture) -> None:
    acts.deadlines._act = lambda key: 1 // 0
    acts.deadlines.set("a", 10)
    assert acts.at(10) == []
    assert "ZeroDivisionError" in caplog.text
    acts.deadlines._act = acts.act
    assert acts.at(1_009) == []
    assert acts.at(1_010) == ["a"]


def test_the_thread_sees_a_time_that_is_earlier_than_the_one_it_waits_for() -> None:
    acted: Queue[str] = Queue()
    deadlines = Deadlines("test-deadlines", monotonic_ms, acted.put)  # type: ignore[arg-type]  # None: no next time
    deadlines.set("late", monotonic_ms() + 3_600_000)
    deadlines.set("soon", monotonic_ms() + 20)
    assert acted.get(timeout=PATIENCE_S) == "soon"
    deadlines.close()
    deadlines.set("never", 0)
    deadlines.close()
    assert acted.empty()
    assert not [thread for thread in threading.enumerate() if thread.name == "test-deadlines"]


def test_what_is_due_may_close_it() -> None:
    closed = threading.Event()

    def act(key: str) -> None:
        deadlines.close()
        closed.set()

    deadlines = Deadlines("test-deadlines", monotonic_ms, act)  # type: ignore[arg-type]  # None: no next time
    deadlines.set("a", 0)
    assert closed.wait(PATIENCE_S)
    deadlines.close()


def test_a_ctrl_c_anywhere_in_set_leaves_it_to_other_threads_and_loses_no_time_that_is_set_again(acts: Acts) -> None:
    for ctrl_c in everywhere():
        key = f"key {ctrl_c.number}"
        ctrl_c.run(partial(acts.deadlines.set, key, 10))
        other = threading.Thread(target=acts.deadlines.set, args=(key, 10), daemon=True)
        other.start()
        other.join(PATIENCE_S)
        assert not other.is_alive(), ctrl_c.place
        assert acts.at(10) == [key], ctrl_c.place
