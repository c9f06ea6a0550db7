"""The consumer of asyncio: nobody needs a thread to wait, a group may be in one loop, and nothing is lost."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import logstore
from logstore.aio import AsyncConsumer, AsyncStore
from logstore.client.consumer import ConsumerRecord, RebalanceListener
from logstore.errors import (
    Closed,
    ConcurrentUse,
    InvalidArgument,
    LogstoreError,
    PollIntervalExceeded,
    SerializationFailed,
)
from logstore.format.filename import TopicPartition
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.groups.requests import OffsetAndMetadata
from logstore.storage.partition import PartitionLog

LONG_S = 20.0
SOON_S = 0.01
EAGER, COOPERATIVE = "range", "cooperative-sticky"


def run(path: Path, body: Callable[[AsyncStore], Awaitable[Any]], **settings: object) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(60), logstore.aio.open(path / "data", **settings) as store:
            await store.create_topic("t", partitions=1)
            return await body(store)

    return asyncio.run(main())


def append(store: AsyncStore, *values: bytes, topic: str = "t", partition: int = 0) -> None:
    store.store.log(topic, partition).append(list(values), durability="os")


def values(records: list[ConsumerRecord]) -> list[bytes]:
    return [record.value for record in records]


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(LONG_S):
        while not is_so():
            await asyncio.sleep(0.002)


class Calls(RebalanceListener):
    """Takes down what is called, and in which thread."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.threads: set[int] = set()

    def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
        self._note("+", partitions)

    def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
        self._note("-", partitions)

    def _note(self, what: str, partitions: list[TopicPartition]) -> None:
        self.calls.append((what, len(partitions)))
        self.threads.add(threading.get_ident())


# -------------------------------------------------------------------------------------------------------------- waiting


def test_a_poll_returns_records_and_is_empty_at_its_time_out(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async with store.consumer("t", auto_offset_reset="earliest") as consumer:
            assert await consumer.poll(0) == []
            assert await consumer.poll(SOON_S) == []
            append(store, b"a", b"b", b"c")
            assert values(await consumer.poll(LONG_S, max_records=2)) == [b"a", b"b"]
            assert consumer.position("t", 0) == 2 and consumer.lag() == {("t", 0): 1}
            assert values(await consumer.poll()) == [b"c"]
            for timeout in ("1", float("nan")):
                with pytest.raises(InvalidArgument, match="number of seconds"):
                    await consumer.poll(timeout)  # type: ignore[arg-type]
            with pytest.raises(InvalidArgument, match="max_records"):
                await consumer.poll(0, max_records=0)

    run(tmp_path, body)


def test_waiting_takes_no_threads_and_an_append_of_any_thread_ends_it(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        consumers = [store.consumer("t") for _ in range(50)]
        await asyncio.gather(*[consumer.poll(0) for consumer in consumers])
        await store.flush()
        for appending in (lambda: append(store, b"a"), lambda: asyncio.to_thread(append, store, b"a")):
            before = threading.active_count()
            waiting = [asyncio.create_task(consumer.poll()) for consumer in consumers]
            await asyncio.sleep(SOON_S)
            assert threading.active_count() == before
            appended = appending()
            if appended is not None:
                await appended
            assert [values(records) for records in await asyncio.gather(*waiting)] == [[b"a"]] * 50

    run(tmp_path, body)


def test_others_run_while_there_are_records(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        turns, told = 0, [0]

        async def run_beside() -> None:
            while True:
                told[0] += 1
                await asyncio.sleep(0)

        append(store, *[b"%d" % number for number in range(5000)])
        beside = asyncio.create_task(run_beside())
        async with store.consumer("t", auto_offset_reset="earliest", max_poll_records=100) as consumer:
            while turns < 5000:
                turns += len(await consumer.poll())
            assert told[0] >= 50
            consumer.seek("t", 0, 0)
            told[0] = turns = 0
            async for record in consumer:
                assert record.value == b"%d" % turns
                turns += 1
                if turns == 5000:
                    break
            assert 10 <= told[0] <= 100
        beside.cancel()

    run(tmp_path, body)


def test_only_one_task_polls_and_others_may_do_all_the_rest(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        append(store, b"a", b"b")
        async with store.consumer("t", group="g", enable_auto_commit=False) as consumer:
            waiting = asyncio.create_task(consumer.poll())
            await until(consumer.assignment)
            with pytest.raises(ConcurrentUse, match="another task"):
                await consumer.poll(0)
            consumer.pause()
            consumer.seek("t", 0, 0)
            await consumer.commit()
            assert consumer.paused() == {("t", 0)} and not waiting.done()
            await consumer.commit({("t", 0): 1})
            committed = await consumer.committed("t", 0)
            assert committed is not None and committed.offset == 1
            consumer.resume()
            assert values(await waiting) == [b"a", b"b"]

    run(tmp_path, body)


def test_wakeup_in_another_thread_ends_a_poll_and_an_iteration(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async with store.consumer("t") as consumer:
            for _ in range(2):
                waiting = asyncio.create_task(consumer.poll())
                await asyncio.sleep(SOON_S)
                await asyncio.to_thread(consumer.wakeup)
                assert await waiting == []
            consumer.wakeup()
            assert [record async for record in consumer] == []
            append(store, b"a")
            assert values(await consumer.poll(LONG_S)) == [b"a"]

    run(tmp_path, body)


def test_what_was_read_is_committed_while_a_poll_waits(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        append(store, b"a")
        settings = {"auto_offset_reset": "earliest", "auto_commit_interval_ms": 20}
        async with store.consumer("t", group="g", **settings) as consumer:
            assert len(await consumer.poll(LONG_S)) == 1
            waiting = asyncio.create_task(consumer.poll())
            await until(lambda: list(store.store.groups.committed("g").values()) == [OffsetAndMetadata(1)])
            assert not waiting.done()
            waiting.cancel()

    run(tmp_path, body)


# -------------------------------------------------------------------------------------------- cancellation, and the end


def test_a_cancelled_poll_loses_no_record(tmp_path: Path) -> None:
    count = 300

    async def body(store: AsyncStore) -> None:
        got: list[bytes] = []
        async with store.consumer("t") as consumer:
            await consumer.poll(0)
            writer = threading.Thread(target=write, args=[store])
            writer.start()
            cancelled = turn = 0
            while len(got) < count:
                polling = asyncio.create_task(consumer.poll())
                for _ in range(turn % 5):
                    await asyncio.sleep(0)
                polling.cancel()
                turn += 1
                try:
                    got += values(await polling)
                except asyncio.CancelledError:
                    cancelled += 1
            writer.join()
        assert got == [b"%d" % number for number in range(count)] and cancelled

    def write(store: AsyncStore) -> None:
        for number in range(count):
            append(store, b"%d" % number)

    run(tmp_path, body)


def test_an_iteration_goes_on_after_a_wait_that_was_cancelled(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async with store.consumer("t") as consumer:
            records = aiter(consumer)
            for value in (b"a", b"b"):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(records), SOON_S)
                append(store, value)
                assert (await asyncio.wait_for(anext(records), LONG_S)).value == value

    run(tmp_path, body)


def test_close_ends_a_poll_and_an_iteration(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async def iterate(consumer: AsyncConsumer) -> list[bytes]:
            return [record.value async for record in consumer]

        append(store, b"a")
        polled, iterated = store.consumer("t"), store.consumer("t", auto_offset_reset="earliest")
        polling, iterating = asyncio.create_task(polled.poll()), asyncio.create_task(iterate(iterated))
        await asyncio.sleep(SOON_S)
        await polled.close()
        await iterated.close()
        await iterated.close()
        with pytest.raises(Closed):
            await polling
        assert await iterating == [b"a"] and await iterate(iterated) == []
        with pytest.raises(Closed):
            await polled.poll()
        with pytest.raises(Closed):
            polled.assignment()

    run(tmp_path, body)


def test_a_store_that_is_closed_closes_its_consumers_whose_listeners_are_called_in_the_loop(tmp_path: Path) -> None:
    listener = Calls()

    async def body(store: AsyncStore) -> "asyncio.Task[Any]":
        consumer = store.consumer("t", group="g", listener=listener)
        waiting = asyncio.create_task(consumer.poll())
        await until(consumer.assignment)
        await store.close()
        with pytest.raises(Closed):
            await waiting
        return waiting

    run(tmp_path, body)
    assert listener.calls == [("+", 1), ("-", 1)] and listener.threads == {threading.get_ident()}


def test_a_listener_that_fails_keeps_no_store_from_being_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(RebalanceListener):
        def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
            raise ValueError("no")

    async def body(store: AsyncStore) -> AsyncConsumer:
        consumer = store.consumer("t", group="g", listener=Failing())
        while not consumer.assignment():
            await consumer.poll(0)
        return consumer

    assert run(tmp_path, body).consumer is not None
    assert "a consumer was not closed cleanly: no" in caplog.text
    logstore.open(tmp_path / "data").close()


def test_a_loop_that_ends_under_a_poll_leaves_the_consumer_to_another(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        consumer = AsyncConsumer(store.consumer("t"))

        async def leave_waiting() -> None:
            asyncio.get_running_loop().create_task(consumer.poll())
            await asyncio.sleep(SOON_S)

        asyncio.run(leave_waiting())
        store.log("t").append([b"a"])
        assert values(asyncio.run(consumer.poll(LONG_S))) == [b"a"]
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(consumer.poll())
        loop.run_until_complete(asyncio.sleep(SOON_S, None))
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # no word of it in the log
        loop.close()
        store.log("t").append([b"b"])
        del waiting
        assert values(asyncio.run(consumer.poll(LONG_S))) == [b"b"]


# ----------------------------------------------------------------------------------------------------- what is consumed


def test_a_record_counts_as_consumed_when_the_next_is_asked_for(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        append(store, b"a", b"b", b"c")

        async def fail_at_the_second() -> None:
            async with store.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
                async for record in consumer:
                    assert consumer.position("t", 0) == record.offset
                    await consumer.commit()
                    _ = 1 // (1 - record.offset)

        with pytest.raises(ZeroDivisionError):
            await fail_at_the_second()
        assert store.store.groups.committed("g")["t", 0].offset == 1  # type: ignore[index]
        async with store.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
            assert [await anext(aiter(consumer)) for _ in range(2)][1].value == b"c"
        assert store.store.groups.committed("g")["t", 0].offset == 2  # type: ignore[index]

    run(tmp_path, body)


def test_what_a_poll_returned_is_not_committed_where_dealing_with_it_failed(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        append(store, b"a", b"b")

        async def work(failure: BaseException | None) -> None:
            async with store.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
                assert values(await consumer.poll(LONG_S, max_records=1)) == [b"a"]
                assert values(await consumer.poll(LONG_S, max_records=1)) == [b"b"]
                if failure is not None:
                    raise failure

        for failure in (ZeroDivisionError(), asyncio.CancelledError()):
            with pytest.raises(type(failure)):
                await work(failure)
            assert store.store.groups.committed("g")["t", 0].offset == 1  # type: ignore[index]
            store.store.groups.delete("g")
        await work(None)
        assert store.store.groups.committed("g")["t", 0].offset == 2  # type: ignore[index]

    run(tmp_path, body)


def test_a_commit_holds_up_nobody_else_and_is_on_the_disk_when_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_sync, threads = threading.Event(), []

    async def body(store: AsyncStore) -> None:
        flush = PartitionLog.flush

        def gated(log: PartitionLog) -> None:
            if log.name.startswith(OFFSETS_TOPIC):
                threads.append(threading.get_ident())
                assert may_sync.wait(LONG_S)
            flush(log)

        append(store, b"a")
        consumer = store.consumer("t", group="g", auto_offset_reset="earliest", enable_auto_commit=False)
        assert len(await consumer.poll(LONG_S)) == 1
        monkeypatch.setattr(PartitionLog, "flush", gated)
        committing = consumer.commit()
        assert store.store.groups.committed("g")["t", 0].offset == 1  # type: ignore[index]
        append(store, b"b")
        assert values(await consumer.poll(LONG_S)) == [b"b"] and not committing.done()
        may_sync.set()
        await committing
        assert threads and threading.get_ident() not in threads
        monkeypatch.undo()

    run(tmp_path, body)


def test_a_listener_commits_what_is_revoked(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        class Committing(RebalanceListener):
            def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
                committing.append(consumer.commit())

        committing: list[asyncio.Future[None]] = []
        append(store, b"a")
        consumer = store.consumer(
            "t", group="g", auto_offset_reset="earliest", enable_auto_commit=False, listener=Committing()
        )
        assert len(await consumer.poll(LONG_S)) == 1
        await consumer.unsubscribe()
        await committing[0]
        assert store.store.groups.committed("g")["t", 0].offset == 1  # type: ignore[index]
        assert store.store.groups.describe("g").state == "Empty"
        consumer.assign([("t", 0)])
        assert await consumer.poll(0) == [] and consumer.subscription() == frozenset()
        with pytest.raises(LogstoreError):
            await consumer.commit({("t", 1): 1})

    run(tmp_path, body)


def test_places_are_found_by_time_and_by_their_ends(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        store.store.log("t").append([b"a", b"b", b"c"], timestamps_ms=[10, 20, 30])
        async with store.consumer("t") as consumer:
            assert await consumer.offsets_for_times({("t", 0): 15}) == {("t", 0): 1}
            await consumer.seek_to_time(20)
            assert values(await consumer.poll()) == [b"b", b"c"]
            await consumer.seek_to_time(31, [("t", 0)])
            assert consumer.position("t", 0) == 3 and consumer.end_offsets([("t", 0)]) == {("t", 0): 3}
            consumer.seek_to_beginning()
            assert consumer.position("t", 0) == 0 and consumer.beginning_offsets([("t", 0)]) == {("t", 0): 0}
            consumer.seek_to_end()
            assert await consumer.poll(0) == []

    run(tmp_path, body)


def test_a_record_that_a_deserializer_refuses_stays_the_next_one(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        append(store, b"1", b"x", b"3")
        async with store.consumer("t", auto_offset_reset="earliest", value_deserializer=int) as consumer:
            records = aiter(consumer)
            assert (await anext(records)).value == 1
            with pytest.raises(SerializationFailed):
                await anext(records)
            assert consumer.position("t", 0) == 1
            consumer.seek("t", 0, 2)
            assert (await anext(aiter(consumer))).value == 3

    run(tmp_path, body)


# --------------------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize("strategy", [EAGER, COOPERATIVE])
def test_the_members_of_a_group_may_be_in_one_loop(tmp_path: Path, strategy: str) -> None:
    count = 30

    async def body(store: AsyncStore) -> None:
        await store.create_topic("wide", partitions=count)
        consumers = [store.consumer("wide", group="g", partition_assignment_strategy=strategy) for _ in range(count)]
        got: list[bytes] = []

        async def work(consumer: AsyncConsumer) -> None:
            async for record in consumer:
                got.append(record.value)  # noqa: PERF401  # the others' too, as they come

        working = [asyncio.create_task(work(consumer)) for consumer in consumers]
        await until(lambda: all(len(consumer.assignment()) == 1 for consumer in consumers))
        assert store.store.groups.describe("g").generation <= 30
        async with store.producer(linger_ms=1) as producer:
            sent = [producer.send("wide", b"%d" % number, partition=number % count) for number in range(300)]
            await asyncio.gather(*sent)
        await until(lambda: len(got) == 300)
        assert sorted(map(int, got)) == list(range(300))
        await asyncio.gather(*[consumer.close() for consumer in consumers[1:]])
        await until(lambda: len(consumers[0].assignment()) == count)
        await consumers[0].close()
        await asyncio.gather(*working)
        committed = store.store.groups.committed("g")
        assert [committed[TopicPartition("wide", number)].offset for number in range(count)] == [10] * count

    run(tmp_path, body)


def test_who_leaves_in_a_rebalance_commits_what_it_has_read_and_holds_up_nobody(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        await store.create_topic("two", partitions=2)
        settings = {"partition_assignment_strategy": COOPERATIVE, "auto_offset_reset": "earliest"}
        leader, leaving, newcomer = [store.consumer("two", group="g", **settings) for _ in range(3)]
        while not (len(leaving.assignment()) == len(leader.assignment()) == 1):
            await leader.poll(SOON_S)
            await leaving.poll(SOON_S)
        [held] = leaving.assignment()
        append(store, b"a", topic="two", partition=held.partition)
        assert values(await leaving.poll(LONG_S)) == [b"a"]
        while store.store.groups.describe("g").state != "CompletingRebalance":
            await newcomer.poll(0)
            if not leader.consumer._offsets.is_joining:
                await leader.poll(0)
            else:  # it does not hand out the partitions before it polls again, and until then nobody can commit
                await leaving.poll(0)
        closing = asyncio.create_task(leaving.close())
        await asyncio.sleep(SOON_S)
        assert not closing.done()
        while not closing.done():
            await asyncio.gather(leader.poll(SOON_S), newcomer.poll(SOON_S))
        await closing
        assert store.store.groups.committed("g")[held].offset == 1

    run(tmp_path, body)


def test_a_poll_that_waits_keeps_its_member_in_and_a_loop_that_stands_still_does_not(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        settings = {"max_poll_interval_ms": 300, "heartbeat_interval_ms": 10, "session_timeout_ms": 10_000}
        async with store.consumer("t", group="g", **settings) as consumer:
            assert await consumer.poll(1) == []
            assert consumer.assignment() and store.store.groups.describe("g").generation == 1
            await asyncio.sleep(0.2)
            end_s = time.monotonic() + LONG_S
            while store.store.groups.describe("g").members and time.monotonic() < end_s:
                time.sleep(0.01)  # the loop stands still
            with pytest.raises(PollIntervalExceeded):
                await consumer.poll(LONG_S)
            assert await consumer.poll(0.1) == [] and consumer.assignment()

    run(tmp_path, body, group_min_session_timeout_ms=1)


# -------------------------------------------------------------------------------------------------------------- imports


def test_logstore_aio_is_imported_when_it_is_asked_for() -> None:
    program = """
import sys, logstore
assert "logstore.aio" not in sys.modules and "asyncio" not in sys.modules
assert "aio" in dir(logstore) and logstore.aio.open
assert "logstore.aio" in sys.modules
try:
    logstore.nothing
except AttributeError as error:
    assert "has no attribute 'nothing'" in str(error)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
