"""Source of the functions that decode: ``view`` is the message, ``p`` the position, ``end`` the size of the view,
``budget`` how many elements may still come.

A field of fixed size is only noted; the next one whose size is in the bytes (or a struct's end) has all that were noted
read by one call. Reading behind the end raises IndexError or struct.error, which the function turns into
MalformedMessage once; slices do not raise, so each has its check.
"""

from contextlib import AbstractContextManager, nullcontext
from struct import calcsize
from typing import Any

from logstore.wire.fields import FIXED_LETTERS, ZERO_UUID, ArrayOf, Field, FieldType
from logstore.wire.primitives import Unpacks
from logstore.wire.source import Source, size_min, tagged, untagged

# Their values need no more than struct gives.
_PLAIN = FIXED_LETTERS.keys() - {"uuid"}


class Decoder(Source):
    def __init__(self, version: int, is_flexible: bool, names: dict[str, Any]) -> None:
        super().__init__(version, is_flexible, names)
        self._noted: list[tuple[str, str]] = []  # (letter, target)

    def struct(self, kind: Any, target: str) -> None:
        """Assigns a new ``kind`` to ``target``, a plain name."""
        self.line(f"{target} = new({self.constant(kind.__name__, kind)})")
        for field in kind.wire_fields:
            if not field.is_in(self.version) or field.is_tagged(self.version):
                self.line(f"{target}.{field.name} = {self._default(field)}")
        for field in untagged(kind.wire_fields, self.version):
            self._value(field.type, field.is_nullable(self.version), f"{target}.{field.name}")
        if self.is_flexible:
            self._tags(tagged(kind.wire_fields, self.version), target)
        self._flush()

    def _default(self, field: Field) -> str:
        if isinstance(field.default, type):
            return f"{self.constant(field.default.__name__, field.default)}()"
        return self.constant("default", field.default) if field.default == ZERO_UUID else repr(field.default)

    # --------------------------------------------------------------------------------------------------------- values

    def _value(self, kind: FieldType, is_nullable: bool, target: str) -> None:
        if isinstance(kind, ArrayOf):
            self._array(kind.element, is_nullable, target)
        elif isinstance(kind, type):
            self._nullable_struct(kind, target) if is_nullable else self._inner_struct(kind, target)
        elif kind in _PLAIN:
            self._noted.append((FIXED_LETTERS[kind], target))
        elif kind == "uuid":
            encoded = self.fresh("uuid")
            self._noted.append((FIXED_LETTERS[kind], encoded))
            self._flush()
            self.line(f"{target} = uuid_of({encoded})")
        else:
            self._sized(kind, is_nullable, target)

    def _sized(self, kind: str, is_nullable: bool, target: str) -> None:
        size = self._size("size", "h" if kind == "string" else "i")
        value = 'str(view[p:stop], "utf-8")' if kind == "string" else "view[p:stop]"
        with self._null_or(size, is_nullable, target):
            self.line(f"stop = p + {size}")
            with self.block("if not p <= stop <= end:"):
                self.line(f"raise bad_size({size}, p, end)")
            self.line(f"{target} = {value}")
            self.line("p = stop")

    def _array(self, element: str | type, is_nullable: bool, target: str) -> None:
        count = self._size("count", "i")
        bytes_min = max(size_min(element, self.version, self.is_flexible), 1)
        with self._null_or(count, is_nullable, target):
            with self.block(f"if {count}:"):
                self.line(f"budget -= {count}")
                with self.block(f"if {count} < 0 or {count} * {bytes_min} > end - p or budget < 0:"):
                    self.line(f"raise bad_count({count}, p, end)")
                if element in _PLAIN:
                    table = self.constant("unpacks", Unpacks(FIXED_LETTERS[str(element)]))
                    self.line(f"{target} = {table}[{count}](view, p)")
                    self.line(f"p += {count} * {bytes_min}")
                else:
                    self._loop(element, count, target)
            with self.block("else:"):
                self.line(f"{target} = ()")

    def _loop(self, element: str | type, count: str, target: str) -> None:
        elements, item = self.fresh("elements"), self.fresh("item")
        self.line(f"{elements} = []")
        with self.block(f"for _ in range({count}):"):
            self._value(element, False, item)
            self.line(f"{elements}.append({item})")
        self.line(f"{target} = tuple({elements})")

    def _inner_struct(self, kind: type, target: str) -> None:
        self._flush()
        name = target if target.isidentifier() else self.fresh("struct")
        self.struct(kind, name)
        if name != target:
            self.line(f"{target} = {name}")

    def _nullable_struct(self, kind: type, target: str) -> None:
        presence = self.fresh("presence")
        self._noted.append(("b", presence))
        self._flush()
        with self.block(f"if {presence} == 1:"):
            self._inner_struct(kind, target)
        with self.block(f"elif {presence} == -1:"):
            self.line(f"{target} = None")
        with self.block("else:"):
            self.line("raise bad_presence(p)")

    def _tags(self, fields: list[Field], target: str) -> None:
        count = self._byte("count")
        with self.block(f"if {count}:"):
            if not fields:
                self.line(f"p, budget = skip_tags(view, {count}, p, budget)")
                return
            last, tag, stop = self.fresh("last"), self.fresh("tag"), self.fresh("stop")
            self._long_varint(count)
            self.line(f"budget -= {count}")
            with self.block("if budget < 0:"):
                self.line(f"raise bad_count({count}, p, end)")
            self.line(f"{last} = -1")
            with self.block(f"for _ in range({count}):"):
                self.line(f"{tag}, p = varint(view, p)")
                self.line(f"{stop}, p = varint(view, p)")
                with self.block(f"if {tag} <= {last}:"):
                    self.line(f"raise bad_tag({tag}, p)")
                self.line(f"{last} = {tag}")
                self.line(f"{stop} += p")
                self._tagged_values(fields, tag, stop, target)

    def _tagged_values(self, fields: list[Field], tag: str, stop: str, target: str) -> None:
        for field in fields:
            with self.block(f"{'if' if field is fields[0] else 'elif'} {tag} == {field.tag}:"):
                self._value(field.type, field.is_nullable(self.version), f"{target}.{field.name}")
                self._flush()
                with self.block(f"if p != {stop}:"):
                    self.line(f"raise bad_tag_size({tag}, p)")
        with self.block("else:"):
            self.line(f"p = {stop}")

    # --------------------------------------------------------------------------------------------------------- pieces

    def _size(self, stem: str, letter: str) -> str:
        """The name of a size or count that has been read; -1: null."""
        if self.is_flexible:
            name = self._byte(stem)
            self._long_varint(name)
            self.line(f"{name} -= 1")
            return name
        name = self.fresh(stem)
        self._noted.append((letter, name))
        self._flush()
        return name

    def _byte(self, stem: str) -> str:
        name = self.fresh(stem)
        self._noted.append(("B", name))
        self._flush()
        return name

    def _long_varint(self, name: str) -> None:
        with self.block(f"if {name} > 127:"):
            self.line(f"{name}, p = long_varint(view, {name}, p)")

    def _null_or(self, size: str, is_nullable: bool, target: str) -> AbstractContextManager[None]:
        """The block of a value that is not null; the checks in it refuse any other size below zero."""
        if not is_nullable:
            return nullcontext()
        with self.block(f"if {size} == -1:"):
            self.line(f"{target} = None")
        return self.block("else:")

    def _flush(self) -> None:
        """Read what was noted."""
        if not self._noted:
            return
        letters = "".join(letter for letter, _ in self._noted)
        targets = ", ".join(target for _, target in self._noted)
        self._noted = []
        if letters == "B":
            self.line(f"{targets} = view[p]")
            self.line("p += 1")
            return
        self.line(f"{targets}, = {self.packer(letters, 'unpack_from')}(view, p)")
        self.line(f"p += {calcsize('>' + letters)}")
