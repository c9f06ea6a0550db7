"""The queue as its users see it: put, get, settle, wait, close; what is refused, and how."""

import json
import queue as stdlib_queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kafka.record import MemoryRecords

import logstore
from kafka_oracle import KafkaOracle
from logstore import Closed, Empty, Full, InvalidArgument, InvalidRecord, InvalidSetting, NotInFlight, Store
from logstore.client.queue.queue import Queue
from logstore.errors import RecordTooLarge, SerializationFailed, TimedOut, Unsupported
from waits import SOON_S, wait_until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def jobs(store: Store) -> Queue:
    return store.queue("jobs", durability="os")


def values(queue: Queue) -> list[bytes]:
    return [message.value for message in queue.peek(None)]


# --------------------------------------------------------------------------------------------------------- put and get


def test_a_message_is_got_as_it_was_put(jobs: Queue) -> None:
    receipt = jobs.put(b"value", key=b"key", headers={"a": b"b", "c": None})
    assert (receipt.topic, receipt.partition, receipt.offset, receipt.durability) == ("jobs", 0, 0, "os")
    job = jobs.get()
    assert (job.value, job.key, job.headers, job.deliveries) == (b"value", b"key", (("a", b"b"), ("c", None)), 1)
    assert (job.offset, job.timestamp_ms) == (receipt.offset, receipt.timestamp_ms)
    job.ack()
    with pytest.raises(Empty):
        jobs.get(block=False)


def test_a_put_is_on_the_disk_when_it_returns_by_default(store: Store) -> None:
    queue = store.queue("durable")
    assert queue.put(b"a").durability is logstore.Durability.FSYNC
    assert [receipt.durability for receipt in queue.put_many([b"b", b"c"], keys=[b"k", None])] == ["fsync", "fsync"]
    assert store.log("durable").synced_offset == 3
    queue.get().ack()
    notes = store.log("__queue.durable")
    assert notes.synced_offset == notes.log_end_offset


def test_messages_are_records_that_any_consumer_reads_and_any_producer_writes(store: Store, jobs: Queue) -> None:
    jobs.put(b"a", key=b"k")
    assert [(record.key, record.value) for record in store.log("jobs").records(0)] == [(b"k", b"a")]
    store.log("jobs").append([b"b"], keys=[b"l"])
    assert [job.value for job in jobs.get_many(10)] == [b"a", b"b"]


def test_serializers_belong_to_the_queue_and_not_to_who_asked_for_it_with_them(store: Store) -> None:
    first = store.queue("json", serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads)
    assert store.queue("json") is first
    store.queue("json").put([1])
    with first.get() as message:
        assert message.value == [1]
    store.queue("json", deserializer=lambda stored: stored.decode())
    first.put([2])
    with first.get() as message:
        assert message.value == "[2]"


def test_serializers_make_bytes_of_values_and_values_of_bytes(store: Store) -> None:
    queue = store.queue("json", serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads)
    queue.put({"a": 1})
    assert queue.get().value == {"a": 1}
    with pytest.raises(SerializationFailed, match="TypeError"):
        queue.put(object())
    store.log("json").append([b"{"])
    job = queue.get()
    with pytest.raises(SerializationFailed, match="json-0 at offset 1"):
        _ = job.value
    assert job.record.value == b"{"
    job.ack()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda q: q.put("text"), InvalidRecord),
        (lambda q: q.put(None), InvalidRecord),
        (lambda q: q.put(b"", key="k"), InvalidRecord),
        (lambda q: q.put(b"", headers={"logstore.visible-at": b"1"}), InvalidRecord),
        (lambda q: q.put(b"", headers=[1]), InvalidRecord),
        (lambda q: q.put(b"", delay=-1), InvalidArgument),
        (lambda q: q.put(b"", ttl=float("nan")), InvalidArgument),
        (lambda q: q.put(bytes(17 << 20)), RecordTooLarge),
        (lambda q: q.put_many(b"abc"), InvalidRecord),
        (lambda q: q.put_many([b"a"], keys=[b"a", b"b"]), InvalidRecord),
        (lambda q: q.put_many([b"a"], headers=[]), InvalidRecord),
        (lambda q: q.put(b"", delay=""), InvalidArgument),
        (lambda q: q.get(timeout=-1), InvalidArgument),
        (lambda q: q.get(timeout=10**400), InvalidArgument),
        (lambda q: q.get_many(0), InvalidArgument),
        (lambda q: q.peek(0), InvalidArgument),
        (lambda q: q.peek(2**63), InvalidArgument),
        (lambda q: q.ack(b"job"), InvalidArgument),
        (lambda q: q.ack_many(None), InvalidRecord),
        (lambda q: q.dead_letters.replay(0), InvalidRecord),
        (lambda q: q.dead_letters.replay(["0"]), InvalidArgument),
        (lambda q: q.work(print, workers=0), InvalidArgument),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(jobs: Queue, call, error: type[Exception]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error):
        call(jobs)
    assert len(jobs) == 0
    jobs.put(b"goes on")
    assert jobs.get(block=False).value == b"goes on"


def test_putting_nothing_puts_nothing(jobs: Queue) -> None:
    assert jobs.put_many([]) == []
    assert jobs.empty()


# -------------------------------------------------------------------------------------------------------------- settle


def test_only_who_has_a_message_can_settle_it(store: Store, jobs: Queue) -> None:
    jobs.put_many([b"a", b"b", b"c"])
    acked, nacked, purged = jobs.get_many(3)
    acked.ack()
    for call in (acked.ack, acked.nack, lambda: acked.extend(1)):
        with pytest.raises(NotInFlight, match="acked or nacked"):
            call()
    nacked.nack()
    with pytest.raises(NotInFlight):
        nacked.ack()
    with pytest.raises(InvalidArgument):
        store.queue("other").ack(purged)
    assert jobs.purge() == 2
    with pytest.raises(NotInFlight, match="purged"):
        purged.ack()


def test_a_message_comes_back_when_its_worker_says_nothing(store: Store) -> None:
    queue = store.queue("short", visibility_timeout_ms=30, durability="os")
    queue.put(b"a")
    first = queue.get()
    second = queue.get(timeout=SOON_S)  # woken by the timeout's end
    assert (second.value, second.deliveries) == (b"a", 2)
    with pytest.raises(NotInFlight, match="visibility timeout"):
        first.ack()
    second.extend(1000)
    with pytest.raises(Empty):
        queue.get(timeout=0.1)
    second.ack()


def test_a_late_ack_counts_while_nobody_else_has_the_message(store: Store) -> None:
    queue = store.queue("short", visibility_timeout_ms=1, durability="os")
    queue.put(b"a")
    job = queue.get()
    time.sleep(0.01)
    assert len(queue) == 1
    job.ack()
    queue.join(timeout=1)


def test_a_job_as_a_context_is_acked_at_its_end_and_nacked_where_that_raises(jobs: Queue) -> None:
    jobs.put(b"a")
    with pytest.raises(ZeroDivisionError), jobs.get():
        _ = 1 / 0
    with jobs.get() as job:
        assert job.deliveries == 2
    with pytest.raises(Empty):
        jobs.get(block=False)
    jobs.put(b"b")
    with jobs.get() as job:
        job.nack()
    assert jobs.get().deliveries == 2


def test_several_are_acked_at_once_or_none(jobs: Queue) -> None:
    jobs.put_many([b"a", b"b", b"c"])
    taken = jobs.get_many(3)
    taken[2].ack()
    with pytest.raises(NotInFlight):
        jobs.ack_many(taken)
    jobs.ack_many(taken[:2])
    jobs.join(timeout=1)


def test_acked_messages_give_their_disk_space_back(store: Store, jobs: Queue) -> None:
    store.alter_topic("jobs", {"segment.bytes": 100_000})
    for _ in range(30):
        jobs.put_many([bytes(1000)] * 50)
        jobs.ack_many(jobs.get_many(50))
    assert len(store.log("jobs").view.segments) <= 3
    assert jobs.stats().log_start_offset >= 1300
    jobs.put(b"last")
    jobs.get().ack()
    jobs.purge()
    assert store.log("jobs").view.size == 0


def test_notes_do_not_grow_for_ever(store: Store, jobs: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logstore.client.queue.journal._NOTES_MAX", 100)
    jobs.engine.journal._limit = 100
    kept = jobs.put(b"kept").offset
    held = jobs.get()
    for _ in range(500):
        jobs.put(b"a")
        jobs.get().ack()
    notes = store.log("__queue.jobs")
    assert notes.log_end_offset - notes.log_start_offset <= 110
    assert len(notes.view.segments) <= 2
    held.nack()
    assert jobs.get().offset == kept


# --------------------------------------------------------------------------------------------------- delay, ttl, dead


def test_a_delayed_message_wakes_its_getter_when_it_is_due(jobs: Queue) -> None:
    jobs.put(b"later", delay=0.1)
    jobs.put(b"now")
    assert jobs.get().value == b"now"
    before = time.monotonic()
    with pytest.raises(Empty):
        jobs.get(block=False)
    assert jobs.stats().delayed == 1
    assert jobs.get(timeout=SOON_S).value == b"later"
    assert time.monotonic() - before < SOON_S / 2


def test_an_expired_message_is_a_dead_letter_and_says_why(jobs: Queue) -> None:
    jobs.put(b"late", ttl=0, key=b"k", headers={"h": b"v"})
    jobs.put(b"good", ttl=1000)
    assert jobs.get().value == b"good"
    [message] = jobs.dead_letters.peek(None)
    letter = message.dead_letter
    assert letter is not None
    assert (letter.reason, letter.queue, letter.offset, letter.deliveries) == ("expired", "jobs", 0, 0)
    assert (message.value, message.key, message.headers) == (b"late", b"k", (("h", b"v"),))


def test_a_message_that_fails_too_often_is_a_dead_letter_and_can_be_put_back(store: Store) -> None:
    queue = store.queue("jobs", max_deliveries=2)
    queue.put_many([b"a", b"b"])
    for _ in range(2):
        for job in queue.get_many(2):
            job.nack()
    assert queue.empty()
    dead = queue.dead_letters
    assert dead is store.queue("jobs.dead") is queue.dead_letters
    assert values(dead) == [b"a", b"b"]
    assert dead.replay([1]) == 1
    job = queue.get(block=False)
    assert (job.value, job.deliveries, job.headers) == (b"b", 1, ())
    assert values(dead) == [b"a"]
    with pytest.raises(InvalidArgument, match="no dead letter"):
        dead.replay([1])
    assert dead.replay() == 1
    assert queue.get(block=False).value == b"a"
    assert queue.stats().dead == 0
    with pytest.raises(Unsupported):
        _ = dead.dead_letters
    with pytest.raises(InvalidSetting):
        store.queue("jobs.dead", max_deliveries=3)


def test_messages_of_a_key_follow_each_other(store: Store) -> None:
    queue = store.queue("ordered", ordered=True, durability="os")
    for value, key in ((b"a1", b"a"), (b"a2", b"a"), (b"-", None), (b"b1", b"b"), (b"a3", b"a")):
        queue.put(value, key=key)
    first, free, other = queue.get_many(10)
    assert [job.value for job in (first, free, other)] == [b"a1", b"-", b"b1"]
    assert queue.stats().blocked == 2
    first.nack(delay=1000)
    with pytest.raises(Empty):
        queue.get(block=False)
    with pytest.raises(InvalidSetting):
        store.queue("ordered", ordered=False)
    queue.close()
    assert store.queue("ordered", ordered=False).get_many(10)[0].value == b"a2"
    assert store.queue("ordered").stats().blocked == 0


def test_an_ack_wakes_who_waits_for_the_next_of_its_key(store: Store) -> None:
    queue = store.queue("ordered", ordered=True, durability="os")
    queue.put_many([b"1", b"2"], keys=[b"k", b"k"])
    job = queue.get()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.get, timeout=SOON_S)
        wait_until(lambda: queue.engine.getters.waiting)
        job.ack()
        assert waiting.result().value == b"2"


# ------------------------------------------------------------------------------------------------------- waiting


def test_a_put_wakes_a_waiting_getter(jobs: Queue) -> None:
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(jobs.get, timeout=SOON_S) for _ in range(4)]
        wait_until(lambda: len(jobs.engine.getters.waiting) == 4)
        jobs.put(b"0")
        jobs.put_many([b"1", b"2", b"3"])
        assert sorted(future.result().value for future in waiting) == [b"0", b"1", b"2", b"3"]


def test_a_nack_wakes_a_waiting_getter(jobs: Queue) -> None:
    jobs.put(b"a")
    job = jobs.get()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(jobs.get, timeout=SOON_S)
        wait_until(lambda: jobs.engine.getters.waiting)
        job.nack(delay=0.05)
        assert waiting.result().deliveries == 2


def test_every_message_goes_to_one_of_many_workers(store: Store) -> None:
    queue = store.queue("many", durability="os")
    count, found, lock = 2_000, [], threading.Lock()

    def work() -> None:
        while True:
            try:
                job = queue.get(timeout=0.5)
            except Empty:
                return
            job.ack()
            with lock:
                found.append(job.value)

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work) for _ in range(6)]
        for half in range(2):
            pool.submit(lambda half=half: [queue.put(b"%d" % n) for n in range(half, count, 2)])
        for worker in workers:
            worker.result()
    assert sorted(found, key=int) == [b"%d" % number for number in range(count)]
    assert queue.stats().low_water_offset == count


def test_closing_ends_all_waits(jobs: Queue) -> None:
    with ThreadPoolExecutor(3) as pool:
        getting = pool.submit(jobs.get)
        iterating = pool.submit(list, jobs)
        wait_until(lambda: len(jobs.engine.getters.waiting) == 2)
        jobs.close()
        with pytest.raises(Closed):
            getting.result()
        assert iterating.result() == []
    for call in (lambda: jobs.put(b"a"), jobs.get, jobs.purge, jobs.stats, lambda: len(jobs), jobs.peek):
        with pytest.raises(Closed):
            call()
    jobs.close()


# ----------------------------------------------------------------------------------------------- as in queue.Queue


def test_the_errors_are_those_of_queue_too(store: Store) -> None:
    queue = store.queue("small", max_size=2, durability="os")
    with pytest.raises(stdlib_queue.Empty):
        queue.get_nowait()
    queue.put_nowait(b"a")
    queue.put(b"b")
    assert queue.full()
    with pytest.raises(stdlib_queue.Full):
        queue.put_nowait(b"c")
    with pytest.raises(Full):
        queue.put(b"c", timeout=0.01)
    with pytest.raises(Full):
        queue.put_many([b"c"] * 3)
    assert queue.qsize() == 2


def test_a_put_waits_for_room(store: Store) -> None:
    queue = store.queue("small", max_size=1)
    queue.put(b"a")
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(queue.put, value, timeout=SOON_S) for value in (b"b", b"c")]
        wait_until(lambda: len(queue.engine.putters.waiting) == 2)
        for _ in range(3):
            queue.get(timeout=SOON_S).ack()
        assert sorted(future.result().offset for future in waiting) == [1, 2]


def test_join_waits_until_all_is_settled_and_task_done_settles_what_this_thread_got(jobs: Queue) -> None:
    jobs.put_many([b"a", b"b"])
    with pytest.raises(TimedOut):
        jobs.join(timeout=0.01)
    with pytest.raises(ValueError):
        jobs.task_done()
    with ThreadPoolExecutor(1) as pool:
        joining = pool.submit(jobs.join, timeout=SOON_S)
        for _ in range(2):
            jobs.get()
            jobs.task_done()
        joining.result()
    with pytest.raises(ValueError):
        jobs.task_done()


def test_peeking_takes_nothing(jobs: Queue) -> None:
    jobs.put_many([b"a", b"b"])
    jobs.put(b"c", delay=1000)
    jobs.get().nack()
    assert [(message.value, message.deliveries) for message in jobs.peek(None)] == [(b"a", 1), (b"b", 0)]
    assert [message.value for message in jobs.peek()] == [b"a"]
    assert len(jobs) == 3


def test_workers_ack_what_returns_and_retry_what_raises(store: Store) -> None:
    queue = store.queue("work", max_deliveries=3, durability="os")
    seen: list[tuple[bytes, int]] = []

    def handle(job: logstore.client.queue.messages.Job) -> None:
        seen.append((job.value, job.deliveries))
        if job.value == b"bad" or (job.value == b"shaky" and job.deliveries == 1):
            raise ValueError("no")

    queue.put_many([b"good", b"bad", b"shaky"])
    with queue.work(handle, workers=3, backoff=0.001):
        queue.join(timeout=SOON_S)
    assert sorted(seen) == [(b"bad", 1), (b"bad", 2), (b"bad", 3), (b"good", 1), (b"shaky", 1), (b"shaky", 2)]
    assert values(queue.dead_letters) == [b"bad"]


# -------------------------------------------------------------------------------------------- settings and names


def test_settings_are_kept_with_the_queue(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.queue("jobs", max_deliveries=7, ttl_ms=5)
        assert store.queue("jobs") is store.queue("jobs", **{"ttl.ms": 6})
    with logstore.open(tmp_path) as store:
        config = store.queue("jobs").config
        assert (config.max_deliveries, config.ttl_ms) == (7, 6)
        assert store.queue("jobs", ttl_ms=None).config.ttl_ms == -1
        with pytest.raises(InvalidSetting, match="did you mean"):
            store.queue("new", max_delivery=1)
        assert store.queues() == ["jobs"]


def test_a_topic_that_is_no_queue_is_not_made_one(store: Store) -> None:
    store.create_topic("many", partitions=2)
    store.create_topic("full")
    store.log("full").append([b"a"])
    store.create_topic("compact", cleanup_policy="compact")
    store.create_topic("empty")
    for name in ("many", "full", "compact"):
        with pytest.raises(InvalidArgument, match=name):
            store.queue(name)
    store.queue("empty").put(b"a")
    assert store.queues() == ["empty"]
    assert store.topic("empty").config.retention_ms == -1


@pytest.mark.parametrize("name", ["", "a/b", "__queue.x", "x" * 240, 5, None, b"jobs"])
def test_a_name_that_cannot_be_is_refused(store: Store, name: object) -> None:
    with pytest.raises(ValueError):
        store.queue(name)  # type: ignore[arg-type]
    assert store.topics() == []


def test_a_queue_whose_topic_was_deleted_begins_anew(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        queue = store.queue("jobs", max_deliveries=1)
        queue.put_many([b"a", b"b", b"c"])
        queue.get().ack()
        queue.get().nack()
        store.delete_topic("jobs")
        with pytest.raises(logstore.UnknownTopic):
            queue.get(block=False)
        queue.close()
        queue = store.queue("jobs")
        queue.put_many([b"d", b"e"])
        assert values(queue) == [b"d", b"e"]
        assert queue.stats().dead == 1
    with logstore.open(tmp_path) as store:
        assert values(store.queue("jobs")) == [b"d", b"e"]


# ------------------------------------------------------------------------------------------------- other clients


def test_other_clients_read_the_messages_and_may_delay_theirs(store: Store, jobs: Queue) -> None:
    jobs.put(b"a", key=b"k", headers={"h": b"v"}, delay=1000)
    jobs.put(b"b")
    data = store.log("jobs").read(0).read()
    records = MemoryRecords(data)
    found = []
    while records.has_next():
        found += [(record.key, record.value, dict(record.headers)) for record in records.next_batch()]
    (key, value, headers), plain = found
    assert (key, value, headers.pop("h")) == (b"k", b"a", b"v")
    assert set(headers) == {"logstore.visible-at"}
    assert plain == (None, b"b", {})

    soon_ms = time.time_ns() // 1_000_000 + 100
    for header in (b"%d" % soon_ms, b"soon", None):
        store.log("jobs").append([header], headers=[(("logstore.visible-at", header),)])
    assert [job.value for job in jobs.get_many(10)] == [b"b", b"soon", None]  # what is no time is not believed
    assert jobs.get(timeout=SOON_S).value == b"%d" % soon_ms


@pytest.mark.kafka
def test_kafka_reads_messages_and_notes(store: Store, jobs: Queue, kafka: KafkaOracle) -> None:
    jobs.put_many([b"a", b"b"], keys=[b"k", None])
    for job in jobs.get_many(2):
        job.ack()
    jobs.close()
    store.close()
    logs = [*store.path.glob("jobs_0/*.log"), *store.path.glob("__queue.jobs_0/*.log")]
    dumped = kafka.dump_log_segments(*logs)
    assert not dumped.problems
    assert len(dumped.records()) == 1  # all is acked, and a snapshot says so
