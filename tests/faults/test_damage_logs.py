"""A log file is harmed: every opening ends well, every batch that is whole can be read, and what is lost is told."""

import random
import shutil
from pathlib import Path

import pytest

import logstore
from cli import run
from damage import (
    HARMS,
    NOW,
    Stored,
    all_values,
    build,
    damages,
    do_salvage,
    flipped,
    intact,
    read_around,
    stored,
    untold,
)
from logstore.errors import DamagedLog, LogstoreError, OffsetGap
from logstore.format.batch import encode_batch
from logstore.storage import files
from logstore.storage.compaction import compact

STATES = pytest.mark.parametrize("is_clean", [True, False], ids=["closed", "crashed"])


def check_reading(data: Path, kept: list[Stored], whole: list[Stored], *, read_only: bool = False) -> None:
    """Open, and read as a consumer does: all that was kept is seen, at its offset, and what is not seen is told."""
    with logstore.open(data, read_only=read_only) as store:
        log = store.log("t")
        seen, met = read_around(log)
        assert seen.items() <= all_values(whole).items(), "nothing was invented or moved"
        missing = all_values(kept).keys() - seen.keys()
        assert not missing, (missing, met)
        assert not untold(0, log.log_end_offset, seen, met)
        for offset in range(log.log_start_offset, log.log_end_offset):  # by way of the index
            if offset in seen:
                assert next(log.records(offset)).value == seen[offset]
            else:
                with pytest.raises((DamagedLog, OffsetGap)):
                    log.read(offset)
        if not read_only:
            end = log.log_end_offset
            assert log.append([b"next"]).base_offset == end
            assert next(log.records(end)).value == b"next"


def check_salvage(data: Path, kept: list[Stored], whole: list[Stored]) -> None:
    """Salvage keeps what is whole, byte for byte; afterwards verify is content, and readers are told of each gap."""
    do_salvage(data)
    if {finding.path.suffix for finding in damages(data)} & {".index", ".timeindex"}:
        run("reindex", data, "--index-interval", 150)  # what was cut from the log after a crash left no damage in it
    assert damages(data) == []
    assert do_salvage(data) == 0, "it is done"
    present = {batch.data for batch in stored(data)}
    assert {batch.data for batch in kept} <= present
    with logstore.open(data) as store:
        seen, met = read_around(store.log("t"))
        assert all_values(kept).items() <= seen.items() <= all_values(whole).items()
        assert all(isinstance(error, OffsetGap) for error in met), met
        assert not untold(store.log("t").log_start_offset, store.log("t").log_end_offset, seen, met)
    assert damages(data) == []
    run("consume", "t", "--data", data)


def settled(before: list[Stored], path: Path, content: bytes) -> list[Stored]:
    """What must be there after ``path`` got this content. A batch that was moved counts where it is now: behind one of
    later offsets it is no part of the log."""
    there = intact(before, path, content)
    kept = [batch for batch in there if batch.path != path]
    end = 0
    for batch in sorted(set(there) - set(kept), key=lambda batch: content.find(batch.data)):
        if batch.last_offset >= end:
            kept.append(batch)
            end = batch.last_offset
    return kept


@STATES
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("segment", [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_what_is_whole_can_be_read_and_what_is_lost_is_told(
    tmp_path: Path, is_clean: bool, harm: str, segment: int
) -> None:
    data = build(tmp_path / "data", is_clean=is_clean, size=120, batch_count=18, roll_each=6)
    before = stored(data)
    path = sorted((data / "t_0").glob("*.log"))[segment]
    new = HARMS[harm](path.read_bytes(), random.Random(f"{harm} {segment}"))
    path.write_bytes(new)
    kept = settled(before, path.relative_to(data), new)
    shutil.copytree(data, tmp_path / "salvaged")
    check_reading(data, kept, before, read_only=True)
    check_reading(data, kept, before)
    check_salvage(tmp_path / "salvaged", kept, before)


@pytest.mark.parametrize("segment", [0, 1, 2])
def test_a_log_file_that_is_missing_is_a_gap(tmp_path: Path, segment: int) -> None:
    data = build(tmp_path / "data", is_clean=True)
    before = stored(data)
    path = sorted((data / "t_0").glob("*.log"))[segment]
    path.unlink()
    kept = [batch for batch in before if data / batch.path != path]
    shutil.copytree(data, tmp_path / "salvaged")
    check_salvage(tmp_path / "salvaged", kept, before)
    with logstore.open(data) as store:
        log = store.log("t")
        seen, met = read_around(log)
        assert seen == all_values(kept)
        assert len(met) == 1
        assert all(isinstance(error, DamagedLog | OffsetGap) for error in met)
        assert log.log_end_offset == 24


def flips(batch: Stored, source: random.Random) -> list[tuple[int, int]]:
    fields = (0, 7, 8, 10, 11, 12, 15, 16, 17, 22, 26, 30, 40, 45, 54, 59, 61, len(batch.data) - 1)
    return [(at, source.randrange(8)) for at in fields]


def check_flip(tmp_path: Path, source: Path, batch: Stored, at: int, bit: int, before: list[Stored]) -> None:
    data = tmp_path / "flipped"
    shutil.copytree(source, data)
    path = data / batch.path
    path.write_bytes(flipped(path.read_bytes(), batch.position + at, bit))
    kept = [other for other in before if other is not batch]
    shutil.copytree(data, tmp_path / "salvaged")
    check_reading(data, kept, before)
    check_salvage(tmp_path / "salvaged", kept, before)
    if at < 17:
        assert all_values(stored(tmp_path / "salvaged")) == all_values(before), "the batch itself is whole: put right"
    shutil.rmtree(data)
    shutil.rmtree(tmp_path / "salvaged")


def test_a_flipped_bit_in_the_middle_is_reported_readable_up_to_it_and_salvaged_with_a_gap(tmp_path: Path) -> None:
    source = random.Random(3)
    data = build(tmp_path / "data", is_clean=True, batch_count=6, roll_each=2)
    before = stored(data)
    for batch in (before[0], before[3], before[5]):
        for at, bit in flips(batch, source)[::3]:
            check_flip(tmp_path, data, batch, at, bit, before)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_any_flipped_bit_anywhere_is_reported_readable_up_to_it_and_salvaged_with_a_gap(tmp_path: Path) -> None:
    source = random.Random(4)
    data = build(tmp_path / "data", is_clean=True, batch_count=8, roll_each=3)
    before = stored(data)
    for batch in before:
        for at, bit in flips(batch, source):
            check_flip(tmp_path, data, batch, at, bit, before)


@STATES
def test_a_log_cut_at_each_length_keeps_what_is_whole_and_goes_on(tmp_path: Path, is_clean: bool) -> None:
    source = build(tmp_path / "source", is_clean=is_clean, batch_count=5, roll_each=2)
    before = stored(source)
    last = before[-1].path
    content = (source / last).read_bytes()[: sum(len(batch.data) for batch in before if batch.path == last)]
    for size in range(0, len(content), 7):
        data = tmp_path / f"cut_{size}"
        shutil.copytree(source, data)
        (data / last).write_bytes(content[:size])
        check_reading(data, intact(before, last, content[:size]), before)
        shutil.rmtree(data)


# --------------------------------------------------------------------------------------- offsets that no CRC covers


@pytest.mark.parametrize("read_only", [False, True])
def test_a_batch_moved_to_later_offsets_is_damage_for_readers_and_not_a_silent_skip(
    tmp_path: Path, read_only: bool
) -> None:
    source = build(tmp_path / "source", is_clean=True, batch_count=6, roll_each=3)
    before = stored(source)
    for number, batch in enumerate(before):
        for bit in (4, 5, 10):
            data = tmp_path / f"{number}_{bit}"
            shutil.copytree(source, data)
            path = data / batch.path
            at = batch.position + 7 - bit // 8
            path.write_bytes(flipped(path.read_bytes(), at, bit % 8))
            with logstore.open(data, read_only=read_only) as store:
                log = store.log("t")
                seen: list[int] = []
                with pytest.raises(DamagedLog) as caught:
                    seen.extend(record.offset for record in log.records(0))
                first = min(batch.values)
                assert seen == list(range(first)), (number, bit)
                following = before[number + 1 :]
                if following:
                    assert caught.value.next_offset == min(following[0].values)
                    left = [record.offset for record in log.records(first + len(batch.values))]
                    assert left == list(all_values(following))
                with pytest.raises((DamagedLog, OffsetGap)):
                    log.read(first)


@pytest.mark.parametrize("cleanup_policy", ["delete", "compact"])
def test_a_batch_moved_beyond_its_segment_hides_no_other_segment(tmp_path: Path, cleanup_policy: str) -> None:
    data = build(tmp_path / "data", is_clean=True, batch_count=6, roll_each=3, cleanup_policy="delete")
    with logstore.open(data) as store:
        store.alter_topic("t", {"cleanup.policy": cleanup_policy})
    batch = stored(data)[2]
    path = data / batch.path
    path.write_bytes(flipped(path.read_bytes(), batch.position + 7, 5))
    with logstore.open(data, read_only=True) as store:
        log = store.log("t")
        with pytest.raises(DamagedLog) as caught:
            list(log.records(0))
        assert caught.value.next_offset == 6
        assert [record.offset for record in log.records(6)] == list(range(6, 12))


def test_a_batch_as_large_as_the_torn_one_before_it_can_be_read(tmp_path: Path) -> None:
    data = build(tmp_path / "data", is_clean=False, batch_count=2, segment_ms=1 << 60)
    batch = stored(data)[1]
    size = len(encode_batch([b"x" * 10], timestamps_ms=NOW))
    (data / batch.path).write_bytes((data / batch.path).read_bytes()[: batch.position + size])
    with logstore.open(data) as store:
        log = store.log("t")
        assert log.log_end_offset == 1
        log.append([b"x" * 10])
        assert log.view.segments[-1].size == batch.position + size
        assert [record.offset for record in log.records(0)] == [0, 1]


def test_offsets_that_compaction_took_are_no_damage(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("t", cleanup_policy="compact", min_cleanable_dirty_ratio=0, segment_ms=1)
        log = store.log("t")
        for number in range(10):
            log.append([b"%d" % number], keys=[b"%d" % (number % 2)])
            log.roll()
        result = compact(log, 0, 1 << 20)
        assert result.records_dropped
        store._data_dir.checkpoints.save_cleaner_offset(("t", 0), result.cleaned_offset)
        kept = [record.offset for record in log.records(0)]
        store.alter_topic("t", {"cleanup.policy": "delete"})
        assert [record.offset for record in log.records(0)] == kept, "the holes of earlier compactions stay"
    assert damages(tmp_path / "data") == []
    for read_only in (True, False):
        with logstore.open(tmp_path / "data", read_only=read_only) as again:
            assert [record.offset for record in again.log("t").records(0)] == kept


# ------------------------------------------------------------------------------------------------ while it is open


def test_a_bit_that_flips_under_a_live_reader_is_a_typed_error_and_appends_go_on(tmp_path: Path) -> None:
    source = random.Random(5)
    data = tmp_path / "data"
    with logstore.open(data) as store, logstore.open(data, read_only=True) as reader:
        store.create_topic("t", segment_bytes=900, index_interval_bytes=100)
        log = store.log("t")
        for number in range(30):
            log.append([b"%d" % number] * 3)
        whole = {record.offset: record.value for record in log.records(0)}
        assert {record.offset: record.value for record in reader.log("t").records(0)} == whole
        paths = sorted((data / "t_0").glob("*.log"))
        for path in (paths[0], paths[2], paths[-1]):
            content = path.read_bytes()
            size = len(content.rstrip(b"\0"))
            for _ in range(25):
                file = files.open_file(path, writable=True)
                at = source.randrange(size)
                file.write_at(at, flipped(content, at, source.randrange(8))[at : at + 1])
                for some in (log, reader.log("t")):
                    seen, met = read_around(some)
                    assert seen.items() <= whole.items()
                    assert all(isinstance(error, LogstoreError) for error in met)
                    for offset in source.sample(range(90), 5):
                        try:
                            next(some.records(offset), None)
                            some.read(offset).read()
                            some.offset_for_time(source.randrange(1 << 42))
                        except LogstoreError:
                            pass
                file.write_at(at, content[at : at + 1])
            end = log.log_end_offset
            assert log.append([b"goes on"]).base_offset == end
            whole[end] = b"goes on"


def test_a_log_cut_under_a_live_reader_is_a_typed_error_and_no_endless_loop(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store, logstore.open(tmp_path / "data", read_only=True) as reader:
        store.create_topic("t", segment_bytes=900)
        log = store.log("t")
        for number in range(30):
            log.append([b"%d" % number] * 3)
        whole = {record.offset: record.value for record in log.records(0)}
        for path in sorted((tmp_path / "data" / "t_0").glob("*.log"))[:2]:
            file = files.open_file(path, writable=True)
            for size in (200, 61, 30, 0):
                file.truncate(size)
                for some in (log, reader.log("t")):
                    seen, met = read_around(some)
                    assert seen.items() <= whole.items()
                    assert met
                    assert not untold(0, 90, seen, met)
