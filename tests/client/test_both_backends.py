"""One test body for both backends: clients and groups do in a directory what they do on a real Kafka."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import logstore
from kafka_cluster import kafka_address  # noqa: F401
from logstore.client.consumer import ConsumerRecord, RebalanceListener
from logstore.client.kafka.connecting import connect
from logstore.client.partitioner import partition_for_key
from logstore.format.consumer_protocol import decode_assignment
from logstore.format.filename import TopicPartition
from logstore.groups.requests import OffsetAndMetadata

Backend = Any  # a Store or a Cluster
PATIENCE_S = 30.0
_numbers = count()
# Members hear of a rebalance by a heartbeat, and of new topics by a look: soon, in a test.
BRISK: dict[str, Any] = {"heartbeat_interval_ms": 100, "session_timeout_ms": 6_000, "metadata_max_age_ms": 200}


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "embedded":
        with logstore.open(tmp_path / "data") as store:
            yield store
    else:
        with connect(request.getfixturevalue("kafka_address")) as cluster:
            yield cluster


@pytest.fixture
def name() -> str:
    """Of a topic or a group that no other test has."""
    return f"t{next(_numbers)}"


def fill(backend: Backend, topic: str, values: range, **where: Any) -> list[Any]:
    """Numbers as text, one by one; the receipts."""
    with backend.producer(linger_ms=0) as producer:
        futures = [producer.send(topic, b"%d" % number, **where) for number in values]
        producer.flush(PATIENCE_S)
        return [future.result(0) for future in futures]


def poll(consumer: Any, wanted: int) -> list[ConsumerRecord]:
    """So many records, by as many polls as it takes."""
    records: list[ConsumerRecord] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(records) < wanted:
        assert time.monotonic() < deadline, records
        records += consumer.poll(0.5)
    assert len(records) == wanted
    return records


def poll_until(is_so: Callable[[], bool], *consumers: Any) -> list[ConsumerRecord]:
    """Poll them by turns, as members of a group must be, each in this thread."""
    records: list[ConsumerRecord] = []
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, [consumer.assignment() for consumer in consumers]
        for consumer in consumers:
            records += consumer.poll(0.05)
    return records


def wait_until_it_polls(consumer: Any, thread: threading.Thread) -> None:
    """To ask the consumer itself could take the turn from the thread."""
    deadline = time.monotonic() + PATIENCE_S
    while consumer._turn.get("thread") != thread.ident:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def numbers(records: list[ConsumerRecord]) -> list[int]:
    return [int(record.value) for record in records]


class Notes(RebalanceListener):
    def __init__(self) -> None:
        self.calls: list[tuple[str, list[TopicPartition]]] = []

    def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
        self.calls.append(("assigned", sorted(partitions)))

    def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
        self.calls.append(("revoked", sorted(partitions)))


# ---------------------------------------------------------------------------------------------------------- producing


def test_a_record_comes_back_as_it_was_sent(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    headers = [("a", b"1"), ("empty", b""), ("none", None), ("a", b"2"), ("ümlaut", b"\xff")]
    with backend.producer() as producer:
        receipts = [
            producer.send(name, b"value", key=b"key", headers=headers, timestamp_ms=1_700_000_000_123).result(
                PATIENCE_S
            ),
            producer.send(name, None, key=b"key").result(PATIENCE_S),
            producer.send(name, b"", key=b"", headers={"h": b"v"}).result(PATIENCE_S),
            producer.send(name, bytearray(b"\0\xff")).result(PATIENCE_S),
        ]
    assert [receipt[:3] for receipt in receipts] == [(name, 0, offset) for offset in range(4)]
    assert receipts[0].timestamp_ms == 1_700_000_000_123
    with backend.consumer(name, auto_offset_reset="earliest") as consumer:
        records = poll(consumer, 4)
    assert [record.offset for record in records] == [0, 1, 2, 3]
    assert [(record.key, record.value) for record in records] == [
        (b"key", b"value"),
        (b"key", None),
        (b"", b""),
        (None, b"\0\xff"),
    ]
    assert [record.headers for record in records] == [tuple(headers), (), (("h", b"v"),), ()]
    assert [record.timestamp_ms for record in records] == [receipt.timestamp_ms for receipt in receipts]
    assert abs(records[1].timestamp_ms - time.time() * 1000) < 600_000


def test_keys_go_where_kafkas_hash_says(backend: Backend, name: str) -> None:
    backend.create_topic(name, 7)
    keys = [b"%d" % number * (number % 5 + 1) for number in range(60)] + [b""]
    with backend.producer() as producer:
        futures = [producer.send(name, b"", key=key) for key in keys]
        partitions = [future.result(PATIENCE_S).partition for future in futures]
    assert partitions == [partition_for_key(key, 7) for key in keys]


def test_records_without_key_reach_all_partitions(backend: Backend, name: str) -> None:
    backend.create_topic(name, 3)
    reached: set[int] = set()
    with backend.producer() as producer:
        for _ in range(200):
            reached.add(producer.send(name, b"x").result(PATIENCE_S).partition)
            if len(reached) == 3:
                break
    assert reached == {0, 1, 2}


def test_a_given_partition_is_taken_and_an_unknown_one_refused(backend: Backend, name: str) -> None:
    backend.create_topic(name, 2)
    with backend.producer() as producer:
        assert producer.send(name, b"x", key=b"k", partition=1).result(PATIENCE_S).partition == 1
        for wrong in (2, -1, True, "0"):
            with pytest.raises(logstore.UnknownPartition) as caught:
                producer.send(name, b"x", partition=wrong)
            assert caught.value.partition_count == 2
        backend.alter_topic(name, partitions=3)
        assert producer.send(name, b"x", partition=2).result(PATIENCE_S).partition == 2


def test_an_unknown_topic_is_refused_at_once(backend: Backend, name: str) -> None:
    with backend.producer() as producer:
        with pytest.raises(logstore.UnknownTopic):
            producer.send(name, b"x")
        backend.create_topic(name)
        assert producer.send(name, b"x").result(PATIENCE_S).offset == 0


def test_a_record_over_the_producers_limit_is_refused_at_once(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    with backend.producer(max_request_size=5_000) as producer:
        with pytest.raises(logstore.RecordTooLarge) as caught:
            producer.send(name, bytes(6_000))
        assert (caught.value.limit, caught.value.setting) == (5_000, "max.request.size")
        assert producer.send(name, bytes(4_000)).result(PATIENCE_S).offset == 0


def test_a_record_over_the_topics_limit_fails(backend: Backend, name: str) -> None:
    backend.create_topic(name, max_message_bytes=2_000)
    with backend.producer() as producer:
        with pytest.raises(logstore.RecordTooLarge) as caught:
            producer.send(name, bytes(6_000)).result(PATIENCE_S)
        assert (caught.value.limit, caught.value.setting) == (2_000, "max.message.bytes")
        assert producer.send(name, bytes(1_000)).result(PATIENCE_S).offset == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": "text"},
        {"value": b"", "key": 7},
        {"value": b"", "headers": [("a", 1)]},
        {"value": b"", "headers": [(1, b"")]},
        {"value": b"", "timestamp_ms": -5},
        {"value": b"", "timestamp_ms": "now"},
    ],
    ids=[
        "text as value",
        "a number as key",
        "a header's value",
        "a header's name",
        "a negative time",
        "a text as time",
    ],
)
def test_what_is_no_record_is_refused_at_once(backend: Backend, name: str, wrong: dict[str, Any]) -> None:
    backend.create_topic(name)
    with backend.producer() as producer, pytest.raises(logstore.InvalidRecord):
        producer.send(name, **wrong)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_each_codec_round_trips(backend: Backend, name: str, codec: str) -> None:
    backend.create_topic(name)
    with backend.producer(compression_type=codec, linger_ms=50) as producer:
        for number in range(100):
            producer.send(name, b"%d " % number * 50)
    with backend.consumer(name, auto_offset_reset="earliest") as consumer:
        assert [record.value for record in poll(consumer, 100)] == [b"%d " % number * 50 for number in range(100)]


def test_serializers_and_deserializers_stand_at_both_ends(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    with backend.producer(key_serializer=str.encode, value_serializer=lambda number: b"%d" % number) as producer:
        producer.send(name, 7, key="seven").result(PATIENCE_S)
        with pytest.raises(logstore.SerializationFailed) as caught:
            producer.send(name, "x", key="y")
        assert caught.value.topic == name and isinstance(caught.value.__cause__, TypeError)
        producer.send(name, None, key=None).result(PATIENCE_S)
    options = {"key_deserializer": bytes.decode, "value_deserializer": int, "auto_offset_reset": "earliest"}
    with backend.consumer(name, **options) as consumer:
        assert [(record.key, record.value) for record in poll(consumer, 2)] == [("seven", 7), (None, None)]


def test_what_cannot_be_deserialized_stays_the_next_record(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    with backend.producer() as producer:
        for value in (b"1", b"x", b"3"):
            producer.send(name, value)
    with backend.consumer(name, value_deserializer=int, auto_offset_reset="earliest") as consumer:
        assert [record.value for record in poll(consumer, 1)] == [1]
        for _ in range(2):
            with pytest.raises(logstore.SerializationFailed) as caught:
                consumer.poll(PATIENCE_S)
            assert (caught.value.topic, caught.value.partition, caught.value.offset) == (name, 0, 1)
        consumer.seek(name, 0, 2)
        assert [record.value for record in poll(consumer, 1)] == [3]


def test_callbacks_and_futures_are_told_the_same(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    told: list[Any] = []
    with backend.producer() as producer:
        futures = [producer.send(name, b"x", on_delivery=lambda *what: told.append(what)) for _ in range(3)]
        producer.flush(PATIENCE_S)
        assert told == [(future.result(0), None) for future in futures]


def test_a_callback_that_raises_hurts_nobody(backend: Backend, name: str) -> None:
    backend.create_topic(name)

    def fail(*what: object) -> None:
        raise ValueError("mine")

    with backend.producer() as producer:
        assert producer.send(name, b"x", on_delivery=fail).result(PATIENCE_S).offset == 0
        assert producer.send(name, b"x").result(PATIENCE_S).offset == 1


@pytest.mark.parametrize("acks", ["all", 1, 0])
def test_records_are_there_after_a_flush_whatever_acks_are(backend: Backend, name: str, acks: Any) -> None:
    backend.create_topic(name)
    with backend.producer(acks=str(acks)) as producer:
        receipts = [producer.send(name, b"%d" % number) for number in range(20)]
        producer.flush(PATIENCE_S)
        assert all(receipt.done() for receipt in receipts)
        offsets = [receipt.result().offset for receipt in receipts]
    assert offsets == ([-1] * 20 if acks == 0 else list(range(20)))
    assert (receipts[0].result().durability is None) == (acks == 0)
    with backend.consumer(name, auto_offset_reset="earliest") as consumer:
        assert numbers(poll(consumer, 20)) == list(range(20))


def test_a_closed_producer_has_stored_all_and_takes_no_more(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    producer = backend.producer(linger_ms=60_000)
    futures = [producer.send(name, b"%d" % number) for number in range(50)]
    producer.close()
    producer.close()
    assert [future.result(0).offset for future in futures] == list(range(50))
    for call in (lambda: producer.send(name, b"x"), producer.flush, lambda: producer.flush(0)):
        with pytest.raises(logstore.Closed):
            call()


def test_a_callback_cannot_wait_for_what_comes_after_it(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    told: list[type[Exception]] = []

    def on_delivery(*_: object) -> None:
        for timeout in (None, 0):
            try:
                producer.flush(timeout)
            except logstore.LogstoreError as error:
                told.append(type(error))

    with backend.producer() as producer:
        producer.send(name, b"x", on_delivery=on_delivery)
        producer.flush(PATIENCE_S)
    assert told == [logstore.Unsupported] * 2


def test_threads_share_a_producer_and_each_keeps_its_order(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    with backend.producer() as producer:

        def send(thread: int) -> None:
            for number in range(100):
                producer.send(name, b"%d" % number, key=b"%d" % thread)

        threads = [threading.Thread(target=send, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    with backend.consumer(name, auto_offset_reset="earliest") as consumer:
        records = poll(consumer, 400)
    for thread in range(4):
        assert numbers([record for record in records if record.key == b"%d" % thread]) == list(range(100))


# ------------------------------------------------------------------------------------------------ reading without group


def test_without_a_group_all_partitions_are_read_each_in_order(backend: Backend, name: str) -> None:
    backend.create_topic(name, 3)
    for partition in range(3):
        fill(backend, name, range(100 * partition, 100 * partition + 30), partition=partition)
    with backend.consumer(name, auto_offset_reset="earliest") as consumer:
        records = poll(consumer, 90)
        assert consumer.assignment() == {(name, partition) for partition in range(3)}
        for partition in range(3):
            assert consumer.position(name, partition) == 30
            mine = numbers([record for record in records if record.partition == partition])
            assert mine == list(range(100 * partition, 100 * partition + 30))
        assert consumer.lag() == {(name, partition): 0 for partition in range(3)}
        assert consumer.poll(0.0) == [] == consumer.poll(0.2)


def test_latest_begins_behind_what_is_there(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(5))
    with backend.consumer(name, auto_offset_reset="latest") as consumer:
        assert consumer.position(name, 0) == 5
        fill(backend, name, range(5, 8))
        assert numbers(poll(consumer, 3)) == [5, 6, 7]


def test_without_reset_and_commit_the_consumer_asks_for_a_seek(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(5))
    with backend.consumer(group=name, auto_offset_reset="none") as consumer:
        consumer.assign([(name, 0)])
        with pytest.raises(logstore.NoCommittedOffset) as caught:
            consumer.poll(PATIENCE_S)
        assert (caught.value.topic, caught.value.partition, caught.value.group) == (name, 0, name)
        consumer.seek(name, 0, 3)
        assert numbers(poll(consumer, 2)) == [3, 4]


def test_seeks_go_anywhere(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    with backend.producer() as producer:
        for number in range(10):
            producer.send(name, b"%d" % number, timestamp_ms=1_700_000_000_000 + 1000 * number)
    with backend.consumer(name, auto_offset_reset="earliest") as consumer:
        assert numbers(poll(consumer, 10)) == list(range(10))
        consumer.seek(name, 0, 4)
        assert consumer.position(name, 0) == 4
        assert numbers(poll(consumer, 6)) == list(range(4, 10))
        consumer.seek_to_beginning([(name, 0)])
        assert numbers(poll_some(consumer, 3)) == [0, 1, 2]
        assert numbers(poll_some(consumer, 2)) == [3, 4]
        consumer.seek_to_time(1_700_000_006_500)
        assert consumer.position(name, 0) == 7
        assert numbers(poll(consumer, 3)) == [7, 8, 9]
        consumer.seek_to_time(1_800_000_000_000)
        assert consumer.position(name, 0) == 10
        consumer.seek_to_end()
        assert consumer.poll(0.2) == []
        consumer.seek(name, 0, 8)
        assert consumer.lag() == {(name, 0): 2}
        assert numbers(poll(consumer, 2)) == [8, 9]
        with pytest.raises(logstore.NotAssigned):
            consumer.seek(name, 1, 0)
        for wrong in (-1, "4", None):
            with pytest.raises(logstore.InvalidArgument):
                consumer.seek(name, 0, wrong)
        for wrong_timeout in ("1", float("nan")):
            with pytest.raises(logstore.InvalidArgument):
                consumer.poll(wrong_timeout)
        with pytest.raises(logstore.InvalidArgument):
            consumer.poll(0, max_records=0)


def test_an_offset_behind_the_log_resets(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(5))
    with backend.consumer(name, auto_offset_reset="earliest") as consumer:
        consumer.seek(name, 0, 99)
        assert numbers(poll(consumer, 5)) == list(range(5))


def test_offsets_are_looked_up_by_time_and_at_both_ends(backend: Backend, name: str) -> None:
    backend.create_topic(name, 2)
    with backend.producer() as producer:
        for number in range(10):
            producer.send(name, b"%d" % number, partition=0, timestamp_ms=1_700_000_000_000 + 1000 * number)
    backend.advance_log_start(name, 0, 2)
    places = [(name, 0), (name, 1)]
    with backend.consumer(name) as consumer:
        assert consumer.beginning_offsets(places) == {(name, 0): 2, (name, 1): 0}
        assert consumer.end_offsets(places) == {(name, 0): 10, (name, 1): 0}
        assert consumer.offsets_for_times({(name, 0): 1_700_000_004_001, (name, 1): 0}) == {
            (name, 0): 5,
            (name, 1): None,
        }
        assert consumer.offsets_for_times({(name, 0): 1_900_000_000_000}) == {(name, 0): None}
    assert poll_from_start(backend, name) == [2, 3, 4, 5, 6, 7, 8, 9]


def poll_from_start(backend: Backend, topic: str) -> list[int]:
    with backend.consumer(topic, auto_offset_reset="earliest") as consumer:
        return numbers(poll(consumer, 8))


def test_paused_partitions_are_left_out_and_go_on_where_they_were(backend: Backend, name: str) -> None:
    backend.create_topic(name, 2)
    for partition in range(2):
        fill(backend, name, range(100 * partition, 100 * partition + 10), partition=partition)
    with backend.consumer(name, auto_offset_reset="earliest") as consumer:
        consumer.pause([(name, 0)])
        assert consumer.paused() == {(name, 0)}
        assert numbers(poll(consumer, 10)) == list(range(100, 110))
        assert consumer.poll(0.3) == []
        consumer.resume([(name, 0)])
        assert numbers(poll_some(consumer, 4)) == [0, 1, 2, 3]
        consumer.pause()
        assert consumer.paused() == {(name, 0), (name, 1)}
        assert consumer.poll(0.3) == []
        consumer.seek(name, 1, 8)
        assert consumer.poll(0.3) == []
        consumer.resume()
        records = poll(consumer, 8)
        assert numbers([record for record in records if record.partition == 0]) == [4, 5, 6, 7, 8, 9]
        assert numbers([record for record in records if record.partition == 1]) == [108, 109]


def test_wakeup_ends_a_poll_and_an_iteration(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    with backend.consumer(name) as consumer:
        consumer.wakeup()
        assert consumer.poll() == []
        timer = threading.Timer(0.2, consumer.wakeup)
        timer.start()
        assert consumer.poll() == []
        timer.join()
        timer = threading.Timer(0.2, consumer.wakeup)
        timer.start()
        assert list(consumer) == []
        timer.join()


def test_a_second_thread_is_refused(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(1))
    with backend.consumer(name, auto_offset_reset="earliest") as consumer:
        poll(consumer, 1)
        thread = threading.Thread(target=consumer.poll)
        thread.start()
        wait_until_it_polls(consumer, thread)
        with pytest.raises(logstore.ConcurrentUse):
            consumer.position(name, 0)
        consumer.wakeup()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_closed_consumer_says_so(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    consumer = backend.consumer(name)
    consumer.close()
    consumer.close()
    with pytest.raises(logstore.Closed):
        consumer.poll(0)
    with pytest.raises(logstore.Closed):
        list(consumer)


def test_closing_from_another_thread_ends_an_iteration(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(1))
    consumer = backend.consumer(name, auto_offset_reset="earliest")
    returned: list[list[int]] = []
    has_begun = threading.Event()

    def iterate() -> None:
        seen = []
        for record in consumer:
            seen.append(int(record.value))
            has_begun.set()
        returned.append(seen)

    thread = threading.Thread(target=iterate)
    thread.start()
    assert has_begun.wait(PATIENCE_S)
    wait_until_it_polls(consumer, thread)
    consumer.close()
    thread.join(PATIENCE_S)
    assert returned == [[0]]
    with pytest.raises(logstore.Closed):
        consumer.poll(0)


# -------------------------------------------------------------------------------------------------------------- groups


def test_a_group_goes_on_where_it_committed(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))
    options = {"group": name, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    with backend.consumer(name, **options) as consumer:
        assert numbers(poll_some(consumer, 4)) == [0, 1, 2, 3]
        assert consumer.committed(name, 0) is None
        consumer.commit()
        committed = consumer.committed(name, 0)
        assert committed is not None and committed.offset == 4
        assert numbers(poll_some(consumer, 3)) == [4, 5, 6]
    with backend.consumer(name, **options) as consumer:
        assert numbers(poll_some(consumer, 6)) == [4, 5, 6, 7, 8, 9]
        assert consumer.position(name, 0) == 10


def poll_some(consumer: Any, wanted: int) -> list[ConsumerRecord]:
    """So many records of those that are there."""
    records: list[ConsumerRecord] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(records) < wanted:
        assert time.monotonic() < deadline, records
        records += consumer.poll(0.5, max_records=wanted - len(records))
    return records


def test_explicit_offsets_and_their_metadata_are_committed(backend: Backend, name: str) -> None:
    backend.create_topic(name, 2)
    fill(backend, name, range(10), partition=0)
    options = {"group": name, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    with backend.consumer(name, **options) as consumer:
        poll(consumer, 10)
        consumer.commit({(name, 0): OffsetAndMetadata(7, "mine"), (name, 1): 0})
        assert consumer.committed(name, 0)[:2] == (7, "mine")
        assert consumer.committed(name, 1)[:2] == (0, "")
        with pytest.raises(logstore.NotAssigned):
            consumer.commit({(name, 2): 0})
        with pytest.raises(logstore.InvalidArgument):
            consumer.commit({(name, 0): -1})
        with pytest.raises(logstore.OffsetMetadataTooLarge):
            consumer.commit({(name, 0): OffsetAndMetadata(7, "m" * 5000)})
    with backend.consumer(name, **options) as consumer:
        assert numbers(poll(consumer, 3)) == [7, 8, 9]


def test_closing_commits_what_polls_returned(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))
    options = {"group": name, "auto_offset_reset": "earliest"}
    with backend.consumer(name, **options) as consumer:
        assert numbers(poll_some(consumer, 6)) == list(range(6))
    with backend.consumer(name, **options) as consumer:
        assert numbers(poll(consumer, 4)) == [6, 7, 8, 9]


def test_an_automatic_commit_covers_what_earlier_polls_returned(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))
    options = {"group": name, "auto_offset_reset": "earliest", "auto_commit_interval_ms": 10}
    with backend.consumer(name, **options) as consumer:
        assert numbers(poll_some(consumer, 6)) == list(range(6))
        assert (consumer.committed(name, 0) or (0,))[0] == 0
        deadline = time.monotonic() + PATIENCE_S
        while (consumer.committed(name, 0) or (0,))[0] != 6:
            assert time.monotonic() < deadline
            consumer.seek(name, 0, 6)
            consumer.poll(0.05, max_records=1)
            consumer.seek(name, 0, 6)


def test_a_loop_that_fails_leaves_its_record_uncommitted(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))
    options = {"group": name, "auto_offset_reset": "earliest"}
    seen: list[int] = []

    def handle(record: ConsumerRecord) -> None:
        seen.append(int(record.value))
        if record.offset == 6:
            raise ZeroDivisionError

    def consume() -> None:
        with backend.consumer(name, **options) as consumer:
            for record in consumer:
                handle(record)

    with pytest.raises(ZeroDivisionError):
        consume()
    assert seen == list(range(7))
    with backend.consumer(name, **options) as consumer:
        assert numbers(poll(consumer, 4)) == [6, 7, 8, 9]


def test_after_an_error_what_the_last_poll_returned_is_not_committed(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))
    options = {"group": name, "auto_offset_reset": "earliest"}

    def fail_after_two_polls() -> None:
        with backend.consumer(name, **options) as consumer:
            assert numbers(poll_some(consumer, 3)) == [0, 1, 2]
            assert numbers(consumer.poll(PATIENCE_S, max_records=3)) == [3, 4, 5]
            raise ZeroDivisionError

    def fail_after_a_seek() -> None:
        with backend.consumer(name, **options) as consumer:
            assert numbers(poll_some(consumer, 1)) == [3]
            consumer.seek(name, 0, 8)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_two_polls()
    assert backend.groups.committed(name)[TopicPartition(name, 0)].offset == 3
    with pytest.raises(ZeroDivisionError):
        fail_after_a_seek()
    assert backend.groups.committed(name)[TopicPartition(name, 0)].offset == 8, "it said so itself"


def test_a_commit_in_a_loop_leaves_out_the_record_in_hand(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))
    with backend.consumer(name, group=name, auto_offset_reset="earliest", enable_auto_commit=False) as consumer:
        for record in consumer:
            consumer.commit()
            assert (consumer.committed(name, 0) or (None,))[0] == record.offset
            if record.offset == 4:
                break
        assert numbers(poll(consumer, 5)) == [5, 6, 7, 8, 9]


def test_members_share_the_partitions_and_take_over_from_who_leaves(backend: Backend, name: str) -> None:
    backend.create_topic(name, 4)
    options = {"group": name, "auto_offset_reset": "earliest", **BRISK}
    all_of_them = {TopicPartition(name, partition) for partition in range(4)}
    first, second, third = (backend.consumer(name, **options) for _ in range(3))
    poll_until(lambda: first.assignment() == all_of_them, first)

    def is_shared(*members: Any) -> bool:
        held = [partition for member in members for partition in member.assignment()]
        return sorted(held) == sorted(all_of_them) and all(member.assignment() for member in members)

    poll_until(lambda: is_shared(first, second), first, second)
    assert len(first.assignment()) == 2
    poll_until(lambda: is_shared(first, second, third), first, second, third)
    for partition in range(4):
        fill(backend, name, range(10 * partition, 10 * partition + 10), partition=partition)
    seen: list[int] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(seen) < 40:
        assert time.monotonic() < deadline
        for member in (first, second, third):
            seen += numbers(member.poll(0.05))
    assert sorted(seen) == list(range(40))
    first.close()
    second.close()
    poll_until(lambda: third.assignment() == all_of_them, third)
    fill(backend, name, range(40, 50))
    assert sorted(numbers(poll(third, 10))) == list(range(40, 50))
    third.close()


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_more_members_than_partitions_leave_some_idle(backend: Backend, name: str, strategy: str) -> None:
    backend.create_topic(name, 2)
    options = {"group": name, "partition_assignment_strategy": strategy, **BRISK}
    members = [backend.consumer(name, **options) for _ in range(3)]
    poll_until(lambda: sorted(len(member.assignment()) for member in members) == [0, 1, 1], *members)
    for member in members:
        member.close()


def test_a_cooperative_member_keeps_what_it_need_not_give(backend: Backend, name: str) -> None:
    backend.create_topic(name, 4)
    options = {"group": name, "partition_assignment_strategy": "cooperative-sticky", **BRISK}
    notes = Notes()
    with backend.consumer(**options) as first, backend.consumer(**options) as second:
        first.subscribe([name], listener=notes)
        poll_until(lambda: len(first.assignment()) == 4, first)
        second.subscribe([name])
        poll_until(lambda: len(first.assignment()) == 2 == len(second.assignment()), first, second)
        kept = first.assignment()
    assert notes.calls[0] == ("assigned", [(name, partition) for partition in range(4)])
    revoked = [call for call in notes.calls if call[0] == "revoked" and call[1]]
    given_up = sorted({TopicPartition(name, partition) for partition in range(4)} - kept)
    assert revoked[0] == ("revoked", given_up)


def test_a_listener_seeks_where_it_wants_to_begin(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))

    class Seeks(RebalanceListener):
        def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
            for partition in partitions:
                consumer.seek(*partition, 6)

    with backend.consumer(group=name, auto_offset_reset="earliest") as consumer:
        consumer.subscribe(name, listener=Seeks())
        assert numbers(poll(consumer, 4)) == [6, 7, 8, 9]


def test_a_listener_commits_what_is_revoked(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))

    class Commits(RebalanceListener):
        def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
            consumer.commit(dict.fromkeys(partitions, 3))

    options = {"group": name, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    with backend.consumer(**options) as consumer:
        consumer.subscribe(name, listener=Commits())
        poll(consumer, 10)
    with backend.consumer(name, **options) as consumer:
        assert numbers(poll(consumer, 7)) == list(range(3, 10))


def test_what_a_listener_raises_comes_out_of_the_poll(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(3))

    class Raises(RebalanceListener):
        def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
            raise ZeroDivisionError

    with backend.consumer(group=name, auto_offset_reset="earliest") as consumer:
        consumer.subscribe(name, listener=Raises())
        deadline = time.monotonic() + PATIENCE_S
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  # in whichever poll the partition comes
            while time.monotonic() < deadline:
                consumer.poll(0.5)
        assert numbers(poll(consumer, 3)) == [0, 1, 2]


def test_a_pattern_takes_topics_that_match_now_and_later(backend: Backend, name: str) -> None:
    for topic in (f"{name}.a", f"{name}.b1", f"x{name}.a"):
        backend.create_topic(topic)
    with backend.consumer(group=name, auto_offset_reset="earliest", **BRISK) as consumer:
        consumer.subscribe(pattern=rf"{name}\.[a-z]\d?")
        poll_until(lambda: consumer.assignment() == {(f"{name}.a", 0), (f"{name}.b1", 0)}, consumer)
        assert consumer.subscription() == {f"{name}.a", f"{name}.b1"}
        backend.create_topic(f"{name}.c2")
        poll_until(lambda: (f"{name}.c2", 0) in consumer.assignment(), consumer)
        fill(backend, f"{name}.c2", range(3))
        assert numbers(poll(consumer, 3)) == [0, 1, 2]


def test_a_topic_that_is_not_there_yet_is_waited_for(backend: Backend, name: str) -> None:
    with backend.consumer(name, group=name, auto_offset_reset="earliest", **BRISK) as consumer:
        assert consumer.poll(0.3) == []
        assert consumer.subscription() == {name}
        backend.create_topic(name)
        fill(backend, name, range(3))
        assert numbers(poll(consumer, 3)) == [0, 1, 2]


def test_new_partitions_are_handed_out(backend: Backend, name: str) -> None:
    backend.create_topic(name, 1)
    with backend.consumer(name, group=name, auto_offset_reset="earliest", **BRISK) as consumer:
        poll_until(lambda: len(consumer.assignment()) == 1, consumer)
        backend.alter_topic(name, partitions=3)
        poll_until(lambda: len(consumer.assignment()) == 3, consumer)


def test_who_unsubscribes_gives_its_partitions_up(backend: Backend, name: str) -> None:
    backend.create_topic(name, 2)
    options = {"group": name, **BRISK}
    notes = Notes()
    with backend.consumer(**options) as first, backend.consumer(name, **options) as second:
        first.subscribe(name, listener=notes)
        poll_until(lambda: len(first.assignment()) == 1 == len(second.assignment()), first, second)
        first.unsubscribe()
        assert first.assignment() == first.subscription() == frozenset()
        assert notes.calls[-1][0] == "revoked"
        poll_until(lambda: len(second.assignment()) == 2, second)
        first.assign([(name, 0)])
        assert first.assignment() == {(name, 0)}


def test_who_unsubscribes_has_committed_what_polls_returned(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(5))
    with backend.consumer(name, group=name, auto_offset_reset="earliest") as consumer:
        assert numbers(poll_some(consumer, 3)) == [0, 1, 2]
        consumer.unsubscribe()
        assert backend.groups.committed(name)[TopicPartition(name, 0)].offset == 3


def test_of_subscribing_and_assigning_the_last_one_holds(backend: Backend, name: str) -> None:
    backend.create_topic(name, 2)
    fill(backend, name, range(3), partition=1)
    with backend.consumer(name, group=name, auto_offset_reset="earliest", **BRISK) as consumer:
        consumer.assign([(name, 1)])
        assert (consumer.assignment(), consumer.subscription()) == ({(name, 1)}, frozenset())
        assert numbers(poll(consumer, 3)) == [0, 1, 2]
        consumer.subscribe(name)
        poll_until(lambda: len(consumer.assignment()) == 2, consumer)
        consumer.assign([(name, 0)])
        assert consumer.assignment() == {(name, 0)}


@pytest.mark.parametrize("wrong", [{"pattern": "("}, {"topics": "no spaces"}, {}, {"topics": "a", "pattern": "b"}])
def test_what_cannot_be_subscribed_to_is_refused(backend: Backend, name: str, wrong: dict[str, Any]) -> None:
    with backend.consumer(group=name) as consumer, pytest.raises(ValueError):
        consumer.subscribe(**wrong)


@pytest.mark.parametrize(
    "call",
    [
        lambda consumer, topic: consumer.commit([(topic, 0)]),
        lambda consumer, topic: consumer.commit({topic: 0}),
        lambda consumer, topic: consumer.commit({(topic, 0): "0"}),
        lambda consumer, topic: consumer.commit({(topic, 0): OffsetAndMetadata(0, 5)}),  # type: ignore[arg-type]
        lambda consumer, topic: consumer.offsets_for_times([(topic, 0)]),
        lambda consumer, topic: consumer.offsets_for_times({5: 0}),
        lambda consumer, _: consumer.assign(5),
        lambda consumer, topic: consumer.assign(topic),
        lambda consumer, _: consumer.assign([5]),
        lambda consumer, _: consumer.pause(5),
        lambda consumer, _: consumer.resume([5]),
        lambda consumer, _: consumer.seek_to_end(5),
        lambda consumer, _: consumer.end_offsets([5]),
        lambda consumer, _: consumer.beginning_offsets(5),
        lambda consumer, topic: consumer.committed(topic, "0"),
        lambda consumer, _: consumer.subscribe(pattern=re.compile(b"x")),
        lambda consumer, _: consumer.subscribe(pattern=b"x"),
        lambda consumer, _: consumer.subscribe(5),
    ],
)
def test_an_argument_of_the_wrong_form_is_refused_and_changes_nothing(
    backend: Backend, name: str, call: Callable[[Any, str], Any]
) -> None:
    backend.create_topic(name)
    with backend.consumer(group=name) as consumer:
        consumer.assign([(name, 0)])
        with pytest.raises(logstore.InvalidArgument):
            call(consumer, name)
        assert consumer.assignment() == {(name, 0)}
        assert consumer.paused() == frozenset()


@pytest.mark.parametrize("wrong", [5, [5], [("t", "0")], "t", [("t", 0, 1)]])
def test_what_names_no_partition_is_refused_of_a_group(backend: Backend, name: str, wrong: Any) -> None:
    for call in (backend.groups.committed, backend.groups.commit):
        with pytest.raises(logstore.InvalidArgument):
            call(name, wrong)


def test_what_cannot_be_assigned_is_refused(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    with backend.consumer() as consumer:
        with pytest.raises(logstore.UnknownTopic):
            consumer.assign([("no-such-topic", 0)])
        with pytest.raises(logstore.UnknownPartition):
            consumer.assign([(name, 1)])
        assert consumer.assignment() == frozenset()


def test_without_a_group_new_partitions_and_topics_are_read_from_their_beginning(backend: Backend, name: str) -> None:
    backend.create_topic(f"{name}.a")
    fill(backend, f"{name}.a", range(3))
    with backend.consumer(pattern=rf"{name}\..", auto_offset_reset="latest", metadata_max_age_ms=100) as consumer:
        poll_until(lambda: consumer.assignment() == {(f"{name}.a", 0)}, consumer)
        backend.alter_topic(f"{name}.a", partitions=2)
        backend.create_topic(f"{name}.b")
        fill(backend, f"{name}.a", range(10, 13), partition=1)
        fill(backend, f"{name}.b", range(20, 23))
        assert sorted(numbers(poll(consumer, 6))) == [10, 11, 12, 20, 21, 22]


def test_an_assigned_consumer_commits_for_its_group(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))
    with backend.consumer(group=name, auto_offset_reset="earliest") as consumer:
        consumer.assign([(name, 0)])
        assert numbers(poll_some(consumer, 6)) == list(range(6))
    assert backend.groups.committed(name)[TopicPartition(name, 0)].offset == 6
    with backend.consumer(group=name) as consumer:
        consumer.assign([(name, 0)])
        assert consumer.position(name, 0) == 6


# --------------------------------------------------------------------------------------------- groups, from the outside


def test_a_group_is_described(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    with backend.consumer(name, group=name, client_id="me", group_instance_id="one", **BRISK) as consumer:
        poll_until(lambda: len(consumer.assignment()) == 1, consumer)
        poll_until(lambda: backend.groups.describe(name).state == "Stable", consumer)
        found = backend.groups.describe(name)
        assert (found.group, found.protocol_type, found.protocol) == (name, "consumer", "range")
        (member,) = found.members
        assert (member.instance_id, member.client_id) == ("one", "me")
        assert decode_assignment(member.assignment).partitions == ((name, 0),)
        assert name in [group.group for group in backend.groups.groups()]
        with pytest.raises(logstore.GroupNotEmpty):
            backend.groups.delete(name)
    assert backend.groups.describe("no such group").state == "Dead"
    with pytest.raises(logstore.UnknownGroup):
        backend.groups.delete("no such group")
    assert backend.groups.committed("no such group") == {}


def test_offsets_of_a_group_without_members_are_set_and_deleted(backend: Backend, name: str) -> None:
    backend.create_topic(name, 2)
    fill(backend, name, range(10), partition=0)
    backend.groups.commit(
        name, {TopicPartition(name, 0): OffsetAndMetadata(4, "set"), TopicPartition(name, 1): OffsetAndMetadata(0)}
    )
    committed = backend.groups.committed(name)
    assert {partition: offset[:2] for partition, offset in committed.items()} == {
        (name, 0): (4, "set"),
        (name, 1): (0, ""),
    }
    assert set(backend.groups.committed(name, [(name, 0)])) == {(name, 0)}
    with backend.consumer(name, group=name, enable_auto_commit=False) as consumer:
        assert numbers(poll(consumer, 6)) == [4, 5, 6, 7, 8, 9]
    backend.groups.delete(name)
    assert backend.groups.committed(name) == {}


# -------------------------------------------------------------------------------------------------------------- topics


def test_topics_are_made_changed_listed_and_deleted(backend: Backend, name: str) -> None:
    made = backend.create_topic(name, 3, retention_ms=60_000, **{"max.message.bytes": "5000"})
    assert (made.name, made.partitions, made.config.retention_ms, made.config.max_message_bytes) == (
        name,
        3,
        60_000,
        5000,
    )
    with pytest.raises(logstore.TopicAlreadyExists):
        backend.create_topic(name)
    changed = backend.alter_topic(
        name, {"max.message.bytes": None, "cleanup_policy": ("compact", "delete")}, partitions=4
    )
    assert (changed.partitions, changed.config.max_message_bytes) == (4, 1_048_588)
    assert changed.topic_id == made.topic_id and set(changed.config.cleanup_policy) == {"compact", "delete"}
    assert backend.topic(name) == changed and changed in backend.topics()
    backend.delete_topic(name)
    assert name not in [topic.name for topic in backend.topics()]
    for call in (backend.topic, backend.delete_topic, backend.alter_topic):
        with pytest.raises(logstore.UnknownTopic):
            call(name)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": "no spaces"}, logstore.InvalidTopicName),
        ({"name": ".."}, logstore.InvalidTopicName),
        ({"partitions": 0}, logstore.InvalidArgument),
        ({"partitions": True}, logstore.InvalidArgument),
        ({"retention_ms": "long"}, logstore.InvalidSetting),
        ({"no_such_setting": 1}, logstore.InvalidSetting),
    ],
)
def test_a_topic_that_cannot_be_is_refused(
    backend: Backend, name: str, wrong: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        backend.create_topic(**{"name": name, "partitions": 1} | wrong)


def test_fewer_partitions_are_refused(backend: Backend, name: str) -> None:
    backend.create_topic(name, 3)
    with pytest.raises(logstore.InvalidArgument):
        backend.alter_topic(name, partitions=2)


def test_the_log_start_is_advanced_and_no_further_than_the_end(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    fill(backend, name, range(10))
    assert backend.advance_log_start(name, 0, 4) == 4
    assert backend.advance_log_start(name, 0, 2) == 4
    for wrong in (11, -1):
        with pytest.raises(logstore.OffsetOutOfRange):
            backend.advance_log_start(name, 0, wrong)
    with pytest.raises(logstore.UnknownPartition):
        backend.advance_log_start(name, 1, 0)
    with pytest.raises(logstore.InvalidArgument):
        backend.advance_log_start(name, 0, "4")


def test_without_a_group_there_is_nothing_to_commit(backend: Backend, name: str) -> None:
    backend.create_topic(name)
    with backend.consumer(name) as consumer:
        for call in (consumer.commit, lambda: consumer.commit({(name, 0): 0}), lambda: consumer.committed(name, 0)):
            with pytest.raises(logstore.InvalidArgument):
                call()


@pytest.mark.parametrize("wrong", ["", 5, "g" * 40_000])
def test_what_is_no_group_id_is_refused(backend: Backend, wrong: Any) -> None:
    with pytest.raises(logstore.InvalidGroupId):
        backend.consumer(group=wrong)
