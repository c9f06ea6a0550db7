"""A reader that has no part in the writer: a valid prefix that grows, never garbage."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import logstore
from logstore import PartitionLog, ReadOnlyLog, TopicConfig
from logstore.format import filename
from logstore.format.record import Record
from logstore.storage import files
from logstore.storage.compaction import compact

T0 = 1_700_000_000_000


def open_log(directory: Path, **settings: object) -> PartitionLog:
    directory.mkdir(exist_ok=True)
    return PartitionLog(directory, TopicConfig.parse(settings), now_ms=lambda: T0)


def values(log: ReadOnlyLog) -> list[bytes | None]:
    view = log.view
    return [record.value for record in view.records(view.log_start_offset)]


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("preallocate", [False, True])
def test_each_look_shows_what_was_appended_before_it_also_across_rolls(preallocate: bool, tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=700, preallocate=preallocate, index_interval_bytes=100)
    reader = ReadOnlyLog(log.directory)
    assert values(reader) == []
    for n in range(60):
        log.append([b"%d" % n], timestamps_ms=T0 + n)
        assert (reader.log_start_offset, reader.log_end_offset) == (0, n + 1)
        assert reader.offset_for_time(T0 + n) == (T0 + n, n)
    assert len(reader.view.segments) > 3
    assert values(reader) == [b"%d" % n for n in range(60)]
    for n in range(60):
        assert reader.offset_for_time(T0 + n) == (T0 + n, n)
    log.close()


def test_a_view_does_not_change_when_the_log_grows(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"a"])
    reader = ReadOnlyLog(log.directory)
    old = reader.view
    log.append([b"b"])
    assert reader.log_end_offset == 2
    assert [record.value for record in old.records(0)] == [b"a"]
    assert old.segments[-1].size < reader.view.segments[-1].size
    log.close()


def test_an_append_under_way_is_not_shown_at_any_of_its_bytes_and_nothing_is_changed(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"first"])
    whole = log.view.size
    log.append([b"second" * 3])
    log.close()
    path = log.directory / filename.log_name(0)
    data = path.read_bytes()
    reader = ReadOnlyLog(log.directory)
    for size in range(whole, len(data)):
        path.write_bytes(data[:size])
        before = snapshot(log.directory)
        assert values(reader) == values(ReadOnlyLog(log.directory)) == [b"first"]
        path.write_bytes(data[:size] + bytes(len(data) - size))  # as in a file that was allocated beforehand
        assert values(reader) == [b"first"] + [b"second" * 3] * (path.read_bytes() == data)  # its last byte is 0
        path.write_bytes(data[:size])
        assert snapshot(log.directory) == before
    path.write_bytes(data)
    assert values(reader) == [b"first", b"second" * 3]


def test_an_index_that_points_astray_or_is_missing_hides_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", index_interval_bytes=60)
    for n in range(30):
        log.append([b"%d" % n])
    log.close()
    index = log.directory / filename.index_name(0)
    good = index.read_bytes()
    for bad in (good[:-8] + b"\0\0\0\x1d\0\0\0\x99", b"\xff" * 80, good[:13], b"", None):
        index.unlink()
        if bad is not None:
            index.write_bytes(bad)
        assert values(ReadOnlyLog(log.directory)) == [b"%d" % n for n in range(30)]
        if bad is None:
            assert not index.exists()
            break


def test_retention_moves_the_start_that_a_reader_sees(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=300, retention_ms=-1)
    for n in range(30):
        log.append([b"%d" % n])
    reader = ReadOnlyLog(log.directory)
    old = reader.view
    log.config = log.config.replace({"retention.bytes": 600})
    assert log.delete_expired()
    start = reader.log_start_offset
    assert start == log.log_start_offset > 0
    assert values(reader) == [b"%d" % n for n in range(start, 30)]
    assert [record.value for record in old.records(0)] == [b"%d" % n for n in range(30)], "until they are unlinked"
    with pytest.raises(logstore.OffsetOutOfRange):
        reader.read(0)
    log.close()


def test_a_log_that_is_cut_and_grows_again_is_read_as_it_is_now(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", index_interval_bytes=60)
    for n in range(20):
        log.append([b"old %d" % n])
    reader = ReadOnlyLog(log.directory)
    assert reader.log_end_offset == 20
    log.truncate_to(5)
    for n in range(5, 40):
        log.append([b"new and longer %d" % n])
    wanted = [b"old %d" % n for n in range(5)] + [b"new and longer %d" % n for n in range(5, 40)]
    assert values(reader) == wanted
    log.close()


def test_a_topic_that_is_deleted_and_made_anew_is_read_from_its_own_start(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store, logstore.open(tmp_path, read_only=True) as reader:
        store.create_topic("t")
        for n in range(20):
            store.log("t").append([b"old %d" % n])
        store.advance_log_start("t", 0, 12)
        log = reader.log("t")
        assert (log.log_start_offset, log.log_end_offset) == (12, 20)
        store.delete_topic("t")
        with pytest.raises(logstore.UnknownTopic):
            reader.log("t")
        with pytest.raises(logstore.StorageFailure, match="No such file"):
            list(log.records(12))
        store.create_topic("t")
        store.log("t").append([b"new"])
        for again in (log, reader.log("t")):
            assert (again.log_start_offset, again.log_end_offset) == (0, 1)
            assert values(again) == [b"new"]


def test_waiting_ends_with_an_append_of_the_other_or_with_its_time(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    reader = ReadOnlyLog(log.directory)
    assert reader.wait(0, 0.05) is False
    log.append([b"x"])
    assert reader.wait(0, 10) is True
    log.close()


def test_a_space_kept_ready_behind_a_segment_that_was_just_rolled_is_not_taken_for_damage(tmp_path: Path) -> None:
    """As a crash, or a look, between the making of the next segment and the cut of the last one finds it."""
    log = open_log(tmp_path / "t_0")
    log.append([b"a", b"b"])
    log.close()
    with (log.directory / filename.log_name(0)).open("r+b") as file:
        file.truncate(4_000)
    (log.directory / filename.log_name(2)).touch()
    reader = ReadOnlyLog(log.directory)
    assert (reader.log_end_offset, values(reader)) == (2, [b"a", b"b"])


def keyed_log(directory: Path) -> PartitionLog:
    """Three segments, of which compaction makes one, and the active one."""
    log = open_log(directory, cleanup_policy="compact", index_interval_bytes=60)
    for n in range(30):
        log.append([b"%d" % n], keys=[b"key %d" % (n % 4 if n % 3 else n)])
        if n % 8 == 7:
            log.roll()
    return log


def latest(records: Iterable[Record]) -> dict[bytes | None, bytes | None]:
    return {record.key: record.value for record in records}


@contextmanager
def before_each_change(act: Callable[[], None]) -> Iterator[None]:
    """Have ``act`` called before each change of a name in a directory."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "unlink"):
            patch.setattr(files, name, partial(_act_first, act, getattr(files, name)))
        yield


def _act_first(act: Callable[[], None], change: Callable[..., None], *arguments: object) -> None:
    act()
    change(*arguments)


def test_at_each_step_of_a_compaction_no_record_is_missed_that_stays(tmp_path: Path) -> None:
    log = keyed_log(tmp_path / "t_0")
    wanted = latest(log.records(0))
    known, early = ReadOnlyLog(log.directory), ReadOnlyLog(log.directory).view
    ends, steps = set(), []

    def look() -> None:
        for reader in (known, ReadOnlyLog(log.directory)):
            view = reader.view
            assert (view.log_start_offset, view.log_end_offset) == (0, 30)
            assert latest(view.records(0)) == wanted
            ends.add(sum(1 for _ in view.records(0)))
        steps.append(early)
        if len(steps) % 3 == 0:
            assert sum(1 for _ in early.records(0)) == 30, "a view shows what there was, while the old files last"

    with before_each_change(look):
        compact(log, 0, 1 << 20)
    look()
    assert len(steps) > 10
    assert len(ends) == 2, "both what was before and what was made of it were seen"
    log.close()


def test_what_a_crash_left_of_a_compaction_is_read_whole_before_and_while_it_is_made_good(tmp_path: Path) -> None:
    log = keyed_log(tmp_path / "t_0")
    wanted = latest(log.records(0))
    copies: list[Path] = []

    def copy() -> None:
        copies.append(shutil.copytree(log.directory, tmp_path / f"{len(copies)}" / "t_0"))

    with before_each_change(copy):
        compact(log, 0, 1 << 20)
    log.close()
    for directory in copies:
        reader = ReadOnlyLog(directory)

        def look(reader: ReadOnlyLog = reader) -> None:
            assert reader.log_start_offset == 0
            assert latest(reader.records(0)) == wanted

        look()
        with before_each_change(look):
            recovered = PartitionLog(directory, log.config, now_ms=lambda: T0)
        look()
        recovered.close()


def test_a_view_whose_file_has_been_replaced_is_told_that_it_is_gone(tmp_path: Path) -> None:
    log = keyed_log(tmp_path / "t_0")
    view = ReadOnlyLog(log.directory).view
    compact(log, 0, 1 << 20)
    for segment in view.segments:
        segment.forget()
    assert sum(1 for _ in view.records(0)) == 30
    for segment in view.segments:
        segment.forget()
    log.unlink_retired(at_once=True)
    with pytest.raises(logstore.StorageFailure, match="No such file"):
        list(view.records(0))
    log.close()


def test_many_threads_may_look_through_one_reader(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=500)
    reader = ReadOnlyLog(log.directory)

    def look(_: int) -> None:
        view = reader.view
        assert [record.value for record in view.records(0)] == [b"%d" % n for n in range(view.log_end_offset)]

    with ThreadPoolExecutor(4) as pool:
        looks = []
        for n in range(200):
            log.append([b"%d" % n])
            looks.append(pool.submit(look, n))
        for future in looks:
            future.result(30)
    log.close()


def test_a_directory_without_segments_is_an_empty_log(tmp_path: Path) -> None:
    reader = ReadOnlyLog(tmp_path)
    assert (reader.log_start_offset, reader.log_end_offset, values(reader)) == (0, 0, [])
    shutil.rmtree(tmp_path)
    with pytest.raises(logstore.StorageFailure, match="No such file"):
        reader.view  # noqa: B018


@pytest.mark.timeout(20)
def test_a_link_to_nothing_among_the_segments_is_not_looked_at(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"v"])
    (tmp_path / "t_0" / "00000000000000000100.log").symlink_to(tmp_path / "nowhere")
    assert values(ReadOnlyLog(tmp_path / "t_0")) == [b"v"]
