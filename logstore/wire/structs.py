"""Slotted classes of fields, with a constructor, equality and a repr: what ``dataclasses`` makes, for a tenth of the
time at import. There are hundreds of them, and a broker must be up at once; so a constructor is compiled when it is
first called.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from logstore.wire.fields import Field


class _Absent:
    """Default of a struct in a struct: each gets one of its own."""

    def __repr__(self) -> str:
        return "<its defaults>"


_ABSENT = _Absent()


def slotted(declared: type, fields: tuple[Field, ...]) -> type:
    """``declared`` again, with ``fields`` as slots in place of its attributes of their names."""
    names = tuple(field.name for field in fields)
    namespace = {
        name: value for name, value in vars(declared).items() if name not in {*names, "__dict__", "__weakref__"}
    }
    namespace |= {
        "__qualname__": declared.__qualname__,
        "__slots__": names,
        "__match_args__": names,
        "__init__": _first_init,
        "__eq__": _equals,
        "__hash__": None,
        "__repr__": _shown,
        "wire_fields": fields,
        "_values": attrgetter(*names) if names else _no_values,
    }
    return type(declared)(declared.__name__, declared.__bases__, namespace)


def _first_init(self: Any, *arguments: Any, **named: Any) -> None:
    kind: Any = type(self)
    kind.__init__ = _constructor(kind)
    kind.__init__(self, *arguments, **named)


def _constructor(kind: Any) -> Callable[..., None]:
    names: dict[str, Any] = {"ABSENT": _ABSENT}
    parameters, lines = ["self"], ["pass"]
    for field in kind.wire_fields:
        value, default = field.name, f"default_{field.name}"
        names[default] = field.default
        if isinstance(field.default, type):
            parameters.append(f"{value}=ABSENT")
            lines.append(f"self.{value} = {default}() if {value} is ABSENT else {value}")
        else:
            parameters.append(f"{value}={default}")
            lines.append(f"self.{value} = {value}")
    exec(f"def __init__({', '.join(parameters)}):\n    " + "\n    ".join(lines), names)
    constructor: Callable[..., None] = names["__init__"]
    constructor.__qualname__ = f"{kind.__qualname__}.__init__"
    return constructor


def _equals(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return self._values(self) == self._values(other)


def _shown(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in self.wire_fields)})"


def _no_values(self: object) -> tuple[()]:
    return ()
