"""The server begins, and comes to its end in order."""

import asyncio
import threading
from pathlib import Path
from threading import Event

import pytest

from logstore.broker.broker import Broker
from logstore.broker.running import RunningBroker
from logstore.config import BrokerConfig, StoreConfig
from logstore.format.batch import encode_batch
from logstore.storage import files
from logstore.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from logstore.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logstore.wire.messages.metadata import MetadataRequest
from logstore.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from loop_broker import LoopBroker, is_closed
from waits import hold, wait_until


def start(path: Path, **settings: object) -> tuple[RunningBroker, LoopBroker]:
    config = BrokerConfig.parse({"listeners": ("PLAINTEXT://127.0.0.1:0",)} | settings)
    running = RunningBroker(path, config, StoreConfig())
    running.start()
    broker = LoopBroker(running)
    broker.store.create_topic("t")
    return running, broker


def produce(acks: int) -> ProduceRequest:
    data = PartitionProduceData(index=0, records=encode_batch([b"a"], timestamps_ms=1))
    return ProduceRequest(acks=acks, topic_data=[TopicProduceData(name="t", partition_data=[data])])


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    for count in range(3):
        running, broker = start(tmp_path / str(count))
        cluster_id = broker.ask(MetadataRequest(topics=[]), 12).cluster_id
        running.stop()
        running.start()
        assert LoopBroker(running).ask(MetadataRequest(topics=[]), 12).cluster_id == cluster_id
        running.stop()


def test_a_fetch_that_waits_is_answered_when_it_stops(tmp_path: Path) -> None:
    running, broker = start(tmp_path)
    partition = FetchPartition(partition=0, partition_max_bytes=100)
    request = FetchRequest(max_wait_ms=60_000, min_bytes=1, topics=[FetchTopic(topic="t", partitions=[partition])])
    with broker.client() as client:
        client.send(request, 12)
        wait_until(lambda: broker.broker.delayed_fetches)
        running.stop()
        assert client.receive().responses[0].partitions[0].error_code == 0


def test_a_batch_that_waits_for_the_disk_is_acknowledged_before_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, broker = start(tmp_path)
    is_syncing, may_sync = Event(), Event()
    sync = files.File.sync

    def slow_sync(file: files.File) -> None:
        is_syncing.set()
        hold(may_sync)
        sync(file)

    monkeypatch.setattr(files.File, "sync", slow_sync)
    with broker.client() as client:
        client.send(produce(-1), 9)
        assert is_syncing.wait(30)
        stopping = threading.Thread(target=running.stop)
        stopping.start()
        wait_until(lambda: not _listens(broker))
        may_sync.set()
        assert client.receive().responses[0].partition_responses[0].error_code == 0
        stopping.join(30)


def _listens(broker: LoopBroker) -> bool:
    try:
        broker.connect().close()
    except ConnectionError:
        return False
    return True


def test_connections_without_a_request_are_closed_when_it_stops(tmp_path: Path) -> None:
    running, broker = start(tmp_path)
    with broker.connect() as silent, broker.client() as served_once:
        served_once.ask(MetadataRequest(topics=[]), 12)
        running.stop()
        assert is_closed(silent)


def test_what_does_not_come_to_an_end_in_time_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, broker = start(tmp_path, shutdown_timeout_ms=100)
    may_sync = Event()
    sync = files.File.sync

    def slow_sync(file: files.File) -> None:
        hold(may_sync)
        sync(file)

    monkeypatch.setattr(files.File, "sync", slow_sync)
    with broker.connect() as peer:
        with broker.client() as client:
            client.send(produce(-1), 9)
            stopping = threading.Thread(target=running.stop)
            stopping.start()
            assert is_closed(peer)
            with pytest.raises((AssertionError, ConnectionError)):
                client.receive()
            may_sync.set()
            stopping.join(30)
            assert not stopping.is_alive()


def test_of_many_topics_to_be_made_those_that_are_not_begun_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, broker = start(tmp_path, shutdown_timeout_ms=1)
    create, is_making, made = broker.store.create_topic, Event(), []

    def slow(name: str, *arguments: object, **named: object) -> object:
        is_making.set()
        wait_until(lambda: broker.broker.is_stopping)
        made.append(name)
        return create(name, *arguments, **named)

    monkeypatch.setattr(broker.store, "create_topic", slow)
    topics = [CreatableTopic(name=f"new-{n}", num_partitions=1, replication_factor=1) for n in range(10)]
    with broker.client() as client:
        client.send(CreateTopicsRequest(topics=topics), 7)
        assert is_making.wait(30)
        running.stop()
    assert made == ["new-0"]


def test_without_descriptors_new_connections_wait_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    from logstore.broker import server

    running, broker = start(tmp_path)
    accept, failures = socket.socket.accept, [OSError(1, "Not permitted"), OSError(24, "Too many open files")]

    def failing_accept(listening: socket.socket) -> object:
        if failures:
            raise failures.pop()
        return accept(listening)

    monkeypatch.setattr(server, "_PAUSE_S", 0.01)
    with broker.client() as client:
        client.ask(MetadataRequest(topics=[]), 12)
        monkeypatch.setattr(socket.socket, "accept", failing_accept)
        assert broker.ask(MetadataRequest(topics=[]), 12).topics == ()
        assert not failures
        client.ask(MetadataRequest(topics=[]), 12)
    running.stop()


def test_clients_are_told_the_address_that_the_settings_give(tmp_path: Path) -> None:
    running, broker = start(tmp_path, advertised_listeners=("PLAINTEXT://somewhere:4711",), node_id=7)
    [node] = broker.ask(MetadataRequest(topics=[]), 12).brokers
    assert (node.node_id, node.host, node.port) == (7, "somewhere", 4711)
    running.stop()


def test_a_port_that_is_taken_is_an_error_of_the_system(tmp_path: Path) -> None:
    from logstore.broker.server import Server
    from logstore.broker.serving import open_store

    running, broker = start(tmp_path / "first")
    store = open_store(tmp_path / "second", StoreConfig())

    async def start_another() -> None:
        config = BrokerConfig(listeners=(f"PLAINTEXT://{broker.address}",))
        other = Broker(store, config)
        with pytest.raises(OSError, match="in use"):
            await Server(other).start()
        other.close()

    asyncio.run(start_another())
    store.close()
    running.stop()
