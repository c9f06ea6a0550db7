"""What becomes of errors that nobody foresaw, whatever the API: told where the response can tell them, or the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logstore.broker.dispatch import HANDLERS
from logstore.wire.api import ApiKey
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.describe_log_dirs import DescribeLogDirsRequest
from logstore.wire.messages.find_coordinator import FindCoordinatorRequest
from logstore.wire.messages.heartbeat import HeartbeatRequest
from logstore.wire.messages.metadata import MetadataRequest
from logstore.wire.messages.offset_commit import OffsetCommitRequest
from logstore.wire.messages.offset_fetch import OffsetFetchRequest
from logstore.wire.schema import Message
from loop_broker import LoopBroker, frame_of, is_closed, loop_broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    path: Path = tmp_path_factory.mktemp("dispatch")
    with loop_broker(path / "data") as broker:
        yield broker


async def fail_late(*unused: Any) -> None:
    raise MemoryError


def fail_at_once(*unused: Any) -> None:
    raise MemoryError


@pytest.fixture(params=[fail_at_once, fail_late], ids=["at once", "after a wait"])
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers of all APIs."""
    for key in ApiKey:
        if key in HANDLERS:
            monkeypatch.setitem(HANDLERS._handlers, key, request.param)


TOLD = [
    pytest.param(FindCoordinatorRequest(key="g"), 3, id="FindCoordinator v3"),
    pytest.param(OffsetFetchRequest(group_id="g", topics=[]), 7, id="OffsetFetch v7"),
    pytest.param(DescribeLogDirsRequest(), 3, id="DescribeLogDirs v3"),
    pytest.param(MetadataRequest(), 13, id="Metadata v13"),
    pytest.param(HeartbeatRequest(group_id="g"), 0, id="Heartbeat v0"),
]
UNTOLD = [
    pytest.param(FindCoordinatorRequest(coordinator_keys=["g"]), 4, id="FindCoordinator v4"),
    pytest.param(OffsetFetchRequest(group_id="g", topics=[]), 1, id="OffsetFetch v1"),
    pytest.param(OffsetFetchRequest(groups=[]), 8, id="OffsetFetch v8"),
    pytest.param(DescribeLogDirsRequest(), 2, id="DescribeLogDirs v2"),
    pytest.param(MetadataRequest(), 12, id="Metadata v12"),
    pytest.param(OffsetCommitRequest(group_id="g"), 8, id="OffsetCommit v8"),
]


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(("request_", "version"), TOLD)
def test_it_is_told_where_the_response_has_a_place_for_it(broker: LoopBroker, request_: Message, version: int) -> None:
    assert broker.ask(request_, version).error_code == ErrorCode.UNKNOWN_SERVER_ERROR


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(("request_", "version"), UNTOLD)
def test_it_ends_the_connection_where_the_response_would_look_like_a_success(
    broker: LoopBroker, request_: Message, version: int
) -> None:
    with broker.connect() as peer:
        peer.sendall(frame_of(request_, version))
        assert peer.recv(1) == b""
        assert is_closed(peer)
