"""OffsetForLeaderEpoch over the wire."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crash_explorer import boot
from logstore.broker.serving import open_store
from logstore.config import StoreConfig
from logstore.format import filename
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logstore.wire.messages.metadata import MetadataRequest
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


def test_a_client_that_has_read_what_a_power_cut_took_is_told_where_the_log_ends_now(tmp_path: Path) -> None:
    with boot("before"), open_store(tmp_path / "live", StoreConfig()) as store:
        store.create_topic("t", 1)
        log = store.log("t")
        for _ in range(10):
            log.append([b"old"])
        shutil.copytree(tmp_path / "live", tmp_path / "cut")
    path = tmp_path / "cut" / "t_0" / filename.log_name(0)
    os.truncate(path, path.stat().st_size // 2)
    with boot("after"), loop_broker(tmp_path / "cut") as broker:
        for _ in range(10):
            broker.store.log("t").append([b"new"])
        assert ask(broker, 0, current_leader_epoch=0).error_code == ErrorCode.FENCED_LEADER_EPOCH
        metadata = broker.ask(MetadataRequest(topics=None), 12)
        assert metadata.topics[0].partitions[0].leader_epoch == 1
        found = ask(broker, 0, current_leader_epoch=1)
        assert (found.leader_epoch, found.end_offset) == (0, 5)
        latest = ListOffsetsTopic(name="t", partitions=[ListOffsetsPartition(current_leader_epoch=1, timestamp=-1)])
        offsets = broker.ask(ListOffsetsRequest(replica_id=-1, topics=[latest]), 7)
        assert [(part.offset, part.leader_epoch) for part in offsets.topics[0].partitions] == [(15, 1)]
