"""A log whose first segments are gone after a clean close: the recorded start tells, and reads say what is lost.

What went by right, by retention or because the log start was moved, is no loss.
"""

import logging
import shutil
from pathlib import Path

import pytest

import logstore
from damage import damages
from log_tools import log_files, numbered, values
from logstore.config import StoreConfig
from logstore.errors import OffsetGap, OffsetOutOfRange
from logstore.format import checkpoint, filename
from logstore.storage.compaction import compact
from logstore.storage.data_dir import DataDir
from logstore.storage.partition import PartitionLog

LOST = (0, 9)
END = 40


def build(path: Path, **settings: object) -> Path:
    """Closed cleanly: four segments of ten records."""
    with logstore.open(path) as store:
        store.create_topic("t", **settings)
        log = store.log("t")
        for number in range(END):
            if number and not number % 10:
                log.roll()
            log.append(numbered(number, 1, 50), keys=[b"%d" % (number % 3)])
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory whose first segment went after it was closed."""
    path = build(tmp_path / "data", retention_bytes=10**6)
    log_files(path / "t_0")[0].unlink()
    return path


def crash(path: Path, target: Path) -> Path:
    """The directory as it is when the process that has opened it is killed."""
    with logstore.open(path):
        return shutil.copytree(path, target)


def check(log: PartitionLog) -> None:
    """Both ways to read say what is lost, and go on behind it."""
    assert (log.log_start_offset, log.log_end_offset) == (LOST[0], END)
    for offset in (0, 5, 9):
        with pytest.raises(OffsetGap) as caught:
            log.read(offset)
        assert (caught.value.first_offset, caught.value.last_offset) == LOST
        with pytest.raises(OffsetGap):
            next(log.records(offset))
    assert values(log, 10) == numbered(10, 30, 50)


def test_offsets_before_the_first_segment_are_a_gap_at_this_and_each_later_opening(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert damages(path)
    with logstore.open(path) as store:
        check(store.log("t"))
        assert not store.damages()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert said == [f"{path / 't_0'}: offsets 0 to 9 are missing"]
    assert damages(path) == []
    for opened in (path, crash(path, tmp_path / "crashed")):
        for _ in range(2):
            with logstore.open(opened) as store:
                check(store.log("t"))
            assert (opened / "t_0" / filename.OFFSET_GAP_CHECKPOINT).read_bytes() == b"0\n1\n0 9\n"
    assert len(caplog.records) == 1


def test_a_reader_beside_the_writer_is_told_of_it_too(path: Path) -> None:
    with logstore.open(path) as store, logstore.open(path, read_only=True) as reader:
        assert reader.log("t").log_start_offset == store.log("t").log_start_offset == 0
        with pytest.raises(OffsetGap):
            next(reader.log("t").records(0))


def test_the_log_start_moves_over_the_gap_as_over_records(path: Path) -> None:
    with logstore.open(path) as store:
        log = store.log("t")
        log.advance_log_start(5)
        with pytest.raises(OffsetGap):
            log.read(5)
        with pytest.raises(OffsetOutOfRange):
            log.read(4)
    with logstore.open(path) as store:
        assert store.log("t").log_start_offset == 5
        store.alter_topic("t", {"retention.bytes": 1})
        assert [expiry.segment.base_offset for expiry in store.log("t").delete_expired()] == [10, 20]
        assert store.log("t").log_start_offset == 30
    with logstore.open(path) as store:
        assert store.log("t").log_start_offset == 30
        assert values(store.log("t")) == numbered(30, 10, 50)


@pytest.mark.parametrize("offset", [0, 3, 10])
def test_a_log_that_is_cut_off_within_the_gap_gives_no_lost_offset_again(offset: int, path: Path) -> None:
    with logstore.open(path) as store:
        store.log("t").truncate_to(offset)
        assert store.log("t").append([b"x"]).base_offset == 10
    with logstore.open(path) as store:
        assert values(store.log("t"), 10) == [b"x"]


def test_all_segments_that_are_gone_are_a_gap(tmp_path: Path) -> None:
    path = build(tmp_path / "data")
    for log in log_files(path / "t_0"):
        log.unlink()
    for _ in range(2):
        with logstore.open(path) as store:
            with pytest.raises(OffsetGap, match="offsets 0 to 39"):
                next(store.log("t").records(0))
    with logstore.open(path) as store:
        assert store.log("t").append([b"x"]).base_offset == END


def test_what_retention_took_is_no_loss(tmp_path: Path) -> None:
    path = build(tmp_path / "data", retention_bytes=1500)
    with logstore.open(path) as store:
        assert store.log("t").delete_expired()
        start = store.log("t").log_start_offset
    for opened in (path, crash(path, tmp_path / "crashed")):
        with logstore.open(opened) as store:
            assert store.log("t").log_start_offset == start > 0
            assert store.log("t").view.gaps == ()


def test_what_retention_took_before_a_crash_that_came_before_the_record_of_it_is_no_loss(tmp_path: Path) -> None:
    path = build(tmp_path / "data", retention_bytes=1500)
    data_dir = DataDir(path, StoreConfig())
    data_dir.log("t").delete_expired()
    crashed = shutil.copytree(path, tmp_path / "crashed")
    data_dir.close()
    starts = checkpoint.decode_offsets((crashed / filename.LOG_START_OFFSET_CHECKPOINT).read_bytes())
    assert starts == {}
    for _ in range(2):
        with logstore.open(crashed) as store:
            assert store.log("t").log_start_offset > 0
            assert store.log("t").view.gaps == ()


def test_a_log_start_that_was_moved_within_a_segment_is_no_loss(tmp_path: Path) -> None:
    path = build(tmp_path / "data")
    with logstore.open(path) as store:
        store.log("t").advance_log_start(15)
        store.log("t").delete_expired()
    with logstore.open(path) as store:
        assert store.log("t").log_start_offset == 15
        assert store.log("t").view.gaps == ()


def test_what_compaction_took_from_the_beginning_is_no_loss(tmp_path: Path) -> None:
    path = build(tmp_path / "data", cleanup_policy="compact")
    with logstore.open(path) as store:
        compact(store.log("t"), 0, 1 << 20)
        assert len(log_files(path / "t_0")) < 4
        assert values(store.log("t")) == numbered(27, 13, 50)
    with logstore.open(path) as store:
        assert store.log("t").view.gaps == ()
        assert values(store.log("t")) == numbered(27, 13, 50)


@pytest.mark.parametrize("harm", ["missing", "damaged", "not closed"])
def test_where_nothing_says_that_it_began_before_nothing_is_lost(harm: str, path: Path) -> None:
    starts = path / filename.LOG_START_OFFSET_CHECKPOINT
    if harm == "missing":
        starts.unlink()
    elif harm == "damaged":
        starts.write_bytes(b"0\n1\n")
    else:
        (path / filename.CLEAN_SHUTDOWN).unlink()
    with logstore.open(path) as store:
        assert store.log("t").log_start_offset == 10
        assert store.log("t").view.gaps == ()
