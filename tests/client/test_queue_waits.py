"""Who waits for a queue, and is woken: no wake is lost, nobody is woken in vain over and over, no worker is gone."""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import logstore
from logstore import Full, InvalidArgument, Store
from logstore.client.queue.queue import Queue
from logstore.errors import RecordTooLarge
from waits import SOON_S, wait_until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path) as opened:
        yield opened


def waiting_putters(queue: Queue) -> int:
    return len(queue.engine.putters.waiting)


def test_who_wants_room_for_less_does_not_wait_for_who_wants_more(store: Store) -> None:
    queue = store.queue("small", durability="os", max_size=3)
    queue.put_many([b"a", b"b", b"c"])
    with ThreadPoolExecutor(2) as pool:
        many = pool.submit(queue.put_many, [b"d"] * 3, timeout=SOON_S)
        wait_until(lambda: waiting_putters(queue) == 1)
        one = pool.submit(queue.put, b"e", timeout=SOON_S)
        wait_until(lambda: waiting_putters(queue) == 2)
        queue.get().ack()
        assert one.result(SOON_S / 2).offset == 3
        for _ in range(3):
            queue.get().ack()
        assert len(many.result(SOON_S / 2)) == 3


def test_a_putter_who_cannot_use_its_room_passes_it_on(store: Store) -> None:
    queue = store.queue("small", durability="os", max_size=1)
    store.alter_topic("small", {"max.message.bytes": 1000})
    queue.put(b"a")
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(queue.put, bytes(2000), timeout=SOON_S)
        wait_until(lambda: waiting_putters(queue) == 1)
        small = pool.submit(queue.put, b"b", timeout=SOON_S)
        wait_until(lambda: waiting_putters(queue) == 2)
        queue.get().ack()
        with pytest.raises(RecordTooLarge):
            large.result(SOON_S / 2)
        assert small.result(SOON_S / 2).offset == 1


def test_an_interrupted_put_takes_no_room(store: Store) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    queue = store.queue("small", durability="os", max_size=1)
    queue.put(b"a")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            queue.put(b"b", timeout=SOON_S)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not waiting_putters(queue)
    with pytest.raises(Full):
        queue.put(b"c", block=False)


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt, GeneratorExit, threading.BrokenBarrierError])
def test_no_handler_ends_its_worker(store: Store, ending: type[BaseException]) -> None:
    queue = store.queue("jobs", durability="os", max_deliveries=2)
    queue.put_many([b"bad", b"good"])
    done = threading.Event()

    def handler(job: logstore.Job) -> None:
        if job.value == b"bad":
            raise ending
        done.set()

    with queue.work(handler, backoff=0.01):
        assert done.wait(SOON_S)
        wait_until(lambda: queue.stats().dead == 1)


def test_workers_that_are_stopped_just_before_they_wait_do_not_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = store.queue("jobs", durability="os")
    take_or_wait = queue.outlet.take_or_wait
    is_about_to_wait, may_go_on = threading.Event(), threading.Event()

    def slow(count: int, waiter: object) -> object:
        is_about_to_wait.set()
        may_go_on.wait(SOON_S)
        return take_or_wait(count, waiter)  # type: ignore[arg-type]

    monkeypatch.setattr(queue.outlet, "take_or_wait", slow)
    workers = queue.work(print)
    assert is_about_to_wait.wait(SOON_S)
    workers.stop(wait=False)
    may_go_on.set()
    ended = threading.Thread(target=workers.join, daemon=True)
    ended.start()
    ended.join(SOON_S / 4)
    is_left = ended.is_alive()
    queue.engine.getters.wake_all()
    assert not is_left


@pytest.mark.parametrize(
    "settings", [{"backoff": "1"}, {"backoff": float("nan")}, {"backoff_max": -1}, {"workers": 1.5}]
)
def test_workers_that_cannot_be_are_refused(store: Store, settings: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(settings))):
        store.queue("jobs").work(print, **settings)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="handler"):
        store.queue("jobs").work("print")  # type: ignore[arg-type]
