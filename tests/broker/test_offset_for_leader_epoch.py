"""OffsetForLeaderEpoch over the wire."""

from collections.abc import Iterator
from typing import Any

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from loop_broker import LoopBroker, loop_broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    with loop_broker(tmp_path_factory.mktemp("epochs") / "data") as broker:
        broker.store.create_topic("t")
        broker.store.create_topic("empty")
        log = broker.store.log("t")
        for epoch, count in ((1, 3), (4, 2)):
            log.leader_epoch = epoch
            for _ in range(count):
                log.append([b"a"])
        yield broker


def ask(broker: LoopBroker, epoch: int, version: int = 4, topic: str = "t", **asked: Any) -> Any:
    partition = OffsetForLeaderPartition(**({"partition": 0, "leader_epoch": epoch} | asked))
    request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic=topic, partitions=[partition])])
    return broker.ask(request, version).topics[0].partitions[0]


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(("epoch", "expected"), [(1, (1, 3)), (2, (1, 3)), (4, (4, 5)), (5, (-1, -1)), (0, (0, 0))])
def test_an_epoch_ends_where_the_next_one_begins(
    broker: LoopBroker, version: int, epoch: int, expected: tuple[int, int]
) -> None:
    found = ask(broker, epoch, version)
    assert (found.error_code, (found.leader_epoch, found.end_offset)) == (0, expected)


def test_of_a_log_without_records_the_epoch_of_now_ends_at_its_start(broker: LoopBroker) -> None:
    found = ask(broker, 0, topic="empty")
    assert (found.leader_epoch, found.end_offset) == (0, 0)


def test_errors_are_told(broker: LoopBroker) -> None:
    assert ask(broker, 1, topic="nowhere").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert ask(broker, 1, current_leader_epoch=1).error_code == ErrorCode.FENCED_LEADER_EPOCH
    assert ask(broker, 1, current_leader_epoch=9).error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
