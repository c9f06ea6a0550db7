"""A consumer that reads alone: what it is given, in which order, from where on, and how it waits."""

import contextlib
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import children
import logstore
from logstore.client.consumer import ConsumerRecord, RebalanceListener
from logstore.client.embedded.store import Store
from logstore.errors import (
    Closed,
    ConcurrentUse,
    DamagedLog,
    ForkedProcess,
    InvalidArgument,
    InvalidSetting,
    InvalidTopicName,
    NotAssigned,
    OffsetGap,
    OffsetOutOfRange,
    SerializationFailed,
    UnknownPartition,
    UnknownTopic,
)
from logstore.format.batch import CONTROL, TRANSACTIONAL, encode_batch
from logstore.format.control_record import encode_marker
from logstore.format.filename import TopicPartition
from logstore.storage.compaction import compact

LONG_S = 20.0  # what never takes that long


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path / "data") as opened:
        opened.create_topic("orders", partitions=3)
        opened.create_topic("log")
        yield opened


def values(records: list[ConsumerRecord]) -> list[Any]:
    return [record.value for record in records]


def fill(store: Store, topic: str, partition: int, count: int, prefix: bytes = b"") -> None:
    store.log(topic, partition).append([prefix + b"%d" % number for number in range(count)])


def later(action: Callable[[], Any], after_s: float = 0.1) -> threading.Timer:
    timer = threading.Timer(after_s, action)
    timer.start()
    return timer


# ------------------------------------------------------------------------------------------------------------- reading


def test_a_record_says_where_it_is_and_what_it_carries(store: Store) -> None:
    store.log("orders", 2).append([b"v", None], keys=[b"k", None], headers=[(("a", b"1"),), ()], timestamps_ms=1234)
    with store.consumer("orders", auto_offset_reset="earliest") as consumer:
        assert consumer.poll(LONG_S) == [
            ConsumerRecord("orders", 2, 0, 1234, b"k", b"v", (("a", b"1"),)),
            ConsumerRecord("orders", 2, 1, 1234, None, None, ()),
        ]


def test_without_a_group_all_partitions_are_read_each_in_its_order(store: Store) -> None:
    for partition in range(3):
        for _ in range(10):
            fill(store, "orders", partition, 100)
    with store.consumer("orders", auto_offset_reset="earliest", max_poll_records=70) as consumer:
        records: list[ConsumerRecord] = []
        while len(records) < 3000:
            polled = consumer.poll(LONG_S)
            assert 0 < len(polled) <= 70
            records += polled
        assert consumer.poll(0) == []
    for partition in range(3):
        assert [r.offset for r in records if r.partition == partition] == list(range(1000))


def test_a_poll_returns_no_more_than_it_is_asked_for(store: Store) -> None:
    fill(store, "log", 0, 50)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        assert len(consumer.poll(LONG_S, max_records=1)) == 1
        assert [record.offset for record in consumer.poll(LONG_S, max_records=48)] == list(range(1, 49))
        assert len(consumer.poll(LONG_S)) == 1


def test_a_poll_ends_once_it_has_taken_fetch_max_bytes(store: Store) -> None:
    for _ in range(20):
        store.log("log").append([bytes(1000)])
    with store.consumer("log", auto_offset_reset="earliest", fetch_max_bytes=5000) as consumer:
        assert 4 <= len(consumer.poll(LONG_S)) <= 6


def test_partitions_take_turns_after_max_partition_fetch_bytes(store: Store) -> None:
    for partition in range(3):
        for number in range(20):
            store.log("orders", partition).append([b"%04d" % number * 250])
    with store.consumer("orders", auto_offset_reset="earliest", max_partition_fetch_bytes=3000) as consumer:
        records = consumer.poll(LONG_S)
    assert len(records) == 60
    turns = [record.partition for record in records[::3]]
    assert turns[:6] == [0, 1, 2, 0, 1, 2]


def test_a_poll_without_records_ends_at_its_time_out(store: Store) -> None:
    with store.consumer("log") as consumer:
        start_s = time.monotonic()
        assert consumer.poll(0.05) == []
        assert time.monotonic() - start_s >= 0.05
        assert consumer.poll(0) == []


def test_a_poll_that_waits_is_woken_by_an_append_to_any_of_its_partitions(store: Store) -> None:
    with store.consumer("orders") as consumer:
        for partition in (1, 0, 2, 1):
            timer = later(lambda partition=partition: fill(store, "orders", partition, 1))
            assert [record.partition for record in consumer.poll(LONG_S)] == [partition]
            timer.join()


def test_a_wait_does_not_look_again_and_again(store: Store) -> None:
    with store.consumer("orders") as consumer:
        consumer.poll(0)
        start_s = time.thread_time()
        consumer.poll(0.5)
        assert time.thread_time() - start_s < 0.05


def test_latest_is_where_the_log_ended_when_the_consumer_was_made(store: Store) -> None:
    fill(store, "log", 0, 5, b"old")
    with store.consumer("log") as consumer:
        fill(store, "log", 0, 1, b"new")
        assert values(consumer.poll(LONG_S)) == [b"new0"]


def test_records_of_new_partitions_are_read_from_the_first_on(store: Store) -> None:
    with store.consumer("log") as consumer:
        assert consumer.assignment() == {("log", 0)}
        store.alter_topic("log", partitions=3)
        fill(store, "log", 2, 2)
        assert values(consumer.poll(LONG_S)) == [b"0", b"1"]
        assert consumer.assignment() == {("log", 0), ("log", 1), ("log", 2)}


def test_a_topic_that_does_not_exist_is_waited_for(store: Store) -> None:
    def create() -> None:
        store.create_topic("future")
        fill(store, "future", 0, 1)

    with store.consumer("future") as consumer:
        assert consumer.poll(0) == []
        timer = later(create)
        assert values(consumer.poll(LONG_S)) == [b"0"]
        timer.join()


def test_a_pattern_stands_for_all_topics_whose_whole_name_matches_and_those_to_come(store: Store) -> None:
    store.create_topic("orders-eu")
    store.create_topic("__orders")
    with store.consumer(pattern="_*orders(-..)?") as consumer:
        assert consumer.subscription() == {"orders", "orders-eu"}
        store.create_topic("orders-us")
        store.create_topic("orders-old")
        fill(store, "orders-us", 0, 1)
        assert [record.topic for record in consumer.poll(LONG_S)] == ["orders-us"]
        assert consumer.subscription() == {"orders", "orders-eu", "orders-us"}


def test_a_topic_that_is_deleted_and_made_again_is_read_anew(store: Store) -> None:
    lost: list[TopicPartition] = []

    class Listener(RebalanceListener):
        def on_partitions_lost(self, partitions: list[TopicPartition]) -> None:
            lost.extend(partitions)

    fill(store, "log", 0, 3, b"old")
    with store.consumer("log", "orders", auto_offset_reset="earliest", listener=Listener()) as consumer:
        assert len(consumer.poll(LONG_S, max_records=2)) == 2
        store.delete_topic("log")
        assert consumer.poll(0) == []
        assert lost == [("log", 0)]
        assert consumer.assignment() == {("orders", 0), ("orders", 1), ("orders", 2)}
        store.create_topic("log")
        fill(store, "log", 0, 1, b"new")
        assert values(consumer.poll(LONG_S)) == [b"new0"]


def test_a_topic_assigned_by_hand_that_is_deleted_is_told_once(store: Store) -> None:
    with store.consumer(assignment=[("log", 0), ("orders", 0)]) as consumer:
        consumer.poll(0)
        timer = later(lambda: store.delete_topic("log"))
        with pytest.raises(UnknownTopic, match="log"):
            consumer.poll(LONG_S)
        timer.join()
        assert consumer.assignment() == {("orders", 0)}
        fill(store, "orders", 0, 1)
        assert values(consumer.poll(LONG_S)) == [b"0"]


def test_records_that_retention_takes_away_under_a_slow_consumer_lead_to_the_first_that_are_left(store: Store) -> None:
    for _ in range(4):
        fill(store, "log", 0, 100)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        assert len(consumer.poll(LONG_S, max_records=100)) == 100
        store.advance_log_start("log", 0, 300)
        assert [record.offset for record in consumer.poll(LONG_S)] == list(range(300, 400))


def test_reading_goes_on_when_segments_roll_and_compaction_replaces_them(store: Store) -> None:
    store.create_topic("compacted", cleanup_policy="compact")
    log = store.log("compacted")
    with store.consumer("compacted", auto_offset_reset="earliest") as consumer:
        seen = []
        for number in range(4):
            log.append([b"%d" % number] * 30, keys=[b"k%d" % key for key in range(30)])
            seen += consumer.poll(LONG_S, max_records=10)
            log.roll()
        compact(log, 0, 1 << 20)
        while records := consumer.poll(0):
            seen += records
        assert consumer.position("compacted", 0) == 120
    offsets = [record.offset for record in seen]
    assert offsets == [*range(60), *range(90, 120)], "what was decoded before, and what compaction left"


# ----------------------------------------------------------------------------------------------------------- positions


def test_assign_reads_just_these_partitions(store: Store) -> None:
    for partition in range(3):
        fill(store, "orders", partition, 1)
    with store.consumer(auto_offset_reset="earliest") as consumer:
        assert consumer.assignment() == frozenset()
        consumer.assign([("orders", 1)])
        assert [record.partition for record in consumer.poll(LONG_S)] == [1]
        consumer.assign([("orders", 1), ("orders", 2)])
        assert [record.partition for record in consumer.poll(LONG_S)] == [2], "what stays keeps its position"
        consumer.unsubscribe()
        assert consumer.assignment() == frozenset()


def test_seek_takes_effect_at_once_also_on_what_was_read_ahead(store: Store) -> None:
    fill(store, "log", 0, 100)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        consumer.poll(LONG_S, max_records=10)
        consumer.seek("log", 0, 90)
        assert consumer.position("log", 0) == 90
        assert consumer.poll(LONG_S)[0].offset == 90
        consumer.seek_to_beginning()
        assert consumer.poll(LONG_S)[0].offset == 0
        consumer.seek_to_end([("log", 0)])
        assert consumer.poll(0) == []
        consumer.seek("log", 0, 5)
        assert consumer.poll(LONG_S)[0].offset == 5


def test_seek_to_time_goes_to_the_first_record_that_is_not_older(store: Store) -> None:
    store.log("log").append([b"a", b"b", b"c"], timestamps_ms=[1000, 2000, 3000])
    with store.consumer("log") as consumer:
        consumer.seek_to_time(1500)
        assert values(consumer.poll(LONG_S)) == [b"b", b"c"]
        consumer.seek_to_time(9000)
        assert consumer.position("log", 0) == 3
        assert consumer.offsets_for_times({("log", 0): 3000, ("orders", 1): 0}) == {("log", 0): 2, ("orders", 1): None}


def test_positions_ends_and_lag_are_told(store: Store) -> None:
    fill(store, "log", 0, 10)
    store.advance_log_start("log", 0, 2)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        assert consumer.lag() == {("log", 0): 8}
        consumer.poll(LONG_S, max_records=3)
        assert consumer.position("log", 0) == 5
        assert consumer.lag() == {("log", 0): 5}
        assert consumer.beginning_offsets([("log", 0)]) == {("log", 0): 2}
        assert consumer.end_offsets([("log", 0), ("orders", 1)]) == {("log", 0): 10, ("orders", 1): 0}


def test_a_position_beyond_the_log_is_reset(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    fill(store, "log", 0, 3)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        consumer.seek("log", 0, 1000)
        assert consumer.poll(LONG_S)[0].offset == 0
        assert "offset 1000 is out of range" in caplog.text
    with store.consumer("log", auto_offset_reset="none") as consumer:
        consumer.seek("log", 0, 1000)
        for _ in range(2):
            with pytest.raises(OffsetOutOfRange):
                consumer.poll(0)
        consumer.seek("log", 0, 2)
        assert len(consumer.poll(LONG_S)) == 1


def test_paused_partitions_return_nothing_and_go_on_where_they_were(store: Store) -> None:
    fill(store, "orders", 0, 10)
    fill(store, "orders", 1, 10)
    with store.consumer("orders", auto_offset_reset="earliest") as consumer:
        assert len(consumer.poll(LONG_S, max_records=5)) == 5
        consumer.pause([("orders", 0)])
        assert consumer.paused() == {("orders", 0)}
        assert {record.partition for record in consumer.poll(LONG_S)} == {1}
        fill(store, "orders", 0, 1)
        assert consumer.poll(0.05) == []
        consumer.resume()
        assert [record.offset for record in consumer.poll(LONG_S)] == list(range(5, 11))


def test_partitions_that_are_not_assigned_are_refused(store: Store) -> None:
    with store.consumer("log") as consumer:
        for call in (
            lambda: consumer.seek("orders", 0, 0),
            lambda: consumer.position("orders", 0),
            lambda: consumer.pause([("orders", 1)]),
            lambda: consumer.resume([("log", 1)]),
            lambda: consumer.seek_to_end([("log", 5)]),
            lambda: consumer.seek_to_time(5, [("log", 5)]),
        ):
            with pytest.raises(NotAssigned):
                call()


# ----------------------------------------------------------------------------------------------------------- iteration


def test_iteration_gives_all_records_and_waits_for_more_until_wakeup(store: Store) -> None:
    fill(store, "log", 0, 3)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        found = []
        for record in consumer:
            found.append(record.value)
            if len(found) == 3:
                timers = [later(lambda: fill(store, "log", 0, 1, b"more")), later(consumer.wakeup, 0.4)]
        assert found == [b"0", b"1", b"2", b"more0"]
        for timer in timers:
            timer.join()


def test_a_record_of_an_iteration_is_consumed_when_the_next_is_asked_for(store: Store) -> None:
    fill(store, "log", 0, 10)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        for record in consumer:
            assert consumer.position("log", 0) == record.offset
            assert consumer.lag() == {("log", 0): 10 - record.offset}
            if record.offset == 4:
                break
        assert consumer.position("log", 0) == 4
        assert consumer.poll(LONG_S, max_records=1)[0].offset == 5
        assert next(iter(consumer)).offset == 6


def test_seek_and_pause_in_the_body_of_an_iteration_take_effect_at_the_next_record(store: Store) -> None:
    fill(store, "orders", 0, 5)
    fill(store, "orders", 1, 5)
    seen = []
    with store.consumer("orders", auto_offset_reset="earliest") as consumer:
        for record in consumer:
            seen.append((record.partition, record.offset))
            match seen[-1]:
                case (0, 1):
                    consumer.seek("orders", 0, 3)
                case (0, 3):
                    consumer.pause([("orders", 0)])
                case (1, 4):
                    consumer.resume()
                case (0, 4):
                    break
    assert seen == [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (0, 4)]


def test_iteration_ends_when_the_consumer_is_closed(store: Store) -> None:
    fill(store, "log", 0, 3)
    consumer = store.consumer("log", auto_offset_reset="earliest")
    timer = later(consumer.close, 0.2)
    assert [record.offset for record in consumer] == [0, 1, 2]
    timer.join()
    with pytest.raises(Closed):
        iter(consumer)


# ------------------------------------------------------------------------------------------------------ what goes wrong


def test_a_deserializer_that_raises_leaves_its_record_the_next_one(store: Store) -> None:
    store.log("log").append([b"1", b"2", b"x", None, b"5"], keys=[b"k"] * 5)
    with store.consumer(
        "log", auto_offset_reset="earliest", value_deserializer=int, key_deserializer=bytes.decode
    ) as consumer:
        assert [(record.key, record.value) for record in consumer.poll(LONG_S)] == [("k", 1), ("k", 2)]
        for _ in range(2):
            with pytest.raises(SerializationFailed, match="log-0 at offset 2: the value deserializer") as failure:
                consumer.poll(LONG_S)
            assert failure.value.offset == 2
            assert isinstance(failure.value.__cause__, ValueError)
        consumer.seek("log", 0, 3)
        assert values(consumer.poll(LONG_S)) == [None, 5]


def test_a_deserializer_that_raises_in_an_iteration_leaves_its_record_the_next_one(store: Store) -> None:
    store.log("log").append([b"1", b"x", b"3"])
    seen = []
    with store.consumer("log", auto_offset_reset="earliest", value_deserializer=int) as consumer:
        with pytest.raises(SerializationFailed):
            seen.extend(record.value for record in consumer)
        assert consumer.position("log", 0) == 1
        with pytest.raises(SerializationFailed):
            next(iter(consumer))
        consumer.seek("log", 0, 2)
        assert next(iter(consumer)).value == 3


def test_damage_is_told_once_and_reading_goes_on_behind_it(store: Store) -> None:
    log = store.log("log")
    for number in range(5):
        log.append([b"%d" % number * 50] * 3)
    path = log.directory / "00000000000000000000.log"
    data = bytearray(path.read_bytes())
    data[2 * len(data) // 5 + 100] ^= 1
    path.write_bytes(data)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        assert [record.offset for record in consumer.poll(LONG_S)] == list(range(6))
        with pytest.raises(DamagedLog) as damage:
            consumer.poll(LONG_S)
        assert damage.value.next_offset == 9
        assert [record.offset for record in consumer.poll(LONG_S)] == list(range(9, 15))


def test_a_gap_is_told_once_and_reading_goes_on_behind_it(store: Store) -> None:
    log = store.log("log")
    for _ in range(5):
        log.append([b"x"] * 3)
    log._gaps = ((3, 5),)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        consumer.seek("log", 0, 3)
        with pytest.raises(OffsetGap):
            consumer.poll(LONG_S)
        assert consumer.poll(LONG_S)[0].offset == 6


def test_one_thread_at_a_time_may_use_it(store: Store) -> None:
    with store.consumer("log") as consumer:
        polling = threading.Thread(target=lambda: polled.append(consumer.poll(LONG_S)))
        polled: list[list[ConsumerRecord]] = []
        polling.start()
        while not consumer._turn:
            time.sleep(0.001)
        for call in (lambda: consumer.poll(0), consumer.assignment, consumer.lag, consumer.commit):
            with pytest.raises(ConcurrentUse):
                call()
        consumer.wakeup()
        polling.join()
        assert polled == [[]]
        assert consumer.poll(0) == [], "now it is free again"


def test_a_store_is_closed_in_good_order_while_other_threads_open_clients(tmp_path: Path) -> None:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(5):
            store = logstore.open(tmp_path / f"data{number}")
            many = [store.consumer() for _ in range(1000)]  # so that to go through them takes its time
            started = threading.Barrier(3)
            threads = [threading.Thread(target=open_clients, args=(store, started)) for _ in range(2)]
            for thread in threads:
                thread.start()
            started.wait()
            store.close()
            for thread in threads:
                thread.join()
            for consumer in many:
                with pytest.raises(Closed):
                    consumer.assignment()
    finally:
        sys.setswitchinterval(before_s)


def open_clients(store: Store, started: threading.Barrier) -> None:
    """Until the store is closed."""
    clients = []
    started.wait()
    with contextlib.suppress(Closed):
        while True:
            clients.append(store.consumer())


def test_a_timeout_of_any_size_is_waited_for(store: Store) -> None:
    fill(store, "log", 0, 1)
    with store.consumer(assignment=[("log", 0)], auto_offset_reset="earliest") as consumer:
        for timeout in (10**400, float("inf"), 2**63):
            consumer.seek("log", 0, 0)
            assert len(consumer.poll(timeout)) == 1


def test_ctrl_c_at_any_time_leaves_it_free_for_other_threads(store: Store) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def use() -> None:
        try:
            outcomes.append(consumer.assignment())
        except ConcurrentUse as error:
            outcomes.append(error)

    rounds = 150
    outcomes: list[object] = []
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with store.consumer("log") as consumer:
            for number in range(rounds):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 + number * 3e-6)
                    while True:
                        consumer.poll(0 if number % 3 else 0.0005)
                except KeyboardInterrupt:
                    pass
                other = threading.Thread(target=use)
                other.start()
                other.join()
            assert outcomes == [{("log", 0)}] * rounds
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_consumer_that_nobody_has_any_more_is_let_go_of_at_once(store: Store) -> None:
    for group in (None, "g"):
        consumer = store.consumer("orders", group=group)
        consumer.poll(0.01)
        reference = weakref.ref(consumer)
        listener_count = len(store._data_dir.topic_listeners)
        del consumer
        assert reference() is None
        assert len(store._data_dir.topic_listeners) == listener_count - 1


def test_wakeup_before_a_poll_ends_that_poll_and_only_that(store: Store) -> None:
    fill(store, "log", 0, 1)
    with store.consumer("log", auto_offset_reset="earliest") as consumer:
        consumer.wakeup()
        assert consumer.poll(LONG_S) == []
        assert len(consumer.poll(LONG_S)) == 1


def test_close_from_another_thread_ends_a_poll_with_closed(store: Store) -> None:
    consumer = store.consumer("log")
    timer = later(consumer.close)
    with pytest.raises(Closed, match="consumer is closed"):
        consumer.poll(LONG_S)
    timer.join()
    for call in (lambda: consumer.poll(0), consumer.assignment, lambda: consumer.subscribe("log")):
        with pytest.raises(Closed):
            call()
    consumer.close()


def test_closing_the_store_ends_all_polls_with_closed(tmp_path: Path) -> None:
    store = logstore.open(tmp_path / "data")
    store.create_topic("log")
    consumers = [store.consumer("log"), store.consumer("log", group="g"), store.consumer("log", group="g")]
    ended = []

    def poll(consumer: Any) -> None:
        try:
            consumer.poll(LONG_S)
        except Closed as error:
            ended.append(error)

    threads = [threading.Thread(target=poll, args=(consumer,)) for consumer in consumers]
    for thread in threads:
        thread.start()
    while not all(consumer._turn for consumer in consumers):
        time.sleep(0.001)
    store.close()
    for thread in threads:
        thread.join()
    assert len(ended) == 3
    with pytest.raises(Closed):
        store.consumer("log")


def test_a_child_process_cannot_use_its_parents_consumer(store: Store) -> None:
    consumer = store.consumer("log", group="g")
    consumer.poll(0)

    def child() -> None:
        for call in (lambda: consumer.poll(0), consumer.assignment):
            with pytest.raises(ForkedProcess):
                call()
        consumer.close()

    assert children.wait(children.fork(child)) == 0
    fill(store, "log", 0, 1)
    consumer.close()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"pattern": "("}, InvalidArgument),
        ({"pattern": b"x"}, InvalidArgument),
        ({"assignment": [("log", 7)]}, UnknownPartition),
        ({"assignment": [("none", 0)]}, UnknownTopic),
        ({"assignment": [("log",)]}, InvalidArgument),
        ({"assignment": [("log", "0")]}, InvalidArgument),
        ({"assignment": 5}, InvalidArgument),
        ({"assignment": [("log", 0)], "pattern": "x"}, InvalidArgument),
        ({"max_poll_records": 0}, InvalidSetting),
        ({"auto_offset_rest": "latest"}, InvalidSetting),
        ({"group": ""}, logstore.LogstoreError),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(
    store: Store, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.consumer(**arguments)


def test_wrong_arguments_are_refused(store: Store) -> None:
    with pytest.raises(InvalidTopicName):
        store.consumer("no/topic")
    with store.consumer("log") as consumer:
        for call in (
            lambda: consumer.poll("1"),
            lambda: consumer.poll(float("nan")),
            lambda: consumer.poll(0, max_records=0),
            lambda: consumer.seek("log", 0, -1),
            lambda: consumer.seek("log", 0, "1"),
            lambda: consumer.seek(["log"], 0, 1),
            lambda: consumer.offsets_for_times([("log", 0)]),
            lambda: consumer.commit([("log", 0)]),
            lambda: consumer.subscribe(),
            lambda: consumer.subscribe("log", pattern="log"),
            lambda: consumer.commit(),
            lambda: consumer.committed("log", 0),
        ):
            with pytest.raises(InvalidArgument):
                call()


# -------------------------------------------------------------------------------------------------------- transactions


def transactional(values: list[bytes], producer_id: int, sequence: int) -> bytes:
    return encode_batch(
        values,
        timestamps_ms=1,
        attributes=TRANSACTIONAL,
        producer_id=producer_id,
        producer_epoch=0,
        base_sequence=sequence,
    )


def marker(producer_id: int, is_commit: bool) -> bytes:
    key, value = encode_marker(int(is_commit), 0)
    return encode_batch(
        [value],
        keys=[key],
        timestamps_ms=1,
        attributes=TRANSACTIONAL | CONTROL,
        producer_id=producer_id,
        producer_epoch=0,
    )


def test_read_committed_gives_what_was_committed_and_waits_for_what_is_undecided(store: Store) -> None:
    store.log("log").append_batches(
        transactional([b"a1", b"a2"], 7, 0) + transactional([b"b1"], 8, 0) + marker(7, is_commit=True)
    )
    store.log("log").append([b"plain"])
    with (
        store.consumer("log", auto_offset_reset="earliest") as everything,
        store.consumer("log", auto_offset_reset="earliest", isolation_level="read_committed") as committed,
    ):
        assert values(everything.poll(LONG_S)) == [b"a1", b"a2", b"b1", b"plain"]
        assert values(committed.poll(LONG_S)) == [b"a1", b"a2"]
        assert committed.end_offsets([("log", 0)]) == {("log", 0): 2}
        assert everything.end_offsets([("log", 0)]) == {("log", 0): 5}
        timer = later(lambda: store.log("log").append_batches(marker(8, is_commit=False)))
        assert values(committed.poll(LONG_S)) == [b"plain"]
        timer.join()
        assert committed.poll(0) == []
        assert committed.lag() == {("log", 0): 0}
