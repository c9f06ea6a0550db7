"""How values are shown: to people, and in JSON."""

import io
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from logstore.errors import CorruptBatch
from logstore.format.batch import COMPRESSION_MASK, BatchHeader
from logstore.format.record import Record


def show_bytes(data: bytes | None) -> str:
    """``null``, a quoted text where the bytes are UTF-8, else hexadecimal digits. Never a control character."""
    if data is None:
        return "null"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"0x{data.hex()}"
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if quoted.isprintable() else json.dumps(text)


def json_bytes(name: str, data: bytes | None) -> dict[str, str | None]:
    """A field for bytes: text where they are UTF-8, else base64, which ``<name>_encoding`` says then."""
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        return {name: b64encode(data).decode(), f"{name}_encoding": "base64"}


def json_record(record: Record) -> dict[str, Any]:
    headers = [{"key": key, **json_bytes("value", value)} for key, value in record.headers]
    return {
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        **json_bytes("key", record.key),
        **json_bytes("value", record.value),
        "headers": headers,
    }


def show_headers(record: Record) -> str:
    return ", ".join(f"{key}={show_bytes(value)}" for key, value in record.headers)


def show_time(timestamp_ms: int) -> str:
    """UTC, to the millisecond; ``-`` where there is none."""
    if timestamp_ms == -1:
        return "-"
    try:
        moment = datetime.fromtimestamp(timestamp_ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"@{timestamp_ms}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{timestamp_ms % 1000:03d}Z"


def show_size(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{size / 1024**power:.1f} {_UNITS[power]}"


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def show_partition_count(count: int) -> str:
    return f"{count} partition" if count == 1 else f"{count} partitions"


def codec_name(header: BatchHeader) -> str:
    try:
        return header.compression.name.lower()
    except CorruptBatch:
        return f"unknown {header.attributes & COMPRESSION_MASK}"


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> str:
    """A table; a column whose name begins with ">" has its values to the right. Not wrapped but on a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(str(cell)) for cell in row])
    width = None if is_terminal else 4000
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=width, legacy_windows=False)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join(line for line in lines if line)


def show_bars(rows: Sequence[tuple[str, int]], width: int = 40) -> str:
    """A bar a row, as long as its count."""
    largest = max((count for _, count in rows), default=0)
    label_width = max((len(label) for label, _ in rows), default=0)
    number_width = len(f"{largest:,}")
    lines = []
    for label, count in rows:
        eighths = -(-count * width * 8 // largest) if largest else 0
        bar = "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
        lines.append(f"  {label:>{label_width}}  {count:>{number_width},}  {bar}".rstrip())
    return "\n".join(lines)
