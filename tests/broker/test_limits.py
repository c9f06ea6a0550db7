"""What hostile, broken and slow clients meet: they are cut off alone, and what they cost is bounded."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from logstore.broker.connection import Connection
from logstore.wire.api import ApiKey
from logstore.wire.messages.api_versions import ApiVersionsRequest
from logstore.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logstore.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from logstore.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from loop_broker import LoopBroker, frame_of, is_closed, loop_broker, read_frame
from waits import wait_until

ASK = frame_of(ApiVersionsRequest(client_software_name="c", client_software_version="1"), 3)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LoopBroker]:
    with loop_broker(tmp_path / "data", socket_request_max_bytes=1 << 20) as broker:
        yield broker


def is_alive(broker: LoopBroker) -> bool:
    """Whether others are served."""
    with broker.connect() as peer:
        peer.sendall(ASK)
        return len(read_frame(peer)) > 4


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(struct.pack(">i", -1), id="a negative size"),
        pytest.param(struct.pack(">i", 0), id="a size of nothing"),
        pytest.param(struct.pack(">i", (1 << 20) + 1), id="a size over socket.request.max.bytes"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(struct.pack(">ihh", 4, 3, 9), id="a frame shorter than a header"),
        pytest.param(struct.pack(">ihhih", 10, 999, 0, 1, -1), id="an API that there is not"),
        pytest.param(struct.pack(">ihhih", 10, 3, 999, 1, -1), id="a version that there is not"),
        pytest.param(struct.pack(">ihhih", 10, 3, -1, 1, -1), id="a negative version"),
        pytest.param(struct.pack(">ihhih", 10, 0, 2, 1, -1), id="a version that is advertised and not read"),
        pytest.param(struct.pack(">ihhih", 10, 3, 1, 1, 5), id="a client id beyond the frame"),
        pytest.param(struct.pack(">ihhihi", 14, 3, 1, 1, -1, 2**31 - 1), id="a count beyond the frame"),
    ],
)
def test_bytes_that_are_no_request_end_the_connection(broker: LoopBroker, octets: bytes) -> None:
    with broker.connect() as peer:
        peer.sendall(octets)
        assert is_closed(peer)
    assert is_alive(broker)


def test_a_request_that_comes_byte_by_byte_is_answered(broker: LoopBroker) -> None:
    with broker.connect() as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(ASK)):
            peer.sendall(ASK[position : position + 1])
        assert read_frame(peer)[:4] == struct.pack(">i", 1)


def test_requests_that_come_together_are_answered_in_order(broker: LoopBroker) -> None:
    requests = [frame_of(MetadataRequest(topics=None), 12, number) for number in range(200)]
    with broker.connect() as peer:
        peer.sendall(b"".join(requests))
        assert [read_frame(peer)[:4] for _ in requests] == [struct.pack(">i", number) for number in range(200)]


@pytest.mark.parametrize("sent", [1, 4, 10, len(ASK) - 1])
def test_a_request_that_does_not_come_to_an_end_ends_the_connection(tmp_path: Path, sent: int) -> None:
    with loop_broker(tmp_path / "data", request_read_timeout_ms=100) as broker, broker.connect() as peer:
        peer.sendall(ASK[:sent])
        assert is_closed(peer)
        assert is_alive(broker)


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off_all_the_same(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", request_read_timeout_ms=200) as broker, broker.connect() as peer:
        peer.sendall(struct.pack(">i", 1 << 20))
        peer.settimeout(0.02)
        while True:
            try:
                peer.sendall(b"x")
                assert not peer.recv(1)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert is_alive(broker)


def test_a_connection_without_requests_is_closed(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", connections_max_idle_ms=100) as broker:
        with broker.connect() as silent, broker.connect() as served_once:
            served_once.sendall(ASK)
            read_frame(served_once)
            assert is_closed(silent)
            assert is_closed(served_once)


def test_who_was_answered_late_has_the_whole_idle_time_from_then_on(
    broker: LoopBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[Connection] = []
    made = Connection.connection_made
    monkeypatch.setattr(
        Connection, "connection_made", lambda connection, *of: (connections.append(connection), made(connection, *of))
    )
    broker.store.create_topic("t")
    wanted = FetchTopic(topic="t", partitions=[FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1)])
    with broker.connect() as peer:
        peer.sendall(frame_of(FetchRequest(max_wait_ms=30_000, min_bytes=1, max_bytes=1, topics=[wanted]), 11))
        wait_until(lambda: broker.broker.delayed_fetches)
        [connection] = connections
        an_hour_ago_s = connection.read_s - 3600
        broker.in_loop(lambda: setattr(connection, "read_s", an_hour_ago_s))
        broker.store.log("t").append([b"a"])
        read_frame(peer)
        broker.in_loop(lambda: connection.check_deadlines(monotonic()))
        peer.sendall(ASK)
        assert read_frame(peer)[:4] == struct.pack(">i", 1)


def test_connections_over_the_limit_are_refused(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", max_connections=2) as broker:
        with broker.connect() as first, broker.connect() as second:
            for peer in (first, second):
                peer.sendall(ASK)
                read_frame(peer)
            with broker.connect() as third:
                assert is_closed(third)
            assert broker.broker.metrics.connections_refused == 1
        wait_until(lambda: broker.broker.metrics.connections_closed == 2)
        assert is_alive(broker)


def test_connections_of_one_address_over_its_limit_are_refused(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", max_connections_per_ip=1) as broker:
        with broker.connect("127.0.0.2") as first:
            first.sendall(ASK)
            read_frame(first)
            with broker.connect("127.0.0.2") as second:
                assert is_closed(second)
            assert is_alive(broker)  # from another address


# Large, and answered with as much.
ASK_A_LOT = MetadataRequest(
    topics=[MetadataRequestTopic(name=f"{number:0200}") for number in range(100)], allow_auto_topic_creation=False
)


def test_a_client_that_reads_nothing_is_cut_off_and_costs_little(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", response_write_timeout_ms=300) as broker:
        largest = 0
        with broker.connect() as peer:
            peer.settimeout(0.2)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while True:
                    peer.sendall(frame_of(ASK_A_LOT, 12))
                    largest = max(largest, broker.broker.memory.total)
            wait_until(lambda: broker.broker.metrics.connections_closed == 1)
        assert 0 < largest < 1 << 20
        assert broker.broker.memory.total == 0
        assert is_alive(broker)


def test_large_answers_to_requests_that_came_together_are_made_one_at_a_time(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data") as broker, broker.connect() as peer:
        for number in range(20):
            broker.store.create_topic(f"{number:0249}")
        peer.sendall(frame_of(MetadataRequest(topics=None), 12) * 3000)
        wait_until(lambda: broker.broker.memory.total)
        assert broker.broker.memory.total < 1 << 20


def test_a_client_that_reads_late_gets_everything_in_order(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data") as broker, broker.connect() as peer:
        peer.settimeout(0.2)
        asked, rest = 0, b""
        with contextlib.suppress(TimeoutError):
            while True:
                rest = rest or frame_of(ASK_A_LOT, 12, asked)
                rest = rest[peer.send(rest) :]
                asked += not rest
        peer.settimeout(30)
        for number in range(asked):
            assert read_frame(peer)[:4] == struct.pack(">i", number)


def large_produce(size: int) -> bytes:
    data = PartitionProduceData(index=0, records=bytes(size))
    return frame_of(ProduceRequest(acks=1, topic_data=[TopicProduceData(name="t", partition_data=[data])]), 9)


def test_bytes_of_all_connections_together_are_bounded_and_everybody_is_served_in_the_end(tmp_path: Path) -> None:
    request = large_produce(400_000)
    limit = 500_000
    with loop_broker(tmp_path / "data", queued_max_request_bytes=limit) as broker:
        memory = broker.broker.memory
        with broker.connect() as first, broker.connect() as second, broker.connect() as third:
            first.sendall(request[:300_000])
            wait_until(lambda: memory.total > 299_000)
            for peer in (second, third):
                peer.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    while True:  # more than the sockets hold
                        peer.sendall(request)
            assert memory.total < limit + 2 * (128 << 10)
            assert is_alive(broker)
            first.sendall(request[300_000:])
            read_frame(first)
            for peer in (second, third):
                peer.settimeout(30)
                read_frame(peer)
        wait_until(lambda: memory.total == 0)


def test_who_holds_memory_and_does_not_go_on_is_cut_off_for_the_others(tmp_path: Path) -> None:
    request = large_produce(40_000)
    with loop_broker(tmp_path / "data", queued_max_request_bytes=10_000, request_read_timeout_ms=300) as broker:
        with broker.connect() as first, broker.connect() as second:
            first.sendall(request[:30_000])
            wait_until(lambda: broker.broker.memory.total == 30_000)
            second.sendall(request)
            read_frame(second)
            assert is_closed(first)


def test_a_client_that_resets_its_connection_in_the_middle_harms_nobody(broker: LoopBroker) -> None:
    for sent in (0, 3, len(ASK) - 1, len(ASK)):
        peer = broker.connect()
        peer.sendall((ASK * 100)[: len(ASK) * 50 + sent])
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    assert is_alive(broker)
    wait_until(lambda: broker.broker.metrics.connections_closed >= 4)


def test_a_newer_version_of_api_versions_is_answered_in_the_oldest(broker: LoopBroker) -> None:
    with broker.connect() as peer:
        peer.sendall(struct.pack(">ihhihx", 11, 18, 99, 7, -1))
        assert read_frame(peer) == struct.pack(">ihihhh", 7, 35, 1, ApiKey.API_VERSIONS, 0, 4)
        peer.sendall(ASK)
        assert read_frame(peer)[:4] == struct.pack(">i", 1)
