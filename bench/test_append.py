"""Appending: in batches, one at a time, and with an fsync for each message."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import logstore
from bench.conftest import Contest, per_second
from bench.peers import BufferedPlainFile, Peer
from logstore.storage.partition import PartitionLog


def _append_batches(peer: Peer, value_size: int, batch_count: int, batch_size: int) -> float:
    values = [bytes([number % 251]) * value_size for number in range(batch_size)]

    def action() -> None:
        for _ in range(batch_count):
            peer.append_batch(values)

    return per_second(batch_count * batch_size, action)


def _append_in_turns(logs: Sequence[PartitionLog], batch_count: int) -> float:
    values = [bytes([number]) * 100 for number in range(100)]

    def action() -> None:
        for number in range(batch_count):
            logs[number % len(logs)].append(values)

    return per_second(batch_count * len(values), action)


def _append_singly(append: Callable[[bytes], None], count: int) -> float:
    value = b"m" * 100

    def action() -> None:
        for _ in range(count):
            append(value)

    return per_second(count, action)


def _append_from_threads(append: Callable[[bytes], None], thread_count: int, count: int) -> float:
    start = threading.Barrier(thread_count + 1)

    def work() -> None:
        start.wait()
        _append_singly(append, count // thread_count)

    threads = [threading.Thread(target=work) for _ in range(thread_count)]
    for thread in threads:
        thread.start()

    def action() -> None:
        start.wait()
        for thread in threads:
            thread.join()

    return per_second(count, action)


def test_w1_append_100_bytes_in_batches_of_1000(peers: dict[str, Peer], contest: Contest) -> None:
    measures = {name: lambda peer=peer: _append_batches(peer, 100, 30, 1000) for name, peer in peers.items()}
    contest("W1 append 100 B, batches of 1000", "messages/s", measures, rounds=25)


def test_w2_append_1_kib_in_batches_of_100(peers: dict[str, Peer], contest: Contest) -> None:
    measures = {name: lambda peer=peer: _append_batches(peer, 1024, 50, 100) for name, peer in peers.items()}
    contest("W2 append 1 KiB, batches of 100", "messages/s", measures, rounds=25)


def test_w3_append_one_at_a_time(peers: dict[str, Peer], place: Path, contest: Contest) -> None:
    buffered = BufferedPlainFile(place / "buffered")
    measures = {
        name: lambda peer=peer: _append_singly(peer.append, 1000 if peer.name == "sqlite" else 5000)
        for name, peer in {**peers, "plain buffered": buffered}.items()
    }
    contest("W3 append 100 B, one at a time", "messages/s", measures, rounds=25)
    buffered.close()


@pytest.mark.parametrize("thread_count", [1, 8])
def test_w4_append_with_an_fsync_each(durable_peers: dict[str, Peer], contest: Contest, thread_count: int) -> None:
    appends = {name: peer.append for name, peer in durable_peers.items()}
    if thread_count > 1:
        appends["plain"] = durable_peers["plain"].append_grouped  # type: ignore[attr-defined]
    measures = {
        name: lambda append=append: _append_from_threads(append, thread_count, 200 * thread_count)
        for name, append in appends.items()
    }
    title = f"W4 append with an fsync each, {thread_count} thread{'s' * (thread_count > 1)}"
    contest(title, "messages/s", measures, rounds=11)


def test_w10_append_to_5000_partitions_in_turns(place: Path, contest: Contest) -> None:
    """Beside 10 partitions. Descriptors for all of them need a limit of open files (ulimit -n) above 10,000."""
    with logstore.open(place / "data") as store:
        store.create_topic("few", partitions=10)
        store.create_topic("many", partitions=5000)
        few = [store.log("few", partition) for partition in range(10)]
        many = [store.log("many", partition) for partition in range(5000)]
        measures = {
            "10 partitions": lambda: _append_in_turns(few, 5000),
            "logstore": lambda: _append_in_turns(many, 5000),
        }
        contest("W10 append 100 B, batches of 100, to 5,000 partitions in turns", "messages/s", measures)
