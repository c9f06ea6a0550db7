"""kafka-python as a judge of our messages, in every version that both know: each reads what the other writes.

Its codec goes by Kafka's schemas as they were in other releases than the one of the jar; its classes for clients, which
change some messages, are left out.
"""

from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any

import kafka.protocol.schemas
import pytest
from kafka.protocol.schemas import BaseField, StructField, load_json

from logstore.wire.schema import Message
from wire_messages import MESSAGES, VERSIONS, Values, plain, version_id

_SCHEMAS = files(kafka.protocol.schemas) / "resources"


def is_known(message: type[Message]) -> bool:
    return (_SCHEMAS / f"{message.__name__}.json").is_file()


@cache
def codec(message: type[Message]) -> StructField:
    return StructField(load_json(message.__name__))


def last_version(message: type[Message]) -> int:
    last: int = BaseField.parse_versions(load_json(message.__name__)["validVersions"])[1]
    return last


KNOWN = [(message, version) for message, version in VERSIONS if is_known(message) and version <= last_version(message)]


def theirs(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.replace("_", ""): theirs(item) for name, item in value.items()}
    if isinstance(value, list):
        return [theirs(item) for item in value]
    return value


def test_kafka_python_knows_all_but_what_it_does_not_use() -> None:
    unknown = {message.__name__ for message in MESSAGES if not is_known(message)}
    assert {name.removesuffix("Request").removesuffix("Response") for name in unknown} == {
        "ConsumerGroupDescribe",
        "ConsumerGroupHeartbeat",
    }
    assert len(KNOWN) == len([message for message, _ in VERSIONS if message.__name__ not in unknown])


@pytest.mark.parametrize(("message", "version"), KNOWN, ids=version_id)
def test_kafka_python_and_we_read_each_other(message: type[Message], version: int) -> None:
    encoding = {"version": version, "compact": message.is_flexible(version), "tagged": message.is_flexible(version)}
    values = Values((message.__name__, version))
    for _ in range(8):
        sent = values.message(message, version)
        encoded = sent.encode(version)
        received = codec(message).decode(BytesIO(encoded), **encoding)
        assert theirs(received) == plain(sent, version, zero_uuid=None, unsent=False)
        written = codec(message).encode(received, **encoding)
        assert plain(message.decode(written, version)) == plain(sent)
