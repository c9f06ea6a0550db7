"""A dump for people: a line a batch under a line of titles, records indented below."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import click

from logstore.cli.text import codec_name, show_bytes, show_headers, show_size, show_time
from logstore.errors import CorruptBatch
from logstore.format.batch import BatchHeader
from logstore.format.control_record import CONTROL_TYPES, decode_marker
from logstore.format.offsets_topic import GroupMetadataValue, OffsetCommitKey, OffsetCommitValue, UnknownKey
from logstore.format.record import Record
from logstore.storage.findings import Finding, Severity
from logstore.storage.scan import LogBatch
from logstore.storage.survey import Kind, KnownFile

_BATCH = "  {:<21} {:>7} {:>11} {:>9} {:>2} {:<7} {:<26} {:>5} {:<10} {:<5} {}"
_TITLES = _BATCH.format(
    *("offsets", "records", "position", "size", "v", "codec", "largest time", "epoch", "crc", "valid", "more")
)


class TextDump:
    """What is shown of each thing that a dump meets."""

    def file(self, file: KnownFile) -> None:
        click.secho(f"{file.path}  {file.kind}, {show_size(file.size)}", bold=True)

    def log_begins(self) -> None:
        click.secho(_TITLES, dim=True)

    def batch(self, found: LogBatch) -> None:
        header = found.batch.header
        line = _BATCH.format(
            f"{header.base_offset}-{header.last_offset}",
            header.record_count,
            found.position,
            header.size,
            header.magic,
            codec_name(header),
            f"{show_time(header.max_timestamp)} {'A' if header.has_append_time else 'C'}",
            header.partition_leader_epoch,
            f"{header.crc:#010x}",
            "yes",  # the scanner has checked it: what is not valid comes as damage
            _more(header),
        )
        click.echo(line.rstrip())

    def record(self, header: BatchHeader, record: Record, decoded: tuple[object, object] | None) -> None:
        place = f"      {record.offset}  {show_time(record.timestamp_ms)}"
        if header.base_sequence >= 0:
            place += f"  sequence {(header.base_sequence + record.offset - header.base_offset) & 0x7FFFFFFF}"
        if header.is_control:
            content = _control(record)
        elif decoded is not None:
            content = _offsets(*decoded)
        else:
            content = f"{show_bytes(record.key)}: {show_bytes(record.value)}"
        headers = f"  [{show_headers(record)}]" if record.headers else ""
        click.echo(f"{place}  {content}{headers}")

    def entry(self, kind: Kind, offset: int, value: int) -> None:
        shown = f"position {value}" if kind is Kind.INDEX else f"largest time {show_time(value)}"
        click.echo(f"  offset {offset:<20} {shown}")

    def small(self, kind: Kind, value: Any) -> None:
        for line in _small_lines(kind, value):
            click.echo(f"  {line}")

    def damage(self, finding: Finding) -> None:
        size = f", {finding.size} bytes" if finding.size else ""
        line = f"  {finding.severity.upper()} at position {finding.position}{size}: {finding.reason}"
        if finding.first_offset is not None and finding.last_offset is not None:
            line += f"; offsets {finding.first_offset} to {finding.last_offset}"
        click.secho(line, fg="red" if finding.severity is Severity.DAMAGE else "yellow")


def _more(header: BatchHeader) -> str:
    words = []
    if header.producer_id >= 0:
        words.append(f"producer {header.producer_id} epoch {header.producer_epoch}")
    if header.base_sequence >= 0:
        last_sequence = (header.base_sequence + header.last_offset_delta) & 0x7FFFFFFF
        words.append(f"sequence {header.base_sequence}-{last_sequence}")
    words += ["transactional"] * header.is_transactional + ["control"] * header.is_control
    if header.delete_horizon_ms is not None:
        words.append(f"deletes from {show_time(header.delete_horizon_ms)}")
    return ", ".join(words)


def _control(record: Record) -> str:
    try:
        control_type, coordinator_epoch = decode_marker(record)
    except CorruptBatch:
        control_type, coordinator_epoch = -1, -1
    if control_type not in CONTROL_TYPES:
        return f"control record {show_bytes(record.key)}: {show_bytes(record.value)}"
    return f"{CONTROL_TYPES[control_type]} coordinator epoch {coordinator_epoch}"


def _offsets(key: object, value: object) -> str:
    if isinstance(key, UnknownKey):
        return f"key of version {key.version}: {show_bytes(key.raw)}"
    group = show_bytes(getattr(key, "group", "").encode())
    name = f"group {group}"
    if isinstance(key, OffsetCommitKey):
        name += f" {key.topic} {key.partition}"
    match value:
        case None:
            return f"{name}: deleted"
        case OffsetCommitValue():
            committed = show_time(value.commit_timestamp)
            metadata = f" {show_bytes(value.metadata.encode())}" if value.metadata else ""
            return f"{name}: offset {value.offset} epoch {value.leader_epoch} committed {committed}{metadata}"
        case GroupMetadataValue():
            members = ", ".join(f"{member.member_id} ({member.client_host})" for member in value.members)
            return (
                f"{name}: {value.protocol_type or 'no protocol type'} generation {value.generation} protocol "
                f"{value.protocol} leader {value.leader} members [{members}]"
            )
        case _:
            raise AssertionError(value)


def _small_lines(kind: Kind, value: Any) -> Iterable[str]:
    match kind:
        case Kind.OFFSETS:
            return [f"{topic} {partition}  offset {offset}" for (topic, partition), offset in value.items()]
        case Kind.EPOCHS:
            return [f"epoch {epoch} from offset {start}" for epoch, start in value]
        case Kind.GAPS:
            return [f"offsets {first} to {last} were lost" for first, last in value]
        case Kind.CLEAN_SHUTDOWN:
            return [f"broker epoch {value}"]
        case Kind.TXN_INDEX | Kind.SNAPSHOT:
            return [_fields(row._asdict()) for row in value]
        case Kind.PROPERTIES:
            return [f"{name}={value}" for name, value in value.items()]
        case _:
            assert isinstance(value, UUID)
            return [f"topic id {value}"]


_TIMES = {"timestamp"}


def _fields(row: Mapping[str, int]) -> str:
    shown = (f"{name} {show_time(value) if name in _TIMES else value}" for name, value in row.items())
    return ", ".join(text.replace("_", " ", text.count("_")) for text in shown)
