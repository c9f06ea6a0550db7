"""Opening: what was closed cleanly, many partitions, and what a crash has left."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import pytest

import logstore
from bench.conftest import Contest
from bench.peers import PEERS, Logstore, Peer, PlainFile
from logstore.format import filename


def _fill(peer: Peer, size: int) -> None:
    values = [bytes([number % 251]) * 1024 for number in range(500)]
    for _ in range(size // (len(values) * 1024)):
        peer.append_batch(values)


def _open_ms(make: Callable[[], object]) -> float:
    started = perf_counter()
    opened = make()
    if isinstance(opened, PlainFile):
        opened.index()  # a plain file has no other way to know where its last message ends
    elapsed_ms = 1000 * (perf_counter() - started)
    opened.close()  # type: ignore[attr-defined]
    return elapsed_ms


def test_w8_open_256_mib_closed_cleanly(place: Path, contest: Contest) -> None:
    measures = {}
    for kind in PEERS:
        directory = place / str(kind.name)  # type: ignore[attr-defined]
        peer = kind(directory)
        _fill(peer, 256 << 20)
        peer.close()
        measures[peer.name] = lambda kind=kind, directory=directory: _open_ms(lambda: kind(directory))
    contest("W8 open 256 MiB, closed cleanly (plain: a scan)", "ms", measures)


def test_w8_open_1_gib_closed_cleanly(place: Path, contest: Contest) -> None:
    peer = Logstore(place / "store")
    _fill(peer, 1 << 30)
    peer.close()
    contest(
        "W8 open 1 GiB, closed cleanly", "ms", {"logstore": lambda: _open_ms(lambda: logstore.open(place / "store"))}
    )


@pytest.mark.parametrize("partition_count", [1_000, 10_000])
def test_w8_open_many_partitions_closed_cleanly(place: Path, contest: Contest, partition_count: int) -> None:
    with logstore.open(place / "store") as store:
        store.create_topic("bench", partitions=partition_count)
        for partition in range(partition_count):
            store.log("bench", partition).append((b"m" * 100,))
    contest(
        f"W8 open {partition_count:,} partitions, closed cleanly",
        "ms",
        {"logstore": lambda: _open_ms(lambda: logstore.open(place / "store"))},
        rounds=3,
    )


@pytest.mark.parametrize("unclean_mib", [0, 16])
def test_w8_open_256_mib_after_a_crash(place: Path, contest: Contest, unclean_mib: int) -> None:
    """Everything up to the recovery point, 256 MiB, and behind it ``unclean_mib`` that must be checked."""
    peer = Logstore(place / "store")
    _fill(peer, 256 << 20)
    peer.log.checkpoint()
    peer.store._data_dir.checkpoints.save()  # what upkeep does once a minute
    recovery_points = place / "store" / filename.RECOVERY_POINT_CHECKPOINT
    recorded = recovery_points.read_bytes()
    _fill(peer, unclean_mib << 20)
    peer.close()

    def measure() -> float:
        # As a kill leaves it: no marker, and the recovery point of the last minute.
        (place / "store" / filename.CLEAN_SHUTDOWN).unlink()
        recovery_points.write_bytes(recorded)
        return _open_ms(lambda: logstore.open(place / "store"))

    contest(f"W8 open 256 MiB after a crash, {unclean_mib} MiB behind the recovery point", "ms", {"logstore": measure})


@pytest.mark.parametrize("thread_count", [1, 2])
def test_w8_check_all_of_1_gib_after_a_crash(place: Path, contest: Contest, thread_count: int) -> None:
    """Four partitions whose recovery points are lost: every byte is checked."""
    values = [bytes([number % 251]) * 1024 for number in range(500)]
    with logstore.open(place / "store") as store:
        store.create_topic("bench", partitions=4)
        for partition in range(4):
            for _ in range((256 << 20) // (500 * 1024)):
                store.log("bench", partition).append(values)

    def measure() -> float:
        for name in (filename.CLEAN_SHUTDOWN, filename.RECOVERY_POINT_CHECKPOINT):
            (place / "store" / name).unlink()
        return _open_ms(lambda: logstore.open(place / "store", num_recovery_threads_per_data_dir=thread_count))

    contest(f"W8 check all of 1 GiB after a crash, {thread_count} threads", "ms", {"logstore": measure})
