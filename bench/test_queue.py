"""Queues: putting one message at a time, with and without an fsync, getting and acking, and how soon who waits has it.

How sure one can be of a message that was got differs from queue to queue: see queue_peers.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import quantiles

import pytest

import logstore
from bench.conftest import Contest, latencies_us, per_second
from bench.peers import Logstore
from bench.queue_peers import POLL_INTERVAL_S, QueuePeer
from logstore.client.aio.producer import AsyncProducer
from logstore.client.aio.queue import AsyncQueue

_VALUE = b"m" * 100
_SLOW = ("litequeue", "persist-queue", "diskcache")


def _put_rate(put: Callable[[bytes], object], count: int) -> float:
    def action() -> None:
        for _ in range(count):
            put(_VALUE)

    return per_second(count, action)


def test_q1_put_one_at_a_time(queue_peers: dict[str, QueuePeer], contest: Contest) -> None:
    measures = {
        name: lambda peer=peer: _put_rate(peer.put, 500 if peer.name in _SLOW else 3000)
        for name, peer in queue_peers.items()
    }
    contest("Q1 put 100 B, one at a time", "messages/s", measures, rounds=15)


# ------------------------------------------------------------------------------------------------ an fsync for each


@pytest.fixture
def log(place: Path) -> Iterator[Logstore]:
    """What lies below the queue: a log that is appended to with an fsync each."""
    peer = Logstore(place / "log", durable=True)
    yield peer
    peer.close()


def _put_rate_of_threads(put: Callable[[bytes], object], pool: ThreadPoolExecutor, thread_count: int) -> float:
    """The threads of the pool are the same in all rounds: some peers open something for each new one."""
    start = threading.Barrier(thread_count)
    count = 50

    def work(_: int) -> None:
        start.wait()
        for _ in range(count):
            put(_VALUE)

    return per_second(count * thread_count, lambda: list(pool.map(work, range(thread_count))))


@pytest.mark.parametrize("thread_count", [1, 8])
def test_q2_durable_put_from_threads(
    durable_queue_peers: dict[str, QueuePeer], log: Logstore, contest: Contest, thread_count: int
) -> None:
    puts = {name: peer.put for name, peer in durable_queue_peers.items()}
    puts["append to a log"] = log.append
    with ThreadPoolExecutor(thread_count) as pool:
        measures = {name: lambda put=put: _put_rate_of_threads(put, pool, thread_count) for name, put in puts.items()}
        title = f"Q2 put with an fsync each, {thread_count} thread{'s' * (thread_count > 1)}"
        contest(title, "messages/s", measures, rounds=7)


def test_q2_durable_put_from_64_tasks(durable_queue_peers: dict[str, QueuePeer], place: Path, contest: Contest) -> None:
    """The others have no asyncio face that syncs for several at once: one thread puts for all tasks."""
    task_count = 64

    async def put_all(put: Callable[[bytes], Awaitable[object]], count: int) -> None:
        async def work() -> None:
            for _ in range(count):
                await put(_VALUE)

        await asyncio.gather(*(work() for _ in range(task_count)))

    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread, logstore.open(place / "producer") as store:

        def measure(put: Callable[[bytes], Awaitable[object]], count: int) -> float:
            return per_second(count * task_count, lambda: runner.run(put_all(put, count)))

        def measure_in_thread(peer: QueuePeer) -> float:
            return measure(lambda value: runner.get_loop().run_in_executor(thread, peer.put, value), 6)

        measures = {name: lambda peer=peer: measure_in_thread(peer) for name, peer in durable_queue_peers.items()}
        queue = AsyncQueue(durable_queue_peers["logstore"].queue)  # type: ignore[attr-defined]
        measures["logstore"] = lambda: measure(queue.put, 50)
        store.create_topic("bench")
        # The tasks wait for their batch: no more will come, however long it lingers.
        producer = AsyncProducer(store.producer(acks="all", linger_ms=0))
        measures["producer's send"] = lambda: measure(partial(producer.send, "bench"), 50)
        contest("Q2 put with an fsync each, 64 tasks", "messages/s", measures, rounds=7)


# ------------------------------------------------------------------------------------------------------ get and ack


def _get_and_ack_rate(peer: QueuePeer, count: int) -> float:
    for _ in range(count):
        peer.put(_VALUE)

    def action() -> None:
        for _ in range(count):
            peer.settle(peer.take())
        peer.tidy()

    return per_second(count, action)


_BACKLOG = 1000


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_q3_get_and_ack(request: pytest.FixtureRequest, contest: Contest, durability: str) -> None:
    """With a backlog all the time; what has to be tidied up is, once a round."""
    is_durable = durability == "fsync"
    peers: dict[str, QueuePeer] = request.getfixturevalue("durable_queue_peers" if is_durable else "queue_peers")
    for peer in peers.values():
        for _ in range(_BACKLOG):
            peer.put(_VALUE)
    measures = {
        name: lambda peer=peer: _get_and_ack_rate(peer, 100 if is_durable else 200 if peer.name in _SLOW else 1500)
        for name, peer in peers.items()
    }
    title = "Q3 get and ack" + ", an fsync for each ack" * is_durable
    contest(title, "messages/s", measures, rounds=9)


# ---------------------------------------------------------------------------------------------------------- latency


@pytest.mark.parametrize("percentile", [50, 99])
def test_q4_put_to_waiting_get(queue_peers: dict[str, QueuePeer], contest: Contest, percentile: int) -> None:
    """All but logstore and persist-queue have to poll."""

    def measure(peer: QueuePeer) -> float:
        def take(_: int) -> bytes:
            message = peer.wait()
            value = peer.value_of(message)
            taken.append(message)
            return value

        taken: list[object] = []
        latencies = latencies_us(peer.put, take, 200)
        for message in taken:
            peer.settle(message)
        peer.tidy()
        return quantiles(latencies, n=100)[percentile - 1]

    contest(
        f"Q4 put to waiting get p{percentile} (polling: {POLL_INTERVAL_S * 1000:g} ms)",
        "µs",
        {name: lambda peer=peer: measure(peer) for name, peer in queue_peers.items()},
        rounds=5,
    )
