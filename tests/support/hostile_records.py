"""Records that no decoder may take."""

from logstore.format.varint import encode_varint


def record(fields: bytes) -> bytes:
    return encode_varint(len(fields)) + fields


HOSTILE = {
    "a length of less than the fields": encode_varint(5) + b"\0\0\0\1\1\0",
    "a length of more than the fields": encode_varint(7) + b"\0\0\0\1\1\0",
    "a length of more than the body": encode_varint(700) + b"\0\0\0\1\1\0",
    "a negative length": encode_varint(-6) + b"\0\0\0\1\1\0",
    "a length of 64 bits": encode_varint(2**63 - 1) + b"\0\0\0\1\1\0",
    "a length without end": b"\xff" * 12,
    "a length padded beyond ten bytes": b"\x8c" + b"\x80" * 10 + b"\0" + b"\0\0\0\1\1\0",
    "a timestamp delta of more than 64 bits": record(b"\0" + b"\xff" * 9 + b"\x02" + b"\0\1\1\0"),
    "a timestamp delta without end": record(b"\0" + b"\xff" * 11 + b"\0\1\1\0"),
    "a key of more than the record": record(b"\0\0\0" + encode_varint(9) + b"\1\0"),
    "a key length below null": record(b"\0\0\0" + encode_varint(-2) + b"\1\0"),
    "a key length of 64 bits": record(b"\0\0\0" + encode_varint(2**63 - 1) + b"\1\0"),
    "the smallest key length": record(b"\0\0\0" + encode_varint(-(2**63)) + b"\1\0"),
    "a value of more than the record": record(b"\0\0\0\1" + encode_varint(2) + b"\0"),
    "a value length of 64 bits": record(b"\0\0\0\1" + encode_varint(2**63 - 1) + b"\0"),
    "more headers than bytes": record(b"\0\0\0\1\1" + encode_varint(100)),
    "headers of a negative count": record(b"\0\0\0\1\1" + encode_varint(-1)),
    "a header without a key": record(b"\0\0\0\1\1" + encode_varint(1) + b"\1\1"),
    "a header key that is not UTF-8": record(b"\0\0\0\1\1" + encode_varint(1) + b"\x02\xff" + b"\1"),
    "bytes behind the headers": record(b"\0\0\0\1\1\0\0"),
    "no header count": record(b"\0\0\0\1\1"),
    "nothing at all": b"",
}
