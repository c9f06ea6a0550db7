"""Indexes and checkpoints are harmed: they heal by themselves. Files that nothing can replace are named, and left."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import logstore
from cli import run
from damage import HARMS, all_values, build, changed, damages, do_salvage, flipped, read_around, stored
from log_tools import NOW
from logstore.errors import DamagedTopic, LogstoreError, TopicAlreadyExists
from logstore.format.index_entry import OFFSET_ENTRY, TIME_ENTRY
from logstore.storage.compaction import compact
from logstore.storage.log_view import ReadableLog

STATES = pytest.mark.parametrize("is_clean", [True, False], ids=["closed", "crashed"])
MISSING = "missing"
AHEAD = "ahead"  # of an index: entries beyond the log's end
# These files are smaller than a sector.
SOME_HARM = ["a flipped bit", "cut short", "nothing but garbage", "nothing but zeros", "empty", MISSING]
MORE_HARM = ["garbage in it", "a block doubled"]
KINDS_OF_HARM = pytest.mark.parametrize(
    "harm", [*SOME_HARM, *(pytest.param(harm, marks=pytest.mark.slow) for harm in MORE_HARM)]
)


def do_harm(path: Path, harm: str, seed: str = "") -> None:
    if harm == MISSING:
        path.unlink(missing_ok=True)
        return
    content = path.read_bytes() if path.exists() else b""
    if harm == AHEAD:
        path.write_bytes(content + entries_ahead(path))
        return
    path.write_bytes(HARMS[harm](content or b"0\n", random.Random(f"{path.name} {harm} {seed}")))


def entries_ahead(index: Path) -> bytes:
    """Entries that lead beyond the end of the log beside the index: of offsets, positions and times that it has not."""
    size = index.with_suffix(".log").stat().st_size
    if index.suffix == ".index":
        return b"".join(OFFSET_ENTRY.pack(1000 + number, size + 100 * number) for number in range(3))
    return b"".join(TIME_ENTRY.pack(NOW + 1000 + number, 1000 + number) for number in range(3))


def reads(log: ReadableLog) -> list[Any]:
    """Everything that can be read: in a row, from each offset on, and by each time."""
    view = log.view
    offsets = range(view.log_start_offset, view.log_end_offset)
    return [
        [(record.offset, record.value) for record in log.records(view.log_start_offset)],
        [next(log.records(offset)).value for offset in offsets],
        [log.read(offset).read() for offset in offsets],
        [log.offset_for_time(NOW + delta) for delta in range(-1, 130)],
    ]


def reads_of(data: Path, *, read_only: bool = False) -> list[Any]:
    with logstore.open(data, read_only=read_only) as store:
        return reads(store.log("t"))


# ------------------------------------------------------------------------------------------------------------ indexes


@STATES
@pytest.mark.parametrize(
    "harm", [*SOME_HARM, AHEAD, *(pytest.param(harm, marks=pytest.mark.slow) for harm in MORE_HARM)]
)
@pytest.mark.parametrize("kind", [".index", ".timeindex"])
def test_an_index_missing_short_garbage_all_zeros_or_ahead_is_rebuilt_and_reads_are_identical(
    tmp_path: Path, is_clean: bool, harm: str, kind: str
) -> None:
    source = build(tmp_path / "source", is_clean=is_clean)
    shutil.copytree(source, tmp_path / "data")
    data = tmp_path / "data"
    expected = reads_of(source)
    for path in sorted((data / "t_0").glob(f"*{kind}")):
        do_harm(path, harm)
    assert reads_of(data, read_only=True) == expected, "beside a live writer"
    assert reads_of(data) == expected
    assert reads_of(data) == expected
    if harm not in {"a flipped bit", "cut short", "garbage in it"}:
        assert damages(data) == []
    # What remains leads nobody astray, so that nobody has noticed it.
    assert all(finding.path.suffix == kind for finding in damages(data))
    run("reindex", data, "--index-interval", 150)
    assert damages(data) == []


@pytest.mark.parametrize("kind", [".index", ".timeindex"])
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_any_flipped_bit_of_an_index_changes_no_read(tmp_path: Path, kind: str, step: int) -> None:
    data = build(tmp_path / "data", is_clean=True)
    expected = reads_of(data)
    source = random.Random(6)
    for path in sorted((data / "t_0").glob(f"*{kind}")):
        content = path.read_bytes()
        for position in range(0, len(content), step):
            with changed(path, flipped(content, position, source.randrange(8))):
                assert reads_of(data, read_only=True) == expected, (path.name, position)


def test_an_index_is_harmed_under_a_live_reader_and_reads_are_identical(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with logstore.open(data) as store, logstore.open(data, read_only=True) as reader:
        store.create_topic("t", segment_bytes=800, index_interval_bytes=100)
        log = store.log("t")
        for number in range(20):
            log.append([b"%d" % number] * 2, timestamps_ms=NOW + number)
        expected = reads(log)
        for path in sorted((data / "t_0").glob("*index"))[:-2]:
            for harm in HARMS:
                content = path.read_bytes()
                with changed(path, HARMS[harm](content or bytes(8), random.Random(harm))):
                    assert reads(reader.log("t")) == expected, (path.name, harm)
                    assert reads(log) == expected, (path.name, harm)
        log.append([b"goes on"])


# -------------------------------------------------------------------------------------------------------- checkpoints

HEALING = [
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "cleaner-offset-checkpoint",
    ".kafka_cleanshutdown",
    ".lock",
    "t_0/leader-epoch-checkpoint",
    "t_0/damage-report",
    f"t_0/{24:020}.snapshot",
]
# These say the wrong thing in the right form: a bit of a digit.
BELIEVED = {"a flipped bit"}


@STATES
@KINDS_OF_HARM
@pytest.mark.parametrize("name", HEALING)
def test_a_checkpoint_empty_or_torn_is_made_again_after_a_full_scan(
    tmp_path: Path, is_clean: bool, harm: str, name: str
) -> None:
    data = build(tmp_path / "data", is_clean=is_clean)
    expected = reads_of(data, read_only=True)
    do_harm(data / name, harm)
    assert reads_of(data, read_only=True) == expected
    with logstore.open(data) as store:
        log = store.log("t")
        if harm not in BELIEVED:
            assert reads(log) == expected
        else:  # such as a recovery point that is too high: what it says was there is said to be lost
            seen, _ = read_around(log)
            assert list(seen.items()) == expected[0]
        assert log.append([b"next"]).base_offset >= 24
        assert log.append([b"x"], producer_id=7, producer_epoch=99, base_sequence=0).base_offset >= 25
    if harm not in BELIEVED:
        assert damages(data) == []
        assert log.leader_epochs.entries == ((0, 0), (1, 7), (2, 18))


def test_what_is_known_of_leader_epochs_stays_where_the_newest_producer_snapshot_does_not(tmp_path: Path) -> None:
    data = build(tmp_path / "data", is_clean=True)
    (data / ".kafka_cleanshutdown").unlink()
    do_harm(data / "t_0" / f"{24:020}.snapshot", "cut short")
    with logstore.open(data) as store:
        assert store.log("t").leader_epochs.entries == ((0, 0), (1, 7), (2, 18))


def with_holes(path: Path) -> list[int]:
    """A data directory with a topic t that was compacted and is not any more; returns the offsets that were kept."""
    with logstore.open(path) as store:
        store.create_topic("u")
        store.create_topic("t", cleanup_policy="compact", segment_ms=1)
        log = store.log("t")
        for number in range(10):
            log.append([b"%d" % number], keys=[b"%d" % (number % 2)])
            log.roll()
        result = compact(log, 0, 1 << 20)
        store._data_dir.checkpoints.save_cleaner_offset(("t", 0), result.cleaned_offset)
        store.alter_topic("t", {"cleanup.policy": "delete"})
        return [record.offset for record in log.records(0)]


@pytest.mark.parametrize("harm", ["cut short", "nothing but garbage", "nothing but zeros", "empty"])
def test_where_it_is_not_known_what_was_compacted_holes_are_no_damage_in_any_log(tmp_path: Path, harm: str) -> None:
    data = tmp_path / "data"
    kept = with_holes(data)
    assert kept != list(range(10))
    checkpoint = data / "cleaner-offset-checkpoint"
    do_harm(checkpoint, harm)
    harmed = checkpoint.read_bytes()
    for is_first in (True, False):
        assert [finding.path for finding in damages(data)] == [checkpoint] * is_first
        with logstore.open(data, read_only=True) as reader:
            assert [record.offset for record in reader.log("t").records(0)] == kept
            with logstore.open(data) as store:
                assert [record.offset for record in store.log("t").records(0)] == kept
                assert (checkpoint.read_bytes() == harmed) == is_first, "what is not known stays so until it is written"
                assert [record.offset for record in reader.log("t").records(0)] == kept
                store.delete_topic("u")
                store.create_topic("u")
    assert b"t 0 0\n" in checkpoint.read_bytes()
    assert b"u" not in checkpoint.read_bytes(), "what came later is known"


def test_a_compaction_makes_no_other_log_one_that_was_never_compacted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    kept = with_holes(data)
    do_harm(data / "cleaner-offset-checkpoint", "empty")
    with logstore.open(data) as store:
        store._data_dir.checkpoints.save_cleaner_offset(("u", 0), 0)
        with logstore.open(data, read_only=True) as reader:
            assert [record.offset for record in reader.log("t").records(0)] == kept


@KINDS_OF_HARM
def test_a_gap_file_that_is_harmed_hides_nothing_and_is_mended_by_salvage(tmp_path: Path, harm: str) -> None:
    data = build(tmp_path / "data", is_clean=True)
    before = stored(data)
    lost = before[5]
    path = data / lost.path
    path.write_bytes(flipped(path.read_bytes(), lost.position + 70, 1))
    do_salvage(data)
    assert damages(data) == []
    gaps = (data / "t_0" / "offset-gap-checkpoint").read_bytes()
    do_harm(data / "t_0" / "offset-gap-checkpoint", harm)
    harmed = (data / "t_0" / "offset-gap-checkpoint").exists()
    kept = all_values([batch for batch in before if batch is not lost])
    for read_only in (True, False):
        with logstore.open(data, read_only=read_only) as store:
            seen, met = read_around(store.log("t"))
            assert met, "what is lost is told"
            assert seen == kept or (harm in BELIEVED and seen.items() <= kept.items())
    if not harmed or (data / "t_0" / "offset-gap-checkpoint").read_bytes() != gaps:
        assert damages(data)
    do_salvage(data)
    assert damages(data) == []
    assert (data / "t_0" / "offset-gap-checkpoint").read_bytes() == gaps


@KINDS_OF_HARM
@pytest.mark.parametrize("name", [f"t_0/{0:020}.txnindex", "t_0/partition.metadata", f"t_0/{7:020}.snapshot"])
def test_a_file_that_nothing_is_read_from_disturbs_nobody(tmp_path: Path, harm: str, name: str) -> None:
    data = build(tmp_path / "data", is_clean=True)
    expected = reads_of(data, read_only=True)
    do_harm(data / name, harm)
    for _ in range(2):
        assert reads_of(data, read_only=True) == expected
        assert reads_of(data) == expected
    assert {finding.path for finding in damages(data)} <= {data / name}


# --------------------------------------------------------------------------------------- what stands nowhere else


def contents(data: Path) -> dict[str, bytes]:
    kept = (path for path in sorted(data.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(data)): path.read_bytes() for path in kept}


def is_refused(call: Callable[[], Any], name: str, *words: str) -> None:
    with pytest.raises(LogstoreError) as caught:
        call()
    assert all(word in str(caught.value) for word in (name, *words)), caught.value


@STATES
@pytest.mark.parametrize("harm", ["empty", "nothing but garbage", "nothing but zeros", MISSING])
def test_a_meta_file_that_is_harmed_is_named_and_nothing_is_changed(tmp_path: Path, is_clean: bool, harm: str) -> None:
    data = build(tmp_path / "data", is_clean=is_clean)
    expected = reads_of(data, read_only=True)
    do_harm(data / "meta.properties", harm)
    before = contents(data)
    for _ in range(2):
        is_refused(lambda: logstore.open(data), "meta.properties")
    assert contents(data) == before
    assert reads_of(data, read_only=True) == expected, "all can be looked at"


@STATES
@pytest.mark.parametrize("harm", ["empty", "nothing but garbage", "nothing but zeros"])
def test_a_topic_file_that_is_harmed_keeps_only_its_own_topic_from_being_used_and_nothing_of_it_is_changed(
    tmp_path: Path, is_clean: bool, harm: str
) -> None:
    data = build(tmp_path / "data", is_clean=is_clean)
    expected = reads_of(data, read_only=True)
    path = data / "topics" / "t" / "topic.properties"
    good = path.read_bytes()
    do_harm(path, harm)
    before = {name: content for name, content in contents(data).items() if name.startswith("t")}
    assert path in [finding.path for finding in damages(data)]
    for read_only in (True, False, False):
        with logstore.open(data, read_only=read_only) as store:
            assert [topic.name for topic in store.topics()] == ["u"]
            assert next(store.log("u").records(0)).value == b"another"
            for call in (store.log, store.topic):
                with pytest.raises(DamagedTopic, match="mend the file by hand") as caught:
                    call("t")
                assert caught.value.path == str(path)
            if isinstance(store, logstore.Store):
                with pytest.raises(TopicAlreadyExists):
                    store.create_topic("t")
                with pytest.raises(DamagedTopic):
                    store.delete_topic("t")
                store.log("u").append([b"goes on"])
    after = {name: content for name, content in contents(data).items() if name.startswith("t")}
    assert after == before
    assert (b"t 0 24\n" in (data / "recovery-point-offset-checkpoint").read_bytes()) == is_clean
    assert not (data / ".kafka_cleanshutdown").exists(), "the next opening must not trust what this one did not see"
    path.write_bytes(good)
    assert reads_of(data) == expected
    assert damages(data) == []


def test_a_damaged_topic_that_was_never_used_is_not_taken_for_an_unfinished_creation(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("t", partitions=2)
    do_harm(tmp_path / "data" / "topics" / "t" / "topic.properties", "empty")
    before = contents(tmp_path / "data" / "t_1")
    with logstore.open(tmp_path / "data"):
        pass
    assert contents(tmp_path / "data" / "t_1") == before


def test_an_interrupted_deletion_whose_file_is_damaged_keeps_no_other_topic_closed(tmp_path: Path) -> None:
    data = build(tmp_path / "data", is_clean=True)
    path = data / "topics" / "t" / "topic.properties"
    path.write_bytes(b"nonsense")
    path.rename(path.with_name("topic.properties.deleted"))
    with logstore.open(data) as store:
        assert [topic.name for topic in store.topics()] == ["u"]
    assert (data / "t_0" / f"{0:020}.log").stat().st_size
