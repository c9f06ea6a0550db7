"""What becomes of a record or a message when something goes wrong around it: lost, doubled, or neither.

The table of README, where the tests of each client do not have the line already.
"""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import logstore
from children import run_python
from disk_image import Mount
from failing_os import FULL_DISK, FailingCalls
from logstore import Store
from logstore.client.consumer import Consumer
from logstore.client.queue.queue import Queue
from logstore.errors import (
    Closed,
    DiskFull,
    InvalidArgument,
    LogstoreError,
    NotAssigned,
    NotInFlight,
    RecordTooLarge,
    SerializationFailed,
    UnknownTopic,
)
from waits import wait_until

SOON_S = 20.0
DIES = """
import os, signal, sys, logstore
def die():
    os.kill(os.getpid(), signal.SIGKILL)
store = logstore.open(sys.argv[1])
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path / "data") as opened:
        opened.create_topic("orders", partitions=2)
        yield opened


def fill(store: Store, count: int, topic: str = "orders") -> None:
    store.log(topic).append([b"%d" % number for number in range(count)])


def member(store: Store, **settings: Any) -> Consumer:
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **settings}
    return store.consumer("orders", group="billing", **settings)


def values(records: list[Any]) -> list[bytes]:
    return [record.value for record in records]


def die(path: Path, program: str) -> None:
    """In a process of its own, killed at its end, which closes nothing."""
    run_python(DIES + program + "\ndie()", path, status=-signal.SIGKILL)


# ------------------------------------------------------------------------------------ handles of a store that is closed


def test_a_job_of_a_closed_store_cannot_be_acked_and_comes_again(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.queue("jobs").put(b"work")
        job = store.queue("jobs").get()
    for call in (job.ack, job.nack, lambda: job.extend(1)):
        with pytest.raises(Closed):
            call()
    assert job.value == b"work" and not job.is_settled
    with logstore.open(tmp_path / "data") as store:
        again = store.queue("jobs").get(timeout=0)
        assert (again.value, again.deliveries) == (b"work", 2)
        with pytest.raises(InvalidArgument):
            store.queue("jobs").ack(job)  # of the store that was closed
        again.ack()


def test_a_job_whose_context_outlives_the_store_says_so_and_comes_again(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.queue("jobs").put(b"work")
        with pytest.raises(Closed), store.queue("jobs").get():
            store.close()
    with logstore.open(tmp_path / "data") as store:
        assert store.queue("jobs").get(timeout=0).deliveries == 2


def test_every_client_of_a_closed_store_says_that_it_is_closed(tmp_path: Path) -> None:
    store = logstore.open(tmp_path / "data")
    store.create_topic("orders")
    producer, consumer, queue = store.producer(linger_ms=60_000), member(store), store.queue("jobs")
    letters = queue.dead_letters
    future = producer.send("orders", b"taken in")
    store.close()
    assert future.result(0).offset == 0
    calls = [
        lambda: producer.send("orders", b"late"),
        lambda: consumer.poll(0),
        consumer.commit,
        lambda: consumer.position("orders", 0),
        lambda: queue.put(b"late"),
        lambda: queue.get(timeout=0),
        lambda: len(queue),
        queue.purge,
        queue.join,
        letters.replay,
        store.producer,
        lambda: store.consumer("orders"),
        lambda: store.queue("jobs"),
    ]
    for call in calls:
        with pytest.raises(Closed):
            call()
    for client in (producer, consumer, queue, letters, store):
        client.close()


# ----------------------------------------------------------------------------------------------------- foreign threads


def test_a_job_may_be_acked_by_another_thread_than_the_one_that_got_it(store: Store) -> None:
    queue = store.queue("jobs")
    queue.put(b"work")
    job = queue.get()
    failures: list[LogstoreError] = []

    def settle() -> None:
        try:
            queue.task_done()
        except InvalidArgument as error:
            failures.append(error)
        job.ack()

    thread = threading.Thread(target=settle)
    thread.start()
    thread.join(SOON_S)
    assert len(failures) == 1, "task_done is for the messages of its own thread"
    assert job.is_settled and queue.stats().in_flight == 0
    with pytest.raises(NotInFlight):
        job.ack()


# -------------------------------------------------------------------------------------- what is not there, or not one's


def test_a_partition_that_another_member_has_cannot_be_committed(store: Store) -> None:
    fill(store, 3)
    with member(store) as one, member(store) as other:
        for _ in range(1000):
            one.poll(0.005), other.poll(0.005)
            if len(one.assignment()) == len(other.assignment()) == 1:
                break
        [(_, theirs)] = other.assignment()
        [(_, own)] = one.assignment()
        with pytest.raises(NotAssigned):
            one.commit({("orders", own): 1, ("orders", theirs): 1})
        assert one.committed("orders", own) is None and one.committed("orders", theirs) is None


def test_a_topic_that_is_deleted_takes_its_partitions_from_the_member_and_others_can_be_committed(store: Store) -> None:
    store.create_topic("gone")
    fill(store, 3)
    fill(store, 3, "gone")
    with store.consumer("orders", "gone", group="billing", auto_offset_reset="earliest") as consumer:
        found: list[Any] = []
        while len(found) < 6:
            found += consumer.poll(SOON_S)
        store.delete_topic("gone")
        with pytest.raises(UnknownTopic):
            consumer.commit({("gone", 0): 3})
        consumer.poll(0.01)
        assert {topic for topic, _ in consumer.assignment()} <= {"orders"}
        wait_until(lambda: consumer.poll(0.01) or consumer.assignment())
        consumer.commit({("orders", 0): 3})
        assert {topic for topic, _ in store.groups.committed("billing")} == {"orders"}


def test_a_committed_offset_that_retention_has_passed_skips_to_the_new_records_with_latest(store: Store) -> None:
    """With earliest to the first that is left, with none NoCommittedOffset: see test_consumer_commits."""
    fill(store, 10)
    with member(store) as consumer:
        consumer.poll(SOON_S, max_records=2)
        consumer.commit({("orders", 0): 2})
    store.advance_log_start("orders", 0, 6)
    with member(store, auto_offset_reset="latest") as consumer:
        assert consumer.poll(0.05) == []
        assert consumer.position("orders", 0) == 10
        store.log("orders").append([b"new"])
        assert values(consumer.poll(SOON_S)) == [b"new"]


# ------------------------------------------------------------------------------------------------ bad records, bad code


def test_of_messages_put_together_none_is_put_where_one_is_refused(store: Store) -> None:
    queue = store.queue("jobs", serializer=lambda value: bytes(value))
    for refused, error in ((17 << 20, RecordTooLarge), ("text", SerializationFailed), (-1, SerializationFailed)):
        with pytest.raises(error):
            queue.put_many([1, refused, 2])
        assert queue.empty() and queue.log.log_end_offset == 0
    assert len(queue.put_many([1, 2])) == 2


def test_a_message_that_no_deserializer_understands_is_a_dead_letter_in_the_end_and_keeps_its_bytes(
    store: Store,
) -> None:
    queue = store.queue("numbers", deserializer=int, max_deliveries=2, durability="os")
    queue.put(b"x"), queue.put(b"7")
    seen = []
    with queue.work(lambda job: seen.append(job.value), backoff=0.001):
        queue.join(SOON_S)
    assert seen == [7]
    [letter] = queue.dead_letters.peek(None)
    assert letter.record.value == b"x" and letter.dead_letter is not None
    assert (letter.dead_letter.reason, letter.dead_letter.deliveries) == ("max.deliveries", 2)


# --------------------------------------------------------------------------------------------- a process that is killed


def test_a_process_killed_between_consume_and_commit_has_its_records_read_again(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("orders", partitions=2)
        fill(store, 5)
    consume = """
consumer = store.consumer("orders", group="billing", auto_offset_reset="earliest", enable_auto_commit=False)
assert [r.offset for r in consumer.poll(20, max_records=2)] == [0, 1]
consumer.commit()
assert [r.offset for r in consumer.poll(20, max_records=2)] == [2, 3]
"""
    die(tmp_path / "data", consume)
    with logstore.open(tmp_path / "data") as store, member(store) as consumer:
        assert [record.offset for record in consumer.poll(SOON_S)] == [2, 3, 4]


def test_a_process_killed_between_commit_and_handling_has_its_records_skipped(tmp_path: Path) -> None:
    """At most once is what a commit before the handling means. An automatic commit never is one: it covers what the
    polls before have returned."""
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("orders", partitions=2)
        fill(store, 5)
    consume = """
settings = {"auto_offset_reset": "earliest", "max_poll_records": 2}
by_hand = store.consumer("orders", group="billing", enable_auto_commit=False, **settings)
assert len(by_hand.poll(20)) == 2
by_hand.commit()  # and only now would they be handled
automatic = store.consumer("orders", group="automatic", auto_commit_interval_ms=0, **settings)
assert len(automatic.poll(20)) == 2
assert len(automatic.poll(20)) == 2
"""
    die(tmp_path / "data", consume)
    with logstore.open(tmp_path / "data") as store:
        with member(store) as consumer:
            assert [record.offset for record in consumer.poll(SOON_S)] == [2, 3, 4]
        with store.consumer("orders", group="automatic", auto_offset_reset="earliest") as consumer:
            assert [record.offset for record in consumer.poll(SOON_S)] == [2, 3, 4]


def test_a_process_killed_before_it_saw_the_receipt_does_not_know_and_doubles_what_it_sends_again(
    tmp_path: Path,
) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("orders", partitions=2)
    send = """
import time
producer = store.producer(linger_ms=0)
producer.send("orders", b"stored", partition=0)
while not store.log("orders").log_end_offset:
    time.sleep(0.001)
store.producer(linger_ms=60_000).send("orders", b"lingers", partition=0)
"""
    die(tmp_path / "data", send)
    with logstore.open(tmp_path / "data") as store, store.producer() as producer:
        assert values(list(store.log("orders").records(0))) == [b"stored"], "what had no receipt may be there or not"
        for value in (b"stored", b"lingers"):
            producer.send("orders", value, partition=0).result(SOON_S)
        assert values(list(store.log("orders").records(0))) == [b"stored", b"stored", b"lingers"]


def test_a_process_killed_between_handling_and_ack_has_its_message_handled_twice_and_after_the_ack_once(
    tmp_path: Path,
) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.queue("jobs").put_many([b"acked", b"handled", b"waiting"])
    work = """
queue = store.queue("jobs")
queue.get(timeout=0).ack()
job = queue.get(timeout=0)
open(sys.argv[1] + "/../done", "wb").write(job.value)
"""
    die(tmp_path / "data", work)
    assert (tmp_path / "done").read_bytes() == b"handled"
    with logstore.open(tmp_path / "data") as store:
        jobs = store.queue("jobs").get_many(9, timeout=0)
        assert [(job.value, job.deliveries) for job in jobs] == [(b"handled", 2), (b"waiting", 1)]


def test_a_process_killed_while_a_nack_waits_keeps_the_delay(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.queue("jobs").put(b"later")
    die(tmp_path / "data", 'store.queue("jobs").get(timeout=0).nack(delay=3600)')
    with logstore.open(tmp_path / "data") as store:
        stats = store.queue("jobs").stats()
        assert (stats.delayed, stats.ready) == (1, 0)


# ---------------------------------------------------------------------------------------------------------- a full disk


def test_a_commit_that_a_full_disk_refuses_changes_nothing_and_the_consumer_goes_on(store: Store) -> None:
    fill(store, 5)
    with member(store) as consumer:
        consumer.poll(SOON_S, max_records=2)
        consumer.commit()
        consumer.poll(SOON_S, max_records=2)
        with FailingCalls(FULL_DISK, at=0) as calls:
            with pytest.raises(DiskFull):
                consumer.commit()
            place = consumer.committed("orders", 0)
            assert place is not None and place.offset == 2
            assert [record.offset for record in consumer.poll(SOON_S)] == [4], "reading takes no space"
            calls.lift()
            consumer.commit()
        place = consumer.committed("orders", 0)
        assert place is not None and place.offset == 5


def fill_up(queue: Queue) -> int:
    """Until the disk is full: how many messages it took."""
    for count in range(100_000):
        try:
            queue.put(b"%d" % count + bytes(20_000))
        except DiskFull:
            return count
    raise AssertionError("the disk has not become full")


def test_a_queue_on_a_full_disk_refuses_puts_and_is_worked_off_all_the_same(mount: Mount) -> None:
    disk = mount("-t", "tmpfs", "-o", "size=12m", "tmpfs")
    with logstore.open(disk / "data") as store:
        queue = store.queue("jobs", durability="os")
        count = fill_up(queue)
        assert count > 50 and len(queue) == count
        for number in range(count):
            job = queue.get(timeout=0)
            assert job.value.rstrip(b"\0") == b"%d" % number
            job.ack()
        assert queue.empty() and queue.stats().in_flight == 0
        queue.purge()  # gives the space back at once
        queue.put(b"again")
        assert queue.get(timeout=0).value == b"again"


def test_records_that_a_full_disk_refuses_are_told_by_their_futures_not_by_flush_and_close(store: Store) -> None:
    with store.producer(linger_ms=60_000) as producer, FailingCalls(FULL_DISK, at=0) as calls:
        futures = [producer.send("orders", b"%d" % number, partition=0) for number in range(3)]
        producer.flush(SOON_S)
        assert all(isinstance(future.exception(0), DiskFull) for future in futures)
        calls.lift()
        again = [producer.send("orders", b"%d" % number, partition=0) for number in range(3)]
        producer.flush(SOON_S)
    assert [future.result(0).offset for future in again] == [0, 1, 2]


def test_a_record_that_failed_and_is_sent_again_stands_behind_those_that_were_sent_after_it(store: Store) -> None:
    """Who needs order across failures waits for each receipt before the next send."""
    with store.producer(linger_ms=60_000) as producer, FailingCalls(FULL_DISK, at=0) as calls:
        first = producer.send("orders", b"first", partition=0)
        producer.flush(SOON_S)
        assert isinstance(first.exception(0), DiskFull)
        calls.lift()
        producer.send("orders", b"second", partition=0)
        producer.send("orders", b"first", partition=0)
        producer.flush(SOON_S)
    assert values(list(store.log("orders").records(0))) == [b"second", b"first"]
