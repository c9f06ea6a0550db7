"""Requests as a hostile client would send them: well-formed ones with values that nobody sends, and broken ones.

Everything is made from the declarations and a seed: the same ones in every run.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any
from uuid import UUID

from hostile_records import HOSTILE
from logstore.format.batch import assemble_batch, encode_batch
from logstore.format.compression import Compression
from logstore.wire.api import APIS
from logstore.wire.fields import Field
from logstore.wire.header import RequestHeader
from logstore.wire.schema import Message
from wire_messages import Values

VERSIONS = [
    (api.request, version)
    for api in APIS.values()
    for version in range(max(api.advertised[0], api.request.versions[0]), api.advertised[1] + 1)
]

NAMES = ["orders", "compacted", "zipped", "stamped", "g", "consumers"]
"""Of topics and groups that the tests make."""

_TEXTS = [
    *("", ".", "..", "../x", "a/b", "/etc/passwd", "a\0b", "größe", "日本 😀", "a.b", "a_b", "__consumer_offsets"),
    *("__cluster_metadata", "x" * 249, "x" * 250, "y" * 32767, "0", "-1", "9" * 5000, "nan", "1e400", "retention.ms"),
    *(
        "max.message.bytes",
        "cleanup.policy",
        "compact,delete",
        "segment.bytes",
        "consumer",
        "range",
        "uniform",
        "(a*)*",
    ),
]
_NUMBERS = [0, 1, 2, 3, -1, -2, -3, -4, -5, -6, 100, 100_001]
_NOW_MS = 1_700_000_000_000


def _batches() -> Iterator[bytes]:
    """What a Produce request may carry."""
    good = encode_batch([b"a", b"b"], timestamps_ms=_NOW_MS, keys=[b"k", None])
    yield from (b"", good[:20], good[:60], good, good + good, good[:-1], good + b"x")
    for position in (0, 7, 8, 12, 16, 17, 21, 22, 23, 26, 27, 35, 43, 51, 53, 57, 61, 62, 65):
        for value in (0, 0x7F, 0x80, 0xFF, good[position] ^ 1):
            changed = bytearray(good)
            changed[position] = value
            yield bytes(changed)
    for codec in Compression:
        yield encode_batch([b"a" * 1000] * 3, timestamps_ms=_NOW_MS, keys=[b"k"] * 3, compression=codec)
        for count in (-(2**31), -1, 0, 1, 2, 2**31 - 1):
            yield _assembled(b"\x0e\0\0\0\1\x02a\0", count, codec)
    yield from (_assembled(octets, 1) for octets in HOSTILE.values())
    for attributes in (0x08, 0x10, 0x20, 0x30, 0x38, 0x07, 0x05, 0x40, 0x7FC0):
        yield encode_batch([b"a"], timestamps_ms=_NOW_MS, attributes=attributes, keys=[b"\0\0\0\0"])
    for time_ms in (-(2**63), -1, 0, 2**63 - 1):
        yield encode_batch([b"a"], timestamps_ms=time_ms, keys=[b"k"])
    for producer in (-(2**63), -2, 0, 5, 2**63 - 1):
        for epoch in (-(2**15), -1, 0, 2**15 - 1):
            for sequence in (-(2**31), -1, 0, 1, 2**31 - 1):
                yield encode_batch(
                    *([b"a", b"b"],),
                    timestamps_ms=_NOW_MS,
                    keys=[b"k"] * 2,
                    producer_id=producer,
                    producer_epoch=epoch,
                    base_sequence=sequence,
                )


def _assembled(body: bytes, count: int, codec: Compression = Compression.NONE) -> bytes:
    return assemble_batch(
        body,
        base_offset=0,
        partition_leader_epoch=-1,
        attributes=codec,
        last_offset_delta=max(-1, count - 1),
        base_timestamp=_NOW_MS,
        max_timestamp=_NOW_MS,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        record_count=count,
    )


BATCHES = list(_batches())


class HostileValues(Values):
    """Random messages whose texts, numbers and bytes are such that something may break. ``ids``: of topics."""

    def __init__(self, seed: object, ids: Sequence[UUID] = ()) -> None:
        super().__init__(seed)
        self._ids = [UUID(int=0), *ids]

    def _value(self, field: Field, version: int) -> Any:
        if field.name == "max_wait_ms":
            return self._random.choice([-(2**31), -1, 0, 1, 5])
        if field.name == "acks":
            return self._random.choice([-2, -1, 0, 1, 1, -1, 2])
        return super()._value(field, version)

    def _one(self, field: Field, kind: str | type, version: int) -> Any:
        if kind == "string":
            return self._random.choice(NAMES if self._random.random() < 0.6 else _TEXTS)
        if kind == "records":
            return self._random.choice(BATCHES)
        if kind == "uuid":
            return self._random.choice([*self._ids, UUID(int=self._random.getrandbits(128))])
        return super()._one(field, kind, version)

    def _integer(self, name: str, kind: str) -> int:
        number = self._random.choice(_NUMBERS)
        bits = int(kind.lstrip("uint")) - 1
        if self._random.random() < 0.6 and -(1 << bits) <= number < 1 << bits:
            return abs(number) if kind.startswith("u") else number
        return super()._integer(name, kind)


def frame_of(request: Message, version: int, correlation_id: int = 7) -> bytes:
    """Without its size."""
    header = RequestHeader(request.api_key, version, correlation_id, "hostile")
    return header.encode() + request.encode(version)


def broken_frames(frame: bytes, random: Random, count: int) -> Iterator[bytes]:
    """``count`` frames that were once ``frame``."""
    for _ in range(count):
        yield _BREAKS[random.randrange(len(_BREAKS))](frame, random)


def _cut(frame: bytes, random: Random) -> bytes:
    return frame[: random.randrange(1, len(frame))]


def _flipped(frame: bytes, random: Random) -> bytes:
    changed = bytearray(frame)
    for _ in range(random.choice([1, 1, 2, 8])):
        changed[random.randrange(len(frame))] = random.choice([0, 1, 2, 0x7F, 0x80, 0xFF, random.randrange(256)])
    return bytes(changed)


def _flipped_body(frame: bytes, random: Random) -> bytes:
    """The header stays, so that the message is looked at."""
    head = min(len(frame) - 1, 17)
    return frame[:head] + _flipped(frame[head:], random)


def _huge(frame: bytes, random: Random) -> bytes:
    """Sizes and counts beyond all bounds."""
    position = random.randrange(8, len(frame))
    value = random.choice(
        [b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff\x0f", b"\xfe\xff\x7f", b"\x7f\xff"]
    )
    return frame[:position] + value + frame[position + random.choice([0, len(value)]) :]


def _with_more(frame: bytes, random: Random) -> bytes:
    return frame + random.randbytes(random.choice([1, 4, 100]))


def _tagged(frame: bytes, random: Random) -> bytes:
    """Tags that nobody knows, in the place of those at the end."""
    tags = random.choice(
        [b"\x01\x05\x00", b"\x02\x05\x00\x05\x00", b"\x02\x05\x00\x04\x00", b"\x01\x00\x7f", b"\xff\xff\xff\xff\x0f"]
    )
    return frame[:-1] + tags


def _other_version(frame: bytes, random: Random) -> bytes:
    return frame[:2] + random.choice([0, 1, 3, 9, 12, 99, 0x7FFF, 0xFFFF]).to_bytes(2) + frame[4:]


def _other_api(frame: bytes, random: Random) -> bytes:
    return random.choice([*range(90), 999, 0x7FFF, 0xFFFF]).to_bytes(2) + frame[2:]


def _doubled(frame: bytes, random: Random) -> bytes:
    start = random.randrange(len(frame))
    stop = random.randrange(start, len(frame)) + 1
    return frame[:stop] + frame[start:stop] * random.choice([1, 3]) + frame[stop:]


_HUGE = (b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff\x0f", b"\xfe\xff\x7f", b"\x7f\xff")
# One; one twice; two in the wrong order; one whose size is too large; 2^32 - 1 of them.
_TAGS = (b"\1\5\0", b"\2\5\0\5\0", b"\2\5\0\4\0", b"\1\0\x7f", b"\xff\xff\xff\xff\x0f")
_BREAKS = (
    *(_cut, _flipped, _flipped_body, _flipped_body, _huge, _huge, _with_more),
    *(_tagged, _other_version, _other_api, _doubled),
)
