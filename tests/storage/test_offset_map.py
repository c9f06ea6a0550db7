import random

import numpy as np

from logstore.storage.offset_map import SLOT_SIZE, OffsetMap, digest_keys


def put(offset_map: OffsetMap, keys: list[bytes], first_offset: int) -> int:
    return offset_map.put(digest_keys(keys), np.arange(first_offset, first_offset + len(keys)))


def latest(offset_map: OffsetMap, *keys: bytes) -> list[int]:
    return list(map(int, offset_map.latest(digest_keys(keys))))


def test_it_holds_what_a_dict_holds() -> None:
    generator = random.Random(4711)
    offset_map, model = OffsetMap(1 << 20, 10_000), {}
    offset = 0
    for _ in range(60):
        keys = [b"%d" % generator.randrange(5_000) for _ in range(generator.randrange(400))]
        assert put(offset_map, keys, offset) == len(keys)
        for key in keys:
            model[key] = offset
            offset += 1
    assert len(offset_map) == len(model)
    asked = [b"%d" % number for number in range(6_000)]
    assert latest(offset_map, *asked) == [model.get(key, -1) for key in asked]


def test_a_key_twice_in_one_put_has_its_last_offset() -> None:
    offset_map = OffsetMap(1024, 10)
    assert put(offset_map, [b"a", b"b", b"a", b"a", b"c"], 7) == 5
    assert latest(offset_map, b"a", b"b", b"c", b"d") == [10, 8, 11, -1]
    assert len(offset_map) == 3


def test_offset_0_and_the_empty_key_are_as_good_as_others() -> None:
    offset_map = OffsetMap(1024, 10)
    put(offset_map, [b""], 0)
    assert latest(offset_map, b"", b"\0") == [0, -1]


def test_a_full_map_takes_known_keys_up_to_the_first_new_one() -> None:
    offset_map = OffsetMap(10 * SLOT_SIZE, 1000)
    assert offset_map.capacity == 7
    keys = [b"%d" % number for number in range(6)]
    assert put(offset_map, keys, 0) == 6
    assert put(offset_map, [b"0", b"6", b"1", b"6", b"7", b"2"], 6) == 4  # "6" is the seventh, "7" too much
    assert latest(offset_map, b"0", b"1", b"2", b"6", b"7") == [6, 8, 2, 9, -1]
    assert put(offset_map, [b"7"], 20) == 0
    assert put(offset_map, [b"5"], 21) == 1
    assert len(offset_map) == 7


def test_it_is_no_larger_than_the_keys_that_there_can_be() -> None:
    assert OffsetMap(1 << 30, 3).capacity >= 3
    assert OffsetMap(1 << 30, 3)._slot_count < 10
    assert OffsetMap(1, 3).capacity == 1  # enough to get on, one key at a time
