"""The main job on real input: every line of some files into a topic and back, compared byte for byte.

    tools/quickstart [FILE...]

Without a file it takes a log file found on this machine, else the running Python's own library sources. The data
directory stays in .cache/quickstart, to look at with the commands printed at the end; the next run replaces it.
"""

import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

import logstore

ROOT = Path(__file__).parent.parent
DATA = ROOT / ".cache" / "quickstart"
TOPIC = "lines"
BATCH_RECORDS, BATCH_BYTES = 1000, 512 << 10
SEGMENT_COUNT = 6
LINE_BYTES_MAX = 64 << 20
LOG_FILES = ["/var/log/dpkg.log", "/var/log/syslog", "/var/log/messages", "/var/log/install.log", "/var/log/system.log"]

console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def main() -> int:
    paths = [Path(name) for name in sys.argv[1:]] or find_input()
    try:
        total_bytes = sum(path.stat().st_size for path in paths)
        shutil.rmtree(DATA, ignore_errors=True)
        with logstore.open(DATA) as store:
            store.create_topic(
                TOPIC,
                segment_bytes=max(16 << 10, min(1 << 30, total_bytes // 5 // SEGMENT_COUNT)),
                max_message_bytes=2 * LINE_BYTES_MAX,
            )
            return run(store.log(TOPIC), paths)
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}; name files that can be read", file=sys.stderr)
    except logstore.LogstoreError as error:
        print(f"error: {error}", file=sys.stderr)
    return 2


def find_input() -> list[Path]:
    for name in LOG_FILES:
        if os.access(name, os.R_OK) and os.path.getsize(name):
            return [Path(name)]
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def run(log: logstore.PartitionLog, paths: list[Path]) -> int:
    shown = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files, {paths[0]} to {paths[-1].name}"
    console.print(f"[bold]logstore[/] {shown} -> topic {TOPIC!r} in {os.path.relpath(DATA)}")

    started = time.perf_counter()
    for batch in in_batches(read_lines(paths)):
        log.append(batch, compression=logstore.Compression.ZSTD)
    log.flush()
    written_s = time.perf_counter() - started
    record_count = log.log_end_offset
    if not record_count:
        print("error: there is not a single line in the input; name other files", file=sys.stderr)
        return 2

    started = time.perf_counter()
    for _ in log.records(0):
        pass
    read_s = time.perf_counter() - started

    byte_count = 0
    for line, record in zip(read_lines(paths), log.records(0), strict=True):
        if line != record.value:
            print(f"error: offset {record.offset} came back as {record.value!r}, not {line!r}", file=sys.stderr)
            return 1
        byte_count += len(line)
    console.print(f"[green]every byte came back[/]: {record_count:,} lines, {byte_count:,} bytes")

    show_seeks(log, record_count // 2)
    show_segments(log)
    stored = log.view.size
    console.print(
        f"records {record_count:,} | bytes {byte_count:,} | written {record_count / written_s:,.0f} records/s, "
        f"durable (fsync) | read {record_count / read_s:,.0f} records/s | "
        f"compression zstd, {byte_count / stored:.1f} : 1 ({stored:,} bytes on disk)"
    )
    command, data = os.path.relpath(Path(sys.executable).parent / "logstore"), os.path.relpath(DATA)
    console.print(
        f"\nLook around: {command} --help\n"
        f"  {command} consume {TOPIC} --data {data} --max-records 5\n"
        f"  {command} verify {data}\n"
        f"  {command} stats {data}",
        markup=False,
    )
    return 0


def read_lines(paths: Iterable[Path]) -> Iterator[bytes]:
    """Each line with its line feed; what has none for very long is cut into pieces."""
    for path in paths:
        with path.open("rb") as file:
            while line := file.readline(LINE_BYTES_MAX):
                yield line


def in_batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) == BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def show_seeks(log: logstore.PartitionLog, offset: int) -> None:
    record = next(log.records(offset))
    console.print(f"seek to offset {offset:,}: {shortened(record)}", markup=False)
    found = log.offset_for_time(record.timestamp_ms)
    assert found is not None  # the record itself is that new
    when = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    console.print(
        f"seek to time {when}: offset {found.offset:,}: {shortened(next(log.records(found.offset)))}", markup=False
    )


def shortened(record: logstore.Record) -> str:
    line = (record.value or b"").rstrip(b"\r\n")
    return line[:70].decode(errors="backslashreplace") + ("..." if len(line) > 70 else "")


def show_segments(log: logstore.PartitionLog) -> None:
    table = Table("segment", "first offset", "records", "bytes", "indexed batches", title=f"segments of {log.name}")
    for column in table.columns[1:]:
        column.justify = "right"
    for segment, info in zip(log.view.segments, log.segment_infos(), strict=True):
        table.add_row(
            segment.path.name,
            f"{info.base_offset:,}",
            f"{info.next_offset - info.base_offset:,}",
            f"{info.size_bytes:,}",
            f"{len(segment.offset_index):,}",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
