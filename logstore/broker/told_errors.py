"""Which errors a response tells, whatever the API: its own, and those of its topics, partitions, groups and members."""

from functools import cache
from typing import Any, NamedTuple

from logstore.wire.fields import ArrayOf

_ERROR_CODE = "error_code"


class _Places(NamedTuple):
    """Of a message, or a part of one: whether it has an error code itself, its arrays of parts that have nothing else
    to look for, and those whose parts are to be looked through."""

    has_code: bool
    leaves: tuple[str, ...]
    branches: tuple[str, ...]


@cache
def _places(kind: Any) -> _Places:
    leaves: list[str] = []
    branches: list[str] = []
    for field in kind.wire_fields:
        if isinstance(field.type, ArrayOf) and hasattr(field.type.element, "wire_fields"):
            has_code, *deeper = _places(field.type.element)
            if any(deeper):
                branches.append(field.name)
            elif has_code:
                leaves.append(field.name)
    has_code = any(field.name == _ERROR_CODE for field in kind.wire_fields)
    return _Places(has_code, tuple(leaves), tuple(branches))


def told_errors(part: Any) -> list[int]:
    """The codes in a response but NONE, in no order."""
    kind: Any = type(part)
    has_code, leaves, branches = _places(kind)
    codes = [part.error_code] if has_code and part.error_code else []
    for name in leaves:
        codes += [each.error_code for each in getattr(part, name) or () if each.error_code]
    for name in branches:
        for each in getattr(part, name) or ():
            codes += told_errors(each)
    return codes
