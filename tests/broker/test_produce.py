"""Produce over the wire: what is appended, what is acknowledged when, and what is refused how."""

import struct
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from logstore.broker.connection import TURNS_MAX
from logstore.broker.handlers import produce as produce_handler
from logstore.errors import DiskFull, StorageFailure
from logstore.format.batch import encode_batch
from logstore.format.compression import Compression
from logstore.storage import files
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from logstore.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from loop_broker import LoopBroker, frame_of, is_closed, loop_broker, read_frame
from waits import hold, wait_until

NOW_MS = 1_700_000_000_000
VERSIONS = range(3, 12)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    with loop_broker(tmp_path_factory.mktemp("produce") / "data") as broker:
        yield broker


@pytest.fixture
def topic(broker: LoopBroker, request: pytest.FixtureRequest) -> str:
    name = f"t{abs(hash(request.node.name))}"
    broker.store.create_topic(name, 2)
    return name


def batch_of(*values: bytes, **fields: Any) -> bytes:
    return encode_batch(values, timestamps_ms=fields.pop("timestamps_ms", NOW_MS), **fields)


def produce(topic: str, *batches: bytes | None, acks: int = 1) -> ProduceRequest:
    """A batch for each of its partitions, from 0 on."""
    data = [PartitionProduceData(index=number, records=batch) for number, batch in enumerate(batches)]
    return ProduceRequest(acks=acks, timeout_ms=1000, topic_data=[TopicProduceData(name=topic, partition_data=data)])


def outcome(broker: LoopBroker, request: ProduceRequest, version: int = 9) -> Any:
    """Of the first partition."""
    return broker.ask(request, version).responses[0].partition_responses[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("acks", [1, -1])
def test_a_batch_is_stored_and_acknowledged_with_its_offset(
    broker: LoopBroker, topic: str, version: int, acks: int
) -> None:
    for base_offset in (0, 2):
        found = outcome(broker, produce(topic, batch_of(b"a", b"b"), acks=acks), version)
        assert (found.error_code, found.base_offset, found.log_append_time_ms) == (0, base_offset, -1)
        assert found.log_start_offset == (0 if version >= 5 else -1)
    assert [record.value for record in broker.store.log(topic).records(0)] == [b"a", b"b"] * 2


@pytest.mark.parametrize("version", VERSIONS)
def test_batches_of_several_partitions_are_answered_each(broker: LoopBroker, topic: str, version: int) -> None:
    request = produce(topic, batch_of(b"a"), batch_of(b"b"), batch_of(b"c"), acks=-1)
    found = broker.ask(request, version).responses[0].partition_responses
    assert [(each.index, each.error_code) for each in found] == [
        (0, 0),
        (1, 0),
        (2, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]


def test_with_acks_all_it_is_on_the_disk_when_it_is_acknowledged(broker: LoopBroker, topic: str) -> None:
    log = broker.store.log(topic)
    outcome(broker, produce(topic, batch_of(b"a"), acks=1))
    assert log.synced_offset == 0
    outcome(broker, produce(topic, batch_of(b"a"), acks=-1))
    assert log.synced_offset == 2


def test_others_are_served_while_one_waits_for_the_disk(
    broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_sync = Event()
    sync = files.File.sync

    def slow_sync(file: files.File) -> None:
        if topic in str(file.path):
            hold(may_sync)
        sync(file)

    monkeypatch.setattr(files.File, "sync", slow_sync)
    with broker.client() as waiting:
        waiting.send(produce(topic, batch_of(b"a"), acks=-1), 9)
        assert outcome(broker, produce(topic, batch_of(b"b"), acks=1)).error_code == 0
        may_sync.set()
        assert waiting.receive().responses[0].partition_responses[0].error_code == 0


def test_requests_of_a_connection_that_wait_for_the_disk_share_syncs_and_are_answered_in_order(
    broker: LoopBroker, topic: str
) -> None:
    flushes = sum(broker.broker.metrics.flushes.counts)
    requests = [
        frame_of(produce(topic, batch_of(b"%d" % number), acks=-1 if number % 3 else 1), 9, number)
        for number in range(100)
    ]
    with broker.connect() as peer:
        peer.sendall(b"".join(requests) + frame_of(MetadataRequest(topics=[]), 9, 100))
        answered = [struct.unpack_from(">i", read_frame(peer))[0] for _ in range(101)]
    assert answered == list(range(101))
    assert [record.value for record in broker.store.log(topic).records(0)] == [b"%d" % number for number in range(100)]
    assert sum(broker.broker.metrics.flushes.counts) - flushes < 50


def test_requests_beyond_those_that_may_be_under_way_wait_for_their_turn(
    broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_sync = Event()
    sync = files.File.sync

    def slow_sync(file: files.File) -> None:
        if topic in str(file.path):
            hold(may_sync)
        sync(file)

    monkeypatch.setattr(files.File, "sync", slow_sync)
    log, count = broker.store.log(topic), TURNS_MAX + 100
    with broker.connect() as peer:
        peer.sendall(b"".join(frame_of(produce(topic, batch_of(b"a"), acks=-1), 9, number) for number in range(count)))
        wait_until(lambda: log.log_end_offset >= TURNS_MAX)
        assert log.log_end_offset == TURNS_MAX
        may_sync.set()
        assert [struct.unpack_from(">i", read_frame(peer))[0] for _ in range(count)] == list(range(count))
    assert log.log_end_offset == count


def test_without_acks_nothing_is_said(broker: LoopBroker, topic: str) -> None:
    with broker.connect() as peer:
        peer.sendall(frame_of(produce(topic, batch_of(b"a"), acks=0), 9, 1))
        peer.sendall(frame_of(MetadataRequest(topics=[]), 9, 2))
        assert read_frame(peer)[:4] == struct.pack(">i", 2)
    assert broker.store.log(topic).log_end_offset == 1


def test_without_acks_a_refusal_ends_the_connection(broker: LoopBroker) -> None:
    with broker.connect() as peer:
        peer.sendall(frame_of(produce("nowhere", batch_of(b"a"), acks=0), 9))
        assert is_closed(peer)


def test_an_idempotent_producer_that_sends_again_is_told_the_offset_that_it_has(broker: LoopBroker, topic: str) -> None:
    first, second = (
        batch_of(b"a", b"b", producer_id=7, producer_epoch=0, base_sequence=sequence) for sequence in (0, 2)
    )
    offsets = [outcome(broker, produce(topic, batch, acks=-1)).base_offset for batch in (first, second, first, second)]
    assert offsets == [0, 2, 0, 2]
    assert broker.store.log(topic).log_end_offset == 4


def corrupt(batch: bytes) -> bytes:
    return batch[:-1] + bytes([batch[-1] ^ 1])


def transactional(batch: bytes) -> bytes:
    return batch[:22] + bytes([batch[22] | 0x10]) + batch[23:]


def marker(attributes: int) -> bytes:
    """What a transaction's coordinator would write, of a producer, to end it."""
    key, value = struct.pack(">hh", 0, 1), struct.pack(">hi", 0, 0)
    return batch_of(value, keys=[key], producer_id=9, producer_epoch=0, attributes=attributes)


REFUSALS = [
    pytest.param(lambda: corrupt(batch_of(b"a")), 9, ErrorCode.CORRUPT_MESSAGE, id="a wrong CRC"),
    pytest.param(lambda: b"", 9, ErrorCode.CORRUPT_MESSAGE, id="no bytes"),
    pytest.param(lambda: None, 9, ErrorCode.INVALID_RECORD, id="null"),
    pytest.param(lambda: batch_of(b"a")[:40], 9, ErrorCode.CORRUPT_MESSAGE, id="half a header"),
    pytest.param(lambda: batch_of(b"a") * 2, 9, ErrorCode.INVALID_RECORD, id="two batches"),
    pytest.param(lambda: batch_of(bytes(2_000_000)), 9, ErrorCode.MESSAGE_TOO_LARGE, id="over max.message.bytes"),
    pytest.param(
        lambda: batch_of(b"a", timestamps_ms=NOW_MS * 10), 9, ErrorCode.INVALID_TIMESTAMP, id="a time to come"
    ),
    pytest.param(
        lambda: batch_of(b"a", producer_id=1, producer_epoch=0, base_sequence=-1),
        9,
        ErrorCode.INVALID_RECORD,
        id="a negative sequence",
    ),
    pytest.param(
        lambda: batch_of(b"a")[:16] + b"\1" + batch_of(b"a")[17:],
        9,
        ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        id="message format v1",
    ),
    pytest.param(
        lambda: batch_of(b"a", compression=Compression.ZSTD),
        6,
        ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
        id="zstd before it was known",
    ),
    pytest.param(lambda: transactional(batch_of(b"a")), 9, ErrorCode.INVALID_TXN_STATE, id="without a transaction"),
    pytest.param(lambda: marker(0x30), 9, ErrorCode.INVALID_RECORD, id="a transaction's marker"),
    pytest.param(lambda: marker(0x20), 9, ErrorCode.INVALID_RECORD, id="control records of no transaction"),
]


@pytest.mark.parametrize(("make", "version", "code"), REFUSALS)
@pytest.mark.parametrize("acks", [1, -1])
def test_a_batch_that_is_refused_is_told_why_and_nothing_of_it_is_stored(
    broker: LoopBroker, topic: str, make: Any, version: int, code: ErrorCode, acks: int
) -> None:
    found = outcome(broker, produce(topic, make(), acks=acks), version)
    assert (ErrorCode(found.error_code), found.base_offset) == (code, -1)
    assert broker.store.log(topic).log_end_offset == 0
    if version >= 8:
        assert found.error_message


def test_a_sequence_that_is_missing_is_told(broker: LoopBroker, topic: str) -> None:
    for sequence, code in ((0, ErrorCode.NONE), (5, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)):
        batch = batch_of(b"a", producer_id=7, producer_epoch=1, base_sequence=sequence)
        assert outcome(broker, produce(topic, batch)).error_code == code
    old = batch_of(b"a", producer_id=7, producer_epoch=0, base_sequence=0)
    assert outcome(broker, produce(topic, old)).error_code == ErrorCode.INVALID_PRODUCER_EPOCH


@pytest.mark.parametrize("acks", [2, -2, 32767])
def test_other_acks_are_refused(broker: LoopBroker, topic: str, acks: int) -> None:
    found = outcome(broker, produce(topic, batch_of(b"a"), acks=acks))
    assert found.error_code == ErrorCode.INVALID_REQUIRED_ACKS
    assert broker.store.log(topic).log_end_offset == 0


def test_the_groups_offsets_are_not_for_clients_to_write(broker: LoopBroker) -> None:
    found = outcome(broker, produce("__consumer_offsets", batch_of(b"a")))
    assert found.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_records_that_a_compacted_topic_does_not_take_are_named(broker: LoopBroker, topic: str) -> None:
    broker.store.alter_topic(topic, {"cleanup.policy": "compact"})
    found = outcome(broker, produce(topic, batch_of(b"a", b"b", keys=[b"k", None])), 9)
    assert found.error_code == ErrorCode.INVALID_RECORD
    assert [error.batch_index for error in found.record_errors] == [1]


def test_the_time_of_the_append_is_told_where_the_log_gives_it(broker: LoopBroker, topic: str) -> None:
    broker.store.alter_topic(topic, {"message.timestamp.type": "LogAppendTime"})
    found = outcome(broker, produce(topic, batch_of(b"a")))
    [record] = broker.store.log(topic).records(0)
    assert found.log_append_time_ms == record.timestamp_ms > NOW_MS


def test_a_full_disk_fails_that_partition_only(broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_at = files.File.write_at

    def fail(file: files.File, position: int, data: files.Buffer) -> None:
        if file.path.parent.name == f"{topic}_0":
            raise DiskFull(str(file.path), "write", 28, "No space left on device")
        write_at(file, position, data)

    with monkeypatch.context() as patch:
        patch.setattr(files.File, "write_at", fail)
        found = broker.ask(produce(topic, batch_of(b"a"), batch_of(b"a")), 9).responses[0].partition_responses
    assert [each.error_code for each in found] == [ErrorCode.KAFKA_STORAGE_ERROR, 0]
    assert outcome(broker, produce(topic, batch_of(b"a"))).base_offset == 0


def test_a_sync_that_fails_is_not_acknowledged(broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: files.File) -> None:
        raise StorageFailure(str(file.path), "sync", 5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files.File, "sync", fail)
        assert outcome(broker, produce(topic, batch_of(b"a"), acks=-1)).error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert outcome(broker, produce(topic, batch_of(b"a"), acks=1)).error_code == ErrorCode.KAFKA_STORAGE_ERROR


def test_a_mistake_of_our_own_in_a_later_part_of_a_request_ends_its_connection_alone(
    broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(produce_handler, "_SLICE_S", 0.0)
    log = broker.store.log(topic, 1)

    def fail(records: object) -> None:
        raise MemoryError

    monkeypatch.setattr(log, "append_batch", fail)
    with broker.connect() as peer:
        peer.sendall(frame_of(produce(topic, batch_of(b"a"), batch_of(b"b")), 9))
        assert is_closed(peer)
    assert outcome(broker, produce(topic, batch_of(b"a"))).base_offset == 1
    assert not broker.broker.memory.total


@pytest.mark.parametrize("acks", [1, -1])
def test_a_sync_that_fails_by_our_own_mistake_is_not_acknowledged_and_later_ones_are(
    broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch, acks: int
) -> None:
    broker.store.alter_topic(topic, {"flush.messages": "1"})

    def fail() -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(broker.store.log(topic), "flush", fail)
        found = outcome(broker, produce(topic, batch_of(b"a"), acks=acks))
        assert found.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert outcome(broker, produce(topic, batch_of(b"a"), acks=acks)).base_offset == 1


def test_flush_messages_is_kept_whatever_the_acks(broker: LoopBroker, topic: str) -> None:
    broker.store.alter_topic(topic, {"flush.messages": "1"})
    outcome(broker, produce(topic, batch_of(b"a"), acks=1))
    assert broker.store.log(topic).synced_offset == 1


def test_where_the_settings_say_so_acks_all_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data", acks_all_durability="os") as broker:
        broker.store.create_topic("t")
        assert outcome(broker, produce("t", batch_of(b"a"), acks=-1)).error_code == 0
        assert broker.store.log("t").synced_offset == 0


def test_a_request_without_batches_is_answered(broker: LoopBroker) -> None:
    for acks in (1, -1):
        assert not broker.ask(ProduceRequest(acks=acks, topic_data=[]), 9).responses


def test_what_was_produced_is_counted(broker: LoopBroker, topic: str) -> None:
    batch = batch_of(b"a", b"b")
    outcome(broker, produce(topic, batch))
    counts = broker.broker.metrics.topics[topic]
    assert (counts.produced_records, counts.produced_bytes) == (2, len(batch))


def test_a_connection_that_ends_before_its_batch_is_on_the_disk_harms_nobody(broker: LoopBroker, topic: str) -> None:
    for _ in range(5):
        with broker.connect() as peer:
            peer.sendall(frame_of(produce(topic, batch_of(b"a"), acks=-1), 9))
    wait_until(lambda: broker.store.log(topic).synced_offset == 5)
    asked = [MetadataRequestTopic(name=topic)]
    assert broker.ask(MetadataRequest(topics=asked), 9).topics[0].error_code == 0
