"""The embedded producer: where records go, in which batches, in which order, and what their futures tell."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from pathlib import Path
from typing import Any

import pytest
from kafka.partitioner.default import murmur2 as kafka_murmur2

import logstore
from logstore import Durability, Record, Store
from logstore.client.embedded.producer.producer import AWAKE, RECORD_MEMORY, EmbeddedProducer
from logstore.client.producer import Receipt
from logstore.config import ProducerConfig
from waits import wait_until

NEVER_MS = 60_000  # a linger that no test waits for
TIMEOUT_S = 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path / "data") as opened:
        opened.create_topic("t")
        opened.create_topic("three", partitions=3)
        yield opened


def records(store: Store, topic: str = "t", partition: int = 0) -> list[Record]:
    return list(store.log(topic, partition).records(0))


def values(store: Store, topic: str = "t", partition: int = 0) -> list[bytes | None]:
    return [record.value for record in records(store, topic, partition)]


def batch_sizes(store: Store, topic: str = "t", partition: int = 0) -> list[int]:
    return [batch.header.record_count for batch in store.log(topic, partition).batches(0)]


class Gate:
    """Holds up the appends to a log until it is opened. ``reached``: somebody stands before it."""

    def __init__(self, log: Any, patch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self._is_open = threading.Event()
        append = log.append

        def gated(*args: Any, **named: Any) -> Any:
            self.reached.set()
            assert self._is_open.wait(TIMEOUT_S)
            return append(*args, **named)

        patch.setattr(log, "append", gated)

    def open(self) -> None:
        self._is_open.set()


@pytest.fixture
def gate(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Before the log of ``t``."""
    made = Gate(store.log("t"), monkeypatch)
    yield made
    made.open()


# ------------------------------------------------------------------------------------------------- receipts and futures


@pytest.mark.parametrize("acks", ["all", "-1", -1])
def test_a_receipt_of_acks_all_says_where_the_record_is_on_the_disk(store: Store, acks: str | int) -> None:
    with store.producer(acks=acks) as producer:
        before_ms = time.time_ns() // 1_000_000
        receipt = producer.send("t", b"value").result(TIMEOUT_S)
        assert receipt[:3] == ("t", 0, 0) and receipt.durability is Durability.FSYNC
        assert before_ms <= receipt.timestamp_ms <= time.time_ns() // 1_000_000
        assert store.log("t").synced_offset == 1
    assert records(store) == [Record(0, receipt.timestamp_ms, None, b"value")]


@pytest.mark.parametrize("acks", ["1", 1])
def test_a_receipt_of_acks_1_is_given_when_the_record_is_in_the_page_cache(store: Store, acks: str | int) -> None:
    with store.producer(acks=acks) as producer:
        assert producer.send("t", b"value").result(TIMEOUT_S).durability is Durability.OS
        assert store.log("t").synced_offset == 0


@pytest.mark.parametrize("acks", ["0", 0])
def test_a_future_of_acks_0_is_done_at_once_and_promises_nothing(store: Store, acks: str | int, gate: Gate) -> None:
    told: list[Any] = []
    with store.producer(acks=acks, linger_ms=0) as producer:
        future = producer.send("t", b"value", timestamp_ms=5, on_delivery=lambda *outcome: told.append(outcome))
        assert future.done() and future.result() == Receipt("t", 0, -1, 5, None)
        gate.open()
        producer.flush(TIMEOUT_S)
        assert future.result() == Receipt("t", 0, -1, 5, None) and future.exception() is None
    assert values(store) == [b"value"] and told == [(Receipt("t", 0, -1, 5, None), None)]


def test_a_future_works_with_wait_and_as_completed_before_and_after_it_is_done(store: Store, gate: Gate) -> None:
    with store.producer(acks=1, linger_ms=0) as producer:
        first = producer.send("t", b"0")
        assert gate.reached.wait(TIMEOUT_S)
        futures = [first, *(producer.send("t", b"%d" % number) for number in range(1, 9))]
        assert not wait(futures, timeout=0).done and not first.done() and first.running()
        assert not first.cancel() and not first.cancelled()
        waiting = threading.Thread(target=gate.open)
        waiting.start()
        assert wait(futures, TIMEOUT_S, FIRST_COMPLETED).done
        assert wait(futures[2:5], TIMEOUT_S) == (set(futures[2:5]), set())
        assert {future.result().offset for future in as_completed(futures, TIMEOUT_S)} == set(range(9))
        waiting.join()
        assert wait(futures, timeout=0) == (set(futures), set())
        assert [future.result(0).offset for future in as_completed(futures, 0)]
        assert "finished" in repr(first)


def test_a_future_that_is_waited_for_too_shortly_says_so_and_tells_later(store: Store, gate: Gate) -> None:
    with store.producer(linger_ms=0) as producer:
        future = producer.send("t", b"value")
        with pytest.raises(TimeoutError):
            future.result(0.001)
        with pytest.raises(TimeoutError):
            future.exception(0.001)
        gate.open()
        assert future.exception(TIMEOUT_S) is None and future.result().offset == 0


def test_a_future_can_be_awaited_in_asyncio(store: Store) -> None:
    async def send(producer: EmbeddedProducer) -> list[Receipt]:
        futures = [asyncio.wrap_future(producer.send("t", b"%d" % number)) for number in range(20)]
        dropped = asyncio.wrap_future(producer.send("t", b"dropped"))
        dropped.cancel()
        return await asyncio.gather(*futures)

    with store.producer() as producer:
        assert [receipt.offset for receipt in asyncio.run(send(producer))] == list(range(20))
    assert values(store)[-1] == b"dropped", "a record that was taken in cannot be taken back"


def test_callbacks_of_a_future_are_called_once_whenever_they_are_added(store: Store, gate: Gate) -> None:
    called: list[Future[Receipt]] = []
    with store.producer(linger_ms=0) as producer:
        future = producer.send("t", b"value")
        future.add_done_callback(called.append)
        gate.open()
        future.result(TIMEOUT_S)
        producer.flush(TIMEOUT_S)
        assert called == [future]
        future.add_done_callback(called.append)
        assert called == [future, future]


def test_many_threads_look_at_the_same_futures_while_they_become_done(store: Store) -> None:
    offsets: list[list[int]] = []
    with store.producer(acks=1, linger_ms=1) as producer:
        for _ in range(20):
            futures = [producer.send("t", b"value") for _ in range(50)]
            start = threading.Barrier(3)

            def look(start: threading.Barrier = start, futures: list[Future[Receipt]] = futures) -> None:
                start.wait(TIMEOUT_S)
                assert not wait(futures[::-1], TIMEOUT_S).not_done
                offsets.append([future.result(TIMEOUT_S).offset for future in futures])

            threads = [threading.Thread(target=look) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT_S)
    assert len(offsets) == 60 and all(found == list(range(found[0], found[0] + 50)) for found in offsets)


# ----------------------------------------------------------------------------------------- what a record is made of


def test_keys_headers_and_timestamps_arrive_as_they_were_sent(store: Store) -> None:
    with store.producer() as producer:
        producer.send("t", b"v", key=b"k", headers={"a": b"1", "b": None}, timestamp_ms=1_000)
        producer.send("t", None, key=b"k", headers=[("a", b"1"), ("a", bytearray(b"2"))], timestamp_ms=500)
        producer.send("t", memoryview(b"view"), key=bytearray(b"array"), timestamp_ms=2_000)
        last = producer.send("t", b"", headers=())
    assert records(store) == [
        Record(0, 1_000, b"k", b"v", (("a", b"1"), ("b", None))),
        Record(1, 500, b"k", None, (("a", b"1"), ("a", b"2"))),
        Record(2, 2_000, b"array", b"view"),
        Record(3, last.result().timestamp_ms, None, b""),
    ]


def test_a_buffer_that_is_changed_after_send_was_copied(store: Store) -> None:
    with store.producer(linger_ms=NEVER_MS) as producer:
        value = bytearray(b"before")
        producer.send("t", value, key=value, headers={"h": value})
        value[:] = b"after!"
    assert records(store)[0][2:] == (b"before", b"before", (("h", b"before"),))


def test_a_receipt_has_the_time_of_the_append_where_the_topic_says_so(store: Store) -> None:
    store.create_topic("stamped", message_timestamp_type="LogAppendTime")
    with store.producer() as producer:
        receipts = [producer.send("stamped", b"v", timestamp_ms=stamp) for stamp in (7, 8)]
    stamps = [record.timestamp_ms for record in records(store, "stamped")]
    assert [future.result().timestamp_ms for future in receipts] == stamps and stamps[0] > 1_000_000


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_batches_are_compressed_as_the_producer_is_told(store: Store, codec: str) -> None:
    with store.producer(compression=codec) as producer:
        for _ in range(100):
            producer.send("t", b"much the same" * 10)
    batches = list(store.log("t").batches(0))
    assert {batch.header.compression.kafka_name for batch in batches} == {codec}
    assert len(values(store)) == 100


def test_serializers_make_the_bytes_and_are_not_asked_for_none(store: Store) -> None:
    with store.producer(key_serializer=str.encode, value_serializer=lambda n: b"%d" % n) as producer:
        producer.send("t", 7, key="key")
        producer.send("t", None)
    assert [record[2:4] for record in records(store)] == [(b"key", b"7"), (None, None)]


def test_a_serializer_that_fails_raises_at_send_and_nothing_is_taken_in(store: Store) -> None:
    with store.producer(key_serializer=lambda key: key.nothing, value_serializer=lambda value: value) as producer:
        with pytest.raises(logstore.SerializationFailed, match="key serializer failed: AttributeError") as raised:
            producer.send("t", b"v", key="k")
        assert isinstance(raised.value.__cause__, AttributeError)
        with pytest.raises(logstore.SerializationFailed, match="value serializer failed: it gave a str, not bytes"):
            producer.send("t", "text")
    assert not values(store)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (
            {"value": "text"},
            logstore.InvalidRecord,
            r"not str: encode it, as in value.encode\(\), or .*value_serializer",
        ),
        ({"value": 5}, logstore.InvalidRecord, "a value is bytes or None, not int: give the producer a value_serial"),
        ({"key": "text"}, logstore.InvalidRecord, r"a key is bytes or None, not str: encode it, as in key.encode\(\)"),
        ({"headers": {"h": "text"}}, logstore.InvalidRecord, "headers are pairs of a str and bytes or None"),
        ({"headers": {b"h": b""}}, logstore.InvalidRecord, "a header's key is a str, not bytes"),
        ({"headers": "text"}, logstore.InvalidRecord, "headers are a mapping or pairs, not a str"),
        ({"headers": [b"x"]}, logstore.InvalidRecord, "headers are pairs"),
        ({"headers": [("\ud800", b"")]}, logstore.InvalidRecord, "headers are pairs .*surrogate"),
        ({"timestamp_ms": "now"}, logstore.InvalidTimestamp, "not a str"),
        ({"timestamp_ms": 1.5}, logstore.InvalidTimestamp, "not a float"),
        ({"timestamp_ms": -1}, logstore.InvalidTimestamp, "not between 0 and"),
        ({"timestamp_ms": 2**63}, logstore.InvalidTimestamp, "not between 0 and"),
        ({"partition": 1}, logstore.UnknownPartition, "partitions 0 to 0, not 1"),
        ({"partition": -1}, logstore.UnknownPartition, "not -1"),
        ({"partition": "0"}, logstore.UnknownPartition, "not 0"),
        ({"topic": "none"}, logstore.UnknownTopic, "no topic 'none'"),
        ({"topic": 5}, logstore.UnknownTopic, "no topic 5"),
        ({"topic": []}, logstore.UnknownTopic, "no topic"),
    ],
)
def test_what_is_wrong_with_a_record_is_raised_at_send(
    store: Store, arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    with store.producer() as producer:
        with pytest.raises(error, match=match):
            producer.send(**({"topic": "t", "value": b"v"} | arguments))
        assert producer.send("t", b"good").result(TIMEOUT_S).offset == 0


def test_the_topic_of_the_groups_offsets_is_not_for_producers(store: Store) -> None:
    store.create_topic("__consumer_offsets")
    with store.producer() as producer, pytest.raises(logstore.InvalidArgument, match="the groups' offsets"):
        producer.send("__consumer_offsets", b"v", key=b"k")


def test_what_became_of_a_queues_messages_is_not_for_producers(store: Store) -> None:
    store.queue("jobs").put(b"work")
    with (
        store.producer() as producer,
        pytest.raises(logstore.InvalidArgument, match="what became of a queue's messages"),
    ):
        producer.send("__queue.jobs", b"v")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"acks": "two"}, "acks='two': must be one of all, -1, 1, 0"),
        ({"acks": 2}, "acks='2'"),
        ({"acks": True}, "acks=True"),
        ({"compression": "rar"}, "compression.type='rar'"),
        ({"compression": "gzip", "compression_type": "gzip"}, "given twice"),
        ({"linger": 5}, "no such setting; did you mean linger.ms"),
        ({"linger_ms": 9, "delivery_timeout_ms": 9}, "delivery.timeout.ms=9: must be above linger.ms=9"),
    ],
)
def test_settings_that_cannot_be_are_refused(store: Store, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(logstore.InvalidSetting, match=match):
        store.producer(**settings)


# -------------------------------------------------------------------------------------------------- where records go


def test_keys_go_to_the_partition_that_kafkas_clients_choose(store: Store) -> None:
    source = random.Random(3)
    keys = [b"%d" % number for number in range(60)] * 2 + [source.randbytes(size) for size in (0, 63, 64, 65, 500)]
    with store.producer() as producer:
        futures = [producer.send("three", b"v", key=key) for key in keys]
        for key, future in zip(keys, futures):
            assert future.result(TIMEOUT_S).partition == (kafka_murmur2(key) & 0x7FFFFFFF) % 3


def test_a_partition_that_is_given_counts_more_than_the_key(store: Store) -> None:
    with store.producer() as producer:
        assert [producer.send("three", b"v", key=b"k", partition=n).result(TIMEOUT_S).partition for n in range(3)] == [
            *(0, 1, 2)
        ]


def test_records_without_a_key_fill_one_batch_after_the_other_in_one_partition_after_the_other(store: Store) -> None:
    with store.producer(batch_size=1_000, linger_ms=NEVER_MS) as producer:
        futures = [producer.send("three", bytes(100)) for _ in range(8 * 30)]
        producer.flush(TIMEOUT_S)
    partitions = [future.result().partition for future in futures]
    runs = [(partitions[at], at) for at in range(len(partitions)) if at == 0 or partitions[at - 1] != partitions[at]]
    assert [(runs[0][0] + turn) % 3 for turn in range(len(runs))] == [partition for partition, _ in runs]
    assert {batch for partition in range(3) for batch in batch_sizes(store, "three", partition)[:-1]} == {8}


def test_partitions_that_are_added_get_records_at_once(store: Store) -> None:
    with store.producer(linger_ms=0) as producer:
        producer.send("t", b"v").result(TIMEOUT_S)
        store.alter_topic("t", partitions=4)
        assert producer.send("t", b"v", partition=3).result(TIMEOUT_S).partition == 3
        found = {producer.send("t", b"v").result(TIMEOUT_S).partition for _ in range(4)}
        assert found == {0, 1, 2, 3}
        key = next(b"%d" % n for n in range(100) if (kafka_murmur2(b"%d" % n) & 0x7FFFFFFF) % 4 == 2)
        assert producer.send("t", b"v", key=key).result(TIMEOUT_S).partition == 2


# ------------------------------------------------------------------------------------------------------------- batches


def test_a_batch_is_sent_when_it_is_full_and_is_never_larger_than_batch_size(store: Store) -> None:
    with store.producer(batch_size=1_000, linger_ms=NEVER_MS) as producer:
        futures = [producer.send("t", bytes(100), headers={"h": b"1"} if n % 3 else None) for n in range(100)]
        futures[0].result(TIMEOUT_S)
        assert not futures[-1].done()
    sizes = [batch.header.size for batch in store.log("t").batches(0)]
    assert max(sizes) <= 1_000 and min(sizes[:-1]) > 700


def test_a_record_that_is_larger_than_batch_size_goes_alone_and_at_once(store: Store) -> None:
    with store.producer(batch_size=200, linger_ms=NEVER_MS) as producer:
        small = producer.send("t", b"small")
        assert producer.send("t", bytes(500)).result(TIMEOUT_S).offset == 1
        assert small.result(TIMEOUT_S).offset == 0
    assert batch_sizes(store) == [1, 1]


def test_a_batch_size_of_0_sends_each_record_alone(store: Store) -> None:
    with store.producer(batch_size=0, linger_ms=NEVER_MS) as producer:
        for future in [producer.send("t", b"v") for _ in range(5)]:
            future.result(TIMEOUT_S)
    assert batch_sizes(store) == [1] * 5


def test_without_linger_records_go_at_once_and_what_has_queued_goes_together(store: Store, gate: Gate) -> None:
    with store.producer(linger_ms=0) as producer:
        first = producer.send("t", b"first")
        assert gate.reached.wait(TIMEOUT_S)
        queued = [producer.send("t", b"%d" % number) for number in range(10)]
        gate.open()
        assert [future.result(TIMEOUT_S).offset for future in [first, *queued]] == list(range(11))
    assert batch_sizes(store) == [1, 10]


def test_records_linger_for_others_and_no_longer_than_they_are_told(store: Store) -> None:
    with store.producer(linger_ms=300) as producer:
        start = time.monotonic()
        futures = [producer.send("t", b"%d" % number) for number in range(10)]
        futures[-1].result(TIMEOUT_S)
        assert time.monotonic() - start >= 0.25
    assert batch_sizes(store) == [10]


def test_the_limit_of_the_topic_bounds_batches_whatever_batch_size_says(store: Store) -> None:
    store.create_topic("narrow", max_message_bytes=500)
    with store.producer(batch_size=100_000) as producer:
        futures = [producer.send("narrow", bytes(50), key=b"k", headers={"h": b"1"}) for _ in range(100)]
        assert all(future.result(TIMEOUT_S) for future in futures)
    assert max(batch.header.size for batch in store.log("narrow").batches(0)) <= 500


def test_one_sync_covers_the_batches_of_all_that_is_due(store: Store, gate: Gate, monkeypatch: Any) -> None:
    syncs: list[int] = []
    for partition in range(3):
        log = store.log("three", partition)
        monkeypatch.setattr(log, "flush", lambda log=log, flush=log.flush: (syncs.append(1), flush()))
    with store.producer(batch_size=500, linger_ms=0) as producer:
        producer.send("t", b"first")
        assert gate.reached.wait(TIMEOUT_S)
        futures = [producer.send("three", bytes(100), partition=number % 3) for number in range(90)]
        gate.open()
        assert all(future.result(TIMEOUT_S).durability is Durability.FSYNC for future in futures)
    assert len(syncs) == 3 and len(batch_sizes(store, "three", 0)) > 5


def test_order_within_a_partition_is_the_order_of_sends_of_each_thread(store: Store) -> None:
    with store.producer(acks=1, batch_size=300, linger_ms=1) as producer:

        def send(name: int) -> None:
            for number in range(500):
                producer.send("three", b"%d %d" % (name, number), key=b"%d" % (number % 7))

        threads = [threading.Thread(target=send, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
    found = [record for partition in range(3) for record in records(store, "three", partition)]
    assert len(found) == 3_000
    for name in range(6):
        for key in range(7):
            numbers = [
                int(record.value.split()[1])
                for record in found
                if record.value is not None and record.value.startswith(b"%d " % name) and record.key == b"%d" % key
            ]
            assert numbers == sorted(numbers) and len(numbers) == len(range(key, 500, 7))


# ---------------------------------------------------------------------------------------------------------------- room


def test_send_waits_for_room_and_goes_on_when_there_is_some(store: Store, gate: Gate) -> None:
    with store.producer(acks=1, buffer_memory=5 * (RECORD_MEMORY + 115), linger_ms=0) as producer:
        futures = [producer.send("t", bytes(100)) for _ in range(5)]
        is_sent = threading.Event()

        def send_more() -> None:
            futures.append(producer.send("t", b"more"))
            is_sent.set()

        thread = threading.Thread(target=send_more)
        thread.start()
        assert not is_sent.wait(0.1)
        gate.open()
        thread.join(TIMEOUT_S)
        assert [future.result(TIMEOUT_S).offset for future in futures] == list(range(6))


def test_where_there_is_no_room_for_max_block_ms_nothing_is_taken_in(store: Store, gate: Gate) -> None:
    with store.producer(buffer_memory=1_000, linger_ms=0, max_block_ms=20) as producer:
        for _ in range(3):
            producer.send("t", bytes(50))
        for _ in range(2):
            with pytest.raises(logstore.BufferFull, match=r"room in the producer .* 0\.02 s; send slower, or raise"):
                producer.send("t", b"too much")
        with pytest.raises(logstore.BufferFull, match="0 s"):
            producer.send("t", b"too much", block=False)
        gate.open()
        producer.flush(TIMEOUT_S)
        assert producer._pool.used == 0
        producer.send("t", b"later").result(TIMEOUT_S)
    assert values(store) == [bytes(50)] * 3 + [b"later"]


def test_records_that_linger_are_sent_when_somebody_needs_their_room(store: Store) -> None:
    with store.producer(buffer_memory=2_000, linger_ms=NEVER_MS) as producer:
        futures = [producer.send("t", bytes(100)) for _ in range(50)]
        assert futures[0].done() and not futures[-1].done()
    assert len(values(store)) == 50


def test_who_waits_for_room_is_served_in_turn(store: Store, gate: Gate) -> None:
    with store.producer(acks=1, buffer_memory=RECORD_MEMORY + 200, linger_ms=0) as producer:
        producer.send("t", bytes(100))
        threads = []
        for number in range(8):
            # The larger ones first: the small ones behind them must not slip through.
            size = 150 if number < 4 else 1
            threads.append(threading.Thread(target=producer.send, args=("t", b"%d" % number * size)))
            threads[-1].start()
            wait_until(lambda count=number + 1: len(producer._pool.waiting) == count)
        gate.open()
        for thread in threads:
            thread.join(TIMEOUT_S)
    assert [value[:1] for value in values(store)[1:] if value] == [b"%d" % number for number in range(8)]


def test_a_record_that_no_emptiness_of_the_buffer_could_hold_is_too_large(store: Store) -> None:
    with store.producer(buffer_memory=500) as producer:
        producer.send("t", bytes(450)).result(TIMEOUT_S)
        with pytest.raises(logstore.RecordTooLarge, match=r"buffer\.memory"):
            producer.send("t", bytes(500))


def test_a_callback_that_sends_never_waits_for_itself(store: Store) -> None:
    told: list[Any] = []
    with store.producer(acks=1, buffer_memory=1_000, linger_ms=0, max_block_ms=NEVER_MS) as producer:

        def send_on(receipt: Receipt | None, error: BaseException | None) -> None:
            try:
                for _ in range(10):
                    producer.send("t", bytes(100))
            except logstore.BufferFull as full:
                told.append(full)
            with pytest.raises(logstore.Unsupported, match="call it in another thread"):
                producer.flush()

        producer.send("t", b"first", on_delivery=send_on)
        wait_until(lambda: bool(told))
        producer.flush(TIMEOUT_S)
        assert "a callback cannot wait for it" in str(told[0]) and len(values(store)) == 3


# ---------------------------------------------------------------------------------------------------------- callbacks


def test_callbacks_are_called_in_order_and_one_that_raises_is_logged_and_harms_nobody(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[int] = []

    def on_delivery(receipt: Receipt | None, error: BaseException | None) -> None:
        assert receipt is not None and error is None
        told.append(receipt.offset)
        raise KeyboardInterrupt if receipt.offset == 3 else ValueError("not mine")

    with store.producer() as producer:
        futures = [producer.send("t", b"v", on_delivery=on_delivery) for _ in range(6)]
        futures[5].add_done_callback(lambda future: 1 / 0)
        producer.flush(TIMEOUT_S)
        assert told == list(range(6)) == [future.result(0).offset for future in futures]
    assert caplog.text.count("a callback of a producer failed") == 6 and "not mine" in caplog.text


# --------------------------------------------------------------------------------------------------------------- ending


def test_flush_waits_for_all_that_was_sent_before_and_sends_it_at_once(store: Store) -> None:
    with store.producer(linger_ms=NEVER_MS) as producer:
        producer.flush()
        futures = [producer.send("three", b"%d" % number, partition=number % 3) for number in range(30)]
        producer.flush(TIMEOUT_S)
        assert all(future.done() for future in futures)
        producer.flush(TIMEOUT_S)


def test_flush_that_takes_too_long_says_so_and_what_was_sent_is_stored_later(store: Store, gate: Gate) -> None:
    with store.producer() as producer:
        future = producer.send("t", b"v")
        with pytest.raises(
            logstore.TimedOut, match=r"flushing the producer .*0\.01 s; its records may still be stored"
        ):
            producer.flush(0.01)
        gate.open()
        assert future.result(TIMEOUT_S).offset == 0
        for wrong in ("1", float("nan")):
            with pytest.raises(logstore.InvalidArgument, match="timeout"):
                producer.flush(wrong)  # type: ignore[arg-type]


def test_closing_stores_what_lingers_and_a_closed_producer_takes_nothing(store: Store) -> None:
    producer = store.producer(linger_ms=NEVER_MS)
    future = producer.send("t", b"v")
    producer.close()
    producer.close()
    assert future.result(0).offset == 0
    for call in (lambda: producer.send("t", b"v"), producer.flush):
        with pytest.raises(logstore.Closed, match=r"producer of .* is closed"):
            call()
    assert not any(thread.name.startswith("logstore producer") for thread in threading.enumerate())


def test_a_with_statement_that_ends_by_an_error_stores_what_was_sent(store: Store) -> None:
    def send_and_fail() -> None:
        with store.producer(linger_ms=NEVER_MS) as producer:
            producer.send("t", b"v")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        send_and_fail()
    assert values(store) == [b"v"]


def test_a_close_that_takes_too_long_fails_what_was_not_begun_and_waits_for_what_was(store: Store, gate: Gate) -> None:
    producer = store.producer(linger_ms=0)
    begun = producer.send("t", b"begun")
    assert gate.reached.wait(TIMEOUT_S)
    queued = producer.send("t", b"queued")
    opener = threading.Timer(0.3, gate.open)
    opener.start()
    producer.close(0.01)
    assert begun.result(0).offset == 0
    with pytest.raises(logstore.TimedOut, match="closed before they were begun"):
        queued.result(0)
    opener.join()
    assert values(store) == [b"begun"]


def test_who_waits_for_room_when_the_producer_is_closed_is_told(store: Store, gate: Gate) -> None:
    producer = store.producer(buffer_memory=500, linger_ms=0)
    producer.send("t", bytes(400))
    told: list[BaseException] = []

    def send() -> None:
        try:
            producer.send("t", bytes(400))
        except logstore.Closed as error:
            told.append(error)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(producer._pool.waiting) == 3)
    closer = threading.Thread(target=producer.close)
    closer.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    gate.open()
    closer.join(TIMEOUT_S)
    assert len(told) == 3 and len(values(store)) == 1


def test_a_callback_may_close_the_producer(store: Store) -> None:
    producer = store.producer(linger_ms=0)
    producer.send("t", b"1", on_delivery=lambda receipt, error: producer.close()).result(TIMEOUT_S)
    producer.close()
    assert values(store) == [b"1"]


def test_a_store_that_is_closed_stores_first_what_its_producers_have_taken_in(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("t")
        producer = store.producer(linger_ms=NEVER_MS)
        future = producer.send("t", b"v")
    assert future.result(0).durability is Durability.FSYNC
    with pytest.raises(logstore.Closed):
        producer.send("t", b"v")
    with pytest.raises(logstore.Closed):
        store.producer()


def test_a_producer_that_nobody_has_used_has_no_thread(store: Store) -> None:
    before = threading.active_count()
    with store.producer():
        assert threading.active_count() == before


def test_a_producer_goes_by_a_clock_of_its_own_that_never_goes_back(store: Store) -> None:
    now_ms = [1_000]
    producer = EmbeddedProducer(store._data_dir, ProducerConfig(linger_ms=100), clock_ms=lambda: now_ms[0])
    future = producer.send("t", b"v")
    wait_until(lambda: producer._sender is not AWAKE)
    assert not future.done()
    now_ms[0] += 100
    assert future.result(TIMEOUT_S).offset == 0
    producer.close()
