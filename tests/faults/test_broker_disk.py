"""A broker whose disk is full, fails, or whose descriptors run out: clients are told, it lives, and goes on after."""

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from disk_image import Mount
from failing_os import DEAD_DISK, FAILED_SYNC, NO_DESCRIPTOR, READ_ONLY_DISK, FailingCalls, Fault
from logstore.broker.handlers.list_offsets import LATEST
from logstore.format.batch import encode_batch
from logstore.storage import upkeep
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.api_versions import ApiVersionsRequest
from logstore.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from logstore.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logstore.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logstore.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from logstore.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logstore.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from loop_broker import LoopBroker, frame_of, loop_broker, read_frame
from request_driver import Failures
from served import Served
from waits import wait_until
from wire_client import WireClient

SETTINGS: dict[str, object] = {"offsets_topic_num_partitions": 1}
VALUE = os.urandom(60_000)


@pytest.fixture(autouse=True)
def _without_failures_that_nobody_foresaw() -> Iterator[None]:
    with Failures() as failures:
        yield
    assert not failures.found, failures.found[0]


@contextlib.contextmanager
def serving(path: Path) -> Iterator[tuple[LoopBroker, WireClient]]:
    with loop_broker(path, SETTINGS) as broker, broker.client() as client:
        for topic in ("t", "u"):
            with contextlib.suppress(Exception):
                broker.store.create_topic(topic)
        assert commit(client, 0) == 0
        yield broker, client


def produce(client: WireClient, topic: str = "t", value: bytes = VALUE, acks: int = -1) -> int:
    data = PartitionProduceData(index=0, records=encode_batch([value], timestamps_ms=1_700_000_000_000))
    request = ProduceRequest(acks=acks, topic_data=[TopicProduceData(name=topic, partition_data=[data])])
    return int(client.ask(request, 9).responses[0].partition_responses[0].error_code)


def fetched(client: WireClient, offset: int, topic: str = "t") -> Any:
    partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=100)
    request = FetchRequest(max_bytes=1 << 20, topics=[FetchTopic(topic=topic, partitions=[partition])])
    return client.ask(request, 11).responses[0].partitions[0]


def fetched_size(client: WireClient, offset: int, topic: str = "t") -> int:
    found = fetched(client, offset, topic)
    assert found.error_code == 0
    return len(found.records)


def found_offset(client: WireClient) -> Any:
    asked = ListOffsetsTopic(name="t", partitions=[ListOffsetsPartition(partition_index=0, timestamp=LATEST)])
    return client.ask(ListOffsetsRequest(topics=[asked]), 7).topics[0].partitions[0]


def commit(client: WireClient, offset: int) -> int:
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    topic = OffsetCommitRequestTopic(name="t", partitions=[partition])
    request = OffsetCommitRequest(group_id="g", generation_id_or_member_epoch=-1, topics=[topic])
    return int(client.ask(request, 8).topics[0].partitions[0].error_code)


def create(client: WireClient, name: str) -> int:
    topic = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    return int(client.ask(CreateTopicsRequest(topics=[topic]), 7).topics[0].error_code)


def is_described(client: WireClient, topic: str = "t") -> bool:
    found = client.ask(MetadataRequest([MetadataRequestTopic(name=topic)]), 12).topics[0]
    return bool(found.error_code == 0)


def test_a_full_disk_is_told_to_who_writes_and_reads_go_on_and_writes_when_there_is_space(mount: Mount) -> None:
    disk = mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")
    ballast = disk / "ballast"
    with serving(disk / "data") as (broker, client):
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2 << 20)
        codes = [produce(client, acks=acks) for _ in range(25) for acks in (-1, 1)]
        stored = codes.count(0)
        assert set(codes) == {0, ErrorCode.KAFKA_STORAGE_ERROR}
        told = [commit(client, offset) for offset in range(1000)]  # the last pages take a few
        assert set(told) == {0, ErrorCode.NOT_COORDINATOR}  # which a client tries again after
        assert create(client, "new") == ErrorCode.KAFKA_STORAGE_ERROR
        assert is_described(client)
        assert all(fetched_size(client, offset) for offset in range(stored))
        ballast.unlink()
        assert commit(client, 5000) == 0
        assert produce(client) == 0
        assert create(client, "new") == 0
        assert broker.store.log("t").log_end_offset == stored + 1
    with loop_broker(disk / "data", SETTINGS) as broker, broker.client() as client:
        assert all(fetched_size(client, offset) for offset in range(stored + 1))
        assert broker.store.groups.committed("g")["t", 0].offset == 5000


def test_a_failed_sync_acknowledges_nothing_and_takes_only_its_partition_offline(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (_, client):
        assert produce(client) == 0
        with FailingCalls(FAILED_SYNC, at=0):
            assert produce(client) == ErrorCode.KAFKA_STORAGE_ERROR
        assert produce(client) == ErrorCode.KAFKA_STORAGE_ERROR
        assert produce(client, acks=1) == ErrorCode.KAFKA_STORAGE_ERROR
        assert produce(client, "u") == 0
        assert fetched_size(client, 0)
        assert is_described(client)
        assert commit(client, 1) == 0
    with loop_broker(tmp_path / "data", SETTINGS) as broker, broker.client() as client:
        assert produce(client) == 0
        assert fetched_size(client, 0)


def test_a_failed_sync_of_the_groups_offsets_is_told_as_what_a_client_tries_again_after(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (_, client):
        with FailingCalls(FAILED_SYNC, at=0):
            assert commit(client, 1) == ErrorCode.NOT_COORDINATOR
        assert commit(client, 2) == ErrorCode.NOT_COORDINATOR
        assert produce(client) == 0


@pytest.mark.parametrize("fault", [DEAD_DISK, READ_ONLY_DISK, NO_DESCRIPTOR], ids=lambda fault: fault.name)
def test_a_disk_that_fails_altogether_is_told_and_the_broker_lives(tmp_path: Path, fault: Fault) -> None:
    with serving(tmp_path / "data") as (broker, client):
        assert produce(client) == 0
        with FailingCalls(fault, at=0) as calls:
            told = [produce(client), produce(client, acks=1), produce(client, "u")]
            assert set(told) <= {0, ErrorCode.KAFKA_STORAGE_ERROR}
            assert create(client, "new") == ErrorCode.KAFKA_STORAGE_ERROR
            assert commit(client, 1) in (0, ErrorCode.NOT_COORDINATOR)
            assert is_described(client)
            with broker.client() as other:
                assert other.ask(ApiVersionsRequest(client_software_name="c", client_software_version="1"), 3)
            if fault.reads_go_on:
                assert fetched_size(client, 0)
            calls.lift()
        assert create(client, "later") == 0
        assert produce(client, "later") == 0
        assert fetched_size(client, 0)


def test_a_partition_that_cannot_be_opened_is_told_of_without_a_try_and_served_once_upkeep_has_opened_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    with serving(path) as (_, client):
        assert produce(client) == 0
    partition, moved = path / "t_0", path / "moved"
    partition.rename(moved)
    partition.write_bytes(b"a file in its place")
    with loop_broker(path, SETTINGS) as broker, broker.client() as client:
        data_dir = broker.store._data_dir
        with monkeypatch.context() as patch:
            tried: list[object] = []
            patch.setattr(data_dir, "_open_log", lambda *arguments, **named: tried.append(arguments))
            assert is_described(client)
            assert produce(client) == ErrorCode.KAFKA_STORAGE_ERROR
            assert produce(client, acks=1) == ErrorCode.KAFKA_STORAGE_ERROR
            assert fetched(client, 0).error_code == ErrorCode.KAFKA_STORAGE_ERROR
            assert found_offset(client).error_code == ErrorCode.KAFKA_STORAGE_ERROR
            assert not tried
        assert produce(client, "u") == 0
        partition.unlink()
        moved.rename(partition)
        upkeep.open_left_out(data_dir)
        assert produce(client) == 0
        assert fetched_size(client, 1)


# ---------------------------------------------------------------------------------------------------------- descriptors

ASK = frame_of(ApiVersionsRequest(client_software_name="c", client_software_version="1"), 3)


def connected(served: Served) -> socket.socket:
    host, _, port = served.address.rpartition(":")
    return socket.create_connection((host, int(port)), 30)


def is_answered(peer: socket.socket, timeout_s: float) -> bool:
    peer.settimeout(timeout_s)
    try:
        peer.sendall(ASK)
        return bool(read_frame(peer))
    except (TimeoutError, ConnectionError, AssertionError, struct.error):
        return False


def test_connections_for_which_there_is_no_descriptor_wait_until_there_is(tmp_path: Path) -> None:
    with Served("--data", tmp_path / "data", "--listen", "127.0.0.1:0") as served:
        first = connected(served)
        assert is_answered(first, 30)
        open_count = len(os.listdir(f"/proc/{served.process.pid}/fd"))
        limit = open_count + 5
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        peers = [connected(served) for _ in range(20)]
        assert sum(is_answered(peer, 0.3) for peer in peers) <= 5
        assert is_answered(first, 30)
        waiting = peers.pop()
        for peer in peers:
            peer.close()
        assert is_answered(waiting, 30)  # the one that came last
        first.close()
        waiting.close()
        wait_until(lambda: len(os.listdir(f"/proc/{served.process.pid}/fd")) <= open_count)
        assert served.process.poll() is None
        assert "Traceback" not in served.errors()
