"""Waiting for the disk: one flush of a log at a time, for all who came before it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from logstore.broker.syncs import Syncs
from logstore.errors import PartitionOffline, StorageFailure
from logstore.storage import files
from logstore.storage.partition import PartitionLog
from waits import SOON_S, hold


@pytest.fixture
def log(tmp_path: Path) -> PartitionLog:
    return PartitionLog(tmp_path)


def run(test: Callable[[Syncs, list[float]], Any]) -> Any:
    """In an event loop; the list is of the flushes so far."""
    flushed: list[float] = []

    async def in_loop() -> Any:
        with ThreadPoolExecutor(2) as threads:
            return await test(Syncs(threads, flushed.append), flushed)

    return asyncio.run(in_loop())


def test_what_is_on_the_disk_already_needs_no_flush(log: PartitionLog) -> None:
    async def test(syncs: Syncs, flushed: list[float]) -> None:
        log.append([b"a"], durability="fsync")
        await syncs.wait(log, 1)
        assert not flushed

    run(test)


def test_after_the_wait_it_is_on_the_disk(log: PartitionLog) -> None:
    async def test(syncs: Syncs, flushed: list[float]) -> None:
        log.append([b"a"])
        await syncs.wait(log, 1)
        assert log.synced_offset == 1 and len(flushed) == 1

    run(test)


def test_all_who_come_during_a_flush_share_the_next(log: PartitionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    may_sync = Event()
    sync = files.File.sync

    def slow_sync(file: files.File) -> None:
        hold(may_sync)
        sync(file)

    monkeypatch.setattr(files.File, "sync", slow_sync)

    async def test(syncs: Syncs, flushed: list[float]) -> None:
        waits = []
        for number in range(20):
            log.append([b"a"])
            waits.append(asyncio.create_task(syncs.wait(log, number + 1)))
            await asyncio.sleep(0.001 if number == 0 else 0)
        may_sync.set()
        await asyncio.gather(*waits)
        assert len(flushed) <= 2

    run(test)


def test_logs_do_not_wait_for_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = []
    for name in ("slow", "fast"):
        (tmp_path / name).mkdir()
        logs.append(PartitionLog(tmp_path / name))
    slow, fast = logs
    may_sync = Event()
    sync = files.File.sync

    def slow_sync(file: files.File) -> None:
        if file.path.parent.name == "slow":
            hold(may_sync)
        sync(file)

    monkeypatch.setattr(files.File, "sync", slow_sync)

    async def test(syncs: Syncs, flushed: list[float]) -> None:
        slow.append([b"a"])
        fast.append([b"a"])
        waiting = asyncio.create_task(syncs.wait(slow, 1))
        await syncs.wait(fast, 1)
        assert not waiting.done()
        may_sync.set()
        await waiting

    run(test)


def test_a_sync_that_fails_is_told_to_all_who_waited_and_to_those_who_come_later(
    log: PartitionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: files.File) -> None:
        raise StorageFailure(str(file.path), "sync", 5, "Input/output error")

    monkeypatch.setattr(files.File, "sync", fail)

    async def test(syncs: Syncs, flushed: list[float]) -> None:
        log.append([b"a", b"b"])
        told = await asyncio.gather(syncs.wait(log, 1), syncs.wait(log, 2), return_exceptions=True)
        assert [type(error) for error in told] == [StorageFailure] * 2
        with pytest.raises(PartitionOffline):
            await syncs.wait(log, 2)

    run(test)


def test_a_flush_that_fails_by_our_own_mistake_is_told_and_later_ones_are_tried(
    log: PartitionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, failures = log.flush, [MemoryError()]

    def fail_once() -> None:
        if failures:
            raise failures.pop()
        flush()

    monkeypatch.setattr(log, "flush", fail_once)

    async def test(syncs: Syncs, flushed: list[float]) -> None:
        log.append([b"a"])
        with pytest.raises(MemoryError):
            await asyncio.wait_for(syncs.wait(log, 1), SOON_S)
        await asyncio.wait_for(syncs.wait(log, 1), SOON_S)
        assert log.synced_offset == 1

    run(test)


def test_one_whose_callback_fails_keeps_nobody(log: PartitionLog) -> None:
    async def test(syncs: Syncs, flushed: list[float]) -> None:
        def fail(error: Exception | None) -> None:
            raise MemoryError

        log.append([b"a"])
        syncs.when_synced(log, 1, fail)
        await asyncio.wait_for(syncs.wait(log, 1), SOON_S)

    run(test)


def test_one_who_gives_up_keeps_nobody(log: PartitionLog) -> None:
    async def test(syncs: Syncs, flushed: list[float]) -> None:
        log.append([b"a"])
        waits = [asyncio.create_task(syncs.wait(log, 1)) for _ in range(2)]
        await asyncio.sleep(0)
        waits[0].cancel()
        await waits[1]
        assert log.synced_offset == 1

    run(test)
