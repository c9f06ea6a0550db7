"""Every message in every version: what is encoded is decoded again, and nothing but all of it."""

from collections.abc import Sequence
from typing import Any, get_type_hints
from uuid import UUID

import pytest

from logstore.errors import MalformedMessage
from logstore.format.record import Buffer
from logstore.wire.fields import ArrayOf, Field
from logstore.wire.schema import Message
from wire_messages import MESSAGES, VERSIONS, Values, plain, version_id

_TYPES: dict[object, Any] = {
    "bool": bool,
    "float64": float,
    "string": str,
    "bytes": Buffer,
    "records": Buffer,
    "uuid": UUID,
}


def structs(declared: type) -> set[type]:
    """A message's, itself among them."""
    kinds = [field.type.element if isinstance(field.type, ArrayOf) else field.type for field in declared.wire_fields]
    return {declared}.union(*(structs(kind) for kind in kinds if isinstance(kind, type)))


def annotation(field: Field) -> Any:
    """What a field of this type says to Python."""
    kind = field.type.element if isinstance(field.type, ArrayOf) else field.type
    one = kind if isinstance(kind, type) else _TYPES.get(kind, int)
    every = Sequence[one] if isinstance(field.type, ArrayOf) else one
    return every if field.nullable_since is None else every | None


@pytest.mark.parametrize("message", MESSAGES, ids=version_id)
def test_annotations_say_what_the_fields_hold(message: type[Message]) -> None:
    for declared in structs(message):
        hints = get_type_hints(declared)
        for field in declared.wire_fields:
            assert hints[field.name] == annotation(field), f"{declared.__name__}.{field.name}"
        assert declared.__slots__ == declared.__match_args__ == tuple(field.name for field in declared.wire_fields)


@pytest.mark.parametrize(("message", "version"), VERSIONS, ids=version_id)
def test_what_is_encoded_is_decoded_again(message: type[Message], version: int) -> None:
    values = Values((message.__name__, version))
    for sent in [message(), *(values.message(message, version) for _ in range(8))]:
        encoded = sent.encode(version)
        assert plain(message.decode(encoded, version)) == plain(sent)
        assert plain(message.decode(b"header" + encoded, version, 6)) == plain(sent)


@pytest.mark.parametrize(("message", "version"), VERSIONS, ids=version_id)
def test_a_message_that_is_cut_short_or_goes_on_is_malformed(message: type[Message], version: int) -> None:
    values = Values((message.__name__, version))
    encoded = min((values.message(message, version).encode(version) for _ in range(8)), key=lambda e: abs(len(e) - 300))
    for size in range(len(encoded))[:1000]:
        with pytest.raises(MalformedMessage):
            message.decode(encoded[:size], version)
    with pytest.raises(MalformedMessage):
        message.decode(encoded + b"\0", version)


def test_each_api_has_a_file_of_its_name_with_its_request_and_its_response() -> None:
    names = [message.__name__ for message in MESSAGES]
    assert {name.removesuffix("Request").removesuffix("Response") for name in names} == {
        "".join(map(str.capitalize, message.__module__.rpartition(".")[2].split("_"))) for message in MESSAGES
    }
    requests = {message.api_key: message for message in MESSAGES if message.__name__.endswith("Request")}
    responses = {message.api_key: message for message in MESSAGES if message.__name__.endswith("Response")}
    assert len(requests) + len(responses) == len(MESSAGES)
    assert requests.keys() == responses.keys()
    for key, request in requests.items():
        assert request.__module__ == responses[key].__module__
        assert (request.versions, request.flexible_since) == (responses[key].versions, responses[key].flexible_since)
