"""Records deleted over the wire. What is said of ``admin`` holds for Kafka too."""

from pathlib import Path
from typing import Any

import pytest

from failing_os import DEAD_DISK, FailingCalls
from kafka_brokers import fresh_name
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.storage import files
from logstore.storage.offset_checkpoints import read_offsets
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from logstore.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from loop_broker import loop_broker
from wire_admin import OwnBroker, WireAdmin, new_topic

EARLIEST = -2


def delete(admin: WireAdmin, topic: str, offsets: dict[int, int], version: int = 2) -> dict[int, tuple[int, int]]:
    """By partition: the low watermark, and the error."""
    partitions = [DeleteRecordsPartition(partition_index=number, offset=offset) for number, offset in offsets.items()]
    request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=partitions)], timeout_ms=30_000)
    (found,) = admin.ask(request, version).topics
    assert found.name == topic
    return {one.partition_index: (one.low_watermark, one.error_code) for one in found.partitions}


def start_offset(admin: WireAdmin, topic: str, partition: int = 0) -> int:
    asked = ListOffsetsPartition(partition_index=partition, timestamp=EARLIEST)
    request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[asked])])
    offset: int = admin.ask(request, 6).topics[0].partitions[0].offset
    return offset


@pytest.mark.parametrize("version", range(3))
def test_what_is_before_the_offset_can_no_longer_be_read(admin: WireAdmin, version: int) -> None:
    name = admin.topic(2)
    admin.produce(name, 10)
    admin.produce(name, 5, 1)
    assert delete(admin, name, {0: 4, 1: -1}, version) == {0: (4, ErrorCode.NONE), 1: (5, ErrorCode.NONE)}
    assert (start_offset(admin, name, 0), start_offset(admin, name, 1)) == (4, 5)


def test_what_is_deleted_stays_deleted(admin: WireAdmin) -> None:
    name = admin.topic()
    admin.produce(name, 10)
    assert delete(admin, name, {0: 4}) == {0: (4, ErrorCode.NONE)}
    assert delete(admin, name, {0: 2}) == {0: (4, ErrorCode.NONE)}
    assert delete(admin, name, {0: 10}) == {0: (10, ErrorCode.NONE)}
    admin.produce(name, 1)
    assert start_offset(admin, name) == 10


@pytest.mark.parametrize("offset", [11, -2, 2**62])
def test_an_offset_that_is_not_in_the_log_is_refused(admin: WireAdmin, offset: int) -> None:
    name = admin.topic()
    admin.produce(name, 10)
    assert delete(admin, name, {0: offset}) == {0: (-1, ErrorCode.OFFSET_OUT_OF_RANGE)}
    assert start_offset(admin, name) == 0


def test_of_many_partitions_each_has_its_own_outcome(admin: WireAdmin) -> None:
    name = admin.topic()
    admin.produce(name, 3)
    assert delete(admin, name, {0: 1, 7: 1}) == {
        0: (1, ErrorCode.NONE),
        7: (-1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    }
    assert delete(admin, fresh_name("missing"), {0: 1}) == {0: (-1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)}


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [("compact", (-1, ErrorCode.POLICY_VIOLATION)), ("compact,delete", (2, ErrorCode.NONE))],
)
def test_records_of_a_topic_that_is_only_compacted_stay(
    admin: WireAdmin, policy: str, outcome: tuple[int, int]
) -> None:
    name = admin.topic(**{"cleanup.policy": policy})
    admin.produce(name, 3)
    assert delete(admin, name, {0: 2}) == {0: outcome}


def test_groups_offsets_are_not_deleted_record_by_record(own: OwnBroker) -> None:
    own.create(new_topic(OFFSETS_TOPIC))
    assert delete(own, OFFSETS_TOPIC, {0: 0}) == {0: (-1, ErrorCode.INVALID_TOPIC_EXCEPTION)}


def test_records_stay_deleted_when_the_broker_starts_again(own: OwnBroker) -> None:
    own.create(new_topic("t"))
    own.produce("t", 10)
    delete(own, "t", {0: 4})
    own.restart()
    assert start_offset(own, "t") == 4


def files_that_are_synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    synced: list[str] = []
    write_file = files.write_file

    def noted(path: Path, *arguments: Any, **named: Any) -> None:
        synced.append(path.name)
        write_file(path, *arguments, **named)

    monkeypatch.setattr(files, "write_file", noted)
    return synced


def test_where_many_logs_start_is_saved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loop_broker(tmp_path / "data") as broker:
        broker.store.create_topic("t", 50)
        for number in range(50):
            broker.store.log("t", number).append([b"a"] * 3)
        partitions = [DeleteRecordsPartition(partition_index=number, offset=2) for number in range(51)]
        request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name="t", partitions=partitions)])
        synced = files_that_are_synced(monkeypatch)
        (found,) = broker.ask(request, 2).topics
        assert [one.low_watermark for one in found.partitions] == [2] * 50 + [-1]
        assert sorted(synced) == ["log-start-offset-checkpoint", "recovery-point-offset-checkpoint"]
        assert set(read_offsets(tmp_path / "data" / "log-start-offset-checkpoint").values()) == {2}


def test_a_start_that_could_not_be_saved_is_told_of_each_partition(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data") as broker:
        broker.store.create_topic("t", 2)
        for number in range(2):
            broker.store.log("t", number).append([b"a"] * 3)
            broker.store.log("t", number).flush()
        partitions = [DeleteRecordsPartition(partition_index=number, offset=2) for number in range(3)]
        request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name="t", partitions=partitions)])
        with FailingCalls(DEAD_DISK, 0):
            (found,) = broker.ask(request, 2).topics
        codes = [one.error_code for one in found.partitions]
        assert codes == [ErrorCode.KAFKA_STORAGE_ERROR] * 2 + [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
