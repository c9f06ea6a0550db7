"""The cache of open files and indexes: what it keeps, what it drops, and what happens to that."""

import os
import threading
from pathlib import Path

from log_tools import numbered, open_log, values
from logstore.storage import files
from logstore.storage.cache import Caches, LruCache


def test_a_value_is_made_once_and_kept() -> None:
    cache: LruCache[str] = LruCache(2)
    made: list[str] = []

    def make() -> str:
        made.append("value")
        return "value"

    key = object()
    assert [cache.get(key, make) for _ in range(3)] == ["value"] * 3
    assert len(made) == 1


def test_what_was_used_longest_ago_is_dropped_first() -> None:
    cache: LruCache[int] = LruCache(3)
    for key in "abc":
        cache.get(key, lambda key=key: ord(key))  # type: ignore[misc]
    cache.get("a", lambda: 0)
    cache.get("d", lambda: 4)
    assert [cache.get(key, lambda: -1) for key in "acd"] == [97, 99, 4]
    assert cache.get("b", lambda: -1) == -1


def test_the_cost_bounds_what_is_kept_but_one_value_always_is() -> None:
    cache: LruCache[bytes] = LruCache(10, cost=len)
    cache.get("large", lambda: bytes(50))
    assert cache.get("large", lambda: b"") == bytes(50)
    cache.get("small", lambda: bytes(4))
    assert cache.get("large", lambda: b"again") == b"again"
    assert cache.get("small", lambda: b"gone") == bytes(4)
    cache.get("other", lambda: bytes(2))
    assert cache.get("large", lambda: b"gone") == b"gone"


def test_what_is_discarded_is_made_again() -> None:
    cache: LruCache[int] = LruCache(5)
    for number in range(3):
        assert cache.get("key", lambda number=number: number) == number  # type: ignore[misc]
        assert cache.get("key", lambda: -1) == number
        cache.discard("key")
    cache.discard("never there")


def test_a_failure_to_make_leaves_nothing_behind() -> None:
    cache: LruCache[int] = LruCache(1)

    def fail() -> int:
        raise OSError("no")

    for _ in range(2):
        try:
            cache.get("key", fail)
        except OSError:
            continue
    assert cache.get("key", lambda: 5) == 5


def test_an_open_file_that_is_dropped_lives_on_for_who_holds_it(tmp_path: Path) -> None:
    caches = Caches(open_file_count=2)
    opened = []
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
        opened.append(caches.files.get(number, lambda number=number: files.open_file(tmp_path / str(number))))  # type: ignore[misc]
    assert [file.read_at(0, 5) for file in opened] == [b"0", b"1", b"2", b"3", b"4"]
    descriptors = [file.fd for file in opened[:3]]
    del opened
    for fd in descriptors:
        try:
            os.fstat(fd)
        except OSError:
            continue
        raise AssertionError("a file that nobody holds is still open")


def test_many_logs_share_few_descriptors(tmp_path: Path) -> None:
    caches = Caches(open_file_count=8, index_bytes=2000)
    logs = [open_log(tmp_path / f"t_{number}", caches=caches, index_interval_bytes=0) for number in range(30)]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for first in range(0, 12, 2):
        for log in logs:
            log.append(numbered(first, 2))
            if first == 6:
                log.roll()
    for log in logs:
        assert values(log) == numbered(0, 12) and next(log.records(5)).offset == 5
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 10
    assert all(log.close() for log in logs)


def test_many_threads_get_the_right_values(tmp_path: Path) -> None:
    cache: LruCache[int] = LruCache(4)
    wrong: list[tuple[int, int]] = []

    def use(seed: int) -> None:
        for step in range(3000):
            key = (seed * 7 + step * step) % 9
            value = cache.get(key, lambda key=key: key)  # type: ignore[misc]
            if value != key:
                wrong.append((key, value))
            if step % 5 == 0:
                cache.discard(key)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and cache._total == len(cache._values) <= 4
