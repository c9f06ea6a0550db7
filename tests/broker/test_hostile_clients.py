"""Clients that mean harm, or are broken in odd ways: what they do stays their own affair."""

import contextlib
import errno
import gc
import os
import socket
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from logstore.broker.connection import Connection
from logstore.broker.dispatch import HANDLERS
from logstore.broker.handlers import api_versions
from logstore.broker.handlers import produce as produce_handler
from logstore.format.batch import encode_batch
from logstore.wire.api import ApiKey
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.api_versions import ApiVersionsRequest
from logstore.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from logstore.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logstore.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from logstore.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from logstore.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from loop_broker import LoopBroker, frame_of, is_closed, loop_broker, read_frame
from request_driver import Failures
from waits import hold, wait_until

ASK = frame_of(ApiVersionsRequest(client_software_name="c", client_software_version="1"), 3)
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def _without_failures_that_nobody_foresaw() -> Iterator[None]:
    with Failures() as failures:
        yield
    assert not failures.found, failures.found[0]


def is_alive(broker: LoopBroker) -> bool:
    """Whether others are served, and more than once."""
    with broker.connect() as peer:
        for _ in range(3):
            peer.sendall(ASK)
            read_frame(peer)
    return True


def produce(size: int, acks: int = 1) -> bytes:
    data = PartitionProduceData(index=0, records=encode_batch([bytes(size)], timestamps_ms=1_700_000_000_000))
    return frame_of(ProduceRequest(acks=acks, topic_data=[TopicProduceData(name="t", partition_data=[data])]), 9)


def long_poll(broker: LoopBroker, max_wait_ms: int = HOUR_MS) -> bytes:
    partition = FetchPartition(partition=0, fetch_offset=broker.store.log("t").log_end_offset, partition_max_bytes=1)
    topic = FetchTopic(topic="t", partitions=[partition])
    return frame_of(FetchRequest(max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=1 << 20, topics=[topic]), 11)


# ------------------------------------------------------------------------------------------------------------- memory


def test_who_fills_the_memory_for_requests_keeps_nobody_from_small_ones(tmp_path: Path) -> None:
    large = struct.pack(">i", 3_000_000) + bytes(1_000_000)
    with loop_broker(tmp_path / "data", queued_max_request_bytes=500_000) as broker:
        with broker.connect() as first, broker.connect() as second, broker.connect() as other:
            first.sendall(large)
            wait_until(lambda: broker.broker.memory.is_full)
            second.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                second.sendall(large)
            for _ in range(3):
                other.sendall(ASK[:20])
                other.sendall(ASK[20:])
                read_frame(other)
            assert is_alive(broker)


def test_a_large_request_that_came_fast_and_stops_is_cut_off_soon(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", request_read_timeout_ms=200) as broker, broker.connect() as peer:
        peer.sendall(struct.pack(">i", 20_000_000) + bytes(10_000_000))
        assert is_closed(peer)


def test_a_large_request_that_keeps_coming_is_not_cut_off(tmp_path: Path) -> None:
    request = produce(900_000)
    with loop_broker(tmp_path / "data", request_read_timeout_ms=300) as broker, broker.connect() as peer:
        for start in range(0, len(request), 50_000):
            peer.sendall(request[start : start + 50_000])
            Event().wait(0.05)  # in all three times as long as a small one may take
        read_frame(peer)


def join(metadata: bytes = b"") -> JoinGroupRequest:
    return JoinGroupRequest(
        group_id="g",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=HOUR_MS,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=metadata)],
    )


def lengthened(request: bytes, size: int) -> bytes:
    """With so many bytes behind the last field, which nobody minds."""
    return struct.pack(">i", len(request) - 4 + size) + request[4:] + bytes(size)


@contextlib.contextmanager
def growth_max(size: int) -> Iterator[None]:
    """No more than ``size`` bytes are held at the end that were not at the beginning."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        assert held < size
    finally:
        tracemalloc.stop()


def test_records_are_not_kept_in_memory_until_they_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loop_broker(tmp_path / "data") as broker, broker.connect() as peer:
        broker.store.create_topic("t")
        log = broker.store.log("t")
        flush, is_to_go_on = log.flush, Event()
        monkeypatch.setattr(log, "flush", lambda: (hold(is_to_go_on), flush()))
        with growth_max(5_000_000):
            for _ in range(20):
                peer.sendall(produce(900_000, acks=-1))
            wait_until(lambda: log.log_end_offset == 20)
        is_to_go_on.set()
        for _ in range(20):
            read_frame(peer)


def test_a_request_that_waits_for_a_thread_counts_among_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loop_broker(tmp_path / "data") as broker, broker.connect() as peer:
        is_to_go_on = Event()
        monkeypatch.setattr(broker.store, "planned_topic", lambda *arguments: hold(is_to_go_on))
        topics = [CreatableTopic(name="u", num_partitions=1, replication_factor=1)]
        peer.sendall(lengthened(frame_of(CreateTopicsRequest(topics=topics), 7), 1_000_000))
        wait_until(lambda: broker.broker.memory.total > 1_000_000)
        is_to_go_on.set()
        read_frame(peer)
        wait_until(lambda: not broker.broker.memory.total)


def test_a_member_that_waits_for_others_costs_what_it_says_and_no_more(tmp_path: Path) -> None:
    settings = {"group_initial_rebalance_delay_ms": HOUR_MS, "offsets_topic_num_partitions": 1}
    with loop_broker(tmp_path / "data", settings) as broker, broker.connect() as peer:
        assert is_alive(broker)
        with growth_max(2_000_000):
            peer.sendall(lengthened(frame_of(join(), 3), 5_000_000))
            wait_until(lambda: broker.broker.groups.groups())
            wait_until(lambda: not broker.broker.memory.total)


def test_what_a_member_says_of_itself_is_no_larger_than_can_be_stored(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", {"offsets_topic_num_partitions": 1, "message_max_bytes": 10_000}) as broker:
        assert broker.ask(join(bytes(10_001)), 3).error_code == ErrorCode.UNKNOWN_SERVER_ERROR
        assert broker.ask(join(bytes(9_000)), 3).error_code == 0


# ------------------------------------------------------------------------------------------------ those that hang up


def test_who_hangs_up_behind_a_long_poll_is_not_kept_until_its_end(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", connections_max_idle_ms=200) as broker:
        broker.store.create_topic("t")
        with broker.connect() as peer:
            peer.sendall(long_poll(broker) + ASK)  # the second one waits for its turn: nothing more is read
            wait_until(lambda: broker.broker.delayed_fetches)
        wait_until(lambda: broker.broker.metrics.connections_closed == 1)
        wait_until(lambda: not broker.broker.delayed_fetches)


def test_who_waits_behind_a_long_poll_longer_than_one_may_idle_is_served(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", connections_max_idle_ms=100) as broker:
        broker.store.create_topic("t")
        with broker.connect() as peer:
            peer.sendall(long_poll(broker, 600) + ASK)
            for _ in range(2):
                read_frame(peer)


def test_members_that_hang_up_while_they_join_leave_nothing_of_their_connections(tmp_path: Path) -> None:
    settings = {"group_initial_rebalance_delay_ms": HOUR_MS, "offsets_topic_num_partitions": 1}
    with loop_broker(tmp_path / "data", settings) as broker:
        for number in range(1, 4):
            with broker.connect() as peer:
                peer.sendall(frame_of(join(), 3))
                wait_until(lambda: broker.broker.tasks)
            wait_until(lambda number=number: broker.broker.metrics.connections_closed == number)
        assert is_alive(broker)
        gc.collect()
        held = [each for each in gc.get_objects() if type(each) is Connection and each.broker is broker.broker]
        assert sum(len(each._reader._shared) for each in held if each._transport is None) == 0


# ----------------------------------------------------------------------------------------------------- what takes long


@pytest.mark.parametrize("acks", [1, -1, 0])
def test_a_request_of_many_batches_that_take_long_lets_others_have_their_turn_and_stays_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acks: int
) -> None:
    batch = encode_batch([b"first"], timestamps_ms=1_700_000_000_000)
    data = [PartitionProduceData(index=0, records=batch) for _ in range(50)]
    large = frame_of(ProduceRequest(acks=acks, topic_data=[TopicProduceData(name="t", partition_data=data)]), 9)
    with loop_broker(tmp_path / "data") as broker, broker.connect() as peer, broker.connect() as other:
        broker.store.create_topic("t")
        log = broker.store.log("t")
        append, is_begun, is_to_go_on = log.append_batch, Event(), Event()

        def slow(records: Any) -> Any:
            if log.log_end_offset == 1:
                is_begun.set()
                hold(is_to_go_on)
            return append(records)

        monkeypatch.setattr(log, "append_batch", slow)
        monkeypatch.setattr(produce_handler, "_SLICE_S", 0.0)
        peer.sendall(large + produce(10) + ASK)
        assert is_begun.wait(30)
        other.sendall(ASK)  # it is read in the next turn of the loop, when 48 batches are left
        seen: list[int] = []
        monkeypatch.setattr(api_versions, "handle", note(api_versions.handle, lambda: seen.append(log.log_end_offset)))
        monkeypatch.setitem(HANDLERS._handlers, ApiKey.API_VERSIONS, api_versions.handle)
        is_to_go_on.set()
        read_frame(other)
        assert seen[0] < 50
        for _ in range(2 + (acks != 0)):
            read_frame(peer)
        assert seen == [seen[0], 51]
        assert [record.value for record in log.records(0)] == [b"first"] * 50 + [bytes(10)]


@pytest.mark.parametrize("acks", [0, 1, -1])
@pytest.mark.parametrize(
    "linger", [struct.pack("ii", 0, 0), struct.pack("ii", 1, 0)], ids=["in good order", "by reset"]
)
def test_a_request_that_has_come_whole_is_appended_whole_though_its_client_has_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acks: int, linger: bytes
) -> None:
    batch = encode_batch([b"first"], timestamps_ms=1_700_000_000_000)
    data = [PartitionProduceData(index=0, records=batch) for _ in range(500)]
    large = frame_of(ProduceRequest(acks=acks, topic_data=[TopicProduceData(name="t", partition_data=data)]), 9)
    monkeypatch.setattr(produce_handler, "_SLICE_S", 0.0)
    with loop_broker(tmp_path / "data") as broker:
        broker.store.create_topic("t")
        log = broker.store.log("t")
        append, is_begun, is_to_go_on = log.append_batch, Event(), Event()

        def slow(records: Any) -> Any:
            if log.log_end_offset == 1:
                is_begun.set()
                hold(is_to_go_on)
            return append(records)

        monkeypatch.setattr(log, "append_batch", slow)
        with broker.connect() as peer:
            peer.sendall(large)
            assert is_begun.wait(30)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        is_to_go_on.set()
        wait_until(lambda: broker.broker.metrics.connections_closed == 1)
        assert broker.broker.memory.total or log.log_end_offset == 500
        wait_until(lambda: not broker.broker.memory.total)
        assert log.log_end_offset == 500
        assert is_alive(broker)


def note(function: Callable[..., Any], then: Callable[[], object]) -> Callable[..., Any]:
    def noting(*arguments: Any) -> Any:
        then()
        return function(*arguments)

    return noting


# -------------------------------------------------------------------------------------------------------- sent to them


def test_where_no_descriptor_is_left_to_wait_for_a_slow_client_only_it_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loop_broker(tmp_path / "data") as broker, broker.connect() as slow, broker.connect() as other:

        def fail(fd: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(os, "dup", fail)
        ask = frame_of(MetadataRequest([MetadataRequestTopic(name="x" * 20_000)], allow_auto_topic_creation=False), 12)
        slow.settimeout(0.2)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while True:
                slow.sendall(ask)
        assert is_closed(slow)
        other.sendall(ASK)
        read_frame(other)


def test_who_is_answered_together_with_a_connection_that_fails_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loop_broker(tmp_path / "data") as broker, broker.connect() as bad, broker.connect() as good:
        broker.store.create_topic("t")
        flush, is_to_go_on = broker.store.log("t").flush, Event()
        monkeypatch.setattr(broker.store.log("t"), "flush", lambda: (hold(is_to_go_on), flush()))
        for peer in (bad, good):
            peer.sendall(produce(10, acks=-1))
        wait_until(lambda: broker.store.log("t").log_end_offset == 2)
        bad_port = bad.getsockname()[1]
        go_on = Connection._go_on

        def fail(connection: Connection) -> None:
            if connection._sender._socket.getpeername()[1] == bad_port:
                raise OSError(errno.EMFILE, "no more files")
            go_on(connection)

        monkeypatch.setattr(Connection, "_go_on", fail)
        is_to_go_on.set()
        read_frame(good)
        assert is_closed(bad)


# -------------------------------------------------------------------------------------------------------------- threads


def test_who_makes_topics_for_long_keeps_nobody_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loop_broker(tmp_path / "data", num_io_threads=1) as broker:
        broker.store.create_topic("t")
        is_making, is_to_go_on = Event(), Event()
        create = broker.store.create_topic

        def slow(*arguments: Any, **named: Any) -> Any:
            is_making.set()
            hold(is_to_go_on)
            return create(*arguments, **named)

        monkeypatch.setattr(broker.store, "create_topic", slow)
        request = CreateTopicsRequest(topics=[CreatableTopic(name="u", num_partitions=1, replication_factor=1)])
        with broker.connect() as admin, broker.connect() as producer:
            admin.sendall(frame_of(request, 7))
            assert is_making.wait(30)
            try:
                producer.sendall(produce(10, acks=-1))
                read_frame(producer)
            finally:
                is_to_go_on.set()
            read_frame(admin)
        assert broker.store.topic("u").partitions == 1
