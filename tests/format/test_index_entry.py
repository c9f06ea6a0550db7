from array import array
from bisect import bisect_right
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import CorruptIndex
from logstore.format.index_entry import OFFSET_ENTRY, TIME_ENTRY, offset_columns, time_columns

OFFSET_GOLDEN = [
    ((0, 0), "0000000000000000"),
    ((1, 4096), "0000000100001000"),
    ((2**31 - 1, 2**31 - 1), "7fffffff7fffffff"),
    ((2**32 - 1, 2**32 - 1), "ffffffffffffffff"),
]
TIME_GOLDEN = [
    ((-1, 0), "ffffffffffffffff00000000"),
    ((0, 1), "000000000000000000000001"),
    ((1_700_000_000_123, 4711), "0000018bcfe5687b00001267"),
    ((2**63 - 1, 2**32 - 1), "7fffffffffffffffffffffff"),
]
Columns = Callable[[bytes], tuple["array[int]", "array[int]"]]


@pytest.mark.parametrize(("entry", "encoded"), OFFSET_GOLDEN)
def test_an_offset_entry_has_exactly_these_bytes(entry: tuple[int, int], encoded: str) -> None:
    assert OFFSET_ENTRY.pack(*entry).hex() == encoded
    assert OFFSET_ENTRY.unpack(bytes.fromhex(encoded)) == entry


@pytest.mark.parametrize(("entry", "encoded"), TIME_GOLDEN)
def test_a_time_entry_has_exactly_these_bytes(entry: tuple[int, int], encoded: str) -> None:
    assert TIME_ENTRY.pack(*entry).hex() == encoded
    assert TIME_ENTRY.unpack(bytes.fromhex(encoded)) == entry


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_columns_are_native_arrays_of_all_entries(kind: type) -> None:
    buffer = kind(bytes.fromhex("".join(encoded for _, encoded in OFFSET_GOLDEN)))
    assert offset_columns(buffer) == (
        array("I", [0, 1, 2**31 - 1, 2**32 - 1]),
        array("I", [0, 4096, 2**31 - 1, 2**32 - 1]),
    )
    buffer = kind(bytes.fromhex("".join(encoded for _, encoded in TIME_GOLDEN)))
    timestamps, relative_offsets = time_columns(buffer)
    assert timestamps == array("q", [-1, 0, 1_700_000_000_123, 2**63 - 1])
    assert relative_offsets == array("I", [0, 1, 4711, 2**32 - 1])
    assert [column.typecode for column in (timestamps, relative_offsets)] == ["q", "I"]
    assert bisect_right(timestamps, 5) == 2


@pytest.mark.parametrize("columns", [offset_columns, time_columns])
def test_an_empty_index_has_empty_columns(columns: Columns) -> None:
    assert [len(column) for column in columns(b"")] == [0, 0]


@pytest.mark.parametrize(("columns", "size"), [(offset_columns, 8), (time_columns, 12)])
def test_an_index_with_a_torn_entry_is_corrupt_where_that_starts(columns: Columns, size: int) -> None:
    for torn in range(1, size):
        with pytest.raises(CorruptIndex) as caught:
            columns(bytes(3 * size + torn))
        assert caught.value.position == 3 * size


UINT32 = st.integers(0, 2**32 - 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(UINT32, UINT32), max_size=50), st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), UINT32)))
def test_columns_hold_what_was_packed(offsets: list[tuple[int, int]], times: list[tuple[int, int]]) -> None:
    assert list(zip(*offset_columns(b"".join(OFFSET_ENTRY.pack(*entry) for entry in offsets)))) == offsets
    assert list(zip(*time_columns(b"".join(TIME_ENTRY.pack(*entry) for entry in times)))) == times


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_columns_or_corrupt(data: bytes) -> None:
    for columns, size in ((offset_columns, 8), (time_columns, 12)):
        if len(data) % size:
            with pytest.raises(CorruptIndex):
                columns(data)
        else:
            assert [len(column) for column in columns(data)] == [len(data) // size] * 2
