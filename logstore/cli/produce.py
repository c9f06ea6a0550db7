"""``logstore produce``: lines become records."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import click
from click.core import ParameterSource

from logstore.cli.cluster_records import LineSender, Sent
from logstore.cli.main import WRONG_USE
from logstore.cli.options import emit_json, json_option, progress_bar
from logstore.cli.places import open_to_change, place_options
from logstore.cli.text import show_partition_count, show_size
from logstore.client.embedded.store import Store
from logstore.client.partitioner import partition_for_key
from logstore.errors import InvalidArgument, InvalidRecord, LogstoreError, RecordTooLarge, UnknownTopic
from logstore.format.compression import DECOMPRESSED_SIZE_MAX, Compression
from logstore.storage.durability import LOCAL_LEVELS, Durability
from logstore.storage.partition import PartitionLog
from logstore.storage.topics import TopicDescription

if TYPE_CHECKING:
    from logstore.client.kafka.cluster import Cluster

_CODECS = [codec.name.lower() for codec in Compression]


class _LineError(InvalidRecord):
    """``number`` counts the input's lines from 1."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number} {reason}")
        self.number = number


class _Part(NamedTuple):
    """What goes to one partition; ``numbers`` are the lines' in the input, from 1."""

    values: list[bytes]
    keys: list[bytes] | None
    numbers: Sequence[int]

    def cut(self, start: int | None, end: int | None) -> "_Part":
        keys = None if self.keys is None else self.keys[start:end]
        return _Part(self.values[start:end], keys, self.numbers[start:end])


class _Producer:
    """Appends lines to a topic's partitions, and counts."""

    def __init__(
        self, store: Store, topic: str, separator: bytes | None, compression: Compression, durability: Durability
    ) -> None:
        self._store = store
        self.logs = [store.log(topic, number) for number in range(store.topic(topic).partitions)]
        self.separator, self.compression, self.durability = separator, compression, durability
        self.line_count = self.batch_count = self.record_size = 0
        self.starts = [log.log_end_offset for log in self.logs]
        self.start_sizes = [log.view.size for log in self.logs]
        self._next = 0  # the partition that lines without a key go to: another one for each batch

    def send(self, lines: list[bytes]) -> None:
        """Raises InvalidRecord, which names the first line that cannot be stored. All lines before it are appended; of
        those behind it, with keys, perhaps some that went to other partitions."""
        first_number = self.line_count + 1
        if self.separator is None:
            self._append(self._take_turn(), _Part(lines, None, range(first_number, first_number + len(lines))))
        else:
            self._send_keyed(lines, self.separator, first_number)
        self.line_count += len(lines)
        self.record_size += sum(map(len, lines))

    def _send_keyed(self, lines: list[bytes], separator: bytes, first_number: int) -> None:
        parts: dict[int, tuple[list[bytes], list[bytes], list[int]]] = {}
        failures: list[_LineError] = []
        for number, line in enumerate(lines, first_number):
            key, found, value = line.partition(separator)
            if not found:
                failures.append(_LineError(number, f"has no key: {separator!r} is not in it"))
                break
            values, keys, numbers = parts.setdefault(partition_for_key(key, len(self.logs)), ([], [], []))
            values.append(value)
            keys.append(key)
            numbers.append(number)
        for partition, part in parts.items():
            try:
                self._append(self.logs[partition], _Part(*part))
            except _LineError as error:  # a line before it may be in a partition whose turn is still to come
                failures.append(error)
        if failures:
            raise min(failures, key=lambda error: error.number)

    def _take_turn(self) -> PartitionLog:
        log = self.logs[self._next]
        self._next = (self._next + 1) % len(self.logs)
        return log

    def _append(self, log: PartitionLog, part: _Part) -> None:
        try:
            log.append(part.values, keys=part.keys, compression=self.compression, durability=self.durability)
            self.batch_count += 1
        except RecordTooLarge as error:
            if len(part.values) == 1:
                raise _LineError(part.numbers[0], f"is too long: {error}") from None
            # Short lines take more room as records: two smaller batches then.
            half = len(part.values) // 2
            self._append(log, part.cut(None, half))
            self._append(log, part.cut(half, None))

    def finish(self) -> Sent:
        """See to it that all is on the disk."""
        self._store.flush()
        offsets = {
            number: (start, log.log_end_offset)
            for number, (start, log) in enumerate(zip(self.starts, self.logs))
            if log.log_end_offset > start
        }
        count = sum(end - start for start, end in offsets.values())
        stored_size = sum(log.view.size - start for log, start in zip(self.logs, self.start_sizes))
        return Sent(count, self.record_size, offsets, self.batch_count, stored_size)


@click.command()
@click.argument("topic")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--key-separator", metavar="TEXT", help="What ends a line's key. Without it, records have no keys.")
@click.option(
    "--compression", type=click.Choice(_CODECS), default="none", show_default=True, help="The batches' codec."
)
@click.option("--partitions", type=int, metavar="COUNT", help="For a topic that is to be created: how many.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=256 << 10,
    show_default=True,
    metavar="BYTES",
    help="How many bytes are read at a time; their lines are a batch.",
)
@click.option(
    "--durability",
    type=click.Choice([level.value for level in LOCAL_LEVELS]),
    default="os",
    show_default=True,
    help="fsync: each batch is on the disk before the next is read. os: all of them are at the end.",
)
@json_option("The summary as one JSON object.")
@place_options
def produce(
    topic: str,
    file: BinaryIO,
    key_separator: str | None,
    compression: str,
    partitions: int | None,
    batch_size: int,
    durability: str,
    as_json: bool,
    data: Path,
    bootstrap: str | None,
) -> int:
    """Append the lines of FILE, or of stdin, to TOPIC: a record each, byte for byte, without the line feed.

    A topic that is missing is created. Lines go to partitions by their key, as with Kafka's clients, else batch by
    batch in turn. Lines that come slowly, as from tail -f, are appended as they come. A summary is printed at the end.

    \b
    Examples:
      logstore produce logs /var/log/dpkg.log --compression zstd
      tail -f app.log | logstore produce app --durability fsync
      printf 'customer-7:book\\n' | logstore produce orders --key-separator : --partitions 3
    """
    started_s = time.monotonic()
    if key_separator == "":
        raise InvalidArgument("--key-separator", key_separator, "give at least one character")
    separator = None if key_separator is None else key_separator.encode()
    _check_durability(bootstrap)
    with open_to_change(data, bootstrap) as place:
        found = _topic(place, topic, partitions)
        producer: _Producer | LineSender
        if isinstance(place, Store):
            producer = _Producer(place, topic, separator, Compression.parse(compression), Durability(durability))
        else:
            producer = LineSender(place, topic, separator, compression)
        failed = _send(producer, file, batch_size, found.config.max_message_bytes, as_json)
        sent = producer.finish()
        failed = failed or sent.failure
        _summarise(topic, sent, time.monotonic() - started_s, as_json)
    if failed is not None:
        click.echo(f"error: {failed}; {sent.record_count:,} records are stored", err=True)
        return WRONG_USE
    return 0


def _check_durability(bootstrap: str | None) -> None:
    source = click.get_current_context().get_parameter_source("durability")
    if bootstrap is not None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("--durability is of a directory: a cluster has all in-sync replicas store a record")


def _send(
    producer: "_Producer | LineSender", file: BinaryIO, batch_size: int, max_message_bytes: int, as_json: bool
) -> LogstoreError | None:
    """What has ended it before the end of the file."""
    with progress_bar("produce", _size(file), hidden=as_json) as progress:
        try:
            for lines, size in _batches(file, batch_size, max(max_message_bytes, DECOMPRESSED_SIZE_MAX)):
                producer.send(lines)
                progress(size)
        except InvalidRecord as error:
            return error
        except LogstoreError as error:
            if not isinstance(producer, LineSender):  # a directory's disk: what else is done with it fails, too
                raise
            return error
    return None


def _topic(store: "Store | Cluster", name: str, partitions: int | None) -> TopicDescription:
    try:
        found = store.topic(name)
    except UnknownTopic:
        found = store.create_topic(name, partitions)
        click.echo(f"created topic {name} with {show_partition_count(found.partitions)}", err=True)
        return found
    if partitions not in (None, found.partitions):
        click.echo(
            f"topic {name} is there already and has {show_partition_count(found.partitions)}, not {partitions}",
            err=True,
        )
    return found


def _size(file: BinaryIO) -> int:
    """0 where it cannot be known."""
    try:
        return Path(file.name).stat().st_size if file is not sys.stdin.buffer else 0
    except (OSError, TypeError, AttributeError):
        return 0


def _batches(file: BinaryIO, batch_size: int, line_size_max: int) -> Iterator[tuple[list[bytes], int]]:
    """Lines, and the bytes read for them: as many as there are at the moment, in reads of up to ``batch_size``."""
    read = getattr(file, "read1", file.read)
    pieces: list[bytes] = []  # of a line that has not ended yet
    line_count = 0
    while chunk := read(batch_size):
        head, line_feed, tail = chunk.rpartition(b"\n")
        if line_feed:
            lines = (b"".join(pieces) + head).split(b"\n")
            line_count += len(lines)
            yield lines, len(chunk)
            pieces = [tail] if tail else []
            continue
        pieces.append(chunk)
        if len(pieces) * batch_size > line_size_max and sum(map(len, pieces)) > line_size_max:
            raise _LineError(line_count + 1, f"is longer than {line_size_max} bytes")
    if pieces:
        yield [b"".join(pieces)], 0


def _summarise(topic: str, sent: Sent, seconds: float, as_json: bool) -> None:
    count = sent.record_count
    per_second = round(count / seconds) if seconds > 0 else 0
    if as_json:
        facts: dict[str, Any] = {"topic": topic, "records": count, "size": sent.record_size}
        if sent.stored_size is not None:
            facts |= {"batches": sent.batch_count, "stored_size": sent.stored_size, "durability": "fsync"}
        offsets = [
            {"partition": number, "first_offset": first, "next_offset": behind}
            for number, (first, behind) in sent.offsets.items()
        ]
        emit_json({**facts, "seconds": round(seconds, 3), "records_per_second": per_second, "partitions": offsets})
        return
    if sent.stored_size is None:
        told = f"{count:,} records, {show_size(sent.record_size)}"
    else:
        told = (
            f"{count:,} records in {sent.batch_count:,} batches, {show_size(sent.record_size)} "
            f"({show_size(sent.stored_size)} stored)"
        )
    end = "all acknowledged" if sent.stored_size is None else "all on the disk"
    click.echo(f"{topic}: {told}, {seconds:.2f} s, {per_second:,} records/s; {end}")
    for number, (first, behind) in sent.offsets.items():
        click.echo(f"  partition {number}: offsets {first} to {behind - 1}")
