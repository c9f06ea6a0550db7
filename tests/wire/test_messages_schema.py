"""Our declarations against Kafka's own schemas, the JSON files in its jar: each field, in each version."""

import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest

from kafka_oracle import KafkaOracle
from logstore.wire.api import ApiKey
from logstore.wire.fields import ZEROS, ArrayOf, Field
from logstore.wire.schema import Message
from wire_messages import MESSAGES, version_id

pytestmark = pytest.mark.kafka

# Kafka has these of the same name in the request and in the response; one file holds both of ours.
RENAMED = {
    "AlterClientQuotasRequestEntry": "EntryData",
    "AlterClientQuotasResponseEntry": "EntryData",
}


@pytest.fixture(scope="module")
def schemas(kafka: KafkaOracle) -> Mapping[str, Any]:
    """Message's name -> its schema, which is JSON with comments."""
    [path] = kafka.jars.glob("kafka-clients-*.jar")
    with zipfile.ZipFile(path) as jar:
        names = [name for name in jar.namelist() if re.fullmatch(r"common/message/\w+\.json", name)]
        read = [json.loads(re.sub(r"(?m)^\s*//.*$", "", jar.read(name).decode())) for name in names]
    return {schema["name"]: schema for schema in read}


def in_versions(versions: str, version: int) -> bool:
    """Of "none", "3", "3-5" or "3+"."""
    if versions == "none":
        return False
    first, _, last = versions.removesuffix("+").partition("-")
    return int(first) <= version and (versions.endswith("+") or version <= int(last or first))


def kafkas(field: Any, version: int, commons: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """A field of Kafka's schema as a version has it: (name, type, is nullable, tag, default); None where it is not."""
    if not in_versions(field["versions"], version):
        return None
    kind = field["type"].removeprefix("[]")
    is_array = kind != field["type"]
    shape: Any = kind
    if kind[0].isupper():
        inner = [kafkas(inner_field, version, commons) for inner_field in field.get("fields") or commons[kind]]
        shape = kind, list(filter(None, inner))
    is_tagged = in_versions(field.get("taggedVersions", "none"), version)
    default = str(field.get("default", "")).lower()
    if default.startswith("0x"):
        default = str(int(default, 16))
    return (
        field["name"].lower(),
        [shape] if is_array else shape,
        in_versions(field.get("nullableVersions", "none"), version),
        field["tag"] if is_tagged else None,
        "" if default in ("0", "false") else default,
    )


def ours(field: Field, version: int) -> tuple[Any, ...] | None:
    """The same of a field of ours."""
    if not field.is_in(version):
        return None
    kind = field.type.element if isinstance(field.type, ArrayOf) else field.type
    shape: Any = kind
    if isinstance(kind, type):
        inner = [ours(inner_field, version) for inner_field in kind.wire_fields]  # type: ignore[attr-defined]
        shape = RENAMED.get(kind.__name__, kind.__name__), list(filter(None, inner))
    zero = () if isinstance(field.type, ArrayOf) else ZEROS.get(kind, kind)
    default = "null" if field.default is None else str(field.default).lower()
    return (
        field.name.replace("_", ""),
        [shape] if isinstance(field.type, ArrayOf) else shape,
        field.is_nullable(version),
        field.tag if field.is_tagged(version) else None,
        "" if field.default == zero else default,
    )


@pytest.mark.parametrize("message", MESSAGES, ids=version_id)
def test_a_message_is_declared_as_kafka_declares_it(message: type[Message], schemas: Mapping[str, Any]) -> None:
    schema = schemas[message.__name__]
    commons = {common["name"]: common["fields"] for common in schema.get("commonStructs", [])}
    assert schema["apiKey"] == message.api_key
    first, last = message.versions
    assert [in_versions(schema["validVersions"], version) for version in range(first - 1, last + 2)] == [
        False,
        *[True] * (last - first + 1),
        False,
    ]
    for version in range(first, last + 1):
        assert message.is_flexible(version) == in_versions(schema["flexibleVersions"], version)
        declared = [ours(field, version) for field in message.wire_fields]
        expected = [kafkas(field, version, commons) for field in schema["fields"]]
        assert list(filter(None, declared)) == list(filter(None, expected)), f"version {version}"


@pytest.mark.parametrize("message", MESSAGES, ids=version_id)
def test_no_field_is_declared_that_no_version_has(message: type[Message]) -> None:
    versions = range(message.versions[0], message.versions[1] + 1)
    unused = [field.name for field in message.wire_fields if not any(map(field.is_in, versions))]
    assert unused == []


def test_api_keys_are_all_that_kafka_has(schemas: Mapping[str, Any]) -> None:
    requests = [schema for schema in schemas.values() if schema["type"] == "request"]
    names = {schema["name"].removesuffix("Request"): schema["apiKey"] for schema in requests}
    assert {key.name.title().replace("_", ""): key.value for key in ApiKey} == names
