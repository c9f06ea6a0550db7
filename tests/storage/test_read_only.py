"""A reader in one process beside a writer in another: a valid prefix that grows, never garbage."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import logstore
from logstore import PartitionLog, ReadOnlyLog, TopicConfig
from logstore.format import filename
from logstore.storage import files

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


LIVE_WRITER = """
import logstore, sys
from logstore.storage import upkeep
store = logstore.open(sys.argv[1], log_retention_check_interval_ms=15, log_flush_scheduler_interval_ms=15)
settings = dict(segment_bytes=4_000, retention_bytes=20_000, file_delete_delay_ms=30, index_interval_bytes=200,
                preallocate=sys.argv[2] == "True")
store.create_topic("t", **settings)
print("ready", flush=True)
n = 0
while n < 6_000:
    count = n % 5 + 1
    store.log("t").append([b"%d " % (n + i) * 9 for i in range(count)])
    n += count
store.delete_topic("t")
print(n, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("preallocate", [False, True])
def test_beside_a_live_writer_with_rolls_retention_and_deletion_only_valid_records_are_seen(
    preallocate: bool, tmp_path: Path
) -> None:
    path = {"PYTHONPATH": str(Path(logstore.__file__).parent.parent)}
    command = [sys.executable, "-c", LIVE_WRITER, str(tmp_path), str(preallocate)]
    seen, looks, last_end = 0, 0, 0
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, **path}, **pipes) as writer:  # type: ignore[call-overload]
        assert writer.stdout.readline() == b"ready\n"
        log = logstore.open(tmp_path, read_only=True).log("t")
        while files.is_dir(log.directory):
            try:
                view = log.view
                assert view.log_end_offset >= last_end
                offset, last_end, looks = view.log_start_offset, view.log_end_offset, looks + 1
                for record in view.records(offset):
                    assert record.offset == offset
                    assert record.value == b"%d " % offset * 9
                    offset += 1
                    seen += 1
                assert offset == view.log_end_offset
            except logstore.StorageFailure as error:
                assert "No such file" in str(error), "retention or deletion was faster"
        assert int(writer.stdout.readline()) >= 6_000
        writer.communicate()
    assert looks > 3
    assert seen > 100


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
