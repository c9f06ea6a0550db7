"""A script that kills a busy writer again and again, at any moment, and checks after each kill what it has left.

    busy_writer.py DIRECTORY KILLS SEED

Three threads of a writer append to the page cache and to the disk while another rolls, retains, compacts, checkpoints,
makes and deletes topics; between, it truncates, closes and opens again. What it left is opened, sometimes by a process
that is killed while it does so, and checked. The directory lives on, with all that it holds, for KILLS_OF_A_DIRECTORY
lives. Ends with 1 and the broken promise at the first one; prints a summary.
"""

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from children import WrittenJournal, fork, wait
from driver import Acknowledged, Driver, Journal
from log_tools import NOW, Clock
from logstore.errors import LogstoreError
from logstore.format.compression import Compression
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from promises import Promises, check_directory, demand

KILLS_OF_A_DIRECTORY = 40
LIFE_MS_MAX = 90
LOG, TABLE, PASSING = ("log", 0), ("table", 0), "passing"
_PARTITIONS = (LOG, ("log", 1), TABLE)


def write_busily(path: Path, journal: Journal, life: int, seed: int, synced_share: float = 0.4) -> None:
    """Until the process ends, which is an error unless it is a kill. ``synced_share`` of appends wait for the disk."""
    choose = random.Random(seed)
    driver = Driver(path, journal, first_number=life * 1_000_000)
    driver.clock.now_ms = NOW + life * 1000
    topics = {topic.name for topic in driver.data_dir.topics()}
    if "log" not in topics:
        driver.create("log", 2, segment_bytes=3000, index_interval_bytes=300, retention_bytes=12_000)
    if "table" not in topics:
        driver.create("table", segment_bytes=2000, index_interval_bytes=300, cleanup_policy="compact")
    while True:
        works = [
            lambda r: append(driver, r, LOG, synced_share),
            lambda r: append(driver, r, ("log", 1), synced_share),
            lambda r: append(driver, r, TABLE, synced_share),
            lambda r: keep_house(driver, r),
        ]
        driver.data_dir.topics()  # opened by one thread
        threads = [_thread(work, random.Random(choose.random())) for work in works]
        for thread in threads:
            thread.join()
        if choose.random() < 0.3:
            cut(driver, choose)
        if choose.random() < 0.3:
            driver.close()


def _thread(work: Callable[[random.Random], None], randomness: random.Random) -> threading.Thread:
    def run() -> None:
        try:
            work(randomness)
        except BaseException:  # noqa: BLE001  # it ends the process
            sys.excepthook(*sys.exc_info())
            os._exit(1)  # a failure in any thread is the process's

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def append(driver: Driver, choose: random.Random, partition: tuple[str, int], synced_share: float) -> None:
    producer_id = choose.randrange(1 << 40)
    sequence = 0
    for _ in range(choose.randrange(1, 12)):
        count = choose.choice((1, 1, 2, 5))
        producer = {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": sequence}
        is_idempotent = choose.random() < 0.5
        sequence += count if is_idempotent else 0
        driver.append(
            count,
            partition=partition,
            size=choose.choice((0, 60, 300)),
            key=b"key %d" % choose.randrange(12) if partition == TABLE else None,
            fsync=choose.random() < synced_share,
            compression=choose.choice((Compression.NONE, Compression.NONE, Compression.LZ4)),
            **(producer if is_idempotent else {}),
        )


def keep_house(driver: Driver, choose: random.Random) -> None:
    works: list[Callable[[], object]] = [
        lambda: driver.retain(0, "log", 0),
        lambda: driver.retain(0, "log", 1),
        lambda: driver.compact("table"),
        lambda: driver.roll(*choose.choice(_PARTITIONS)),
        lambda: driver.flush(*choose.choice(_PARTITIONS)),
        driver.checkpoint,
        lambda: toggle(driver, choose),
    ]
    for work in choose.sample(works, 4):
        work()


def toggle(driver: Driver, choose: random.Random) -> None:
    """A topic that comes and goes."""
    if PASSING in {topic.name for topic in driver.data_dir.topics()}:
        driver.delete(PASSING)
        driver.data_dir.remove_deleted(at_once=choose.random() < 0.5)
    else:
        driver.create(PASSING, 2, retention_ms=choose.randrange(1000, 9000))
        driver.append(3, partition=(PASSING, 1), fsync=choose.random() < 0.5)


def cut(driver: Driver, choose: random.Random) -> None:
    log = driver.log("log", 1)
    if log.log_start_offset < log.log_end_offset:  # else there is nothing to cut, and nothing is synced
        driver.truncate(choose.randrange(log.log_start_offset, log.log_end_offset), "log", 1)


# ------------------------------------------------------------------------------------------------------------ killing


def kill_after(pid: int, delay_s: float) -> int:
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)
    return wait(pid)


def main(scratch: Path, kill_count: int, seed: int) -> None:
    randomness = random.Random(seed)
    path, journal, promises = scratch / "data", WrittenJournal(), Promises()
    counts: Counter[str] = Counter()
    started_s = time.monotonic()
    while counts["kills"] < kill_count:
        life = counts["lives"]
        if life % KILLS_OF_A_DIRECTORY == 0:
            shutil.rmtree(path, ignore_errors=True)
            promises = Promises()
        life_seed = randomness.randrange(1 << 32)
        status = kill_after(
            fork(partial(write_busily, path, journal, life, life_seed)),
            randomness.uniform(0, LIFE_MS_MAX) / 1000,
        )
        counts["lives"] += 1
        counts["kills"] += 1
        demand(status == -signal.SIGKILL, f"the writer ended with {status}")
        if randomness.random() < 0.3:
            kill_after(fork(lambda: DataDir(path, now_ms=Clock()).close()), randomness.uniform(0, 0.01))
            counts["kills"] += 1
        events = journal.take()
        counts["records"] += sum(len(event.values) for event in events if isinstance(event, Acknowledged))
        counts["steps"] += len(events)
        try:
            promises.take(events, survives=Durability.OS)
            check_directory(path, promises, settle=True)
        except (AssertionError, LogstoreError) as error:
            raise AssertionError(f"life {life} of seed {seed}, in {path}: {type(error).__name__}: {error}") from error
    print(
        f"{counts['kills']} kills in {time.monotonic() - started_s:.1f} s, {counts['records']} records acknowledged "
        f"in {counts['steps']} events, 0 broken promises"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
