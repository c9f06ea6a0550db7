"""What only a cluster has or does, against a real Kafka; what it shares with a directory is in test_both_backends."""

import itertools
import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import logstore
from kafka_cluster import kafka_address, kafka_node_in  # noqa: F401
from logstore import connect
from logstore.client.consumer import RebalanceListener
from logstore.format.filename import TopicPartition
from logstore.storage.durability import Durability

confluent_kafka = pytest.importorskip("confluent_kafka", reason="needs confluent-kafka: pip install 'logstore[kafka]'")

PATIENCE_S = 30.0
_numbers = itertools.count()
in_kafka = pytest.mark.kafka


@pytest.fixture
def cluster(kafka_address: str) -> Iterator[Any]:  # noqa: F811
    with connect(kafka_address) as opened:
        yield opened


@pytest.fixture
def name() -> str:
    return f"c{next(_numbers)}"


def fill(cluster: Any, topic: str, count: int) -> None:
    with cluster.producer() as producer:
        for number in range(count):
            producer.send(topic, b"%d" % number)


def values(consumer: Any, wanted: int) -> list[bytes]:
    found: list[bytes] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < wanted:
        assert time.monotonic() < deadline, found
        found += [record.value for record in consumer.poll(0.5)]
    return found


# --------------------------------------------------------------------------------------------------------- connecting


def test_an_address_where_nobody_listens_is_an_error_in_bounded_time() -> None:
    began = time.monotonic()
    with pytest.raises(logstore.TimedOut, match=r"127\.0\.0\.1:1.*refused"):
        connect("127.0.0.1:1", timeout=1.0)
    assert time.monotonic() - began < 10


def test_a_host_that_does_not_exist_is_an_error_at_once() -> None:
    with pytest.raises(logstore.ClusterFailure) as caught:
        connect("no-such-host.invalid:9092", timeout=60)
    assert caught.value.code == "_RESOLVE"


@pytest.mark.parametrize("wrong", ["", "kafka://", None, 9092, b"localhost:9092"])
def test_what_is_no_address_is_refused(wrong: Any) -> None:
    with pytest.raises(logstore.InvalidArgument):
        connect(wrong)


@pytest.mark.parametrize("wrong", [0, -1, "1", None, float("nan")])
def test_what_is_no_timeout_is_refused(wrong: Any) -> None:
    with pytest.raises(logstore.InvalidArgument):
        connect("127.0.0.1:1", timeout=wrong)


@pytest.mark.parametrize(
    ("settings", "name", "reason"),
    [
        ({"no_such_setting": 1}, "no.such.setting", "No such configuration property"),
        ({"security.protocol": "morse"}, "security.protocol", "Invalid value"),
        ({"bootstrap_servers": "x"}, "bootstrap_servers", "sets this itself"),
        ({"enable_auto_offset_store": True}, "enable_auto_offset_store", "sets this itself"),
        ({"socket_timeout_ms": 1000, "socket.timeout.ms": 1000}, "socket.timeout.ms", "twice"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_reason(settings: dict[str, Any], name: str, reason: str) -> None:
    with pytest.raises(logstore.InvalidSetting, match=reason) as caught:
        connect("127.0.0.1:1", timeout=1.0, **settings)
    assert caught.value.name == name


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.startswith("logstore.client.kafka.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(logstore.MissingExtra, match=r"logstore\[kafka\]") as caught:
        connect("127.0.0.1:1")
    assert isinstance(caught.value, ImportError)


def test_the_package_itself_does_not_import_confluent_kafka() -> None:
    code = "import sys, logstore, logstore.client.kafka.connecting; sys.exit('confluent_kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@in_kafka
def test_settings_are_given_with_dots_or_underscores_and_to_all_clients(kafka_address: str, name: str) -> None:  # noqa: F811
    settings: dict[str, Any] = {
        "socket.keepalive.enable": True,
        "linger_ms": 1,
        "auto_offset_reset": "earliest",
        "client_id": "us",
    }
    with connect(f"kafka://{kafka_address}", security_protocol="PLAINTEXT", **settings) as cluster:
        cluster.create_topic(name)
        fill(cluster, name, 3)
        with cluster.producer() as producer, cluster.consumer(name, group=name, statistics_interval_ms=0) as consumer:
            assert producer.config.linger_ms == 1
            assert len(values(consumer, 3)) == 3
            assert cluster.groups.describe(name).members[0].client_id == "us"


@in_kafka
def test_a_closed_cluster_has_closed_its_clients_and_says_so(kafka_address: str, name: str) -> None:  # noqa: F811
    cluster = connect(kafka_address)
    cluster.create_topic(name)
    producer, consumer = cluster.producer(linger_ms=60_000), cluster.consumer(name, group=name)
    future = producer.send(name, b"x")
    cluster.close()
    cluster.close()
    assert future.result(0).offset == 0
    calls: list[Callable[[], Any]] = [
        cluster.topics,
        cluster.producer,
        cluster.consumer,
        cluster.groups.groups,
        lambda: cluster.create_topic("x"),
        lambda: producer.send(name, b"x"),
        lambda: consumer.poll(0),
        producer.flush,
    ]
    for call in calls:
        with pytest.raises(logstore.Closed):
            call()


@in_kafka
def test_a_forked_child_is_refused_and_can_end(cluster: Any, name: str) -> None:
    cluster.create_topic(name)
    with cluster.producer() as producer, cluster.consumer(name) as consumer:
        producer.send(name, b"x").result(PATIENCE_S)

        def use(refused: Any) -> None:
            for call in (cluster.topics, lambda: producer.send(name, b"x"), lambda: consumer.poll(0)):
                try:
                    call()
                except logstore.ForkedProcess:
                    refused.put(True)
            consumer.close()
            producer.close()
            cluster.close()

        context = multiprocessing.get_context("fork")
        refused = context.SimpleQueue()
        child = context.Process(target=use, args=(refused,))
        child.start()
        child.join(PATIENCE_S)
        assert child.exitcode == 0
        assert [refused.get() for _ in range(3)] == [True] * 3
        assert producer.send(name, b"y").result(PATIENCE_S).offset == 1


# --------------------------------------------------------------------------------------------------------------- topics


@in_kafka
def test_all_settings_of_a_topic_are_told(cluster: Any, name: str) -> None:
    cluster.create_topic(name, replication_factor=1, min_insync_replicas=1, **{"segment.jitter.ms": 5})
    settings = cluster.topic_settings(name)
    assert (settings["min.insync.replicas"], settings["segment.jitter.ms"]) == ("1", "5")
    with pytest.raises(logstore.UnknownTopic):
        cluster.topic_settings("no-such-topic")


@in_kafka
def test_what_the_brokers_refuse_carries_their_reason(cluster: Any, name: str) -> None:
    with pytest.raises(logstore.ClusterFailure, match="replication factor") as caught:
        cluster.create_topic(name, replication_factor=3)
    assert (caught.value.code, caught.value.is_retriable) == ("INVALID_REPLICATION_FACTOR", False)
    with pytest.raises(logstore.InvalidSetting) as refused:
        cluster.create_topic(name, retention_ms=5, cleanup_policy="consumed", consumed_groups="g")
    assert refused.value.name == "consumed.groups"  # a setting of ours that Kafka does not have


# ------------------------------------------------------------------------------------------------------------ producing


@in_kafka
@pytest.mark.parametrize(
    ("acks", "durability"), [("all", Durability.REPLICATED), (-1, Durability.REPLICATED), (1, Durability.OS), (0, None)]
)
def test_a_receipt_says_what_the_cluster_promises(
    cluster: Any, name: str, acks: Any, durability: Durability | None
) -> None:
    cluster.create_topic(name)
    with cluster.producer(acks=acks) as producer:
        assert producer.send(name, b"x").result(PATIENCE_S).durability is durability


def test_no_directory_can_be_asked_for_replication(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        with pytest.raises(logstore.InvalidArgument, match="os, fsync"):
            store.log("t").append([b"x"], durability=Durability.REPLICATED)


@in_kafka
def test_a_full_buffer_is_an_error_after_max_block(cluster: Any, name: str) -> None:
    cluster.create_topic(name)
    with cluster.producer(buffer_memory=2048, linger_ms=60_000, max_block_ms=200) as producer:
        futures = [producer.send(name, bytes(900)) for _ in range(2)]
        began = time.monotonic()
        with pytest.raises(logstore.BufferFull) as caught:
            producer.send(name, bytes(900))
        assert 0.15 < time.monotonic() - began < 20 and caught.value.timeout_s == 0.2
        with pytest.raises(logstore.BufferFull):
            producer.send(name, bytes(900), block=False)
        producer.flush(PATIENCE_S)
        assert [future.result(0).offset for future in futures] == [0, 1]


@in_kafka
def test_who_waits_for_room_goes_on_once_there_is_some(cluster: Any, name: str) -> None:
    cluster.create_topic(name)
    with cluster.producer(buffer_memory=2048, linger_ms=0) as producer:
        futures = [producer.send(name, b"%03d" % number * 200) for number in range(50)]
        assert [future.result(PATIENCE_S).offset for future in futures] == list(range(50))


@in_kafka
def test_a_callback_may_send_and_close_the_producer(cluster: Any, name: str) -> None:
    cluster.create_topic(name)
    seen: list[Any] = []
    done = threading.Event()
    producer = cluster.producer()

    def on_delivery(receipt: Any, error: Any) -> None:
        seen.append(producer.send(name, b"second"))
        producer.close()
        done.set()

    producer.send(name, b"first", on_delivery=on_delivery)
    assert done.wait(PATIENCE_S)
    producer.close()
    assert seen[0].result(PATIENCE_S).offset == 1


@in_kafka
@pytest.mark.parametrize("settings", [{"acks": "all"}, {"acks": 1}, {"acks": 1, "enable_idempotence": False}])
def test_idempotence_is_on_where_it_can_be(cluster: Any, name: str, settings: dict[str, Any]) -> None:
    cluster.create_topic(name)
    with cluster.producer(**settings) as producer:
        assert producer.send(name, b"x").result(PATIENCE_S).offset == 0
    with pytest.raises(logstore.InvalidSetting):
        cluster.producer(acks=1, enable_idempotence=True)


@in_kafka
def test_a_record_for_a_topic_deleted_meanwhile_fails(cluster: Any, name: str) -> None:
    cluster.create_topic(name)
    with cluster.producer(delivery_timeout_ms=5_000) as producer:
        producer.send(name, b"x").result(PATIENCE_S)
        cluster.delete_topic(name)
        future = producer.send(name, b"x")
        with pytest.raises((logstore.UnknownTopic, logstore.TimedOut)):
            future.result(PATIENCE_S)


@in_kafka
def test_a_timestamp_that_librdkafka_cannot_send_is_refused(cluster: Any, name: str) -> None:
    cluster.create_topic(name)
    with cluster.producer() as producer, pytest.raises(logstore.InvalidTimestamp):
        producer.send(name, b"x", timestamp_ms=0)


# ------------------------------------------------------------------------------------------------------------ consuming


@in_kafka
def test_the_sticky_strategy_is_refused_with_the_remedy(cluster: Any) -> None:
    with pytest.raises(logstore.Unsupported, match="cooperative-sticky"):
        cluster.consumer(group="g", partition_assignment_strategy="range,sticky")


@in_kafka
def test_a_setting_that_librdkafka_refuses_is_named(cluster: Any) -> None:
    with pytest.raises(logstore.InvalidSetting) as caught:
        cluster.consumer(group="g", session_timeout_ms=400_000)
    assert caught.value.name == "max.poll.interval.ms"
    with pytest.raises(logstore.InvalidSetting, match="No such configuration property"):
        cluster.consumer(group="g", no_such_setting=1)
    with pytest.raises(logstore.InvalidSetting, match=r"did you mean linger\.ms"):
        cluster.producer(lingerms=5)


@in_kafka
def test_read_committed_leaves_aborted_transactions_out_and_reaches_the_end(
    cluster: Any,
    kafka_address: str,  # noqa: F811
    name: str,
) -> None:
    cluster.create_topic(name)
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka_address, "transactional.id": name})
    producer.init_transactions(PATIENCE_S)
    for value, is_committed in ((b"kept", True), (b"aborted", False), (b"kept too", True)):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.flush(PATIENCE_S)
        if is_committed:
            producer.commit_transaction(PATIENCE_S)
        else:
            producer.abort_transaction(PATIENCE_S)
    options = {"group": name, "auto_offset_reset": "earliest", "isolation_level": "read_committed"}
    with cluster.consumer(name, **options) as consumer:
        assert values(consumer, 2) == [b"kept", b"kept too"]
        deadline = time.monotonic() + PATIENCE_S
        while consumer.lag() != {(name, 0): 0}:  # the end is behind the last transaction's marker
            assert time.monotonic() < deadline
            assert consumer.poll(0.1) == []
        consumer.commit()
        assert consumer.committed(name, 0).offset == 6
    with cluster.consumer(name, auto_offset_reset="earliest") as consumer:
        assert values(consumer, 3) == [b"kept", b"aborted", b"kept too"]


@in_kafka
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_member_whose_offset_is_gone_goes_on_at_the_beginning(cluster: Any, name: str, strategy: str) -> None:
    cluster.create_topic(name, 2)
    with cluster.producer() as producer:
        for number in range(10):
            producer.send(name, b"%d" % number, partition=0)
    options = {"group": name, "auto_offset_reset": "earliest", "partition_assignment_strategy": strategy}
    with cluster.consumer(name, **options) as consumer:
        values(consumer, 10)
        consumer.seek(name, 0, 1_000)
        assert len(values(consumer, 10)) == 10
        cluster.advance_log_start(name, 0, 7)
        consumer.seek(name, 0, 2)
        assert values(consumer, 3) == [b"7", b"8", b"9"]
        assert consumer.assignment() == {(name, 0), (name, 1)}


@in_kafka
def test_an_offset_that_is_gone_is_told_where_there_is_no_reset(cluster: Any, name: str) -> None:
    cluster.create_topic(name)
    fill(cluster, name, 5)
    with cluster.consumer(group=name, auto_offset_reset="none") as consumer:
        consumer.assign([(name, 0)])
        consumer.seek(name, 0, 1_000)
        for _ in range(2):
            with pytest.raises(logstore.NoCommittedOffset):
                consumer.poll(PATIENCE_S)
        consumer.seek(name, 0, 3)
        assert values(consumer, 2) == [b"3", b"4"]


@in_kafka
@pytest.mark.slow
def test_a_member_that_does_not_poll_loses_its_partitions_and_is_told(cluster: Any, name: str) -> None:
    cluster.create_topic(name)
    lost: list[list[TopicPartition]] = []

    class Notes(RebalanceListener):
        def on_partitions_lost(self, partitions: list[TopicPartition]) -> None:
            lost.append(partitions)

    options = {
        "group": name,
        "max_poll_interval_ms": 6_000,
        "session_timeout_ms": 6_000,
        "auto_offset_reset": "earliest",
    }
    with cluster.consumer(**options) as consumer:
        consumer.subscribe(name, listener=Notes())
        deadline = time.monotonic() + PATIENCE_S
        while not consumer.assignment():
            assert time.monotonic() < deadline
            consumer.poll(0.1)
        time.sleep(8)  # librdkafka's clock cannot be set
        with pytest.raises(logstore.PollIntervalExceeded) as caught:  # noqa: PT012  # the one that hears of it
            for _ in range(20):
                consumer.poll(0.5)
        assert (caught.value.group, caught.value.max_poll_interval_ms) == (name, 6_000)
        fill(cluster, name, 3)
        assert len(values(consumer, 3)) == 3  # it has joined again
    assert lost == [[(name, 0)]]


@in_kafka
def test_what_was_committed_by_hand_is_not_taken_back_after_an_error(cluster: Any, name: str) -> None:
    cluster.create_topic(name)
    fill(cluster, name, 5)

    def fail() -> None:
        with cluster.consumer(name, group=name, auto_offset_reset="earliest") as consumer:
            values(consumer, 5)
            consumer.commit()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert cluster.groups.committed(name)[TopicPartition(name, 0)].offset == 5


@in_kafka
@pytest.mark.parametrize("method", ["take_in", "finish", "get_ready"])
def test_a_poll_that_is_interrupted_anywhere_costs_no_record(
    cluster: Any, name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.create_topic(name)
    fill(cluster, name, 10)
    with cluster.consumer(name, auto_offset_reset="earliest") as consumer:
        found = [consumer.poll(PATIENCE_S, max_records=1)[0].value]
        whole, calls = getattr(consumer._reading, method), itertools.count()

        def interrupted(*arguments: Any) -> Any:
            if next(calls) == 1:
                raise KeyboardInterrupt
            return whole(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(consumer._reading, method, interrupted)
            consumer.seek(name, 0, 1)
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # in whichever poll it comes
                while True:
                    found += [record.value for record in consumer.poll(0.5)]
        found += values(consumer, 10 - len(found))
        assert found == [b"%d" % number for number in range(10)]


@in_kafka
def test_a_consumer_that_cannot_begin_is_closed_again(cluster: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from logstore.client.kafka import consumer

    opened: list[Any] = []

    class Noted(confluent_kafka.Consumer):  # type: ignore[misc, name-defined]
        is_closed = False

        def __init__(self, settings: dict[str, Any]) -> None:
            super().__init__(settings)
            opened.append(self)

        def close(self) -> None:
            self.is_closed = True
            super().close()

    monkeypatch.setattr(consumer, "LibConsumer", Noted)
    cluster.create_topic(name)
    with pytest.raises(logstore.UnknownPartition):
        cluster.consumer(assignment=[(name, 7)])
    with pytest.raises(logstore.InvalidTopicName):
        cluster.consumer("no spaces", group=name)
    assert [client.is_closed for client in opened] == [True, True]


# ---------------------------------------------------------------------------------------------------- what is not there


@in_kafka
def test_deleting_a_group_fails_with_an_error_of_ours_whatever_librdkafka_raises(
    cluster: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._INVALID_ARG))

    monkeypatch.setattr(cluster._admin, "_client", _With(cluster._admin._client, delete_consumer_groups=refuse))
    with pytest.raises(logstore.ClusterFailure, match="delete group"):
        cluster.groups.delete(name)


class _With:
    """Another, but for some of its methods."""

    def __init__(self, other: object, **methods: Any) -> None:
        self._other = other
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._other, name)


@in_kafka
def test_what_a_cluster_cannot_do_is_refused_with_the_remedy(cluster: Any) -> None:
    with pytest.raises(logstore.Unsupported, match="consumer group"):
        cluster.queue("jobs")
    with pytest.raises(logstore.Unsupported, match="kafka-consumer-groups"):
        cluster.groups.delete_offsets("g", [("t", 0)])


@in_kafka
@pytest.mark.slow
def test_when_the_brokers_are_gone_everything_ends_in_time(tmp_path: Path, name: str) -> None:
    with kafka_node_in(tmp_path) as address:
        cluster = connect(address, timeout=PATIENCE_S)
        cluster.create_topic(name)
        # The session's time-out, which bounds a commit with librdkafka, is not waited for when one closes.
        options: dict[str, Any] = {"auto_offset_reset": "earliest", "session_timeout_ms": 300_000}
        producer = cluster.producer(delivery_timeout_ms=1_000, linger_ms=0)
        patient = cluster.producer()
        for each in (producer, patient):
            deliver(each, name)
        member = cluster.consumer(name, group=name, auto_commit_interval_ms=1, **options)
        by_hand = cluster.consumer(group=f"{name} by hand", assignment=[(name, 0)], **options)
        for consumer in (member, by_hand):
            assert len(values(consumer, 2)) == 2
    cluster._admin.timeout_s = 1.0  # so that a slow machine has all the time that it wants until here
    began = time.monotonic()
    with pytest.raises(logstore.TimedOut):
        producer.send(name, b"x").result(PATIENCE_S)
    waits = patient.send(name, b"x")
    with pytest.raises(logstore.TimedOut):
        patient.flush(0.1)
    patient.close(0.2)
    with pytest.raises(logstore.TimedOut):
        waits.result(0)
    assert member.poll(0.2) == []  # with a commit that is under way from here on
    for call in (cluster.topics, lambda: cluster.create_topic("t"), cluster.groups.groups, member.lag):
        with pytest.raises((logstore.TimedOut, logstore.ClusterFailure)):
            call()
    cluster.close()
    assert time.monotonic() - began < 60


def deliver(producer: Any, topic: str) -> None:
    """One record, with a producer that may give up too soon for a slow machine."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            producer.send(topic, b"x").result(PATIENCE_S)
            return
        except logstore.TimedOut:
            assert time.monotonic() < deadline
