"""Files of a live log that somebody else truncates. Each test is a process of its own, so that a signal is seen."""

from pathlib import Path

import pytest

from children import run_python

START = """
import itertools, os, pathlib, socket, sys, threading, time
import logstore
from logstore.errors import CorruptBatch, DamagedLog

path = pathlib.Path(sys.argv[1])
store = logstore.open(path, max_open_files=int(sys.argv[2]))

def new_log(name):
    store.create_topic(name, segment_bytes=40_000, index_interval_bytes=200)
    log = store.log(name)
    for n in range(600):
        log.append([b"%06d " % n * 20])
    return log

def look_beside(log):
    return logstore.open(path, read_only=True).log(log.name.removesuffix("_0"))

def cut(segment, size):
    os.truncate(segment.path, size)

def is_cut_short(read):
    try:
        read()
    except CorruptBatch as error:
        return error
    return None

def read_on(log, offset):
    "The good records from there, and the error that ends them."
    found = []
    try:
        for record in log.records(offset):
            assert record.value == b"%06d " % record.offset * 20, record
            found.append(record.offset)
    except CorruptBatch as error:
        return found, error
    return found, None
"""


def run(script: str, path: Path, open_files: int = 64) -> str:
    return run_python(START + script, path, open_files).stdout


@pytest.mark.parametrize("open_files", [64, 4])
def test_a_log_file_truncated_under_live_readers_is_an_error_no_crash_no_endless_loop(
    open_files: int, tmp_path: Path
) -> None:
    script = """
for size in (0, 1, 60, 61, 5_000, 39_000):
    log = new_log(f"t{size}")
    first, end = log.view.segments[0], log.log_end_offset
    middle = log.view.segments[1].base_offset
    reading = log.records(0)
    slices = [log.read(0), log.read(middle - 5), log.read(middle)]
    head = list(itertools.islice(reading, 10))
    beside = look_beside(log)
    assert beside.log_end_offset == end
    cut(first, size)
    error = is_cut_short(lambda: list(reading))
    assert isinstance(error, DamagedLog) and str(first.path) in str(error)
    assert error.next_offset in (None, middle), error
    for sliced in slices[:2]:
        assert "cut short" in str(is_cut_short(sliced.read))
        assert "cut short" in str(is_cut_short(sliced.read))
    assert is_cut_short(lambda: log.read(middle - 5).read())
    assert is_cut_short(lambda: log.offset_for_time(log.now_ms() - 3_600_000)) or size
    for reader in (log, beside, look_beside(log)):
        found, error = read_on(reader, 0)
        assert error is not None
        assert found == list(range(len(found))) and len(found) <= size // 100
        assert read_on(reader, middle) == (list(range(middle, end)), None), "other segments are read as before"
    assert len(slices[2].read()) == slices[2].size
    assert log.append([b"%06d " % end * 20]).base_offset == end
    assert log.append([b"%06d " % (end + 1) * 20], durability="fsync").base_offset == end + 1
store.close()
"""
    run(script, tmp_path, open_files)


def test_the_active_log_file_truncated_under_live_readers_is_an_error_no_crash_no_endless_loop(tmp_path: Path) -> None:
    script = """
log = new_log("t")
active = log.view.segments[-1]
begin, end = active.base_offset, log.log_end_offset
sliced = log.read(begin)
cut(active, 700)
found, error = read_on(log, begin)
assert error is not None and len(found) < 5, (found, error)
for read in (sliced.read, lambda: log.read(end - 1).read()):
    assert is_cut_short(read)
assert read_on(log, 0)[0][:begin] == list(range(begin))
assert log.log_end_offset == end
store.close()
with logstore.open(path) as again:
    log = again.log("t")
    assert [record.offset for record in itertools.islice(log.records(0), begin)] == list(range(begin))
    assert log.append([b"next"]).base_offset >= begin
"""
    run(script, tmp_path)


def test_a_log_file_truncated_during_a_sendfile_is_an_error_no_crash_no_endless_loop(tmp_path: Path) -> None:
    script = """
log = new_log("t")
first = log.view.segments[0]
whole = log.read(0, 40_000)
sender, receiver = socket.socketpair()
sender.setblocking(False)
filled = 0
try:
    while True:
        filled += sender.send(bytes(5000))
except BlockingIOError:
    sender.settimeout(20)
outcome = []

def send():
    try:
        outcome.append(whole.sendfile(sender))
    except CorruptBatch as error:
        outcome.append(error)
    sender.close()

sending = threading.Thread(target=send)
sending.start()
time.sleep(0.1)
assert not outcome, outcome
cut(first, 1500)
received = 0
while data := receiver.recv(65536):
    received += len(data)
sending.join(20)
assert not sending.is_alive()
assert isinstance(outcome[0], CorruptBatch) and "cut short" in str(outcome[0]), outcome
assert filled <= received < filled + whole.size
ours, theirs = socket.socketpair()
assert is_cut_short(lambda: whole.sendfile(ours))
store.close()
"""
    run(script, tmp_path)


def test_an_index_file_truncated_under_live_readers_changes_no_read(tmp_path: Path) -> None:
    script = """
for kind, size in itertools.product(("index", "timeindex"), (0, 1, 13)):
    log = new_log(f"{kind}{size}")
    *sealed, active = log.view.segments
    assert len(sealed) > 1
    beside = look_beside(log)
    times = [record.timestamp_ms for record in log.records(0)]
    for segment in sealed:
        os.truncate(segment.path.with_suffix("." + kind), size)
        segment.forget()
    for reader in (log, beside, look_beside(log)):
        for offset in range(0, len(times), 37):
            assert next(reader.records(offset)).offset == offset
            assert reader.offset_for_time(times[offset]) == (times[offset], times.index(times[offset]))
    assert read_on(log, 0) == (list(range(len(times))), None)
store.close()
"""
    run(script, tmp_path)


def test_a_growing_index_truncated_under_the_owner_changes_nothing_for_appends_and_reads(tmp_path: Path) -> None:
    """A store into a map of it would be the owner's death by SIGBUS."""
    script = """
store.create_topic("t", index_interval_bytes=50)
log = store.log("t")
for n in range(20):
    log.append([b"%06d " % n * 20])
for name in log.view.segments[0].paths[1:]:
    os.truncate(name, 0)
for n in range(20, 40):
    log.append([b"%06d " % n * 20])
assert [record.offset for record in log.records(0)] == list(range(40))
assert [next(log.records(n)).offset for n in range(40)] == list(range(40))
store.close()
with logstore.open(path) as again:
    log = again.log("t")
    assert [next(log.records(n)).offset for n in range(40)] == list(range(40))
"""
    run(script, tmp_path)
