"""The errors of a response are found wherever they are, for the counts of them."""

from typing import Any

import pytest

from logstore.broker.told_errors import told_errors
from logstore.wire.api import APIS, ApiKey
from logstore.wire.fields import ArrayOf

# The two that are counted where they are made.
BY_DISPATCH = [api for api in APIS.values() if api.key not in (ApiKey.PRODUCE, ApiKey.FETCH)]


def filled(kind: Any) -> Any:
    """A message, or a part of one, with an error at every place for one: another one at each."""
    made = kind()
    for field in kind.wire_fields:
        if field.name == "error_code":
            made.error_code = next(CODES)
        elif isinstance(field.type, ArrayOf) and hasattr(field.type.element, "wire_fields"):
            setattr(made, field.name, [filled(field.type.element), filled(field.type.element)])
        elif hasattr(field.type, "wire_fields"):
            setattr(made, field.name, filled(field.type))
    return made


def codes_in(part: Any) -> list[int]:
    if isinstance(part, list):
        return [code for each in part for code in codes_in(each)]
    if not hasattr(part, "wire_fields"):
        return []
    values = [getattr(part, field.name) for field in part.wire_fields]
    own = [part.error_code] if hasattr(part, "error_code") else []
    return own + [code for value in values for code in codes_in(value)]


CODES = iter(range(1, 1_000_000))


@pytest.mark.parametrize("api", BY_DISPATCH, ids=lambda api: api.key.name)
def test_every_place_for_an_error_is_looked_at(api: Any) -> None:
    response = filled(api.response)
    expected = codes_in(response)
    assert sorted(told_errors(response)) == sorted(expected)


@pytest.mark.parametrize("api", BY_DISPATCH, ids=lambda api: api.key.name)
def test_none_is_no_error(api: Any) -> None:
    assert told_errors(api.response()) == []
