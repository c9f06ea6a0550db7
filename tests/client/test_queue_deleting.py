"""The end of a queue: deleted with all that is its, wherever a crash comes between; closed while others use it."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import failing_os
import logstore
from failing_os import FailingCalls
from logstore import Closed, Empty, InvalidArgument, ReadOnly, Store, UnknownTopic
from logstore.client.queue.queue import Queue
from logstore.client.queue.registry import Queues
from logstore.errors import LogstoreError
from waits import SOON_S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def jobs(store: Store) -> Queue:
    """With a message, one with a worker, and a dead letter."""
    queue = store.queue("jobs", durability="os", max_deliveries=1)
    queue.put_many([b"dead", b"with a worker", b"ready"])
    queue.get().nack()
    queue.get()
    return queue


def test_a_deleted_queue_is_gone_with_all_that_is_its(store: Store, jobs: Queue) -> None:
    letters = jobs.dead_letters
    store.queue("jobs-2").put(b"another's")
    store.delete_queue("jobs")
    assert store.queues() == ["jobs-2"]
    assert {topic.name for topic in store.topics()} == {"jobs-2", "__queue.jobs-2"}
    for queue in (jobs, letters):
        with pytest.raises(UnknownTopic):
            queue.put(b"late")
        with pytest.raises(UnknownTopic):
            queue.get()
    with pytest.raises(UnknownTopic):
        _ = jobs.dead_letters
    anew = store.queue("jobs")
    assert anew.config.max_deliveries == 5
    assert (len(anew), len(anew.dead_letters)) == (0, 0)


def test_who_waits_for_a_queue_that_is_deleted_is_told(store: Store) -> None:
    queue = store.queue("jobs")
    with ThreadPoolExecutor(2) as pool, queue.work(print) as workers:
        waiting = [pool.submit(queue.get) for _ in range(2)]
        while len(queue.engine.getters.waiting) < 3:
            pass
        store.delete_queue("jobs")
        for future in waiting:
            with pytest.raises(UnknownTopic):
                future.result(SOON_S)
        workers.join()


@pytest.mark.parametrize(
    ("name", "error"), [("none", UnknownTopic), ("plain", InvalidArgument), ("jobs.dead", InvalidArgument)]
)
def test_only_a_queue_is_deleted(store: Store, jobs: Queue, name: str, error: type[Exception]) -> None:
    store.create_topic("plain")
    with pytest.raises(error):
        store.delete_queue(name)
    assert store.topic("plain")
    assert jobs.stats().dead == 1


def test_a_topic_that_has_the_name_of_dead_letters_and_is_none_is_not_deleted(store: Store) -> None:
    store.queue("jobs").put(b"a")
    store.create_topic("jobs.dead")
    store.delete_queue("jobs")
    assert [topic.name for topic in store.topics()] == ["jobs.dead"]


def test_wherever_a_crash_comes_a_queue_is_there_whole_or_not_at_all(store: Store, jobs: Queue) -> None:
    before = store.path.with_name("before")
    store.flush()
    shutil.copytree(store.path, before)
    seen = set()
    at, is_through = 0, False
    while not is_through:
        path = store.path.with_name(f"crashed-{at}")
        shutil.copytree(before, path)
        crashing = logstore.open(path)
        with FailingCalls(failing_os.READ_ONLY_DISK, at) as calls:
            try:
                crashing.delete_queue("jobs")
                is_through = not calls.failed
            except LogstoreError:
                pass
            found = path.with_name(f"found-{at}")
            shutil.copytree(path, found)
            calls.lift()
        with contextlib.suppress(LogstoreError):  # it has seen the failure
            crashing.close()
        with logstore.open(found, read_only=True) as looking:
            is_there = "jobs" in looking.queues()
        with logstore.open(found) as opened:
            assert (opened.queues() == ["jobs"]) is is_there
            assert is_there or not opened.topics()
            counts = opened.queue("jobs").stats()
            assert (counts.ready, counts.dead) == ((2, 1) if is_there else (0, 0))
        seen.add(is_there)
        at += 1
        shutil.rmtree(path)
        shutil.rmtree(found)
    assert seen == {True, False}


@pytest.mark.parametrize("name", ["x.dead", "jobs.dead.dead", ".dead"])
def test_names_of_dead_letters_are_for_those_of_a_queue(store: Store, jobs: Queue, name: str) -> None:
    with pytest.raises(InvalidArgument, match="dead letters"):
        store.queue(name)
    assert store.queue("jobs.dead") is jobs.dead_letters
    long = "x" * 230
    assert store.queue(long).dead_letters is store.queue(long + ".dead")


def test_a_directory_that_is_looked_at_has_queues(store: Store, jobs: Queue) -> None:
    with logstore.open(store.path, read_only=True) as looking:
        assert looking.queues() == ["jobs"]
        assert [message.value for message in looking.queue("jobs", deserializer=bytes.decode).peek(5)] == ["ready"]
        assert looking.queue("jobs").stats().dead == 1
        for name in ("none", "__queue.jobs", 5):
            with pytest.raises(UnknownTopic):
                looking.queue(name)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument):
            looking.queue("jobs").peek(0)
        with pytest.raises(ReadOnly):
            looking.delete_queue("jobs")


def test_a_queue_that_is_being_closed_is_opened_again_when_it_is_closed(
    store: Store, jobs: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = jobs.engine.journal.snapshot
    is_closing, may_go_on = threading.Event(), threading.Event()

    def slow(state: object) -> None:
        is_closing.set()
        may_go_on.wait(SOON_S)
        snapshot(state)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs.engine.journal, "snapshot", slow)
    with ThreadPoolExecutor(2) as pool:
        closing = pool.submit(jobs.close)
        assert is_closing.wait(SOON_S)
        opening = pool.submit(store.queue, "jobs")
        with pytest.raises(TimeoutError):
            opening.result(0.1)
        may_go_on.set()
        closing.result(SOON_S)
        opened = opening.result(SOON_S)
    opened.ack_many(opened.get_many(5))
    found = store.path.with_name("found")
    shutil.copytree(store.path, found)
    with logstore.open(found) as again, pytest.raises(Empty):
        again.queue("jobs").get(block=False)


def test_no_queue_is_opened_when_the_store_is_being_closed(store: Store) -> None:
    queues = Queues(store, lambda: 0)
    queues.close()
    with pytest.raises(Closed):
        queues.open("jobs")


def test_a_queue_whose_topic_goes_is_not_left_while_somebody_begins_to_wait(jobs: Queue) -> None:
    with jobs.engine.lock:  # who is about to wait has looked, and does not wait yet
        ending = threading.Thread(target=jobs.engine.abandon, args=[UnknownTopic("jobs")])
        ending.start()
        ending.join(0.05)
        assert not jobs.is_closed
    ending.join()
    assert jobs.is_closed


def test_counts_are_there_when_somebody_has_moved_the_log_start(store: Store, jobs: Queue) -> None:
    jobs.put_many([b"%d" % number for number in range(5)])
    store.advance_log_start("jobs", 0, 4)
    assert jobs.stats().oldest_age_s is not None
    with logstore.open(store.path, read_only=True) as looking:
        assert looking.queue("jobs").stats().oldest_age_s is not None


def test_dead_letters_stay_on_the_disk_until_their_queue_has_noted_them(store: Store) -> None:
    jobs = store.queue("jobs", max_deliveries=1)
    jobs.put(b"poison")
    job = jobs.get()
    with FailingCalls(failing_os.FAILED_SYNC, 0), pytest.raises(LogstoreError):
        jobs.engine.journal.sync()  # nothing can be noted any more
    with pytest.raises(LogstoreError):
        job.nack()
    jobs.dead_letters.get(block=False).ack()
    store.close()
    with logstore.open(store.path) as again:
        with pytest.raises(Empty):
            again.queue("jobs").get(block=False)
        assert len(again.queue("jobs").dead_letters) == 0
