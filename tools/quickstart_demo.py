"""The main job on real input: every line of some files into a topic and back, compared byte for byte: by the library,
and by a Kafka client from the same directory, served as a broker.

    tools/quickstart [FILE...]

Without a file it takes a log file found on this machine, else the running Python's own library sources. The data
directory stays in .cache/quickstart, to look at with the commands printed at the end; the next run replaces it.
"""

import os
import shutil
import stat
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice, zip_longest
from pathlib import Path

import confluent_kafka
from rich.console import Console
from rich.table import Table

import logstore
import logstore.testing

ROOT = Path(__file__).parent.parent
DATA = ROOT / ".cache" / "quickstart"
TOPIC, GROUP, QUEUE = "lines", "readers", "jobs"
QUEUED_COUNT, QUEUED_SIZE_MAX = 1000, 64 << 10
BATCH_RECORD_COUNT, BATCH_SIZE_MAX = 1000, 512 << 10
SEGMENT_COUNT = 6
LINE_SIZE_MAX = 16 << 20  # with the batch around it, less than the 64 MiB that a batch may inflate to
LOG_FILES = ["/var/log/dpkg.log", "/var/log/syslog", "/var/log/messages", "/var/log/install.log", "/var/log/system.log"]

console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def main() -> int:
    paths = [Path(name) for name in sys.argv[1:]] or find_input()
    try:
        inputs = [(path, size_of(path)) for path in paths]
        total_size = sum(size for _, size in inputs)
        shutil.rmtree(DATA, ignore_errors=True)
        with logstore.open(DATA) as store:
            store.create_topic(
                TOPIC,
                segment_bytes=max(16 << 10, min(1 << 30, total_size // 5 // SEGMENT_COUNT)),
                max_message_bytes=2 * LINE_SIZE_MAX,
            )
            status = run(store.log(TOPIC), inputs)
            if status == 0:
                show_group(store)
                show_queue(store, inputs)
        if status == 0:
            show_broker(inputs)
            show_commands()
        return status
    except NotRegular as error:
        print(f"error: {error}: it is not a regular file, which can be read twice; name files", file=sys.stderr)
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


class NotRegular(Exception):
    pass


def size_of(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular(path)
    return status.st_size


def run(log: logstore.PartitionLog, inputs: list[tuple[Path, int]]) -> int:
    (first, _), (last, _) = inputs[0], inputs[-1]
    shown = str(first) if len(inputs) == 1 else f"{len(inputs)} files, {first} to {last.name}"
    console.print(f"[bold]logstore[/] {shown} -> topic {TOPIC!r} in {os.path.relpath(DATA)}")

    started = time.perf_counter()
    for batch in in_batches(read_lines(inputs)):
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

    input_size = 0
    for offset, (line, record) in enumerate(zip_longest(read_lines(inputs), log.records(0))):
        value = None if record is None else record.value
        if line != value:
            print(f"error: offset {offset} came back as {value!r}, not {line!r}", file=sys.stderr)
            return 1
        input_size += len(line)
    console.print(f"[green]every byte came back[/]: {record_count:,} lines, {input_size:,} bytes")

    show_seeks(log, record_count // 2)
    show_segments(log)
    stored = log.view.size
    console.print(
        f"records {record_count:,} | bytes {input_size:,} | written {record_count / written_s:,.0f} records/s, "
        f"durable (fsync) | read {record_count / read_s:,.0f} records/s | "
        f"compression zstd, {input_size / stored:.1f} : 1 ({stored:,} bytes on disk)"
    )
    return 0


def show_group(store: logstore.Store) -> None:
    """The whole topic, read by a consumer group."""
    count = 0
    with store.consumer(TOPIC, group=GROUP, auto_offset_reset="earliest") as consumer:
        while not count or any(consumer.lag().values()):
            count += len(consumer.poll(timeout=10))
    committed = sum(place.offset for place in store.groups.committed(GROUP).values())
    console.print(f"group {GROUP!r}: {count:,} records read, {committed:,} committed")


def show_queue(store: logstore.Store, inputs: list[tuple[Path, int]]) -> None:
    """Some lines through a queue; acked, they give their space back."""
    lines = list(islice((line for line in read_lines(inputs) if len(line) < QUEUED_SIZE_MAX), QUEUED_COUNT))
    queue = store.queue(QUEUE)
    for batch in in_batches(lines):
        queue.put_many(batch)
    values: list[bytes] = []
    while len(values) < len(lines):
        jobs = queue.get_many(100, timeout=10)
        values += [job.value for job in jobs]
        queue.ack_many(jobs)
    if values != lines:
        sys.exit("error: the queue gave back other lines than were put")
    console.print(f"queue {QUEUE!r}: {len(values):,} lines put, got in order and acked; {len(queue)} left")


def show_broker(inputs: list[tuple[Path, int]]) -> None:
    """The whole topic again, by librdkafka."""
    settings = {"group.id": "kafka clients", "auto.offset.reset": "earliest"}
    with logstore.testing.broker(DATA) as broker:
        consumer = confluent_kafka.Consumer(settings | {"bootstrap.servers": broker.bootstrap})
        consumer.subscribe([TOPIC])
        for count, line in enumerate(read_lines(inputs), start=1):
            message = consumer.poll(30)
            if message is None or message.error() or message.value() != line:
                sys.exit(
                    f"error: line {count} came back from the broker as {message and message.value()!r}, not {line!r}"
                )
        consumer.close()
    console.print(f"served as a Kafka broker: {count:,} lines read by confluent-kafka, every byte came back")


def show_commands() -> None:
    command, data = os.path.relpath(Path(sys.executable).parent / "logstore"), os.path.relpath(DATA)
    console.print(
        f"\nLook around: {command} --help\n"
        f"  {command} consume {TOPIC} --data {data} --max-records 5\n"
        f"  {command} verify {data}\n"
        f"  {command} stats {data}\n"
        f"  {command} group lag {GROUP} --data {data}\n"
        f"  {command} queue stats --data {data}\n"
        f"  {command} serve --data {data}        # then point any Kafka client at it",
        markup=False,
    )


def read_lines(inputs: Iterable[tuple[Path, int]]) -> Iterator[bytes]:
    """Each line with its line feed; what has none for very long is cut into pieces. A file that grows
    meanwhile, as logs do, ends at the size that it had at first."""
    for path, left in inputs:
        with path.open("rb") as file:
            while line := file.readline(min(LINE_SIZE_MAX, left)):
                left -= len(line)
                yield line


def in_batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) == BATCH_RECORD_COUNT or size >= BATCH_SIZE_MAX:
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
