"""Every disk that a power cut may leave, at each call of every step that touches the disk, is recovered and checked.

See crash_explorer. Steps and short workloads are explored whole, long ones by samples with a seed. The explorer is
itself tested, on an engine with one sync or one order taken away.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from crash_explorer import BadState, explore, explore_recoveries, explore_run, open_data_dir, run
from driver import Driver, abandon
from logstore.errors import OffsetGap
from logstore.format import filename
from logstore.storage import files
from logstore.storage.segment import Segment
from logstore.storage.segment_list import SegmentList
from promises import Promises, check_verified, demand
from sabotage import Site, watching, without
from workloads import STEPS, WORKLOADS, Workload

SHORT = ("appends", "group_commit", "checkpoints", "clean_closes")
LONG = tuple(name for name in WORKLOADS if name not in SHORT)
Figures = Callable[[str, object], None]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Recovery says what it cuts, thousands of times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def life(name: str) -> tuple[Workload | None, Workload]:
    """What prepares a workload, and the workload."""
    return STEPS[name] if name in STEPS else (None, WORKLOADS[name])


@pytest.mark.parametrize("name", [*STEPS, *SHORT])
def test_every_legal_crash_state_of_a_step_is_recovered(name: str, memory_dir: Path, record_property: Figures) -> None:
    prepare, workload = life(name)
    explored = explore(name, workload, memory_dir, prepare, states_a_moment_max=5000)
    record_property("crash states", f"{name}: {explored}")
    assert explored.is_complete and explored.recovered > 10


LONGER = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("seed", "states_a_moment_max", "least"), [(0, 3, 20), pytest.param(1, 10, 50, marks=LONGER)])
@pytest.mark.parametrize("name", LONG)
def test_sampled_crash_states_of_a_long_workload_are_recovered(
    name: str, seed: int, states_a_moment_max: int, least: int, memory_dir: Path, record_property: Figures
) -> None:
    explored = explore(name, WORKLOADS[name], memory_dir, seed=seed, states_a_moment_max=states_a_moment_max)
    record_property("crash states", f"{name}, seed {seed}: {explored}")
    assert explored.recovered > least


LOSING_TWICE = ("unsynced_appends", "rolls", "truncates", "retention", "compactions", "topics")


@pytest.mark.parametrize(
    ("name", "seed", "count", "states_a_moment_max", "least"),
    [
        *((name, 0, 2, 6, 20) for name in LOSING_TWICE),
        *(pytest.param(name, 2, 4, 12, 20, marks=LONGER) for name in WORKLOADS),
    ],
)
def test_power_lost_again_while_a_crash_state_is_recovered_loses_no_more(
    name: str,
    seed: int,
    count: int,
    states_a_moment_max: int,
    least: int,
    memory_dir: Path,
    record_property: Figures,
) -> None:
    explored = explore_recoveries(
        name, WORKLOADS[name], memory_dir, seed=seed, count=count, states_a_moment_max=states_a_moment_max
    )
    record_property("crash states", f"recoveries of {name}, seed {seed}: {explored}")
    assert explored.recovered > least


# ----------------------------------------------------------------------------------------------------------- salvage


def damaged_and_salvaged(driver: Driver) -> tuple[set[int], bytes]:
    """A closed directory with bad bytes in the middle of a segment: the offsets that they cost, and the bytes."""
    driver.create(segment_bytes=400, index_interval_bytes=100)
    for _ in range(6):
        driver.append(1, size=60)
    driver.close()
    log = driver.path / "t_0" / "00000000000000000003.log"
    data = bytearray(log.read_bytes())
    size = len(data) // 3
    data[size + 100] ^= 4
    log.write_bytes(data)
    return {4}, bytes(data[size : 2 * size])


def test_every_crash_state_of_a_salvage_is_salvaged_to_the_same(memory_dir: Path, record_property: Figures) -> None:
    def prepare(driver: Driver) -> None:
        lost.update(zip(("offsets", "bytes"), damaged_and_salvaged(driver)))

    lost: dict[str, Any] = {}
    done = run("salvage", Driver.salvage, memory_dir / "live", prepare)

    def recover(root: Path, promises: Promises) -> None:
        abandon(open_data_dir(root))  # whoever opens it first has not salvaged it yet
        driver = Driver(root, done.journal)
        driver.salvage()
        data_dir = open_data_dir(root)
        demand(not data_dir.damages(), f"still damaged: {data_dir.damages()}")
        found = {}
        offset = 0
        log = data_dir.log("t")
        while offset < log.log_end_offset:
            try:
                for record in log.records(offset):
                    found[record.offset] = record.value
                    offset = record.offset + 1
            except OffsetGap as gap:
                offset = gap.last_offset + 1
        known = promises.logs["t", 0].known
        demand(found == {at: known[at] for at in known.keys() - lost["offsets"]}, f"found {sorted(found)}")
        kept = [path.read_bytes() for path in (root / "t_0" / "salvaged").iterdir()]
        demand(lost["bytes"] in kept, "the bad bytes are not kept")
        data_dir.close()
        check_verified(root)

    explored = explore_run(done, memory_dir, states_a_moment_max=5000, recover=recover)
    record_property("crash states", f"salvage: {explored}")
    assert explored.is_complete and explored.recovered > 20


# ------------------------------------------------------------------------------------------------------- seeded bugs


# Each sync that the engine makes, by what asks for it (see sabotage), with a workload in which it is missed.
MISSED_IN: dict[Site, str] = {
    "sync < Segment.sync < PartitionLog._forget_after": "truncate_within",
    "sync < Segment.sync < SegmentList.sync_from": "appends",
    "sync < StateFiles.sync < OwnedLog.close": "close",
    "sync < _Writer.finish < _Run._replace": "compact",
    "sync in write_file < OffsetCheckpoints._write < OffsetCheckpoints._store_cleaner_offsets": "compactions",
    "sync in write_file < OffsetCheckpoints._write < OffsetCheckpoints.save": "delete",
    "sync in write_file < LastShutdown.note_closed < DataDir.close": "close",
    "sync in write_file < ServerSettings.store < DataDir.alter_settings": "alter_server",
    "sync in write_file < Topics._make_partitions < Topics.alter": "add_partition",
    "sync in write_file < Topics._make_partitions < Topics.create": "create",
    "sync in write_file < Topics._write < Topics.alter": "alter",
    "sync in write_file < Topics._write < Topics.create": "create",
    "sync in write_file < make_meta < DataDir._open": "appends",
    "sync_dir < LastShutdown.begin < DataDir._open": "clean_closes",
    "sync_dir < SegmentList.drop_newest < PartitionLog.truncate_to": "truncates",
    "sync_dir < SegmentList.replace < PartitionLog.replace_segments": "compact",
    "sync_dir < SegmentList.sync_dir < PartitionLog._drop_oldest": "retain",
    "sync_dir < SegmentList.sync_names < PartitionLog.delete_expired": "retain_nothing",
    "sync_dir < SegmentList.sync_names < SegmentList.sync_from": "roll",
    "sync_dir < Topics._write < Topics.alter": "add_partition",
    "sync_dir < Topics._write < Topics.create": "create",
    "sync_dir < Topics.finish_delete < DataDir.delete_topic": "delete",
    "sync_dir < swap_in < SegmentList.replace": "compact",
    "sync_dir in write_file < OffsetCheckpoints._write < OffsetCheckpoints.save": "truncate_within",
    "sync_dir in write_file < ServerSettings.store < DataDir.alter_settings": "alter_server",
    "sync_dir in write_file < Topics._write < Topics.alter": "alter",
    "sync_dir in write_file < Topics._write < Topics.create": "create",
}
# Those whose absence costs a later opening or look-up time, and changes nothing of what it finds.
SAVES_TIME: dict[Site, str] = {
    "sync < SparseIndex.sync < Segment.sync_indexes": "look-ups walk further",
    "sync < StateFiles.sync < OwnedLog.checkpoint": "producers are replayed from an older snapshot",
    "sync in write_file < LastShutdown.note_opened < DataDir._note_opened": "what is torn is another boot's id too",
    "sync in write_file < SparseIndex.replace < SegmentReader._rebuild_indexes": "the index is made anew",
    "sync in write_file < write_epochs < StateFiles.save_epochs": "leader epochs are read from the log",
    "sync_dir < StateFiles.sync < OwnedLog.checkpoint": "producers are replayed from an older snapshot",
    "sync_dir < StateFiles.sync < OwnedLog.close": "producers are replayed from an older snapshot",
    "sync_dir < _start_segment < recover": "the first flush syncs the directory again",
    "sync_dir in write_file < OffsetCheckpoints._write < OffsetCheckpoints._store_cleaner_offsets": "compacts again",
    "sync_dir in write_file < LastShutdown.note_opened < DataDir._note_opened": "the id from before is another boot's",
    "sync_dir in write_file < LastShutdown.note_closed < DataDir.close": "a clean close counts for nothing",
    "sync_dir in write_file < SparseIndex.replace < SegmentReader._rebuild_indexes": "the index is made anew",
    "sync_dir in write_file < write_epochs < StateFiles.save_epochs": "leader epochs are read from the log",
    "sync_dir in write_file < Topics._make_partitions < Topics.alter": "the directory is synced when it is opened",
    "sync_dir in write_file < Topics._make_partitions < Topics.create": "the directory is synced when it is opened",
    "sync_dir in write_file < make_meta < DataDir._open": "the first topic's creation syncs the directory again",
}
BY_DEFAULT = ("appends", "roll", "compact", "alter")


def find_bug(name: str, root: Path) -> None:
    prepare, workload = life(name)
    explore(name, workload, root, prepare, states_a_moment_max=150 if name in STEPS else 25)


@pytest.mark.parametrize(
    ("site", "name"),
    [
        pytest.param(site, name, marks=[] if name in BY_DEFAULT else pytest.mark.slow)
        for site, name in MISSED_IN.items()
    ],
)
def test_one_sync_that_is_left_out_is_found(site: Site, name: str, memory_dir: Path) -> None:
    with without(site), pytest.raises(BadState, match=f"{name} --seed 0 --moment"):
        find_bug(name, memory_dir)


def test_every_sync_of_the_engine_is_left_out_in_a_test_or_known_to_save_time_only(memory_dir: Path) -> None:
    made: set[Site] = set()

    def note(site: Site) -> bool:
        made.add(site)
        return False

    for name in (*STEPS, *WORKLOADS):
        prepare, workload = life(name)
        with watching(note):
            run(name, workload, memory_dir / name, prepare)
    assert made == MISSED_IN.keys() | SAVES_TIME.keys()


def test_a_file_that_gets_its_name_before_it_is_on_the_disk_is_found(memory_dir: Path) -> None:
    def write_file(path: Path, data: bytes, *, sync: bool = True) -> None:
        temporary = path.with_name(path.name + files.TEMPORARY)
        file = files.open_file(temporary, writable=True, create=True)
        file.write_at(0, data)
        files.rename(temporary, path)
        file.sync()
        file.close()
        files.sync_dir(path.parent)

    with mock.patch.object(files, "write_file", write_file), pytest.raises(BadState):
        find_bug("alter", memory_dir)


def test_old_segments_that_go_before_the_new_one_stands_are_found(memory_dir: Path) -> None:
    make_swap, replace = SegmentList.make_swap, SegmentList.replace

    def replace_first(segments: SegmentList, first: int, count: int, cleaned: Segment, now_ms: int) -> None:
        for segment in segments.all[first : first + count]:
            retired = segment.path.with_name(segment.path.name + filename.DELETED)
            files.rename(segment.path, retired)
            segment.path = retired
        make_swap(segments, cleaned)
        replace(segments, first, count, cleaned, now_ms)

    with (
        mock.patch.object(SegmentList, "make_swap"),
        mock.patch.object(SegmentList, "replace", replace_first),
        pytest.raises(BadState),
    ):
        find_bug("compact", memory_dir)
