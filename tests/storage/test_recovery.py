"""Opening a log after whatever happened to its files: what is kept, cut, rebuilt and reported."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from struct import pack_into
from typing import Any

import pytest

from batches import compacted_batch
from log_tools import NOW, Clock, batch_bounds, contents, crash_copy, log_files, names, numbered, open_log, values
from logstore.config import TopicConfig
from logstore.errors import DamagedLog, LogstoreError, OffsetGap
from logstore.format import filename
from logstore.format.batch import TRANSACTIONAL, encode_batch
from logstore.format.compression import Compression
from logstore.storage import files
from logstore.storage.partition import PartitionLog

SETTINGS: dict[str, Any] = {"index_interval_bytes": 100, "segment_bytes": 1200}


def write_log(directory: Path, count: int = 40, **settings: Any) -> PartitionLog:
    """A log of ``count`` records, two a batch, in some segments; neither closed nor synced."""
    log = open_log(directory, **{**SETTINGS, **settings})
    for first in range(0, count, 2):
        log.append(numbered(first, 2, 20), timestamps_ms=[NOW + first, NOW + first - 50])
    return log


def reads(log: PartitionLog) -> list[Any]:
    """Everything that can be read, by offset and by time, with each index in use."""
    ends = range(log.log_start_offset, log.log_end_offset)
    return [
        list(log.records(log.log_start_offset)),
        [next(log.records(offset)).offset for offset in ends],
        [log.offset_for_time(NOW + delta) for delta in range(-60, 60)],
    ]


def read_until_error(log: PartitionLog) -> tuple[list[bytes | None], LogstoreError | None]:
    """The values from the start on, and the error that ended the reading, if one did."""
    seen: list[bytes | None] = []
    try:
        seen.extend(record.value for record in log.records(log.log_start_offset))
    except LogstoreError as error:
        return seen, error
    return seen, None


def test_a_log_that_was_not_closed_is_opened_with_all_that_was_appended(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0")
    expected = reads(log)
    for recovery_point in range(41):
        again = open_log(crash_copy(log, tmp_path / f"copy_{recovery_point}"), recovery_point=recovery_point)
        assert reads(again) == expected and not again.damages
        assert again.log_end_offset == 40
        assert again.append([b"next"]).base_offset == 40


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
def test_a_batch_torn_at_each_of_its_bytes_is_cut_at_the_last_good_crc(
    tmp_path: Path, compression: Compression, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(tmp_path / "t_0")
    for first in range(0, 6, 2):
        log.append(numbered(first, 2), compression=compression)
    whole = log_files(log.directory)[0].read_bytes()
    *_, (start, end) = batch_bounds(log_files(log.directory)[0])
    for size in range(start, end):
        directory = crash_copy(log, tmp_path / f"copy_{size}")
        os.truncate(log_files(directory)[0], size)
        caplog.clear()
        again = open_log(directory)
        assert values(again) == numbered(0, 4) and not again.damages
        assert log_files(directory)[0].read_bytes() == whole[:start]
        is_seen = whole[start:size].count(0) < size - start  # zeros alone may be space that was kept ready
        assert (f"cut {size - start} bytes" in caplog.text) == is_seen
        assert again.append([b"new"]).base_offset == 4
        shutil.rmtree(directory)


def test_a_torn_batch_whose_size_is_there_but_not_its_bytes_is_cut(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0", 8)
    *_, (start, end) = batch_bounds(log_files(log.directory)[0])
    for kept in range(start, end - 1, 3):  # the last byte is zero
        directory = crash_copy(log, tmp_path / f"copy_{kept}")
        data = bytearray(log_files(directory)[0].read_bytes())
        data[kept:] = bytes(len(data) - kept)
        log_files(directory)[0].write_bytes(data)
        again = open_log(directory)
        assert values(again) == numbered(0, 6, 20) and not again.damages
        assert log_files(directory)[0].stat().st_size == start


@pytest.mark.parametrize("zeros", [1, 11, 60, 61, 62, 5000, (1 << 20) + 5])
def test_a_tail_of_zeros_is_the_end_and_no_records(
    tmp_path: Path, zeros: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = write_log(tmp_path / "t_0", 8)
    path = log_files(log.directory)[0]
    size = path.stat().st_size
    os.truncate(path, size + zeros)
    again = open_log(log.directory)
    assert values(again) == numbered(0, 8, 20) and not again.damages
    assert path.stat().st_size == size and not caplog.records


def test_a_tail_of_garbage_is_cut(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0", 8)
    path = log_files(log.directory)[0]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"\x02garbage" * 1000)
    again = open_log(log.directory)
    assert values(again) == numbered(0, 8, 20) and path.stat().st_size == size


def test_a_flipped_bit_with_valid_data_after_it_is_reported_and_never_cut(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", index_interval_bytes=0)
    for first in range(0, 10, 2):
        log.append(numbered(first, 2))
    (path,) = log_files(log.directory)
    data = path.read_bytes()
    start, end = list(batch_bounds(path))[2]
    for position in range(start, end):
        if start + 12 <= position < start + 16:
            continue  # the leader's epoch, which nothing in the batch can vouch for
        directory = crash_copy(log, tmp_path / f"copy_{position}")
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        log_files(directory)[0].write_bytes(flipped)
        for _ in range(2):
            again = open_log(directory, index_interval_bytes=0)
            assert log_files(directory)[0].read_bytes() == flipped, "nothing was changed"
            (found,) = again.damages
            assert (found.damage.position, found.damage.size, found.damage.next_offset) == (start, end - start, 6)
            assert again.log_end_offset == 10
            seen, error = read_until_error(again)
            assert seen == numbered(0, 4) and isinstance(error, DamagedLog)
            assert error.position == start and error.next_offset == 6
            assert values(again, 6) == numbered(6, 4)
            for lost in (4, 5):
                with pytest.raises(DamagedLog):
                    again.read(lost)
            for offset in (0, 1, 2, 3, 6, 7, 8, 9):
                assert next(again.records(offset)).value == b"%d." % offset
        assert again.append([b"new"]).base_offset == 10
        with pytest.raises(DamagedLog):
            values(again, 4)
        assert values(again, 6) == [*numbered(6, 4), b"new"]
        shutil.rmtree(directory)


def test_a_flipped_bit_in_an_earlier_segment_is_reported_and_never_cut(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0")
    path = log_files(log.directory)[0]
    *_, (start, end) = batch_bounds(path)  # the last batch of its segment: no good one follows in this file
    data = bytearray(path.read_bytes())
    data[end - 1] ^= 1
    path.write_bytes(data)
    again = open_log(log.directory, **SETTINGS)
    assert path.read_bytes() == data
    (found,) = again.damages
    assert (found.path, found.damage.position) == (path, start)
    following = again.view.segments[1].base_offset
    assert values(again, following) == numbered(following, 40 - following, 20)
    with pytest.raises(DamagedLog):
        values(again, 0)


def test_bad_bytes_below_the_recovery_point_are_no_torn_tail(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    for first in range(0, 6, 2):
        log.append(numbered(first, 2))
    (path,) = log_files(log.directory)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = open_log(log.directory, recovery_point=6)
    assert path.read_bytes() == data and again.damages
    assert again.append([b"new"]).base_offset == 6, "offsets that were given are not given again"
    with pytest.raises((DamagedLog, OffsetGap)):
        values(again, 4)
    assert values(again, 6) == [b"new"]


# ----------------------------------------------------------------------------------------------------------- indexes


def rewrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


INDEX_HARM: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: rewrite(path, b""),
    "short by an entry": lambda path: rewrite(path, path.read_bytes()[: -(12 if path.suffix == ".timeindex" else 8)]),
    "short by a byte": lambda path: rewrite(path, path.read_bytes()[:-1]),
    "all zeros": lambda path: rewrite(path, bytes(path.stat().st_size)),
    "zeros behind its entries": lambda path: rewrite(path, path.read_bytes() + bytes(4096)),
    "garbage": lambda path: rewrite(path, bytes(range(1, 255)) * 2),
    "ahead of the log": lambda path: rewrite(path, path.read_bytes() + b"\x7f\xff\xff\xff" * 6),
    "larger than can be": lambda path: rewrite(path, b"\xff" * 96),
}


@pytest.mark.parametrize("harm", INDEX_HARM.values(), ids=INDEX_HARM)
@pytest.mark.parametrize("kind", [".index", ".timeindex"])
@pytest.mark.parametrize("shutdown", ["clean", "unclean"])
def test_an_index_that_is_harmed_is_made_anew_and_reads_are_identical(
    tmp_path: Path, harm: Callable[[Path], None], kind: str, shutdown: str
) -> None:
    log = write_log(tmp_path / "t_0")
    expected = reads(log)
    log.checkpoint()  # so that all entries are in the files
    if shutdown == "clean":
        log.close()
    harmed = 0
    for path in sorted(log.directory.glob(f"*{kind}")):
        if path.stat().st_size:
            harm(path)
            harmed += 1
    assert harmed > 1
    is_clean = shutdown == "clean"
    again = open_log(log.directory, **SETTINGS, is_clean=is_clean, recovery_point=40 if is_clean else 0)
    assert reads(again) == expected
    again.append(numbered(40, 2, 20))
    again.close()
    last = open_log(log.directory, **SETTINGS, is_clean=True, recovery_point=42)
    assert values(last) == numbered(0, 42, 20)


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_an_index_that_points_to_later_batches_skips_none(tmp_path: Path, shift: int) -> None:
    log = write_log(tmp_path / "t_0")
    expected = reads(log)
    log.close()
    for path in log.directory.glob("*.index"):
        data = bytearray(path.read_bytes())
        for entry in range(0, len(data) - 8 * shift, 8):
            data[entry + 4 : entry + 8] = data[entry + 8 * shift + 4 : entry + 8 * shift + 8]
        path.write_bytes(data[: len(data) - 8 * shift] if shift < 3 else data)
    again = open_log(log.directory, **SETTINGS, is_clean=True, recovery_point=40)
    assert reads(again) == expected


def test_an_empty_active_segment_without_indexes_takes_appends(tmp_path: Path) -> None:
    for kinds in ((".index",), (".timeindex",), (".index", ".timeindex")):
        log = write_log(tmp_path / f"t_{len(kinds)}{kinds[0]}")
        log.roll()
        log.close()
        for path in log.directory.iterdir():
            if path.suffix in kinds:
                path.unlink()
        again = open_log(log.directory, **SETTINGS, is_clean=True, recovery_point=40)
        assert again.append([b"next"]).base_offset == 40
        assert values(again) == [*numbered(0, 40, 20), b"next"]


# ------------------------------------------------------------------------------------------------- the small files


def producing_log(directory: Path) -> PartitionLog:
    log = open_log(directory)
    for sequence in range(6):
        log.append([b"%d" % sequence], producer_id=7, producer_epoch=1, base_sequence=sequence)
        log.append_batches(
            encode_batch(
                [b"t"],
                timestamps_ms=NOW,
                attributes=TRANSACTIONAL,
                producer_id=8,
                producer_epoch=0,
                base_sequence=sequence,
            )
        )
        if sequence % 2:
            log.leader_epoch += 1
            log.roll()
    return log


def knowledge(log: PartitionLog) -> tuple[Any, ...]:
    return log.producers.snapshot_entries(), log.producers.first_unstable_offset(), log.leader_epochs.entries


@pytest.mark.parametrize("recovery_point", [0, 5, 12])
@pytest.mark.parametrize("snapshots", ["kept", "missing", "empty", "torn", "flipped"])
@pytest.mark.parametrize("epochs", ["kept", "missing", "empty", "torn", "garbage"])
def test_what_is_known_of_producers_and_epochs_comes_back(
    tmp_path: Path, recovery_point: int, snapshots: str, epochs: str
) -> None:
    log = producing_log(tmp_path / "t_0")
    expected = knowledge(log)
    assert len(expected[0]) == 2 and len(expected[2]) == 3
    for path in log.directory.glob("*.snapshot"):
        data = path.read_bytes()
        if snapshots == "missing":
            path.unlink()
        elif snapshots != "kept":
            path.write_bytes({"empty": b"", "torn": data[:-3], "flipped": data[:-1] + bytes([data[-1] ^ 1])}[snapshots])
    path = log.directory / filename.LEADER_EPOCH_CHECKPOINT
    data = path.read_bytes()
    if epochs == "missing":
        path.unlink()
    elif epochs != "kept":
        path.write_bytes({"empty": b"", "torn": data[: len(data) // 2], "garbage": b"\xff\0" * 30}[epochs])
    again = open_log(log.directory, recovery_point=recovery_point)
    assert knowledge(again) == expected
    assert again.append([b"5"], producer_id=7, producer_epoch=1, base_sequence=5).is_duplicate
    again.close()
    once_more = open_log(log.directory, is_clean=True, recovery_point=12)
    assert knowledge(once_more) == expected


def test_a_snapshot_from_beyond_the_end_is_removed(tmp_path: Path) -> None:
    log = producing_log(tmp_path / "t_0")
    log.close()
    for path in log_files(log.directory)[2:]:
        path.unlink()
    again = open_log(log.directory)
    assert again.log_end_offset == 8
    assert all(int(path.stem) <= 8 for path in log.directory.glob("*.snapshot"))
    assert not again.append([b"4"], producer_id=7, producer_epoch=1, base_sequence=4).is_duplicate


def test_a_gap_file_that_is_torn_is_reported_and_the_log_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = write_log(tmp_path / "t_0", 4)
    (log.directory / filename.OFFSET_GAP_CHECKPOINT).write_bytes(b"0\n1")
    assert values(open_log(log.directory)) == numbered(0, 4, 20)
    assert "gaps in the offsets" in caplog.text


# ------------------------------------------------------------------------------------------------ shutdown and twice


def test_a_clean_shutdown_is_trusted_and_the_log_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_log(tmp_path / "t_0", 4000, segment_bytes=1 << 20, index_interval_bytes=4096)
    expected_end, total = log.log_end_offset, log.view.size
    log.close()
    read = count_reads(monkeypatch)
    again = open_log(log.directory, is_clean=True, recovery_point=expected_end)
    assert again.log_end_offset == expected_end
    assert total > 200_000 and sum(read) < 20_000


@pytest.mark.parametrize("lie", ["an end too low", "an end too high", "bytes behind the end", "a file cut short"])
def test_a_clean_shutdown_whose_tail_disagrees_is_walked(tmp_path: Path, lie: str) -> None:
    log = write_log(tmp_path / "t_0")
    log.close()
    *_, last = log_files(log.directory)
    recovery_point = 40
    if lie == "an end too low":
        recovery_point = 38
    elif lie == "an end too high":
        recovery_point = 45
    elif lie == "bytes behind the end":
        last.write_bytes(last.read_bytes() + b"\1\2\3")
    else:
        os.truncate(last, last.stat().st_size - 3)
    again = open_log(log.directory, **SETTINGS, is_clean=True, recovery_point=recovery_point)
    whole = 38 if lie == "a file cut short" else 40
    seen, error = read_until_error(again)
    assert seen == numbered(0, whole, 20)
    assert (error is None) == (lie in {"an end too low", "bytes behind the end"})
    if lie == "an end too high":
        with pytest.raises(OffsetGap):
            again.read(40)
    end = again.append([b"next"]).base_offset
    assert end == max(40, recovery_point)
    assert values(again, end) == [b"next"]


def test_recovery_done_twice_changes_nothing_the_second_time(tmp_path: Path) -> None:
    log = producing_log(tmp_path / "t_0")
    *_, last = log_files(log.directory)
    log.append([b"torn"])
    os.truncate(last, last.stat().st_size - 1)
    for name in ("00000000000000000099.index", "00000000000000000000.log.cleaned", "00000000000000000050.log.deleted"):
        (log.directory / name).write_bytes(b"left over")
    open_log(log.directory)
    first = contents(log.directory)
    assert "00000000000000000099.index" not in first
    open_log(log.directory)
    assert contents(log.directory) == first


def test_recovery_that_was_interrupted_anywhere_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(tmp_path / "t_0")
    *_, last = log_files(log.directory)
    os.truncate(last, last.stat().st_size - 1)
    for path in log.directory.glob("*index"):
        path.write_bytes(b"\1" * 30)
    (log.directory / "00000000000000000050.log.deleted").write_bytes(b"")

    class Interrupted(BaseException):
        pass

    changes = ("write_file", "unlink", "rename", "sync_dir", "open_file")
    for step in range(1000):
        directory = crash_copy(log, tmp_path / f"copy_{step}")
        left = [step]
        with monkeypatch.context() as patch:
            for name in changes:
                real = getattr(files, name)

                def interrupt(*arguments: Any, _real: Any = real, _left: list[int] = left, **named: Any) -> Any:
                    _left[0] -= 1
                    if _left[0] < 0:
                        raise Interrupted
                    return _real(*arguments, **named)

                patch.setattr(files, name, interrupt)
            try:
                open_log(directory, **SETTINGS)
            except Interrupted:
                pass
            else:
                break
        again = open_log(directory, **SETTINGS)
        assert values(again) == numbered(0, 38, 20) and not again.damages
        shutil.rmtree(directory)
    assert step > 10


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all reads of files from now on."""
    sizes: list[int] = []
    real = files.File.read_at

    def counting(self: files.File, position: int, size: int) -> bytes:
        data = real(self, position, size)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(files.File, "read_at", counting)
    return sizes


def test_recovery_from_the_recovery_point_does_not_read_the_whole_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=1 << 20)
    for first in range(0, 4000, 50):
        log.append(numbered(first, 50, 1000))
    point = log.checkpoint()
    log.append(numbered(4000, 1))
    total = log.view.size
    assert total > 3_900_000 and len(log.view.segments) > 3
    expected = values(log)
    read = count_reads(monkeypatch)
    again = open_log(log.directory, recovery_point=point)
    assert sum(read) < 200_000
    assert again.log_end_offset == 4001
    monkeypatch.undo()
    assert values(again) == expected


# ----------------------------------------------------------------------------------------------- segments and leftovers


def test_an_empty_segment_after_a_roll_stays_the_active_one(tmp_path: Path) -> None:
    for is_clean in (False, True):
        log = write_log(tmp_path / f"t_{is_clean:d}")
        log.roll()
        before = names(log.directory)
        if is_clean:
            log.close()
        again = open_log(log.directory, **SETTINGS, is_clean=is_clean, recovery_point=40 if is_clean else 0)
        assert again.view.segments[-1].base_offset == again.log_end_offset == 40
        assert [name for name in names(log.directory) if name.endswith(".log")] == [
            name for name in before if name.endswith(".log")
        ]
        assert again.append([b"next"]).base_offset == 40


def test_a_roll_that_came_to_the_disk_before_the_batches_in_front_of_it_is_dropped(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0", 10, segment_bytes=1 << 20)
    first = log_files(log.directory)[0]
    log.roll()
    bounds = list(batch_bounds(first))
    os.truncate(first, bounds[2][1] + 7)
    again = open_log(log.directory, **SETTINGS)
    assert (again.log_end_offset, values(again)) == (6, numbered(0, 6, 20))
    assert [segment.base_offset for segment in again.view.segments] == [0]
    assert again.append([b"next"]).base_offset == 6


def test_a_log_whose_segments_are_all_gone_starts_at_its_log_start(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", log_start_offset=1000)
    assert (log.log_start_offset, log.log_end_offset) == (1000, 1000)
    assert log.append([b"a"]).base_offset == 1000
    again = open_log(log.directory, log_start_offset=1000)
    assert (again.log_start_offset, values(again)) == (1000, [b"a"])


def test_a_log_start_between_batches_survives_the_crash(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0")
    log.advance_log_start(17)
    again = open_log(log.directory, **SETTINGS, log_start_offset=17)
    assert values(again) == numbered(17, 23, 20)


def test_a_log_start_beyond_the_end_of_the_log_is_not_believed(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0", 10)
    log.close()
    again = open_log(log.directory, **SETTINGS, log_start_offset=1000)
    assert (again.log_start_offset, again.log_end_offset) == (0, 10)
    assert values(again) == numbered(0, 10, 20)


def test_offsets_below_the_recovery_point_are_not_given_again_when_the_log_is_gone(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0", 10)
    log.close()
    for path in log_files(log.directory):
        path.unlink()
    for _ in range(2):
        again = open_log(log.directory, **SETTINGS, recovery_point=10)
        with pytest.raises(OffsetGap, match="offsets 0 to 9 were lost"):
            again.read(0)
        assert (again.log_start_offset, again.log_end_offset) == (0, 10)
    assert again.append([b"next"]).base_offset == 10
    assert values(again, 10) == [b"next"]


def test_damage_at_the_end_below_the_recovery_point_stays_and_is_reported_at_each_opening(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0", 10)
    log.close()
    *_, last = log_files(log.directory)
    data = bytearray(last.read_bytes())
    data[-1] ^= 1
    last.write_bytes(data)
    end = 10
    for is_clean in (False, True, False, True):
        again = open_log(log.directory, **SETTINGS, is_clean=is_clean, recovery_point=end)
        assert again.damages and again.log_end_offset == end
        assert again.append([b"next"]).base_offset == end
        assert values(again, end) == [b"next"]
        seen, error = read_until_error(again)
        assert seen == numbered(0, 8, 20) and isinstance(error, DamagedLog | OffsetGap)
        end += 1
        again.close()
        assert last.read_bytes() == data
    assert values(open_log(log.directory, **SETTINGS, recovery_point=end), 10) == [b"next"] * 4


def test_a_segment_that_a_power_cut_took_from_the_middle_is_a_gap(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0", segment_bytes=400)
    log.flush()
    paths = log_files(log.directory)
    middle, following = paths[1], paths[2]
    os.truncate(middle, next(batch_bounds(middle))[1])
    kept_end = int(middle.stem) + 2
    for _ in range(2):
        again = open_log(log.directory, **SETTINGS)
        seen, error = read_until_error(again)
        assert seen == numbered(0, kept_end, 20) and isinstance(error, OffsetGap)
        assert (error.first_offset, error.last_offset) == (kept_end, int(following.stem) - 1)
        assert values(again, int(following.stem)) == numbered(int(following.stem), 40 - int(following.stem), 20)


@pytest.mark.parametrize("suffix", [".cleaned", ".deleted"])
def test_what_was_coming_or_going_is_removed(tmp_path: Path, suffix: str) -> None:
    log = write_log(tmp_path / "t_0")
    for kind in (".log", ".index", ".timeindex", ".txnindex"):
        (log.directory / f"{5:020d}{kind}{suffix}").write_bytes(b"anything")
    (log.directory / "notes.txt").write_bytes(b"not ours")
    again = open_log(log.directory, **SETTINGS)
    assert not [name for name in names(log.directory) if name.endswith(suffix)]
    assert "notes.txt" in names(log.directory)
    assert values(again) == numbered(0, 40, 20)


def test_a_swap_that_is_complete_takes_the_place_of_the_segments_it_was_made_from(tmp_path: Path) -> None:
    log = write_log(tmp_path / "t_0", segment_bytes=400)
    log.close()
    first, second, third, *_ = log_files(log.directory)
    swap = first.with_name(first.name + ".swap")
    kept = compacted_batch([b"kept"], [3], last_offset_delta=int(third.stem) - 1, timestamps_ms=[NOW])
    swap.write_bytes(kept)
    for unlinked in (0, 1, 2):  # the crash came before or after the first was unlinked
        directory = tmp_path / f"copy_{unlinked}"
        shutil.copytree(log.directory, directory)
        for path in [first, second][:unlinked]:
            (directory / path.name).unlink()
        again = open_log(directory, **SETTINGS)
        rest = int(third.stem)
        assert values(again) == [b"kept", *numbered(rest, 40 - rest, 20)]
        assert not again.damages and not [name for name in names(directory) if "swap" in name]
        assert open_log(directory, **SETTINGS).log_end_offset == 40


def test_a_base_offset_far_beyond_the_segment_is_damage(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", index_interval_bytes=0)
    for first in range(0, 6, 2):
        log.append(numbered(first, 2))
    (path,) = log_files(log.directory)
    start = list(batch_bounds(path))[2][0]  # the last: nothing behind it tells that it is wrong
    data = bytearray(path.read_bytes())
    pack_into(">q", data, start, 1 << 40)
    path.write_bytes(data)
    again = open_log(log.directory, index_interval_bytes=0, recovery_point=6)
    assert again.damages and again.log_end_offset == 6
    assert values(again, 6) == []


def test_a_directory_full_of_garbage_is_opened_or_refused_by_name(tmp_path: Path) -> None:
    directory = tmp_path / "t_0"
    directory.mkdir()
    for name in (
        "00000000000000000000.log",
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
        "00000000000000000003.snapshot",
        "leader-epoch-checkpoint",
        "offset-gap-checkpoint",
        "99999999999999999999.log",
    ):
        (directory / name).write_bytes(bytes(range(256)) * 3)
    log = open_log(directory)
    assert log.append([b"a"]).base_offset == 0 and values(log) == [b"a"]


def test_recovery_says_what_it_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = write_log(tmp_path / "t_0", 4)
    (path,) = log_files(log.directory)
    os.truncate(path, path.stat().st_size - 1)
    with caplog.at_level(logging.WARNING):
        open_log(log.directory, Clock())
    assert str(path) in caplog.text and "not finished" in caplog.text


# ------------------------------------------------------------------------------------------------------- power cuts


def open_after_power_cut(directory: Path, recovery_point: int = 0) -> PartitionLog:
    settings = TopicConfig(segment_bytes=600, index_interval_bytes=100)
    return PartitionLog(directory, settings, now_ms=Clock(), recovery_point=recovery_point, has_lost_power=True)


def log_with_hole(directory: Path) -> tuple[PartitionLog, bytes]:
    """A log of some segments of which the second batch never came to the disk, and what is behind that in the first."""
    log = write_log(directory, 30, segment_bytes=600)
    first = log_files(directory)[0]
    _, (start, end), *_ = batch_bounds(first)
    data = first.read_bytes()
    assert len(data) > end and len(log_files(directory)) > 2
    hole = data[:start] + bytes(end - start) + data[end:]
    first.write_bytes(hole)
    return log, hole[start:]


def salvaged(directory: Path) -> dict[str, bytes]:
    return contents(directory / filename.SALVAGED_DIR)


def test_what_a_power_cut_took_ends_the_log_and_what_is_behind_it_is_kept(tmp_path: Path) -> None:
    log, rest = log_with_hole(tmp_path / "t_0")
    first, *later = log_files(log.directory)
    expected = {path.name: path.read_bytes() for path in later}
    start = first.stat().st_size - len(rest)
    expected[f"{first.name}.{start}-{first.stat().st_size}"] = rest
    again = open_after_power_cut(log.directory)
    assert (values(again), again.log_end_offset, again.damages) == (numbered(0, 2, 20), 2, ())
    assert salvaged(log.directory) == expected


def test_power_that_is_cut_twice_in_a_row_replaces_nothing_that_was_kept(tmp_path: Path) -> None:
    log, _ = log_with_hole(tmp_path / "t_0")
    open_after_power_cut(log.directory)
    kept = salvaged(log.directory)
    again = open_after_power_cut(log.directory)
    assert values(again) == numbered(0, 2, 20) and salvaged(log.directory) == kept
    for first in range(2, 30, 2):  # other records at the same positions, and the same happens to them
        again.append([value.upper() + b"!" for value in numbered(first, 2, 19)])
    first_log, *later = log_files(log.directory)
    data = bytearray(first_log.read_bytes())
    _, (start, end), *_ = batch_bounds(first_log)
    data[start:end] = bytes(end - start)
    first_log.write_bytes(data)
    moved = [bytes(data[start:]), *(path.read_bytes() for path in later)]
    assert [path.name for path in later] == [name for name in sorted(kept) if name.endswith(".log")][: len(later)]
    last = open_after_power_cut(log.directory)
    assert values(last) == numbered(0, 2, 20)
    now = salvaged(log.directory)
    assert {name: now[name] for name in kept} == kept
    assert sorted(now[name] for name in now.keys() - kept.keys()) == sorted(moved)


@pytest.mark.parametrize("size", ["shorter", "equal", "longer"])
def test_a_file_that_is_in_salvaged_already_keeps_its_bytes(tmp_path: Path, size: str) -> None:
    log, rest = log_with_hole(tmp_path / "t_0")
    first, second, *_ = log_files(log.directory)
    second_data = second.read_bytes()
    end = first.stat().st_size
    name = f"{first.name}.{end - len(rest)}-{end}"
    mine = b"x" * {"shorter": 10, "equal": len(rest), "longer": len(rest) + 1}[size]
    (log.directory / filename.SALVAGED_DIR).mkdir()
    for taken in (name, f"{name}.1", second.name):
        (log.directory / filename.SALVAGED_DIR / taken).write_bytes(mine)
    open_after_power_cut(log.directory)
    found = salvaged(log.directory)
    assert (found[name], found[f"{name}.1"], found[second.name]) == (mine, mine, mine)
    assert (found[f"{name}.2"], found[f"{second.name}.1"]) == (rest, second_data)


@pytest.mark.parametrize("is_clean", [False, True])
def test_the_leader_epoch_of_a_log_that_is_empty_now_is_not_forgotten(tmp_path: Path, is_clean: bool) -> None:
    log = open_log(tmp_path / "t_0")
    log.leader_epoch = 3
    log.append([b"v"])
    log.roll()
    log.advance_log_start(1)
    log.config = log.config.replace({"retention.bytes": 0})
    log.delete_expired()
    assert log.close()
    log = open_log(tmp_path / "t_0", log_start_offset=1, recovery_point=1, is_clean=is_clean)
    assert log.log_start_offset == log.log_end_offset == 1 and log.leader_epoch == 3
