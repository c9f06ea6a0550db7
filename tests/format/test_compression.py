import gzip
import io
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cramjam
import lz4.frame
import pytest
import zstandard
from aiokafka import codec
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.errors import CorruptBatch, InvalidSetting
from logstore.format.compression import DECOMPRESSED_SIZE_MAX, Compression, check_level, compress, decompress

KAFKA = Path(__file__).parent.parent / "data" / "kafka-4.1.1"
KAFKA_PAYLOAD = "".join(f"logstore {line % 97}\n" for line in range(6000)).encode()
CODECS = [Compression.GZIP, Compression.SNAPPY, Compression.LZ4, Compression.ZSTD]
MIB = 1024 * 1024

PAYLOADS = {
    "nothing": b"",
    "one byte": b"x",
    "one snappy block": bytes(range(256)) * 128,
    "a byte over a snappy block": bytes(range(256)) * 128 + b"!",
    "an lz4 block and a bit": b"lorem ipsum " * 6000,
    "noise": random.Random(7).randbytes(200_000),
    "a mebibyte": KAFKA_PAYLOAD * 14,
}
FOREIGN: dict[Compression, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    Compression.GZIP: (gzip.compress, gzip.decompress),
    Compression.SNAPPY: (codec.snappy_encode, codec.snappy_decode),
    Compression.LZ4: (codec.lz4_encode, codec.lz4_decode),
    Compression.ZSTD: (codec.zstd_encode, codec.zstd_decode),
}


# ------------------------------------------------------------------------------------------- agreement with others


@pytest.mark.parametrize("compression", CODECS)
def test_what_kafka_wrote_is_read(compression: Compression) -> None:
    data = (KAFKA / f"{compression.name.lower()}.bin").read_bytes()
    assert decompress(compression, data) == KAFKA_PAYLOAD
    assert decompress(compression, data, max_size=len(KAFKA_PAYLOAD)) == KAFKA_PAYLOAD
    with pytest.raises(CorruptBatch):
        decompress(compression, data, max_size=len(KAFKA_PAYLOAD) - 1)


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize("compression", CODECS)
def test_other_libraries_read_ours_and_we_read_theirs(compression: Compression, payload: bytes) -> None:
    encode, decode = FOREIGN[compression]
    ours = compress(compression, payload)
    if (
        compression is not Compression.SNAPPY or payload
    ):  # aiokafka takes a xerial header without blocks for a raw block
        assert decode(ours) == payload
    assert decompress(compression, encode(payload) if payload else ours) == payload


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("compression", list(Compression))
def test_any_buffer_goes_in_and_bytes_come_out(compression: Compression, kind: type) -> None:
    packed = compress(compression, kind(KAFKA_PAYLOAD))
    assert type(packed) is bytes
    unpacked = decompress(compression, kind(packed))
    assert type(unpacked) is bytes
    assert unpacked == KAFKA_PAYLOAD


def test_the_framings_are_those_that_kafka_writes() -> None:
    assert compress(Compression.SNAPPY, b"") == bytes.fromhex("82534e41505059000000000100000001")
    # 16 bytes of header, the block's size, and snappy's own: length 3, a literal of 3
    assert compress(Compression.SNAPPY, b"abc") == bytes.fromhex("82534e41505059000000000100000001000000050308616263")
    ours, kafkas = compress(Compression.LZ4, KAFKA_PAYLOAD), (KAFKA / "lz4.bin").read_bytes()
    assert ours[:7] == kafkas[:7] == bytes.fromhex("04224d18604082")  # independent 64 KiB blocks, no size, no checksums
    assert compress(Compression.GZIP, b"abc")[:4] == bytes.fromhex("1f8b0800")


def test_snappy_blocks_hold_32_kib_each() -> None:
    packed = compress(Compression.SNAPPY, bytes(100_000))
    sizes, position = [], 16
    while position < len(packed):
        (size,) = struct.unpack_from(">i", packed, position)
        sizes.append(len(bytes(cramjam.snappy.decompress_raw(packed[position + 4 : position + 4 + size]))))
        position += 4 + size
    assert sizes == [32768, 32768, 32768, 1696]


# -------------------------------------------------------------------------------------------- more than one stream


def test_joined_gzip_members_are_read_as_one() -> None:
    data = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    assert decompress(Compression.GZIP, data) == b"one two"
    assert decompress(Compression.GZIP, data + bytes(10)) == b"one two"


def test_a_great_many_gzip_members_are_read() -> None:
    assert decompress(Compression.GZIP, gzip.compress(b"a") * 20_000) == b"a" * 20_000


def test_joined_zstd_frames_are_read_as_one_and_skippable_ones_skipped() -> None:
    skippable = bytes.fromhex("5a2a4d18") + struct.pack("<I", 3) + b"xyz"
    frames = [zstandard.ZstdCompressor().compress(b"one "), skippable, zstd_without_size(b"two"), skippable]
    assert decompress(Compression.ZSTD, b"".join(frames)) == b"one two"


def test_joined_xerial_streams_are_read_as_one() -> None:
    data = compress(Compression.SNAPPY, b"one ") + compress(Compression.SNAPPY, b"two")
    assert decompress(Compression.SNAPPY, data) == b"one two"


def test_raw_snappy_is_read() -> None:
    assert decompress(Compression.SNAPPY, bytes(cramjam.snappy.compress_raw(KAFKA_PAYLOAD))) == KAFKA_PAYLOAD


def test_what_follows_an_lz4_frame_is_left_as_kafka_leaves_it() -> None:
    data = compress(Compression.LZ4, b"one")
    assert decompress(Compression.LZ4, data + data) == b"one"


@pytest.mark.parametrize("options", [{"block_linked": True}, {"content_checksum": True}, {"store_size": True}])
def test_other_lz4_frames_are_read(options: dict[str, bool]) -> None:
    assert decompress(Compression.LZ4, lz4.frame.compress(KAFKA_PAYLOAD, **options)) == KAFKA_PAYLOAD


def zstd_without_size(data: bytes) -> bytes:
    """As Kafka writes it: a stream, whose length is not known when its header is written."""
    stream = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return stream.compress(data) + stream.flush()


def test_zstd_of_any_block_kind_is_read_without_a_stated_size() -> None:
    for payload in (b"", b"a", bytes(400_000), PAYLOADS["noise"], KAFKA_PAYLOAD):
        data = zstd_without_size(payload)
        assert decompress(Compression.ZSTD, data, max_size=len(payload)) == payload
        assert decompress(Compression.ZSTD, data) == payload


# --------------------------------------------------------------------------------------------------- hostile input


def gzip_bomb(size: int) -> bytes:
    return gzip.compress(bytes(size))


def gzip_members_bomb(size: int) -> bytes:
    return gzip.compress(bytes(size // 64)) * 64


def lz4_bomb(size: int) -> bytes:
    return bytes(lz4.frame.compress(bytes(size), block_size=lz4.frame.BLOCKSIZE_MAX4MB))


def lz4_tiny_bomb(size: int) -> bytes:
    return bytes(lz4.frame.compress(bytes(size), block_size=lz4.frame.BLOCKSIZE_MAX64KB, block_linked=False))


def zstd_bomb_that_states_its_size(size: int) -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(size))


def zstd_frames_bomb(size: int) -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(size // 64)) * 64


def zstd_bomb_without_size(size: int) -> bytes:
    return zstd_without_size(bytes(size))


BOMBS = [
    (Compression.GZIP, gzip_bomb),
    (Compression.GZIP, gzip_members_bomb),
    (Compression.LZ4, lz4_bomb),
    (Compression.LZ4, lz4_tiny_bomb),
    (Compression.ZSTD, zstd_bomb_that_states_its_size),
    (Compression.ZSTD, zstd_frames_bomb),
    (Compression.ZSTD, zstd_bomb_without_size),
    (Compression.SNAPPY, lambda size: compress(Compression.SNAPPY, bytes(size))),
]


@pytest.mark.parametrize(("compression", "bomb"), BOMBS, ids=[f"{c.name} {b.__name__}" for c, b in BOMBS])
def test_a_bomb_is_stopped_while_it_inflates(compression: Compression, bomb: Callable[[int], bytes]) -> None:
    data = bomb(64 * MIB)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptBatch, match=f"more than {MIB} bytes"):
            decompress(compression, data, max_size=MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * MIB  # the limit and a block of 4 MiB


def test_raw_snappy_that_claims_too_much_is_not_even_tried() -> None:
    claim = bytes.fromhex("ffffffff0f")
    with pytest.raises(CorruptBatch, match="more than 1048576 bytes"):
        decompress(Compression.SNAPPY, claim + b"abc", max_size=MIB)
    block = struct.pack(">i", 8) + claim + b"abc"
    with pytest.raises(CorruptBatch, match="more than 1048576 bytes"):
        decompress(Compression.SNAPPY, compress(Compression.SNAPPY, b"") + block, max_size=MIB)


def test_a_zstd_frame_that_claims_more_than_its_blocks_hold_is_not_even_tried() -> None:
    # magic, a single segment with an 8-byte size of 2^24, one last raw block of no bytes
    data = bytes.fromhex("28b52ffde00000000100000000010000")
    with pytest.raises(CorruptBatch, match="can hold 0 at most"):
        decompress(Compression.ZSTD, data)


@pytest.mark.parametrize("compression", list(Compression))
def test_the_limit_itself_is_allowed(compression: Compression) -> None:
    payload = bytes(100_000)
    packed = compress(compression, payload)
    assert decompress(compression, packed, max_size=100_000) == payload
    with pytest.raises(CorruptBatch, match="more than 99999 bytes"):
        decompress(compression, packed, max_size=99_999)
    with pytest.raises(CorruptBatch, match="more than 0 bytes"):
        decompress(compression, packed, max_size=0)
    assert DECOMPRESSED_SIZE_MAX >= 16 * MIB


@pytest.mark.parametrize("compression", CODECS)
def test_data_that_is_cut_anywhere_is_corrupt(compression: Compression) -> None:
    packed = compress(compression, PAYLOADS["one snappy block"] + b"and some more")
    cuts = [cut for cut in range(len(packed)) if cut < 40 or cut > len(packed) - 40]
    ends = {16, 16 + 4 + struct.unpack_from(">i", packed, 16)[0]} if compression is Compression.SNAPPY else set()
    for cut in cuts:
        if cut in ends:  # between two blocks: the framing has no end mark, the batch's record count tells
            continue
        with pytest.raises(CorruptBatch):
            decompress(compression, packed[:cut])


def test_a_zstd_stream_without_size_that_is_cut_is_corrupt() -> None:
    packed = zstd_without_size(PAYLOADS["noise"])
    for cut in (*range(40), *range(len(packed) - 40, len(packed)), 131_072 + 9, 131_072 + 12):
        with pytest.raises(CorruptBatch):
            decompress(Compression.ZSTD, packed[:cut])


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("garbage", [b"", b"\0", bytes(100), b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n"])
def test_garbage_is_corrupt(compression: Compression, garbage: bytes) -> None:
    if compression is Compression.SNAPPY and garbage == b"\0":
        assert decompress(compression, garbage) == b""  # raw snappy of nothing
        return
    with pytest.raises(CorruptBatch):
        decompress(compression, garbage)


def test_a_gzip_member_with_a_wrong_checksum_is_corrupt() -> None:
    data = bytearray(compress(Compression.GZIP, KAFKA_PAYLOAD))
    data[-8] ^= 1
    with pytest.raises(CorruptBatch, match="damaged gzip data"):
        decompress(Compression.GZIP, data)


def test_a_xerial_framing_of_another_version_is_corrupt() -> None:
    with pytest.raises(CorruptBatch, match="version 2"):
        decompress(Compression.SNAPPY, b"\x82SNAPPY\0" + struct.pack(">ii", 2, 2))


def starts(compression: Compression) -> list[bytes]:
    packed = compress(compression, KAFKA_PAYLOAD[:500])
    return [b"", packed[:4], packed[:16], packed[: len(packed) // 2], packed]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([(codec, start) for codec in CODECS for start in starts(codec)]),
    st.binary(max_size=80),
    st.integers(0, 600),
)
def test_any_bytes_decompress_or_are_corrupt(start: tuple[Compression, bytes], noise: bytes, at: int) -> None:
    compression, valid = start
    at = min(at, len(valid))
    data = valid[:at] + noise + valid[at + len(noise) :]
    try:
        payload = decompress(compression, data, max_size=10_000)
    except CorruptBatch:
        return
    assert len(payload) <= 10_000


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(Compression)), st.binary(max_size=3000), st.integers(1, 40))
def test_whatever_is_compressed_comes_back(compression: Compression, piece: bytes, times: int) -> None:
    payload = piece * times
    assert decompress(compression, compress(compression, payload), max_size=len(payload)) == payload


# --------------------------------------------------------------------------------------------------- names, levels


def test_names_and_numbers_are_kafkas() -> None:
    assert [(codec.name.lower(), int(codec)) for codec in Compression] == [
        ("none", 0),
        ("gzip", 1),
        ("snappy", 2),
        ("lz4", 3),
        ("zstd", 4),
    ]
    for codec_ in Compression:
        assert Compression.parse(codec_.name.lower()) is codec_


@pytest.mark.parametrize("name", ["", "ZSTD", "brotli", "4"])
def test_an_unknown_name_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(InvalidSetting, match="none, gzip, snappy, lz4, zstd"):
        Compression.parse(name)


@pytest.mark.parametrize(
    ("compression", "level"),
    [
        (Compression.GZIP, 1),
        (Compression.GZIP, 9),
        (Compression.GZIP, -1),
        (Compression.LZ4, 1),
        (Compression.LZ4, 9),
        (Compression.LZ4, 12),
        (Compression.LZ4, 17),
        (Compression.ZSTD, -131072),
        (Compression.ZSTD, 0),
        (Compression.ZSTD, 1),
        (Compression.ZSTD, 22),
    ],
)
def test_each_level_compresses(compression: Compression, level: int) -> None:
    check_level(compression, level)
    assert decompress(compression, compress(compression, KAFKA_PAYLOAD, level)) == KAFKA_PAYLOAD


@pytest.mark.parametrize(
    ("compression", "level"),
    [
        (Compression.GZIP, 0),
        (Compression.GZIP, 10),
        (Compression.LZ4, 0),
        (Compression.LZ4, 18),
        (Compression.ZSTD, 23),
        (Compression.ZSTD, -131073),
        (Compression.SNAPPY, 1),
        (Compression.NONE, 1),
    ],
)
def test_a_level_that_the_codec_has_not_is_refused(compression: Compression, level: int) -> None:
    with pytest.raises(InvalidSetting, match=f"compression.{compression.name.lower()}.level={level}"):
        compress(compression, b"", level)


def test_a_higher_level_is_used() -> None:
    payload = b"".join(str(number * number).encode() for number in range(20_000))
    for compression, low, high in ((Compression.GZIP, 1, 9), (Compression.LZ4, 9, 12), (Compression.ZSTD, 1, 19)):
        assert len(compress(compression, payload, high)) < len(compress(compression, payload, low))
    assert compress(Compression.ZSTD, payload) == compress(Compression.ZSTD, payload, 3)
    assert compress(Compression.GZIP, payload) == compress(Compression.GZIP, payload, 6)


def test_threads_compress_and_decompress_at_once() -> None:
    payloads = [random.Random(seed).randbytes(3000) * 20 for seed in range(40)]

    def there_and_back(payload: bytes) -> bool:
        return all(decompress(codec, compress(codec, payload)) == payload for codec in CODECS)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(there_and_back, payloads))


def test_python_reads_our_gzip_as_a_file() -> None:
    with gzip.open(io.BytesIO(compress(Compression.GZIP, KAFKA_PAYLOAD))) as file:
        assert zlib.crc32(file.read()) == zlib.crc32(KAFKA_PAYLOAD)
