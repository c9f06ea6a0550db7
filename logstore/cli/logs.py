"""What a server tells while it runs, on stderr: a line each, for people or, as JSON, for machines."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime


def log_to_stderr(log_format: str, logger: logging.Logger) -> None:
    """From now on, and in place of what was set up before. ``log_format``: text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _TextLines(logging.Formatter):
    """``2026-07-04T12:00:00.123Z warning logstore.broker: ...``"""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {_escaped(record.getMessage())}"
        if record.exc_info:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


class _JsonLines(logging.Formatter):
    """``{"time": ..., "level": "warning", "logger": "logstore.broker", "message": ...}``"""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return json.dumps(fields, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _escaped(text: str) -> str:
    """What a client has sent is part of some messages: it must not make lines of its own."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
