"""ListOffsets over the wire: first, last, newest, and from a time on."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from logstore.format.batch import encode_batch
from logstore.storage.log_view import LogView
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from loop_broker import LoopBroker, loop_broker

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5
FIRST_VERSION_WITH = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9}
VERSIONS = range(1, 10)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    """With a log of offsets 2 to 6; the times are those of its records, the newest in the middle."""
    with loop_broker(tmp_path_factory.mktemp("offsets") / "data") as broker:
        for name in ("t", "empty", "unfinished"):
            broker.store.create_topic(name)
        log = broker.store.log("t")
        for timestamp_ms in (1, 1, 1000, 3000, 4000, 2000):
            log.append([b"a"], timestamps_ms=timestamp_ms)
        broker.store.advance_log_start("t", 0, 2)
        unfinished = broker.store.log("unfinished")
        unfinished.append([b"a"], timestamps_ms=1000)
        unfinished.append_batches(
            encode_batch([b"b"], timestamps_ms=2000, producer_id=1, producer_epoch=0, base_sequence=0, attributes=0x10)
        )
        yield broker


def ask(
    broker: LoopBroker, timestamp: int, version: int = 9, topic: str = "t", isolation_level: int = 0, **asked: Any
) -> Any:
    partition = ListOffsetsPartition(**({"partition_index": 0, "timestamp": timestamp} | asked))
    topics = [ListOffsetsTopic(name=topic, partitions=[partition])]
    request = ListOffsetsRequest(replica_id=-1, isolation_level=isolation_level, topics=topics)
    return broker.ask(request, version).topics[0].partitions[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (EARLIEST, (-1, 2)),
        (LATEST, (-1, 6)),
        (0, (1000, 2)),
        (1000, (1000, 2)),
        (1001, (3000, 3)),
        (3500, (4000, 4)),
        (4001, (-1, -1)),
        (MAX_TIMESTAMP, (4000, 4)),
        (EARLIEST_LOCAL, (-1, 2)),
        (LATEST_TIERED, (-1, -1)),
    ],
)
def test_offsets_are_found(broker: LoopBroker, version: int, timestamp: int, expected: tuple[int, int]) -> None:
    found = ask(broker, timestamp, version)
    if version < FIRST_VERSION_WITH.get(timestamp, 1):
        assert (found.error_code, found.offset) == (ErrorCode.UNSUPPORTED_VERSION, -1)
        return
    assert (found.error_code, (found.timestamp, found.offset)) == (0, expected)
    assert found.leader_epoch == (0 if version >= 4 and found.offset >= 0 else -1)


@pytest.mark.parametrize(("timestamp", "offset"), [(EARLIEST, 0), (LATEST, 0), (0, -1), (MAX_TIMESTAMP, -1)])
def test_of_an_empty_log_there_is_only_its_place(broker: LoopBroker, timestamp: int, offset: int) -> None:
    assert ask(broker, timestamp, topic="empty").offset == offset


@pytest.mark.parametrize(
    ("timestamp", "offset"), [(EARLIEST, 0), (LATEST, 1), (500, 0), (1500, -1), (MAX_TIMESTAMP, -1)]
)
def test_who_reads_committed_records_is_told_of_none_that_are_not(
    broker: LoopBroker, timestamp: int, offset: int
) -> None:
    assert ask(broker, timestamp, topic="unfinished", isolation_level=1).offset == offset


def test_errors_are_told(broker: LoopBroker) -> None:
    assert ask(broker, -7).error_code == ErrorCode.UNSUPPORTED_VERSION
    assert ask(broker, LATEST, topic="nowhere").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert ask(broker, 5, partition_index=1).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert ask(broker, LATEST, current_leader_epoch=7).error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
    assert ask(broker, LATEST, current_leader_epoch=0).error_code == 0


def test_the_largest_timestamp_is_found_while_others_append(broker: LoopBroker) -> None:
    broker.store.create_topic("growing")
    log = broker.store.log("growing")
    log.append([b"a"], timestamps_ms=1000)
    newer = iter(range(2000, 10_000))
    view = LogView.largest_timestamp

    def appended_meanwhile(self: LogView) -> int:
        log.append([b"b"], timestamps_ms=next(newer))
        return view(self)

    with mock.patch.object(LogView, "largest_timestamp", appended_meanwhile):
        found = ask(broker, MAX_TIMESTAMP, topic="growing")
    assert (found.timestamp, found.offset) == (2000, 1)
