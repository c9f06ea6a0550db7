"""Reading: all of it, one at random, in logs of any length, and as soon as it has been appended."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter_ns, sleep

import pytest

from bench.conftest import Contest, data_root, latencies_us, per_second
from bench.peers import Lmdb, Logstore, Peer, PlainFile, Sqlite
from bench.synthetic import Synthetic

_COUNT = 100_000


def _fill(peer: Peer, batch_size: int, count: int = _COUNT) -> None:
    for start in range(0, count, batch_size):
        peer.append_batch([b"%08d" % number + b"m" * 92 for number in range(start, start + batch_size)])


def test_w5_read_all(peers: dict[str, Peer], contest: Contest) -> None:
    for peer in peers.values():
        _fill(peer, 1000)
    measures = {
        name: lambda peer=peer: per_second(_COUNT, lambda: deque(peer.read_all(), maxlen=0))
        for name, peer in peers.items()
    }
    contest("W5 read all as Python objects", "messages/s", measures, rounds=15)


def test_w5_read_all_as_columns(peers: dict[str, Peer], contest: Contest) -> None:
    for peer in peers.values():
        _fill(peer, 1000)
    reads = {name: peer.read_all for name, peer in peers.items()}
    reads["logstore"] = peers["logstore"].read_columns  # type: ignore[attr-defined]
    measures = {
        name: lambda read=read: per_second(_COUNT, lambda: deque(read(), maxlen=0)) for name, read in reads.items()
    }
    contest("W5 read all as numpy columns (others: objects)", "messages/s", measures, rounds=15)


def _median_us(action: Callable[[int], object], offsets: list[int]) -> float:
    times = []
    for offset in offsets:
        started = perf_counter_ns()
        action(offset)
        times.append(perf_counter_ns() - started)
    return median(times) / 1000


@pytest.mark.parametrize("batch_size", [1000, 1])
def test_w6_random_read(peers: dict[str, Peer], contest: Contest, batch_size: int) -> None:
    count = _COUNT if batch_size > 1 else _COUNT // 10
    for peer in peers.values():
        _fill(peer, batch_size if peer.name == "logstore" else 1000, count)
        assert peer.read_at(4711)[-100:].startswith(b"00004711")
    random = Random(1)
    offsets = [random.randrange(count) for _ in range(500)]
    measures = {name: lambda peer=peer: _median_us(peer.read_at, offsets) for name, peer in peers.items()}
    contest(f"W6 random read p50, logstore's batches of {batch_size}", "µs", measures)


@pytest.fixture(scope="module")
def grown() -> Iterator[dict[str, Synthetic]]:
    """Logs of 1 MiB to 100 GiB; the largest is "logstore", which the others are compared with."""
    sizes = {"logstore": 100 << 30, "1 GiB": 1 << 30, "64 MiB": 64 << 20, "1 MiB": 1 << 20}
    with TemporaryDirectory(prefix="logstore-bench-", dir=data_root()) as directory:
        logs = {name: Synthetic(Path(directory) / str(size), size) for name, size in sizes.items()}
        yield logs
        for log in logs.values():
            log.close()


def test_growth_of_a_look_up_from_1_mib_to_100_gib(grown: dict[str, Synthetic], contest: Contest) -> None:
    random = Random(1)
    # The same few batches again and again: their pages are in memory, as all those of the small logs are.
    offsets = {name: log.offsets(random, 100) * 10 for name, log in grown.items()}
    measures = {name: lambda name=name: _median_us(grown[name].log.read, offsets[name]) for name in grown}
    contest("growth: look-up p50 in a log of 100 GiB", "µs", measures)


def test_growth_of_an_append_from_1_mib_to_100_gib(grown: dict[str, Synthetic], contest: Contest) -> None:
    def append(name: str) -> float:
        return _median_us(lambda _: grown[name].log.append((b"m" * 100,)), list(range(500)))

    contest("growth: append p50 to a log of 100 GiB", "µs", {name: lambda name=name: append(name) for name in grown})


# ------------------------------------------------------------------------------------------------------------- W9


class _SignalledPlainFile:
    """A plain file whose readers wait on a condition: what an application would write around one."""

    def __init__(self, directory: Path) -> None:
        self.file = PlainFile(directory)
        self.condition = threading.Condition()
        self.count = 0

    def append(self, value: bytes) -> None:
        self.file.append(value)
        with self.condition:
            self.count += 1
            self.condition.notify_all()

    def read(self, number: int) -> bytes:
        with self.condition:
            self.condition.wait_for(lambda: self.count > number)
        return os.pread(self.file.fd, 24, 24 * number)[4:]


def _poll(peer: Peer) -> Callable[[int], bytes]:
    """Stores that wake nobody are asked again and again."""

    def read(number: int) -> bytes:
        while True:
            try:
                return peer.read_at(number)[:20]
            except TypeError:  # nothing there
                sleep(0.0005)

    return read


@pytest.mark.parametrize("percentile", [50, 99])
def test_w9_append_to_waiting_reader(place: Path, contest: Contest, percentile: int) -> None:
    count = 200
    fresh = iter(range(1_000_000))

    def directory() -> Path:
        return place / str(next(fresh))

    def summary(latencies: list[float]) -> float:
        return quantiles(latencies, n=100)[percentile - 1]

    def ours() -> float:
        peer = Logstore(directory())

        def read(number: int) -> bytes:
            peer.log.wait(number)
            return next(peer.log.records(number)).value or b""

        latencies = latencies_us(peer.append, read, count)
        peer.close()
        return summary(latencies)

    def plain() -> float:
        file = _SignalledPlainFile(directory())
        latencies = latencies_us(file.append, file.read, count)
        file.file.close()
        return summary(latencies)

    def polled(kind: type[Peer]) -> float:
        peer = kind(directory())
        latencies = latencies_us(peer.append, _poll(peer), count)
        peer.close()
        return summary(latencies)

    contest(
        f"W9 append to waiting reader p{percentile} (lmdb, sqlite: polling)",
        "µs",
        {"plain": plain, "lmdb": lambda: polled(Lmdb), "sqlite": lambda: polled(Sqlite), "logstore": ours},
    )
