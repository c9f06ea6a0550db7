"""Which partition a key goes to: Kafka's choice, so that all clients of a topic agree.

It is MurmurHash2 with 32 bits and Kafka's seed, its sign bit cleared, modulo the count of partitions. A key stays in
its partition as long as that count does not change.
"""

from struct import iter_unpack

from logstore.errors import InvalidArgument

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFF_FFFF


def murmur2(data: bytes) -> int:
    """The hash as an unsigned 32-bit number."""
    size = len(data)
    value = _SEED ^ size
    whole = size & ~3
    for (word,) in iter_unpack("<I", data[:whole]):
        word = word * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        value = value * _MULTIPLIER & _MASK ^ word
    if size > whole:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    return value ^ value >> 15


def partition_for_key(key: bytes, partition_count: int) -> int:
    """0 to ``partition_count`` - 1. Raises InvalidArgument where there is no partition."""
    if partition_count < 1:
        raise InvalidArgument("partition_count", partition_count, "a topic has at least 1 partition")
    return (murmur2(key) & 0x7FFF_FFFF) % partition_count
