"""Source of the functions that encode: pieces of bytes are gathered in lists and joined at the end.

What follows one another without a decision is added to the list by one statement, in which neighbours of fixed size are
one ``struct`` call.
"""

from typing import Any

from logstore.wire.fields import FIXED_LETTERS, ArrayOf, Field, FieldType
from logstore.wire.primitives import VARINTS, ArrayPacks
from logstore.wire.source import Source, tagged, untagged

_PLAIN = FIXED_LETTERS.keys() - {"uuid"}


class Encoder(Source):
    def __init__(self, version: int, is_flexible: bool, names: dict[str, Any]) -> None:
        super().__init__(version, is_flexible, names)
        self._noted: list[tuple[str, str]] = []  # (letter, value); without a letter the value is bytes
        self._sink = "pieces"

    def struct(self, kind: Any, value: str) -> None:
        """Notes the fields of ``value``, a plain name."""
        for field in untagged(kind.wire_fields, self.version):
            self._value(field.type, field.is_nullable(self.version), f"{value}.{field.name}")
        if self.is_flexible:
            fields = tagged(kind.wire_fields, self.version)
            self._tags(fields, value) if fields else self._noted.append(("x", ""))

    def flush(self) -> None:
        """Write the statement for what was noted."""
        pieces: list[str] = []
        letters, values = "", []
        for letter, value in [*self._noted, ("", "")]:
            if letter:
                letters += letter
                values += [value] if value else []
                continue
            if letters:
                is_zeros = not values
                pieces.append(repr(bytes(len(letters))) if is_zeros else self._pack(letters, values))
                letters, values = "", []
            pieces += [value] if value else []
        self._noted = []
        if len(pieces) == 1:
            self.line(f"{self._sink}.append({pieces[0]})")
        elif pieces:
            self.line(f"{self._sink} += ({', '.join(pieces)})")

    def _pack(self, letters: str, values: list[str]) -> str:
        return f"{self.packer(letters, 'pack')}({', '.join(values)})"

    # --------------------------------------------------------------------------------------------------------- values

    def _value(self, kind: FieldType, is_nullable: bool, value: str) -> None:
        if isinstance(kind, str) and kind in FIXED_LETTERS:
            self._noted.append((FIXED_LETTERS[kind], f"{value}.bytes" if kind == "uuid" else value))
            return
        if not value.isidentifier():
            name = self.fresh("value")
            self.line(f"{name} = {value}")
            value = name
        if not is_nullable:
            self._not_null(kind, value)
            return
        self.flush()
        with self.block(f"if {value} is None:"):
            self._null(kind)
            self.flush()
        with self.block("else:"):
            if isinstance(kind, type):
                self._noted.append(("b", "1"))
            self._not_null(kind, value)
            self.flush()

    def _null(self, kind: FieldType) -> None:
        if isinstance(kind, type):
            self._noted.append(("b", "-1"))
        elif self.is_flexible:
            self._noted.append(("x", ""))
        else:
            self._noted.append(("h" if kind == "string" else "i", "-1"))

    def _not_null(self, kind: FieldType, value: str) -> None:
        if isinstance(kind, ArrayOf):
            self._array(kind.element, value)
        elif isinstance(kind, type):
            self.struct(kind, value)
        else:
            if kind == "string":
                encoded = self.fresh("encoded")
                self.line(f"{encoded} = {value}.encode()")
                value = encoded
            self._size(value, "h" if kind == "string" else "i")
            self._noted.append(("", value))

    def _array(self, element: str | type, value: str) -> None:
        if element in _PLAIN:
            table = self.constant("packs", ArrayPacks(FIXED_LETTERS[str(element)], self.is_flexible))
            self._noted.append(("", f"{table}[len({value})](*{value})"))
            return
        self._size(value, "i")
        self.flush()
        item = self.fresh("item")
        with self.block(f"for {item} in {value}:"):
            self._value(element, False, item)
            self.flush()

    def _size(self, value: str, letter: str) -> None:
        self._noted.append(("", f"VARINTS[len({value}) + 1]") if self.is_flexible else (letter, f"len({value})"))

    # ----------------------------------------------------------------------------------------------------------- tags

    def _tags(self, fields: list[Field], value: str) -> None:
        self.flush()
        outer, tags = self._sink, self.fresh("tags")
        self.line(f"{tags} = []")
        for field in fields:
            self._sink = self.fresh("field")
            with self.block(f"if {self._differs(field, f'{value}.{field.name}')}:"):
                self.line(f"{self._sink} = []")
                self._value(field.type, field.is_nullable(self.version), f"{value}.{field.name}")
                self.flush()
                self.line(f'{self._sink} = b"".join({self._sink})')
                tag = VARINTS[field.tag or 0]
                self.line(f"{tags} += ({tag!r}, VARINTS[len({self._sink})], {self._sink})")
        self._sink = outer
        self.line(f"{outer}.append(VARINTS[len({tags}) // 3])")
        self.line(f"{outer} += {tags}")

    def _differs(self, field: Field, value: str) -> str:
        """Whether a tagged field has another value than its default, and so is written."""
        if field.default is None:
            return f"{value} is not None"
        if field.default == ():
            return f"{value} is None or len({value})"
        default = field.default() if isinstance(field.default, type) else field.default
        return f"{value} != {self.constant('default', default)}"
