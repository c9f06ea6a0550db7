"""Fetch over the wire: what is read, within which limits, when, and what is told where nothing can be."""

import struct
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from logstore.broker.delayed_fetches import DelayedFetch
from logstore.broker.fetching import Cold
from logstore.broker.handlers import fetch as fetch_handler
from logstore.format.batch import RecordBatch, batches, encode_batch
from logstore.storage import files
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from loop_broker import LoopBroker, frame_of, is_closed, loop_broker, read_frame
from waits import wait_until

VERSIONS = range(4, 18)
LONG_MS = 30_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    with loop_broker(tmp_path_factory.mktemp("fetch") / "data") as broker:
        yield broker


@pytest.fixture
def topic(broker: LoopBroker, request: pytest.FixtureRequest) -> str:
    name = f"t{abs(hash(request.node.name))}"
    broker.store.create_topic(name, 4)
    return name


class Ask:
    """Fetches of one topic, in one version, by name or by id as that wants it."""

    def __init__(self, broker: LoopBroker, topic: str, version: int = 12) -> None:
        self.broker, self.topic, self.version = broker, topic, version

    @property
    def named(self) -> dict[str, Any]:
        if self.version < 13:
            return {"topic": self.topic}
        return {"topic_id": self.broker.store.topic(self.topic).topic_id}

    def request(self, *offsets: int, max_bytes: int = 1 << 20, epoch: int = -1, **fields: Any) -> FetchRequest:
        """Of partition 0 and on, from these offsets; a negative one: not this partition."""
        partitions = [
            FetchPartition(
                partition=number, fetch_offset=offset, partition_max_bytes=max_bytes, current_leader_epoch=epoch
            )
            for number, offset in enumerate(offsets)
            if offset >= 0
        ]
        fields = {"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 1 << 25} | fields
        return FetchRequest(topics=[FetchTopic(partitions=partitions, **self.named)] if partitions else [], **fields)

    def __call__(self, *offsets: int, **fields: Any) -> list[Any]:
        """The partitions of the answer."""
        response = self.broker.ask(self.request(*offsets, **fields), self.version)
        assert not response.error_code
        return [partition for found in response.responses for partition in found.partitions]


def values(partition: Any) -> list[bytes | None]:
    """Of the records in whole batches."""
    found: list[RecordBatch] = list(batches(bytes(partition.records or b"")))
    return [record.value for batch in found for record in batch.records()]


@pytest.mark.parametrize("version", VERSIONS)
def test_records_come_from_an_offset_on(broker: LoopBroker, topic: str, version: int) -> None:
    log = broker.store.log(topic)
    for number in range(10):
        log.append([b"%d" % number])
    [found] = Ask(broker, topic, version)(4)
    assert values(found) == [b"%d" % number for number in range(4, 10)]
    assert (found.error_code, found.high_watermark, found.last_stable_offset) == (0, 10, 10)
    assert found.log_start_offset == (0 if version >= 5 else -1)


@pytest.mark.parametrize("version", VERSIONS)
def test_at_the_end_there_is_nothing(broker: LoopBroker, topic: str, version: int) -> None:
    broker.store.log(topic).append([b"a"])
    [found] = Ask(broker, topic, version)(1)
    assert (found.error_code, found.high_watermark, values(found)) == (0, 1, [])


@pytest.mark.parametrize("version", [4, 12, 17])
@pytest.mark.parametrize("size", [10, 30_000, 100_000, 900_000])
def test_batches_of_any_size_come_whole(broker: LoopBroker, topic: str, version: int, size: int) -> None:
    sent = [[bytes([number]) * size for number in range(3)] for _ in range(3)]
    for number, each in enumerate(sent):
        for value in each:
            broker.store.log(topic, number).append([value])
    found = Ask(broker, topic, version)(0, 0, 0, max_bytes=10 << 20)
    assert [values(partition) for partition in found] == sent


def test_a_partition_gives_no_more_than_its_limit_but_the_first_at_least_a_batch(
    broker: LoopBroker, topic: str
) -> None:
    for number in range(3):
        broker.store.log(topic, number).append([bytes(1000)])
        broker.store.log(topic, number).append([bytes(1000)])
    sizes = [len(found.records) for found in Ask(broker, topic)(0, 0, 0, max_bytes=100)]
    assert sizes[0] >= 1000 and sizes[1:] == [0, 0]
    sizes = [len(found.records) for found in Ask(broker, topic)(0, 0, 0, max_bytes=1500)]
    assert sizes == [1500] * 3


def test_a_response_has_no_more_than_its_limit(broker: LoopBroker, topic: str) -> None:
    for number in range(3):
        broker.store.log(topic, number).append([bytes(1000)])
    [size, *others] = [len(found.records) for found in Ask(broker, topic)(0, 0, 0)]
    assert others == [size] * 2
    request = Ask(broker, topic).request(0, 0, 0)
    request.max_bytes = 2 * size
    partitions = broker.ask(request, 12).responses[0].partitions
    assert [len(found.records) for found in partitions] == [size, size, 0]
    request.max_bytes = 0
    partitions = broker.ask(request, 12).responses[0].partitions
    assert [len(found.records) for found in partitions] == [size, 0, 0]


# --------------------------------------------------------------------------------------------------------- waiting


@pytest.mark.parametrize("version", VERSIONS)
def test_a_fetch_at_the_end_is_answered_when_records_come(broker: LoopBroker, topic: str, version: int) -> None:
    ask = Ask(broker, topic, version)
    with broker.client() as client:
        client.send(ask.request(0, 0, max_wait_ms=LONG_MS), version)
        wait_until(lambda: len(broker.broker.delayed_fetches) == 1)
        broker.store.log(topic, 1).append([b"a"])  # in another thread than the broker's
        found = client.receive().responses[0].partitions
    assert [values(partition) for partition in found] == [[], [b"a"]]


def test_it_is_answered_empty_when_the_time_is_over(broker: LoopBroker, topic: str) -> None:
    [found] = Ask(broker, topic)(0, max_wait_ms=50)
    assert (found.error_code, values(found)) == (0, [])
    assert not broker.broker.delayed_fetches


def test_it_waits_for_as_many_bytes_as_are_asked_for(broker: LoopBroker, topic: str) -> None:
    log = broker.store.log(topic)
    log.append([bytes(100)])
    with broker.client() as client:
        client.send(Ask(broker, topic).request(0, max_wait_ms=LONG_MS, min_bytes=500), 12)
        wait_until(lambda: len(broker.broker.delayed_fetches) == 1)
        for _ in range(4):
            log.append([bytes(100)])
        [found] = client.receive().responses[0].partitions
    assert len(found.records) >= 500


def test_an_append_that_is_too_little_has_only_its_own_log_watched_anew(
    broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [broker.store.log(topic, number) for number in range(3)]
    watched: list[int] = []
    for number, log in enumerate(logs):
        watch = log.call_when_beyond

        def noted(*arguments: Any, number: int = number, watch: Any = watch) -> Any:
            watched.append(number)
            return watch(*arguments)

        monkeypatch.setattr(log, "call_when_beyond", noted)
    with broker.client() as client:
        client.send(Ask(broker, topic).request(0, 0, 0, max_wait_ms=LONG_MS, min_bytes=500), 12)
        wait_until(lambda: watched == [0, 1, 2])
        for count, number in enumerate((1, 1, 2), start=1):
            logs[number].append([bytes(1)])
            wait_until(lambda count=count: len(watched) == 3 + count)
        assert watched == [0, 1, 2, 1, 1, 2]
        logs[0].append([bytes(500)])
        found = client.receive().responses[0].partitions
    assert [len(values(partition)) for partition in found] == [1, 2, 1]
    assert [len(log._waiters) for log in logs] == [0, 0, 0]


def test_more_than_it_may_give_is_not_waited_for(broker: LoopBroker, topic: str) -> None:
    broker.store.log(topic).append([bytes(100)])
    request = Ask(broker, topic).request(0, max_wait_ms=LONG_MS, min_bytes=1 << 30)
    request.max_bytes = 100
    assert broker.ask(request, 12).responses[0].partitions[0].records


def test_an_error_is_not_waited_for(broker: LoopBroker, topic: str) -> None:
    found = Ask(broker, topic)(0, 99, max_wait_ms=LONG_MS)
    assert [partition.error_code for partition in found] == [0, ErrorCode.OFFSET_OUT_OF_RANGE]


def test_a_topic_that_is_deleted_meanwhile_is_told(broker: LoopBroker, topic: str) -> None:
    with broker.client() as client:
        client.send(Ask(broker, topic).request(0, max_wait_ms=LONG_MS), 12)
        wait_until(lambda: len(broker.broker.delayed_fetches) == 1)
        broker.store.delete_topic(topic)
        [found] = client.receive().responses[0].partitions
    assert found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_one_whose_client_has_gone_is_forgotten(broker: LoopBroker, topic: str) -> None:
    with broker.connect() as peer:
        peer.sendall(frame_of(Ask(broker, topic).request(0, max_wait_ms=LONG_MS), 12))
        wait_until(lambda: len(broker.broker.delayed_fetches) == 1)
    wait_until(lambda: not broker.broker.delayed_fetches)


def test_what_is_sent_behind_a_fetch_that_waits_is_answered_after_it(broker: LoopBroker, topic: str) -> None:
    request = Ask(broker, topic).request(0, max_wait_ms=50)
    with broker.connect() as peer:
        peer.sendall(b"".join(frame_of(request, 12, number) for number in range(3)))
        assert [struct.unpack_from(">i", read_frame(peer))[0] for _ in range(3)] == [0, 1, 2]


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("offset", "code"), [(3, 0), (2, 1), (6, 0), (7, 1)])
def test_an_offset_that_the_log_does_not_have_is_told(broker: LoopBroker, topic: str, offset: int, code: int) -> None:
    for _ in range(6):
        broker.store.log(topic).append([b"a"])
    broker.store.advance_log_start(topic, 0, 3)
    [found] = Ask(broker, topic)(offset)
    assert found.error_code == code


@pytest.mark.parametrize("version", VERSIONS)
def test_partitions_that_there_are_not_are_told(broker: LoopBroker, topic: str, version: int) -> None:
    ask = Ask(broker, topic, version)
    found = ask(0, 0, 0, 0, 0)
    assert [partition.error_code for partition in found] == [0, 0, 0, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    named: dict[str, Any] = {"topic": "nowhere"} if version < 13 else {"topic_id": uuid4()}
    request = ask.request(0)
    request.topics = [FetchTopic(partitions=[FetchPartition(partition=0, partition_max_bytes=1)], **named)]
    [partition] = broker.ask(request, version).responses[0].partitions
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if version < 13 else ErrorCode.UNKNOWN_TOPIC_ID
    assert partition.error_code == code


def test_another_leader_than_this_is_told(broker: LoopBroker, topic: str) -> None:
    broker.store.log(topic).leader_epoch = 5
    codes = [Ask(broker, topic)(0, epoch=epoch)[0].error_code for epoch in (-1, 4, 5, 6)]
    assert codes == [0, ErrorCode.FENCED_LEADER_EPOCH, 0, ErrorCode.UNKNOWN_LEADER_EPOCH]


def test_a_file_that_was_cut_under_a_response_ends_the_connection(broker: LoopBroker, topic: str) -> None:
    log = broker.store.log(topic)
    log.append([bytes(200_000)])
    file = next(log.directory.glob("*.log"))
    whole = file.read_bytes()
    with broker.client() as client:
        with file.open("r+b") as opened:
            opened.truncate(1000)
        client.send(Ask(broker, topic).request(0), 12)
        with pytest.raises((AssertionError, ConnectionError)):
            client.receive()
    with file.open("r+b") as opened:
        opened.write(whole)
    assert Ask(broker, topic)(0)[0].error_code == 0


# -------------------------------------------------------------------------------------------------- what is not cached


def test_records_that_are_not_in_memory_are_read_without_others_having_to_wait(
    broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (100, 100_000):
        for _ in range(3):
            broker.store.log(topic).append([bytes(size)])
    in_threads: list[bool] = []
    read_at = files.File.read_at

    def spying_read_at(file: files.File, position: int, size: int) -> bytes:
        in_threads.append(threading.current_thread().name.startswith("logstore-broker"))
        return read_at(file, position, size)

    monkeypatch.setattr(files.File, "read_cached", lambda file, position, size: None)
    monkeypatch.setattr(files.File, "read_at", spying_read_at)
    [found] = Ask(broker, topic)(1)
    assert len(values(found)) == 5
    assert True in in_threads


# ---------------------------------------------------------------------------------------------------------- sessions


@pytest.mark.parametrize("version", [7, 12, 13, 17])
def test_a_session_tells_only_what_is_new(broker: LoopBroker, topic: str, version: int) -> None:
    ask = Ask(broker, topic, version)
    with broker.client() as client:
        begun = client.ask(ask.request(0, 0, 0, session_epoch=0), version)
        session_id = begun.session_id
        assert session_id and len(begun.responses[0].partitions) == 3
        told = client.ask(ask.request(session_id=session_id, session_epoch=1), version)
        assert (told.error_code, told.session_id, list(told.responses)) == (0, session_id, [])
        broker.store.log(topic, 1).append([b"a"])
        told = client.ask(ask.request(session_id=session_id, session_epoch=2), version)
        [partition] = told.responses[0].partitions
        assert (partition.partition_index, values(partition)) == (1, [b"a"])
        told = client.ask(ask.request(-1, 1, session_id=session_id, session_epoch=3), version)
        assert not told.responses


def test_a_session_that_waits_is_woken_by_any_of_its_partitions(broker: LoopBroker, topic: str) -> None:
    ask = Ask(broker, topic)
    with broker.client() as client:
        session_id = client.ask(ask.request(0, 0, 0, 0, session_epoch=0), 12).session_id
        client.send(ask.request(session_id=session_id, session_epoch=1, max_wait_ms=LONG_MS), 12)
        wait_until(lambda: len(broker.broker.delayed_fetches) == 1)
        broker.store.log(topic, 3).append([b"a"])
        [partition] = client.receive().responses[0].partitions
    assert partition.partition_index == 3


def test_partitions_leave_a_session(broker: LoopBroker, topic: str) -> None:
    ask = Ask(broker, topic)
    with broker.client() as client:
        session_id = client.ask(ask.request(0, 0, session_epoch=0), 12).session_id
        broker.store.log(topic, 0).append([b"a"])
        broker.store.log(topic, 1).append([b"b"])
        request = ask.request(session_id=session_id, session_epoch=1)
        request.forgotten_topics_data = [ForgottenTopic(topic=topic, partitions=[0])]
        told = client.ask(request, 12)
    assert [values(partition) for partition in told.responses[0].partitions] == [[b"b"]]


def test_a_session_that_is_not_known_is_told(broker: LoopBroker, topic: str) -> None:
    ask = Ask(broker, topic)
    unknown = broker.ask(ask.request(session_id=99, session_epoch=1), 12)
    assert (unknown.error_code, unknown.session_id) == (ErrorCode.FETCH_SESSION_ID_NOT_FOUND, 0)
    session_id = broker.ask(ask.request(0, session_epoch=0), 12).session_id
    skipped = broker.ask(ask.request(session_id=session_id, session_epoch=7), 12)
    assert skipped.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH


def test_an_offset_that_is_out_of_range_is_told_again_until_it_is_changed(broker: LoopBroker, topic: str) -> None:
    ask = Ask(broker, topic)
    with broker.client() as client:
        session_id = client.ask(ask.request(9, session_epoch=0), 12).session_id
        for epoch in (1, 2):
            told = client.ask(ask.request(session_id=session_id, session_epoch=epoch), 12)
            assert told.responses[0].partitions[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        told = client.ask(ask.request(0, session_id=session_id, session_epoch=3), 12)
        assert [partition.error_code for partition in told.responses[0].partitions] == [0]
        assert not client.ask(ask.request(session_id=session_id, session_epoch=4), 12).responses


# ------------------------------------------------------------------------------------------------- mistakes of our own


def fail(*unused: object, **unused_too: object) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    "wakes", [DelayedFetch.expire, lambda delayed: delayed._on_growth(("t", 0))], ids=["its time is over", "it grows"]
)
def test_a_fetch_that_fails_after_it_has_waited_ends_its_connection(
    broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch, wakes: Any
) -> None:
    with broker.connect() as peer:
        peer.sendall(frame_of(Ask(broker, topic).request(0, max_wait_ms=LONG_MS), 12))
        wait_until(lambda: broker.broker.delayed_fetches)
        [delayed] = broker.broker.delayed_fetches
        monkeypatch.setattr(fetch_handler, "fetch", fail)
        broker.in_loop(lambda: wakes(delayed))
        assert is_closed(peer)
    wait_until(lambda: not broker.broker.delayed_fetches)


@pytest.mark.parametrize("failing", ["fetch", "encode_response"])
def test_a_fetch_that_fails_after_the_disk_was_waited_for_ends_its_connection(
    broker: LoopBroker, topic: str, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    log = broker.store.log(topic)
    log.append([b"a"])
    look = fetch_handler.fetch
    found_cold: list[object] = []

    def cold_at_first(*arguments: Any, **named: Any) -> Any:
        if found_cold:
            return fail() if failing == "fetch" else look(*arguments, **named)
        found_cold.append(topic)
        return look(*arguments, **named)._replace(cold=[Cold(log, 0)])

    monkeypatch.setattr(fetch_handler, "fetch", cold_at_first)
    if failing == "encode_response":
        monkeypatch.setattr(fetch_handler, "encode_response", fail)
    with broker.connect() as peer:
        peer.sendall(frame_of(Ask(broker, topic).request(0), 12))
        assert is_closed(peer)


# ------------------------------------------------------------------------------------------------------- transactions


def transaction(broker: LoopBroker, topic: str, producer_id: int, value: bytes) -> None:
    broker.store.log(topic).append_batches(
        encode_batch(
            [value], timestamps_ms=1, producer_id=producer_id, producer_epoch=0, base_sequence=0, attributes=0x10
        )
    )


def marker(broker: LoopBroker, topic: str, producer_id: int, *, commits: bool) -> None:
    broker.store.log(topic).append_batches(
        encode_batch(
            [struct.pack(">hi", 0, 0)],
            keys=[struct.pack(">hh", 0, 1 if commits else 0)],
            timestamps_ms=1,
            producer_id=producer_id,
            producer_epoch=0,
            attributes=0x30,
        )
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_who_reads_committed_records_gets_none_of_an_open_transaction(
    broker: LoopBroker, topic: str, version: int
) -> None:
    ask = Ask(broker, topic, version)
    broker.store.log(topic).append([b"a"])
    transaction(broker, topic, 9, b"b")
    [found] = ask(0, isolation_level=1)
    assert (values(found), found.last_stable_offset, found.high_watermark) == ([b"a"], 1, 2)
    [found] = ask(1, isolation_level=1)
    assert (found.error_code, values(found)) == (0, [])
    [found] = ask(0)
    assert values(found) == [b"a", b"b"]


@pytest.mark.parametrize("version", [4, 11, 12, 17])
def test_who_reads_committed_records_is_told_what_was_aborted(broker: LoopBroker, topic: str, version: int) -> None:
    ask = Ask(broker, topic, version)
    transaction(broker, topic, 9, b"a")
    marker(broker, topic, 9, commits=False)
    transaction(broker, topic, 10, b"b")
    marker(broker, topic, 10, commits=True)
    [found] = ask(0, isolation_level=1)
    assert [(each.producer_id, each.first_offset) for each in found.aborted_transactions] == [(9, 0)]
    assert found.last_stable_offset == 4
    [found] = ask(0)
    assert found.aborted_transactions is None
