"""A dump for machines: one JSON object a line, each with its ``type``."""

from base64 import b64encode
from typing import Any
from uuid import UUID

from logstore.cli.options import emit_json
from logstore.cli.text import codec_name, json_record
from logstore.errors import CorruptBatch
from logstore.format.batch import BatchHeader
from logstore.format.control_record import CONTROL_TYPES, decode_marker
from logstore.format.record import Record
from logstore.storage.findings import Finding
from logstore.storage.scan import LogBatch
from logstore.storage.survey import Kind, KnownFile


class JsonDump:
    """The same methods as TextDump's."""

    def file(self, file: KnownFile) -> None:
        emit_json({"type": "file", "path": str(file.path), "kind": file.kind, "size": file.size})

    def log_begins(self) -> None:
        pass

    def batch(self, found: LogBatch) -> None:
        header = found.batch.header
        has_sequence = header.base_sequence >= 0
        last_sequence = (header.base_sequence + header.last_offset_delta) & 0x7FFFFFFF if has_sequence else -1
        emit_json(
            {
                "type": "batch",
                "base_offset": header.base_offset,
                "last_offset": header.last_offset,
                "count": header.record_count,
                "base_sequence": header.base_sequence,
                "last_sequence": last_sequence,
                "producer_id": header.producer_id,
                "producer_epoch": header.producer_epoch,
                "partition_leader_epoch": header.partition_leader_epoch,
                "is_transactional": header.is_transactional,
                "is_control": header.is_control,
                "delete_horizon_ms": header.delete_horizon_ms,
                "position": found.position,
                "timestamp_type": "LogAppendTime" if header.has_append_time else "CreateTime",
                "max_timestamp_ms": header.max_timestamp,
                "size": header.size,
                "magic": header.magic,
                "codec": codec_name(header),
                "crc": header.crc,
                "is_valid": True,
            }
        )

    def record(self, header: BatchHeader, record: Record, decoded: tuple[object, object] | None) -> None:
        value = {"type": "record", **json_record(record)}
        if header.base_sequence >= 0:
            value["sequence"] = (header.base_sequence + record.offset - header.base_offset) & 0x7FFFFFFF
        if header.is_control:
            value["is_control"] = True
            try:
                control_type, coordinator_epoch = decode_marker(record)
                if control_type in CONTROL_TYPES:
                    value |= {"marker": CONTROL_TYPES[control_type], "coordinator_epoch": coordinator_epoch}
            except CorruptBatch:
                pass  # Kafka's own control records: key and value stand there
        if decoded is not None:
            value["decoded_key"], value["decoded_value"] = map(_plain, decoded)
        emit_json(value)

    def entry(self, kind: Kind, offset: int, value: int) -> None:
        emit_json({"type": "entry", "offset": offset, "position" if kind is Kind.INDEX else "timestamp_ms": value})

    def small(self, kind: Kind, value: Any) -> None:
        match kind:
            case Kind.OFFSETS:
                value = [{"topic": t, "partition": p, "offset": offset} for (t, p), offset in value.items()]
            case Kind.EPOCHS:
                value = [{"epoch": epoch, "start_offset": start} for epoch, start in value]
            case Kind.GAPS:
                value = [{"first_offset": first, "last_offset": last} for first, last in value]
            case Kind.CLEAN_SHUTDOWN:
                value = {"broker_epoch": value}
            case Kind.METADATA:
                value = {"topic_id": str(value)}
            case _:
                value = _plain(value)
        emit_json({"type": "value", "value": value})

    def damage(self, finding: Finding) -> None:
        emit_json(json_finding(finding, "type"))


def json_finding(finding: Finding, severity_name: str = "severity") -> dict[str, Any]:
    """``severity_name``: the field for "damage" or "note"."""
    value = {severity_name: finding.severity, "path": str(finding.path), "position": finding.position}
    value |= {"size": finding.size, "reason": finding.reason}
    return {**value, "first_offset": finding.first_offset, "last_offset": finding.last_offset}


def _plain(value: Any) -> Any:
    """Named tuples as objects, and bytes, which are Kafka's own structures here, in base64."""
    if hasattr(value, "_asdict"):
        return {name: _plain(field) for name, field in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return str(value) if isinstance(value, UUID) else value
