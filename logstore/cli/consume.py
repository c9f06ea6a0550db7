"""``logstore consume``: print a topic's records."""

import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import click

from logstore.cli.main import DAMAGE_FOUND
from logstore.cli.options import json_option, parse_time
from logstore.cli.places import ends, open_to_look, place_options
from logstore.cli.text import json_record, show_headers
from logstore.errors import CorruptBatch, DamagedLog, InvalidArgument, OffsetGap, OffsetOutOfRange
from logstore.format.filename import TopicPartition
from logstore.format.record import Record
from logstore.groups.ends import PartitionEnds
from logstore.storage.log_view import LogView
from logstore.storage.read_only import ReadOnlyLog
from logstore.store import ReadOnlyTopicStore

_LOOK_AGAIN_S = 0.05
_FORMS = "give earliest, latest, an offset, a time such as 2026-01-31T12:00:00, or @ and milliseconds since 1970"
_FIELDS = ("key", "value", "offset", "timestamp", "headers", "partition", "topic")
_TEMPLATE = re.compile(r"\{(\w*)\}|\\([nt0\\{}])|([^{}\\]+)")
_ESCAPES = {"n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\", "{": b"{", "}": b"}"}
Render = Callable[[int, Record], bytes]


class _Reader:
    """A place in one partition that moves on."""

    def __init__(self, log: ReadOnlyLog, partition: int, offset: int, skips_damage: bool) -> None:
        self.log, self.partition, self.offset, self.skips_damage = log, partition, offset, skips_damage
        self.has_skipped = False

    def records(self) -> Iterable[list[Record]]:
        """What there is from here on, batch by batch. A gap is told on stderr and passed over; so is damage if it is
        to be skipped. Raises CorruptBatch (DamagedLog)."""
        view = self.log.view
        # Retention may have moved the start of the log past us.
        self.offset = max(self.offset, view.log_start_offset)
        while self.offset < view.log_end_offset:
            try:
                yield from self._batches(view)
                return
            except OffsetGap as gap:
                click.echo(f"warning: {gap}", err=True)
                self.offset = gap.last_offset + 1
            except DamagedLog as damage:
                if not self.skips_damage:
                    raise
                self._skip(damage)
                self.offset = view.log_end_offset if damage.next_offset is None else damage.next_offset

    def _batches(self, view: LogView) -> Iterable[list[Record]]:
        for batch in view.batches(self.offset):
            header = batch.header
            try:
                records = [] if header.is_control else batch.records()
            except CorruptBatch as error:
                reason = f"{view.name}: the records of the batch at offset {header.base_offset} cannot be read: {error}"
                if not self.skips_damage:
                    raise CorruptBatch(reason) from None
                self._skip(reason)
                records = []
            if header.base_offset < self.offset:
                records = [record for record in records if record.offset >= self.offset]
            self.offset = header.next_offset
            if records:
                yield records

    def _skip(self, damage: object) -> None:
        self.has_skipped = True
        click.echo(f"warning: {damage}", err=True)


@click.command()
@click.argument("topic")
@click.option(
    "--from",
    "start",
    default="earliest",
    show_default=True,
    metavar="WHERE",
    help="earliest, latest, an offset, a time as 2026-01-31T12:00:00 (UTC unless it says +01:00), or @ and "
    "milliseconds since 1970.",
)
@click.option("--partition", type=click.IntRange(min=0), help="Only this one. Otherwise all, one after the other.")
@click.option("--max-records", type=click.IntRange(min=0), metavar="COUNT", help="Stop after so many.")
@click.option("--follow", is_flag=True, help="Wait for more at the end.")
@click.option("--format", "template", metavar="TEMPLATE", help="How each record is printed; see above.")
@click.option(
    "--skip-damage",
    is_flag=True,
    help="Go on behind damage, with a warning; the exit status still is 1.",
)
@json_option("One JSON object a line for each record.")
@place_options
def consume(
    topic: str,
    start: str,
    partition: int | None,
    max_records: int | None,
    follow: bool,
    template: str | None,
    skip_damage: bool,
    as_json: bool,
    data: Path,
    bootstrap: str | None,
) -> int:
    """Print the records of TOPIC: each one's value, byte for byte, and a line feed.

    Nothing is locked or changed: it works beside a live writer in another process, and on Apache Kafka's directories.
    Transaction markers are not shown; records of open and aborted transactions are.

    --format is a template with {key} {value} {offset} {timestamp} {headers} {partition} {topic} and the escapes \\n \\t
    \\0 \\\\ \\{ \\}. Nothing is added to it, so most end with \\n. Null keys and values print nothing; --json tells
    them from empty ones.
    In JSON bytes are text where they are UTF-8, else base64, and then "key_encoding" or "value_encoding" says so.

    \b
    Examples:
      logstore consume orders --max-records 10
      logstore consume orders --from 2026-01-31T12:00:00 --format '{offset} {timestamp} {key}={value}\\n'
      logstore consume orders --partition 0 --from 4711 --follow --json
    """
    output = _Output(_renderer(topic, template, as_json), max_records)
    with open_to_look(data, bootstrap) as place:
        count = place.topic(topic).partitions
        numbers = range(count) if partition is None else [partition]
        starts = {TopicPartition(topic, number): 0 for number in numbers}
        for each in starts:
            starts[each] = _start_offset(ends(place, each), start, len(starts))
        if isinstance(place, ReadOnlyTopicStore):
            readers = [_Reader(place.log(*each), each.partition, at, skip_damage) for each, at in starts.items()]
            _print_all(readers, output, follow)
            return DAMAGE_FOUND if any(reader.has_skipped for reader in readers) else 0
        from logstore.cli.cluster_records import read

        for number, records in read(place, starts, follow):
            output.write(number, records)
            if follow:
                output.flush()
            if not output.has_room():
                break
    return 0


def _print_all(readers: list[_Reader], output: "_Output", follow: bool) -> None:
    while output.has_room():
        count_before = output.count
        for reader in readers:
            for records in reader.records():
                output.write(reader.partition, records)
                if not output.has_room():
                    return
        if not follow:
            return
        output.flush()
        if output.count == count_before:
            time.sleep(_LOOK_AGAIN_S)


class _Output:
    """Records on stdout, up to ``max_count`` of them."""

    def __init__(self, render: Render | None, max_count: int | None) -> None:
        self._file: BinaryIO = sys.stdout.buffer
        self._render, self._max_count = render, max_count
        self.count = 0

    def has_room(self) -> bool:
        return self._max_count is None or self.count < self._max_count

    def write(self, partition: int, records: list[Record]) -> None:
        if self._max_count is not None:
            records = records[: self._max_count - self.count]
        if not records:
            return
        self.count += len(records)
        if self._render is None:
            self._file.write(b"\n".join([record.value or b"" for record in records]) + b"\n")
        else:
            self._file.write(b"".join([self._render(partition, record) for record in records]))

    def flush(self) -> None:
        self._file.flush()


# -------------------------------------------------------------------------------------------------------------- where


def _start_offset(view: PartitionEnds, start: str, partition_count: int) -> int:
    if start == "earliest":
        return view.log_start_offset
    if start == "latest":
        return view.log_end_offset
    if start.isascii() and start.isdigit():
        offset = int(start)
        if partition_count > 1:
            raise InvalidArgument("--from", start, "an offset is of one partition: name it with --partition")
        if not view.log_start_offset <= offset <= view.log_end_offset:
            raise OffsetOutOfRange(view.name, offset, view.log_start_offset, view.log_end_offset)
        return offset
    found = view.offset_for_time(parse_time("--from", start, _FORMS))
    return view.log_end_offset if found is None else found.offset


# ------------------------------------------------------------------------------------------------------------- format


def _renderer(topic: str, template: str | None, as_json: bool) -> Render | None:
    """What makes a record into bytes; None for the value and a line feed. Raises InvalidArgument."""
    if as_json:
        return lambda partition, record: _json_line(topic, partition, record)
    if template is None:
        return None
    fields = _fields(topic)
    pieces: list[bytes | Render] = []
    position = 0
    while position < len(template):
        match = _TEMPLATE.match(template, position)
        if match is None or (match[1] is not None and match[1] not in fields):
            names = ", ".join(f"{{{name}}}" for name in _FIELDS)
            raise InvalidArgument(
                "--format", template, f"{template[position:][:20]!r} is none of {names}, \\n, \\t, \\{{"
            )
        if match[1] is not None:
            pieces.append(fields[match[1]])
        else:
            pieces.append(_ESCAPES[match[2]] if match[2] else match[3].encode("utf-8", "surrogateescape"))
        position = match.end()
    return lambda partition, record: b"".join(
        [piece if isinstance(piece, bytes) else piece(partition, record) for piece in pieces]
    )


def _fields(topic: str) -> dict[str, Render]:
    return {
        "key": lambda partition, record: record.key or b"",
        "value": lambda partition, record: record.value or b"",
        "offset": lambda partition, record: b"%d" % record.offset,
        "timestamp": lambda partition, record: b"%d" % record.timestamp_ms,
        "headers": lambda partition, record: show_headers(record).encode(),
        "partition": lambda partition, record: b"%d" % partition,
        "topic": lambda partition, record: topic.encode(),
    }


def _json_line(topic: str, partition: int, record: Record) -> bytes:
    import json

    line = json.dumps({"topic": topic, "partition": partition, **json_record(record)}, ensure_ascii=False)
    return line.encode() + b"\n"
