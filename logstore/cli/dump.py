"""``logstore dump``: what is in the files of a log, ours or Apache Kafka's."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from logstore.cli.dump_json import JsonDump
from logstore.cli.dump_text import TextDump
from logstore.cli.main import DAMAGE_FOUND
from logstore.cli.options import data_option, json_option, resolve
from logstore.errors import CorruptBatch, CorruptData, StorageFailure
from logstore.format import offsets_topic
from logstore.format.batch import RecordBatch
from logstore.format.record import Record
from logstore.storage import files
from logstore.storage.findings import Finding, Severity, damage_finding, unreadable
from logstore.storage.log_check import check_records
from logstore.storage.scan import Damage, scan
from logstore.storage.survey import DECODERS, Kind, KnownFile, PartitionFiles, survey
from logstore.storage.verify import load_index

_OFFSETS_TOPIC = "__consumer_offsets"


class _Wanted(NamedTuple):
    """``first`` and ``last`` bound the offsets, inclusive; None: no bound. ``offsets``: decode the offsets topic's
    records; None: where the topic is that."""

    records: bool
    offsets: bool | None
    first: int | None
    last: int | None

    def takes(self, first: int, last: int) -> bool:
        return (self.first is None or last >= self.first) and (self.last is None or first <= self.last)


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--records", is_flag=True, help="Show each batch's records: keys, values, headers, transaction markers.")
@click.option("--offsets", is_flag=True, default=None, help="Decode records as those of __consumer_offsets.")
@click.option("--from", "first", type=int, metavar="OFFSET", help="Only batches and records from this offset on.")
@click.option("--to", "last", type=int, metavar="OFFSET", help="Only batches and records up to this offset.")
@json_option("One JSON object a line: type file, batch, record, entry, value or damage.")
@data_option
def dump(
    paths: tuple[str, ...],
    records: bool,
    offsets: bool | None,
    first: int | None,
    last: int | None,
    as_json: bool,
    data: Path,
) -> int:
    """Show what is in log, index, snapshot and checkpoint files.

    A PATH is a file (*.log, *.index, *.timeindex, *.txnindex, *.snapshot, *-checkpoint, *.properties,
    partition.metadata), a partition's directory or a data directory, ours or Apache Kafka's; without one, it is the
    data directory. Nothing is changed. Bytes that are no good batch are shown as damage, and the exit status is 1.

    Keys and values are shown as quoted text where they are UTF-8, else as hexadecimal digits. In JSON they are text as
    well, else base64, and then "key_encoding" or "value_encoding" says so.

    \b
    Examples:
      logstore dump data/orders_0/00000000000000000000.log --records --from 100 --to 120
      logstore dump /var/lib/kafka/data/orders-0
      logstore dump --offsets --records /var/lib/kafka/data/__consumer_offsets-7 --json
    """
    printer = JsonDump() if as_json else TextDump()
    wanted = _Wanted(records or bool(offsets), offsets, first, last)
    is_damaged = False
    for path in paths or (None,):
        found = survey(resolve(path, data))
        for file in found.own_files:
            is_damaged |= _dump_file(file, wanted, printer)
        for partition in found.partitions:
            is_damaged |= _dump_partition(partition, wanted, printer)
    return DAMAGE_FOUND if is_damaged else 0


def _dump_partition(partition: PartitionFiles, wanted: _Wanted, printer: TextDump | JsonDump) -> bool:
    topic, _ = partition.topic_partition
    if wanted.offsets is None:
        wanted = wanted._replace(offsets=topic == _OFFSETS_TOPIC)
    bases = sorted({log.base_offset for log in partition.logs})
    is_damaged = False
    for file in partition.files:
        following = next((base for base in bases if base > file.base_offset), None)
        is_segment_file = file.kind in (Kind.LOG, Kind.INDEX, Kind.TIME_INDEX)
        if is_segment_file and not wanted.takes(file.base_offset, 2**63 if following is None else following - 1):
            continue
        is_damaged |= _dump_file(file, wanted, printer, is_last=following is None)
    return is_damaged


def _dump_file(file: KnownFile, wanted: _Wanted, printer: TextDump | JsonDump, is_last: bool = True) -> bool:
    """Whether there was damage."""
    printer.file(file)
    findings = 0
    try:
        if file.kind is Kind.LOG:
            shown = _dump_log(file, wanted, printer, is_last)
        elif file.kind in (Kind.INDEX, Kind.TIME_INDEX):
            shown = _dump_index(file, wanted, printer)
        else:
            shown = _dump_small(file, printer)
        for finding in shown:
            printer.damage(finding)
            findings += finding.severity is Severity.DAMAGE
    except StorageFailure as error:
        printer.damage(unreadable(file.path, error))
        findings += 1
    return findings > 0


def _dump_small(file: KnownFile, printer: TextDump | JsonDump) -> Iterator[Finding]:
    data = files.read_file(file.path) or b""
    try:
        printer.small(file.kind, DECODERS[file.kind](data))
    except CorruptData as error:
        if file.kind is not Kind.CLEAN_SHUTDOWN or data:  # Kafka's was empty before 3.7
            yield Finding(file.path, error.position, error.reason)


def _dump_index(file: KnownFile, wanted: _Wanted, printer: TextDump | JsonDump) -> Iterator[Finding]:
    index, findings = load_index(file)
    yield from findings
    try:
        columns = index.columns
    except CorruptData:
        return  # said by the findings
    for first, second in zip(*columns):
        offset = file.base_offset + (first if file.kind is Kind.INDEX else second)
        if wanted.takes(offset, offset):
            printer.entry(file.kind, offset, second if file.kind is Kind.INDEX else first)


def _dump_log(file: KnownFile, wanted: _Wanted, printer: TextDump | JsonDump, is_last: bool) -> Iterator[Finding]:
    printer.log_begins()
    for found in scan(files.open_file(file.path), expected_offset=file.base_offset):
        if isinstance(found, Damage):
            yield damage_finding(file.path, found, is_last)
            continue
        header = found.batch.header
        if not wanted.takes(header.base_offset, header.last_offset):
            if wanted.last is not None and header.base_offset > wanted.last:
                return
            continue
        printer.batch(found)
        try:
            check_records(found.batch)
            if wanted.records:
                _dump_records(found.batch, wanted, printer)
        except CorruptBatch as error:
            yield Finding(file.path, found.position, f"the records cannot be read: {error.reason}", size=header.size)


def _dump_records(batch: RecordBatch, wanted: _Wanted, printer: TextDump | JsonDump) -> None:
    for record in batch.records():
        if wanted.takes(record.offset, record.offset):
            is_decoded = wanted.offsets and not batch.header.is_control
            printer.record(batch.header, record, _decode_offsets(record) if is_decoded else None)


def _decode_offsets(record: Record) -> tuple[offsets_topic.Key, object]:
    """Key and value of a record in __consumer_offsets; the value is None for a tombstone and for unknown kinds of keys.

    Raises CorruptBatch."""
    key = offsets_topic.decode_key(record.key or b"")
    if record.value is None or isinstance(key, offsets_topic.UnknownKey):
        return key, None
    if isinstance(key, offsets_topic.OffsetCommitKey):
        return key, offsets_topic.decode_offset_commit(record.value)
    return key, offsets_topic.decode_group_metadata(record.value)
