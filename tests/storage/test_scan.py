"""The scanner finds every good batch behind damage at any position, whatever lies between."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import DamagedLog
from logstore.format.batch import encode_batch
from logstore.format.filename import index_name, log_name
from logstore.format.index_entry import OFFSET_ENTRY
from logstore.storage import files, scan
from logstore.storage.read_only import ReadOnlyLog
from logstore.storage.scan import Damage, LogBatch

NOW = 1_700_000_000_000


def batch(offset: int, size: int = 20, count: int = 1) -> bytes:
    return encode_batch([bytes([offset % 251]) * size] * count, timestamps_ms=NOW, base_offset=offset)


def scanned(path: Path, data: bytes, **arguments: int) -> list[LogBatch | Damage]:
    path.write_bytes(data)
    return list(scan.scan(files.open_file(path), **arguments))  # type: ignore[arg-type]


def summary(found: list[LogBatch | Damage]) -> list[object]:
    """An offset for a batch, (position, size, next offset) for damage."""
    return [
        (item.position, item.size, item.next_offset) if isinstance(item, Damage) else item.batch.header.base_offset
        for item in found
    ]


def test_a_good_log_is_its_batches(tmp_path: Path) -> None:
    found = scanned(tmp_path / "log", b"".join(batch(offset) for offset in range(5)))
    assert summary(found) == [0, 1, 2, 3, 4]
    for item in found:
        assert isinstance(item, LogBatch)
        item.batch.check_crc()
    assert scanned(tmp_path / "log", b"") == []


@pytest.mark.parametrize("chunk_size", [61, 64, 100, 257, 1 << 20])
def test_the_next_good_batch_is_found_after_garbage_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_size: int
) -> None:
    monkeypatch.setattr(scan, "CHUNK_SIZE", chunk_size)
    start = len(batch(0))
    for size in [*range(1, 70), 90, 128, 200, 255, 256, 257, 300, 1000]:
        garbage = bytes((7 * number) % 256 for number in range(size))
        for data, expected in (
            (garbage + batch(1) + batch(2), [(0, size, 1), 1, 2]),
            (batch(0) + garbage + batch(1) + batch(2), [0, (start, size, 1), 1, 2]),
            (batch(0) + garbage, [0, (start, size, None)]),
            (batch(0) + bytes(size) + batch(1), [0, (start, size, 1), 1]),
        ):
            assert summary(scanned(tmp_path / "log", data)) == expected


@pytest.mark.parametrize("chunk_size", [100, 1 << 20])
def test_a_batch_cut_at_any_byte_is_damage_up_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_size: int
) -> None:
    monkeypatch.setattr(scan, "CHUNK_SIZE", chunk_size)
    whole = batch(1, 100)
    start = len(batch(0))
    for size in range(1, len(whole) - 1):  # its last byte is zero, as is the first of what follows
        found = scanned(tmp_path / "log", batch(0) + whole[:size] + batch(2) + batch(3))
        assert summary(found) == [0, (start, size, 2), 2, 3]
        assert summary(scanned(tmp_path / "log", batch(0) + whole[:size])) == [0, (start, size, None)]


def test_two_damages_are_two(tmp_path: Path) -> None:
    data = batch(0) + b"bad" + batch(1) + b"\x02" * 70 + batch(2) + b"\0"
    start = len(batch(0))
    assert summary(scanned(tmp_path / "log", data)) == [
        0,
        (start, 3, 1),
        1,
        (2 * start + 3, 70, 2),
        2,
        (3 * start + 73, 1, None),
    ]


@pytest.mark.parametrize("chunk_size", [64, 1 << 20])
def test_zeros_up_to_the_end_are_told_from_other_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_size: int
) -> None:
    monkeypatch.setattr(scan, "CHUNK_SIZE", chunk_size)
    for tail, is_zeros in ((bytes(1), True), (bytes(5000), True), (bytes(5000) + b"\1", False), (b"\1", False)):
        *_, damage = scanned(tmp_path / "log", batch(0) + tail)
        assert isinstance(damage, Damage) and damage.is_zeros is is_zeros and damage.size == len(tail)
    *_, damage, _ = scanned(tmp_path / "log", batch(0) + bytes(500) + batch(1))
    assert isinstance(damage, Damage) and not damage.is_zeros, "zeros with data behind them are damage"


def test_batches_of_lower_offsets_are_damage(tmp_path: Path) -> None:
    size = len(batch(0))
    assert summary(scanned(tmp_path / "log", batch(5) + batch(3) + batch(6), expected_offset=5)) == [
        5,
        (size, size, 6),
        6,
    ]
    assert summary(scanned(tmp_path / "log", batch(5) + batch(5), expected_offset=5)) == [5, (size, size, None)]
    assert summary(scanned(tmp_path / "log", batch(5), expected_offset=6)) == [(0, size, None)]


def test_gaps_in_the_offsets_are_no_damage(tmp_path: Path) -> None:
    assert summary(scanned(tmp_path / "log", batch(3) + batch(10) + batch(11) + batch(5000))) == [3, 10, 11, 5000]


def test_a_base_offset_that_its_follower_contradicts_is_damage_and_the_follower_is_not(tmp_path: Path) -> None:
    size = len(batch(0))
    for wrong in (2, 3, 100, 1 << 40):
        data = batch(0) + batch(wrong) + batch(2) + batch(3)
        assert summary(scanned(tmp_path / "log", data)) == [0, (size, size, 2), 2, 3]


def records_or_damage(log: ReadOnlyLog, offset: int) -> tuple[list[int], int | None]:
    """Offsets as they are read, and where the log goes on behind the damage that is met then."""
    offsets = []
    try:
        offsets.extend(record.offset for record in log.records(offset))
    except DamagedLog as error:
        return offsets, error.next_offset
    return offsets, None


@pytest.mark.parametrize(("base_offset", "following"), [(10, 12), (12, 12), (20, 12), (9, 9), (11, 14)])
def test_a_batch_that_what_follows_contradicts_is_damage_to_who_reads_and_who_scans(
    tmp_path: Path, base_offset: int, following: int
) -> None:
    """Where compaction has left holes a base offset may be too high: it is if the batch reaches into the next one."""
    first, wrong = batch(0, count=6), batch(base_offset, count=4)
    path = tmp_path / log_name(0)
    assert summary(scanned(path, first + wrong + batch(following))) == [
        0,
        (len(first), len(wrong), following),
        following,
    ]
    (
        tmp_path / index_name(0)
    ).touch()  # else it is made anew, by a scan, which knows of the damage before the reader does
    (tmp_path / log_name(40)).write_bytes(batch(40))
    for offset in range(base_offset + 4):  # each time as one who has not met the damage before
        log = ReadOnlyLog(tmp_path)
        if offset < 6:
            assert records_or_damage(log, offset) == (list(range(offset, 6)), following)
        elif offset < following:
            assert records_or_damage(log, offset) == ([], following)
            with pytest.raises(DamagedLog):
                ReadOnlyLog(tmp_path).read(offset)
        else:
            assert records_or_damage(log, offset) == ([following, 40] if offset == following else [40], None)


def test_a_good_batch_behind_a_hole_is_read_although_the_next_one_claims_offsets_of_it(tmp_path: Path) -> None:
    good = batch(6, count=4)
    data = batch(2) + batch(5) + good + batch(8) + batch(11)
    assert summary(scanned(tmp_path / log_name(2), data)) == [
        2,
        5,
        6,
        (2 * len(batch(0)) + len(good), len(batch(0)), 11),
        11,
    ]
    (tmp_path / index_name(2)).write_bytes(OFFSET_ENTRY.pack(7, 2 * len(batch(0))))
    (tmp_path / log_name(12)).write_bytes(batch(12))
    for offset in range(6, 10):
        assert records_or_damage(ReadOnlyLog(tmp_path), offset) == (list(range(offset, 10)), 11)


def test_offsets_above_the_highest_that_may_be_here_are_damage(tmp_path: Path) -> None:
    size = len(batch(0))
    assert summary(scanned(tmp_path / "log", batch(0) + batch(9) + batch(10), max_offset=9)) == [
        0,
        9,
        (2 * size, size, None),
    ]


def test_only_the_part_asked_for_is_scanned(tmp_path: Path) -> None:
    data = b"".join(batch(offset) for offset in range(6))
    size = len(batch(0))
    assert summary(scanned(tmp_path / "log", data, position=2 * size, end=4 * size)) == [2, 3]
    assert summary(scanned(tmp_path / "log", data, position=4 * size, end=6 * size - 1)) == [
        4,
        (5 * size, size - 1, None),
    ]
    assert summary(scanned(tmp_path / "log", data, position=6 * size)) == []


def test_a_crc_is_checked_unless_it_is_not_asked_for(tmp_path: Path) -> None:
    data = batch(0)[:-1] + b"\1"
    assert summary(scanned(tmp_path / "log", data)) == [(0, len(data), None)]
    assert summary(scanned(tmp_path / "log", data, check_crc=False)) == [0]


def test_a_batch_that_lies_in_a_record_is_found_only_if_the_record_is_damaged(tmp_path: Path) -> None:
    nested = encode_batch([batch(7)], timestamps_ms=NOW, base_offset=1)
    assert summary(scanned(tmp_path / "log", batch(0) + nested + batch(2))) == [0, 1, 2]


@settings(max_examples=150)
@given(st.data())
def test_what_is_scanned_covers_the_file_without_gap_or_overlap(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    pieces = data.draw(
        st.lists(st.integers(0, 30).map(batch) | st.binary(max_size=100) | st.integers(0, 90).map(bytes), max_size=8)
    )
    whole = b"".join(pieces)
    found = scanned(tmp_path_factory.mktemp("scan") / "log", whole)
    position, last = 0, -1
    for item in found:
        assert item.position == position
        if isinstance(item, LogBatch):
            item.batch.check_crc()
            assert item.batch.header.base_offset > last
            assert bytes(item.batch.data) == whole[position : position + item.batch.header.size]
            last = item.batch.header.last_offset
            position += item.batch.header.size
        else:
            assert item.size > 0
            position += item.size
    assert position == len(whole)
