"""The files that a real Apache Kafka wrote (tests/data/kafka/README.md), and what its consumer read in them."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

GOLDEN = Path(__file__).parent.parent / "data" / "kafka"


class GoldenRecord(NamedTuple):
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class GoldenPartition(NamedTuple):
    topic: str
    partition: int
    log_start_offset: int
    high_watermark: int
    last_stable_offset: int
    timestamp_type: str  # CreateTime or LogAppendTime
    committed_offsets: list[int] | None  # what read_committed shows; None: everything
    records: list[GoldenRecord]  # without control records

    @property
    def directory(self) -> Path:
        """After the clean shutdown."""
        return GOLDEN / "data" / f"{self.topic}-{self.partition}"

    @property
    def live_directory(self) -> Path:
        """Copied under the running node: before its second run, so some topics end earlier."""
        return GOLDEN / "live" / f"{self.topic}-{self.partition}"


@cache
def _manifest() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    return manifest


def golden_partitions() -> list[GoldenPartition]:
    return [
        GoldenPartition(**{**facts, "records": [_record(*columns) for columns in facts["records"]]})
        for facts in _manifest()["partitions"]
    ]


def golden_groups() -> dict[str, dict[tuple[str, int], tuple[int, str]]]:
    """group -> (topic, partition) -> committed offset, metadata."""
    groups = _manifest()["groups"]
    return {name: {(t, p): (offset, metadata) for t, p, offset, metadata in rows} for name, rows in groups.items()}


def _record(
    offset: int, timestamp_ms: int, key: str | None, value: str | None, headers: list[tuple[str, str | None]]
) -> GoldenRecord:
    pairs = [(name, _bytes(data)) for name, data in headers]
    return GoldenRecord(offset, timestamp_ms, _bytes(key), _bytes(value), pairs)


def _bytes(data: str | None) -> bytes | None:
    return None if data is None else base64.b64decode(data)
