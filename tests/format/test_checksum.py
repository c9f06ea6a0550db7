import importlib.util
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.format import checksum
from logstore.format.checksum import crc32c, crc32c_portable

# The check value of the algorithm's catalogue entry, and the vectors of RFC 3720, appendix B.4.
VECTORS = [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
]


@pytest.mark.parametrize(("data", "expected"), VECTORS)
@pytest.mark.parametrize("function", [crc32c, crc32c_portable], ids=["hardware", "portable"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_known_vectors(function: checksum.Checksum, data: bytes, expected: int, kind: type) -> None:
    assert function(kind(data)) == expected


def test_the_two_share_no_code() -> None:
    assert crc32c is not crc32c_portable


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 2000))
def test_both_agree_and_go_on_from_a_checksum(data: bytes, split: int) -> None:
    whole = crc32c_portable(data)
    assert crc32c(data) == whole
    for function in (crc32c, crc32c_portable):
        assert function(data[split:], function(data[:split])) == whole


def test_without_the_hardware_package_the_portable_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crc32c", None)  # an import of it fails
    monkeypatch.setattr(checksum.PathFinder, "find_spec", lambda *name_and_path: None)
    spec = importlib.util.spec_from_file_location("checksum_without_hardware", checksum.__file__)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.crc32c is module.crc32c_portable
    assert module.crc32c(b"123456789") == 0xE3069283
