"""Short lives of a data directory, which together take every step that touches the disk; each drives a real one."""

from collections.abc import Callable

from driver import Driver
from logstore.format.compression import Compression

Workload = Callable[[Driver], None]


def appends(driver: Driver) -> None:
    """To the page cache and to the disk by turns."""
    driver.create()
    driver.append(2)
    driver.append(1, fsync=True)
    driver.append(3)
    driver.append(1, size=1500)
    driver.append(2, fsync=True, compression=Compression.LZ4)
    driver.append(1)
    driver.append(1)


def unsynced_appends(driver: Driver) -> None:
    """Larger than a sector, to the page cache only."""
    driver.create()
    for size in (100, 700, 1400, 20):
        driver.append(1, size=size)
    driver.append(2, size=600)


def group_commit(driver: Driver) -> None:
    driver.create()
    driver.append_in_threads(thread_count=3, each=2)


def rolls(driver: Driver) -> None:
    """Segments by size, their indexes with entries, with nothing synced between but what the roll syncs."""
    driver.create(segment_bytes=400, index_interval_bytes=100)
    for _ in range(7):
        driver.append(1, size=100)
    driver.append(1, fsync=True)
    driver.append(1, size=300)
    driver.append(1, size=300)


def preallocated(driver: Driver) -> None:
    driver.create(segment_bytes=2000, preallocate=True, index_interval_bytes=100)
    driver.append(1, size=700)
    driver.append(1, size=700, fsync=True)
    driver.append(1, size=700)
    driver.append(1, size=100)


def checkpoints(driver: Driver) -> None:
    driver.create(index_interval_bytes=100)
    driver.append(1, size=100)
    driver.append(1, size=100)
    driver.checkpoint()
    driver.append(1, size=100)
    driver.append(1, size=100, fsync=True)
    driver.checkpoint()
    driver.append(1)


def clean_closes(driver: Driver) -> None:
    driver.create(index_interval_bytes=100)
    driver.append(2, size=200)
    driver.close()
    driver.append(1, size=200)
    driver.append(1)
    driver.close()
    driver.data_dir.topics()
    driver.close()


def truncates(driver: Driver) -> None:
    """Within a segment and over several, with other records in the place of those that were cut."""
    driver.create(segment_bytes=500, index_interval_bytes=100)
    for _ in range(6):
        driver.append(1, size=150)
    driver.truncate(5)
    driver.append(1, size=120, fsync=True)
    driver.checkpoint()
    driver.truncate(1)
    driver.append(1, size=90)
    driver.append(1, fsync=True)


def retention(driver: Driver) -> None:
    driver.create(segment_bytes=300, retention_ms=1000)
    for _ in range(5):
        driver.append(1, size=100)
    driver.flush()
    driver.advance(3)
    driver.retain(0)
    driver.append(1)
    driver.retain(5000)
    driver.append(1, fsync=True)


def compactions(driver: Driver) -> None:
    driver.create(segment_bytes=350, cleanup_policy="compact", index_interval_bytes=100)
    for key in (b"a", b"b", b"a", b"c", b"b", b"a"):
        driver.append(1, size=100, key=key)
    driver.compact()
    driver.append(1, size=100, key=b"c", fsync=True)
    driver.append(1, size=100, key=b"a")
    driver.append(1, size=100, key=b"d")
    driver.compact()
    driver.close()


def topics(driver: Driver) -> None:
    """Made, altered, given partitions, deleted, and made again."""
    driver.create("a", 2, retention_ms=1000)
    driver.append(1, partition=("a", 1), fsync=True)
    driver.alter("a", retention_ms=2000)
    driver.alter("a", partitions=3)
    driver.append(1, partition=("a", 2), fsync=True)
    driver.create("b")
    driver.append(1, partition=("b", 0), fsync=True)
    driver.delete("a")
    driver.create("a")
    driver.append(1, partition=("a", 0), fsync=True)
    driver.remove_deleted()


def producers(driver: Driver) -> None:
    """Idempotent ones, whose state is stored at rolls, checkpoints and closes."""
    driver.create(segment_bytes=600)
    for sequence in range(3):
        driver.append(2, producer_id=7, producer_epoch=0, base_sequence=2 * sequence, fsync=sequence == 1)
    driver.append(1, producer_id=8, producer_epoch=1, base_sequence=0, size=300)
    driver.append(1, producer_id=7, producer_epoch=1, base_sequence=0, size=300)
    driver.checkpoint()
    driver.append(1, producer_id=8, producer_epoch=1, base_sequence=1, fsync=True)
    driver.close()
    driver.append(1, producer_id=7, producer_epoch=1, base_sequence=1)


WORKLOADS: dict[str, Workload] = {
    workload.__name__: workload
    for workload in (
        appends,
        unsynced_appends,
        group_commit,
        rolls,
        preallocated,
        checkpoints,
        clean_closes,
        truncates,
        retention,
        compactions,
        topics,
        producers,
    )
}


# ------------------------------------------------------------------------------------------------------------- steps
# One step each, of a directory that was closed cleanly before: short enough for every legal disk.


def four_segments(driver: Driver) -> None:
    driver.create(segment_bytes=300, retention_ms=1000, index_interval_bytes=100)
    for _ in range(7):
        driver.append(1, size=60)


def one_segment(driver: Driver) -> None:
    driver.create(retention_ms=1000)
    driver.append(3, size=60)


def keyed_segments(driver: Driver) -> None:
    """The first two become one when they are compacted again."""
    driver.create(segment_bytes=450, cleanup_policy="compact", index_interval_bytes=100)
    for key in (b"a", b"a", b"a", b"b", b"c"):
        driver.append(1, size=100, key=key)
    driver.compact()
    driver.append(2, size=100, key=b"d")


def two_topics(driver: Driver) -> None:
    driver.create("a")
    driver.append(1, partition=("a", 0))
    driver.create("b")
    driver.append(1, partition=("b", 0))


def create(driver: Driver) -> None:
    driver.create("c", retention_ms=5)
    driver.append(1, partition=("c", 0), fsync=True)


def alter(driver: Driver) -> None:
    driver.alter("a", retention_ms=7)


def alter_server(driver: Driver) -> None:
    driver.alter_server(log_retention_ms=8)


def add_partition(driver: Driver) -> None:
    driver.alter("a", partitions=2)
    driver.append(1, partition=("a", 1), fsync=True)


def delete(driver: Driver) -> None:
    driver.delete("a")


def remove_files(driver: Driver) -> None:
    driver.delete("a")
    driver.data_dir.remove_deleted(at_once=True)


def roll(driver: Driver) -> None:
    driver.roll()
    driver.append(1, size=60)
    driver.append(1, size=60, fsync=True)


def truncate_within(driver: Driver) -> None:
    driver.truncate(6)


def truncate_segments(driver: Driver) -> None:
    driver.truncate(5)


def retain(driver: Driver) -> None:
    driver.retain(5000)


def retain_nothing(driver: Driver) -> None:
    driver.retain(5000)


def advance(driver: Driver) -> None:
    driver.advance(3)
    driver.retain(0)


def compact(driver: Driver) -> None:
    driver.compact()


def checkpoint(driver: Driver) -> None:
    driver.append(1, size=60, fsync=True)
    driver.checkpoint()


def close(driver: Driver) -> None:
    driver.append(1, size=60)
    driver.close()


def close_untouched(driver: Driver) -> None:
    driver.data_dir.topics()
    driver.close()


STEPS: dict[str, tuple[Workload, Workload]] = {
    step.__name__: (prepare, step)
    for prepare, steps in (
        (two_topics, (create, alter, alter_server, add_partition, delete, remove_files)),
        (
            four_segments,
            (roll, truncate_within, truncate_segments, retain, advance, checkpoint, close, close_untouched),
        ),
        (one_segment, (retain_nothing,)),
        (keyed_segments, (compact,)),
    )
    for step in steps
}
