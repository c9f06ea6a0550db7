"""kio as a judge of our messages, in every version that both know: each reads what the other writes."""

from dataclasses import fields
from datetime import datetime, timedelta
from enum import Enum
from io import BytesIO
from typing import Any

import pytest
from kio.index import load_request_schema, load_response_schema
from kio.schema.index import api_key_map, schema_name_map
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

from logstore.wire.schema import Message
from wire_messages import VERSIONS, Values, plain, version_id


def kio_knows(message: type[Message], version: int) -> bool:
    kind = EntityType.request if message.__name__.endswith("Request") else EntityType.response
    return kind in schema_name_map[api_key_map[message.api_key]].get(version, {})


KNOWN = [(message, version) for message, version in VERSIONS if kio_knows(message, version)]


def kios(value: Any) -> Any:
    """What kio has read, as lists of the fields' values in order; times in milliseconds."""
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [kios(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return [kios(getattr(value, field.name)) for field in fields(value)]
    return value


def in_order(value: Any) -> Any:
    """The same of a message of ours, made plain."""
    if isinstance(value, dict):
        return [in_order(item) for item in value.values()]
    return [in_order(item) for item in value] if isinstance(value, list) else value


def test_kio_knows_nearly_all_that_we_declare() -> None:
    assert len(KNOWN) > 0.95 * len(VERSIONS)


@pytest.mark.parametrize(("message", "version"), KNOWN, ids=version_id)
def test_kio_and_we_read_each_other(message: type[Message], version: int) -> None:
    is_request = message.__name__.endswith("Request")
    schema: Any = (load_request_schema if is_request else load_response_schema)(message.api_key, version)
    read, write = entity_reader(schema), entity_writer(schema)
    values = Values((message.__name__, version), tame=True)
    for _ in range(8):
        sent = values.message(message, version)
        encoded = sent.encode(version)
        received, size = read(encoded, 0)
        assert size == len(encoded)
        assert kios(received) == in_order(plain(sent, version, zero_uuid=None))
        written = BytesIO()
        write(written, received)
        assert plain(message.decode(written.getvalue(), version)) == plain(sent)
