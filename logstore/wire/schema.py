"""Messages of Kafka's protocol, declared once: each field with its type and the versions that have it.

::

    @struct
    class MetadataRequestTopic:
        topic_id: UUID = field("uuid", since=10)
        name: str | None = field("string", nullable_since=10)

    @message(api_key=3, versions=(0, 13), flexible_since=9)
    class MetadataRequest(Message):
        topics: Sequence[MetadataRequestTopic] | None = field([MetadataRequestTopic], nullable_since=1)

    MetadataRequest.decode(MetadataRequest(topics=None).encode(12), 12)

The classes have slots, and constructors in which every field has a default. ``compiler`` turns each (message, version),
when first used, into one function that decodes and one that encodes: nothing is looked up field by field at run time.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform

from logstore.errors import InvalidArgument
from logstore.format.record import Buffer
from logstore.wire import compiler
from logstore.wire.fields import FIXED_LETTERS, SIZED_TYPES, ZEROS, ArrayOf, Field, FieldType
from logstore.wire.primitives import ELEMENTS_MAX, REQUEST_ELEMENTS_MAX
from logstore.wire.structs import slotted

_Class = TypeVar("_Class", bound=type)


class Message:
    """A request or a response. ``versions``: the first and the last that is known; ``flexible_since`` None: never."""

    __slots__ = ()
    api_key: ClassVar[int]
    versions: ClassVar[tuple[int, int]]
    flexible_since: ClassVar[int | None]
    wire_fields: ClassVar[tuple[Field, ...]]
    _decoders: ClassVar[dict[int, Callable[[memoryview, int, int, bool], Any]]]
    _encoders: ClassVar[dict[int, Callable[[Any], bytes]]]

    @classmethod
    def decode(cls, buffer: Buffer, version: int, position: int = 0) -> Self:
        """What stands at ``position``; ``bytes`` and ``records`` are views of the buffer, not copies. A field that the
        version lacks has its default. Raises MalformedMessage for whatever is wrong with the bytes; also for bytes
        behind the last field, and for more than ELEMENTS_MAX elements."""
        return cls._decode(buffer, version, position, ELEMENTS_MAX, False)

    @classmethod
    def decode_request(cls, buffer: Buffer, version: int, position: int = 0) -> Self:
        """``decode`` for a broker: it takes no more than REQUEST_ELEMENTS_MAX elements, and, as Kafka does, does not
        mind bytes behind the last field, since librdkafka sends some (Metadata v9 and later, for all topics)."""
        return cls._decode(buffer, version, position, REQUEST_ELEMENTS_MAX, True)

    @classmethod
    def _decode(cls, buffer: Buffer, version: int, position: int, elements_max: int, may_go_on: bool) -> Self:
        decoder = cls._decoders.get(version)
        if decoder is None:
            cls._check_version(version)
            decoder = cls._decoders[version] = compiler.decoder(cls, version)
        decoded: Self = decoder(memoryview(buffer), position, elements_max, may_go_on)
        return decoded

    def encode(self, version: int) -> bytes:
        """A field that the version lacks is left out. A value that its type cannot hold, or None where the version has
        no null, is the caller's mistake: an error of Python's."""
        encoder = self._encoders.get(version)
        if encoder is None:
            self._check_version(version)
            encoder = self._encoders[version] = compiler.encoder(type(self), version)
        return encoder(self)

    @classmethod
    def is_flexible(cls, version: int) -> bool:
        return cls.flexible_since is not None and version >= cls.flexible_since

    @classmethod
    def _check_version(cls, version: int) -> None:
        first, last = cls.versions
        if not first <= version <= last:
            raise InvalidArgument("version", version, f"{cls.__name__} has versions {first} to {last}")


class _Declaration(NamedTuple):
    type: FieldType
    since: int
    until: int | None
    nullable_since: int | None
    tag: int | None
    tagged_since: int | None
    default: Any


def field(
    type: str | type | list[Any],
    *,
    since: int = 0,
    until: int | None = None,
    nullable_since: int | None = None,
    tag: int | None = None,
    tagged_since: int | None = None,
    default: Any = ...,
) -> Any:
    """A field in the versions ``since`` to ``until``, where it stands or, from ``tagged_since`` (else ``since``) on, as
    tag ``tag``. Types: bool, int8, int16, int32, int64, uint16, uint32, float64, string, bytes, records, uuid, a
    struct, or a list of one type. The default is the type's zero, () for an array, a struct of defaults."""
    kind: FieldType = ArrayOf(type[0]) if isinstance(type, list) else type
    innermost = kind.element if isinstance(kind, ArrayOf) else kind
    is_known = innermost in FIXED_LETTERS or innermost in SIZED_TYPES or hasattr(innermost, "wire_fields")
    assert is_known, f"{innermost} is no type of the protocol"
    assert tag is None or nullable_since is None or not hasattr(kind, "wire_fields"), "Kafka has no tagged null struct"
    if default is ...:
        default = () if isinstance(kind, ArrayOf) else ZEROS[kind] if isinstance(kind, str) else kind
    return _Declaration(kind, since, until, nullable_since, tag, tagged_since, default)


# Without ``field_specifiers``: to a type checker every field then has a default, as it has.
@dataclass_transform()
def struct(declared: _Class) -> _Class:
    """Part of a message: its annotations say to type checkers what its fields say to the codec."""
    fields = [Field(name, *value) for name, value in vars(declared).items() if isinstance(value, _Declaration)]
    return slotted(declared, tuple(fields))  # type: ignore[return-value]


@dataclass_transform()
def message(
    *, api_key: int, versions: tuple[int, int], flexible_since: int | None = None
) -> Callable[[_Class], _Class]:
    """A request or response of the API ``api_key``; ``versions``: the first and the last that Kafka knows."""

    def finish(declared: _Class) -> _Class:
        finished: Any = struct(declared)
        finished.api_key, finished.versions, finished.flexible_since = api_key, versions, flexible_since
        finished._decoders, finished._encoders = {}, {}
        return finished  # type: ignore[no-any-return]

    return finish
