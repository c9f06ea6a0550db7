"""Arguments of public calls: one of a wrong type becomes an error of ours, before anything is done."""

from collections.abc import Iterable, Sequence
from operator import index
from typing import TypeVar

from logstore.errors import InvalidArgument, InvalidRecord
from logstore.format.compression import Compression

Item = TypeVar("Item")


def as_integer(name: str, value: object) -> int:
    """Raises InvalidArgument."""
    try:
        return index(value)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        raise InvalidArgument(name, value, f"it is an integer, not a {type(value).__name__}") from None


def as_column(name: str, values: Iterable[Item]) -> Sequence[Item]:
    """A list or tuple as it is, else what the iterable gives. Raises InvalidRecord for what is one value, or none."""
    if isinstance(values, list | tuple):
        return values
    if isinstance(values, str | bytes | bytearray | memoryview | dict) or not isinstance(values, Iterable):
        raise InvalidRecord(f"{name} are a list, one for each record, not a {type(values).__name__}")
    return list(values)


def as_compression(value: object) -> Compression:
    """A codec, or its name. Raises InvalidArgument, InvalidSetting."""
    if isinstance(value, Compression):
        return value
    if isinstance(value, str):
        return Compression.parse(value)
    raise InvalidArgument("compression", value, f"it is a logstore.Compression, not a {type(value).__name__}")
