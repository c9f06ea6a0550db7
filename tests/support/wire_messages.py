"""All messages that logstore.wire declares, and values for them made from their declarations alone."""

import importlib
import pkgutil
from collections.abc import Iterator
from random import Random
from typing import Any
from uuid import UUID

from logstore.wire import messages
from logstore.wire.fields import ZERO_UUID, ArrayOf, Field
from logstore.wire.schema import Message

_INTEGER_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint16": 16, "uint32": 32}
_TEXTS = ["", "orders", "größe", "日本 😀", "a\0b", "x" * 126, "y" * 127, "z" * 128, "w" * 20_000]


def _declared() -> Iterator[type[Message]]:
    for module in pkgutil.iter_modules(messages.__path__):
        names = vars(importlib.import_module(f"{messages.__name__}.{module.name}")).values()
        yield from (name for name in names if isinstance(name, type) and issubclass(name, Message) and name != Message)


MESSAGES = sorted(set(_declared()), key=lambda message: message.__name__)
VERSIONS = [
    (message, version) for message in MESSAGES for version in range(message.versions[0], message.versions[1] + 1)
]


def version_id(value: object) -> str:
    return value.__name__ if isinstance(value, type) else f"v{value}"


class Values:
    """Random messages, the same ones for a seed. Fields that the version lacks keep their default.

    ``tame``: durations and times are some that ``datetime`` can hold, and error codes are known ones.
    """

    def __init__(self, seed: object, tame: bool = False) -> None:
        self._random = Random(str(seed))
        self._tame = tame

    def message(self, declared: type, version: int) -> Any:
        wire_fields: tuple[Field, ...] = declared.wire_fields  # type: ignore[attr-defined]
        return declared(**{field.name: self._value(field, version) for field in wire_fields if field.is_in(version)})

    def _value(self, field: Field, version: int) -> Any:
        if field.is_nullable(version) and self._random.random() < 0.3:
            return None
        if field.is_tagged(version) and self._random.random() < 0.3:
            return default_of(field)
        if isinstance(field.type, ArrayOf):
            return [self._one(field, field.type.element, version) for _ in range(self._random.choice([0, 1, 1, 2, 3]))]
        return self._one(field, field.type, version)

    def _one(self, field: Field, kind: str | type, version: int) -> Any:
        if isinstance(kind, type):
            return self.message(kind, version)
        if kind == "bool":
            return self._random.random() < 0.5
        if kind == "float64":
            return self._random.choice([0.0, -1.5, 1e300, self._random.random()])
        if kind == "uuid":
            return UUID(int=self._random.choice([0, 1, self._random.getrandbits(128)]))
        if kind == "string":
            return self._random.choices(_TEXTS, [*[8] * (len(_TEXTS) - 1), 1])[0]
        if kind in ("bytes", "records"):
            return self._random.choices(_TEXTS, [*[8] * (len(_TEXTS) - 1), 1])[0].encode()
        return self._integer(field.name, kind)

    def _integer(self, name: str, kind: str) -> int:
        if self._tame and name.endswith("error_code"):
            return self._random.choice([-1, 0, 1, 35, 100])
        if self._tame and kind in ("int32", "int64") and ("time" in name or name.endswith("_ms")):
            return self._random.choice([0, 1, 999, 1001, 2**31 - 1])
        bits = _INTEGER_BITS[kind]
        low = 0 if kind.startswith("u") else -(1 << bits - 1)
        return self._random.choice([low, low + (1 << bits) - 1, 0, 1, low + self._random.getrandbits(bits)])


def plain(value: Any, version: int | None = None, *, zero_uuid: UUID | None = ZERO_UUID, unsent: bool = True) -> Any:
    """A message of ours as dicts and lists, which can be compared with what other libraries read: names without
    underscores; only the fields that ``version`` has, and without ``unsent`` only those that are sent, which tagged
    ones with their default are not; the zero UUID as others put it."""
    if hasattr(value, "wire_fields"):
        shown = {}
        for field in value.wire_fields:
            item = getattr(value, field.name)
            if version is None or (field.is_in(version) and (unsent or is_sent(field, item, version))):
                shown[field.name.replace("_", "")] = plain(item, version, zero_uuid=zero_uuid, unsent=unsent)
        return shown
    if isinstance(value, list | tuple):
        return [plain(item, version, zero_uuid=zero_uuid, unsent=unsent) for item in value]
    if isinstance(value, memoryview):
        return bytes(value)
    return zero_uuid if value == ZERO_UUID else value


def is_sent(field: Field, value: Any, version: int) -> bool:
    return not field.is_tagged(version) or plain(value) != plain(default_of(field))


def default_of(field: Field) -> Any:
    return field.default() if isinstance(field.default, type) else field.default


def broken(encoded: bytes) -> Iterator[bytes]:
    """``encoded`` with each of its bytes in turn made another one, and each of those a byte shorter and longer too."""
    for position, byte in enumerate(encoded[:200]):
        for other in {0, 1, 2, 3, 0x7F, 0x80, 0xFF, byte - 1 & 0xFF, byte, byte + 1 & 0xFF}:
            changed = encoded[:position] + bytes([other]) + encoded[position + 1 :]
            yield from (changed, changed[:-1], changed + b"\0")
