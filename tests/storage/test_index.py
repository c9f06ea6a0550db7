"""The two indexes of a segment: look-ups against a plain search, growing, sealing, and entries that cannot be."""

import errno
import os
from bisect import bisect_left, bisect_right
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import CorruptIndex, DiskFull
from logstore.format.index_entry import OFFSET_ENTRY, TIME_ENTRY
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.index import OffsetIndex, TimeIndex

BASE = 5_000_000_000  # offsets in a segment are relative to it


def offset_index(path: Path, caches: Caches | None = None, read_only: bool = False) -> OffsetIndex:
    return OffsetIndex(path / "x.index", BASE, caches or Caches(), read_only)


def time_index(path: Path) -> TimeIndex:
    return TimeIndex(path / "x.timeindex", BASE, Caches())


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 5000)), max_size=60), st.booleans())
def test_look_ups_by_offset_and_position_agree_with_a_plain_search(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]], sealed: bool
) -> None:
    index = offset_index(tmp_path_factory.mktemp("index"))
    index.start_growing(0)
    offsets, positions = [], []
    offset, position = 0, 0
    for offset_step, position_step in steps:
        offset, position = offset + offset_step, position + position_step
        index.append(BASE + offset, position)
        offsets.append(offset)
        positions.append(position)
    if sealed:
        index.seal()
        assert index.path.stat().st_size == 8 * len(steps)
    assert len(index) == len(steps)
    for target in {0, 1, offset, offset + 1, *offsets, *[at - 1 for at in offsets]}:
        found = bisect_right(offsets, target)
        assert index.position_for(BASE + target) == (positions[found - 1] if found else 0)
    for target in {0, 1, position, position + 1, *positions, *[at - 1 for at in positions]}:
        found = bisect_right(positions, target)
        assert index.position_before(target) == (positions[found - 1] if found else 0)
        assert index.count_before(target) == bisect_left(positions, target)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 500)), max_size=60), st.booleans())
def test_look_ups_by_time_agree_with_a_plain_search(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[int, int]], sealed: bool
) -> None:
    index = time_index(tmp_path_factory.mktemp("index"))
    index.start_growing(0)
    kept: list[tuple[int, int]] = []
    offset = 0
    for timestamp, step in entries:
        offset += step
        index.append(timestamp, BASE + offset)
        if timestamp > (kept[-1][0] if kept else -1):
            kept.append((timestamp, offset))
    if sealed and kept and kept[-1] != (0, 0):
        index.seal()
    assert index.last == ((kept[-1][0], BASE + kept[-1][1]) if kept else None)
    for target in range(-1, 102):
        older = [(timestamp, BASE + at) for timestamp, at in kept if timestamp < target]
        assert index.entry_before(target) == (older[-1] if older else None)
    for target in range(0, offset + 2, 7):
        assert index.count_up_to(BASE + target) == sum(at <= target for _, at in kept)


def test_of_a_growing_index_only_the_last_entries_are_not_in_its_file(tmp_path: Path) -> None:
    index = offset_index(tmp_path)
    index.start_growing(0)
    entries = b"".join(OFFSET_ENTRY.pack(number, number * 10) for number in range(1, 301))
    for number in range(1, 301):
        index.make_room()
        index.append(BASE + number, number * 10)
        stored = index.path.read_bytes()
        assert entries.startswith(stored) and 0 <= 8 * number - len(stored) <= 8 * 64
    index.store()
    assert index.path.read_bytes() == entries
    index.append(BASE + 301, 3010)
    index.seal()
    assert index.path.read_bytes() == entries + OFFSET_ENTRY.pack(301, 3010)


def test_entries_that_were_in_memory_only_are_stored_after_a_cut(tmp_path: Path) -> None:
    index = offset_index(tmp_path)
    index.start_growing(0)
    for number in range(1, 6):
        index.append(BASE + number, number * 10)
    index.drop_from(40)
    assert index.path.stat().st_size == 0 and list(index.columns[1]) == [10, 20, 30]
    index.store()
    index.drop_from(20)
    index.append(BASE + 7, 70)
    index.seal()
    assert index.path.read_bytes() == OFFSET_ENTRY.pack(1, 10) + OFFSET_ENTRY.pack(7, 70)


def test_an_index_that_a_full_disk_does_not_let_be_sealed_whole_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = offset_index(tmp_path)
    index.start_growing(0)
    index.append(BASE + 1, 10)
    index.store()
    index.append(BASE + 2, 20)

    def full(self: files.File, position: int, data: bytes) -> None:
        os.pwrite(self.fd, data[:3], position)
        raise DiskFull(str(self.path), "write", errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(files.File, "write_at", full)
        with pytest.raises(DiskFull):
            index.store()
        index.seal()
    assert index.path.read_bytes() == OFFSET_ENTRY.pack(1, 10)
    assert list(index.columns[1]) == [10] and index.position_for(BASE + 2) == 10


def test_an_index_that_grows_and_is_cut_by_somebody_else_takes_more_entries(tmp_path: Path) -> None:
    index = offset_index(tmp_path)
    index.start_growing(0)
    for number in range(1, 6):
        index.append(BASE + number, number * 10)
    os.truncate(index.path, 3)
    index.append(BASE + 6, 60)
    assert list(index.columns[1]) == [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize("kept", [None, 0, 1, 2, 3])
def test_an_index_goes_on_growing_after_its_first_entries(tmp_path: Path, kept: int | None) -> None:
    index = offset_index(tmp_path)
    index.start_growing(0)
    for number in (1, 2, 3):
        index.append(BASE + number, number)
    index.seal()
    again = offset_index(tmp_path)
    again.start_growing(kept)
    count = 3 if kept is None else kept
    assert len(again) == count and again.size == 8 * count
    again.append(BASE + 100, 100)
    again.seal()
    assert list(again.columns[0]) == [*[1, 2, 3][:count], 100]
    assert again.path.stat().st_size == 8 * (count + 1)


def test_zeros_behind_the_last_entry_are_no_entries(tmp_path: Path) -> None:
    offsets, times = offset_index(tmp_path), time_index(tmp_path)
    offsets.path.write_bytes(OFFSET_ENTRY.pack(256, 65536) + bytes(4088))
    times.path.write_bytes(TIME_ENTRY.pack(5, 0) + TIME_ENTRY.pack(1 << 32, 256 << 8) + bytes(4080))
    assert (list(offsets.columns[0]), list(offsets.columns[1])) == ([256], [65536])
    assert (list(times.columns[0]), list(times.columns[1])) == ([5, 1 << 32], [0, 65536])


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_file_without_a_whole_entry_is_an_empty_index(tmp_path: Path, size: int) -> None:
    index = offset_index(tmp_path)
    index.path.write_bytes(b"\1" * size)
    assert len(index) == 0 and index.position_for(BASE + 10) == 0 and index.position_before(10) == 0


@pytest.mark.parametrize(
    "entries", [[(1, 5), (1, 6)], [(1, 5), (2, 5)], [(2, 5), (1, 6)], [(1, 6), (2, 5)], [(0, 0), (0, 0), (1, 1)]]
)
def test_entries_that_do_not_increase_are_corrupt_and_named(tmp_path: Path, entries: list[tuple[int, int]]) -> None:
    index = offset_index(tmp_path)
    index.path.write_bytes(b"".join(OFFSET_ENTRY.pack(*entry) for entry in entries))
    with pytest.raises(CorruptIndex, match="do not increase") as caught:
        index.position_for(BASE)
    assert caught.value.path == str(index.path) and caught.value.position == 8


def test_a_time_index_may_repeat_an_offset_but_no_timestamp(tmp_path: Path) -> None:
    index = time_index(tmp_path)
    index.path.write_bytes(TIME_ENTRY.pack(1, 5) + TIME_ENTRY.pack(2, 5))
    assert index.last == (2, BASE + 5)
    for entries in ([(2, 5), (2, 6)], [(2, 5), (1, 6)], [(1, 6), (2, 5)]):
        other = time_index(tmp_path)
        other.path.write_bytes(b"".join(TIME_ENTRY.pack(*entry) for entry in entries))
        with pytest.raises(CorruptIndex):
            other.entry_before(1)


def test_a_missing_index_is_corrupt_and_says_that_it_can_be_rebuilt(tmp_path: Path) -> None:
    with pytest.raises(CorruptIndex, match="can be rebuilt"):
        offset_index(tmp_path).position_for(BASE)


def test_an_index_is_replaced_as_a_whole_and_by_a_reader_in_memory_only(tmp_path: Path) -> None:
    index = offset_index(tmp_path)
    index.path.write_bytes(b"garbage!" * 3)
    columns = type(index)(tmp_path / "none", BASE, Caches())._decode(memoryview(OFFSET_ENTRY.pack(7, 9)))
    reader = offset_index(tmp_path, read_only=True)
    reader.replace(columns)
    assert reader.position_for(BASE + 7) == 9 and index.path.read_bytes() == b"garbage!" * 3
    index.replace(columns)
    assert index.path.read_bytes() == OFFSET_ENTRY.pack(7, 9) and index.position_for(BASE + 7) == 9


def test_an_index_is_held_in_memory_after_its_file_has_gone(tmp_path: Path) -> None:
    index = offset_index(tmp_path)
    index.path.write_bytes(OFFSET_ENTRY.pack(7, 9))
    index.hold()
    index.path.unlink()
    index._caches.discard(index)
    assert index.position_for(BASE + 8) == 9
    missing = offset_index(tmp_path / "nowhere")
    missing.hold()
    assert missing.position_for(BASE + 8) == 0


def test_a_growing_index_survives_that_the_cache_drops_its_file(tmp_path: Path) -> None:
    caches = Caches(open_file_count=4)
    indexes = []
    for number in range(10):
        (tmp_path / str(number)).mkdir()
        indexes.append(offset_index(tmp_path / str(number), caches))
        indexes[-1].start_growing(0)
    for entry in range(1, 40):
        for index in indexes:
            index.append(BASE + entry, entry)
    for index in indexes:
        index.seal()
        assert list(index.columns[0]) == list(range(1, 40))


@settings(max_examples=200)
@given(st.binary(max_size=100))
def test_any_bytes_are_an_index_or_corrupt(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("index", numbered=True)
    for index in (offset_index(path), time_index(path)):
        index.path.write_bytes(data)
        try:
            first, second = index.columns
        except CorruptIndex:
            continue
        assert len(first) == len(second) <= len(data) // index.ENTRY.size
        assert list(first) == sorted(set(first)) and list(second) == sorted(second)
