"""A record as tests send and receive it, and as it goes to agents and back."""

from base64 import b64decode, b64encode
from typing import Any, NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]


class Sent(NamedTuple):
    """What a test wants written."""

    topic: str
    partition: int
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None


class Received(NamedTuple):
    """What a client read."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None
    headers: Headers
    timestamp_ms: int


def to_json(record: Sent | Received) -> dict[str, Any]:
    fields = record._asdict()
    fields["value"], fields["key"] = _text(record.value), _text(record.key)
    fields["headers"] = [(name, _text(value)) for name, value in record.headers]
    return fields


def sent_from_json(fields: dict[str, Any]) -> Sent:
    return Sent(**_decoded(fields))


def received_from_json(fields: dict[str, Any]) -> Received:
    return Received(**_decoded(fields))


def _decoded(fields: dict[str, Any]) -> dict[str, Any]:
    headers = tuple((name, _bytes(value)) for name, value in fields["headers"])
    return fields | {"value": _bytes(fields["value"]), "key": _bytes(fields["key"]), "headers": headers}


def _text(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
