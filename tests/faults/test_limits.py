"""Limits of the process: the sizes of files, descriptors, memory.

Each is set in a process of its own.
"""

from pathlib import Path

from children import FEW_DESCRIPTORS, run_python
from log_tools import open_log, values


def test_a_limit_on_file_sizes_is_an_error_and_no_torn_record(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from log_tools import open_log, values
from logstore.errors import StorageFailure
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
log = open_log(Path(sys.argv[1]), index_interval_bytes=300)
count = 0
try:
    while count < 1000:
        log.append([b"%d" % count + bytes(300)])
        count += 1
except StorageFailure as error:
    assert "File too large" in str(error), error
assert 30 < count < 70, count
assert len(values(log)) == count
log.roll()
log.append([b"in a new segment"])
assert values(log)[-1] == b"in a new segment"
print(count)
"""
    count = int(run_python(program, tmp_path / "t_0").stdout)
    log = open_log(tmp_path / "t_0")
    assert len(values(log)) == count + 1 and not log.damages


def test_many_segments_are_read_and_written_with_few_descriptors(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from log_tools import open_log, values
from logstore.storage.cache import Caches
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
log = open_log(Path(sys.argv[1]), caches=Caches(20), index_interval_bytes=0)
for number in range(100):
    log.append([b"%d" % number])
    log.roll()
assert values(log) == [b"%d" % number for number in range(100)]
for offset in range(100):
    assert next(log.records(offset)).value == b"%d" % offset
"""
    run_python(program, tmp_path / "t_0")


def test_no_descriptor_left_is_an_error_and_no_byte_is_lost_or_doubled(tmp_path: Path) -> None:
    """Of three logs that share a cache of two descriptors, so that each append opens files. Where what a refused append
    left could not be cut either, the partition is offline, and whole when it is opened again."""
    program = """
import errno, os, sys
from pathlib import Path
from log_tools import open_log, values
from logstore.errors import PartitionOffline, StorageFailure
from logstore.storage.cache import Caches
caches = Caches(2)
names = [Path(name) for name in sys.argv[1:]]
logs = [open_log(name, caches=caches, index_interval_bytes=100, segment_bytes=3000) for name in names]
acknowledged = [[] for _ in logs]
held, refused = [], 0
for number in range(300):
    which = number % 3
    if number % 40 == 20:
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            assert error.errno == errno.EMFILE
    if number % 40 == 0:
        while held:
            os.close(held.pop())
        for index, log in enumerate(logs):
            if log.offline_reason is not None:
                assert "Too many open files" in log.offline_reason
                log.close()
                logs[index] = open_log(names[index], caches=caches, index_interval_bytes=100, segment_bytes=3000)
            assert [value for value in values(logs[index]) if value in acknowledged[index]] == acknowledged[index]
    value = b"%d." % number + bytes(150)
    try:
        logs[which].append([value], durability="fsync" if number % 2 else "os")
        acknowledged[which].append(value)
    except (StorageFailure, PartitionOffline) as error:
        assert "Too many open files" in str(error), error
        refused += 1
print(refused, *(len(values) for values in acknowledged))
"""
    names = [tmp_path / f"t_{number}" for number in range(3)]
    refused, *counts = map(int, run_python(program, *names, before=FEW_DESCRIPTORS).stdout.split())
    assert refused > 50 and min(counts) > 30
    for name, count in zip(names, counts):
        log = open_log(name)
        found = values(log)
        assert len(found) >= count and len(found) == len(set(found)) and not log.damages


def test_an_append_that_could_not_even_open_its_log_leaves_the_partition_as_it_was(tmp_path: Path) -> None:
    program = """
import errno, os, sys
from pathlib import Path
from log_tools import open_log, values
from logstore.errors import StorageFailure
from logstore.storage.cache import Caches
caches = Caches(2)
logs = [open_log(Path(sys.argv[1]) / f"t_{number}", caches=caches) for number in range(3)]
for log in logs:
    log.append([b"before"])
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError as error:
    assert error.errno == errno.EMFILE
try:
    logs[0].append([b"refused"])
except StorageFailure as error:
    assert error.errno == errno.EMFILE, error
else:
    raise AssertionError("the log could be opened")
assert logs[0].offline_reason is None, logs[0].offline_reason
for fd in held:
    os.close(fd)
logs[0].append([b"after"])
assert values(logs[0]) == [b"before", b"after"]
"""
    run_python(program, tmp_path, before=FEW_DESCRIPTORS)


def test_no_memory_is_an_error_and_appends_go_on_when_there_is_some(tmp_path: Path) -> None:
    program = """
import errno, resource, sys
from pathlib import Path
from log_tools import open_log, values
from logstore.errors import StorageFailure
log = open_log(Path(sys.argv[1]), index_interval_bytes=0)
acknowledged, refused = [], 0
large = {number: b"%d " % number * 200_000 for number in range(0, 400, 10)}  # kept: what is free serves the next append
for number in range(400):
    if 20 <= number % 100 < 90:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))
    if number % 100 == 90:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        log.append([large.get(number) or b"%d " % number * 40_000])
        acknowledged.append(number)
    except StorageFailure as error:
        assert error.errno == errno.ENOMEM, error
        refused += 1
    except MemoryError:
        refused += 1
assert log.offline_reason is None, log.offline_reason
assert [int(value.split(b" ")[0]) for value in values(log)] == acknowledged
print(refused, len(acknowledged))
"""
    refused, acknowledged = map(int, run_python(program, tmp_path / "t_0").stdout.split())
    assert refused > 10 and acknowledged > 100
    log = open_log(tmp_path / "t_0")
    assert len(values(log)) == acknowledged and not log.damages
