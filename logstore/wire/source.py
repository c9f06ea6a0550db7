"""Python source that is put together line by line, and turned into a function: the ground of both generators."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from logstore.wire.fields import FIXED_LETTERS, ArrayOf, Field, FieldType


class Source:
    """Lines of one function; ``names`` are the globals that it will see."""

    def __init__(self, version: int, is_flexible: bool, names: dict[str, Any]) -> None:
        self.version, self.is_flexible = version, is_flexible
        self.names = dict(names)
        self._lines: list[str] = []
        self._depth = 0
        self._count = 0

    def line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head)
        self._depth += 1
        yield
        self._depth -= 1

    def fresh(self, stem: str) -> str:
        """A name that nothing else has."""
        self._count += 1
        return f"{stem}{self._count}"

    def constant(self, stem: str, value: Any) -> str:
        name = self.fresh(stem)
        self.names[name] = value
        return name

    def packer(self, letters: str, method: str) -> str:
        """The name of ``method`` of the Struct of ``letters``."""
        name = f"{method}_{letters.replace('?', 'bool_')}"
        self.names[name] = getattr(struct.Struct(">" + letters), method)
        return name

    def finish(self, function: str, title: str) -> Callable[..., Any]:
        exec(compile("\n".join(self._lines), f"<{title}>", "exec"), self.names)
        finished: Callable[..., Any] = self.names[function]
        return finished


def untagged(fields: tuple[Field, ...], version: int) -> list[Field]:
    """In the order of the bytes."""
    return [field for field in fields if field.is_in(version) and not field.is_tagged(version)]


def tagged(fields: tuple[Field, ...], version: int) -> list[Field]:
    """By ascending tag."""
    present = [field for field in fields if field.is_in(version) and field.is_tagged(version)]
    return sorted(present, key=lambda field: field.tag or 0)


def size_min(kind: FieldType, version: int, is_flexible: bool) -> int:
    """The least that a value of ``kind`` takes."""
    if isinstance(kind, str) and kind in FIXED_LETTERS:
        return struct.calcsize(">" + FIXED_LETTERS[kind])
    if isinstance(kind, str | ArrayOf):
        return 1 if is_flexible else 2 if kind == "string" else 4
    fields: tuple[Field, ...] = kind.wire_fields  # type: ignore[attr-defined]
    sizes = (
        1 if field.is_nullable(version) and isinstance(field.type, type) else size_min(field.type, version, is_flexible)
        for field in untagged(fields, version)
    )
    return sum(sizes) + is_flexible
