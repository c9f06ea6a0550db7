from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import CorruptCheckpoint
from logstore.format.properties import (
    decode_clean_shutdown,
    decode_properties,
    encode_clean_shutdown,
    encode_properties,
)

KAFKA = Path(__file__).parent.parent / "data" / "kafka-4.1.1"
ODD_VALUES = {
    "node.id": "1",
    "": "emptykey",
    "unicode é中": "café 中文 😀",
    "key with spaces: = # !": "  leading, tab\t, newline\n, return\r, feed\f, back\\slash, = : # ! trailing  ",
    "version": "1",
    "cluster.id": "xk7Vf3NARvGNEXAMPLE_-A",
    "empty": "",
}
GOLDEN = [
    (
        {"version": "1", "cluster.id": "xk7Vf3NARvGNEXAMPLE_-A", "node.id": "1"},
        b"version=1\ncluster.id=xk7Vf3NARvGNEXAMPLE_-A\nnode.id=1\n",
    ),
    ({"a b": " c d"}, b"a\\ b=\\ c d\n"),
    ({"k": "\t\n\r\f\\=:#!"}, b"k=\\t\\n\\r\\f\\\\\\=\\:\\#\\!\n"),
    ({"é": "中😀\0"}, b"\\u00E9=\\u4E2D\\uD83D\\uDE00\\u0000\n"),
    ({"": ""}, b"=\n"),
    ({"x": "\ud83d"}, b"x=\\uD83D\n"),
]
# What java.util.Properties makes of each of these.
READ_LIKE_JAVA = [
    (b"# a comment does not go on \\\nnot.a.comment=1\n", {"not.a.comment": "1"}),
    (b"! another = comment\n\n   \t indented = value \n", {"indented": "value "}),
    (b"key\\ with\\ blanks:colon\n", {"key with blanks": "colon"}),
    (b"blank separated   words\n", {"blank": "separated   words"}),
    (b"equals\\=in\\:key==value = with separators\n", {"equals=in:key": "=value = with separators"}),
    (b"tabs\t=\ttab\\tescaped\n", {"tabs": "tab\tescaped"}),
    (b"continued = one, \\\n    two, \\\n  \t three\n", {"continued": "one, two, three"}),
    (b"backslashes = C:\\\\dir\\\\\nodd \\\n# no comment\n", {"backslashes": "C:\\dir\\", "odd": "# no comment"}),
    (b"unicode = \\u00e9\\u4E2D\\ud83d\\ude00\n", {"unicode": "é中😀"}),
    (b'dropped = \\q\\z\\"\n', {"dropped": 'qz"'}),
    (b"empty =\nonly-key\n=no key\n", {"empty": "", "only-key": "", "": "no key"}),
    (b"twice=1\ntwice=2\n", {"twice": "2"}),
    (b"crlf=yes\r\ncr=yes\rlast = \\\n", {"crlf": "yes", "cr": "yes", "last": ""}),
    (b"\n", {}),
    (b"#\n#Sun Nov 22 15:03:49 UTC 2026\n", {}),
]


@pytest.mark.parametrize(("values", "golden"), GOLDEN)
def test_properties_have_exactly_these_bytes(values: dict[str, str], golden: bytes) -> None:
    assert encode_properties(values) == golden
    assert decode_properties(golden) == values


def test_what_java_wrote_is_read_and_escaped_alike() -> None:
    data = (KAFKA / "java.properties").read_bytes()
    assert decode_properties(data) == ODD_VALUES
    plain = {key: value for key, value in ODD_VALUES.items() if key.isascii()}
    assert set(encode_properties(plain).splitlines()) < set(data.splitlines())


@pytest.mark.parametrize(("data", "values"), READ_LIKE_JAVA)
def test_lines_are_read_as_java_reads_them(data: bytes, values: dict[str, str]) -> None:
    assert decode_properties(data) == values


def test_a_comment_goes_before_and_cannot_become_a_line() -> None:
    data = encode_properties({"a": "1"}, comment="made by\na=2")
    assert data == b"#made by\\na\\=2\na=1\n"
    assert decode_properties(data) == {"a": "1"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "line 1: the file is empty"),
        (b"a=1", "line 1: the file ends within the line"),
        (b"a=1\nb=2", "line 2: the file ends within the line"),
        (b"a=1\n" + bytes(30), "line 2: a NUL"),
        (b"a=1\nb=\xff\n", "line 2: not UTF-8"),
        (b"a=1\nb=\\u12\n", r"line 2: \\u without four hexadecimal digits"),
        (b"a=1\r\nb=1,\\\n \\uzzzz\n", r"line 2: \\u without four hexadecimal digits"),
    ],
)
def test_damage_is_corrupt_at_its_line(data: bytes, reason: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=reason):
        decode_properties(data)


def test_the_marker_of_a_clean_shutdown_is_kafkas() -> None:
    assert decode_clean_shutdown((KAFKA / "kafka_cleanshutdown").read_bytes()) == 42
    assert encode_clean_shutdown(42) == (KAFKA / "kafka_cleanshutdown").read_bytes()
    assert encode_clean_shutdown() == b'{"version":0,"brokerEpoch":-1}'
    assert decode_clean_shutdown(encode_clean_shutdown()) == -1
    assert decode_clean_shutdown(b'{"brokerEpoch":7,"version":0,"more":[]}') == 7


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"version":0,"brokerEpoch":-1',
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'{"brokerEpoch":null}',
        b'{"brokerEpoch":true}',
        b'{"brokerEpoch":"1"}',
        b'{"brokerEpoch":1.0}',
        b'{"brokerEpoch":9223372036854775808}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_damaged_marker_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptCheckpoint, match="line 1"):
        decode_clean_shutdown(data)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), min_size=1, max_size=5), st.text(max_size=20))
def test_every_text_comes_back(values: dict[str, str], comment: str) -> None:
    data = encode_properties(values, comment)
    assert data.isascii()
    assert decode_properties(data) == values


@settings(max_examples=200, deadline=None)
@given(st.text("ab=: \t\f\\\r\n#!u0041é\0", max_size=40).map(str.encode) | st.binary(max_size=30))
def test_any_bytes_are_values_or_corrupt(data: bytes) -> None:
    for candidate in (data, data + b"\n"):
        try:
            values = decode_properties(candidate)
        except CorruptCheckpoint:
            continue
        assert decode_properties(encode_properties(values, "values")) == values
    with pytest.raises(CorruptCheckpoint):
        decode_clean_shutdown(data)
