"""The producer and the store of asyncio."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import logstore
import logstore.aio
from logstore import Durability
from logstore.aio import AsyncStore
from logstore.client.aio.producer import AsyncProducer
from logstore.client.embedded.producer.producer import RECORD_MEMORY

NEVER_MS = 60_000
TIMEOUT_S = 30


def run(path: Path, body: Callable[[AsyncStore], Awaitable[Any]], **settings: object) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(TIMEOUT_S), logstore.aio.open(path / "data", **settings) as store:
            await store.create_topic("t")
            return await body(store)

    return asyncio.run(main())


def values(store: AsyncStore) -> list[bytes | None]:
    return [record.value for record in store.store.log("t").records(0)]


def hold_up(store: AsyncStore) -> threading.Event:
    """Appends to ``t`` wait for it."""
    log, is_open = store.store.log("t"), threading.Event()
    append = log.append

    def gated(*args: Any, **named: Any) -> Any:
        assert is_open.wait(TIMEOUT_S)
        return append(*args, **named)

    log.append = gated  # type: ignore[method-assign]
    return is_open


def test_a_send_that_was_awaited_is_on_the_disk(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async with store.producer(linger_ms=0) as producer:
            receipt = await producer.send("t", b"v", key=b"k", headers={"h": b"1"}, timestamp_ms=7)
            assert receipt == ("t", 0, 0, 7, Durability.FSYNC)
        assert [record[1:] for record in store.store.log("t").records(0)] == [(7, b"k", b"v", (("h", b"1"),))]

    run(tmp_path, body)


def test_tasks_share_batches_and_the_loop_is_woken_once_for_many_receipts(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        loop, wakes = asyncio.get_running_loop(), []
        wake = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args, **named: (wakes.append(1), wake(*args, **named))[1]  # type: ignore[method-assign]
        async with store.producer(batch_size=1 << 20, linger_ms=20) as producer:
            receipts = await asyncio.gather(*(producer.send("t", b"%d" % number) for number in range(500)))
            assert [receipt.offset for receipt in receipts] == list(range(500))
            assert len(wakes) <= 50 and len(list(store.store.log("t").batches(0))) < 10

    run(tmp_path, body)


def test_many_records_can_be_on_their_way_without_a_task_or_a_thread_for_each(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async with store.producer(linger_ms=0) as producer:
            told: list[Any] = []
            await producer.send("t", b"first")
            threads = threading.active_count()
            futures = [
                await producer.enqueue("t", b"v", on_delivery=lambda *outcome: told.append(outcome)) for _ in range(100)
            ]
            assert threading.active_count() == threads
            receipts = await asyncio.gather(*futures)
            assert [receipt.offset for receipt in receipts] == list(range(1, 101))
            assert told == [(receipt, None) for receipt in receipts]

    run(tmp_path, body)


def test_back_pressure_holds_up_who_sends_and_not_the_loop(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        is_open = hold_up(store)
        async with store.producer(acks=1, buffer_memory=3 * (RECORD_MEMORY + 115), linger_ms=0) as producer:
            sending = [asyncio.create_task(producer.send("t", b"%3d" % number + bytes(97))) for number in range(40)]
            for _ in range(20):
                start = time.monotonic()
                await asyncio.sleep(0.001)
                assert time.monotonic() - start < 5
            assert not any(task.done() for task in sending)
            is_open.set()
            receipts = await asyncio.gather(*sending)
            assert [receipt.offset for receipt in receipts] == list(range(40)), "first come, first served"
        assert [value[:3] for value in values(store) if value] == [b"%3d" % number for number in range(40)]

    run(tmp_path, body)


def test_where_no_room_is_made_for_max_block_ms_nothing_is_taken_in(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        is_open = hold_up(store)
        async with store.producer(buffer_memory=500, linger_ms=0, max_block_ms=30) as producer:
            first = await producer.enqueue("t", bytes(200))
            outcomes = await asyncio.gather(*(producer.send("t", bytes(200)) for _ in range(3)), return_exceptions=True)
            assert all("room in the producer: not within 0.03 s" in str(outcome) for outcome in outcomes)
            assert all(isinstance(outcome, logstore.BufferFull) for outcome in outcomes)
            is_open.set()
            await first
            assert (await producer.send("t", b"later")).offset == 1

    run(tmp_path, body)


def test_a_send_that_is_cancelled_leaves_its_record_and_harms_nobody(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        is_open = hold_up(store)
        async with store.producer(linger_ms=0) as producer:
            sending = asyncio.create_task(producer.send("t", b"cancelled"))
            await asyncio.sleep(0.01)
            sending.cancel()
            other = asyncio.create_task(producer.send("t", b"other"))
            await asyncio.sleep(0.01)
            is_open.set()
            assert (await other).offset == 1
            assert sending.cancelled()
        assert values(store) == [b"cancelled", b"other"]

    run(tmp_path, body)


def test_a_wait_for_room_that_is_cancelled_takes_nothing_in(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        is_open = hold_up(store)
        async with store.producer(buffer_memory=500, linger_ms=0) as producer:
            first = await producer.enqueue("t", bytes(200))
            waiting = [asyncio.create_task(producer.send("t", b"%d" % number * 200)) for number in range(3)]
            await asyncio.sleep(0.01)
            waiting[0].cancel()
            waiting[1].cancel()
            is_open.set()
            assert (await first).offset == 0 and (await waiting[2]).offset == 1
        assert values(store) == [bytes(200), b"2" * 200]

    run(tmp_path, body)


def test_errors_come_out_of_the_await(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(store: AsyncStore) -> None:
        async with store.producer(linger_ms=0) as producer:
            with pytest.raises(logstore.UnknownTopic):
                await producer.send("none", b"v")
            with pytest.raises(logstore.InvalidRecord, match="encode it"):
                await producer.send("t", "text")
            with pytest.raises(logstore.InvalidTimestamp, match="in the future"):
                await producer.send("t", b"v", timestamp_ms=2**60)
            await producer.send("t", b"v", on_delivery=lambda receipt, error: 1 / 0)
        with pytest.raises(logstore.Closed):
            await producer.send("t", b"v")
        await producer.close()

    run(tmp_path, body)
    assert "a callback of a producer failed" in caplog.text


def test_acks_0_waits_for_nothing(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        is_open = hold_up(store)
        async with store.producer(acks=0, linger_ms=0) as producer:
            assert await producer.send("t", b"v", timestamp_ms=1) == ("t", 0, -1, 1, None)
            is_open.set()
            await producer.flush()
        assert values(store) == [b"v"]

    run(tmp_path, body)


def test_a_flush_sends_what_lingers_and_gives_up_in_time(tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        is_open = hold_up(store)
        async with store.producer(linger_ms=NEVER_MS) as producer:
            future = await producer.enqueue("t", b"v")
            with pytest.raises(logstore.TimedOut):
                await producer.flush(0.01)
            is_open.set()
            await producer.flush()
            assert future.done() and future.result().offset == 0

    run(tmp_path, body)


def test_a_store_that_is_closed_stores_what_its_producers_have_taken_in(tmp_path: Path) -> None:
    futures: list[asyncio.Future[Any]] = []

    async def body(store: AsyncStore) -> None:
        producer = store.producer(linger_ms=NEVER_MS)
        futures.extend([await producer.enqueue("t", b"v") for _ in range(3)])

    run(tmp_path, body)
    with logstore.open(tmp_path / "data") as store:
        assert store.log("t").log_end_offset == 3
    assert [future.result().offset for future in futures if future.done()] in ([], [0, 1, 2])


def test_a_producer_is_for_one_event_loop(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("t")
        producer = AsyncProducer(store.producer(linger_ms=0))
        asyncio.run(producer.send("t", b"v"))
        with pytest.raises(logstore.ConcurrentUse, match="another event loop"):
            asyncio.run(producer.send("t", b"v"))


def test_a_loop_that_ends_before_its_records_are_stored_loses_none(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("t")
        producer = AsyncProducer(store.producer(linger_ms=100))
        asyncio.run(producer.enqueue("t", b"v"))
        producer.producer.flush(TIMEOUT_S)
        assert store.log("t").log_end_offset == 1


def test_a_store_is_opened_by_await_too_and_has_its_topics(tmp_path: Path) -> None:
    async def main() -> None:
        opening = logstore.aio.open(tmp_path / "data")
        with pytest.raises(logstore.Closed, match="nobody has awaited"):
            opening.store  # noqa: B018
        store = await opening
        assert await store is store
        await store.create_topic("t", partitions=2, retention_ms=1_000)
        assert (await store.alter_topic("t", partitions=3)).partitions == 3
        assert [topic.name for topic in store.topics()] == ["t"] and store.topic("t").config.retention_ms == 1_000
        await store.flush()
        await store.delete_topic("t")
        with pytest.raises(logstore.UnknownTopic):
            store.topic("t")
        await store.close()
        await store.close()
        with pytest.raises(logstore.NotADataDir):
            await logstore.aio.open(tmp_path / "none", create=False)

    asyncio.run(main())


def test_an_opening_that_is_cancelled_leaves_no_store_open(tmp_path: Path) -> None:
    goes_on, begun = threading.Event(), threading.Event()

    def open_slowly() -> logstore.Store:
        begun.set()
        assert goes_on.wait(TIMEOUT_S)
        return logstore.open(tmp_path / "data")

    async def main() -> None:
        opening = asyncio.create_task(AsyncStore(open_slowly).__aenter__())
        assert await asyncio.to_thread(begun.wait, TIMEOUT_S)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        goes_on.set()
        end = time.monotonic() + TIMEOUT_S
        while not (tmp_path / "data" / ".kafka_cleanshutdown").exists():
            assert time.monotonic() < end
            await asyncio.sleep(0.01)

    asyncio.run(main())
    logstore.open(tmp_path / "data").close()
