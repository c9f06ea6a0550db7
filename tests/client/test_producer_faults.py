"""The embedded producer when something goes wrong: each record is stored, or its future says why it is not."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import logstore
from children import environment, run_python
from failing_os import FAILED_SYNC, FULL_DISK, FailingCalls
from logstore import Durability, Store
from logstore.client.embedded.producer.producer import EmbeddedProducer
from logstore.config import ProducerConfig

NEVER_MS = 60_000
TIMEOUT_S = 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path / "data") as opened:
        opened.create_topic("t", partitions=2)
        yield opened


def values(store: Store, topic: str = "t", partition: int = 0) -> list[bytes | None]:
    return [record.value for record in store.log(topic, partition).records(0)]


def hold_up(log: Any) -> tuple[threading.Event, threading.Event]:
    """Appends to the log wait for the second event; the first tells that one does."""
    reached, is_open = threading.Event(), threading.Event()
    append = log.append

    def gated(*args: Any, **named: Any) -> Any:
        reached.set()
        assert is_open.wait(TIMEOUT_S)
        return append(*args, **named)

    log.append = gated
    return reached, is_open


# --------------------------------------------------------------------------------------------------------- the disk


@pytest.mark.parametrize("acks", ["all", "1"])
def test_a_full_disk_fails_the_records_and_later_ones_are_stored_when_there_is_space(store: Store, acks: str) -> None:
    with store.producer(acks=acks, linger_ms=0) as producer:
        before = producer.send("t", b"before", partition=0).result(TIMEOUT_S)
        told: list[Any] = []
        with FailingCalls(FULL_DISK, at=0) as calls:
            futures = [
                producer.send("t", b"%d" % n, partition=0, on_delivery=lambda *outcome: told.append(outcome))
                for n in range(5)
            ]
            for future in futures:
                with pytest.raises(logstore.DiskFull, match="No space left"):
                    future.result(TIMEOUT_S)
            calls.lift()
            after = producer.send("t", b"after", partition=0).result(TIMEOUT_S)
        assert (before.offset, after.offset) == (0, 1)
        assert len(told) == 5 and all(receipt is None for receipt, _ in told)
        assert [error for _, error in told] == [future.exception() for future in futures]
    assert values(store) == [b"before", b"after"]


def test_a_failed_sync_fails_the_records_that_waited_for_it_and_no_other_partitions(store: Store) -> None:
    with store.producer(linger_ms=NEVER_MS) as producer, FailingCalls(FAILED_SYNC, at=0):
        doubtful = [producer.send("t", b"%d" % n, partition=0) for n in range(3)]
        safe = producer.send("t", b"safe", partition=1)
        producer.flush(TIMEOUT_S)
        failures = [future.exception(TIMEOUT_S) for future in doubtful]
        assert all(isinstance(failure, logstore.StorageFailure) for failure in failures)
        assert safe.result(TIMEOUT_S).durability is Durability.FSYNC
        later = producer.send("t", b"later", partition=0)
        producer.flush(TIMEOUT_S)
        with pytest.raises(logstore.PartitionOffline):
            later.result(TIMEOUT_S)


def test_a_failure_with_acks_0_is_logged_and_told_to_who_asks(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    with store.producer(acks=0, linger_ms=0) as producer:
        future = producer.send("t", b"v", timestamp_ms=2**60, on_delivery=lambda *outcome: told.append(outcome))
        producer.flush(TIMEOUT_S)
        assert future.result().offset == -1 and told[0][0] is None
    assert isinstance(told[0][1], logstore.InvalidTimestamp)
    assert "are lost, with acks=0: timestamp" in caplog.text


# -------------------------------------------------------------------------------------------- records that are refused


@pytest.mark.parametrize("bad", [{0}, {99}, {50}, {3, 4, 80}, set(range(100))])
def test_a_record_that_the_log_refuses_fails_alone_and_order_holds_around_it(store: Store, bad: set[int]) -> None:
    with store.producer(linger_ms=NEVER_MS) as producer:
        futures = [
            producer.send("t", b"%d" % n, partition=0, timestamp_ms=2**60 if n in bad else 1_000 + n)
            for n in range(100)
        ]
        producer.flush(TIMEOUT_S)
        good = [future.result() for n, future in enumerate(futures) if n not in bad]
        assert [receipt.offset for receipt in good] == list(range(len(good)))
        assert [receipt.timestamp_ms for receipt in good] == [1_000 + n for n in range(100) if n not in bad]
        for n in bad:
            with pytest.raises(logstore.InvalidTimestamp, match="in the future"):
                futures[n].result()
    assert values(store) == [b"%d" % n for n in range(100) if n not in bad]


def test_a_record_without_a_key_fails_alone_in_a_compacted_topic(store: Store) -> None:
    store.create_topic("compacted", cleanup_policy="compact")
    with store.producer(linger_ms=NEVER_MS) as producer:
        futures = [producer.send("compacted", b"%d" % n, key=b"k" if n != 2 else None) for n in range(5)]
        producer.flush(TIMEOUT_S)
        with pytest.raises(logstore.InvalidRecord, match="without a key"):
            futures[2].result()
        assert [futures[n].result().offset for n in (0, 1, 3, 4)] == [0, 1, 2, 3]


def test_a_record_over_max_request_size_is_refused_at_send(store: Store) -> None:
    with store.producer(max_request_size=1_000, compression="gzip") as producer:
        with pytest.raises(logstore.RecordTooLarge, match=r"over the limit of 1000 \(setting max\.request\.size\)"):
            producer.send("t", bytes(1_000))
        producer.send("t", bytes(900)).result(TIMEOUT_S)


def test_a_record_over_the_topics_limit_is_refused_at_send_and_one_that_just_fits_is_not(store: Store) -> None:
    store.create_topic("narrow", max_message_bytes=300)
    with store.producer() as producer:
        size = next(size for size in range(300, 0, -1) if _fits(producer, bytes(size)))
        assert next(iter(store.log("narrow").batches(0))).header.size == 300 and size > 200
        with pytest.raises(logstore.RecordTooLarge, match=r"setting max\.message\.bytes"):
            producer.send("narrow", bytes(size + 1))
        with pytest.raises(logstore.RecordTooLarge):
            producer.send("narrow", b"", headers={"h": bytes(300)})


def _fits(producer: EmbeddedProducer, value: bytes) -> bool:
    try:
        return producer.send("narrow", value).result(TIMEOUT_S).offset == 0
    except logstore.RecordTooLarge:
        return False


def test_a_compressed_record_over_the_topics_limit_fails_by_its_future_and_its_mates_are_stored(store: Store) -> None:
    store.create_topic("narrow", max_message_bytes=300)
    noise = b"".join(bytes([n * n * 7919 % 251]) + bytes([n * 104_729 % 241]) for n in range(300))
    with store.producer(compression="zstd", linger_ms=NEVER_MS, batch_size=100_000) as producer:
        futures = [producer.send("narrow", value) for value in (b"a", bytes(5_000), noise, b"b")]
        producer.flush(TIMEOUT_S)
        assert [futures[n].result().offset for n in (0, 1, 3)] == [0, 1, 2]
        with pytest.raises(logstore.RecordTooLarge, match=r"max\.message\.bytes"):
            futures[2].result()


# ------------------------------------------------------------------------------------------- what goes away meanwhile


def test_records_of_a_topic_that_is_deleted_meanwhile_say_so_and_others_go_on(store: Store) -> None:
    store.create_topic("gone")
    with store.producer(linger_ms=NEVER_MS) as producer:
        futures = [producer.send("gone", b"v") for _ in range(3)]
        other = producer.send("t", b"v")
        store.delete_topic("gone")
        producer.flush(TIMEOUT_S)
        for future in futures:
            with pytest.raises(logstore.UnknownTopic, match="gone"):
                future.result()
        assert other.result().offset == 0
        with pytest.raises(logstore.UnknownTopic):
            producer.send("gone", b"v")


def test_records_of_a_topic_that_was_deleted_do_not_land_in_a_new_one_of_its_name(store: Store) -> None:
    store.create_topic("again", partitions=3)
    with store.producer(linger_ms=NEVER_MS) as producer:
        old = producer.send("again", b"old", partition=0)
        store.delete_topic("again")
        store.create_topic("again")
        new = producer.send("again", b"new")
        with pytest.raises(logstore.UnknownPartition):
            producer.send("again", b"new", partition=2)
        producer.flush(TIMEOUT_S)
        with pytest.raises(logstore.UnknownTopic):
            old.result()
        assert new.result().offset == 0
    assert values(store, "again") == [b"new"]


def test_records_that_are_not_begun_in_time_fail_and_are_not_in_the_log(store: Store) -> None:
    now_ms = [0]
    config = ProducerConfig(linger_ms=0, delivery_timeout_ms=100)
    producer = EmbeddedProducer(store._data_dir, config, clock_ms=lambda: now_ms[0])
    reached, is_open = hold_up(store.log("t", 0))
    begun = producer.send("t", b"begun", partition=0)
    assert reached.wait(TIMEOUT_S)
    late = [producer.send("t", b"late", partition=partition) for partition in (0, 1)]
    now_ms[0] = 60
    in_time = producer.send("t", b"in time", partition=1)
    now_ms[0] = 120
    is_open.set()
    assert begun.result(TIMEOUT_S).offset == 0, "its outcome is waited for"
    for future in late[:1]:
        with pytest.raises(logstore.TimedOut, match=r"t-0: not within 0\.1 s; it is not in the log"):
            future.result(TIMEOUT_S)
    producer.close()
    # A batch is as old as its first record.
    assert isinstance(late[1].exception(0), logstore.TimedOut) and isinstance(in_time.exception(0), logstore.TimedOut)
    assert values(store) == [b"begun"] and not values(store, partition=1)


def test_a_log_that_raises_what_it_should_not_fails_the_batch_and_the_producer_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with store.producer(linger_ms=0) as producer:
        with monkeypatch.context() as patch:
            patch.setattr(store.log("t", 0), "append", lambda *args, **named: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                producer.send("t", b"v", partition=0).result(TIMEOUT_S)
        assert producer.send("t", b"v", partition=0).result(TIMEOUT_S).offset == 0
    assert "t-0: sending failed" in caplog.text


def test_a_sending_thread_that_fails_leaves_nobody_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    producer = store.producer(linger_ms=0)
    monkeypatch.setattr(producer._storing, "store", lambda batches, now_ms: 1 // 0)
    future = producer.send("t", b"v")
    with pytest.raises(ZeroDivisionError):
        future.result(TIMEOUT_S)
    producer.close()
    for call in (lambda: producer.send("t", b"v"), producer.flush):
        with pytest.raises(logstore.Closed):
            call()
    assert "has failed" in caplog.text


# --------------------------------------------------------------------------------------------------- the process


CHILD = """
import json, sys
import logstore

store = logstore.open(sys.argv[1])
store.create_topic("t", partitions=3)
producer = store.producer(acks=sys.argv[2], linger_ms=1, batch_size=2_000)

def acknowledge(number, future):
    receipt = future.result()
    print(json.dumps([number, receipt.partition, receipt.offset, receipt.durability]), flush=True)

number = 0
while True:
    producer.send("t", b"%d" % number, key=b"%d" % (number % 10)).add_done_callback(
        lambda future, number=number: acknowledge(number, future)
    )
    number += 1
"""


@pytest.mark.parametrize(("acks", "durability"), [("all", "fsync"), ("1", "os")])
def test_what_was_acknowledged_is_there_after_a_sigkill_in_order(tmp_path: Path, acks: str, durability: str) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "data"), acks]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(3_000)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    acknowledged = [json.loads(line) for line in lines if line.endswith("\n")]
    assert {entry[3] for entry in acknowledged} == {durability}
    with logstore.open(tmp_path / "data") as store:
        stored = [values(store, "t", partition) for partition in range(3)]
        for number, partition, offset, _ in acknowledged:
            assert stored[partition][offset] == b"%d" % number
        for found in stored:
            assert (numbers := [int(value or b"") for value in found]) == sorted(set(numbers))


def test_a_program_that_ends_without_closing_anything_loses_nothing_that_was_taken_in(tmp_path: Path) -> None:
    program = """
import sys, logstore
store = logstore.open(sys.argv[1])
store.create_topic("t")
producers = [store.producer(acks=acks, linger_ms=60_000, batch_size=1_000) for acks in ("all", "1", "0")]
for producer in producers:
    for number in range(100):
        producer.send("t", b"%d" % number)
producer.send("t", b"last", on_delivery=lambda receipt, error: print("delivered", error))
"""
    assert run_python(program, tmp_path / "data").stdout == "delivered None\n"
    with logstore.open(tmp_path / "data") as store:
        assert store._data_dir.was_clean and store.log("t").log_end_offset == 301


def test_a_forked_child_cannot_send_and_no_future_of_it_hangs(tmp_path: Path) -> None:
    program = """
import os, sys, threading, warnings
import logstore
warnings.simplefilter("ignore", DeprecationWarning)

store = logstore.open(sys.argv[1])
store.create_topic("t")
producer = store.producer(linger_ms=60_000)
done = producer.send("t", b"done")
producer.flush()
pending, watched = producer.send("t", b"pending"), producer.send("t", b"watched")
called = []
watched.add_done_callback(called.append)
waiter = threading.Thread(target=watched.result)
waiter.start()

def is_refused(call):
    try:
        call()
    except logstore.ForkedProcess as error:
        return "belongs to the parent" in str(error)
    return False

with producer._lock:  # as another thread may have it
    child = os.fork()
    if not child:
        assert done.result().offset == 0
        assert is_refused(pending.result) and is_refused(watched.result) and not called
        assert is_refused(lambda: producer.send("t", b"child")) and is_refused(producer.flush)
        producer.close()
        store.close()
        os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
producer.close()
waiter.join()
assert pending.result().offset == 1 and called == [watched] and watched.result().offset == 2
assert [record.value for record in store.log("t").records(0)] == [b"done", b"pending", b"watched"]
store.close()
"""
    assert run_python(program, tmp_path / "data", timeout_s=60).stderr == ""


def test_a_ctrl_c_anywhere_in_send_flush_and_close_tears_no_record_and_holds_no_lock(store: Store) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for turn in range(150):
            topic = f"turn{turn % 10}"
            if turn < 10:
                store.create_topic(topic)
            start = store.log(topic).log_end_offset
            producer = store.producer(acks=1, linger_ms=turn % 3, batch_size=300, buffer_memory=20_000)
            # Its thread is there by now: a Ctrl-C within Thread.start would leave a lock of Python's own taken.
            assert producer.send(topic, b"-1").result(TIMEOUT_S).offset == start
            start += 1
            sent = 0
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.000_1 + turn * 0.000_05)
                for number in range(200):
                    sent = number + 1
                    producer.send(topic, b"%d" % number, key=b"k" if number % 2 else None)
                    if number % 50 == 49:
                        producer.flush(TIMEOUT_S)
                producer.close(TIMEOUT_S)
                while True:
                    time.sleep(0.001)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            with contextlib.suppress(logstore.Closed):  # where the Ctrl-C came in the middle of close
                producer.flush(TIMEOUT_S)
            producer.close(TIMEOUT_S)
            numbers = [int(record.value or b"") for record in store.log(topic).records(start)]
            assert numbers in (list(range(sent)), list(range(sent - 1))), "the last send is done, or not at all"
            assert producer._thread is None or producer._has_ended
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 150
