"""Whatever bytes a client sends, the broker answers or ends that connection, and goes on serving all others.

Every version of every API that is advertised: requests that are well formed but say what nobody says, and what becomes
of them when they are cut, changed, or mixed up. The same ones in every run; the slow sweep has more of them.
"""

import gc
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from hostile_requests import VERSIONS, HostileValues, broken_frames, frame_of
from logstore.wire.api import ApiKey
from logstore.wire.header import RequestHeader
from logstore.wire.messages.api_versions import ApiVersionsRequest
from logstore.wire.schema import Message
from loop_broker import LoopBroker, loop_broker, read_frame
from request_driver import Failures

SETTINGS: dict[str, object] = {"offsets_topic_num_partitions": 1, "group_min_session_timeout_ms": 1}
TOPICS: dict[str, dict[str, object]] = {
    "orders": {},
    "compacted": {"cleanup_policy": "compact"},
    "zipped": {"compression_type": "zstd"},
    "stamped": {"message_timestamp_type": "LogAppendTime", "compression_type": "gzip"},
}
ASK = frame_of(ApiVersionsRequest(client_software_name="c", client_software_version="1"), 3)
WAITS = {ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP}  # for other members, as long as they like
GROWTH_MAX = 200 << 20


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    path = tmp_path_factory.mktemp("hostile") / "data"
    with Failures() as failures, loop_broker(path, SETTINGS, connections_max_idle_ms=5_000) as broker:
        yield broker
    assert not failures.found, failures.found[0]
    assert [path.name for path in path.parent.iterdir()] == ["data"]
    names = {directory.name.rpartition("_")[0] for directory in path.iterdir() if directory.is_dir()}
    assert not [name for name in names if name.startswith(".") or "/" in name or len(name) > 249]


def with_size(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


def requests(broker: LoopBroker, seed: int) -> Iterator[tuple[Message, int, bytes]]:
    """One of each version of each API."""
    for declared, version in VERSIONS:
        there = {topic.name: topic.topic_id for topic in broker.store.topics()}
        for name, settings in TOPICS.items():
            if name not in there:
                there[name] = broker.store.create_topic(name, 2, **settings).topic_id
        title = f"{declared.__name__} v{version} {seed}"
        request = HostileValues(title, [there[name] for name in TOPICS]).message(declared, version)
        yield request, version, frame_of(request, version)


def is_alive(broker: LoopBroker) -> bool:
    with broker.connect() as peer:
        for _ in range(2):
            peer.sendall(with_size(ASK))
            read_frame(peer)
    return True


def send_and_hang_up(broker: LoopBroker, octets: bytes) -> None:
    """Returns when the broker has ended the connection as well."""
    with broker.connect() as peer:
        try:
            peer.sendall(octets)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(1 << 16):
                pass
        except (ConnectionError, OSError) as error:
            assert not isinstance(error, TimeoutError), "the broker does not end the connection"


def sweep(broker: LoopBroker, seeds: range, count: int) -> None:
    for seed in seeds:
        random = Random(seed)
        for _, _, frame in requests(broker, seed):
            for broken in (frame, *broken_frames(frame, random, count)):
                send_and_hang_up(broker, with_size(broken))
            send_and_hang_up(broker, with_size(frame)[: random.randrange(len(frame) + 4)])
        assert is_alive(broker)


def memory_size() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_broken_requests_end_their_own_connection_at_most(broker: LoopBroker) -> None:
    sweep(broker, range(1), 3)


@pytest.mark.slow
def test_many_broken_requests_end_their_own_connections_at_most_and_leave_nothing_behind(broker: LoopBroker) -> None:
    sweep(broker, range(1, 2), 8)  # what is loaded when first asked for is there
    before = memory_size()
    sweep(broker, range(2, 6), 8)
    assert memory_size() - before < GROWTH_MAX
    assert not broker.broker.memory.total
    assert not broker.broker.delayed_fetches


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_well_formed_requests_are_answered_whatever_they_say(broker: LoopBroker, seed: int) -> None:
    with broker.connect() as peer:
        for request, version, frame in requests(broker, seed):
            if request.api_key in WAITS or getattr(request, "acks", 1) == 0:  # who wants no answer may be cut off
                continue
            peer.sendall(with_size(frame))
            assert read_frame(peer)[:4] == frame[4:8], (request, version)


def test_requests_of_all_kinds_that_come_together_are_answered_in_order(broker: LoopBroker) -> None:
    frames = [
        RequestHeader(request.api_key, version, number, None).encode() + request.encode(version)
        for number, (request, version, _) in enumerate(requests(broker, 7))
        if request.api_key not in WAITS and getattr(request, "acks", 1) != 0
    ]
    with broker.connect() as peer:
        peer.sendall(b"".join(map(with_size, frames)))
        for frame in frames:
            assert read_frame(peer)[:4] == frame[4:8]


def test_a_request_may_come_in_two_parts_cut_anywhere(broker: LoopBroker) -> None:
    octets = with_size(ASK)
    with broker.connect() as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(1, len(octets)):
            peer.sendall(octets[:position])
            peer.sendall(octets[position:])
            read_frame(peer)


def test_the_requests_of_each_version_are_followed_by_bytes_that_nobody_minds(broker: LoopBroker) -> None:
    """As Kafka; librdkafka sends some."""
    with broker.connect() as peer:
        for request, version, frame in requests(broker, 9):
            if request.api_key not in WAITS and getattr(request, "acks", 1) != 0:
                peer.sendall(with_size(frame + b"\1\2\3"))
                assert read_frame(peer)[:4] == frame[4:8], (request, version)
