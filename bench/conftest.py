"""What all benchmarks share: where their data lies, their messages, and contests between stores.

A contest takes a round of each store in turn, again and again, so that whatever else the machine does hits all of them
alike, and keeps the medians. Only ratios within one run mean anything. No benchmark can fail by being slow.

The data lies in a directory of the system's temporary one, or of the one that LOGSTORE_BENCH_DIR names. It must be on a
real disk: on a tmpfs fsync costs nothing, and the durable rows are worth nothing.
"""

import os
import platform
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, perf_counter_ns, sleep
from typing import Any

import lmdb
import pytest

from bench.peers import PEERS, Peer
from bench.queue_peers import QUEUE_PEERS, QueuePeer


def data_root() -> Path:
    return Path(os.environ.get("LOGSTORE_BENCH_DIR") or tempfile.gettempdir())


def file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, "unknown" where the system does not say."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    resolved = path.resolve()
    holding = [fields for fields in mounts if resolved.is_relative_to(fields[1])]
    return max(holding, key=lambda fields: len(fields[1]))[2] if holding else "unknown"


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["file_system"] = file_system(data_root())
    machine_info["cores"] = os.cpu_count()
    machine_info["python"] = f"{platform.python_implementation()} {platform.python_version()}"
    machine_info["peers"] = {
        "lmdb": ".".join(map(str, lmdb.version())),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("queuelib", "litequeue", "persist-queue", "diskcache")},
    }


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory on the disk, gone after the test."""
    with tempfile.TemporaryDirectory(prefix="logstore-bench-", dir=data_root()) as directory:
        yield Path(directory)


@pytest.fixture
def peers(place: Path) -> Iterator[dict[str, Peer]]:
    """One of each store, empty and open."""
    opened = {peer.name: peer(place / peer.name) for peer in PEERS}
    yield opened
    for peer in opened.values():
        peer.close()


@pytest.fixture
def durable_peers(place: Path) -> Iterator[dict[str, Peer]]:
    """One of each store whose appends wait for the disk."""
    opened = {peer.name: peer(place / peer.name, durable=True) for peer in PEERS}
    yield opened
    for peer in opened.values():
        peer.close()


@pytest.fixture
def queue_peers(place: Path) -> Iterator[dict[str, QueuePeer]]:
    """One of each queue, empty and open."""
    opened = {peer.name: peer(place / peer.name) for peer in QUEUE_PEERS}
    yield opened
    for peer in opened.values():
        peer.close()


@pytest.fixture
def durable_queue_peers(place: Path) -> Iterator[dict[str, QueuePeer]]:
    """One of each queue that can wait for the disk, and does."""
    opened = {peer.name: peer(place / peer.name, durable=True) for peer in QUEUE_PEERS if peer.can_be_durable}
    yield opened
    for peer in opened.values():
        peer.close()


Measure = Callable[[], float]
Contest = Callable[..., None]


@pytest.fixture
def contest(benchmark: Any) -> Contest:
    """``contest(title, unit, measures, rounds=9)``: ``measures`` by store, each of which runs one round and returns a
    number in ``unit``. The one of "logstore" is what pytest-benchmark times."""

    def run(title: str, unit: str, measures: Mapping[str, Measure], rounds: int = 9) -> None:
        results: dict[str, list[float]] = {name: [] for name in measures}

        def others() -> None:
            for name, measure in measures.items():
                if name != "logstore":
                    results[name].append(measure())

        def ours() -> None:
            results["logstore"].append(measures["logstore"]())

        benchmark.pedantic(ours, setup=others, rounds=rounds, warmup_rounds=1)
        benchmark.extra_info.update(
            title=title,
            unit=unit,
            # The first, which warms up, is dropped.
            medians={name: median(values[1:]) for name, values in results.items() if len(values) > 1},
        )

    return run


def per_second(count: int, action: Callable[[], object]) -> float:
    """How many a second, where ``action`` does ``count`` of them."""
    started = perf_counter()
    action()
    return count / (perf_counter() - started)


def latencies_us(put: Callable[[bytes], object], wait: Callable[[int], bytes], count: int) -> list[float]:
    """How long after the put began a thread that waits holds the message, of this number. The two take turns,
    at times that are not in step with one who polls."""
    random = Random(1)
    latencies: list[float] = []
    taken = threading.Semaphore(0)

    def reader() -> None:
        for number in range(count):
            started = int(wait(number))
            latencies.append((perf_counter_ns() - started) / 1000)
            taken.release()

    thread = threading.Thread(target=reader)
    thread.start()
    for _ in range(count):
        sleep(random.uniform(0.0005, 0.0015))  # let the reader wait
        put(b"%020d" % perf_counter_ns())
        taken.acquire()
    thread.join()
    return latencies


def log_lines(count: int) -> list[bytes]:
    """Text as a web service logs it, the same every time."""
    state = 1
    lines = []
    for number in range(count):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        noise = state >> 24
        lines.append(
            b'2025-03-%02d %02d:%02d:%02d,%03d %s [http-worker-%d] api.requests: method=%s path="/v1/orders/%d" '
            b"status=%d duration_ms=%d customer=%08x"
            % (
                1 + number // 86_400 % 28,
                number // 3600 % 24,
                number // 60 % 60,
                number % 60,
                noise % 1000,
                (b"INFO", b"INFO", b"INFO", b"WARN")[noise >> 10 & 3],
                noise >> 12 & 15,
                (b"GET", b"POST", b"GET", b"PUT")[noise >> 16 & 3],
                noise >> 18 & 0xFFFF,
                (200, 200, 201, 404)[noise >> 20 & 3],
                noise >> 22 & 511,
                noise & 0xFFFFFFFF,
            )
        )
    return lines
