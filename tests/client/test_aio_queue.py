"""The queue in an event loop: nothing blocks it, nobody needs a thread to wait, and syncs are shared."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import logstore
from logstore.client.aio.queue import AsyncQueue
from logstore.client.producer import Receipt
from logstore.errors import Closed, Empty, Full, NotInFlight
from waits import SOON_S


def in_a_loop(tmp_path: Path, body: Callable[[AsyncQueue], Awaitable[None]], **settings: object) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await body(AsyncQueue(store.queue("jobs", **settings)))

    with logstore.open(tmp_path) as store:
        asyncio.run(main(), debug=True)


def test_what_is_put_is_got_and_acked(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        receipt = await queue.put(b"value", key=b"key", headers={"a": b"b"})
        assert (receipt.offset, receipt.durability) == (0, "fsync")
        job = await queue.get()
        assert (job.value, job.key, job.headers, job.deliveries) == (b"value", b"key", (("a", b"b"),), 1)
        await job.ack()
        with pytest.raises(NotInFlight):
            await job.ack()
        with pytest.raises(Empty):
            await queue.get(block=False)
        with pytest.raises(Empty):
            await queue.get(timeout=0.01)
        assert [receipt.offset for receipt in await queue.put_many([b"a", b"b"])] == [1, 2]
        await queue.ack_many(await queue.get_many(5))
        await queue.join(timeout=1)
        assert queue.empty() and not queue.full() and not queue.qsize()
        assert (await queue.stats()).low_water_offset == 3

    in_a_loop(tmp_path, body)


def test_waiting_takes_no_threads(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        await queue.put(b"first")  # starts the threads that syncs take
        await (await queue.get()).ack()
        before = threading.active_count()
        waiting = [asyncio.create_task(queue.get()) for _ in range(200)]
        await asyncio.sleep(0)
        assert threading.active_count() == before
        await queue.put_many([b"%d" % number for number in range(200)])
        found = [(await task).value for task in waiting]
        assert sorted(map(int, found)) == list(range(200))

    in_a_loop(tmp_path, body, durability="os")


def test_tasks_share_their_syncs(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        counts = {"messages": 0, "notes": 0}

        def counted(name: str, sync: Callable[[], None]) -> Callable[[], None]:
            def call() -> None:
                counts[name] += 1
                sync()

            return call

        engine = queue.queue.engine
        engine.log.flush = counted("messages", engine.log.flush)  # type: ignore[method-assign]
        engine.journal.sync = counted("notes", engine.journal.sync)  # type: ignore[method-assign]
        await asyncio.gather(*[queue.put(b"a") for _ in range(64)])
        jobs = await queue.get_many(64)
        await asyncio.gather(*[job.ack() for job in jobs])
        assert len(jobs) == 64
        assert counts["messages"] <= 2 and counts["notes"] <= 2

    in_a_loop(tmp_path, body)


def test_a_job_as_a_context_is_acked_or_nacked(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        await queue.put(b"a")
        with pytest.raises(ZeroDivisionError):
            async with await queue.get():
                _ = 1 / 0
        async with await queue.get() as job:
            assert job.deliveries == 2
        assert (await queue.stats()).low_water_offset == 1

    in_a_loop(tmp_path, body)


def test_a_getter_is_woken_by_a_delay_that_is_over_and_by_another_thread(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        await queue.put(b"later", delay=0.05)
        assert (await queue.get(timeout=SOON_S)).value == b"later"
        waiting = asyncio.create_task(queue.get(timeout=SOON_S))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(queue.queue.put, b"from a thread")
        job = await waiting
        assert job.value == b"from a thread"
        waiting = asyncio.create_task(queue.get(timeout=SOON_S))
        await asyncio.sleep(0.01)
        await job.nack()
        assert (await waiting).deliveries == 2

    in_a_loop(tmp_path, body)


def test_a_cancelled_get_takes_nothing_and_passes_its_turn_on(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        first, second = [asyncio.create_task(queue.get()) for _ in range(2)]
        await asyncio.sleep(0.01)
        put = asyncio.create_task(queue.put(b"a"))  # wakes the first
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).value == b"a"
        await put
        assert first.cancelled()

    in_a_loop(tmp_path, body, durability="os")


def test_a_put_waits_for_room(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        await queue.put(b"a")
        for give_up in ({"block": False}, {"timeout": 0.01}):
            with pytest.raises(Full):
                await queue.put(b"b", **give_up)  # type: ignore[arg-type]
        waiting = [asyncio.create_task(queue.put(value)) for value in (b"b", b"c")]
        for _ in range(3):
            async with await queue.get(timeout=SOON_S):
                pass
        assert sorted([(await task).offset for task in waiting]) == [1, 2]

    in_a_loop(tmp_path, body, max_size=1)


def test_those_who_wait_for_room_are_not_woken_while_there_is_none(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        await queue.put(b"a")
        waiting = [asyncio.create_task(queue.put(b"%d" % number)) for number in range(5)]
        await asyncio.sleep(0.05)
        await (await queue.get()).ack()  # one of them has room
        await asyncio.sleep(0.05)
        tries = 0
        put = queue.queue.intake.put

        def count(*given: Any) -> Receipt:
            nonlocal tries
            tries += 1
            return put(*given)

        queue.queue.intake.put = count  # type: ignore[method-assign]
        await asyncio.sleep(0.1)
        assert tries == 0
        for _ in range(5):
            await (await queue.get(timeout=SOON_S)).ack()
        await asyncio.gather(*waiting)

    in_a_loop(tmp_path, body, max_size=1, durability="os")


def test_iteration_ends_when_the_queue_is_closed(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        found = []

        async def work() -> None:
            async for job in queue:
                found.append(job.value)
                await job.ack()

        await queue.put_many([b"a", b"b"])
        working = asyncio.create_task(work())
        await queue.join(timeout=SOON_S)
        await queue.close()
        await working
        assert found == [b"a", b"b"]
        with pytest.raises(Closed):
            await queue.put(b"c")

    in_a_loop(tmp_path, body)


def test_dead_letters_are_made_and_replayed(tmp_path: Path) -> None:
    async def body(queue: AsyncQueue) -> None:
        await queue.put(b"late", ttl=0)
        await queue.put(b"good")
        assert (await queue.get()).value == b"good"
        await queue.put(b"late", ttl=0)
        with pytest.raises(Empty):
            await queue.get(timeout=0.2)
        dead = await queue.dead_letters()
        assert len(await AsyncQueue(dead).peek(None)) == 2
        assert await asyncio.to_thread(dead.replay) == 2
        assert [job.value for job in await queue.get_many(5)] == [b"late", b"late"]

    in_a_loop(tmp_path, body)


def test_an_async_store_gives_async_queues(tmp_path: Path) -> None:
    async def main() -> None:
        async with logstore.aio.open(tmp_path) as store:
            queue = await store.queue("jobs", max_deliveries=3)
            await queue.put(b"a")
            async with await queue.get() as job:
                assert job.value == b"a"
            assert queue.queue.config.max_deliveries == 3

    import logstore.aio

    asyncio.run(main())


def test_queues_are_listed_and_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        async with logstore.aio.open(tmp_path) as store:
            await (await store.queue("jobs")).put(b"work")
            assert store.queues() == ["jobs"]
            await store.delete_queue("jobs")
            assert store.queues() == []

    asyncio.run(main())
