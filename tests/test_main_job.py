"""The main job on real text: every line in, every byte out, in each compression, after any end of the writer."""

import signal
import subprocess
import sys
from bisect import bisect_left
from functools import cache
from itertools import accumulate
from os import environ
from pathlib import Path

import pytest

import logstore
from logstore import Compression, PartitionLog, Store

SIZE = 3_000_000
BATCH = 97
T0 = 1_700_000_000_000
SETTINGS = {"segment_bytes": 60_000, "index_interval_bytes": 1_000, "retention_ms": -1}
every_compression = pytest.mark.parametrize("compression", list(Compression), ids=lambda codec: codec.name.lower())


@cache
def text_lines() -> list[bytes]:
    """Lines with their ends, of Debian's package log, where there is one, and of this Python's own sources."""
    paths = [Path("/var/log/dpkg.log"), *sorted(Path(subprocess.__file__).parent.glob("*.py"))]
    text = b"".join(path.read_bytes() for path in paths if path.is_file())[:SIZE]
    assert len(text) > 1_000_000
    return text.splitlines(keepends=True)


def append_text(store: Store, compression: Compression) -> None:
    store.create_topic("text", **SETTINGS)
    lines = text_lines()
    for first in range(0, len(lines), BATCH):
        batch = lines[first : first + BATCH]
        times = [T0 + number for number in range(first, first + len(batch))]
        store.log("text").append(batch, timestamps_ms=times, compression=compression)


def text_of(log: PartitionLog | logstore.ReadOnlyLog, offset: int = 0) -> bytes:
    return b"".join(record.value or b"" for record in log.records(offset))


@every_compression
def test_text_comes_out_byte_for_byte_now_and_after_a_reopen(compression: Compression, tmp_path: Path) -> None:
    lines = text_lines()
    text = b"".join(lines)
    starts = [0, *accumulate(map(len, lines))]
    with logstore.open(tmp_path) as store:
        append_text(store, compression)
        log = store.log("text")
        assert len(log.view.segments) > 5
        assert text_of(log) == text
        assert text_of(logstore.open(tmp_path, read_only=True).log("text")) == text
    with logstore.open(tmp_path) as store:
        log = store.log("text")
        assert log.log_end_offset == len(lines)
        assert text_of(log) == text
        for offset in range(0, len(lines), len(lines) // 40):
            record = next(log.records(offset))
            assert (record.offset, record.value) == (offset, lines[offset])
            assert log.offset_for_time(T0 + offset) == (T0 + offset, offset)
        late = bisect_left(starts, len(text) * 9 // 10)
        assert text_of(log, late) == text[starts[late] :]
        assert log.offset_for_time(T0 + len(lines)) is None


WRITER = """
import os, sys
sys.path[:0] = sys.argv[3:]
import logstore
import test_main_job as job
store = logstore.open(sys.argv[1], log_flush_offset_checkpoint_interval_ms=20)
append = logstore.PartitionLog.append
def acknowledged(log, *arguments, **options):
    os.write(1, b"%d\\n" % append(log, *arguments, **options).last_offset)
logstore.PartitionLog.append = acknowledged
job.append_text(store, logstore.Compression[sys.argv[2]])
sys.stdin.read()
"""


@every_compression
def test_text_comes_out_byte_for_byte_after_the_writer_was_killed(compression: Compression, tmp_path: Path) -> None:
    lines = text_lines()
    paths = [str(Path(__file__).parent), str(Path(logstore.__file__).parent.parent)]
    command = [sys.executable, "-c", WRITER, str(tmp_path), compression.name, *paths]
    last = -1
    with subprocess.Popen(command, env=dict(environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if last < len(lines) // 2 <= int(line):
                writer.send_signal(signal.SIGKILL)
            last = int(line)
    assert last >= len(lines) // 2
    with logstore.open(tmp_path) as store:
        log = store.log("text")
        assert store.damages() == []
        assert log.log_end_offset > last
        assert text_of(log) == b"".join(lines[: log.log_end_offset])
        assert log.offset_for_time(T0 + last) == (T0 + last, last)
        rest = lines[log.log_end_offset :]
        for first in range(0, len(rest), 1_000):
            log.append(rest[first : first + 1_000], compression=compression)
        assert text_of(log) == b"".join(lines)
