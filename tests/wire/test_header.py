"""Headers of requests and responses; which of them have tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.errors import MalformedMessage
from logstore.wire.api import ApiKey
from logstore.wire.header import RequestHeader, decode_response_header, response_header

PLAIN = RequestHeader(ApiKey.METADATA, 8, 77, "kcat")
FLEXIBLE = RequestHeader(ApiKey.METADATA, 9, -1, "größe")


@pytest.mark.parametrize(
    ("header", "encoded"),
    [
        (PLAIN, b"\0\3\0\x08\0\0\0\x4d\0\4kcat"),
        (PLAIN._replace(client_id=None), b"\0\3\0\x08\0\0\0\x4d\xff\xff"),
        (PLAIN._replace(client_id=""), b"\0\3\0\x08\0\0\0\x4d\0\0"),
        (FLEXIBLE, b"\0\3\0\x09\xff\xff\xff\xff\0\7gr\xc3\xb6\xc3\x9fe\0"),
        (RequestHeader(ApiKey.API_VERSIONS, 3, 1, "a"), b"\0\x12\0\3\0\0\0\1\0\1a\0"),
        (RequestHeader(ApiKey.API_VERSIONS, 99, 1, "a"), b"\0\x12\0\x63\0\0\0\1\0\1a\0"),
        (RequestHeader(999, 3, 1, "a"), b"\3\xe7\0\3\0\0\0\1\0\1a"),
    ],
)
def test_a_request_header_and_its_bytes(header: RequestHeader, encoded: bytes) -> None:
    assert header.encode() == encoded
    assert RequestHeader.decode(encoded) == (header, len(encoded))
    assert RequestHeader.decode(memoryview(encoded + b"body")) == (header, len(encoded))
    for size in range(len(encoded)):
        with pytest.raises(MalformedMessage):
            RequestHeader.decode(encoded[:size])


def test_tags_of_a_header_are_skipped() -> None:
    encoded = FLEXIBLE.encode()[:-1] + b"\2\0\3abc\7\0"
    assert RequestHeader.decode(encoded + b"body") == (FLEXIBLE, len(encoded))
    with pytest.raises(MalformedMessage, match="end within"):
        RequestHeader.decode(encoded[:-4])


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"\0\3\0\x08\0\0\0\1\xff\xfekcat", "-2 bytes"),
        (b"\0\3\0\x08\0\0\0\1\x7f\xffkcat", "32767 bytes where 4"),
        (b"\0\3\0\x08\0\0\0\1\0\2\xc3\x28", "UTF-8"),
        (b"\0\3\0\x09\0\0\0\1\0\1a\xff\xff\xff\xff\x7f", "varint"),
        (b"\0\3\0\x09\0\0\0\1\0\1a\1\0\xff\xff\xff\xff\x0f", "end within"),
    ],
)
def test_a_header_that_is_refused(encoded: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        RequestHeader.decode(encoded)


@pytest.mark.parametrize(
    ("api_key", "api_version", "encoded"),
    [
        (ApiKey.METADATA, 8, b"\0\0\0\x4d"),
        (ApiKey.METADATA, 9, b"\0\0\0\x4d\0"),
        (ApiKey.API_VERSIONS, 0, b"\0\0\0\x4d"),
        (ApiKey.API_VERSIONS, 4, b"\0\0\0\x4d"),
    ],
)
def test_a_response_header_and_its_bytes(api_key: int, api_version: int, encoded: bytes) -> None:
    assert response_header(api_key, api_version, 77) == encoded
    assert decode_response_header(encoded + b"x", api_key, api_version) == (77, len(encoded))
    for size in range(len(encoded)):
        with pytest.raises(MalformedMessage):
            decode_response_header(encoded[:size], api_key, api_version)


@given(st.binary(max_size=40))
def test_any_bytes_have_a_header_or_are_malformed(encoded: bytes) -> None:
    try:
        _, position = RequestHeader.decode(encoded)
    except MalformedMessage:
        return
    assert position <= len(encoded)
